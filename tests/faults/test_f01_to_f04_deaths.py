"""F1 to F4: it dies, again and again, now and then, or politely. A death is noticed by event, never by a poll."""

from __future__ import annotations

import itertools
import signal
import statistics
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import measured, port_of, processor_seconds, recovery, sample, told, well
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import free_port, until
from tests.watch import PATIENCE, back, critical, kpi, lines, resolved, restarts, root, state, sweeps, watched

BUDGET = 0.1  # seconds that a recovery may take longer than the bare start of the same program
AT_MOST = 0.5  # the same for the slowest of all: a busy machine may be in the way of one
TURNS = 7
# Of a processor: what the monitor may use beside a crash loop. It uses 0.016 on a quiet machine, and was seen to use
# 0.034 for the same on one that others keep busy; beside a loop that nothing slows down it would use most of one.
IDLE = 0.1
LIFE = 20  # seconds between the deaths of the slow crash loop
BY_EVENT = 0.25  # seconds from a death to the word of the monitor: no poll is that fast each time


def test_f01_crash(stack: Stack, row: Row) -> None:
    """The median of seven against the median of seven, in turns: a delay now and then moves that, an odd one does
    not. The slowest is bounded as well, and how fast a death is noticed, by itself."""
    stack.ops.update(attempts=20, delay=0)
    sample(stack, "pg-api", "bank-api", "recon-api")
    watched(stack)
    found, bare = [], []
    for _ in range(TURNS):
        bare.append(bare_start(stack))
        found.append(recovery(stack, "recon-api", lambda one: process.send(one, signal.SIGKILL), "down"))
        until(lambda: state(stack, "recon-api") == "up", PATIENCE)
    serving = [one.serving for one in found]
    measured(row, *found)
    row.figure(f"median of {TURNS}", statistics.median(serving))
    row.figure(f"bare start, median of {TURNS}", statistics.median(bare))
    assert statistics.median(serving) < statistics.median(bare) + BUDGET, (found, bare)
    assert max(serving) < max(bare) + AT_MOST, (found, bare)
    assert max(one.noticed for one in found) < BY_EVENT, found
    assert restarts(stack, "recon-api") == TURNS and not critical(stack, "recon-api")
    # A report may be some seconds behind.
    until(lambda: kpi(stack, "recon-api")["outages"] == TURNS, PATIENCE, every=0.5)


