"""F49 to F51: one that others need is restarted, all die at once, and it is the checker that is broken."""

from __future__ import annotations

import signal
import stat
import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import ALL, measured, recovery, sample, well
from tests.scene import ended, recorded
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, lines, restarts, root, state, sweeps, watched

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "inventory.yaml").read_text())["all"]["vars"]["services"]
CRITICAL = [name for name in ALL if SHIPPED[name].get("critical")]
OTHERS = [name for name in ALL if name not in CRITICAL]
# Seconds that the others let critical ones go first: until those are up, and no longer than this.
GO_FIRST = 0.25
MOMENT = 0.005  # what is recorded is rounded to milliseconds


def all_five(stack: Stack) -> None:
    """The sample stack; what needs what, and what is critical, is as in the shipped inventory."""
    sample(stack, *ALL)
    for name in ALL:
        stack.services[name].update(needs=SHIPPED[name].get("needs", []), critical=name in CRITICAL)


def test_f49_dependents_follow_a_restarted_need_only_where_that_is_declared(row: Row, stack: Stack) -> None:
    all_five(stack)
    stack.services["overview-api"]["on_need_restart"] = "restart"
    watched(stack)
    before = {name: root(stack, name) for name in ALL}
    measured(row, recovery(stack, "bank-api", ended))
    since = Since()
    until(lambda: root(stack, "overview-api") != before["overview-api"], PATIENCE)
    until(lambda: well(stack, "overview-api") == root(stack, "overview-api").pid, PATIENCE)
    row.figure("seconds until a dependent that follows serves again", since.seconds())
    sweeps(stack, 3)
    assert lines(stack, "monitor", " overview-api restart", "need: bank-api was restarted")
    left = ("pg-api", "recon-api", "frontend")
    assert {name: root(stack, name) for name in left} == {name: before[name] for name in left}
    assert {name: restarts(stack, name) for name in ALL} == {**dict.fromkeys(left, 0), "bank-api": 1, "overview-api": 1}
    assert all(well(stack, name) for name in ALL) and not lines(stack, "alerts", "CRITICAL")


def test_f50_when_all_five_die_the_critical_ones_come_first_and_one_alert_is_told(row: Row, stack: Stack) -> None:
    """One of the two critical ones takes a second to start: that the other one is up is not enough, and nobody waits
    until the slow one is."""
    all_five(stack)
    assert CRITICAL == ["recon-api", "frontend"]
    stack.services["frontend"]["env"].update(OPS_SAMPLE_FAULT="slow-start", OPS_SAMPLE_SLOW="1")
    watched(stack)
    before = {name: root(stack, name) for name in ALL}
    monitor = stack.watcher()
    process.send(monitor, signal.SIGSTOP)  # for it, all of them die in the same moment
    for one in before.values():
        ended(one)
    since, told_at = Since(), time.time()
    process.send(monitor, signal.SIGCONT)
    back: dict[str, float] = {}

    def all_back() -> bool:
        for name in ALL:
            if name not in back and well(stack, name) not in (0, before[name].pid):
                back[name] = since.seconds()
        return len(back) == len(ALL)

    until(all_back, PATIENCE)
    row.serving(max(seconds for name, seconds in back.items() if name != "frontend"), since="the monitor was let go on")
    row.figure("seconds until recon-api, a critical one, serves", back["recon-api"])
    until(lambda: all(recorded(stack, name)["ready_at"] for name in ALL), PATIENCE)
    begun = {name: moment(stack, name, "started_at") for name in ALL}
    first, last = max(begun[name] for name in CRITICAL), min(begun[name] for name in OTHERS)
    row.figure("seconds from the last critical one's start to the first other's", last - first)
    assert first < last, begun
    # Not at once after them, either: they have the machine for themselves until both are up, or for a while.
    up = max(moment(stack, name, "ready_at") for name in CRITICAL)
    assert min(up, told_at + GO_FIRST) - MOMENT <= last < up, (begun, up, told_at)
    row.noticed(since.until(lambda: lines(stack, "alerts", "CRITICAL")), since="the monitor was let go on")
    until(lambda: lines(stack, "alerts", "RESOLVED"), PATIENCE)
    (alert,) = lines(stack, "alerts", "CRITICAL")
    assert "services failed at once: recon-api, frontend" in alert, alert
    assert len(lines(stack, "alerts", "")) == 2
    assert [restarts(stack, name) for name in ALL] == [1] * 5


def moment(stack: Stack, name: str, of: str) -> float:
    """A moment of its record, in seconds since 1970."""
    return datetime.fromisoformat(recorded(stack, name)[of]).timestamp()


@pytest.mark.slow
def test_f51_a_checker_that_breaks_says_nothing_against_the_service(row: Row, stack: Stack) -> None:
    checker = stack.folder / "check-it"
    sample(stack, "pg-api")
    stack.services["pg-api"]["health"] += [
        {"command": [str(checker)], "every": 1, "timeout": 1},
        {"http": "http://nowhere.invalid/", "every": 1, "timeout": 1},  # a name that no resolver knows
    ]
    repair(checker)
    watched(stack)
    before = root(stack, "pg-api")
    for broken in (checker.unlink, lambda: checker.chmod(0o644), lambda: break_(checker)):
        repair(checker)
        assert asked(stack) == [True, True, True, None]
        since = Since()
        broken()
        assert asked(stack) == [True, True, None, None]
        row.noticed(since.seconds())
        sweeps(stack, 4)  # each of which asks again
        assert state(stack, "pg-api") == "up" and root(stack, "pg-api") == before and process.alive(before)
        told = stack.ok("health")
        assert told.out.count("could not be asked") == 2, str(told)
    assert restarts(stack, "pg-api") == 0 and not lines(stack, "alerts", "CRITICAL")
    assert not lines(stack, "monitor", "pg-api down") and not lines(stack, "monitor", "pg-api unhealthy")


def asked(stack: Stack) -> list[bool | None]:
    """What `health` finds, of the port first: None is could not be asked. It is content all the same."""
    told = stack.ok("health", "--json").document
    assert told["healthy"]
    return [probe["ok"] for probe in told["hosts"]["localhost"]["services"][0]["probes"]]


def repair(checker: Path) -> None:
    fresh = checker.with_suffix(".new")  # a file that is open for writing cannot be run
    fresh.write_text("#!/bin/sh\nexit 0\n")
    fresh.chmod(stat.S_IRWXU)
    fresh.replace(checker)


def break_(checker: Path) -> None:
    """Its interpreter is not there."""
    fresh = checker.with_suffix(".new")
    fresh.write_text("#!/nowhere/at/all\n")
    fresh.chmod(stat.S_IRWXU)
    fresh.replace(checker)
