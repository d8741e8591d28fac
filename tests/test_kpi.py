"""The figures of a report, held against a naive reference: a window walked second by second over arrays."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.memory.history import Change, Event, History, Past, Responses, Use, read
from ops.memory.history_past import GROWTH, bucket_of, value_of
from ops.memory.kpi import Kpi, kpis
from tests.fuzzing import examples, searching

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # an fsync costs nothing there
END = 24  # seconds of a made-up world
STATES = [
    "up",
    "up",
    "up",
    "down",
    "down",
    "hung",
    "starting",
    "unhealthy",
    "gave-up",
    "foreign",
    "stopping",
    "unknown",
]
WANTED = ["up", "up", "up", "up", "up", "held", "down"]


def figures(past: Past, since: float, until: float, budget: float = 30.0) -> Kpi:
    return kpis(past, [("recon-api", budget)], since, until)[0]


def past_of(watched: list[tuple[float, float]], *changes: Change) -> Past:
    return Past(watched=tuple(watched), states={"recon-api": changes})


# -- the reference ----------------------------------------------------------------------------------------------


@dataclass
class Second:
    change: Change | None = None
    watched: bool = False

    @property
    def known(self) -> bool:
        return self.watched and self.change is not None and self.change.state != "unknown"

    @property
    def failing(self) -> bool:
        return self.known and self.change.state != "up" and self.change.wanted == "up"


class World:
    """What was recorded, second by second: whatever is recorded later overwrites all that follows."""

    def __init__(self) -> None:
        self.seconds = [Second() for _ in range(END)]

    def changes(self, change: Change) -> None:
        for second in self.seconds[int(change.at) :]:
            second.change = change

    def watches(self, begin: int, end: int) -> None:
        for number in range(begin, END):
            self.seconds[number].watched = number < end

    def spells(self, until: int) -> list[list[int]]:
        """The seconds of failing that belong together."""
        spells: list[list[int]] = []
        previous = None
        for number in [n for n in range(until) if self.seconds[n].known]:
            if self.seconds[number].failing:
                last = previous is not None and self.seconds[previous]
                same = last and last.failing and last.change.state == self.seconds[number].change.state
                if last and last.failing and (previous == number - 1 or same):
                    spells[-1].append(number)
                else:
                    spells.append([number])
            previous = number
        return spells

    def unplanned(self, spell: list[int]) -> list[int]:
        """From its first second on that was not planned."""
        planned = 0
        while planned < len(spell) and self.seconds[spell[planned]].change.planned:
            planned += 1
        return spell[planned:]

    def figures(self, since: int, until: int, budget: float) -> dict[str, Any]:
        window = self.seconds[since:until]
        wanted = [s for s in window if s.change is None or s.change.wanted != "down"]
        known = [s for s in wanted if s.known]
        up = sum(s.change.state == "up" for s in known)
        spells = [s for s in map(self.unplanned, self.spells(until)) if s and s[-1] >= since]
        return {
            "watched_seconds": len(known),
            "unknown_seconds": len(wanted) - len(known),
            "uptime_percent": 100 * up / len(known) if known else None,
            "outages": len(spells),
            "recoveries": sorted(len(s) for s in spells if self.recovers(s, until)),
            "met_recovery": all(s[-1] + 1 - s[0] <= budget for s in spells) if known else None,
        }

    def recovers(self, spell: list[int], until: int) -> bool:
        after = spell[-1] + 1
        return (
            len(spell) == after - spell[0]  # nothing in it was missed
            and (spell[0] > 0 and self.seconds[spell[0] - 1].known)  # nor its beginning
            and after < until
            and self.seconds[after].known
            and self.seconds[after].change.state == "up"
        )


def assert_same(told: Kpi, reference: dict[str, Any]) -> None:
    recoveries = reference.pop("recoveries")
    seen = {name: getattr(told, name) for name in reference}
    assert seen == reference
    assert told.recovery_median == (median(recoveries) if recoveries else None)
    assert told.recovery_worst == (max(recoveries) if recoveries else None)
    uptime = reference["uptime_percent"]
    assert told.met_uptime == (None if uptime is None else uptime >= 99.9)


def changes_at(times: st.SearchStrategy[int]) -> st.SearchStrategy[Change]:
    return st.builds(Change, times, st.sampled_from(STATES), st.sampled_from(WANTED), st.booleans())


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int]:
    until = draw(st.integers(1, END))
    return draw(st.integers(0, until - 1)), until


@st.composite
def watchings(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ascending and disjoint, mostly with few gaps; some touch, some are empty."""
    edges = sorted(draw(st.lists(st.integers(0, END), max_size=6)))
    if draw(st.booleans()):
        edges = [0, *edges, END]
    return list(zip(edges[::2], edges[1::2], strict=False))


