"""The decisions, as tables: what is planned, judged and ordered from what was seen. Nothing here touches a service.

Where a rule holds for every input and not just for the examples, hypothesis looks for one that breaks it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import SpawnError
from ops.host.listeners import Listener
from ops.memory.state import Record
from ops.memory.wishes import Wish
from ops.model import Host, Process, Reading, Service, ServiceState, Stack
from ops.operations.asking import judge, port_reading
from ops.operations.by_hand import same_command
from ops.operations.converge import Do, Plan
from ops.operations.intent import plan_hold
from ops.operations.order import critical_first, dependents, in_sequence, with_needs
from ops.operations.plans import Look, plan_restart, plan_start, plan_stop
from ops.operations.ports import plan_kill
from ops.operations.rivals import script_of
from ops.operations.sight import Origin, Sight, count

ROOT = Process(4242, 17.0, "boot")
OTHER = Process(4343, 18.0, "boot")
API = Service("api", ("server",), port=5103, start_timeout=10)
WORKER = Service("worker", ("work",), start_timeout=10)
MINE = Listener(5103, "127.0.0.1", "IPv4", 0, 1, (ROOT.pid,))
THEIRS = Listener(5103, "127.0.0.1", "IPv4", 12345, 2, ())

GOOD = Reading("GET /", True, 0.1)
WRONG = Reading("GET /", False, 0.1, "status 500")
SILENT = Reading("GET /", False, 1.0, "no answer", answered=False)
WATCHED = Reading("POST /jobs", False, 0.1, "status 500", restart=False)
UNKNOWN = Reading("command check", None, 0.0, "no such program")


def record(*, ready: bool) -> Record:
    when = "2026-01-01T00:00:00.000+00:00"
    return Record("api", ROOT, "run", "definition", when, ready_at=when if ready else None)


def sight(
    state: ServiceState = "up",
    *,
    root: Process | None = ROOT,
    origin: Origin | None = "record",
    members: tuple[Process, ...] = (ROOT,),
    own: bool = True,
    strangers: tuple[Listener, ...] = (),
    ready: bool = True,
    age: float = 60.0,
    stopped: bool = False,
) -> Sight:
    known = record(ready=ready) if root and origin == "record" else None
    listeners = (MINE,) if own else ()
    return Sight("api", state, root, origin, "", known, members, strangers, listeners, age, stopped=stopped)


DOWN = sight("down", root=None, origin=None, members=(), own=False)


def look(seen: Sight, state: ServiceState | None = None, **more: object) -> Look:
    return replace(Look(seen, state or seen.state, 0), **more)


# -- judging ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "readings", "state"),
    [
        (DOWN, (), "down"),
        (DOWN, (GOOD,), "down"),  # F23: an answer by somebody else is no sign of life
        (sight("foreign", own=False, strangers=(THEIRS,)), (GOOD,), "foreign"),
        (sight("stopping"), (GOOD,), "stopping"),
        (sight("hung", stopped=True), (), "hung"),
        (sight("starting", ready=False, age=3), (WRONG,), "starting"),  # F8: not judged before its deadline
        (sight("starting", ready=False, age=3), (SILENT,), "starting"),
        (sight("starting", ready=False, age=3), (GOOD,), "up"),  # well at its first success
        (sight("up", ready=False, age=11), (WRONG,), "unhealthy"),
        (sight("up", ready=False, age=11), (SILENT,), "hung"),
        (sight("up", age=3), (WRONG,), "unhealthy"),  # it was ready once: the deadline is no shelter
        (sight("up", age=3), (SILENT,), "hung"),
        (sight("up"), (SILENT, WRONG), "unhealthy"),  # something answers
        (sight("up", own=False), (SILENT,), "unhealthy"),  # F26: alive, but on another port or on none
        (sight("up"), (GOOD, WATCHED), "unhealthy"),
        (sight("up"), (WATCHED, GOOD), "unhealthy"),
        (sight("starting", ready=False, age=3), (GOOD, WATCHED), "unhealthy"),  # what gates has passed
        (sight("up"), (UNKNOWN,), "up"),  # F51: the checker failed, not the service
        (sight("up"), (UNKNOWN, WRONG), "unhealthy"),
        (sight("up"), (), "up"),
    ],
)
def test_judging_by_sight_and_answers(seen: Sight, readings: tuple[Reading, ...], state: str) -> None:
    assert judge(API, seen, readings) == state


def test_a_worker_that_does_not_answer_hangs_without_any_listener() -> None:
    assert judge(WORKER, sight("up", own=False), (SILENT,)) == "hung"


READINGS = st.lists(
    st.builds(
        lambda ok, restart, answered: Reading("p", ok, 0.1, "d", restart, answered),
        st.sampled_from([True, False, None]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=4,
).map(tuple)


@given(READINGS, st.booleans(), st.floats(0, 100), st.booleans())
def test_law_a_probe_that_may_not_restart_never_makes_a_service_look_hung(
    readings: tuple[Reading, ...], ready: bool, age: float, own: bool
) -> None:
    """`hung` leads to a restart, so only a probe that may restart it can say so."""
    state = judge(API, sight("up", ready=ready, age=age, own=own), readings)
    gating = [one for one in readings if one.restart and one.ok is False]
    if state in ("hung", "starting"):
        assert gating
    if not gating:
        assert state == ("unhealthy" if any(one.ok is False for one in readings) else "up")


@pytest.mark.parametrize(
    ("seen", "elsewhere", "ok", "words"),
    [
        (sight(), (), True, "its own"),
        (sight(own=False), (), False, "nothing listens on 5103"),
        (sight(own=False), (5104,), False, "nothing listens on 5103; listens on 5104 instead"),
        (sight(own=False, strangers=(THEIRS,)), (), False, "held by a process that you may not see"),
        (sight(strangers=(THEIRS,)), (), False, "also held on 127.0.0.1"),
    ],
)
def test_whose_port_it_is(seen: Sight, elsewhere: Sequence[int], ok: bool, words: str) -> None:
    reading = port_reading(API, seen, elsewhere)
    assert reading is not None
    assert reading.ok is ok
    assert words in reading.detail


def test_a_worker_has_no_port_to_judge() -> None:
    assert port_reading(WORKER, sight(own=False)) is None
    assert port_reading(API, DOWN) is None


# -- start -------------------------------------------------------------------------------------------------------

OBSTACLE = SpawnError("its program 'nodejs' was not found", next="install it")


@pytest.mark.parametrize(
    ("seen", "do", "why"),
    [
        (look(DOWN), "spawn", "starting it"),
        (look(replace(DOWN, members=(OTHER,))), "spawn", "starting it, after ending 1 left over"),
        (look(DOWN, obstacle=OBSTACLE), "refuse", "its program 'nodejs' was not found"),
        (look(DOWN, needs_down=("bank",)), "spawn", "starting it"),  # needs order, they never block
        (look(sight()), "nothing", "already healthy, pid 4242"),
        (look(sight(), obstacle=OBSTACLE), "nothing", "already healthy"),  # what runs needs no program file
        (look(sight(), stale=True), "nothing", "its definition changed since: inv restart-one api"),
        (look(sight(), untidy="log /tmp/api.log: missing"), "tidy", "log /tmp/api.log: missing"),
        (look(sight(origin="hand")), "adopt", "started by hand, adopted as pid 4242"),
        (look(sight(origin="marker")), "adopt", "running without a record, adopted as pid 4242"),
        (look(sight("starting", ready=False)), "wait", "already starting"),
        (look(sight(), "hung", readings=(SILENT,)), "restart", "GET /: no answer"),
        (look(sight("hung", stopped=True)), "restart", "stopped by a signal"),
        (look(sight(), "hung", obstacle=OBSTACLE), "refuse", "was not found"),  # nothing is ended in vain
        (look(sight(), "unhealthy", readings=(WRONG,)), "restart", "GET /: status 500"),
        (look(sight(), "unhealthy", readings=(WRONG,), needs_down=("bank",)), "wait", "was not up (bank)"),
        (look(sight(), "unhealthy", readings=(WRONG,), needs_failed=("bank",)), "refuse", "not up: bank"),
        (look(sight(), "hung", readings=(SILENT,), needs_down=("bank",)), "restart", "no answer"),
        (look(sight("stopping")), "restart", "ending pid 4242"),
        (look(sight("foreign", root=None, origin=None, own=False, strangers=(THEIRS,))), "refuse", "port 5103 is held"),
    ],
)
def test_what_start_does(seen: Look, do: Do, why: str) -> None:
    plan = plan_start(API, seen)
    assert plan.do == do
    assert why in plan.why


def test_f22_a_foreign_port_is_refused_with_the_line_to_type() -> None:
    plan = plan_start(API, look(sight("foreign", root=None, origin=None, own=False, strangers=(THEIRS,))))
    # Another user's, whose processes may not be seen: kill-port would not help. (Ours: tests/test_faults_ports.py.)
    assert plan.more[1].startswith("next:   user 12345 has to stop it")
    assert plan.outcome("api", "start").state == "failed"


# -- stop, restart -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "do", "why"),
    [
        (DOWN, "nothing", "already down"),
        (sight(), "end", "ending pid 4242"),
        (sight(members=(ROOT, OTHER)), "end", "ending 2 processes (pids 4242, 4343)"),
        (replace(DOWN, members=(OTHER,)), "end", "ending pid 4343"),  # a dead one's children
        (sight("foreign", root=None, members=(), own=False, strangers=(THEIRS,)), "nothing", "port 5103 is held by"),
        (sight("hung", stopped=True), "end", "ending pid 4242"),
    ],
)
def test_what_stop_does(seen: Sight, do: Do, why: str) -> None:
    plan = plan_stop(API, look(seen))
    assert plan.do == do
    assert why in plan.why


@pytest.mark.parametrize(
    ("seen", "do"),
    [
        (look(DOWN), "spawn"),
        (look(sight()), "restart"),
        (look(sight(), "hung"), "restart"),
        (look(sight(), obstacle=OBSTACLE), "refuse"),  # what runs is not ended when it could not be started again
        (look(DOWN, obstacle=OBSTACLE), "refuse"),
        (look(sight("foreign", root=None, members=(), own=False, strangers=(THEIRS,))), "refuse"),
        (look(sight("foreign", own=False, strangers=(THEIRS,))), "restart"),
    ],
)
def test_what_restart_does(seen: Look, do: Do) -> None:
    assert plan_restart(API, seen).do == do


LOOKS = st.builds(
    lambda seen, state, obstacle, untidy, needs: look(
        seen, seen.state if seen.root is None else state, obstacle=obstacle, untidy=untidy, needs_down=needs
    ),
    st.sampled_from(
        [
            DOWN,
            replace(DOWN, members=(OTHER,)),
            sight(),
            sight(origin="hand"),
            sight(origin="marker"),
            sight("foreign", root=None, origin=None, members=(), own=False, strangers=(THEIRS,)),
        ]
    ),
    st.sampled_from(["up", "starting", "stopping", "unhealthy", "hung"]),
    st.sampled_from([None, OBSTACLE]),
    st.sampled_from(["", "pid file /tmp/api.pid is wrong"]),
    st.sampled_from([(), ("bank",)]),
)


@given(LOOKS)
def test_law_1_nothing_is_spawned_beside_what_runs(seen: Look) -> None:
    for plan in (plan_start(API, seen), plan_restart(API, seen)):
        if plan.do == "spawn":
            assert seen.sight.root is None
        if plan.do == "restart":
            assert seen.sight.root is not None
        if seen.obstacle:
            assert plan.do not in ("spawn", "restart")


@given(LOOKS)
def test_law_5_a_plan_that_does_nothing_announces_no_change(seen: Look) -> None:
    for plan in (plan_start(API, seen), plan_stop(API, seen), plan_restart(API, seen)):
        outcome = plan.outcome("api", "start")
        assert (outcome.state == "changed") == (plan.do not in ("nothing", "wait", "refuse", "skip"))
        if plan.idle:
            assert plan.before == plan.after
        if outcome.state == "failed":
            assert outcome.detail


@pytest.mark.parametrize(
    ("do", "state", "idle"),
    [
        ("nothing", "ok", True),
        ("wait", "ok", False),
        ("tidy", "changed", False),
        ("adopt", "changed", False),
        ("spawn", "changed", False),
        ("restart", "changed", False),
        ("end", "changed", False),
        ("write", "changed", False),
        ("refuse", "failed", True),
        ("skip", "skipped", True),
    ],
)
def test_what_a_plan_is_announced_as(do: Do, state: str, idle: bool) -> None:
    plan = Plan(do, "down", "up", "why", ("more",))
    assert (plan.state, plan.idle) == (state, idle)
    outcome = plan.outcome("api", "start")
    assert (outcome.service, outcome.action, outcome.state) == ("api", "start", state)
    assert (outcome.before, outcome.after, outcome.detail, outcome.more) == ("down", "up", "why", ("more",))


# -- hold, release -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "held", "do", "after"),
    [
        (Wish(), True, "write", "held"),
        (Wish(up=False), True, "write", "held"),
        (Wish(held=True), True, "nothing", "held"),
        (Wish(held=True), False, "write", "up"),
        (Wish(up=False, held=True), False, "write", "down"),  # as it was before
        (Wish(), False, "nothing", "up"),
        (Wish(up=False), False, "nothing", "down"),
    ],
)
def test_what_hold_and_release_do(seen: Wish, held: bool, do: Do, after: str) -> None:
    plan = plan_hold(seen, held=held)
    assert (plan.do, plan.before, plan.after) == (do, seen.wanted, after)


# -- kill-port -----------------------------------------------------------------------------------------------------


@pytest.fixture
def child() -> Iterator[int]:
    """The pid of a living process of ours."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started.pid
        started.kill()


