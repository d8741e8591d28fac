"""Time as the monitor counts it, and what is to happen when.

Knows: the monotonic clock, gaps in which this process did not run. Must not know: what the timers are for.

The clock stands still while the machine sleeps or the monitor is stopped, so that no deadline passes that nobody
could have kept: services slept as well.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator

GAP = 2.0  # seconds that a loop may be late before that counts as having been asleep


class AwakeClock:
    """Seconds in which this process was awake. `naps` counts the gaps that were left out."""

    def __init__(self, source: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._seen = source()
        self._left_out = 0.0
        self.naps = 0
        self.last = self._seen  # what `now` gave last

    def now(self, expected: float = 0.0) -> float:
        """This moment; `expected` is how many seconds the caller has just meant to wait."""
        found = self._source()
        late = found - self._seen - expected
        if late > GAP:
            self._left_out += late
            self.naps += 1
        self._seen = found
        self.last = found - self._left_out
        return self.last


class Timers:
    """What is to be called at which moment of the clock; whoever sets one checks itself whether it still holds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = itertools.count()

    def at(self, moment: float, call: Callable[[float], None]) -> None:
        """Has it called with the time then, at that moment or soon after."""
        heapq.heappush(self._heap, (moment, next(self._count), call))

    def next(self) -> float | None:
        """The moment of the first."""
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Callable[[float], None]]:
        """What has come due, to be called, one after the other; what is not taken stays due."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]
