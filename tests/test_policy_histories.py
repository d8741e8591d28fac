"""The policy in histories that nobody has thought of, against a witness that keeps its own books.

`test_any_readings_in_any_order` throws every reading at every moment. `Supervised` is a world: a service that dies,
hangs, answers wrongly, loses its port, is stopped, held and started by people, while restarts succeed or fail. The
clock is a number; it ticks whenever the policy asks for it, as the monitor does.

The witness (`Witness.see`) is told every reading and decision, and holds what must be true of them whatever happens.
It counts for itself: nothing of what it expects is read from the policy's own counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ops.watch.policy import Decision, Rules, Watch, decide, next_moment
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
from tests.fuzzing import examples, fuzz

pytestmark = fuzz
GATES = ("home", "health")
LAST_TRY = 2.0  # seconds beyond the budget that it has to be told as given up
REDEFINED = Redefined("its definition has changed")
JOBS = "jobs"  # a probe that restarts nothing
SECONDS = st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.5, 7.0, 10.0, 20.0, 29.0, 45.0, 61.0, 120.0, 400.0])
NO_ATTEMPT = ("taken", "other")  # what became of a restart that does not count
PATIENCE = st.sampled_from([0.0, 5.0, 15.0])

RULES = st.builds(
    Rules,
    critical=st.booleans(),
    attempts=st.integers(1, 4),
    delay=st.sampled_from([0.0, 0.7, 1.0, 10.0, 90.0]),
    retry_max=st.sampled_from([1.0, 60.0]),
    confirm=st.integers(0, 3),
    calm=st.sampled_from([3.0, 50.0, 300.0]),
    start_timeout=st.sampled_from([3.0, 60.0]),
    budget=st.sampled_from([4.0, 30.0, 500.0]),
    max_rss=st.sampled_from([None, 100]),
    follow_needs=st.booleans(),
    gating=st.sampled_from([frozenset[str](), frozenset(GATES[:1]), frozenset(GATES)]),
)


def answers(gating: frozenset[str]) -> st.SearchStrategy[Answered]:
    return st.builds(
        lambda probe, ok, silent, excused: Answered(
            probe, ok, "said", probe in gating, silent and ok is False, excused
        ),
        st.sampled_from([*sorted(gating), JOBS]),
        st.sampled_from([True, False, False, None]),
        st.booleans(),
        st.booleans(),
    )


def readings(gating: frozenset[str]) -> st.SearchStrategy[Reading]:
    return st.one_of(
        st.builds(Wished, st.sampled_from(["up", "up", "down", "held"]), PATIENCE),
        st.builds(Found, st.booleans(), st.booleans()),
        st.builds(Died, st.just("exit 1"), st.sampled_from([0.0, 0.0, 5.0])),
        st.builds(Taken, st.just("nginx")),
        st.just(Freed()),
        answers(gating),
        answers(gating),
        st.builds(Used, st.sampled_from([50, 500])),
        st.builds(NeedRestarted, st.just("pg-api")),
        st.builds(Acted, st.sampled_from(["started", "started", "failed", "taken", "other"]), st.just("so"), PATIENCE),
        st.just(REDEFINED),
        st.just(Tick()),
    )


@dataclass
class Witness:
    """What an honest onlooker knows: it keeps its own books, and complains."""

    rules: Rules
    wanted: str = "up"
    acting: bool = False
    alerted: bool = False
    bad_since: float | None = None  # believed not to serve though it is wanted up
    starting_since: float | None = None  # it lives, and its deadline runs
    up_since: float | None = None
    misses: dict[str, int] = field(default_factory=dict)  # by probe: failed in a row
    tries: int = 0  # restarts that nothing has forgiven
    last_try: float = 0.0
    told: list[str] = field(default_factory=list)

    def see(self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        self._clock_does_not_spin(after, now)
        self._only_what_is_wanted(before, reading, now, after, decision)
        self._a_start_is_not_judged_early(before, reading, now, decision)
        self._one_reading(before, reading, now, after, decision)
        self._forgiveness(before, reading, now, after)
        self._pauses(before, reading, now, after, decision)
        self._alerts(before, reading, now, after, decision)
        self._note(before, reading, now, after, decision)

    def _clock_does_not_spin(self, after: Watch, now: float) -> None:
        moment = next_moment(after)
        assert moment is None or moment > now, f"to be woken at {moment} when it is {now}"

    def _only_what_is_wanted(
        self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision
    ) -> None:
        assert after.rules == before.rules
        assert not (self.rules.critical and after.state == "gave-up"), "a critical service was given up"
        if isinstance(reading, Wished):
            assert after.wanted == reading.wanted
        if decision.do != "restart":
            assert after.acting == (before.acting and not isinstance(reading, Acted))
            return
        assert not (self.acting and not isinstance(reading, Acted)), "two restarts at once"
        assert after.acting
        assert after.wanted == "up", "restarted though not wanted up"
        assert after.state not in ("foreign", "gave-up")
        assert decision.why == after.why
        if before.state == "foreign":
            assert isinstance(reading, Freed | Died | Acted | Redefined | Wished), "fought over a port"

    def _a_start_is_not_judged_early(self, before: Watch, reading: Reading, now: float, decision: Decision) -> None:
        if (
            decision.do == "restart"
            and self.starting_since is not None
            and not before.redefined  # which waited for it to be wanted up
            and decision.why != REDEFINED.why
            and not isinstance(reading, Died | Acted | Redefined)
        ):
            allowed = self.rules.start_timeout if self.rules.gating else 1e9
            assert now >= self.starting_since + allowed, "killed inside its start deadline"

    def _one_reading(self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        idle, without = decide(before, Tick(), now)
        if isinstance(reading, Answered) and reading.ok is None:
            assert (after, decision) == (idle, without), "what could not be asked has said something"
        if not isinstance(reading, Answered) or decision.do != "restart" or without.do == "restart":
            return
        assert reading.ok is False
        assert reading.gating, "a probe that restarts nothing has restarted"
        assert self.misses.get(reading.probe, 0) >= self.rules.confirm, "a failure was not doubted"
        assert reading.silent or not reading.excused, "an excused answer has restarted"

    def _forgiveness(self, before: Watch, reading: Reading, now: float, after: Watch) -> None:
        """Attempts are forgotten by a command, a freed port, a return from having been given up, or a calm spell."""
        if isinstance(reading, Wished | Freed | Acted | Redefined) or before.state == "unknown":
            return
        if isinstance(reading, Found) and reading.anew:
            return
        if after.attempts < before.attempts and before.state != "gave-up":
            assert self.up_since is not None
            assert now >= self.up_since + self.rules.calm, "forgiven before it was calm"
            assert after.attempts == 0

    def _pauses(self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        if (
            isinstance(reading, Wished | Freed | Redefined | Acted)
            and getattr(reading, "result", "other") in NO_ATTEMPT
        ):
            self.tries = -1  # a start that is no restart
        elif before.state == "unknown":
            self.tries = -1
        elif self._forgiven(before, reading, after):
            self.tries = 0
        if decision.do != "restart":
            return
        if before.state == "up" and self.tries >= 0:  # for another reason than an illness: that is no attempt
            assert self.tries < 1 or now - self.last_try >= self.rules.delay - 1e-9
            self.last_try = now
            return
        if self.tries > 0:
            pause = now - self.last_try
            assert pause >= self.rules.delay - 1e-9, f"a pause of {pause} s"
            if self.tries > self.rules.attempts:
                assert self.rules.critical, "restarted after its attempts were spent"
                slowest = max(self.rules.retry_max, self.rules.delay)
                assert (
                    pause
                    >= min(slowest, max(self.rules.delay, 1) * 2 ** min(self.tries - self.rules.attempts, 30)) - 1e-9
                )
        self.tries += 1
        self.last_try = now

    def _forgiven(self, before: Watch, reading: Reading, after: Watch) -> bool:
        calm = before.attempts > 0 and after.attempts == 0 and before.state in ("up", "gave-up")
        by_command = isinstance(reading, Found) and reading.anew
        return calm or by_command or (isinstance(reading, Died) and reading.patience > 0)

    def _alerts(self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        assert not (decision.alert and decision.resolved)
        assert not (decision.alert and self.alerted), f"a second alert: {decision.alert}"
        assert not (decision.resolved and not self.alerted), "resolved what was never told"
        self.alerted = (self.alerted or bool(decision.alert)) and not decision.resolved
        assert after.alerted == self.alerted
        if decision.alert:
            assert after.wanted == "up"
            self.told.append(decision.alert)
        if self.alerted:
            assert after.wanted == "up", "an alert is kept for what is not wanted"
        if decision.resolved and after.wanted == "up":
            assert after.state == "up"
        if after.state in ("gave-up", "foreign") and after.wanted == "up":
            assert self.alerted, f"{after.state} without an alert"

    def _note(self, before: Watch, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        self._note_probes(before, reading, after)
        self._note_start(reading, now, after)
        if after.state == "up":
            self.up_since = now if before.state != "up" or self.up_since is None else self.up_since
        else:
            self.up_since = None
        self.acting = decision.do == "restart" or (self.acting and not isinstance(reading, Acted))
        self.wanted = after.wanted
        self._note_outage(reading, now, after, decision)

    def _note_probes(self, before: Watch, reading: Reading, after: Watch) -> None:
        if isinstance(reading, Acted | Died | Found):
            self.misses.clear()
        if isinstance(reading, Answered) and reading.ok is not None:
            self.misses[reading.probe] = 0 if reading.ok else self.misses.get(reading.probe, 0) + 1

    def _note_start(self, reading: Reading, now: float, after: Watch) -> None:
        begun = isinstance(reading, Acted) and reading.result == "started"
        begun = begun or (isinstance(reading, Found) and not reading.ready and not self.acting)
        if begun:
            self.starting_since = now
        if after.state != "starting":
            self.starting_since = None

    def _note_outage(self, reading: Reading, now: float, after: Watch, decision: Decision) -> None:
        if after.wanted != "up" or after.state == "up":
            self.bad_since = None
            return
        died = isinstance(reading, Died) and not reading.patience
        failed = isinstance(reading, Acted) and reading.result in ("failed", "taken")
        believed = after.state in ("hung", "unhealthy", "foreign", "gave-up") or decision.do == "restart"
        if self.bad_since is None and (died or failed or believed):
            self.bad_since = now
        last_try = 0.0 if self.rules.critical or after.attempts < self.rules.attempts else LAST_TRY
        if self.bad_since is not None and now >= self.bad_since + self.rules.budget + last_try:
            assert self.alerted, f"not well since {self.bad_since}, it is {now}, and nobody was told"


@dataclass
class Clock:
    """The monitor without a world: it hands readings on, and ticks when it was asked to."""

    watch: Watch
    witness: Witness
    now: float = 0.0
    confirm: tuple[str, float] | None = None  # a probe that is to be asked again, and when

    def tell(self, reading: Reading) -> Decision:
        before = self.watch
        self.watch, decision = decide(before, reading, self.now)
        self.witness.see(before, reading, self.now, self.watch, decision)
        if decision.do == "confirm":
            self.confirm = (decision.probe, self.now + 1)
        return decision

    def pass_time(self, seconds: float) -> Iterator[Decision]:
        """What is decided on the way, by the clock alone."""
        end, steps = self.now + seconds, 0
        while (moment := next_moment(self.watch)) is not None and moment <= end:
            self.now = moment
            yield self.tell(Tick())
            steps += 1
            assert steps < 2000, "it decides without an end"
        self.now = end
        yield self.tell(Tick())


@settings(max_examples=examples(120), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), rules=RULES, begin=st.floats(0, 1e7))
def test_any_readings_in_any_order(data: st.DataObject, rules: Rules, begin: float) -> None:
    clock = Clock(Watch(rules), Witness(rules), begin)
    history = data.draw(st.lists(st.tuples(SECONDS, readings(rules.gating)), max_size=30))
    for seconds, reading in history:
        for _ in clock.pass_time(seconds):
            pass
        if isinstance(reading, Acted) and not clock.watch.acting:
            continue  # the end of a restart that there was none of
        clock.tell(reading)


STATES = ["up", "down", "starting", "stopping", "unhealthy", "hung", "foreign", "gave-up", "unknown"]


@settings(max_examples=examples(80), deadline=None)
@given(data=st.data(), rules=RULES, state=st.sampled_from(STATES), acting=st.booleans(), attempts=st.integers(0, 9))
def test_no_reading_in_no_state_raises_or_spins(
    data: st.DataObject, rules: Rules, state: str, acting: bool, attempts: int
) -> None:
    """Even in one that no history leads to, say after an update of the monitor: it decides, and goes on."""
    moment = st.none() | st.floats(0, 100)
    watch = Watch(
        rules,
        data.draw(st.sampled_from(["up", "down", "held"])),  # type: ignore[arg-type]
        state,  # type: ignore[arg-type]
        since=data.draw(st.floats(0, 100)),
        attempts=attempts,
        acting=acting,
        due=data.draw(moment),
        outage=None if state == "up" else data.draw(moment),
        alerted=data.draw(st.booleans()),
        flapping=data.draw(st.booleans()),
        last_try=data.draw(st.floats(0, 100)),
        doubts=data.draw(st.dictionaries(st.sampled_from([*GATES, JOBS]), st.integers(0, 4))),
        unproven=data.draw(st.sampled_from([frozenset[str](), rules.gating])),
    )
    after, decision = decide(watch, data.draw(readings(rules.gating)), 100.0)
    assert (next_moment(after) or 101) > 100
    assert decision.do != "restart" or (after.acting and after.wanted == "up")


# -- crash loops -------------------------------------------------------------------------------------------------


def crash(rules: Rules, lives: float, until: float) -> tuple[Clock, list[float]]:
    """A service that is well after each start, and dead `lives` seconds later; when it was restarted."""
    clock, restarts = Clock(Watch(rules), Witness(rules)), list[float]()
    clock.tell(Found(ready=True))
    clock.tell(Died("exit 1"))
    restarts.append(clock.now)
    while clock.now < until:
        if clock.watch.acting:
            clock.tell(Acted("started"))
            for probe in rules.gating:
                clock.tell(Answered(probe, True))
            for decision in clock.pass_time(lives):
                assert decision.do != "restart", "restarted while it lived"
            decision = clock.tell(Died("exit 1"))
        else:
            moment = next_moment(clock.watch)
            if moment is None:
                break
            clock.now = moment
            decision = clock.tell(Tick())
        restarts += [clock.now] if decision.do == "restart" else []
    return clock, restarts


@settings(max_examples=examples(30), deadline=None)
@given(rules=RULES, share=st.floats(0.01, 0.9))
def test_f2_f3_a_crash_loop_spends_its_attempts(rules: Rules, share: float) -> None:
    """However fast or slow it is, as long as it never lives through a calm spell."""
    lives = share * rules.calm
    clock, restarts = crash(rules, lives, until=5000)
    told = clock.witness.told
    assert len(told) == 1 or (rules.delay >= rules.budget and len(told) <= 1 + rules.attempts), told
    if not rules.critical:
        assert len(restarts) == 1 + rules.attempts
        assert clock.watch.state == "gave-up"
        return
    assert len(restarts) > 1 + rules.attempts
    pauses = [round(after - before, 6) for before, after in pairwise(restarts)]
    paced = pauses[rules.attempts :]
    assert paced == sorted(paced), "the pauses of a critical service grow"
    assert paced[-1] <= max(rules.retry_max, rules.delay, lives) + 1e-5, "and are capped"


# -- a world -----------------------------------------------------------------------------------------------------


class Supervised(RuleBasedStateMachine):
    """One service, the people around it, and a monitor that tells the policy what it sees."""

    @initialize(rules=RULES)
    def begin(self, rules: Rules) -> None:
        self.rules = rules
        self.clock = Clock(Watch(rules), Witness(rules))
        self.alive, self.hung, self.stranger, self.need_up = True, False, False, True
        self.wrong: set[str] = set()
        self.restarting = False
        self.clock.tell(Found(ready=True))

    def tell(self, reading: Reading) -> None:
        self._obey(self.clock.tell(reading))

    def _obey(self, decision: Decision) -> None:
        if decision.do == "restart":
            assert not self.restarting, "two restarts at once"
            self.restarting = True

    # What happens to the service

    @precondition(lambda self: self.alive)
    @rule()
    def die(self) -> None:
        self.alive = False
        self.tell(Died("exit 1"))

    @precondition(lambda self: self.alive)
    @rule(hung=st.booleans())
    def hang_or_go_on(self, hung: bool) -> None:
        self.hung = hung

    @rule(probe=st.sampled_from([*GATES, JOBS]), wrong=st.booleans())
    def answer_wrongly_or_well(self, probe: str, wrong: bool) -> None:
        (self.wrong.add if wrong else self.wrong.discard)(probe)

    @rule(up=st.booleans())
    def need(self, up: bool) -> None:
        if up and not self.need_up:
            self.tell(NeedRestarted("pg-api"))
        self.need_up = up

    @precondition(lambda self: not self.alive and not self.restarting)
    @rule()
    def a_stranger_takes_the_port(self) -> None:
        self.stranger = True
        self.tell(Taken("nginx"))

    @precondition(lambda self: self.stranger)
    @rule()
    def the_stranger_leaves(self) -> None:
        self.stranger = False
        if not self.restarting:
            self.tell(Freed())

    @precondition(lambda self: self.alive)
    @rule(rss=st.sampled_from([50, 500]))
    def grow(self, rss: int) -> None:
        self.tell(Used(rss))

    # What the monitor does

    @precondition(lambda self: self.alive)
    @rule(probe=st.sampled_from([*GATES, JOBS]), broken=st.sampled_from([False, False, False, True]))
    def probe(self, probe: str, broken: bool) -> None:
        if probe == JOBS or probe in self.rules.gating:
            self._ask(probe, None if broken else not (self.hung or probe in self.wrong))

    def _ask(self, probe: str, verdict: bool | None) -> None:
        silent = self.hung and verdict is False
        self.tell(Answered(probe, verdict, "said", probe in self.rules.gating, silent, not self.need_up))

    @precondition(lambda self: self.clock.confirm is not None)
    @rule()
    def ask_again(self) -> None:
        assert self.clock.confirm is not None
        probe, moment = self.clock.confirm
        self.clock.confirm = None
        self._pass_time(max(moment - self.clock.now, 0))
        if self.alive:
            self._ask(probe, not (self.hung or probe in self.wrong))

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self._pass_time(seconds)

    def _pass_time(self, seconds: float) -> None:
        for decision in self.clock.pass_time(seconds):
            self._obey(decision)

    @precondition(lambda self: self.restarting)
    @rule(result=st.sampled_from(["started", "started", "started", "failed", "unkillable", "other"]))
    def finish_the_restart(self, result: str) -> None:
        assert self.restarting
        if result == "unkillable" and not self.alive:
            result = "failed"
        if result == "other":
            self.restarting = False
            self.tell(Acted("other", "a command is at it", 5))
            return
        if self.alive and result != "unkillable":
            self.clock.tell(Died("TERM"))
        if result != "unkillable":
            self.alive, self.hung = result == "started" and not self.stranger, False
        self.restarting = False
        if self.stranger:
            self.tell(Acted("taken", "nginx"))
        else:
            self.tell(Acted("started" if result == "started" else "failed", "no memory"))

    # What people do

    @rule(held=st.booleans())
    def stop_or_hold(self, held: bool) -> None:
        self.tell(Wished("held" if held else "down"))
        if not held and self.alive:
            self.alive = False
            self.tell(Died("TERM", 5))

    @rule(patience=PATIENCE)
    def want_it_up(self, patience: float) -> None:
        self.tell(Wished("up", patience))

    @precondition(lambda self: not self.stranger and not self.restarting)
    @rule()
    def restart_by_command(self) -> None:
        if self.alive:
            self.tell(Died("TERM", 15))
        self.alive, self.hung = True, False
        self.tell(Found(anew=True))

    # What must hold

    @invariant()
    def agree_on_what_is_under_way(self) -> None:
        assert self.restarting == self.clock.watch.acting

    @invariant()
    def nothing_dead_is_called_up(self) -> None:
        if not self.alive and not self.restarting:
            assert self.clock.watch.state not in ("up", "starting"), "dead, and called well"

    def teardown(self) -> None:
        """Left alone in a sound world, what is wanted comes back, and its alert ends; unless it was given up."""
        if not hasattr(self, "clock"):
            return
        self.stranger = self._freed() if self.stranger else False
        self.wrong, self.need_up = set(), True
        self.tell(Wished("up"))
        for _ in range(12):
            if self.restarting:
                self.finish_the_restart("started")
            if self.alive and not self.hung:
                for probe in (*sorted(self.rules.gating), JOBS):
                    self._ask(probe, True)
            for probe in sorted(self.rules.gating) if self.alive and self.hung else []:
                self._ask(probe, False)
            self._pass_time(91)
        if self.hung and not self.rules.gating:
            return  # nothing would see that
        assert self.clock.watch.state in ("up", "gave-up")
        assert self.clock.watch.state == "gave-up" or not self.clock.watch.alerted
        assert self.clock.watch.state == "gave-up" or self.alive

    def _freed(self) -> bool:
        if not self.restarting:
            self.tell(Freed())
        return False


def test_a_supervised_service_in_a_world_of_faults() -> None:
    run_state_machine_as_test(
        Supervised, settings=settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
    )


def test_the_witness_is_awake() -> None:
    """A policy that restarts without asking is noticed: else all of the above would prove nothing."""
    rules = Rules(gating=frozenset({"health"}))
    before = Watch(rules, state="starting")
    wrong = [
        (before, replace(before, acting=True)),  # inside its deadline
        (replace(before, state="up", wanted="held"), replace(before, state="up", wanted="held", acting=True)),
        (replace(before, state="foreign"), replace(before, state="foreign", acting=True)),
    ]
    for was, became in wrong:
        witness = Witness(rules, starting_since=0 if was.state == "starting" else None)
        try:
            witness.see(was, Tick(), 1.0, became, Decision("restart"))
        except AssertionError:
            continue
        raise RuntimeError(f"{was} -> {became} was not noticed")
