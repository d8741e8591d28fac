"""The monitor and its guard under fault: killed, stopped, starved, doubled, upgraded. Services never notice.

Every test injects its fault into the real processes that `inv start` has left. Numbers such as f13 are rows of the
table of faults. Silence counts after 15 s: the one fixture that waits for that does it for several stacks at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory.state import Record, State
from ops.memory.watchpost import Watcher, Watchpost
from ops.model import Process
from ops.model import Stack as StackNoun
from ops.operations import watched
from tests.scene import NOBODY, as_root, bystander, ended, identified, on_linux, recorded
from tests.stack import PYTHON, Stack
from tests.waiting import until

BACK = 20.0  # seconds that a busy machine may need for what takes one


# -- what there is -------------------------------------------------------------------------------------------------


def post(stack: Stack) -> Watchpost:
    return Watchpost(str(stack.state))


def who(stack: Stack, kind: Watcher = "monitor") -> Process | None:
    """Whoever holds the post, living and signed on."""
    return watched.who(post(stack), kind)


def another(stack: Stack, before: Process, kind: Watcher = "monitor") -> Process:
    """The one that has taken over from another."""
    return until(lambda: (one := who(stack, kind)) and one != before and one, BACK)


def both(stack: Stack) -> tuple[Process, Process]:
    """Monitor and guard, once both watch."""
    return until(lambda: who(stack), BACK), until(lambda: who(stack, "guard"), BACK)


def only_those(stack: Stack, *ones: Process) -> bool:
    return set(stack.watchers()) == set(ones)


def pids(stack: Stack) -> dict[str, int]:
    """Which process is which service, by its record."""
    return {name: recorded(stack, name)["process"]["pid"] for name in stack.services}


def answers(stack: Stack, name: str = "api") -> str:
    """The pid that answers, or "" when nobody does."""
    try:
        return stack.get(name)[1]
    except OSError:
        return ""


def readings(stack: Stack) -> Mapping[str, Any]:
    return post(stack).readings().get("services", {})


def events(stack: Stack) -> str:
    with contextlib.suppress(OSError):
        return (stack.state / "logs" / "monitor.log").read_text()
    return ""


@contextlib.contextmanager
def unharmed(stack: Stack) -> Iterator[None]:
    """Every service keeps its process meanwhile, and answers afterwards."""
    before = pids(stack)
    yield
    assert pids(stack) == before
    assert {name: answers(stack, name) for name in before} == {name: str(pid) for name, pid in before.items()}
    assert {one.pid for one in stack.running()} == set(before.values())


@pytest.fixture
def watched_stack(stack: Stack) -> Stack:
    """Two services, monitor and guard."""
    return up(stack)


def up(stack: Stack, *names: str) -> Stack:
    stack.ops["monitor"] = True
    for name in names or ("api", "ui"):
        stack.tiny(name)
    stack.write()
    stack.ok("start")
    both(stack)
    return stack


def died(stack: Stack, name: str = "api") -> Process:
    """Kills a service; the process that is gone."""
    one = identified(recorded(stack, name)["process"]["pid"])
    ended(one)
    return one


def revived(stack: Stack, before: Process, name: str = "api", within: float = BACK) -> str:
    """The pid that answers in the place of one that died."""
    return until(lambda: (pid := answers(stack, name)) and pid != str(before.pid) and pid, within)


# -- killed --------------------------------------------------------------------------------------------------------


def test_f13_monitor_and_guard_bring_one_another_back_and_services_never_notice(watched_stack: Stack) -> None:
    stack = watched_stack
    monitor, guard = both(stack)
    with unharmed(stack):
        begun = time.monotonic()
        ended(monitor)
        second = another(stack, monitor)
        took = time.monotonic() - begun
        ended(guard)
        other = another(stack, guard, "guard")
        until(lambda: only_those(stack, second, other), BACK)
        health = stack.ok("health", "--json").document
    assert health["hosts"]["localhost"]["monitor"]["pid"] == second.pid
    assert took < 10
    gone = died(stack)  # the new one watches what the old one, or a command, has started
    assert revived(stack, gone)


def test_f13_sigterm_to_a_wanted_monitor_is_healed_like_any_death(watched_stack: Stack) -> None:
    stack = watched_stack
    monitor, guard = both(stack)
    with unharmed(stack):
        assert process.send(monitor, signal.SIGTERM)
        second = another(stack, monitor)
        assert who(stack, "guard") == guard
    assert "ends (SIGTERM); services run on" in events(stack)
    until(lambda: only_those(stack, second, guard), BACK)


def test_f13_everything_of_ours_killed_at_once_is_brought_up_by_start(watched_stack: Stack) -> None:
    stack = watched_stack
    with unharmed(stack):
        kill_all(both(stack))
        assert stack.ok("start", "--json").states == {"api": "ok", "ui": "ok", "monitor": "changed"}
    before = pids(stack)
    kill_all([*both(stack), *stack.running()])
    assert stack.ok("start", "--json").states == {"api": "changed", "ui": "changed", "monitor": "changed"}
    assert not set(before.values()) & set(pids(stack).values())
    until(lambda: only_those(stack, *both(stack)), BACK)
    assert stack.ok("health", "--json").document["healthy"]


def kill_all(ones: Any) -> None:
    """At once: all are stopped before the first dies, so that none can bring another back."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in ones:
            process.send(one, number)
    for one in ones:
        until(lambda one=one: not process.alive(one))