def bare_start(stack: Stack) -> float:
    """Seconds from the start of the same program by hand to its first right answer, on another port."""
    there = stack.services["recon-api"]["port"]
    port = free_port()
    since = Since()
    child = subprocess.Popen(
        [PYTHON, "-m", "ops.sample", "recon-api", "--port", str(port)],
        cwd=stack.folder,
        env={**stack.env, "OPS_SAMPLE_DATA": str(stack.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.services["recon-api"]["port"] = port
    try:
        return since.until(lambda: well(stack, "recon-api") == child.pid)
    finally:
        stack.services["recon-api"]["port"] = there
        child.kill()
        child.wait(10)


@pytest.mark.slow
def test_f02_crash_loop(stack: Stack, row: Row) -> None:
    """One program gets broken under an ordinary and a critical service; once repaired, each is back in its own way:
    the one that is still tried by itself, the other when somebody starts it, be it by hand."""
    program, good = stack.folder / "app.py", TINY.read_text()
    program.write_text(good)
    for name in ("api", "vital"):
        keys = {"attempts": 1, "calm": 1, "retry_max": 3, "critical": name == "vital"}
        health = [{"http": "/", "every": 1, "timeout": 1}]
        stack.add(name, ["{python}", "-S", str(program), "{port}", name], health=health, **keys)
    watched(stack)
    program.write_text(broken(stack.folder))
    monitor, used = stack.watcher(), processor_seconds(stack.watcher())
    since = Since()
    for name in ("api", "vital"):
        process.send(root(stack, name), signal.SIGKILL)
    row.noticed(since.until(lambda: told(stack, "vital", "down") and told(stack, "api", "down")))
    since.until(lambda: state(stack) == "gave-up")
    until(lambda: len(spawned(stack, "vital")) >= 5, PATIENCE)
    busy = (processor_seconds(monitor) - used) / since.seconds()
    row.figure("processor of the monitor meanwhile, %", round(100 * busy, 1))
    assert busy < IDLE
    assert len(spawned(stack, "api")) == 2, "the first at once, and one attempt"
    moments = until(lambda: len(found := tried(stack, "vital")) >= 5 and found, PATIENCE)  # its log may lag behind
    pauses = [later - sooner for sooner, later in itertools.pairwise(moments)]
    # Its `delay`, two seconds, then the three of its retry_max.
    assert pauses[0] < pauses[1] and pauses[1] > 1.5 and min(pauses[2:]) > 2.5, pauses
    assert max(pauses[:4]) < 3 + 10, "a delay beyond its cap"
    assert stack.inv("health", "--json").services["api"]["state"] == "gave-up"
    assert len(critical(stack)) == len(critical(stack, "vital")) == 1
    repaired = Since()
    program.write_text(good)
    row.serving(repaired.until(lambda: well_tiny(stack, "vital")), since="the repair")
    until(lambda: state(stack, "vital") == "up" and resolved(stack, "vital"), PATIENCE)
    sweeps(stack)
    assert state(stack) == "gave-up" and len(spawned(stack, "api")) == 2, "nobody has started it since"
    by_hand = stack.spawn([PYTHON, "-S", str(program), str(port_of(stack, "api")), "api"], cwd=stack.folder)
    until(lambda: state(stack) == "up" and resolved(stack), PATIENCE)
    assert root(stack).pid == by_hand.pid and by_hand.poll() is None, "it was to be taken as it is"
    taken = root(stack)
    process.send(taken, signal.SIGKILL)  # watched as ever, with all its attempts
    by_hand.wait(10)
    back(stack, taken)
    stack.ok("health")
    assert len(lines(stack, "alerts", "")) == 4, lines(stack, "alerts", "")


def broken(folder: Path) -> str:
    """A program that writes down when it was started, and ends."""
    return (
        "import sys, time\n"
        f"with open({str(folder)!r} + '/' + sys.argv[2], 'a') as file:\n"
        "    file.write(f'{time.monotonic()} ')\n"
        "sys.exit(1)\n"
    )


def spawned(stack: Stack, name: str) -> list[float]:
    path = stack.folder / name
    return [float(word) for word in path.read_text().split()] if path.exists() else []


def tried(stack: Stack, name: str) -> list[float]:
    """When the monitor set about it, as its own log has it. On a busy machine one program may come up a second after it
    was started and the next at once: what they write themselves lies closer together than their starts."""
    said = lines(stack, "monitor", f" {name} restart:")
    return [datetime.fromisoformat(line.split()[0]).timestamp() for line in said]


def well_tiny(stack: Stack, name: str) -> bool:
    try:
        return stack.get(name, within=1.0)[1].isdigit()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_f03_slow_crash_loop(stack: Stack, row: Row) -> None:
    """Well for twenty seconds each time: its attempts are not forgiven before it has been calm for long."""
    stack.tiny("api", f"--exit-after={LIFE}", attempts=2)  # and `calm` as it is when nobody says anything
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    since = Since()
    stack.inv("start")
    row.noticed(since.until(lambda: state(stack) == "gave-up", 4 * LIFE + PATIENCE), since="the start")
    starts = (stack.state / "logs" / "api.log").read_text().count("listening")
    row.figure("starts until it was given up", starts)
    assert starts == 4, "the command's, the first at once, two attempts"
    assert since.seconds() > starts * LIFE
    assert len(lines(stack, "monitor", " api up")) >= 3, "it was well in between"
    assert len(until(lambda: critical(stack), PATIENCE)) == 1 and not resolved(stack)
    assert not stack.running()


def test_f04_clean_exit(stack: Stack, row: Row) -> None:
    """Of one that a command has started the monitor learns only that it died; of its own, how."""
    sample(stack, "pg-api", attempts=5, delay=0)
    watched(stack)
    found = []
    for _ in range(2):
        found.append(recovery(stack, "pg-api", lambda one: stack.fault("pg-api", "exit0"), "down"))
        until(lambda: state(stack, "pg-api") == "up", PATIENCE)
    measured(row, *found)
    assert max(one.noticed for one in found) < BY_EVENT, found
    assert lines(stack, "monitor", " pg-api restart", "died: exit 0")
    assert restarts(stack, "pg-api") == 2 and len(stack.running("pg-api")) == 1
    assert not critical(stack, "pg-api") and stack.ok("health", "--json").document["healthy"]