def held_by(*pids: int, uid: int | None = None) -> Listener:
    return Listener(5103, "::", "IPv6", os.geteuid() if uid is None else uid, 9, pids)


def test_a_free_port_needs_nothing() -> None:
    assert plan_kill(5103, []) == Plan("nothing", "free", "free", "nothing listens on 5103")


def test_a_listener_of_ours_is_ended_and_named(child: int) -> None:
    plan = plan_kill(5103, [held_by(child)])
    assert (plan.do, plan.before, plan.after) == ("end", "held", "free")
    assert f"pid {child} (" in plan.why


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid()], ids=["pid 1", "this process", "its parent"])
def test_law_2_pid_1_and_ancestors_are_refused(pid: int, child: int) -> None:
    for found in ([held_by(pid)], [held_by(child), held_by(pid)], [held_by(child, pid)]):
        plan = plan_kill(5103, found)
        assert plan.do == "refuse"
        assert "never ended" in plan.why


def test_f29_a_holder_that_cannot_be_seen_is_refused_and_its_user_named() -> None:
    plan = plan_kill(5103, [held_by(uid=os.geteuid() + 4321)])
    assert plan.do == "refuse"
    assert str(os.geteuid() + 4321) in plan.why
    assert "sudo lsof -nP -iTCP:5103" in "\n".join(plan.more)


