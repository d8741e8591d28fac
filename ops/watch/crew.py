"""Threads for what may take long, so that the loop never waits: restarts, sweeps, rotation.

Knows: jobs, ranks, threads. Must not know: what the jobs do.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

Job = Callable[[], Any]


class GiveWay:
    """Called between the small steps of long work in a thread: waits while it is not calm, `most` seconds in all.
    Python lets one thread run at a time, and each read of a file is an occasion to wait for the other."""

    def __init__(self, calm: threading.Event, most: float) -> None:
        self._calm = calm
        self._left = most

    def __call__(self) -> None:
        if self._left > 0 and not self._calm.is_set():
            begun = time.monotonic()
            self._calm.wait(self._left)
            self._left -= time.monotonic() - begun


class Crew:
    """A few threads, begun as they are needed. `done` hears, in a thread of the crew, what became of each job:
    (ticket, result, error). Lower ranks go first; rank 0 never waits: when all are busy, one more is begun for it."""

    def __init__(self, name: str, most: int, done: Callable[[Any, Any, BaseException | None], None]) -> None:
        self._name = name
        self._most = most
        self._done = done
        self._jobs: list[tuple[int, int, Any, Job]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._threads = 0
        self._busy = 0
        self._common = 0  # of those, with jobs that are not of rank 0
        self._begin()  # at once: when the machine has nothing left to give, one thread is there

    def hand(self, ticket: Any, job: Job, rank: int = 1) -> None:
        """Has the job done as soon as a thread is free."""
        with self._changed:
            heapq.heappush(self._jobs, (rank, next(self._count), ticket, job))
            if self._threads - self._busy < len(self._jobs) and (self._threads < self._most or rank == 0):
                self._begin()
            self._changed.notify_all()  # not each of them may take it

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waiting."""
        with self._changed:
            return not self._busy and not self._jobs

    def _begin(self) -> None:
        """One more thread; where the system has none to spare, those that there are do it later."""
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return
        self._threads += 1

    def _may_begin(self) -> bool:
        return bool(self._jobs) and (self._jobs[0][0] == 0 or self._common < self._most)

    def _count_in(self, rank: int, one: int) -> None:
        self._busy += one
        self._common += one if rank else 0

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._may_begin():
                    self._changed.wait()
                rank, _, ticket, job = heapq.heappop(self._jobs)
                self._count_in(rank, 1)
            result, error = None, None
            try:
                result = job()
            except Exception as failure:  # noqa: BLE001 - told to the loop; a thread must not die of a job
                error = failure
                error.add_note(traceback.format_exc()) if hasattr(error, "add_note") else None
            with self._changed:
                self._count_in(rank, -1)
                self._changed.notify_all()
            self._done(ticket, result, error)
            del result, error, job, ticket
