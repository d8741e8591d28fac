"""F35 and F45: what a great many restarts leave in the monitor, and a monitor that is denied what a restart takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.host import process
from ops.model import Process
from tests.faults.row import Row, Since
from tests.faults.theirs import theirs, two_users
from tests.scene import ended, on_linux, recorded
from tests.stack import Stack
from tests.test_monitor_itself import use, who, zombies_of
from tests.waiting import until
from tests.watch import PATIENCE, answerer, lines, reading, root, state, watched

RESTARTS = 2000
SERVICES = 10


@pytest.mark.slow
@pytest.mark.timeout(400)
@on_linux
def test_f35_a_great_many_restarts_leave_descriptors_memory_and_threads_as_they_were(row: Row, stack: Stack) -> None:
    for number in range(SERVICES):
        stack.tiny(f"api{number}", attempts=1_000_000, delay=0)
    watched(stack)
    monitor = stack.watcher()
    killed: dict[str, Process] = {}
    many_deaths(stack, killed, RESTARTS // 5)  # until every thread is there and memory has been taken once
    until(lambda: all(ready(stack, name) not in (None, killed[name]) for name in killed), PATIENCE)
    before = use(monitor)
    many_deaths(stack, killed, RESTARTS)
    until(lambda: all(ready(stack, name) not in (None, killed[name]) for name in killed), PATIENCE)
    until(lambda: use(monitor)["descriptors"] <= before["descriptors"], PATIENCE)
    after = use(monitor)
    row.figure("restarts", RESTARTS)
    for name, unit in (("descriptors", ""), ("threads", ""), ("rss", ", KiB")):
        row.figure(f"growth of {name}{unit}", after[name] - before[name])
    assert after["rss"] - before["rss"] < 4 * RESTARTS, "more than 4 KiB for each"
    assert after["threads"] <= before["threads"] + 2
    assert stack.watcher() == monitor
    until(lambda: zombies_of(monitor) == [], PATIENCE)
    assert len(stack.running()) == SERVICES
    assert all(answerer(stack, name) == root(stack, name).pid for name in stack.services)


def many_deaths(stack: Stack, killed: dict[str, Process], count: int) -> None:
    """Kills whichever service is ready, that many times."""
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


def ready(stack: Stack, name: str) -> Process | None:
    """The process that is recorded to be up."""
    said = recorded(stack, name)
    return Process(**said["process"]) if said["ready_at"] else None


# What the monitor may have while its service dies: option of prlimit(1), soft limit, whether a restart can do with it.
DENIED = {"descriptors": ("nofile", 3), "processes": ("nproc", 0), "memory": ("as", 1 << 20)}
LIMITS = {"nofile": "Max open files", "nproc": "Max processes", "as": "Max address space"}  # in /proc/PID/limits


@pytest.mark.slow
@two_users
@on_linux
def test_f45_a_monitor_without_descriptors_processes_or_memory_goes_on_and_tries_again(row: Row) -> None:
    with theirs() as stack:  # root has no limit of processes
        stack.tiny("api", critical=True, retry_max=2)
        watched(stack)
        monitor = until(lambda: who(stack), PATIENCE)
        back: list[float] = []
        for what, (option, least) in DENIED.items():
            before = root(stack)
            had = soft_limit(monitor, LIMITS[option])
            stack.limited(monitor.pid, **{option: f"{least}:"})
            ended(before)
            denied = Since()
            until(lambda denied=denied: denied.seconds() > 3)  # time enough to see it, to try, and to fail
            assert process.alive(monitor), f"without {what}"
            row.figure(f"served without {what}", "yes" if answerer(stack) else "no")
            since = Since()
            stack.limited(monitor.pid, **{option: f"{had}:"})
            back.append(since.until(lambda before=before: answerer(stack) not in (0, before.pid)))
            until(lambda: state(stack) == "up" and reading(stack)["pid"] == root(stack).pid, PATIENCE)
        row.figure("seconds until it serves once that is over, at most", max(back))
        assert who(stack) == monitor
        assert "Resource temporarily unavailable" in "".join(lines(stack, "monitor", "api"))
        assert not lines(stack, "monitor", "Traceback")


def soft_limit(one: Process, name: str) -> str:
    found = re.search(rf"^{name} +(\w+)", Path(f"/proc/{one.pid}/limits").read_text(), re.MULTILINE)
    assert found
    return found[1]
