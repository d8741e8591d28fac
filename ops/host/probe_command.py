"""Commands as probes: a program of the user's that says by its exit code how the service is.

Knows: spawning without a shell, sessions, exit codes, reaping. Must not know: what the service is, the clock.

The command has a session of its own and leaves nothing behind: what is left of its group when it has
ended, and of its whole session when its time is up, is killed. Its end is noticed by a pidfd where there
is one (Linux); elsewhere it is looked after every TICK seconds. Not run on a Mac.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from ops.host import process
from ops.host.probe_verdict import Finding, could_not_ask, quoted
from ops.host.probe_wires import READ, Wires

OUTPUT_LIMIT = 4096  # bytes of output that are kept: the last ones
TICK = 0.02
_PIPE = 64 * 1024  # what a pipe holds on Linux and macOS
_CANNOT_RUN = (126, 127)  # a shell's "not executable" and "not found": the checker failed, not the service
_DYING = 0.5  # seconds a killed child is waited for; longer means that it hangs in the kernel

# Killed, but hanging in the kernel: reaped by whoever asks next.
_unreaped: list[subprocess.Popen[bytes]] = []


class CommandTalk:
    """Asks one command. `cwd` is absolute; `env` is its whole environment, whose PATH finds the program."""

    def __init__(self, command: Sequence[str], cwd: str, env: Mapping[str, str], wires: Wires) -> None:
        _unreaped[:] = [child for child in _unreaped if child.poll() is None]
        self._wires = wires
        self._tail = b""
        self._pidfd = -1
        self._pipe, theirs = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            self._wires.watch(self._pipe, READ)
            self._child = _spawn(command, cwd, env, theirs)
        except BaseException:
            self._drop_pipe()
            raise
        finally:
            os.close(theirs)
        self._watch_end()

    def _watch_end(self) -> None:
        self.tick: float | None = TICK
        if not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self._child.pid)
            self._wires.watch(self._pidfd, READ)
            self.tick = None
        except OSError:  # an old kernel, or no descriptor left
            self._drop_pidfd()

    def advance(self) -> Finding | None:
        # Looked at before the last of the output is read, or what it said while ending could be missed.
        ended = has_ended(self._child)
        self._read(_PIPE // 4096 if ended else 1)
        if not ended:
            return None
        self.close()
        return verdict(self._child.returncode, self._tail)

    def _read(self, times: int) -> None:
        """Bounded: a grandchild that keeps the pipe may write for ever."""
        try:
            while times and self._pipe >= 0:
                times -= 1
                data = os.read(self._pipe, _PIPE)
                self._tail = (self._tail + data)[-OUTPUT_LIMIT:]
                if not data:
                    self._drop_pipe()
        except BlockingIOError:
            pass

    def late(self, seconds: float) -> Finding:
        return Finding(False, f"no answer in {seconds:g} s", answered=False)

    def close(self) -> None:
        """Kills what is left of the session and reaps the child; may be called again."""
        self._drop_pipe()
        self._drop_pidfd()
        end_session(self._child)

    def _drop_pipe(self) -> None:
        if self._pipe >= 0:
            self._wires.drop(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _drop_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._wires.drop(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _spawn(command: Sequence[str], cwd: str, env: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has exited; told without reaping where possible: so its pid still names its session."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: reaped here, and what it left behind stays
        return child.poll() is not None
    try:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, child.pid, flags) is not None
    except ChildProcessError:  # somebody else reaped it
        return child.poll() is not None


def end_session(child: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the session that a child was started in, and reaps the child; may be called again."""
    if child.returncode is None:
        _kill_session(child)
        _reap(child)


def _kill_session(child: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a child that is not reaped: its number is certainly still its session's."""
    in_time = has_ended(child)
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # PermissionError: macOS, when only a zombie is in it
        pass
    if not in_time:
        _kill_other_groups(child.pid)


def _kill_other_groups(session: int) -> None:
    """Whatever job control moved to groups of their own. Looked at again, since they may be forking."""
    try:
        for _ in range(5):
            living = [e for e in process.table().values() if e.session == session and not e.dead]
            if not living:
                return
            for entry in living:
                process.send(entry.process(), signal.SIGKILL)
    except OSError:  # no descriptor left to read the table with, or another user's: its own group is killed
        pass


def _reap(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_DYING)
    except subprocess.TimeoutExpired:
        _unreaped.append(child)


def verdict(code: int, output: bytes) -> Finding:
    """What an exit code says; a negative one is the number of the signal that ended the command."""
    last = _last_line(output)
    said = f": {quoted(last)}" if last else ""
    if code in _CANNOT_RUN:
        return could_not_ask(f"exit {code}{said}")
    if code < 0:
        return Finding(False, f"ended by {_signal_name(-code)}{said}")
    return Finding(code == 0, f"exit {code}{said}")


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
