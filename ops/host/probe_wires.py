"""Wires: how an asking under way hangs in the selector of whoever asks.

Knows: selectors, descriptors, and a thread for the two things that cannot be done without blocking (name
resolution, TLS through a library). Must not know: what is asked, or what the answer means.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ops.host.probe_verdict import Finding

T = TypeVar("T")
READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
SEATS = 100  # errands out at once


class Talk(Protocol):
    """One way of asking, under way. Any method may raise OSError when our own machine lacks something."""

    @property
    def tick(self) -> float | None:
        """Seconds after which to go on even though no descriptor is ready; None: never."""

    def advance(self) -> Finding | None:
        """Goes on as far as possible without blocking; the finding when there is one."""

    def late(self, seconds: float) -> Finding:
        """What to say when `seconds` have passed without a finding."""

    def close(self) -> None:
        """Lets go of everything; may be called again."""


class Wires:
    """The descriptors that one inquiry waits on, registered in its owner's selector under the owner's key.

    They change while it goes (an address refused, the next one tried), and a new one may get the number
    of one that was closed. So they are registered and dropped here, where they are opened and closed,
    not by the owner.
    """

    def __init__(self, selector: selectors.BaseSelector, key: Any) -> None:
        self._selector = selector
        self._key = key
        self._watched: dict[int, int] = {}

    def watch(self, descriptor: int, events: int) -> None:
        """Waits for `events` (READ, WRITE or both) on it, instead of what was waited for there before."""
        if descriptor not in self._watched:
            self._selector.register(descriptor, events, self._key)
        elif self._watched[descriptor] != events:
            self._selector.modify(descriptor, events, self._key)
        self._watched[descriptor] = events

    def drop(self, descriptor: int) -> None:
        """Waits for it no longer. To be called before it is closed."""
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)


class Errand(Generic[T]):
    """Work that blocks, in a thread of its own that tells through a socket when it is done.

    Nobody waits for the thread: given up, it ends by itself, so the work has to be bounded. Only so many
    may be out at once; one more is an OSError (EAGAIN), so that a resolver that hangs does not pile up
    threads.
    """

    _seats = threading.BoundedSemaphore(SEATS)

    def __init__(self, work: Callable[[], T], wires: Wires) -> None:
        self._work = work
        self._wires = wires
        self._done: list[T] = []
        self._failure: Exception | None = None
        if not self._seats.acquire(blocking=False):
            raise OSError(errno.EAGAIN, "too many earlier askings still hang")
        try:
            self._ours, self._theirs = socket.socketpair()
        except OSError:
            self._seats.release()
            raise
        self._start()

    def _start(self) -> None:
        try:
            self._wires.watch(self._ours.fileno(), READ)
            threading.Thread(target=self._run, name="probe errand", daemon=True).start()
        except (RuntimeError, OSError) as error:  # RuntimeError: no more threads
            self.close()
            self._theirs.close()
            self._seats.release()
            raise OSError(errno.EAGAIN, str(error)) from error

    def _run(self) -> None:
        try:
            self._done.append(self._work())
        except Exception as error:  # noqa: BLE001 - whatever it is, result() raises it in the asker's thread
            self._failure = error
        finally:
            self._seats.release()
            self._theirs.close()  # our end becomes readable

    def result(self) -> T | None:
        """What the work returned, or raises what it raised; None as long as it is out."""
        try:
            if self._ours.recv(1, socket.MSG_DONTWAIT):
                return None
        except BlockingIOError:
            return None
        if self._failure is not None:
            raise self._failure
        return self._done[0]

    def close(self) -> None:
        """Waits for it no longer."""
        if self._ours.fileno() >= 0:
            self._wires.drop(self._ours.fileno())
            self._ours.close()


def strerror(number: int) -> str:
    """The system's words for an errno, without its capital letter."""
    words = os.strerror(number)
    return words[:1].lower() + words[1:]
