"""F20 and F21: many at once. A census of the process table looks all the while whether a service lives twice."""

from __future__ import annotations

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import sample, well
from tests.scene import alone
from tests.stack import Stack
from tests.test_laws_never_two import copies, never_two
from tests.test_monitor_races import interleave, killing, steady, three, wanted_runs
from tests.waiting import until
from tests.watch import PATIENCE, root, state

STARTS = 20
SEEDS = (1, 2, 3)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_f20_twenty_starts(stack: Stack, row: Row) -> None:
    names = ("pg-api", "bank-api", "recon-api")
    sample(stack, *names, start_timeout=60)
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
    assert copies(stack) == dict.fromkeys(names, 1)
    assert {name: well(stack, name) for name in names} == {name: alone(stack, name).pid for name in names}
    assert process.alive(stack.watcher("monitor")) and process.alive(stack.watcher("guard"))
    until(
        lambda: all(state(stack, name) == "up" and root(stack, name) == alone(stack, name) for name in names), PATIENCE
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_f21_start_against_stop(stack: Stack, row: Row) -> None:
    """Three services (one without a port, of which the kernel would not refuse a second one) under a monitor; commands
    drawn by a seed for six seconds, three at a time; services killed meanwhile."""
    three(stack)
    watchers = (stack.watcher("monitor"), stack.watcher("guard"))
    deaths = looks = 0
    for seed in SEEDS:
        with never_two(stack) as census:
            with killing(stack, seed, 0.3) as killed:
                interleave(stack, seed, 6)
            until(lambda: wanted_runs(stack), PATIENCE)
            steady(stack, 2)
        deaths, looks = deaths + len(killed), looks + census.looks
    assert (stack.watcher("monitor"), stack.watcher("guard")) == watchers
    for name in stack.services:
        stack.ok("release", name)
    stack.ok("stop", "--only", ",".join(stack.services))
    steady(stack, 2)
    assert not stack.running()
    stack.ok("start")
    assert copies(stack) == dict.fromkeys(stack.services, 1)
    row.figure("seeds", ", ".join(map(str, SEEDS)))
    row.figure("services killed meanwhile", deaths)
    row.figure("looks at the process table", looks)
    row.figure("services seen twice", 0)
    assert deaths > len(SEEDS)