# -- order ---------------------------------------------------------------------------------------------------------


def named(name: str, *needs: str, critical: bool = False) -> Service:
    return Service(name, ("x",), needs=needs, critical=critical)


FIVE = (
    named("recon", "pg", "bank", critical=True),
    named("frontend", "recon", "overview", critical=True),
    named("overview", "pg", "bank", "recon"),
    named("pg"),
    named("bank"),
)


def names(services: Sequence[Service]) -> list[str]:
    return [service.name for service in services]


def test_the_shipped_stack_goes_in_this_order() -> None:
    assert names(in_sequence(FIVE)) == ["pg", "bank", "recon", "overview", "frontend"]


def test_a_critical_service_goes_first_among_equals() -> None:
    assert names(in_sequence([named("a"), named("b"), named("c", critical=True)])) == ["c", "a", "b"]
    chosen = [named("a"), named("b"), named("need"), named("c", "need", critical=True)]
    assert names(critical_first(chosen)) == ["c", "need", "a", "b"]
    assert names(in_sequence(chosen)) == ["need", "c", "a", "b"]


def test_who_is_stopped_after_whom() -> None:
    assert dependents(FIVE)["pg"] == ["recon", "overview"]
    assert dependents(FIVE)["frontend"] == []


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Service, ...]:
    """Services whose needs hold no circle, listed in any order."""
    amount = draw(st.integers(1, 7))
    made = []
    for index in range(amount):
        below = [f"s{other}" for other in range(index)]
        needs = draw(st.lists(st.sampled_from(below), unique=True)) if below else []
        made.append(named(f"s{index}", *needs, critical=draw(st.booleans())))
    return tuple(draw(st.permutations(made)))


