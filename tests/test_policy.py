"""The policy, told as stories: what comes to be known of a service, and what is decided, line by line.

A line is `MOMENT READING -> DECISIONS = STATE`. Without an arrow nothing is decided, without `=` the state is not
looked at. Between the lines the clock ticks whenever the policy has asked for it, and nothing may be decided that the
story does not tell: what comes of time alone stands on a line with the reading `tick`.

    0 found ready = up                it runs and is well      5 bad health      a wrong answer of the probe `health`
    0 found anew                      a command started it     5 excused health  the same while a need is not up
    5 died exit 1 -> restart          it is gone               5 silent health   nobody answered
    5 died exit 1, patience 9         a command is at it       5 unsure health   the asking itself failed
    5 ended by kill-port              ... and leaves the rest to the monitor
    5 started; 5 failed no memory     a restart is over        5 ok health       passed
    5 refused nginx; 5 other 9        ... or came to nothing   5 want held; 5 want up, patience 9; 5 used 700; 5 need pg
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from ops.inventory import load
from ops.model import Probe, Service
from ops.watch.policy import ALIVE_FOR, Decision, Rules, Watch, decide, next_moment, rules_of
from ops.watch.readings import (
    Acted,
    Answered,
    Died,
    Found,
    Freed,
    NeedRestarted,
    Reading,
    Redefined,
    Taken,
    Tick,
    Used,
    Wished,
)

(HOST,) = load(Path(__file__).resolve().parents[1] / "inventory.yaml").hosts
SHIPPED = {service.name: rules_of(service) for service in HOST.services}
MIB = 2**20

PLAIN = Rules(gating=frozenset({"health"}))  # the numbers of the runbook; `jobs` is a probe that restarts nothing
CRITICAL = replace(PLAIN, critical=True)
RECON = replace(SHIPPED["recon-api"], gating=frozenset({"health"}))
OVERVIEW = replace(SHIPPED["overview-api"], gating=frozenset({"health"}))


def story(rules: Rules, *lines: str, watch: Watch | None = None) -> Watch:
    """The watch at the end of it."""
    watch = watch or Watch(rules)
    for line in lines:
        told, _, state = line.partition(" = ")
        told, _, decisions = told.partition(" -> ")
        moment, _, words = told.strip().partition(" ")
        now = float(moment)
        watch = _pass_time(watch, now, line)
        if words == "tick" and decisions:
            assert next_moment(watch) == now, f"{line!r}: the clock was to tick at {next_moment(watch)}"
        before = watch
        watch, decision = decide(watch, _reading(words.strip(), rules), now)
        _compare(decision, decisions.strip(), line)
        assert not state or watch.state == state.strip(), f"{line!r}: it is {watch.state}"
        assert (next_moment(watch) or now + 1) > now, f"{line!r}: the clock would spin, {before} became {watch}"
    return watch


def _pass_time(watch: Watch, until: float, line: str) -> Watch:
    moment = next_moment(watch)
    while moment is not None and moment < until:
        watch, decision = decide(watch, Tick(), moment)
        assert decision == Decision(), f"before {line!r}, at {moment:g}: {decision}"
        was, moment = moment, next_moment(watch)
        assert moment is None or moment > was, f"before {line!r}: the clock would spin at {was:g}"
    return watch


def _reading(words: str, rules: Rules) -> Reading:
    words, _, patience = words.partition(", patience ")
    verb, _, rest = words.partition(" ")
    patient = float(patience or 0)
    if verb in ("ok", "bad", "silent", "excused", "unsure"):
        verdict = {"ok": True, "unsure": None}.get(verb, False)
        excused = verb == "excused" or rest.endswith(", excused")
        probe = rest.removesuffix(", excused")
        return Answered(probe, verdict, "status 500", probe in rules.gating, verb == "silent", excused)
    made: dict[str, Reading] = {
        "found": Found("ready" in rest, "anew" in rest),
        "died": Died(rest, patient),
        "ended": Died(rest, commanded=True),
        "want": Wished(rest, patient),  # type: ignore[arg-type]
        "taken": Taken(rest),
        "freed": Freed(),
        "used": Used(int(rest) * MIB if rest.isdigit() else 0),
        "need": NeedRestarted(rest),
        "started": Acted("started"),
        "failed": Acted("failed", rest),
        "refused": Acted("taken", rest),
        "redefined": Redefined("its definition has changed"),
        "other": Acted("other", "busy", float(rest) if rest.isdigit() else 0),
        "tick": Tick(),
    }
    return made[verb]


def _compare(decision: Decision, told: str, line: str) -> None:
    """`told` names all of it: `restart`, `confirm` and `resolved` alone, `alert` with a part of its words."""
    wanted = [part.strip() for part in told.split("+")] if told else []
    made = [] if decision.do == "nothing" else [decision.do]
    made += ["alert"] if decision.alert else []
    made += ["resolved"] if decision.resolved else []
    assert [part.partition(" ")[0] for part in wanted] == made, f"{line!r}: {decision}"
    for part in wanted:
        if part.startswith("alert"):
            assert part.partition(" ")[2] in decision.alert, f"{line!r}: {decision}"
        if part.startswith("restart"):
            assert part.partition(" ")[2] in decision.why, f"{line!r}: {decision}"


# -- death -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed by SIGKILL", "exit 0"])
def test_f1_f4_a_death_is_answered_at_once_and_nobody_is_woken(how: str) -> None:
    story(
        RECON,
        "0 found ready = up",
        f"100 died {how} -> restart {how}",
        "100.1 started = starting",
        "100.3 ok health = up",
        "5000 tick",
    )


def test_f2_a_crash_loop_ends_given_up_with_one_alert() -> None:
    """The pauses of the runbook, a budget that is not over before the attempts are."""
    story(
        replace(PLAIN, budget=100),
        "0 found ready",
        "100 died exit 1 -> restart exit 1",
        "100.1 started",
        "100.2 died exit 1",
        "110 tick -> restart",
        "110.1 started",
        "110.2 died exit 1",
        "120 tick -> restart",
        "120.1 started",
        "120.2 died exit 1",
        "130 tick -> restart",
        "130.1 started",
        "130.2 died exit 1 -> alert given up after 4 restarts: exit 1 = gave-up",
        "130.3 died exit 1",
        "99999 tick = gave-up",
    )


def test_what_a_command_has_ended_for_the_monitor_to_start_is_no_failure() -> None:
    once = ("{0} ended by kill-port -> restart = down", "{0}.1 started = starting", "{0}.2 ok health = up")
    lines = [line.format(moment) for moment in range(5, 50, 5) for line in once]
    watch = story(PLAIN, "0 found ready = up", *lines, "60 died exit 1 -> restart")
    assert watch.attempts == 1


def test_f2_on_shipped_numbers_a_crash_loop_is_alerted_once_as_given_up() -> None:
    story(
        OVERVIEW,
        "0 found ready",
        "100 died exit 1 -> restart",
        "100 started",
        "100 died exit 1",
        "110 tick -> restart",
        "110 started",
        "110 died exit 1",
        "120 tick -> restart",
        "120 started",
        "120 died exit 1",
        "130 tick -> restart",
        "130 started",
        "130 died exit 1 -> alert given up after 4 restarts: exit 1 = gave-up",
        "99999 tick = gave-up",
    )


def test_f2_a_critical_one_is_tried_for_ever_and_more_slowly() -> None:
    story(
        RECON,
        "0 found ready",
        "100 died exit 1 -> restart",
        "100 started",
        "100 died exit 1",
        "110 tick -> restart",
        "110 started",
        "110 died exit 1",
        "120 tick -> restart",
        "120 started",
        "120 died exit 1",
        "130 tick -> restart + alert not back within 30 s",
        "130 started",
        "130 died exit 1",
        "150 tick -> restart",
        "150 started",
        "150 died exit 1",
        "190 tick -> restart",
        "190 started",
        "190 died exit 1",
        "250 tick -> restart",
        "250 started",
        "250 died exit 1",
        "310 tick -> restart",
        "310 failed no such program = down",
        "370 tick -> restart no such program",
        "370 started = starting",
        "371 ok health = up",
        "671 tick -> resolved = up",
        "9999 tick",
    )


def test_f2_a_critical_crash_loop_is_told_when_its_attempts_are_spent() -> None:
    watch = story(
        replace(CRITICAL, budget=100, attempts=1),
        "0 found ready",
        "100 died exit 1 -> restart",
        "100 started",
        "100 died exit 1",
        "110 tick -> restart",
        "110 started",
        "110 died exit 1 -> alert not well after 2 restarts, tried on: exit 1",
        "130 tick -> restart",
    )
    assert watch.flapping


def test_a_gave_up_service_that_is_found_well_is_taken_back() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "100 died exit 1 -> restart",
        "100 started",
        "100.1 died exit 1 -> alert given up after 1 restart: exit 1 = gave-up",
        "500 found ready -> resolved = up",
        "501 died exit 1 -> restart",
    )


RELIEVED = replace(PLAIN, asked=frozenset({"health", "jobs"}))  # by another monitor, in the middle of an outage


def test_f15_what_was_ill_at_a_relief_is_well_once_each_of_its_probes_has_passed() -> None:
    story(
        RELIEVED,
        "1 found ready = unknown",
        "2 ok health = unknown",
        "3 ok jobs -> resolved well again = up",
        watch=Watch(RELIEVED, outage=0.0, alerted=True),
    )


def test_f15_what_is_ill_still_after_a_relief_is_not_told_again() -> None:
    story(
        RELIEVED,
        "1 found ready = unknown",
        "2 ok health = unknown",
        "3 bad jobs -> confirm",
        "4 bad jobs = unhealthy",
        "100 ok jobs -> resolved well again = up",
        watch=Watch(RELIEVED, outage=0.0, alerted=True),
    )


def test_f15_what_hangs_still_after_a_relief_is_restarted() -> None:
    story(
        RELIEVED,
        "1 found ready = unknown",
        "2 silent health -> confirm",
        "3 silent health -> restart = hung",
        "3 started = starting",
        "4 ok health -> resolved well again = up",
        watch=Watch(RELIEVED, outage=0.0, alerted=True),
    )


def test_f47_what_a_command_starts_anew_has_its_new_definition_already() -> None:
    watch = story(PLAIN, "0 found ready", "1 want down", "1 died exit 0 = down", "5 redefined = down")
    assert watch.redefined
    story(PLAIN, "9 found anew = starting", "9 want up = starting", "10 ok health = up", watch=watch)


def test_one_that_a_command_has_ended_is_stopped_whatever_it_died_of() -> None:
    watch = story(PLAIN, "0 found ready", "9 want down", "9 died exit 0 = down")
    assert watch.why == "stopped"


def test_a_gave_up_service_that_turns_well_is_taken_back() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "100 died exit 1 -> restart",
        "100 started",
        "132 tick -> alert not back within 30 s",
        "160 tick = gave-up",
        "170 bad health -> confirm = gave-up",
        "171 bad health",
        "200 ok health -> resolved = up",
        "201 died exit 1 -> restart",
    )


def test_a_gave_up_service_that_is_started_by_a_command_is_taken_back_once_it_is_well() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died exit 1 -> restart",
        "1 failed no such program -> alert given up = gave-up",
        "9 found anew = starting",
        "10 ok health -> resolved = up",
        "11 died exit 1 -> restart",
    )


def test_with_two_probes_one_that_passes_does_not_take_it_back() -> None:
    """`home` always passes, `health` never: else it would be given up and taken back for ever."""
    story(
        replace(PLAIN, attempts=0, gating=frozenset({"home", "health"})),
        "0 found",
        "1 ok home = starting",
        "60 tick -> restart start: not well within 60 s",
        "61 started",
        "62 ok home = starting",
        "92 tick -> alert not back within 30 s",
        "121 tick = gave-up",
        "130 ok home = gave-up",
        "131 ok health -> resolved = up",
    )


def test_a_start_that_is_wanted_anew_forgives_what_was_given_up() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died exit 1 -> restart",
        "1 failed no such program -> alert given up = gave-up",
        "50 want up, patience 5 = down",
        "55 tick -> restart",
        "55 started",
        "56 ok health -> resolved = up",
    )


def test_f3_one_that_dies_every_20_s_is_flapping() -> None:
    story(
        OVERVIEW,
        "0 found ready",
        "20 died exit 1 -> restart",
        "20 started",
        "21 ok health = up",
        "40 died exit 1 -> restart",
        "40 started",
        "41 ok health = up",
        "60 died exit 1 -> restart",
        "60 started",
        "61 ok health = up",
        "80 died exit 1 -> restart",
        "80 started",
        "81 ok health = up",
        "100 died exit 1 -> alert given up after 4 restarts = gave-up",
    )


@pytest.mark.parametrize("every", [20, 70, 290])
def test_f3_a_critical_one_that_dies_again_and_again_is_alerted_once_until_it_is_calm(every: int) -> None:
    """Even when each outage for itself is short, and each restart may come at once."""
    watch, alerts = decide(Watch(CRITICAL), Found(ready=True), 0)[0], []
    for round_ in range(1, 20):
        watch, decision = decide(watch, Died("exit 1"), now := float(every * round_))
        told = [decision.alert]
        if decision.do != "restart":
            now = float(next_moment(watch) or 0)
            watch, decision = decide(watch, Tick(), now)
            told.append(decision.alert)
        assert decision.do == "restart"
        for reading in (Acted("started"), Answered("health", True)):
            watch, decision = decide(watch, reading, now)
            told += [decision.alert, decision.resolved]
        alerts += [(round_, one) for one in told if one]
    assert [round_ for round_, _ in alerts] == [5], alerts
    assert "tried on: exit 1" in alerts[0][1]
    assert next_moment(watch) == now + 300
    assert decide(watch, Tick(), now + 300)[1].resolved == "well again"


def test_a_calm_spell_forgives_the_attempts() -> None:
    rules = replace(PLAIN, attempts=0)
    story(rules, "0 found ready", "1 died x -> restart", "1 started", "1 ok health", "300 died x -> alert given up")
    story(rules, "0 found ready", "1 died x -> restart", "1 started", "1 ok health", "302 died x -> restart")


def test_the_calm_spell_counts_only_time_in_which_it_was_up() -> None:
    told = (
        "0 found ready",
        "1 died x -> restart",
        "1 started",
        "1 ok health = up",
        "200 bad jobs -> confirm",
        "201 bad jobs -> alert = unhealthy",
        "210 ok jobs -> resolved = up",
    )
    assert story(PLAIN, *told, "509 tick").attempts == 1
    assert story(PLAIN, *told, "510 tick").attempts == 0


def test_the_second_restart_waits_for_its_delay_and_not_for_longer() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "3 started",
        "3 ok health",
        "6 died x = down",
        "11 tick -> restart",
        "11 started",
        "11 ok health",
        "25 died x -> restart",
    )


def test_a_delay_that_is_longer_than_the_slowest_retry_stands() -> None:
    rules = replace(CRITICAL, attempts=0, delay=90, retry_max=60, budget=1000)
    watch = story(rules, "0 found ready", "1 died x -> restart", "1 failed x -> alert tried on")
    assert watch.due == 91


def test_without_a_delay_a_critical_one_is_slowed_down_all_the_same() -> None:
    story(
        replace(CRITICAL, attempts=1, delay=0, budget=1000),
        "0 found ready",
        "1 died x -> restart",
        "1 failed x -> restart",
        "1 failed x -> alert tried on",
        "3 tick -> restart",
        "3 failed x",
        "7 tick -> restart",
        "7 failed x",
        "15 tick -> restart",
    )


def test_a_critical_one_is_still_tried_after_a_year_of_failing() -> None:
    watch = Watch(CRITICAL, state="down", attempts=500_000, alerted=True, outage=0.0, last_try=1e7)
    watch, decision = decide(watch, Died("exit 1"), 1e7)
    assert (decision, next_moment(watch)) == (Decision(), 1e7 + 60)


# -- silence and wrong answers -----------------------------------------------------------------------------------


def test_f5_a_hang_is_confirmed_and_restarted() -> None:
    watch = story(
        RECON,
        "0 found ready",
        "14 silent health -> confirm = up",
        "17 silent health -> restart health: status 500 = hung",
        "21 started = starting",
        "23 ok health = up",
        "999 tick",
    )
    assert watch.attempts == 0


def test_f7_a_wrong_answer_is_confirmed_and_restarted() -> None:
    story(
        RECON,
        "0 found ready",
        "10 bad health -> confirm = up",
        "11 bad health -> restart = unhealthy",
        "12 started",
        "14 ok health = up",
    )


def test_f9_one_failed_probe_restarts_nothing() -> None:
    story(
        RECON,
        "0 found ready",
        "10 bad health -> confirm",
        "11 ok health = up",
        "20 silent health -> confirm",
        "21 ok health = up",
        "30 bad health -> confirm",
        "31 ok health = up",
        "9999 tick",
    )


def test_which_probe_is_to_be_asked_again_is_said() -> None:
    _, decision = decide(story(PLAIN, "0 found ready"), Answered("health", False), 5)
    assert decision == Decision("confirm", probe="health")


def test_confirm_says_how_often_a_failure_is_doubted() -> None:
    thrice = replace(PLAIN, confirm=3)
    doubted = ["1 bad health -> confirm", "2 bad health -> confirm", "3 bad health -> confirm"]
    story(thrice, "0 found ready", *doubted, "4 bad health -> restart")
    story(thrice, "0 found ready", *doubted, "4 ok health", "5 bad health -> confirm")
    story(replace(PLAIN, confirm=0), "0 found ready", "1 bad health -> restart")


def test_two_probes_are_doubted_each_for_itself() -> None:
    story(
        replace(PLAIN, gating=frozenset({"home", "health"})),
        "0 found ready",
        "1 bad health -> confirm",
        "2 bad home -> confirm",
        "3 ok home = up",
        "4 bad health -> restart",
    )


def test_what_was_doubted_before_a_restart_is_forgotten() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 bad health -> confirm",
        "2 died exit 1 -> restart",
        "3 started",
        "4 ok health = up",
        "5 bad health -> confirm",
    )


def test_f51_a_checker_that_fails_says_nothing() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 bad health -> confirm",
        "2 unsure health",
        "3 unsure health",
        "4 unsure health = up",
        "5 bad health -> restart",
        "6 unsure health",
        "7 started",
        "8 unsure health = starting",
    )


def test_a_probe_that_restarts_nothing_makes_it_unhealthy_and_is_alerted() -> None:
    story(
        RECON,
        "0 found ready",
        "10 bad jobs -> confirm = up",
        "11 silent jobs -> alert unhealthy, jobs: status 500 = unhealthy",
        "300 bad jobs = unhealthy",
        "310 ok health = unhealthy",
        "9999 ok jobs -> resolved = up",
    )


def test_a_probe_that_restarts_nothing_gates_no_start() -> None:
    """The shipped jobs probe is asked every 300 s: a start that it fails would else be a restart after 60."""
    story(
        RECON,
        "0 found = starting",
        "1 bad jobs -> confirm = starting",
        "2 bad jobs = starting",
        "3 ok health -> alert unhealthy = unhealthy",
        "60 tick",
        "300 ok jobs -> resolved = up",
    )


def test_an_ailing_service_that_hangs_is_restarted_all_the_same() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 bad jobs -> confirm",
        "2 bad jobs -> alert = unhealthy",
        "3 silent health -> confirm",
        "4 silent health -> restart = hung",
        "5 started",
        "6 ok health -> resolved = up",
    )


def test_an_unhealthy_service_that_recovers_before_its_restart_is_left_alone() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 bad health -> confirm",
        "5 bad health = unhealthy",
        "6 ok health = up",
        "301 tick",
    )


def test_a_gating_probe_in_doubt_keeps_it_from_being_called_well() -> None:
    story(
        replace(PLAIN, gating=frozenset({"home", "health"}), confirm=2, delay=1000, budget=2000),
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 ok home = up",
        "5 bad home -> confirm",
        "6 bad home -> confirm",
        "7 bad home = unhealthy",
        "8 bad health -> confirm = unhealthy",
        "9 ok home = unhealthy",
        "10 ok health = up",
    )


def test_while_a_need_is_down_wrong_answers_restart_nothing() -> None:
    story(
        RECON,
        "0 found ready",
        "10 excused health -> confirm",
        "11 excused health -> alert unhealthy, health: status 500 = unhealthy",
        "20 excused health -> confirm",
        "21 excused health",
        "50 ok health -> resolved = up",
    )


def test_what_was_excused_is_doubted_anew_once_the_need_is_back() -> None:
    story(
        RECON,
        "0 found ready",
        "10 excused health -> confirm",
        "11 excused health -> alert = unhealthy",
        "20 bad health -> confirm",
        "21 bad health -> restart",
    )


def test_while_a_need_is_down_death_and_silence_do_restart() -> None:
    story(RECON, "0 found ready", "1 silent health, excused -> confirm", "2 silent health, excused -> restart = hung")
    story(RECON, "0 found ready", "1 excused health -> confirm", "2 died exit 1 -> restart")


def test_while_a_need_is_down_a_start_that_answers_wrongly_is_not_repeated() -> None:
    story(
        RECON,
        "0 found = starting",
        "5 excused health = starting",
        "60 tick -> alert unhealthy, start: not well within 60 s: status 500 = unhealthy",
        "90 excused health -> confirm",
        "91 excused health",
        "100 ok health -> resolved = up",
    )


@pytest.mark.parametrize("last", ["bad health", "silent health, excused"])
def test_a_start_whose_last_answer_has_no_excuse_is_judged(last: str) -> None:
    story(RECON, "0 found", "5 excused health", f"7 {last}", "60 tick -> restart start: not well")


# -- starting ----------------------------------------------------------------------------------------------------


def test_f8_a_slow_start_is_not_judged_before_its_deadline_and_is_up_at_the_first_success() -> None:
    story(
        RECON,
        "0 found = starting",
        "2 silent health",
        "4 silent health",
        "6 bad health",
        "30 bad health",
        "59.9 bad health = starting",
        "59.95 ok health = up",
        "9999 tick",
    )


def test_f8_a_start_that_is_not_well_by_its_deadline_is_repeated() -> None:
    story(
        RECON,
        "0 found",
        "2 bad health",
        "60 tick -> restart start: not well within 60 s: status 500 = unhealthy",
        "62 started = starting",
        "90 tick -> alert not back within 30 s, 1 restart so far",
        "122 tick -> restart",
        "123 started",
        "182 ok health -> resolved = up",
    )


def test_f8_after_a_death_a_slow_start_is_told_but_not_killed() -> None:
    story(
        RECON,
        "0 found ready",
        "100 died exit 1 -> restart",
        "101 started",
        "130 tick -> alert not back within 30 s, 1 restart so far: exit 1 = starting",
        "160 ok health -> resolved = up",
    )


def test_it_is_up_when_each_gating_probe_has_passed_once() -> None:
    story(
        replace(PLAIN, gating=frozenset({"home", "health"})),
        "0 found",
        "1 ok home = starting",
        "2 bad home = starting",
        "3 ok jobs = starting",
        "4 ok health = up",
    )


def test_a_service_without_a_probe_has_started_when_it_has_lived_a_moment() -> None:
    worker = Rules()
    story(worker, "0 found = starting", f"{ALIVE_FOR} tick = up")
    story(worker, "0 found = starting", f"{ALIVE_FOR - 0.01} died exit 1 -> restart = down")
    assert next_moment(story(worker, "7 found")) == 7 + ALIVE_FOR


def test_a_moment_is_not_missed_by_a_rounding() -> None:
    """1.15 - 0.9 is less than 0.25 and 1.15 is 0.9 + 0.25: a worker was restarted that had only been started."""
    since = 4095.9
    assert since + ALIVE_FOR - since < ALIVE_FOR
    story(Rules(), f"{since} found", f"{since + ALIVE_FOR!r} tick = up")
    calm = story(
        replace(PLAIN, calm=0.25),
        f"{since - 2} found ready",
        f"{since - 1} died x -> restart",
        f"{since - 1} started",
        f"{since} ok health",
        f"{since + 0.25!r} tick",
    )
    assert calm.attempts == 0
    story(
        replace(PLAIN, budget=0.25),
        "0 found ready",
        f"{since} died x -> restart",
        f"{since + 0.25!r} tick -> alert not back within 0.25 s",
    )


def test_a_death_while_starting_does_not_wait_for_the_deadline() -> None:
    story(
        PLAIN,
        "0 found anew",
        "1 died exit 1 -> restart",
        "1 started",
        "2 died exit 1",
        "11 tick -> restart",
        "12 started",
        "13 ok health = up",
    )


def test_an_adopted_service_is_up_at_its_first_success() -> None:
    story(PLAIN, "0 ok health = up")
    story(PLAIN, "0 bad health -> confirm", "1 bad health -> restart = unhealthy")


# -- what people want --------------------------------------------------------------------------------------------


def test_law_4_what_is_wanted_down_is_left_down() -> None:
    story(
        PLAIN,
        "0 found ready",
        "10 want down",
        "11 died TERM = down",
        "9999 tick",
        "10000 found anew = starting",
        "10001 died exit 1 = down",
        "99999 tick",
    )


@pytest.mark.parametrize("wanted", ["down", "held"])
def test_nothing_is_restarted_that_is_not_wanted_up(wanted: str) -> None:
    story(
        replace(PLAIN, max_rss=100 * MIB, follow_needs=True),
        "0 found ready",
        f"1 want {wanted}",
        "2 used 200",
        "3 need pg",
        "4 bad health -> confirm",
        "5 bad health = unhealthy",
        "6 silent health = hung",
        "7 died exit 1 = down",
        "8 taken nginx = foreign",
        "9 freed = down",
        "10 found = starting",
        "70 tick = unhealthy",
        "9999 tick",
    )


def test_a_pending_restart_is_called_off_by_a_stop() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "1 failed x = down",
        "5 want down",
        "9999 tick",
    )


def test_a_held_service_is_watched_and_taken_back_with_its_attempts_forgiven() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "10 want held = up",
        "20 died x = down",
        "99 want up -> restart x",
        "99 started",
        "100 ok health = up",
    )


def test_a_released_service_that_is_well_is_left_alone() -> None:
    story(PLAIN, "0 found ready", "10 want held", "20 want up = up", "9999 tick")


def test_a_stop_resolves_its_alert() -> None:
    watch = story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "1 failed x -> alert given up = gave-up",
    )
    watch, decision = decide(watch, Wished("down"), 9)
    assert decision == Decision(resolved="no longer wanted up (it is down)")
    assert decide(watch, Tick(), 99)[1] == Decision()


def test_an_outage_ends_with_a_stop_and_begins_anew_with_the_next() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "10 want down",
        "11 died TERM",
        "100 want up -> restart",
        "101 started",
        "130 tick -> alert not back within 30 s, 0 restarts so far",
    )


def test_a_start_leaves_the_command_time() -> None:
    story(PLAIN, "0 want down", "1 died x", "5 want up, patience 15", "20 tick -> restart")
    story(PLAIN, "0 want down", "1 died x", "5 want up, patience 15", "19 found anew", "20 ok health = up", "99 tick")


def test_the_same_wish_again_changes_nothing() -> None:
    story(PLAIN, "0 found ready", "1 died x -> restart", "2 failed x", "3 want up", "11 tick -> restart")


def test_release_does_not_restart_what_only_ails() -> None:
    """A probe that restarts nothing does not restart it by way of hold and release either."""
    story(
        PLAIN,
        "0 found ready",
        "1 want held",
        "2 bad jobs -> confirm",
        "3 bad jobs = unhealthy",
        "9 want up -> alert unhealthy, jobs",
        "20 bad jobs",
        "300 ok jobs -> resolved = up",
    )


def test_release_takes_on_what_hangs() -> None:
    story(
        RECON,
        "0 found ready",
        "1 want held",
        "2 silent health -> confirm",
        "4 silent health = hung",
        "100 want up",
        "101 silent health -> restart = hung",
    )


def test_release_tells_of_a_stranger_on_its_port() -> None:
    story(PLAIN, "0 want held", "1 died x", "2 taken nginx = foreign", "9 want up -> alert held by nginx = foreign")


def test_restart_one_is_not_doubled() -> None:
    story(
        PLAIN,
        "0 found ready",
        "10 died TERM, patience 15 = down",
        "12 found anew = starting",
        "13 ok health = up",
        "9999 tick",
    )


def test_a_command_that_does_not_bring_it_back_is_followed_by_a_restart() -> None:
    story(PLAIN, "0 found ready", "10 died TERM, patience 15", "25 tick -> restart TERM", "26 started", "27 ok health")


def test_a_command_forgives_the_attempts() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 found anew = starting",
        "5 ok health",
        "6 died x -> restart",
    )


def test_what_is_only_found_again_forgives_nothing() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 found ready = up",
        "6 died x -> alert given up = gave-up",
    )


def test_somebody_elses_change_is_waited_for_and_is_no_attempt() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "1 other 5 = down",
        "6 tick -> restart",
        "6 other 5",
        "9 found ready = up",
        "10 died x -> restart",
    )


def test_a_wish_during_a_restart_that_comes_to_nothing_leaves_the_next_one_prompt() -> None:
    """The attempts were forgiven meanwhile: taking this one back must not make them less than none."""
    told = ("0 found ready", "1 died x -> restart", "2 want down", "3 want up")
    story(PLAIN, *told, "4 other 1", "4.5 found ready", "5 died x -> restart")
    watch = story(PLAIN, *told, "4 refused nginx -> alert", "5 taken nginx")
    assert watch.attempts == -1


def test_while_a_restart_is_under_way_nothing_else_is_done() -> None:
    story(
        replace(PLAIN, follow_needs=True, max_rss=100 * MIB),
        "0 found ready",
        "1 silent health -> confirm",
        "2 silent health -> restart",
        "3 silent health",
        "4 died TERM",
        "4 died TERM, patience 3",
        "5 taken nginx",
        "6 freed",
        "7 need pg",
        "8 used 200",
        "9 found ready = down",
        "10 ok health = down",
        "11 want up",
        "12 started = starting",
    )


def test_what_a_failed_restart_has_ended_is_down_and_started_when_it_is_wanted_again() -> None:
    """Were it still called hung, a start would wait for the next probe of what is not there."""
    told = (
        "0 found ready",
        "1 silent health -> confirm",
        "2 silent health -> restart",
        "3 want down",
        "4 died TERM = down",
    )
    story(PLAIN, *told, "5 failed no memory = down", "9 want up -> restart")
    story(PLAIN, *told, "5 other 1 = down", "9 want up -> restart")


def test_what_a_restart_could_not_end_is_still_hung() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 silent health -> confirm",
        "2 silent health -> restart",
        "9 failed unkillable = hung",
        "12 tick -> restart",
    )


def test_the_death_that_a_restart_brings_is_no_failure() -> None:
    story(
        replace(PLAIN, attempts=0, confirm=0),
        "0 found ready",
        "1 silent health -> restart",
        "2 died TERM = down",
        "3 started = starting",
        "4 ok health = up",
    )


def test_a_given_up_service_that_a_command_ends_stays_given_up() -> None:
    told = ("0 found ready", "1 died x -> restart", "1 failed x -> alert given up = gave-up")
    story(replace(PLAIN, attempts=0), *told, "9 died TERM, patience 5 = gave-up", "99 tick")


def test_a_doubt_does_not_hide_a_restart_that_is_due() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 bad health -> confirm",
        "5 bad health = unhealthy",
        "11 bad jobs -> restart = unhealthy",
    )


def test_a_restart_that_was_due_is_forgotten_by_hold() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 bad health -> confirm",
        "5 bad health = unhealthy",
        "6 want held",
        "50 ok health = up",
        "51 want up = up",
        "52 bad health -> confirm",
        "53 ok health",
    )
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 ok health",
        "4 bad health -> confirm",
        "5 bad health = unhealthy",
        "6 want held",
        "50 want up -> alert unhealthy",
        "51 ok health -> resolved",
    )


def test_a_planned_restart_that_takes_long_is_told() -> None:
    story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "10 used 600 -> restart",
        "14 died TERM = down",
        "44 tick -> alert not back within 30 s",
        "50 started",
        "51 ok health -> resolved = up",
    )
    story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "10 used 600 -> restart",
        "14 died TERM = down",
        "15 started",
        "16 ok health = up",
        "44 tick",
    )


def test_in_an_outage_nobody_has_patience() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "3 died x, patience 15 = down",
        "11 tick -> restart",
    )


def test_a_definition_that_changes_while_it_starts_does_not_spin_the_clock() -> None:
    story(
        PLAIN,
        "0 found",
        "1 redefined -> restart",
        "31 tick -> alert not back",
        "61 tick = starting",
        "70 started",
        "71 ok health -> resolved = up",
    )


def test_a_service_that_only_ails_is_not_restarted_for_what_it_did_before() -> None:
    """`health` failed and passes again while `jobs` goes on failing: the restart that was due is called off."""
    story(
        PLAIN,
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "2 ok health",
        "3 bad jobs -> confirm",
        "4 bad jobs -> alert = unhealthy",
        "5 bad health -> confirm",
        "6 bad health",
        "8 ok health = unhealthy",
        "99 tick",
    )


def test_a_gave_up_service_that_turns_well_but_for_what_restarts_nothing_is_taken_back() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "2 started",
        "33 tick -> alert",
        "62 tick = gave-up",
        "63 bad jobs -> confirm",
        "64 bad jobs",
        "65 ok health = unhealthy",
        "66 died x -> restart",
    )


def test_one_failed_look_at_what_restarts_nothing_does_not_spoil_a_start() -> None:
    story(PLAIN, "0 found", "1 bad jobs -> confirm", "2 ok health = up")
    story(PLAIN, "0 found ready", "1 bad jobs -> confirm", "2 found anew", "3 bad jobs -> confirm", "4 ok health = up")


def test_what_was_adopted_ready_needs_no_proof() -> None:
    story(
        PLAIN,
        "0 found",
        "1 found ready = up",
        "2 bad jobs -> confirm",
        "3 bad jobs -> alert",
        "4 ok jobs -> resolved = up",
    )


def test_being_found_again_does_not_begin_the_calm_spell_anew() -> None:
    told = ("0 found ready", "1 died x -> restart", "2 started", "3 ok health", "100 found ready")
    assert story(PLAIN, *told, "302 tick").attempts == 1
    assert story(PLAIN, *told, "303 tick").attempts == 0


def test_hold_and_release_forgive_the_attempts() -> None:
    told = ("0 found ready", "1 died x -> restart", "2 started", "3 ok health", "4 want held", "5 want up = up")
    story(PLAIN, *told, "6 died x -> restart")


FLAPPING = (
    "0 found ready",
    "1 died x -> restart",
    "1 failed x",
    "11 tick -> restart",
    "11 failed x -> alert tried on",
    "31 tick -> restart",
)


def test_a_command_or_a_new_definition_ends_flapping() -> None:
    rules = replace(CRITICAL, attempts=1)
    well = "33 ok health -> resolved = up"
    story(rules, *FLAPPING, "31 started", "32 found anew", well)
    story(rules, *FLAPPING, "31 failed x", "32 redefined -> restart", "32 started", well)
    story(rules, *FLAPPING, "32 started", "33 ok health = up", "333 tick -> resolved")


def test_only_a_restart_that_came_to_nothing_is_taken_back() -> None:
    story(
        replace(PLAIN, attempts=1, budget=999),
        "0 found ready",
        "1 died x -> restart",
        "1 failed x",
        "11 tick -> restart",
        "11 other 5",
        "16 tick -> restart",
        "16 failed x -> alert given up after 2 restarts = gave-up",
    )


def test_a_stranger_on_the_port_is_foreign_even_when_the_attempts_are_spent() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 died x -> restart",
        "1 failed x -> restart",
        "2 started",
        "3 taken nginx -> alert held by = foreign",
    )


def test_an_outage_counts_from_its_beginning_and_not_from_the_death_that_the_restart_brings() -> None:
    story(
        RECON,
        "0 found ready",
        "1 silent health -> confirm",
        "2 silent health -> restart",
        "6 died TERM",
        "32 tick -> alert not back within 30 s",
    )


def test_during_a_planned_restart_nothing_else_is_planned() -> None:
    story(
        replace(PLAIN, max_rss=500 * MIB, follow_needs=True),
        "0 found ready",
        "10 used 600 -> restart",
        "11 bad health = up",
        "12 need pg",
        "13 started = starting",
        "14 ok health = up",
        "99 tick",
    )
    story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "10 used 600 -> restart",
        "11 failed no memory -> restart = down",
    )


def test_a_stop_during_a_restart_holds() -> None:
    story(PLAIN, "0 found ready", "1 died x -> restart", "2 want down", "3 started", "4 died TERM = down", "9999 tick")


def test_a_first_start_is_no_restart() -> None:
    """At boot: the first start, then the first restart at once, then the attempts."""
    story(
        replace(PLAIN, attempts=1, budget=999),
        "0 died not running -> restart not running",
        "0 failed x -> restart",
        "0 failed x = down",
        "10 tick -> restart",
        "10 failed x -> alert given up after 2 restarts: x = gave-up",
    )


def test_a_first_start_that_somebody_else_was_at_is_still_the_first() -> None:
    story(
        replace(PLAIN, attempts=1, budget=999),
        "0 died not running -> restart",
        "0 other 5",
        "5 tick -> restart",
        "5 failed x -> restart",
        "5 failed x = down",
    )


def test_a_changed_definition_begins_with_all_its_attempts() -> None:
    story(
        replace(PLAIN, attempts=1, budget=999),
        "0 found ready",
        "1 died x -> restart",
        "1 failed x",
        "2 redefined -> restart",
        "2 failed x = down",
        "12 tick -> restart",
    )


def test_f47_a_changed_definition_is_taken_up_at_once_whatever_came_before() -> None:
    story(PLAIN, "0 found ready", "1 redefined -> restart its definition has changed", "2 started", "3 ok health = up")
    story(PLAIN, "0 found = starting", "1 redefined -> restart", "2 started = starting")
    story(PLAIN, "0 found ready", "1 died x -> restart", "1 failed x", "2 redefined -> restart", "2 started")
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "1 failed x -> alert",
        "2 redefined -> restart = down",
    )
    story(PLAIN, "0 found ready", "1 want held", "2 redefined = up", "99 want up -> restart")
    story(PLAIN, "0 found ready", "1 died x -> restart", "2 redefined", "3 started -> restart", "4 started = starting")
    story(PLAIN, "0 taken nginx -> alert", "2 redefined -> restart = down", "3 started")
    story(PLAIN, "0 want down", "1 died x", "2 redefined = down", "99 want up -> restart")


# -- the port ----------------------------------------------------------------------------------------------------


def test_f22_a_foreign_port_is_reported_and_not_fought_over() -> None:
    story(
        PLAIN,
        "0 died x -> restart",
        "0.1 refused nginx (pid 77) -> alert not running, its port is held by nginx (pid 77) = foreign",
        "30 taken nginx (pid 77)",
        "60 taken nginx (pid 77)",
        "9999 freed -> restart = down",
        "9999 started",
        "10000 ok health -> resolved = up",
    )


def test_f22_a_port_taken_while_it_was_down_is_no_attempt() -> None:
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "2 failed x -> alert given up = gave-up",
        "3 taken nginx = gave-up",
        "4 freed = gave-up",
    )
    story(
        replace(PLAIN, attempts=0),
        "0 found ready",
        "1 died x -> restart",
        "1 refused nginx -> alert = foreign",
        "2 freed -> restart",
        "2 refused nginx = foreign",
        "3 freed -> restart",
    )


def test_f23_a_stranger_that_answers_well_is_not_well() -> None:
    story(PLAIN, "0 taken nginx -> alert = foreign", "1 ok health = foreign", "2 bad health = foreign", "9 bad health")


def test_a_foreign_one_that_a_command_starts_is_taken_back() -> None:
    story(PLAIN, "0 taken nginx -> alert", "5 found anew = starting", "6 ok health -> resolved = up")


def test_the_alert_of_a_flapping_service_ends_even_when_a_stranger_came_between() -> None:
    story(
        replace(CRITICAL, attempts=1),
        "0 found ready",
        "1 died x -> restart",
        "1 started",
        "1 died x",
        "11 tick -> restart",
        "11 failed x -> alert tried on",
        "12 taken nginx",
        "20 freed -> restart",
        "20 other 5",
        "21 found ready = up",
        "321 tick -> resolved = up",
    )


# -- memory and needs --------------------------------------------------------------------------------------------


def test_max_rss_restarts_it_at_once_and_then_with_pauses() -> None:
    story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "10 used 500",
        "20 used 501 -> restart memory: 501 MiB, above its max_rss of 500 MiB = up",
        "22 started = starting",
        "23 used 600 = starting",
        "24 ok health = up",
        "25 used 600",
        "26 used 601",
        "27 ok health = up",
        "30 tick -> restart memory: 600 MiB",
        "32 started",
        "33 ok health",
        "9999 used 500 = up",
    )


def test_one_that_is_above_its_max_rss_again_and_again_is_told_and_restarted_more_slowly() -> None:
    def told(*moments: int) -> list[str]:
        lines = ["0 found ready"]
        for number, moment in enumerate(moments):
            said = " + alert not well after 5 restarts, tried on: memory" if number == 5 else ""
            lines += [f"{moment} {'tick' if number else 'used 600'} -> restart{said}"]
            lines += [f"{moment}.1 started", f"{moment}.2 ok health = up", f"{moment}.3 used 600 = up"]
        return lines

    last = story(replace(CRITICAL, max_rss=500 * MIB), *told(10, 20, 30, 40, 50, 70, 110, 170, 230))
    assert last.due == 290
    story(replace(PLAIN, max_rss=500 * MIB), *told(10, 20, 30, 40, 50, 110, 170))  # nor is it given up: it serves


def test_without_a_max_rss_memory_is_nobodys_concern() -> None:
    story(PLAIN, "0 found ready", "10 used 999999 = up")


def test_memory_of_what_is_not_up_restarts_nothing() -> None:
    watch = story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "1 bad jobs -> confirm",
        "2 bad jobs -> alert",
        "3 used 600 = unhealthy",
    )
    assert "jobs" in watch.why


def test_a_planned_restart_that_does_not_come_back_is_an_outage() -> None:
    rules = replace(PLAIN, max_rss=500 * MIB, attempts=0)
    story(
        rules,
        "0 found ready",
        "10 used 600 -> restart",
        "11 failed no memory -> restart",
        "12 failed x -> alert given up",
    )
    story(
        rules,
        "0 found ready",
        "1 died x -> restart",
        "1 started",
        "2 ok health",
        "9 used 600 = up",
        "11 tick -> restart",
    )


def test_the_calm_spell_of_a_service_that_is_being_restarted_does_not_spin_the_clock() -> None:
    story(
        replace(PLAIN, max_rss=500 * MIB),
        "0 found ready",
        "1 died x -> restart",
        "1 started",
        "2 ok health = up",
        "301 used 600 -> restart",
        "303 tick",
        "305 started",
        "306 ok health = up",
    )


def test_an_alert_does_not_wait_for_a_restart_that_takes_long() -> None:
    story(
        PLAIN,
        "0 found ready",
        "10 died x -> restart",
        "40 tick -> alert not back within 30 s",
        "50 started",
        "51 ok health -> resolved = up",
    )


def test_f49_dependents_are_left_alone_unless_declared_otherwise() -> None:
    story(PLAIN, "0 found ready", "10 need pg-api = up")
    follower = replace(PLAIN, follow_needs=True)
    story(
        follower, "0 found ready", "10 need pg-api -> restart need: pg-api was restarted", "12 started", "13 ok health"
    )
    story(follower, "0 found", "10 need pg-api = starting", "11 ok health = up")
    story(follower, "0 found ready", "1 died x, patience 9", "2 need pg-api = down", "10 tick -> restart x")
    story(
        follower,
        "0 found ready",
        "1 excused health -> confirm",
        "2 excused health -> alert = unhealthy",
        "10 need pg-api -> restart need: pg-api was restarted",
    )


def test_f49_a_need_in_a_crash_loop_does_not_make_its_dependents_crash_faster() -> None:
    story(
        replace(PLAIN, follow_needs=True),
        "0 found ready",
        "10 need pg-api -> restart",
        "11 started",
        "12 ok health = up",
        "13 need pg-api",
        "14 need bank-api",
        "20 tick -> restart need",
        "20 started",
    )


# -- alerts ------------------------------------------------------------------------------------------------------


def test_one_alert_an_outage_however_it_changes_its_face() -> None:
    story(
        replace(CRITICAL, attempts=0),
        "0 found ready",
        "1 bad jobs -> confirm",
        "2 bad jobs -> alert",
        "3 silent health -> confirm",
        "4 silent health -> restart = hung",
        "5 started",
        "6 died x",
        "7 taken nginx = foreign",
        "8 freed -> restart",
        "9 failed no memory -> restart",
        "9 failed no memory",
        "24 tick",
        "29 tick -> restart",
        "29 started",
        "30 ok health",
        "330 tick -> resolved",
    )


def test_the_next_outage_is_told_anew() -> None:
    story(
        PLAIN,
        "0 found ready",
        "1 bad jobs -> confirm",
        "2 bad jobs -> alert",
        "3 ok jobs -> resolved",
        "4 bad jobs -> confirm",
        "5 bad jobs -> alert",
        "6 ok jobs -> resolved",
    )


def test_f36_f37_nothing_but_the_given_clock_counts() -> None:
    """Moments of a clock that stands still while the machine sleeps: after it, nothing has become stale."""
    early = story(PLAIN, "0 found ready", "1 bad health -> confirm", "2 ok health")
    late = story(PLAIN, "1e9 found ready", "1000000001 bad health -> confirm", "1000000002 ok health")
    assert replace(early, since=0) == replace(late, since=0)
    assert next_moment(early) is None


# -- the numbers -------------------------------------------------------------------------------------------------


def test_the_rules_are_those_of_the_inventory() -> None:
    service = Service(
        "api", ("serve",), critical=True, attempts=2, delay=3, retry_max=4, confirm=5, calm=6, start_timeout=7,
        recovery_budget=8, max_rss=9, on_need_restart="restart",
        health=(Probe("http", "/", 1, 1), Probe("http", "/jobs", 1, 1, restart=False)),
    )  # fmt: skip
    assert rules_of(service) == Rules(
        critical=True, attempts=2, delay=3, retry_max=4, confirm=5, calm=6, start_timeout=7, budget=8, max_rss=9,
        follow_needs=True, gating=frozenset({"GET /"}), asked=frozenset({"GET /", "GET /jobs"}),
    )  # fmt: skip
    assert rules_of(Service("worker", ("work",))) == Rules()


def test_the_shipped_rules() -> None:
    assert [name for name, rules in SHIPPED.items() if rules.critical] == ["recon-api", "frontend"]
    for rules in SHIPPED.values():
        plain = replace(rules, critical=False, gating=frozenset(), asked=frozenset())
        assert plain == Rules(attempts=3, delay=10, retry_max=60, confirm=1, calm=300, start_timeout=60, budget=30)
        assert len(rules.gating) == 1
    assert len(fields(Rules)) == 12