ALL_THE_TIME = [(0, END)]


@searching
@settings(max_examples=examples(500), deadline=None)
@given(st.lists(changes_at(st.integers(0, END - 1)), min_size=1, max_size=12), watchings(), windows())
@example([Change(5, "down", "up"), Change(9, "starting", "up"), Change(12, "up", "up")], ALL_THE_TIME, (10, END))
@example([Change(5, "down", "up")], [(0, 8), (12, END)], (0, END))
@example([Change(5, "down", "up"), Change(16, "up", "up")], [(0, 8), (12, END)], (0, END))
@example([Change(5, "down", "up"), Change(9, "hung", "up"), Change(16, "up", "up")], [(0, 8), (12, END)], (0, END))
@example([Change(5, "down", "up"), Change(10, "up", "up")], ALL_THE_TIME, (10, END))
@example([Change(1, "down", "up"), Change(2, "up", "up")], [(1, 3)], (1, 3))  # nothing lies before it
def test_the_figures_equal_those_of_a_walk_second_by_second(
    changes: list[Change], watched: list[tuple[int, int]], window: tuple[int, int]
) -> None:
    world, (since, until) = World(), window
    ordered = sorted(changes, key=lambda change: change.at)
    for change in ordered:
        world.changes(change)
    for begin, end in watched:
        world.watches(begin, end)
    told = figures(past_of(watched, *ordered), since, until, budget=8)
    assert_same(told, world.figures(since, until, 8))
    absent = sum(s.change is not None and s.change.wanted == "down" for s in world.seconds[since:until])
    assert told.watched_seconds + told.unknown_seconds + absent == until - since


