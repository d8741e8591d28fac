"""F35 and F45: what a great many restarts leave in monitor and guard, and a monitor that is denied what a restart
takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from ops.host import process
from ops.model import Process
from tests.faults.row import Row, Since
from tests.faults.stage import log
from tests.faults.theirs import theirs, two_users
from tests.scene import ended, on_linux, recorded
from tests.stack import Stack
from tests.test_monitor_itself import both, use, who, zombies_of
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, lines, reading, root, watched

RESTARTS = 2000
SERVICES = 10
FLAT = 1024  # KiB: a byte more for each restart would be one, a kibibyte for each is found


@pytest.mark.slow
@pytest.mark.timeout(400)
@on_linux
def test_f35_a_great_many_restarts_leave_descriptors_memory_and_threads_as_they_were(row: Row, stack: Stack) -> None:
    for number in range(SERVICES):
        stack.tiny(f"api{number}", attempts=1_000_000, delay=0)
    watched(stack)
    watchers = dict(zip(("monitor", "guard"), both(stack), strict=True))
    killed: dict[str, Process] = {}
    many_deaths(stack, killed, RESTARTS // 2)  # every thread is there, and memory has been taken once
    before = {kind: use(one) for kind, one in watchers.items()}
    many_deaths(stack, killed, RESTARTS // 2)
    row.figure("restarts", RESTARTS)
    for kind, one in watchers.items():
        until(lambda one=one, kind=kind: use(one)["descriptors"] <= before[kind]["descriptors"], PATIENCE)
        grown = {name: value - before[kind][name] for name, value in use(one).items()}
        row.figure(f"growth of the {kind} over the second half of them, KiB", grown["rss"])
        row.figure(f"of its descriptors and threads ({kind})", f"{grown['descriptors']} and {grown['threads']}")
        assert grown["rss"] <= FLAT, f"{kind}: {grown}"
        assert grown["threads"] <= 2, f"{kind}: {grown}"  # of the pool, which grows when there is more at once
        until(lambda one=one: zombies_of(one) == [], PATIENCE)
    assert both(stack) == tuple(watchers.values())
    assert len(stack.running()) == SERVICES
    assert all(answerer(stack, name) == root(stack, name).pid for name in stack.services)


def many_deaths(stack: Stack, killed: dict[str, Process], count: int) -> None:
    """Kills whichever service is ready, that many times; each of them is ready again afterwards."""
    done = 0

    def kill_the_ready() -> bool:
        nonlocal done
        for name in stack.services:
            one = ready(stack, name)
            if one is not None and one != killed.get(name):
                ended(one)
                killed[name] = one
                done += 1
        return done >= count

    until(kill_the_ready, 300)
    until(lambda: all(ready(stack, name) not in (None, killed[name]) for name in killed), PATIENCE)


def ready(stack: Stack, name: str) -> Process | None:
    """The process that is recorded to be up."""
    said = recorded(stack, name)
    return Process(**said["process"]) if said["ready_at"] else None


# Needs more memory than the monitor and its margin have; a limit of the monitor binds what it starts, too.
HUNGRY = """
import mmap, runpy, sys
held = mmap.mmap(-1, 4 << 30)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MARGIN = 200 << 20  # bytes of address space: enough to go on, not to start that
# What the monitor may have while its service dies: option of prlimit(1), and how much.
DENIED: dict[str, tuple[str, Callable[[Process], int]]] = {
    "descriptors": ("nofile", lambda one: use(one)["descriptors"] + 2),  # its own log, and no pipe to a program
    "processes": ("nproc", lambda _: 0),
    "memory": ("as", lambda one: address_space(one) + MARGIN),
}
WORDS = {"descriptors": "Too many open files", "processes": "Resource temporarily unavailable", "memory": "exit 1"}
LIMITS = {"nofile": "Max open files", "nproc": "Max processes", "as": "Max address space"}  # in /proc/PID/limits
RETRY_MAX = 3.0
# After the first one, at once: `delay`; the attempts are spent, so twice a second; then no longer than retry_max.
PAUSES = (0.2, 2.0, RETRY_MAX, RETRY_MAX)
LATE = 1.0  # seconds that a busy machine may add


@pytest.mark.slow
@pytest.mark.timeout(300)
@two_users
@on_linux
def test_f45_a_monitor_without_descriptors_processes_or_memory_goes_on_and_tries_again(row: Row) -> None:
    with theirs() as stack:  # root has no limit of processes
        stack.tiny("api", critical=True, attempts=1, delay=PAUSES[0], retry_max=RETRY_MAX, calm=1)
        stack.services["api"]["command"][1:2] = ["-S", "-c", HUNGRY]
        watched(stack)
        monitor = until(lambda: who(stack), PATIENCE)
        served = [denied(stack, monitor, what) for what in DENIED]
        row.serving(max(served), since="the limit was lifted")
        row.figure("attempts in vain", ", ".join(f"{len(PAUSES) + 1} without {what}" for what in DENIED))
        assert max(served) < RETRY_MAX + 2 * LATE, served
        assert who(stack) == monitor
        assert not lines(stack, "monitor", "Traceback")
        assert log(stack, "api").count("Cannot allocate memory") >= len(PAUSES), "it was not memory that it wanted for"


def denied(stack: Stack, monitor: Process, what: str) -> float:
    """Seconds until it serves once the monitor has again what it was denied, which cost it five attempts."""
    until(lambda: reading(stack)["restarts"] == 0, PATIENCE)  # none is left over from before
    option, enough = DENIED[what]
    before, known = root(stack), len(attempts(stack))
    had = soft_limit(monitor, LIMITS[option])
    stack.limited(monitor.pid, **{option: f"{enough(monitor)}:"})
    ended(before)
    made = until(lambda: nobody(stack) and in_vain(stack, known), PATIENCE)
    assert process.alive(monitor), f"without {what}"
    assert sum(WORDS[what] in line for line in made) >= 2, made
    paused = [later - sooner for sooner, later in itertools.pairwise(map(moment, made))]
    assert all(-0.1 < found - wanted < LATE for found, wanted in zip(paused, PAUSES, strict=True)), paused
    since = Since()
    stack.limited(monitor.pid, **{option: f"{had}:"})
    served = since.until(lambda: answerer(stack) not in (0, before.pid))
    back(stack, before)
    return served


def attempts(stack: Stack) -> list[str]:
    """The lines that tell of an attempt: one that could not even begin, or one that did."""
    return [line for line in lines(stack, "monitor", " api ") if re.search(r" api (not-started|restart):", line)]


def in_vain(stack: Stack, known: int) -> list[str]:
    """The first attempts after those that were known, once there are as many as there are pauses to judge."""
    made = attempts(stack)[known : known + len(PAUSES) + 1]
    return made if len(made) > len(PAUSES) else []


def nobody(stack: Stack) -> bool:
    assert not answerer(stack), "it serves: nothing was denied"
    return True


def moment(line: str) -> float:
    """When a line was written, in seconds."""
    return datetime.fromisoformat(line.split()[0]).timestamp()


def address_space(one: Process) -> int:
    """Bytes."""
    found = re.search(r"^VmSize:\s+(\d+) kB", Path(f"/proc/{one.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def soft_limit(one: Process, name: str) -> str:
    found = re.search(rf"^{name} +(\w+)", Path(f"/proc/{one.pid}/limits").read_text(), re.MULTILINE)
    assert found
    return found[1]
