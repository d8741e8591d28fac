"""One request over one open connection, and what comes back.

Knows: the channel, frames, silence. Must not know: how the connection was made, what is done about a broken one.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ops.fleet import frames
from ops.fleet.remote import failures

if TYPE_CHECKING:
    from ops.fleet.remote import Connection

SILENCE = 10.0  # seconds; the far end says every 2 that it lives
_TURN = 0.2  # seconds until a cancelled request is noticed
_KEPT = 2048  # bytes of its standard error
_TO_END = 5.0  # seconds that a cancelled one has until its next safe point
_SEND = 32768
_AT_A_TIME = 16  # pieces of its standard error


def one_line(script: str) -> str:
    """A shell script on one line: not every login shell takes more within quotes."""
    return " ".join(script.split())


class Broken(Exception):
    """The connection broke, or fell silent, before the answer was complete; says how."""

    silent = False


class Silent(Broken):
    """It says nothing any more."""

    silent = True


class Exchange:
    """`command` runs there with the message on its standard input; `said()` gives what it says until it ends."""

    def __init__(self, connection: Connection, command: str, token: str, within: float = SILENCE) -> None:
        self._within = within
        self._finder = frames.Finder(token)
        self._errors = b""
        self.code: int | None = None
        try:
            self._channel = connection.create_session()
            self._channel.settimeout(within)
            self._channel.exec_command(command)
        except failures() as error:
            raise Broken(_reason(error)) from error

    def send(self, data: bytes) -> None:
        """Sends all of it. Broken when that does not go on."""
        try:
            view = memoryview(data)
            while view:
                view = view[self._channel.send(view[:_SEND]) :]
        except failures() as error:
            raise Broken(_reason(error)) from error

    def cancel(self) -> None:
        """Asks it to stop at its next safe point."""
        self.send(json.dumps({"cancel": True}).encode() + b"\n")

    def said(self, stop: threading.Event, grace: float = _TO_END) -> Iterator[dict[str, Any]]:
        """What it says. With `stop` set it is cancelled, and has `grace` seconds to end. Broken, or frames.Noise."""
        heard, until = time.monotonic(), None
        self._channel.settimeout(_TURN)
        while True:
            data = self._received()
            if data == b"":
                break
            now = time.monotonic()
            if data is not None:
                heard = now
                yield from self._finder.feed(data)
            if stop.is_set() and until is None:
                until = now + grace
                self.cancel()
            if now - heard > self._within or (until is not None and now > until):
                raise Silent(f"it has said nothing for {now - heard:.0f} s")
        self._over()

    def _received(self) -> bytes | None:
        """What has come; None when nothing has, b"" at the end."""
        try:
            data: bytes = self._channel.recv(65536)
        except TimeoutError:
            return None
        except failures() as error:
            raise Broken(_reason(error)) from error
        finally:
            self._hear_errors()
        return data

    def _hear_errors(self) -> None:
        """A host may complain for ever: so much at a time, and of all that only the end is kept."""
        for _ in range(_AT_A_TIME):
            if not self._channel.recv_stderr_ready():
                break
            self._errors = (self._errors + self._channel.recv_stderr(65536))[-_KEPT:]

    def _over(self) -> None:
        """After the end of its output: how it ended. A connection that broke tells no exit code."""
        until = time.monotonic() + 2.0
        while not self._channel.exit_status_ready() and time.monotonic() < until:
            if not self._channel.get_transport().is_active():
                break
            self._channel.status_event.wait(0.05)
        self._hear_errors()
        if not self._channel.exit_status_ready():
            raise Broken("the connection was closed")
        self.code = self._channel.recv_exit_status()
        if self.code == -1 and not self._channel.get_transport().is_active():
            raise Broken("the connection was closed")

    @property
    def complaint(self) -> str:
        """What it said that was not ours, for people: the last line of its standard error, or the first of the rest."""
        lines = [line for line in self._errors.decode(errors="replace").splitlines() if line.strip()]
        text = lines[-1] if lines else self._finder.beginning
        return "".join(one if one.isprintable() else " " for one in text).strip()[:200]

    def close(self) -> None:
        """Ends it, as far as this end can: its standard input is closed with it."""
        with contextlib.suppress(*failures()):
            self._channel.close()


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
