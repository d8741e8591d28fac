"""F20 and F21: many at once. A census of the process table looks all the while whether a service lives twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping

import pytest

from ops.host import process
from tests.census import Census
from tests.faults.row import Row, Since
from tests.faults.stage import log, sample, well
from tests.scene import alone
from tests.stack import Stack
from tests.test_laws_never_two import WORKER, begun, copies, never_two
from tests.test_monitor_races import finished, interleave, killing, steady, three, wanted_runs
from tests.waiting import until
from tests.watch import PATIENCE, root, state

STARTS = 20
SEEDS = (1, 2, 3)
SLOW = "slow"  # takes its whole grace to end, so that commands are still at it when the next one comes
RIVALS = 4


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_f20_twenty_starts(stack: Stack, row: Row) -> None:
    """Three servers, and a worker without a port, of which the kernel would not refuse a second one."""
    names = ("pg-api", "bank-api", "recon-api")
    sample(stack, *names, start_timeout=60)
    stack.add("worker", [sys.executable, "-S", "-c", WORKER], port=None)
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    with never_two(stack) as census:
        since = Since()
        commands = [stack.popen("start", "--json") for _ in range(STARTS)]
        row.serving(since.until(lambda: all(well(stack, name) for name in names), 100), since="the first start")
        ends = [(command.communicate(timeout=100), command.returncode) for command in commands]
    row.figure("until the last of 20 had ended", since.seconds())
    row.figure("looks at the process table", census.looks)
    assert [code for _, code in ends] == [0] * STARTS, ends
    assert copies(stack) == dict.fromkeys(stack.services, 1)
    assert {name: well(stack, name) for name in names} == {name: alone(stack, name).pid for name in names}
    assert process.alive(stack.watcher("monitor")) and process.alive(stack.watcher("guard"))
    until(
        lambda: all(state(stack, name) == "up" and root(stack, name) == alone(stack, name) for name in stack.services),
        PATIENCE,
    )
    # A second one that was refused its port, or was ended before anybody looked, has left its line all the same.
    starts = {name: log(stack, name).count("listening on") for name in names}
    assert {**starts, "worker": begun(stack, "worker")} == dict.fromkeys(stack.services, 1)
    assert not any("cannot listen" in log(stack, name) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_f21_start_against_stop(stack: Stack, row: Row) -> None:
    """Four services (one without a port, of which the kernel would not refuse a second one) under a monitor; commands
    drawn by a seed for six seconds, three at a time, and one last word; services killed meanwhile."""
    stack.tiny(SLOW, "--deaf", "--print=begun", grace=1.5)
    three(stack)
    watchers = (stack.watcher("monitor"), stack.watcher("guard"))
    deaths = looks = twice = beside = 0
    said: set[bool] = set()
    for seed in SEEDS:
        with Census(stack) as census:
            with killing(stack, seed, 0.3) as killed:
                interleave(stack, seed, 6)
            until(lambda: wanted_runs(stack), PATIENCE)
            steady(stack, 2)
            wanted, at_once = last_word(stack, seed)
            until(lambda wanted=wanted: as_said(stack, wanted), PATIENCE)
            steady(stack, 2)
            assert as_said(stack, wanted), (seed, wanted, copies(stack))
        assert census.failure is None and census.looks > 10
        deaths, looks, twice = deaths + len(killed), looks + census.looks, twice + len(census.twice)
        beside, said = beside + at_once, said | set(wanted.values())
        row.figure("services seen twice", twice)
        assert census.twice == [], seed
    assert (stack.watcher("monitor"), stack.watcher("guard")) == watchers
    stack.ok("stop", "--only", ",".join(stack.services))
    steady(stack, 2)
    assert not stack.running()
    stack.ok("start")
    assert copies(stack) == dict.fromkeys(stack.services, 1)
    row.figure("seeds", ", ".join(map(str, SEEDS)))
    row.figure("services killed meanwhile", deaths)
    row.figure("looks at the process table", looks)
    row.figure("commands that were at it when the last word was said", beside)
    assert deaths > len(SEEDS) and beside > len(SEEDS) and said == {True, False}


def last_word(stack: Stack, seed: int) -> tuple[dict[str, bool], int]:
    """Commands drawn by the seed want this and that of the slow one, each begun once the one before it has said what
    it wants. The last one wants the contrary of the one before, of the slow one or of all: whom it wants up or down,
    and how many of the others were still at it when it said so."""
    for name in stack.services:
        stack.ok("release", name)
    stack.ok("start")
    dice, up, rivals = random.Random(seed), True, []
    for _ in range(RIVALS):
        verb = dice.choice(["restart-one", "stop" if up else "start"])  # what is wanted already would not be said anew
        up = verb != "stop"
        rivals.append(spoken(stack, [verb, *([] if verb == "restart-one" else ["--only"]), SLOW]))
    names = dice.choice([[SLOW], list(stack.services)])
    last = spoken(stack, ["stop" if up else "start", "--only", ",".join(names)])
    at_once = sum(one.poll() is None for one in rivals)
    for command in (*rivals, last):
        finished(command, seed)
    return dict.fromkeys(names, not up), at_once


def spoken(stack: Stack, args: list[str]) -> subprocess.Popen[str]:
    """A command that has said what it wants, and may still be at it."""
    command = stack.popen(*args, "--json")

    def said() -> bool:
        wishes = json.loads((stack.state / "wanted.json").read_text())["services"]
        return command.poll() is not None or command.pid in {wish["pid"] for wish in wishes.values()}

    until(said, PATIENCE)
    return command


def as_said(stack: Stack, wanted: Mapping[str, bool]) -> bool:
    """Whether the process table has one of each that is wanted up, and none of the others."""
    there = copies(stack)
    return all(there[name] == up for name, up in wanted.items())
