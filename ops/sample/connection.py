"""One client's connection: its requests read whole, within limits and deadlines.

Knows: one socket. Must not know: routes, other connections.

Not run on a Mac: `select.poll` on sockets and pipes is said to work there (it fails on devices only).
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from ops.sample.wire import HEAD_LIMIT, Malformed, Request, Response, body_length, parse_head, render

IDLE = 30.0  # how long a kept-alive connection may be silent
REQUEST_TIME = 10.0  # from the first byte of a request to its last; also for taking the answer
LAST_CALL = 0.05  # when stopping: a request that is already on its way is still taken


class Connection:
    """Reads requests from a socket, writes answers. `stop_fd` turns readable when the server is stopping."""

    def __init__(self, sock: socket.socket, stop_fd: int) -> None:
        self._sock = sock
        self._stop_fd = stop_fd
        self._buffer = bytearray()

    def awaits_answer(self) -> bool:
        """Waits for a request. True once it begins, False if idle too long or the server is stopping."""
        if self._buffer or self._readable(IDLE, or_stop=True):
            return True
        return self._readable(LAST_CALL, or_stop=False)

    def _readable(self, within: float, *, or_stop: bool) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if or_stop:
            poll.register(self._stop_fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(within * 1000)]
        return self._sock.fileno() in ready

    def read(self) -> Request | None:
        """The next request, whole; None when the client has left. Malformed when it is none, or too slow."""
        deadline = time.monotonic() + REQUEST_TIME
        try:
            return self._read(deadline)
        except TimeoutError:
            raise Malformed(408, f"no whole request within {REQUEST_TIME:g} s") from None

    def _read(self, deadline: float) -> Request | None:
        head = self._read_head(deadline)
        if head is None:
            return None
        request = parse_head(head)
        length = body_length(request)
        if length and request.headers.get("expect", "").lower() == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._buffer) < length:
            if not self._more(deadline):
                return None
        return request._replace(body=self._take(length))

    def _read_head(self, deadline: float) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise Malformed(431, f"the head of a request may have {HEAD_LIMIT} bytes")
            if not self._more(deadline):
                return None
        return self._take(end + 4)[:-4]

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        data = self._sock.recv(16 * 1024)
        self._buffer += data
        return bool(data)

    def send(self, response: Response, *, head_only: bool = False, keep_alive: bool = False) -> None:
        """Sends one answer in one write. OSError when the client is gone or takes it too slowly."""
        self._sock.settimeout(REQUEST_TIME)
        self._sock.sendall(render(response, head_only=head_only, keep_alive=keep_alive))

    def say_goodbye(self) -> None:
        """Ends our half and reads on shortly: closing on unread bytes would reset the answer away."""
        deadline = time.monotonic() + 0.5
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while self._more(deadline):
                self._buffer.clear()

    def keep_waiting(self) -> None:
        """Never answers: swallows what comes until the client leaves."""
        self._sock.settimeout(None)
        while self._sock.recv(16 * 1024):
            pass