@st.composite
def acts(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """What a monitor does while its clock runs on, and now and then is set back."""
    clock, done = draw(st.integers(0, 3)), []
    for name in draw(st.lists(st.sampled_from(["watching", "watching", "state", "state", "begin", "flush", "reopen"]))):
        clock = max(0, min(END - 1, clock + draw(st.sampled_from([0, 1, 1, 2, 3, 3, -1, -2, -9]))))
        if name == "state":
            done.append((name, draw(changes_at(st.just(clock)))))
        else:
            done.append((name, clock))
    return done


class Told:
    """A History and the reference told the same. The clock of the acts runs forth and back."""

    def __init__(self, path: str) -> None:
        self.path, self.history, self.world = path, History(path), World()
        self.began: int | None = None
        self.ended = 0
        self.latest = -math.inf
        self.last: Change | None = None

    def begin(self, at: int) -> None:
        self.history.begin(at)
        self._began(at)

    def _began(self, at: int) -> None:
        if at < self.latest and self.last:
            again = Change(at, self.last.state, self.last.wanted, self.last.planned, self.last.why)
            self.world.changes(again)
            self.last = again
        self.began = self.ended = self.latest = at
        self.world.watches(at, at)

    def watching(self, at: int) -> None:
        self.history.watching(at)
        if self.began is None or at < self.ended - 1:
            self._began(at)
        self.ended = max(self.ended, at)
        self.latest = max(self.latest, at)
        self.world.watches(int(self.began or 0), self.ended)

    def state(self, change: Change) -> None:
        self.history.state(change.at, "recon-api", change.state, change.wanted, change.planned, change.why)
        self.last = change
        self.latest = max(self.latest, change.at)
        self.world.changes(change)

    def flush(self, _: None) -> None:
        self.history.flush()

    def reopen(self, _: None) -> None:
        """Another monitor takes over; the first thing it does is to begin."""
        self.history.close()
        assert (self.history.fault, self.history.dropped) == ("", 0)
        self.history = History(self.path)
        self.latest, self.last, self.began = -math.inf, None, None


@searching
@settings(max_examples=examples(120), deadline=None)
@given(acts(), windows())
def test_the_figures_are_right_for_what_was_written_while_the_clock_was_set_back(
    acts: list[tuple[str, Any]], window: tuple[int, int]
) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        told = Told(f"{folder}/history.db")
        for name, argument in acts:
            getattr(told, name)(argument)
        told.history.close()
        since, until = window
        seen = figures(read(told.path, since, until), since, until, budget=8)
        assert_same(seen, told.world.figures(since, until, 8))


# -- stories ----------------------------------------------------------------------------------------------------


def test_a_service_never_heard_of_is_unknown_and_nothing_is_claimed() -> None:
    told = figures(Past(), 100, 160)
    assert (told.uptime_percent, told.watched_seconds, told.unknown_seconds) == (None, 0, 60)
    assert (told.outages, told.recovery_worst, told.met_uptime, told.met_recovery) == (0, None, None, None)
    assert (told.response_p50, told.cpu_percent, told.rss, told.reasons) == (None, None, None, {})


def test_an_outage_from_before_the_window_is_measured_from_its_true_beginning() -> None:
    story = [Change(0, "up", "up"), Change(40, "down", "up"), Change(60, "starting", "up"), Change(101, "up", "up")]
    told = figures(past_of([(0, 200)], *story), 100, 200)
    assert (told.outages, told.recovery_worst, told.met_recovery) == (1, 61, False)
    assert told.uptime_percent == 99.0


def test_an_open_outage_has_no_recovery_time_but_breaks_the_promise_once_it_is_too_long() -> None:
    story = [Change(0, "up", "up"), Change(90, "hung", "up")]
    assert figures(past_of([(0, 120)], *story), 0, 120).met_recovery is True
    late = figures(past_of([(0, 121)], *story), 0, 121)
    assert (late.outages, late.recovery_median, late.met_recovery) == (1, None, False)
    assert late.ongoing == 31
    assert figures(past_of([(0, 121)], *story), 0, 131).ongoing == 31  # as far as it is known
    assert figures(past_of([(0, 121)], *story), 0, 999).ongoing is None  # nobody has watched since
    assert figures(past_of([(0, 130)], *story, Change(125, "up", "up")), 0, 130).ongoing is None


def test_a_planned_restart_lowers_the_uptime_and_is_no_outage() -> None:
    story = [
        Change(0, "up", "up"),
        Change(50, "stopping", "up", True),
        Change(51, "down", "up", True),
        Change(55, "up", "up"),
    ]
    told = figures(past_of([(0, 100)], *story), 0, 100)
    assert (told.uptime_percent, told.outages, told.met_recovery, told.met_uptime) == (95.0, 0, True, False)


def test_a_planned_restart_that_does_not_come_up_is_an_outage_from_then_on() -> None:
    story = [
        Change(0, "up", "up"),
        Change(10, "down", "up", True),
        Change(12, "down", "up"),
        Change(60, "up", "up"),
    ]
    told = figures(past_of([(0, 100)], *story), 0, 100)
    assert (told.outages, told.recovery_worst, told.met_recovery) == (1, 48.0, False)


def test_time_wanted_down_is_neither_watched_nor_unknown() -> None:
    story = [Change(0, "up", "up"), Change(40, "down", "down", True), Change(90, "up", "up")]
    told = figures(past_of([(0, 50), (80, 100)], *story), 0, 100)
    assert (told.watched_seconds, told.unknown_seconds, told.uptime_percent) == (50, 0, 100.0)


def test_a_held_service_that_is_down_lowers_the_uptime_and_is_no_outage() -> None:
    story = [Change(0, "up", "held"), Change(75, "down", "held")]
    told = figures(past_of([(0, 100)], *story), 0, 100)
    assert (told.uptime_percent, told.outages) == (75.0, 0)


def test_the_shortest_outage_is_never_rounded_up_to_a_hundred() -> None:
    story = [Change(0, "down", "up"), Change(1e-12, "up", "up")]
    told = figures(past_of([(0, 90 * 86400)], *story), 0, 90 * 86400)
    assert told.outages == 1
    assert told.uptime_percent is not None
    assert told.uptime_percent < 100


def test_an_uptime_of_exactly_three_nines_meets_the_promise() -> None:
    story = [Change(0, "up", "up"), Change(500, "down", "up"), Change(501, "up", "up")]
    assert figures(past_of([(0, 1000)], *story), 0, 1000).met_uptime is True
    assert figures(past_of([(0, 999)], *story), 0, 999).met_uptime is False


def test_restarts_are_those_of_the_window_and_counted_by_their_reason() -> None:
    events = (
        Event(5, "recon-api", "restart", "died: before the window"),
        Event(10, "recon-api", "restart", "died: exit status 1"),
        Event(11, "pg-api", "restart", "died: another service"),
        Event(12, "recon-api", "died", "no restart"),
        Event(13, "recon-api", "restart", "hung: no answer on GET /health"),
        Event(14, "recon-api", "restart", "died: killed by SIGKILL"),
        Event(20, "recon-api", "restart"),
    )
    told = figures(Past(events=events), 10, 20)
    assert (told.restarts, told.reasons) == (4, {"died": 2, "hung": 1, "no reason given": 1})


def test_the_order_of_the_services_is_the_callers() -> None:
    assert [one.name for one in kpis(Past(), [("b", 30), ("a", 20)], 0, 1)] == ["b", "a"]


def test_use_is_handed_on(tmp_path: Path) -> None:
    use = Use(Responses((0.3, 0.1, 0.2)), 1.5, 4096)
    told = figures(Past(use={"recon-api": use}), 0, 1)
    assert (told.response_p50, told.response_p95, told.response_p99) == (0.2, 0.3, 0.3)
    assert (told.cpu_percent, told.rss) == (1.5, 4096)


# -- percentiles ------------------------------------------------------------------------------------------------


def nearest_rank(values: list[float], percent: int) -> float:
    """By its definition: the smallest value such that at least `percent` % of all are not larger."""
    return min(v for v in values if sum(other <= v for other in values) * 100 >= percent * len(values))


times_of_answers = st.floats(1e-6, 1e6, allow_nan=False)


@searching
@settings(max_examples=examples(100), deadline=None)
@given(st.lists(times_of_answers, max_size=40), st.lists(times_of_answers, max_size=40))
def test_percentiles_are_exact_for_raw_and_within_two_percent_for_thinned(
    raw: list[float], thinned: list[float]
) -> None:
    buckets: dict[int, int] = {}
    for value in thinned:
        buckets[bucket_of(value)] = buckets.get(bucket_of(value), 0) + 1
    told = Responses(tuple(raw), buckets).percentiles(50, 95, 99)
    for percent, seen in zip((50, 95, 99), told, strict=True):
        if not raw + thinned:
            assert seen is None
        elif not thinned:
            assert seen == nearest_rank(raw, percent)
        else:
            assert seen is not None
            assert math.isclose(seen, nearest_rank(raw + thinned, percent), rel_tol=0.02)


@searching
@settings(max_examples=examples(100))
@given(times_of_answers)
def test_a_bucket_stands_for_its_values(value: float) -> None:
    assert abs(value_of(bucket_of(value)) - value) <= value * (GROWTH - 1) / (GROWTH + 1) * (1 + 1e-9)


def test_impossible_times_have_a_bucket_too() -> None:
    assert bucket_of(0.0) == bucket_of(-1.0) == bucket_of(1e-6)
    assert bucket_of(math.inf) == bucket_of(1e6)
