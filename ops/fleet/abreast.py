"""The same work for many, so many at a time, where one that never ends must hold nobody up.

Knows: threads, Ctrl-C. Must not know: what the work is.

Daemon threads and not a pool: the interpreter waits at its end for the threads of a pool, however long they take.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_LISTEN_EVERY = 0.1  # seconds; Ctrl-C that comes just before a wait begins does not end that wait
_SAFE_POINT = 6.0  # seconds; a little longer than an exchange waits for one

One = TypeVar("One")
Result = TypeVar("Result")


def each(them: Sequence[One], at_once: int, cancelled: threading.Event, work: Callable[[One], Result]) -> list[Result]:
    """The results in the order of `them`. What the work raises is raised; so is KeyboardInterrupt, once what is under
    way has had a moment to reach its next safe point (`cancelled` tells it to), and who does not is left behind."""
    return _Crew(them, at_once, cancelled, work).results()


class _Crew(Generic[One, Result]):
    def __init__(
        self, them: Sequence[One], at_once: int, cancelled: threading.Event, work: Callable[[One], Result]
    ) -> None:
        self._todo = deque(enumerate(them))
        self._work = work
        self._cancelled = cancelled
        self._done: queue.SimpleQueue[tuple[int, Result | BaseException]] = queue.SimpleQueue()
        self._came: dict[int, Result] = {}
        self._count = len(them)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(min(at_once, len(them)))]
        for thread in self._threads:
            thread.start()

    def results(self) -> list[Result]:
        try:
            while len(self._came) < self._count:
                self._take()
        except BaseException:
            self._cancelled.set()
            until = time.monotonic() + _SAFE_POINT
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
            raise
        return [self._came[place] for place in range(self._count)]

    def _take(self) -> None:
        with contextlib.suppress(queue.Empty):
            place, found = self._done.get(timeout=_LISTEN_EVERY)
            if isinstance(found, BaseException):
                raise found
            self._came[place] = found

    def _run(self) -> None:
        with contextlib.suppress(IndexError):  # none is left
            while not self._cancelled.is_set():
                place, one = self._todo.popleft()
                self._done.put((place, self._tried(one)))

    def _tried(self, one: One) -> Result | BaseException:
        try:
            return self._work(one)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            return error