@given(stacks(), st.data())
def test_every_need_goes_before_who_needs_it(services: tuple[Service, ...], data: st.DataObject) -> None:
    ordered = names(in_sequence(services))
    assert sorted(ordered) == sorted(names(services))
    for service in services:
        assert all(ordered.index(need) < ordered.index(service.name) for need in service.needs)
    host = Host("localhost", "/", services, Stack("s", "s"))
    chosen = data.draw(st.lists(st.sampled_from(services), unique_by=lambda one: one.name))
    taken = with_needs(host, chosen)
    assert names(taken) == [name for name in names(services) if name in names(taken)]
    assert set(names(chosen)) <= set(names(taken))
    assert all(need in names(taken) for service in taken for need in service.needs)
    if not chosen:
        assert taken == ()


@given(stacks())
def test_nothing_goes_before_a_critical_service_but_what_it_needs(services: tuple[Service, ...]) -> None:
    host = Host("localhost", "/", services, Stack("s", "s"))
    vital = names(with_needs(host, [service for service in services if service.critical]))
    assert set(names(critical_first(services))[: len(vital)]) == set(vital)
    assert set(names(in_sequence(services))[: len(vital)]) == set(vital)


# -- who is who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "declared", "executable", "same"),
    [
        (["node", "index.js"], ["node", "index.js"], None, True),
        (["/usr/local/bin/node", "index.js"], ["node", "index.js"], None, True),
        (["node", "index.js", "--inspect"], ["node", "index.js"], None, False),
        (["node"], ["node", "index.js"], None, False),
        (["node", "other.js"], ["node", "index.js"], None, False),
        (["deno", "index.js"], ["node", "index.js"], None, False),
        (["python", "app.py"], [sys.executable, "app.py"], sys.executable, True),  # the same file by another name
        (["python", "app.py"], ["/usr/bin/true", "app.py"], sys.executable, False),
        (["/bin/sh", "./run.sh", "5103"], ["./run.sh", "5103"], "/bin/sh", True),  # a script: #!/bin/sh
        (["/bin/sh", "./other.sh", "5103"], ["./run.sh", "5103"], "/bin/sh", False),
        (["vim", "index.js"], ["node", "index.js"], None, False),
        (["npm run dev"], ["npm", "run", "dev"], None, True),  # npm's own title
        (["npm exec vite --port 5174"], ["npx", "vite", "--port", "5174"], None, True),
        (["npm exec vite --port 5175"], ["npx", "vite", "--port", "5174"], None, False),
        (["npm exec \"it's"], ["npx", "vite"], None, False),  # a title is anything: no quote may break us
        (["npm exec vite \\"], ["npx", "vite"], None, False),
        (["  "], ["server"], None, False),
    ],
)
def test_the_same_command(line: list[str], declared: list[str], executable: str | None, same: bool) -> None:
    assert same_command(line, declared, executable) is same


WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, max_size=5)


@given(WORDS, WORDS)
def test_any_command_line_can_be_compared(line: list[str], declared: list[str]) -> None:
    assert same_command(line, declared, None) in (True, False)
    assert same_command(declared, declared, None) or " " in declared[0]


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("bash service-monitor.sh", "service-monitor.sh"),
        ("/bin/bash ./service-monitor.sh", "service-monitor.sh"),
        ("sh -x /opt/ops/service-monitor.sh --now", "service-monitor.sh"),
        ("/opt/ops/service-monitor.sh", "service-monitor.sh"),
        ("zsh start-with-monitoring.sh", "start-with-monitoring.sh"),
        ("-bash service-monitor.sh", "service-monitor.sh"),
        ("vim service-monitor.sh", ""),
        ("tail -f service-monitor.sh", ""),
        ("less /opt/ops/service-monitor.sh", ""),
        ("pgrep -f service-monitor.sh", ""),
        ("bash my-service-monitor.sh", ""),
        ("bash edit.sh service-monitor.sh", ""),
        ("bash", ""),
        ("", ""),
    ],
)
def test_the_runbooks_own_monitor(line: str, script: str) -> None:
    assert script_of(line.split()) == script


def test_a_command_given_as_text_is_no_run_of_the_script() -> None:
    assert script_of(["bash", "-c", "vim service-monitor.sh"]) == ""


@pytest.mark.parametrize(
    ("amount", "words"),
    [(1, "pid 1"), (3, "3 processes (pids 1, 2, 3)"), (8, "8 processes (pids 1, 2, 3, 4, 5, 6, ...)")],
)
def test_counting_processes(amount: int, words: str) -> None:
    assert count([Process(pid, 0.0, "boot") for pid in range(1, amount + 1)]) == words
