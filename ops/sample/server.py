"""A small HTTP server: accepts, one thread per connection, and drains when it is told to stop.

Knows: sockets, threads. Must not know: which service it serves, signals.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
import time
from contextlib import suppress

from ops.sample.connection import Connection
from ops.sample.routes import App
from ops.sample.wire import Malformed, Request, Response, refusal

BACKLOG = 512  # a burst waits here; the kernel cuts it to its own limit (somaxconn: 128 on a Mac)
DRAIN = 3.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; OSError when the port is taken. The one place that binds.

    SO_REUSEADDR: connections of the predecessor still in TIME_WAIT do not keep us from the port.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def say(line: str) -> None:
    """One line to stdout, at once. A full disk or a reader that died must not fail a request."""
    with suppress(OSError):
        os.write(1, (line + "\n").encode())


class Server:
    """Serves `app`.

    `wake_fd` may be given to `signal.set_wakeup_fd`, so that a signal between two waits is not slept through.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._stopping = False
        self._open = 0
        self._closed_one = threading.Condition()
        self._stop_read, self._stop_write = os.pipe()
        self._wake_read, self.wake_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)

    def stop(self) -> None:
        """Makes `serve` stop accepting and drain. May be called from a signal handler, and again."""
        if self._stopping:
            return
        self._stopping = True
        os.write(self._stop_write, b".")  # never read: stays readable for every connection
        with suppress(BlockingIOError):
            os.write(self.wake_fd, b".")

    def serve(self, listener: socket.socket) -> int:
        """Serves until `stop`, then up to DRAIN seconds for what is in flight; returns what is left of it."""
        listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping:
                ready = [key.fd for key, _ in selector.select()]
                if self._wake_read in ready:
                    os.read(self._wake_read, 64)
                if listener.fileno() in ready and (sock := _accept(listener)):
                    self._begin(sock)
        return self._drain(listener)

    def _drain(self, listener: socket.socket) -> int:
        # Who already stands in the queue would be reset by the close. All are taken before any is answered:
        # under load every answer brings the next connection, and the queue would not end.
        queue: list[socket.socket] = []
        while len(queue) < BACKLOG and (sock := _accept(listener)):
            queue.append(sock)
        listener.close()
        for sock in queue:
            self._begin(sock)
        with self._closed_one:
            self._closed_one.wait_for(lambda: not self._open, DRAIN)
            return self._open

    def _begin(self, sock: socket.socket) -> None:
        with self._closed_one:
            self._open += 1
        try:
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()
        except RuntimeError:  # no more threads to be had
            self._closed(sock)

    def _closed(self, sock: socket.socket) -> None:
        sock.close()
        with self._closed_one:
            self._open -= 1
            self._closed_one.notify_all()

    def _converse(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        connection = Connection(sock, self._stop_read)
        try:
            while connection.awaits_answer() and self._one(connection):
                pass
        except OSError:
            pass  # the client left in the middle: its right
        finally:
            self._closed(sock)

    def _one(self, connection: Connection) -> bool:
        try:
            request = connection.read()
        except Malformed as mistake:
            connection.send(refusal(mistake.status, str(mistake)))
            say(f"{_clock()} malformed request {mistake.status}: {mistake}")
            connection.say_goodbye()
            return False
        return request is not None and self._answer(connection, request)

    def _answer(self, connection: Connection, request: Request) -> bool:
        began = time.monotonic()
        response = self._ask(request)
        if response is None:
            connection.keep_waiting()
            return False
        keep = request.keep_alive and not self._stopping
        connection.send(response, head_only=request.method == "HEAD", keep_alive=keep)
        took = (time.monotonic() - began) * 1000
        say(f"{_clock()} {request.method} {request.path} {response.status} {took:.0f} ms")
        return keep

    def _ask(self, request: Request) -> Response | None:
        try:
            return self._app(request)
        except Exception:  # noqa: BLE001 - the rim: one broken answer must not take the service along
            sys.excepthook(*sys.exc_info())
            return refusal(500, "a mistake in the service: its log has the traceback")


def _accept(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except (BlockingIOError, ConnectionAbortedError):
        return None
    except OSError:  # out of descriptors or memory: clients wait in the backlog until some of ours close
        time.sleep(0.05)
        return None


def _clock() -> str:
    return time.strftime("%H:%M:%S")
