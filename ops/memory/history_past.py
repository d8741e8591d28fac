"""What the history tells once it has been read: plain values, and the distribution that samples are thinned to.

Knows: changes of state, events, watching intervals, what a clock that was set back does to them, response times as
buckets. Must not know: the database, files, the clock, what is made of the values.

Times are seconds since the epoch, durations seconds, sizes bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import field
from itertools import accumulate

from ops.frozen import frozen
from ops.model import ServiceState, Wanted

# Buckets grow by this factor. A value is told as the point of its bucket that is relatively equally far from both
# ends, so it is off by at most (GROWTH - 1) / (GROWTH + 1) = 1.91 %. Buckets of several hours are simply added.
# The idea is DDSketch's (Masson, Rim, Lee: "DDSketch", VLDB 2019).
GROWTH = 1.039
_SHORTEST, _LONGEST = 1e-6, 1e6  # seconds; what is beyond counts as these, so that there are at most 723 buckets


@frozen
class Change:
    """A service went over into a state, or something else was wanted of it. `planned`: a command's work."""

    at: float
    state: ServiceState
    wanted: Wanted
    planned: bool = False
    why: str = ""


@frozen
class Event:
    """A line of history; the service "" is the stack."""

    at: float
    service: str
    kind: str
    detail: str = ""


@frozen
class Responses:
    """Response times: some exact, those of thinned hours as counts per bucket."""

    exact: tuple[float, ...] = ()
    buckets: Mapping[int, int] = field(default_factory=dict)

    def percentiles(self, *percents: int) -> list[float | None]:
        """By nearest rank: for each the smallest value that so many % of all do not exceed; None when there are none.
        Exact among exact values, within 2 % among thinned ones."""
        counted = sorted([*((one, 1) for one in self.exact), *((value_of(i), n) for i, n in self.buckets.items())])
        reached = list(accumulate(count for _, count in counted))
        if not reached:
            return [None] * len(percents)
        return [counted[bisect_left(reached, -(-percent * reached[-1] // 100))][0] for percent in percents]


@frozen
class Use:
    """What the samples of one service come to: response times, mean CPU (%), largest memory (bytes)."""

    responses: Responses = field(default_factory=Responses)
    cpu_percent: float | None = None
    rss: int | None = None


@frozen
class Past:
    """What is known of a window. `watched` are intervals (begin, end), ascending and disjoint, and `states` the
    changes per service in the order of time: both reach back before the window as far as anything is kept, so that
    the state in force at its beginning and the true beginning of an outage are among them. `events` and `use` are
    of the window only; where hours were thinned, those that overlap it. `lacking`: what could not be read."""

    watched: tuple[tuple[float, float], ...] = ()
    states: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    use: Mapping[str, Use] = field(default_factory=dict)
    lacking: str = ""


def bucket_of(seconds: float) -> int:
    """The bucket that a response time falls into; any number is taken, infinity too."""
    return math.ceil(math.log(min(max(seconds, _SHORTEST), _LONGEST)) / math.log(GROWTH))


def value_of(bucket: int) -> float:
    """The response time that stands for a bucket."""
    return 2.0 * GROWTH**bucket / (GROWTH + 1)


def in_order_of_time(recorded: Iterable[Change]) -> tuple[Change, ...]:
    """Changes, given as they were recorded, in the order of time. Where the clock was set back, what was recorded
    later holds: of the first pass through that time only what lies before it is kept."""
    line: list[Change] = []
    for change in recorded:
        while line and line[-1].at > change.at:
            line.pop()
        line.append(change)
    return tuple(line)


def disjoint(recorded: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Watching intervals, given as they were recorded, ascending and disjoint; the same rule for a clock set back."""
    line: list[tuple[float, float]] = []
    for began, ended in recorded:
        while line and line[-1][0] >= began:
            line.pop()
        if line and line[-1][1] > began:
            line[-1] = (line[-1][0], began)
        line.append((began, max(began, ended)))
    return tuple(line)
