"""Counts the living copies of each service, again and again: the first law, seen from outside."""

from __future__ import annotations

from collections.abc import Callable

from ops.host import process
from ops.model import Process
from tests.onlooker import Onlooker
from tests.stack import Stack


class Census(Onlooker):
    """Counts, again and again, the living copies of each service: marked processes without a marked parent.

    A second copy of a worker would live on, and one of a server would leave a line in the log (see `begun`); this
    thread sees those that overlap for some milliseconds only."""

    def __init__(self, stack: Stack, every: float = 0.002, tell: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(every)
        self._prefix = f"{stack.name}/"
        self._tell = tell
        self.looks = 0
        self.twice: list[tuple[str, list[str]]] = []

    def look(self) -> None:
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
