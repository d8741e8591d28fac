"""Whether monitor and guard grow: a look at each of them every second, and what the looks of a life come to.

Knows: processes, how much they have. Must not know: faults, the client.

A life that a fault ends after half a minute shows no growth, whatever leaks. So the plan leaves monitor and guard alone
for minutes, and only a life that long is judged: what it has in its last third against what it had in the middle one,
each the median of the looks, so that neither a peak nor the moment of one look decides. In the first third every kind
of fault comes for the first time, and code is loaded where it is first needed: 1.5 MiB in a monitor.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ops.host import process
from ops.model import Process
from tests.onlooker import Onlooker

EVERY = 1.0
GROWN = {"memory": 1 << 20, "descriptors": 4}  # more than that in a third of a life is a finding
YOUNG = 5.0  # seconds in which a watcher may grow: it is getting ready
LONG, LOOKS = 120.0, 10  # a life is judged if it lasted so many seconds, with so many looks at it
KINDS = ("monitor", "guard")


@dataclass
class Life:
    """One monitor or guard. `looks`: how old it was, and what it had then."""

    kind: str
    looks: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.looks[-1][0] if self.looks else 0.0

    @property
    def judged(self) -> bool:
        """Whether it was long enough to show growth."""
        watched = self.seconds - self.looks[0][0] if self.looks else 0.0
        return watched >= LONG and len(self.looks) >= LOOKS

    def most(self, what: str) -> int:
        return max((had[what] for _, had in self.looks), default=0)

    def growth(self, what: str) -> int:
        """From the middle third to the last."""
        third = len(self.looks) // 3
        middle, last = self.looks[-2 * third : -third], self.looks[-third:]
        return int(_median(last, what) - _median(middle, what))


def _median(looks: list[tuple[float, dict[str, int]]], what: str) -> float:
    return statistics.median(had[what] for _, had in looks)


def faulted(lives: Iterable[Life], needed: bool) -> list[str]:
    """What must not be. `needed`: that no life was long enough to be judged is a finding too."""
    several = list(lives)
    told = [
        f"a {life.kind} has grown: {life.growth(what)} {what} more in a life of {life.seconds:.0f} s"
        for life in several
        for what, most in GROWN.items()
        if life.judged and life.growth(what) > most
    ]
    unjudged = [kind for kind in KINDS if not any(life.judged for life in several if life.kind == kind)]
    return [*told, *(f"no {kind} lived the {LONG:g} s that show growth" for kind in unjudged if needed)]


class Growth(Onlooker):
    """Looks every second. `watchers`: the living monitors or guards, by that word; those under `young` seconds are
    left out."""

    def __init__(self, watchers: Callable[[str], list[Process]], young: float = YOUNG) -> None:
        super().__init__(EVERY)
        self._watchers = watchers
        self._young = young
        self.lives: dict[Process, Life] = {}

    def look(self) -> None:
        for kind in KINDS:
            for one in self._watchers(kind):
                self._look(kind, one)

    def _look(self, kind: str, one: Process) -> None:
        line = process.entry(one.pid)
        try:
            descriptors = len(os.listdir(f"/proc/{one.pid}/fd"))
        except OSError:
            return
        if line and line.process() == one and line.age >= self._young:
            had = {"memory": line.rss, "descriptors": descriptors}
            self.lives.setdefault(one, Life(kind)).looks.append((line.age, had))