@on_linux
def limit(one: Process, which: int, most: int) -> tuple[int, int]:
    """Gives a running process less (or more) of something; what it had."""
    hard = resource.prlimit(one.pid, which)[1]
    return resource.prlimit(one.pid, which, (most, hard))


# -- stopped -------------------------------------------------------------------------------------------------------


@dataclass
class Frozen:
    """Three stacks: of one the monitor was stopped, of one the guard, of one both for longer than silence may last.
    In all of them, one of the two was launched by the other."""

    monitor: Stack
    guard: Stack
    pair: Stack
    before: dict[str, tuple[Process, Process]]
    services: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    stacks = {name: Stack(tmp_path_factory.mktemp(name)) for name in ("monitor", "guard", "pair")}
    try:
        yield freeze(stacks)
    finally:
        for stack in stacks.values():
            stack.end()


def freeze(stacks: dict[str, Stack]) -> Frozen:
    slow = {"health": [{"http": "/", "every": 1, "timeout": 1}], "grace": 2}
    stacks["pair"].tiny("slow", "--blocked-slow=0.7", **slow)  # most of the time a probe of it is under way
    for stack in stacks.values():
        up(stack, "api")
    monitor, guard = both(stacks["guard"])
    ended(monitor)  # so that it is the guard who has launched the monitor, and not the other way round
    another(stacks["guard"], monitor)
    before = {name: both(stack) for name, stack in stacks.items()}
    assert before["guard"][1] == guard
    services = {name: pids(stack) for name, stack in stacks.items()}
    for name, which in (("monitor", [0]), ("guard", [1]), ("pair", [1, 0])):
        for number in which:
            assert process.send(before[name][number], signal.SIGSTOP)
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > 17.5, 20)
    for one in before["pair"]:
        assert process.send(one, signal.SIGCONT)
    return Frozen(stacks["monitor"], stacks["guard"], stacks["pair"], before, services)


def test_f15_a_stopped_monitor_is_replaced_by_the_guard(frozen: Frozen) -> None:
    monitor, guard = frozen.before["monitor"]
    second = another(frozen.monitor, monitor)
    until(lambda: only_those(frozen.monitor, second, guard), BACK)
    assert pids(frozen.monitor) == frozen.services["monitor"]
    assert frozen.monitor.ok("health", "--json").document["healthy"]
    assert f"the monitor, pid {monitor.pid}, is silent: ended" in events(frozen.monitor)


