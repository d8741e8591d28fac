"""A program of the user's, run to its end: a text on its standard input, bounded time, nothing left behind.

Knows: spawning without a shell, pipes, deadlines. Must not know: what the text says, why the program is run.

Its end is its own: what it leaves in the background is ended with it. Of what it says only the last line on standard
error is kept, for the message should it fail.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from ops.errors import OpsError
from ops.host.probe_command import OUTPUT_LIMIT, end_session, has_ended, verdict

_TICK = 0.02  # seconds between looks at a program that is silent
_PIPE = 64 * 1024  # what a pipe holds on Linux and macOS


def run(command: Sequence[str], text: bytes, *, cwd: str, env: Mapping[str, str], timeout: float) -> str:
    """Runs it without a shell, in a session of its own; "" when it exited with 0, else what went wrong.

    `env` is its whole environment, whose PATH finds it; a name with a slash is meant from `cwd`. After `timeout`
    seconds all of its session is killed. One that does not read the text is not at fault."""
    try:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        return f"{error.filename or command[0]} cannot be started: {error.strerror}"
    except ValueError as error:  # a NUL in a word
        return f"{command[0]!r} cannot be started: {error}"
    conversation = _Conversation(child, text)
    try:
        in_time = conversation.hold(time.monotonic() + timeout)
    finally:
        end_session(child)
        conversation.close()
    if not in_time:
        killed = verdict(-signal.SIGKILL, conversation.tail)
        return f"{command[0]}: not done within {timeout:g} s, {killed.detail}"
    found = verdict(child.returncode, conversation.tail)
    return "" if found.ok else f"{command[0]}: {found.detail}"


class _Conversation:
    """Telling a child the text and hearing its complaints, neither of which may stop us."""

    def __init__(self, child: subprocess.Popen[bytes], text: bytes) -> None:
        assert child.stdin and child.stderr
        self._child = child
        self._left = text
        self._input = child.stdin
        self._output = child.stderr
        self._poll = select.poll()
        self.tail = b""
        for stream, event in ((self._input, select.POLLOUT), (self._output, select.POLLIN)):
            os.set_blocking(stream.fileno(), False)
            self._poll.register(stream, event)

    def hold(self, until: float) -> bool:
        """Goes on until the child has ended; False when that was not before the moment `until` (monotonic)."""
        while not has_ended(self._child):
            if time.monotonic() >= until:
                return False
            if not self._poll.poll(1000 * _TICK):
                continue
            self._tell()
            self._hear()
        self._hear()  # once, which is all that a pipe holds: what it left behind may write for ever
        return True

    def close(self) -> None:
        self._input.close()
        self._output.close()

    def _tell(self) -> None:
        if self._input.closed:
            return
        try:
            self._left = self._left[os.write(self._input.fileno(), self._left[:_PIPE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = b""
        if not self._left:
            self._poll.unregister(self._input)
            self._input.close()

    def _hear(self) -> None:
        if self._output.closed:
            return
        try:
            data = os.read(self._output.fileno(), _PIPE)
        except BlockingIOError:
            return
        self.tail = (self.tail + data)[-OUTPUT_LIMIT:]
        if not data:
            self._poll.unregister(self._output)
            self._output.close()


def answer(command: Sequence[str], *, timeout: float) -> bytes:
    """What a program of ours says on its standard output. OpsError when it cannot be run or is not done in time."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    except (OSError, subprocess.SubprocessError) as error:
        raise OpsError(f"{command[0]} could not be run: {error}") from error
    return done.stdout
