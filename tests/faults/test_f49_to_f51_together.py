"""F49 to F51: one that others need is restarted, all die at once, and it is the checker that is broken."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import ALL, measured, recovery, sample, well
from tests.scene import ended, recorded
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, lines, restarts, root, state, sweeps, watched

NEEDS = {
    "recon-api": ["pg-api", "bank-api"],
    "overview-api": ["pg-api", "bank-api", "recon-api"],
    "frontend": ["recon-api", "overview-api"],
}


def all_five(stack: Stack) -> None:
    """The sample stack with the needs of the shipped inventory."""
    sample(stack, *ALL)
    for name, needs in NEEDS.items():
        stack.services[name]["needs"] = needs


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


def test_f50_when_all_five_die_the_critical_one_comes_first_and_one_alert_is_told(row: Row, stack: Stack) -> None:
    all_five(stack)
    watched(stack)
    before = {name: root(stack, name) for name in ALL}
    monitor = stack.watcher()
    process.send(monitor, signal.SIGSTOP)  # for it, all of them die in the same moment
    for one in before.values():
        ended(one)
    since = Since()
    process.send(monitor, signal.SIGCONT)
    back: dict[str, float] = {}

    def all_back() -> bool:
        for name in ALL:
            if name not in back and well(stack, name) not in (0, before[name].pid):
                back[name] = since.seconds()
        return len(back) == len(ALL)

    until(all_back, PATIENCE)
    row.serving(max(back.values()), since="the monitor was let go on")
    row.figure("seconds until recon-api, the critical one, serves", back["recon-api"])
    begun = {name: recorded(stack, name)["started_at"] for name in ALL}
    assert min(begun, key=begun.__getitem__) == "recon-api", begun
    assert len(set(begun.values())) > 1, "not one after the other"
    row.noticed(since.until(lambda: lines(stack, "alerts", "CRITICAL")), since="the monitor was let go on")
    until(lambda: lines(stack, "alerts", "RESOLVED"), PATIENCE)
    (alert,) = lines(stack, "alerts", "CRITICAL")
    assert "services failed at once: recon-api" in alert, alert
    assert len(lines(stack, "alerts", "")) == 2
    assert [restarts(stack, name) for name in ALL] == [1] * 5


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