def test_f15_a_stopped_guard_is_replaced_by_the_monitor(frozen: Frozen) -> None:
    monitor, guard = frozen.before["guard"]
    second = another(frozen.guard, guard, "guard")
    until(lambda: only_those(frozen.guard, monitor, second), BACK)
    assert pids(frozen.guard) == frozen.services["guard"]
    assert f"the guard, pid {guard.pid}, is silent: ended" in events(frozen.guard)


def test_f37_a_pair_that_slept_ends_neither_one_another_nor_a_service(frozen: Frozen) -> None:
    stack, both_before = frozen.pair, frozen.before["pair"]
    for kind in ("monitor", "guard"):
        beats = {post(stack).beaten(kind)}
        until(lambda kind=kind, beats=beats: beats.add(post(stack).beaten(kind)) or len(beats) > 3, BACK)
    assert both(stack) == both_before
    assert only_those(stack, *both_before)
    assert pids(stack) == frozen.services["pair"]
    assert "woke" in events(stack)
    assert not re.search(r"restart|silent|hung|unhealthy", events(stack))


# -- one of them, wanted or not ------------------------------------------------------------------------------------


def test_monitor_stop_ends_both_and_only_a_full_start_brings_them_back(watched_stack: Stack) -> None:
    stack = watched_stack
    with unharmed(stack):
        assert stack.ok("monitor-stop", "--json").states == {"monitor": "changed"}
        assert stack.watchers() == []
        assert stack.ok("start", "--only", "api", "--json").states == {"api": "ok"}
        assert stack.watchers() == []
        told = stack.ok("status", "--json").document
        assert told["healthy"] and told["hosts"]["localhost"]["monitor"]["state"] == "down"
        announced = stack.ok("start", "--check", "--json").outcomes["monitor"]
        assert stack.watchers() == []
        done = stack.ok("start", "--json").outcomes["monitor"]
    assert plan_of(announced) == plan_of(done) == ("changed", "down", "up")
    announced = stack.ok("start", "--check", "--json").outcomes["monitor"]
    assert plan_of(announced) == plan_of(stack.ok("start", "--json").outcomes["monitor"]) == ("ok", "up", "up")


def plan_of(outcome: dict[str, Any]) -> tuple[str, str, str]:
    return outcome["state"], outcome["before"], outcome["after"]


def test_a_stop_ends_the_watch_and_nothing_comes_back(watched_stack: Stack) -> None:
    stack = watched_stack
    assert set(stack.ok("stop", "--json").states) == {"api", "ui", "monitor"}
    quiet = time.monotonic() + 2.5
    until(lambda: time.monotonic() > quiet or stack.watchers() or stack.running())
    assert (stack.watchers(), stack.running()) == ([], [])
    assert stack.ok("stop", "--json").document["recap"]["localhost"]["changed"] == 0


def test_f16_an_upgrade_of_the_monitor_restarts_no_service(watched_stack: Stack) -> None:
    stack = watched_stack
    before = both(stack)
    with unharmed(stack):
        stack.ok("monitor-stop", "monitor-start")
        after = both(stack)
        assert not set(before) & set(after)
        until(lambda: {one["state"] for one in readings(stack).values()} == {"up"}, BACK)


def test_a_second_monitor_says_who_watches(watched_stack: Stack) -> None:
    stack = watched_stack
    before = both(stack)
    refused = stack.inv("monitor")
    assert refused.code == 2
    assert f"pid {before[0].pid}" in refused.err and "monitor-stop" in refused.err
    assert only_those(stack, *before)


