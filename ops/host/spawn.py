"""Spawning: a process of its own that outlives whoever started it.

Knows: forking, sessions, descriptors, log files as descriptors. Must not know: services, records, why.

What is started has its own session, no terminal, none of our descriptors, no ignored signals, and exactly the
environment it is given. Its output goes to a file opened with O_APPEND, so that no reader or writer in between can
stop or lose it. Its input is a pipe that nobody writes to: dev servers take the end of their input for "exit".
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import field

from ops.errors import SpawnError
from ops.frozen import frozen
from ops.host import process
from ops.model import Process

_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@frozen
class Launch:
    """Everything there is to know to start a process. `argv[0]` is an absolute path. `log` and `quiet` (a FIFO for
    its input) may be None: then it is /dev/null. `descriptors` (listening sockets) stay open in it under the numbers
    they have here: whoever hands them over tells it which, by its arguments or environment."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    log: str | None = None
    quiet: str | None = None
    descriptors: tuple[int, ...] = ()


@frozen
class Spawned:
    """The new process, which file its output goes to (device, inode) and how long that was (bytes), and what could
    not be had for it."""

    process: Process
    log_file: tuple[int, int] | None = None
    log_start: int = 0
    notes: tuple[str, ...] = field(default=())


# The soft limit of open files that services get, when this process has raised its own.
_files: int | None = None

# Popen objects of what this process started, so that the dead are reaped and their exit codes known.
_children: dict[int, subprocess.Popen[bytes]] = {}


def become_anew() -> None:
    """This process begins from the beginning, with the same pid, command line and children."""
    os.execv(sys.executable, sys.orig_argv)


def spawn(launch: Launch) -> Spawned:
    """Starts it and returns at once. SpawnError when the system would not: no program, no folder, no memory."""
    notes: list[str] = []
    with contextlib.ExitStack() as descriptors:
        log = _open_log(launch.log, notes)
        descriptors.callback(os.close, log)
        quiet = _open_quiet(launch.quiet)
        descriptors.callback(os.close, quiet)
        log_file = os.fstat(log) if launch.log and not notes else None
        child = _popen(launch, quiet, log)
    line = process.entry(child.pid)  # ours, so it is there at least as a zombie until it is reaped
    if line is None:
        raise SpawnError(f"{launch.argv[0]} was gone before it could be seen")
    _children[child.pid] = child
    _lower_files(child.pid)
    if log_file is None:
        return Spawned(line.process(), notes=tuple(notes))
    return Spawned(line.process(), (log_file.st_dev, log_file.st_ino), log_file.st_size, tuple(notes))


def _popen(launch: Launch, quiet: int, log: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            launch.argv,
            cwd=launch.cwd,
            env=dict(launch.env),
            stdin=quiet,
            stdout=log,
            stderr=log,
            close_fds=True,
            pass_fds=launch.descriptors,
            start_new_session=True,
            umask=0o022,
            user=_caller(os.getuid(), os.geteuid()),
            group=_caller(os.getgid(), os.getegid()),
        )
    except OSError as error:
        raise SpawnError(_why_not(launch, error)) from error
    except ValueError as error:  # a NUL in an argument or a value; the message does not tell the value
        raise SpawnError(f"{launch.argv[0]} cannot be started: {error}") from error


def _caller(real: int, effective: int) -> int | None:
    """Where this acts for whoever typed `sudo`, what it starts is wholly theirs: no way back to root is left."""
    return None if real == effective else effective


def _why_not(launch: Launch, error: OSError) -> str:
    """Popen names the folder when that is what is missing; the kernel blames a script for its interpreter."""
    program = launch.argv[0]
    if error.filename == launch.cwd and not os.path.isdir(launch.cwd):
        return f"{launch.cwd} is not a folder" if os.path.exists(launch.cwd) else f"{launch.cwd} does not exist"
    if isinstance(error, FileNotFoundError):
        orphan = os.path.exists(program)
        why = "cannot be started: the interpreter on its first line does not exist"
        return f"{program} {why if orphan else 'does not exist'}"
    return f"{program} cannot be started: {error.strerror}"


def _open_log(path: str | None, notes: list[str]) -> int:
    """A full disk or a missing folder must not keep a service down: then its output is lost, and that is said."""
    if path is not None:
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return os.open(path, _LOG_FLAGS, 0o600)
        except OSError as error:
            notes.append(f"its output is not kept: {path}: {error.strerror}")
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _open_quiet(path: str | None) -> int:
    """An input that never ends: a FIFO opened for reading and writing (Linux and macOS allow that)."""
    if path is not None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def allow_files(number: int) -> None:
    """Has this process open as many files as it needs, as far as the hard limit allows; what it starts gets the
    limit that was before (Linux; elsewhere it inherits)."""
    global _files
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _files = soft


def _lower_files(pid: int) -> None:
    if _files is not None and sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError):
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (_files, hard))


def exit_code(pid: int) -> int | None:
    """How a child that this process started ended (negative: the signal); None while it runs or when not ours."""
    child = _children.get(pid)
    return child.poll() if child is not None else None


def reap(pid: int, within: float = 0.0) -> int | None:
    """How a dead child of this process ended, as `exit_code`, and forgets it; None when it is not ours, or does not
    end `within` seconds (macOS tells of a death a moment before it can be waited for)."""
    child = _children.get(pid)
    if child is None:
        return None
    try:
        code = child.wait(within)
    except subprocess.TimeoutExpired:
        return None
    _children.pop(pid, None)
    return code


def take_no_ignored_signals() -> None:
    """`nohup inv start` and `inv start &` in a script run with signals ignored, which children would inherit for
    ever. A handler that does nothing is the same for us and is reset by exec. Only the main thread may do it, and
    before it starts others: they inherit its mask."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # Python itself ignores SIGPIPE and SIGXFSZ; subprocess restores those two.
        if number not in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", None)):
            with contextlib.suppress(OSError, ValueError):
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
