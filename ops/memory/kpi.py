"""The figures of a report, folded from the past.

Knows: what up, outage, recovery, unknown mean in a report. Must not know: files, the database, the clock, display.

Over a window [since, until], for one service:

- **Known** is time in which the monitor watched and the service's state was recorded and not `unknown`. A state holds
  until the next one, over a gap in the watching too; a gap itself is never known.
- `watched_seconds`: known time while the service was wanted `up` or `held`.
- `unknown_seconds`: time that is not known: the monitor did not watch, or the state is `unknown` or was never
  recorded. Time wanted `down` is neither of the two, watched or not: it is a planned absence.
- `uptime_percent`: 100 x time in state `up` / watched_seconds, and None when nothing was watched. All other states
  (unhealthy, hung, foreign, gave-up, starting, stopping, down) are not up. It is 100 only if no such time was seen.
- An **outage** is a maximal spell, in known time, of not being up while wanted `up`, unless it is
  planned throughout: it begins with its first change that was not planned. Planned spells, and those of a held
  service, lower the uptime but are no outage.
- Across a gap (time not known) a spell goes on if the state behind it is the one before it: one outage. Is it another,
  the outage ended nobody knows when, and a spell behind the gap is a new one. Either way it has no recovery time.
- One that was there already when the watching began has begun nobody knows when, and has no recovery time either.
- A **recovery time** runs from the true beginning of the outage, before `since` too, to the moment when the service
  was up. An outage that ends because the service is no longer wanted `up` has none, nor has one that is still open.
- `outages` counts those that reach into the window; `recovery_median` and `recovery_worst` are of these.
- `met_recovery`: no outage lasted longer, as far as it was seen, than the budget: recovered, open, or ended unseen.
  `met_uptime`: uptime_percent is at least 99.9. Both are None when nothing was watched.
- `restarts`: events "restart" in the window; `reasons` counts them by their detail up to the first ":".
- Percentiles are by nearest rank, exact for raw samples and within 2 % for thinned hours; `cpu_percent` is the mean
  and `rss` the largest of the samples.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ops.frozen import frozen
from ops.memory.history_past import Change, Event, Past, Use

_FRESH = 15.0  # seconds; a living monitor says every 10 that it watches
PROMISED_UPTIME = 99.9  # percent
_TAKEN = re.compile(r"^its port is held by .*")  # by whom is another one each time
_WITHOUT_REASON = "no reason given"


@frozen
class Kpi:
    """The figures of one service. Durations are seconds, sizes bytes, None is not known."""

    name: str
    uptime_percent: float | None
    watched_seconds: float
    unknown_seconds: float
    outages: int
    recovery_median: float | None
    recovery_worst: float | None
    ongoing: float | None  # of the outage that has not ended at the end of the window, so far
    ongoing_state: str  # what the service is in that outage; "" when there is none
    restarts: int
    reasons: Mapping[str, int]
    response_p50: float | None
    response_p95: float | None
    response_p99: float | None
    cpu_percent: float | None
    rss: int | None
    met_uptime: bool | None
    met_recovery: bool | None


@frozen
class _Slice:
    """A stretch of time in which nothing changes. `change` is the one in force, if any was ever recorded."""

    begin: float
    end: float
    change: Change | None
    watched: bool

    @property
    def known(self) -> bool:
        return self.watched and self.change is not None and self.change.state != "unknown"

    @property
    def absent(self) -> bool:
        return self.change is not None and self.change.wanted == "down"

    @property
    def up(self) -> bool:
        return self.known and self.change is not None and self.change.state == "up"

    @property
    def failing(self) -> bool:
        return self.known and not self.up and self.change is not None and self.change.wanted == "up"

    def within(self, since: float) -> float:
        """Seconds of it that are not before `since`."""
        return max(0.0, self.end - max(self.begin, since))


@dataclass
class _Spell:
    """A spell of not being up. `last_seen` is the end of what was seen of it, `gap` whether time was missed."""

    begin: float
    planned: bool
    state: str
    last_seen: float
    gap: bool = False
    recovered: bool = False

    @property
    def seconds(self) -> float:
        return self.last_seen - self.begin

    def is_open(self, until: float) -> bool:
        """Whether it had not ended when the monitor told last that it watches."""
        return not self.recovered and until - self.last_seen <= _FRESH


@dataclass
class _Times:
    """Seconds of the window by what is known of them."""

    up: float = 0.0
    not_up: float = 0.0
    unknown: float = 0.0

    @property
    def watched(self) -> float:
        return self.up + self.not_up

    @property
    def uptime_percent(self) -> float | None:
        """100 only where nothing else was seen, however little of it."""
        if not self.watched:
            return None
        exact = 100.0 * self.up / self.watched
        return min(exact, math.nextafter(100.0, 0.0)) if self.not_up else 100.0


def kpis(past: Past, services: Sequence[tuple[str, float]], since: float, until: float) -> list[Kpi]:
    """The figures of each service, given as (name, recovery budget in seconds), over the window; in their order."""
    reasons = _reasons(past.events, since, until)
    return [_kpi(past, name, budget, since, until, reasons.get(name, {})) for name, budget in services]


def _reasons(events: Iterable[Event], since: float, until: float) -> dict[str, dict[str, int]]:
    """Per service, how many restarts had which reason."""
    counts: dict[str, dict[str, int]] = {}
    for event in events:
        if event.kind == "restart" and since <= event.at <= until:
            reason = _TAKEN.sub("port taken", event.detail).partition(":")[0].strip() or _WITHOUT_REASON
            of_service = counts.setdefault(event.service, {})
            of_service[reason] = of_service.get(reason, 0) + 1
    return counts


def _kpi(past: Past, name: str, budget: float, since: float, until: float, reasons: Mapping[str, int]) -> Kpi:
    slices = list(_slices(past.states.get(name, ()), past.watched, since, until))
    times = _times(slices, since)
    outages = [one for one in _spells(slices) if not one.planned and one.last_seen > since]
    recoveries = sorted(one.seconds for one in outages if one.recovered)
    open_one = next((one for one in outages if one.is_open(until)), None)
    use = past.use.get(name, Use())
    p50, p95, p99 = use.responses.percentiles(50, 95, 99)
    uptime = times.uptime_percent
    return Kpi(
        name=name,
        uptime_percent=uptime,
        watched_seconds=times.watched,
        unknown_seconds=times.unknown,
        outages=len(outages),
        recovery_median=_median(recoveries),
        recovery_worst=recoveries[-1] if recoveries else None,
        ongoing=open_one.seconds if open_one else None,
        ongoing_state=open_one.state if open_one else "",
        restarts=sum(reasons.values()),
        reasons=reasons,
        response_p50=p50,
        response_p95=p95,
        response_p99=p99,
        cpu_percent=use.cpu_percent,
        rss=use.rss,
        met_uptime=None if uptime is None else uptime >= PROMISED_UPTIME,
        met_recovery=None if uptime is None else all(one.seconds <= budget for one in outages),
    )


def _slices(
    changes: Sequence[Change], watched: Sequence[tuple[float, float]], since: float, until: float
) -> Iterator[_Slice]:
    """Time up to `until`, cut wherever anything changes, from the first thing known of the service or `since`."""
    ats = [change.at for change in changes]
    begins = [begin for begin, _ in watched]
    edges = {since, until, *ats, *(edge for interval in watched for edge in interval)}
    for begin, end in pairwise(sorted(edge for edge in edges if edge <= until)):
        index, interval = bisect_right(ats, begin), bisect_right(begins, begin)
        yield _Slice(
            begin,
            end,
            changes[index - 1] if index else None,
            interval > 0 and begin < watched[interval - 1][1],
        )


def _times(slices: Iterable[_Slice], since: float) -> _Times:
    times = _Times()
    for one in slices:
        seconds = one.within(since)
        if one.absent:
            continue
        if not one.known:
            times.unknown += seconds
        elif one.up:
            times.up += seconds
        else:
            times.not_up += seconds
    return times


def _spells(slices: Iterable[_Slice]) -> Iterator[_Spell]:
    """Every spell of failing, planned or not, in the order of time."""
    spell: _Spell | None = None
    seen = False  # whether what lies right before was known: else nobody knows when what is found there began
    for one in slices:
        if not one.known or one.change is None:
            seen = False
            if spell:
                spell.gap = True
            continue
        if spell and not _goes_on(spell, one):
            spell.recovered = one.up and not spell.gap
            yield spell
            spell = None
        if one.failing:
            if spell and spell.planned and not one.change.planned:
                spell = None  # what was planned has come to more than that: the outage begins here
            spell = spell or _Spell(one.begin, one.change.planned, one.change.state, one.end, gap=not seen)
            spell.state, spell.last_seen = one.change.state, one.end
        seen = True
    if spell:
        yield spell


def _goes_on(spell: _Spell, one: _Slice) -> bool:
    """Whether a known stretch still belongs to the spell: behind a gap only the same state does."""
    right_after = one.begin == spell.last_seen
    return one.failing and one.change is not None and (right_after or one.change.state == spell.state)


def _median(ordered: Sequence[float]) -> float | None:
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
