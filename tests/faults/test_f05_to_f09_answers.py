"""F5 to F9: it lives, yet does not answer, answers wrongly, not yet, or not once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import log, measured, port_of, recovery, sample, told, well, worst_cases
from tests.scene import on_linux
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, critical, lines, reading, resolved, restarts, root, state, sweeps, watched

ESTABLISHED = "01"  # as /proc/net/tcp writes it


def test_f05_hang(stack: Stack, row: Row) -> None:
    """A stopped process keeps TERM pending; one of the two would ignore it even so. recon-api is asked as often, and
    has as long, as in the inventory that is shipped."""
    sample(stack, "pg-api", "bank-api", "recon-api")
    recon = stack.services["recon-api"]
    recon.update(grace=4, start_time=2)
    recon["health"][0].update(every=2, timeout=2)
    stack.tiny("deaf", "--deaf", grace=1, start_time=10)
    watched(stack)
    worst = worst_cases(stack)
    before = {name: root(stack, name) for name in ("recon-api", "deaf")}
    found = recovery(stack, "recon-api", lambda one: process.send(one, signal.SIGSTOP), "hung")
    deaf = recovery(stack, "deaf", lambda one: process.send(one, signal.SIGSTOP), "hung")
    measured(row, found, deaf)
    row.figure("computed worst case, recon-api", worst["recon-api"])
    assert found.serving < worst["recon-api"] and deaf.serving < worst["deaf"], (found, deaf, worst)
    for name, one in before.items():
        assert not process.alive(one) and restarts(stack, name) == 1
    assert not lines(stack, "alerts", "CRITICAL")


@contextmanager
def most_asked(port: int) -> Iterator[list[int]]:
    """How many connections clients have open to a port, looked at again and again; of Linux."""
    over, seen = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.005):
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            seen.append(sum(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@on_linux
def test_f06_half_hang(stack: Stack, row: Row) -> None:
    """recon-api is restarted for it; of one that is only watched, nothing is, and it may hang for long."""
    mode = stack.folder / "mode"
    sample(stack, "pg-api", "bank-api", "recon-api")
    stack.write()
    worst = worst_cases(stack)["recon-api"]  # before there is one that has none, since it is only watched
    asked_often = [{"http": "/", "every": 0.1, "timeout": 1, "restart": False}]
    stack.tiny("watched", f"--mode={mode}", health=asked_often)
    watched(stack)
    before = root(stack, "watched")
    mode.write_text("hang")
    with most_asked(port_of(stack, "watched")) as seen:
        found = recovery(stack, "recon-api", lambda one: stack.fault("recon-api", "hang"), "hung", "unhealthy")
        until(lambda: state(stack, "watched") == "unhealthy" and critical(stack, "watched"), PATIENCE)
        checks = {reading(stack, "watched")["checked_at"]}  # ten of them would be begun each second
        until(lambda: checks.add(reading(stack, "watched")["checked_at"]) or len(checks) > 3, PATIENCE)
    measured(row, found)
    row.figure("computed worst case, recon-api", worst)
    assert found.serving < worst, (found, worst)
    row.figure("probes of one service at a time", max(seen))
    assert len(seen) > 10 and max(seen) == 1, "an asking began before the one before it was over"
    assert restarts(stack, "recon-api") == 1
    mode.unlink()
    until(lambda: state(stack, "watched") == "up" and resolved(stack, "watched"), PATIENCE)
    assert root(stack, "watched") == before and restarts(stack, "watched") == 0


@pytest.mark.slow
def test_f07_wrong_answer(stack: Stack, row: Row) -> None:
    """All of them go on answering with 200."""
    sample(stack, "pg-api", "bank-api", "frontend")
    watched(stack)
    worst = worst_cases(stack)
    faults = {"pg-api": "degraded", "bank-api": "wrong-page", "frontend": "wrong-page"}
    found = {
        name: recovery(stack, name, lambda _, n=name, f=fault: wrong(stack, n, f)) for name, fault in faults.items()
    }
    measured(row, *found.values())
    row.figure("computed worst cases", ", ".join(f"{name} {worst[name]}" for name in faults))
    assert all(found[name].serving < worst[name] for name in faults), (found, worst)
    whys = {"pg-api": "degraded", "bank-api": "not JSON", "frontend": "SettlePaisa"}
    for name, why in whys.items():
        assert told(stack, name, "unhealthy") and why in told(stack, name, "unhealthy")[0]
        assert restarts(stack, name) == 1
    until(lambda: all(state(stack, name) == "up" for name in faults), PATIENCE)
    # That three were ill within seconds of one another is told; that one could not be healed is not.
    assert [one for one in lines(stack, "alerts", "CRITICAL") if "failed at once" not in one] == []


def wrong(stack: Stack, name: str, fault: str) -> None:
    stack.fault(name, fault)
    assert stack.get(name, "/" if name == "frontend" else "/health")[0] == 200, "it is not the status that tells"


@pytest.mark.slow
def test_f08_slow_start(stack: Stack, row: Row) -> None:
    """Ready after longer than the whole worst case of a recovery; the command and the monitor both let it."""
    sample(stack, "pg-api", start_timeout=60)
    stack.services["pg-api"]["env"].update(OPS_SAMPLE_FAULT="slow-start", OPS_SAMPLE_SLOW="9")
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    assert worst_cases(stack)["pg-api"] < 9
    assert stack.ok("start", "--json").states["pg-api"] == "changed"
    until(lambda: state(stack, "pg-api") == "up", PATIENCE)
    first = well(stack, "pg-api")
    found = recovery(stack, "pg-api", lambda one: process.send(one, signal.SIGKILL), "down")
    since = Since()
    row.figure("from its first answer to `up`", since.until(lambda: state(stack, "pg-api") == "up"))
    row.noticed(found.noticed, since="a later kill")
    row.serving(found.serving, since="a later kill")
    sweeps(stack)
    assert restarts(stack, "pg-api") == 1 and well(stack, "pg-api") == found.after != first
    assert log(stack, "pg-api").count("listening on") == 2, "it was ended before it could become ready"
    assert found.serving > 9 and not critical(stack, "pg-api")


@pytest.mark.slow
def test_f09_blip(stack: Stack, row: Row) -> None:
    """Five times one failed answer, each among good ones."""
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}", health=[{"http": "/", "every": 0.3, "timeout": 1}])
    watched(stack)
    before = root(stack)
    for _ in range(5):
        mode.write_text("blip")  # which the server removes as it answers with 500
        until(lambda: not mode.exists(), PATIENCE)
        good = {reading(stack)["checked_at"]}
        until(lambda good=good: good.add(reading(stack)["checked_at"]) or len(good) > 4, PATIENCE)
    sweeps(stack)
    row.figure("restarts after 5 blips", restarts(stack))
    assert root(stack) == before and process.alive(before) and restarts(stack) == 0
    assert log(stack, "api").count("listening") == 1 and not told(stack, "api", "unhealthy")