def test_f20_five_starts_of_a_monitor_end_with_one(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    with unharmed(stack):
        starts = [stack.popen("monitor-start", "--json") for _ in range(5)]
        ends = [(child.communicate(timeout=60), child.returncode) for child in starts]
        assert [code for _, code in ends] == [0] * 5, ends
        until(lambda: only_those(stack, *both(stack)), BACK)
    named = {re.search(r"pid (\d+)", json.loads(out)["outcomes"][0]["detail"]).group(1) for (out, _), _ in ends}
    assert named == {str(who(stack).pid)}, ends


@on_linux
def test_monitor_stop_holds_against_a_monitor_that_is_just_being_brought_back(watched_stack: Stack) -> None:
    stack = watched_stack
    monitor, _ = both(stack)
    with unharmed(stack):
        ended(monitor)
        coming = until(lambda: next((one for one in stack.watchers() if is_monitor(one) and one != monitor), None))
        assert process.send(coming, signal.SIGSTOP)
        late = who(stack) == coming  # it was quicker than this test
        stack.ok("monitor-stop")
        process.send(coming, signal.SIGCONT)
        until(lambda: not stack.watchers(), BACK)
    assert not late or "ends" in events(stack)


def is_monitor(one: Process) -> bool:
    return process.command_line(one.pid)[3] == "monitor"


# -- in the foreground -----------------------------------------------------------------------------------------------


def test_a_monitor_on_a_terminal_prints_json_lines_and_ctrl_c_leaves_services_running(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    child = stack.popen("monitor", "--json")
    watching = until(lambda: who(stack), BACK)
    gone = died(stack)
    assert revived(stack, gone)
    until(lambda: readings(stack)["api"]["state"] == "up" and readings(stack)["api"]["pid"] != gone.pid, BACK)
    with unharmed(stack):
        assert process.send(watching, signal.SIGINT)
        out, err = child.communicate(timeout=30)
        assert child.returncode == 130, err
        assert stack.watchers() == []
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line["schema"] == 1 and line["task"] == "monitor" and line["at"] for line in lines)
    told = [(line["service"], line["event"]) for line in lines]
    assert told.index(("api", "down")) < told.index(("api", "starting")) < len(told) - told[::-1].index(("api", "up"))
    assert lines[-1]["detail"] == "ends (SIGINT); services run on"


# -- locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_held_by_a_stopped_monitor_is_broken_and_any_other_holder_is_named(stack: Stack) -> None:
    stack.ops["monitor"] = True
    stack.ops["confirm"] = 0
    stack.tiny("api", "--deaf", grace=60)
    stack.tiny("ui")
    stack.write()
    stack.ok("start")
    monitor, _ = both(stack)
    untouched, deaf = recorded(stack, "ui"), identified(recorded(stack)["process"]["pid"])
    assert process.send(deaf, signal.SIGUSR1)  # it answers 500: the monitor ends it, and waits for its grace
    until(lambda: recorded(stack)["stopping"], BACK)
    refused = stack.inv("stop", "--only", "api", "--timeout", "1")
    assert refused.code == 2 and f"pid {monitor.pid}" in refused.out + refused.err
    assert process.send(monitor, signal.SIGSTOP)
    command = stack.popen("stop", "--only", "api", "--json")
    until(lambda: not process.alive(monitor), BACK)
    another(stack, monitor)  # which leaves the service to the command
    ended(deaf)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 0, out + err
    assert stack.running("api") == []
    assert recorded(stack, "ui") == untouched


# -- many restarts ---------------------------------------------------------------------------------------------------


@on_linux
def test_f35_sixty_restarts_leave_descriptors_memory_and_threads_as_they_were(stack: Stack) -> None:
    stack.ops.update(monitor=True, attempts=1000, delay=0)
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    monitor, _ = both(stack)
    for _ in range(20):  # until every thread is there and memory has been taken once
        once_more(stack)
    before = use(monitor)
    for _ in range(40):
        once_more(stack)
    until(lambda: use(monitor)["descriptors"] <= before["descriptors"], BACK)
    after = use(monitor)
    assert after["rss"] - before["rss"] < 1500, (before, after)
    assert after["threads"] <= 14
    assert who(stack) == monitor
    until(lambda: zombies_of(monitor) == [], BACK)
    assert len(stack.running("api")) == 1


def once_more(stack: Stack) -> None:
    revived(stack, died(stack))


def use(one: Process) -> dict[str, int]:
    """Open descriptors, threads, and resident memory in KiB."""
    status = Path(f"/proc/{one.pid}/status").read_text()
    found = {key: int(re.search(rf"{key}:\s+(\d+)", status).group(1)) for key in ("VmRSS", "Threads")}
    descriptors = len(os.listdir(f"/proc/{one.pid}/fd"))
    return {"descriptors": descriptors, "threads": found["Threads"], "rss": found["VmRSS"]}


def zombies_of(one: Process) -> list[int]:
    return [line.pid for line in process.table().values() if line.ppid == one.pid and line.dead]


# -- clocks ----------------------------------------------------------------------------------------------------------


def faketime_library() -> str:
    found = [str(path) for path in Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1")]
    return found[0] if found else ""


@pytest.mark.skipif(not faketime_library(), reason="libfaketime is not installed (package faketime)")
def test_f36_a_day_forward_and_back_restarts_nothing_and_delays_no_retry(stack: Stack) -> None:
    stack.ops.update(delay=1.5, retry_max=1)
    stack.tiny("api")
    # Never well, dies after a moment and leaves something: each retry asks how long ago it was started.
    stack.tiny("ill", "--answer=500", "--exit-after=0.3", "--child=setsid", critical=True)
    stack.write()
    stack.ok("start", "--only", "api")
    said = stack.folder / "time"
    said.write_text("+0")
    monitor = spawn_faked(stack, said)
    before = pids_of(stack, "api")
    births: set[float] = set()  # of the kernel, which no clock of the day moves
    for jump in ("+1d", "-1d", "+0"):
        set_clock(said, jump)
        enough = len(births) + 3
        until(lambda enough=enough: births.update(birth_of(stack, "ill")) or len(births) >= enough, 30)
    assert events(stack).count("the clock of the day was set") >= 2
    assert monitor.poll() is None
    assert pids_of(stack, "api") == before
    assert not re.search(r" api (restart|down|hung|unhealthy)", events(stack))
    _, *later = sorted(births)  # the first restart comes at once
    assert min(after - before for before, after in itertools.pairwise(later)) > 0.8, sorted(births)  # none too early


def birth_of(stack: Stack, name: str) -> list[float]:
    """When its present process was started, in seconds since boot; nothing while it has no record."""
    with contextlib.suppress(OSError):
        return [recorded(stack, name)["process"]["birth"]]
    return []


def pids_of(stack: Stack, name: str) -> list[int]:
    return [one.pid for one in stack.running(name)]


def set_clock(file: Path, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, file)


def faked(stack: Stack, file: Path) -> dict[str, str]:
    said = {"LD_PRELOAD": faketime_library(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}
    return {**stack.env, **said, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


def spawn_faked(stack: Stack, file: Path) -> Any:
    """A monitor by the clock in that file. Tried anew when libfaketime has failed a short sleep while it read its
    inventory (EINVAL: it takes a moment that has just passed for a negative duration)."""
    for _ in range(5):
        child = stack.spawn(by_hand(stack), env=faked(stack, file))
        until(lambda child=child: who(stack) or child.poll() is not None, BACK)
        if child.poll() is None:
            break
    return child


def by_hand(stack: Stack) -> list[str]:
    """The monitor as a process of the test's own making."""
    where = ["--state", str(stack.state), "--inventory", str(stack.folder / "inventory.yaml")]
    return [PYTHON, "-I", "-m", "ops.watch", "monitor", *where, "--foreground"]


# -- nothing left ----------------------------------------------------------------------------------------------------


@on_linux
def test_f45_without_descriptors_the_watch_goes_on_and_what_is_stopped_stays_stopped(stack: Stack) -> None:
    stack.ops.update(monitor=True, interval=1)
    stack.tiny("api", critical=True)
    stack.tiny("off", critical=True)
    stack.write()
    stack.ok("start")
    monitor, _ = both(stack)
    had = limit(monitor, resource.RLIMIT_NOFILE, 3)
    stack.ok("stop", "--only", "off")
    gone = died(stack)
    quiet = time.monotonic() + 2.5  # time enough to see it, to try, and to fail
    until(lambda: time.monotonic() > quiet)
    assert process.alive(monitor), events(stack)
    assert answers(stack) == ""
    limit(monitor, resource.RLIMIT_NOFILE, had[0])
    assert revived(stack, gone)
    once_more(stack)
    assert who(stack) == monitor
    until(lambda: readings(stack)["off"]["state"] == "down", BACK)
    assert " off starting" not in events(stack), events(stack)
    assert stack.running("off") == []
    told = stack.inv("status", "--json").services["off"]
    assert (told["wanted"], told["state"]) == ("down", "down")


@as_root
@on_linux
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
def test_f45_without_processes_left_a_restart_is_tried_again(stack: Stack) -> None:
    stack.add("api", ["sleep", "1000"], port=None, critical=True, health=[])
    stack.write()
    for folder in (stack.folder.parent, stack.folder, stack.public, stack.home):
        os.chown(folder, NOBODY, NOBODY)  # root has no such limit, so everything here runs as somebody else
    as_nobody = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]  # this Python may be root's own
    bounds = ["--bounding-set=-all,+dac_read_search"]
    stack.spawn(["setpriv", *as_nobody, *reading, *bounds, *by_hand(stack)], env=stack.env, cwd=stack.folder)
    monitor = until(lambda: who(stack), BACK)
    until(lambda: readings(stack).get("api", {}).get("state") == "up", BACK)
    limited = ["setpriv", *as_nobody, "prlimit", "--pid", str(monitor.pid)]  # root of a container may not, its user may
    subprocess.run([*limited, "--nproc=0:"], check=True)
    gone = died(stack)
    until(lambda: "Resource temporarily unavailable" in events(stack), BACK)
    assert process.alive(monitor)
    subprocess.run([*limited, f"--nproc={resource.getrlimit(resource.RLIMIT_NPROC)[0]}:"], check=True)
    until(lambda: recorded(stack)["process"]["pid"] != gone.pid, BACK)
    back = identified(recorded(stack)["process"]["pid"])
    until(lambda: (readings(stack)["api"]["state"], readings(stack)["api"]["pid"]) == ("up", back.pid), BACK)
    assert who(stack) == monitor


# -- what was recorded before ----------------------------------------------------------------------------------------

_LIES: dict[str, Callable[[Process], Process]] = {
    "reused": lambda one: replace(one, birth=one.birth - 1000.0),
    "rebooted": lambda one: replace(one, boot="00000000-dead-beef-0000-000000000000"),
}


def test_f17_f18_records_of_reused_pids_and_of_another_boot_are_dead_to_a_monitor(stack: Stack) -> None:
    stack.ops["monitor"] = True
    victims = {name: bystander(stack) for name in (*_LIES, "monitor", "guard")}
    for name in _LIES:
        stack.tiny(name)
    stack.write()
    state = State(StackNoun(stack.name, stack.name), str(stack.folder), str(stack.state))
    state.prepare()
    at = "2024-01-01T00:00:00.000+00:00"
    for name, lie in _LIES.items():
        state.remember(Record(name, lie(victims[name]), f"{state.tag}-00000000", "", at, ready_at=at, grace=1.0))
    post(stack).sign_on("monitor", _LIES["reused"](victims["monitor"]))
    post(stack).sign_on("guard", _LIES["rebooted"](victims["guard"]))
    assert stack.ok("monitor-start", "--json").states == {"monitor": "changed"}
    for name in _LIES:
        assert until(lambda name=name: answers(stack, name), BACK) != str(victims[name].pid)
        until(lambda name=name: readings(stack).get(name, {}).get("state") == "up", BACK)
    both(stack)
    stack.ok("stop")
    assert [name for name, one in victims.items() if not process.alive(one)] == []
