"""Counts the living copies of each service, again and again: the first law, seen from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from ops.host import process
from ops.model import Process
from tests.stack import Stack


class Census(threading.Thread):
    """Counts, again and again, the living copies of each service: marked processes without a marked parent.

    A second copy of a worker would live on, and one of a server would leave a line in the log (see `begun`); this
    thread sees those that overlap for some milliseconds only."""

    def __init__(self, stack: Stack, every: float = 0.002, tell: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(daemon=True)
        self._prefix = f"{stack.name}/"
        self._every = every
        self._tell = tell
        self._over = threading.Event()
        self.looks = 0
        self.twice: list[tuple[str, list[str]]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(self._every):
                self._look()
        except BaseException as error:
            self.failure = error

    def _look(self) -> None:
        marked = [(one, value.split("/")[1]) for one, value in process.carrying("OPS_RUN", self._prefix)]
        lines = {one: process.entry(one.pid) for one, _ in marked}
        pids = {(one.pid, name) for one, name in marked}
        tops: dict[str, list[Process]] = {}
        for one, name in marked:
            line = lines[one]
            if line and (line.ppid, name) not in pids:
                tops.setdefault(name, []).append(one)
        for name, several in tops.items():
            # All were seen before this moment; those that live after it lived together.
            together = [one for one in several if process.alive(one)]
            if len(together) > 1:
                shown = [f"{one} {process.describe(one.pid)} {lines[one]}" for one in together]
                self.twice.append((name, shown))
                self._tell(name)
        self.looks += 1

    def __enter__(self) -> Census:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join(10)
