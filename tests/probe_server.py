"""Servers for probes: real sockets on ports bound from 0, each behaving in one way, good or bad.

Knows: sockets and threads. Must not know: the code under test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[["Line"], None]


class Line:
    """One accepted connection. `wait` lets time pass, but not past the end of the test."""

    def __init__(self, connection: socket.socket, over: threading.Event) -> None:
        self.connection = connection
        self.wait = over.wait
        self.over = over

    def request(self) -> bytes:
        """The request's head, or what there was when the client hung up."""
        text = b""
        while b"\r\n\r\n" not in text:
            data = self.connection.recv(4096)
            if not data:
                break
            text += data
        return text

    def say(self, text: bytes) -> None:
        self.connection.sendall(text)

    def drip(self, text: bytes) -> None:
        """Says a byte every 20 ms, for ever."""
        while True:
            for byte in text:
                if self.over.wait(0.02):
                    return
                self.say(bytes([byte]))


class Server:
    """Accepts on one or two listening sockets until it is closed; a thread per connection."""

    def __init__(self, behaviour: Behaviour, listeners: list[socket.socket]) -> None:
        self.port: int = listeners[0].getsockname()[1]
        self.requests: list[bytes] = []
        self.accepted = 0
        self._behaviour = behaviour
        self._listeners = listeners
        self._over = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, args=(one,)) for one in listeners]
        for thread in list(self._threads):
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.accepted += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._open.append(connection)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self._behaviour(Line(connection, self._over))

    def close(self) -> None:
        self._over.set()
        for one in [*self._listeners, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)


def bound(family: socket.AddressFamily, port: int = 0) -> socket.socket:
    """A listening socket on that family's loopback, and on that family only."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
    except OSError:
        listener.close()
        raise
    listener.listen(256)
    return listener


@contextlib.contextmanager
def serving(behaviour: Behaviour, *families: socket.AddressFamily) -> Iterator[Server]:
    """A server of that behaviour, on IPv4 unless told otherwise; several families share the port."""
    first, *rest = families or (socket.AF_INET,)
    listeners = [bound(first)]
    listeners += [bound(family, listeners[0].getsockname()[1]) for family in rest]
    server = Server(behaviour, listeners)
    try:
        yield server
    finally:
        server.close()


def answering(body: bytes = b"{}", status: str = "200 OK", more: str = "") -> Behaviour:
    """Answers every request so, with Content-Length."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()

    def behaviour(line: Line) -> None:
        line.request()
        line.say(head + body)

    return behaviour


def saying(text: bytes) -> Behaviour:
    """Reads the request, says exactly this, and hangs up."""

    def behaviour(line: Line) -> None:
        line.request()
        line.say(text)

    return behaviour


def silent(line: Line) -> None:
    """Accepts and never answers."""
    line.wait()


def open_descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/dev/fd"))
