"""Which alerts are told: stories, and random histories held against the rules in plain words.

Nothing but values here: what is told is decided from who is ill, who needs whom and the time.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ops.watch.causes import ALIKE, Causes, Telling
from tests.fuzzing import examples, searching

LINGER = 15.0  # seconds that a dependent has to come back by itself once its need is well
NEEDS: dict[str, tuple[str, ...]] = {
    "bank": (),
    "pg": (),
    "recon": ("bank", "pg"),
    "overview": ("recon",),
    "frontend": ("overview",),
    "mailer": (),
}
LATER = ALIKE + 0.1  # seconds after falling ill: nobody else has fallen ill with it
LONELY: dict[str, tuple[str, ...]] = dict.fromkeys("abcdefg", ())


def said(tellings: list[Telling]) -> list[tuple[str, str]]:
    return [(one.severity, one.service) for one in tellings]


def test_a_lonely_alert_is_told_once_and_resolved_once() -> None:
    causes = Causes(NEEDS)
    causes.began("bank", 0)
    assert said(causes.alert("bank", "given up", LATER, set())) == [("critical", "bank")]
    assert causes.tick(LATER + 1, {"bank"}) == []
    assert said(causes.resolved("bank", "well again")) == [("resolved", "bank")]
    assert causes.resolved("bank", "well again") == []


def test_of_an_outage_that_was_told_nothing_is_told_but_its_end() -> None:
    causes = Causes(NEEDS)
    causes.began("recon", 0)
    assert said(causes.tell("recon", "its new definition is not well")) == [("critical", "recon")]
    assert causes.tell("recon", "not running") == []
    assert causes.alert("recon", "not back within 30 s", 30, set()) == []
    assert said(causes.resolved("recon", "well again")) == [("resolved", "recon")]
    assert said(causes.tell("recon", "not running")) == [("critical", "recon")]


def test_nothing_is_resolved_that_was_never_told() -> None:
    causes = Causes(NEEDS)
    causes.began("recon", 0)
    assert causes.alert("recon", "unhealthy", 1, {"bank"}) == []
    assert causes.resolved("recon", "well again") == []
    assert causes.tick(100, {"recon"}) == []  # and what was resolved is held back no longer


def test_f49_of_an_outage_of_a_need_its_dependents_however_far_away_are_not_told() -> None:
    causes = Causes(NEEDS)
    causes.began("pg", 0)
    assert said(causes.alert("pg", "given up", LATER, set())) == [("critical", "pg")]
    for number, name in enumerate(("recon", "overview", "frontend")):
        causes.began(name, 10 * number + 10)
        assert causes.alert(name, "unhealthy", 10 * number + 10, {"pg", "recon", "overview"} - {name}) == []
    assert said(causes.alert("mailer", "given up", 40, {"pg", "recon"})) == [("critical", "mailer")]  # needs nobody
    assert causes.tick(100, {"pg", "recon", "overview", "frontend", "mailer"}) == []


def test_what_was_held_back_is_told_when_its_cause_has_gone_for_15_s_and_it_is_still_ill() -> None:
    causes = Causes(NEEDS)
    causes.alert("recon", "given up", 0, {"bank"})
    assert causes.tick(50, {"bank", "recon"}) == []
    assert causes.tick(50 + LINGER - 0.1, {"recon"}) == []
    (told,) = causes.tick(50 + LINGER, {"recon"})
    assert told == Telling("critical", "recon", "given up", "recon")
    assert causes.tick(500, {"recon"}) == []
    assert said(causes.resolved("recon", "well again")) == [("resolved", "recon")]


def test_a_cause_that_comes_back_begins_the_15_s_anew() -> None:
    causes = Causes(NEEDS)
    causes.alert("recon", "given up", 0, {"bank"})
    assert causes.tick(10, {"recon"}) == []
    assert causes.tick(14, {"recon", "bank"}) == []
    assert causes.tick(28, {"recon"}) == []
    assert said(causes.tick(29, {"recon"})) == [("critical", "recon")]


def test_f3_who_was_well_for_a_moment_while_it_was_held_back_is_not_forgotten() -> None:
    """It flaps: its alert is not over when it is up for a second, and it is not alerted again."""
    causes = Causes(NEEDS)
    causes.alert("recon", "not well after 4 restarts", 0, {"bank"})
    assert causes.tick(1, {"bank", "recon"}) == []
    assert causes.tick(2, {"bank"}) == []
    assert causes.tick(60, set()) == []  # nobody is told of one that is up
    assert said(causes.tick(61, {"recon"})) == [("critical", "recon")]


def test_f50_many_at_once_are_one_event_the_critical_ones_first() -> None:
    causes = Causes(LONELY, {"e", "c"})
    for number, name in enumerate("abcde"):
        causes.began(name, number / 10)
    (told,) = causes.tick(0.5, set("abde"))  # c is well again already
    assert (told.severity, told.service, told.key) == ("critical", "", "mass")
    assert told.text == "5 services failed at once: c, e, a, b, d"
    assert causes.alert("a", "given up", 6, set("bcde")) == []
    assert said(causes.alert("e", "not well", 6, set("abcd"))) == [("critical", "e")]
    assert causes.tick(7, set("abcd")) == []
    (told,) = causes.tick(8, set())
    assert (told.severity, told.text, told.key) == ("resolved", "all 5 are well again", "mass")
    assert causes.tick(9, set()) == []


def test_f50_many_that_are_alerted_as_they_fall_ill_are_told_of_as_one() -> None:
    """Wrong answers are alerted at once: not one by one before it is seen how many there are."""
    causes = Causes(LONELY, {"a"})
    for number, name in enumerate("abcd"):
        causes.began(name, number)
        assert causes.alert(name, "unhealthy", number, set("abcd") - {name}) == []
    assert said(causes.tick(3, set("abcd"))) == [("critical", "")]
    assert said(causes.tick(LATER, set("abcd"))) == [("critical", "a")]  # the critical one besides
    assert said(causes.resolved("a", "well again")) == [("resolved", "a")]
    assert causes.tick(9, set("bcd")) == []
    assert said(causes.tick(10, set())) == [("resolved", "")]


def test_f49_those_that_follow_from_one_seconds_later_make_no_event_of_it() -> None:
    causes = Causes(NEEDS)
    for number, name in enumerate(("bank", "recon", "overview", "frontend")):
        causes.began(name, number)
        assert causes.tick(number, {"bank"}) == []


def test_one_that_is_alerted_as_it_falls_ill_is_told_of_a_little_later_unless_it_is_over() -> None:
    causes = Causes(LONELY)
    for name in "ab":
        causes.began(name, 0)
        assert causes.alert(name, "unhealthy", 0, set()) == []
    assert causes.resolved("b", "well again") == []
    assert causes.tick(1, {"a"}) == []
    assert said(causes.tick(LATER, {"a"})) == [("critical", "a")]
    assert causes.tick(LATER + 1, {"a"}) == []


def test_f15_the_next_one_takes_up_what_was_told() -> None:
    before = Causes(LONELY)
    for number, name in enumerate("abcd"):
        before.began(name, number / 10)
    before.tick(1, set("abcd"))
    assert said(before.alert("g", "given up", 5, set("abcd"))) == [("critical", "g")]
    causes = Causes(LONELY)
    assert causes.recall(before.memory()) == ["g", "a", "b", "c", "d"]
    assert causes.is_told("g")
    assert not causes.is_told("a")
    assert causes.tick(6, set("abcdg")) == []
    assert said(causes.resolved("g", "well again")) == [("resolved", "g")]
    assert said(causes.tick(8, set())) == [("resolved", "")]


def test_failures_that_lie_apart_are_no_mass() -> None:
    causes = Causes(LONELY)
    for number, name in enumerate("abcdefg"):
        causes.began(name, number * (ALIKE / 2 + 0.01))
        assert causes.tick(number * (ALIKE / 2 + 0.01), set("abcdefg")) == []


def test_who_fails_again_and_again_is_no_mass() -> None:
    causes = Causes(LONELY)
    for number in range(20):
        causes.began("a", number / 10)
    assert causes.tick(2, {"a"}) == []


def test_of_twelve_hundred_at_once_twelve_are_named() -> None:
    names = {f"s{number:04}": () for number in range(1200)}
    causes = Causes(names, {"s1199"})
    for name in names:
        causes.began(name, 0.5)
    (told,) = causes.tick(1, set())
    assert told.text.startswith("1200 services failed at once: s1199, s0000, s0001,")
    assert told.text.endswith("s0010 and 1188 more")
    assert said(causes.tick(3, set())) == [("resolved", "")]


def test_f50_who_fails_long_after_a_mass_failure_that_is_not_over_is_told() -> None:
    """One that never came back must not swallow what happens to all the others from then on."""
    causes = Causes(LONELY)
    for name in "abcd":
        causes.began(name, 0)
    causes.tick(1, set("abcd"))
    causes.tick(2, {"d"})  # d was given up
    causes.began("g", 3600)
    assert said(causes.alert("g", "given up", 3630, {"d"})) == [("critical", "g")]
    causes.began("a", 7200)  # a member that had come back
    assert said(causes.alert("a", "given up", 7230, {"d", "g"})) == [("critical", "a")]
    assert said(causes.tick(7231, {"g", "a"})) == [("resolved", "")]


@pytest.mark.parametrize("order", ["dg", "gd"])
def test_f50_who_fails_as_a_member_of_an_old_event_flickers_is_told(order: str) -> None:
    """Between two ticks the member is well and ill again: what failed an hour ago has not drawn in another one."""
    causes = Causes(LONELY)
    for name in "abcd":
        causes.began(name, 0)
    assert said(causes.tick(1, set("abcd"))) == [("critical", "")]
    assert causes.tick(3599, {"d"}) == []
    for name in order:
        causes.began(name, 3600)
    assert causes.tick(3601, {"d", "g"}) == []
    assert said(causes.alert("g", "given up", 3630, {"d"})) == [("critical", "g")]


def test_a_member_that_is_left_when_the_event_is_over_is_not_told_twice() -> None:
    causes = Causes(LONELY)
    for name in "abcd":
        causes.began(name, 0)
    assert said(causes.tick(1, set("abcd"))) == [("critical", "")]
    assert causes.alert("d", "given up", 30, set("abc")) == []
    assert causes.tick(31, {"d"}) == []
    assert causes.tick(200, {"d"}) == []  # the event, of which it is what is left, was told and not resolved
    assert said(causes.tick(3600, {"d"})) == [("critical", "d")]  # but nothing is held back for ever
    assert said(causes.tick(3601, set())) == [("resolved", "")]


def test_f47_what_is_known_outlives_a_change_of_the_inventory() -> None:
    causes = Causes(NEEDS)
    assert said(causes.alert("mailer", "given up", 0, set())) == [("critical", "mailer")]
    causes.alert("recon", "given up", 0, {"bank"})
    causes = Causes(NEEDS, (), causes)
    assert said(causes.resolved("mailer", "well again")) == [("resolved", "mailer")]
    assert said(causes.tick(LINGER, {"recon"})) == [("critical", "recon")]
    for name in ("bank", "pg", "mailer"):
        causes.began(name, 100)
    causes = Causes(NEEDS, (), causes)
    assert said(causes.tick(101, {"bank"})) == [("critical", "")]
    causes = Causes(NEEDS, (), causes)
    assert said(causes.tick(102, set())) == [("resolved", "")]


def test_a_service_that_the_inventory_no_longer_names_is_forgotten() -> None:
    causes = Causes(NEEDS)
    causes.alert("recon", "given up", 0, {"bank"})
    causes = Causes({"bank": ()}, (), causes)
    assert causes.tick(100, {"recon"}) == []
    assert causes.tick(200, {"recon"}) == []


class Histories(RuleBasedStateMachine):
    """Services fall ill, are alerted and get well as the monitor tells it, a second at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.causes = Causes(NEEDS, {"recon"})
        self.now = 1000.0
        self.ill: dict[str, float] = {}  # since when
        # The same; who was well between two ticks has not come back, and may have fallen ill more than once.
        self.seen_ill: dict[str, list[float]] = {}
        self.alerted: set[str] = set()
        self.open: set[str] = set()  # told critical and not resolved; "" is the mass
        self.unexplained: dict[str, float] = {}  # since when no need of it is ill, of those alerted and ill
        self.begun: list[tuple[float, str]] = []

    def hear(self, tellings: list[Telling]) -> None:
        for one in tellings:
            name = one.service
            if one.severity == "resolved":
                assert name in self.open, f"{one} of what was never told"
                self.open.discard(name)
                continue
            assert name == "" or name not in self.open, f"{one} twice"
            assert name == "" or name in self.ill, f"{one} of one that is well"
            assert name == "" or not self.needs_ill(name), f"{one}, and its need is ill"
            self.open.add(name)

    def needs_ill(self, name: str) -> bool:
        return any(need in self.ill or self.needs_ill(need) for need in NEEDS[name])

    @precondition(lambda self: len(self.ill) < len(NEEDS))
    @rule(data=st.data(), later=st.sampled_from([0.0, 0.3, 3.0]))
    def falls_ill(self, data: st.DataObject, later: float) -> None:
        self.now += later
        name = data.draw(st.sampled_from(sorted(NEEDS.keys() - self.ill.keys())))
        self.ill[name] = self.now
        self.seen_ill.setdefault(name, []).append(self.now)
        self.begun.append((self.now, name))
        self.causes.began(name, self.now)

    @precondition(lambda self: self.ill.keys() - self.alerted)
    @rule(data=st.data())
    def is_alerted(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.ill.keys() - self.alerted)))
        self.alerted.add(name)
        self.hear(self.causes.alert(name, "text", self.now, self.ill.keys() - {name}))

    @precondition(lambda self: self.ill)
    @rule(data=st.data())
    def gets_well(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.ill)))
        del self.ill[name]
        self.unexplained.pop(name, None)
        if name in self.alerted:
            self.alerted.discard(name)
            self.hear(self.causes.resolved(name, "well again"))
            assert name not in self.open

    @rule(seconds=st.sampled_from([1, 2, 5, 20]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.hear(self.causes.tick(self.now, set(self.ill)))
            self.seen_ill = {name: at for name, at in self.seen_ill.items() if name in self.ill}
            for name in NEEDS:
                if name not in self.ill or name not in self.alerted or self.needs_ill(name):
                    self.unexplained.pop(name, None)
                else:
                    self.unexplained.setdefault(name, self.now)
            self.nobody_is_forgotten()

    @rule()
    def inventory_changes(self) -> None:
        self.causes = Causes(NEEDS, {"recon"}, self.causes)

    def nobody_is_forgotten(self) -> None:
        """Whoever is ill and alerted with nobody to blame is told of in time, unless it fell ill with many others."""
        for name, since in self.unexplained.items():
            if self.now - since > LINGER + 1 and not self.with_many(name):
                assert name in self.open, f"{name} was never told"

    def with_many(self, name: str) -> bool:
        """Whether others fell ill about when it did, each within ALIKE of the next."""
        return name != "recon" and "" in self.open and any(self.many_at(at) for at in self.seen_ill[name])

    def many_at(self, at: float) -> bool:
        others: set[str] = set()
        low = high = at
        for moment, other in sorted(self.begun, key=lambda pair: abs(pair[0] - at)):
            if low - ALIKE <= moment <= high + ALIKE:
                low, high, others = min(low, moment), max(high, moment), others | {other}
        return len(others) >= 3

    @invariant()
    def all_is_resolved_when_all_are_well(self) -> None:
        if not self.ill:
            assert self.open <= {""}  # the mass is told by the next tick

    def teardown(self) -> None:
        for name in list(self.ill):
            del self.ill[name]
            if name in self.alerted:
                self.hear(self.causes.resolved(name, "well again"))
        for later in (1, 2):  # a mass may be told at first
            self.hear(self.causes.tick(self.now + later, set()))
        assert not self.open


Histories.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
TestHistories = searching(Histories.TestCase)
