"""Telling systemd how this process is, over the socket that it was given (sd_notify(3)).

Knows: the socket, its datagrams. Must not know: systemctl, what the process does. It imports little: the monitor does.
"""

from __future__ import annotations

import contextlib
import os
import socket

MORE_TIME = "EXTEND_TIMEOUT_USEC=60000000"  # a minute from now on, to begin or to end


class Notifier:
    """Says nothing where systemd does not listen. It takes what systemd put into the environment out of it, so that
    nothing this process starts takes itself for the unit."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        for name in list(os.environ):
            if name.startswith(("WATCHDOG_", "LISTEN_")) or name in _OF_THE_UNIT:
                del os.environ[name]

    def tell(self, *lines: str) -> None:
        """`READY=1`, `WATCHDOG=1`, `STATUS=...`: never waits, never fails."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(lines).encode(), address)


_OF_THE_UNIT = ("INVOCATION_ID", "MANAGERPID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM")
