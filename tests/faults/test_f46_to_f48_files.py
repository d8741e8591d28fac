"""F46 to F48: the inventory is broken or changed while the monitor runs, and files of the state folder are damaged."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host import process
from ops.memory.files import read_json
from tests.faults.row import Row, Since
from tests.scene import alone, ended, record_path, recorded
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, lines, reading, root, state, sweeps, watched

UP = ("api", "web")


def fault(stack: Stack) -> str:
    """Why the inventory as it stands does not hold, as the monitor publishes it."""
    return str(read_json(str(stack.state / "readings.json")).get("fault") or "")


@pytest.mark.slow
def test_f46_a_bad_edit_changes_nothing_and_is_told_with_line_and_column(row: Row, stack: Stack) -> None:
    stack.tiny("api")
    watched(stack)
    monitor, before = stack.watcher(), root(stack)
    file = stack.folder / "inventory.yaml"
    good = file.read_text()
    since = Since()
    file.write_text(good.replace("services:", "services: [", 1))
    row.noticed(since.until(lambda: fault(stack)))
    place = re.search(r"inventory\.yaml:\d+: column \d+", fault(stack))
    assert place, fault(stack)
    for command in ("status", "health"):
        told = stack.inv(command)
        assert place[0] in told.out + told.err, str(told)
    assert root(stack) == before and answerer(stack) == before.pid
    since = Since()
    ended(before)  # the last good one holds: by it this is brought back
    row.serving(since.until(lambda: answerer(stack) not in (0, before.pid)), since="a later kill")
    after = back(stack, before)
    since = Since()
    file.write_text(good)
    row.figure("seconds until the mended file is taken up", since.until(lambda: not fault(stack)))
    assert stack.ok("health", "--json").document["healthy"]
    assert (root(stack), stack.watcher()) == (after, monitor)


@pytest.mark.slow
def test_f47_of_an_edit_of_one_service_only_that_one_restarts(row: Row, stack: Stack) -> None:
    for name in ("edited", "one", "two"):
        stack.service(name)
    watched(stack)
    monitor = stack.watcher()
    before = {name: root(stack, name) for name in stack.services}
    stack.services["edited"]["env"]["WHAT"] = "new"
    stack.write()
    since = Since()
    until(lambda: root(stack, "edited") != before["edited"], PATIENCE)
    row.noticed(since.seconds())
    row.serving(since.until(lambda: state(stack, "edited") == "up" and stack.get("edited", "/health")[0] == 200))
    assert process.variable(root(stack, "edited").pid, "WHAT") == "new"
    stack.ok("health")
    for name in ("one", "two"):
        assert root(stack, name) == before[name] and alone(stack, name) == before[name]
        assert not lines(stack, "monitor", f" {name} restart")
    assert stack.watcher() == monitor and not lines(stack, "alerts", "CRITICAL")


@pytest.mark.slow
def test_f48_damaged_files_are_rebuilt_from_processes_and_ports(row: Row, stack: Stack) -> None:
    for name in (*UP, "stopped", "held"):
        stack.tiny(name)
    watched(stack)
    stack.ok("hold", "held")
    stack.ok("stop", "--only", "stopped")
    before = {name: root(stack, name) for name in (*UP, "held")}
    slowest = 0.0
    for how, damage in DAMAGES.items():
        for under in ("a living monitor", "monitor-start", "start"):
            with disturbed(stack, under):
                for path in files(stack, copy=under != "a living monitor"):
                    damage(path)
            since = Since()
            until(lambda: all(rebuilt(stack, name) for name in UP), PATIENCE)
            until(lambda under=under: is_wanted(stack, under), PATIENCE)
            slowest = max(slowest, since.seconds())
            sweeps(stack, 2)
            assert {name: root(stack, name) for name in UP} == {name: before[name] for name in UP}, f"{how}: {under}"
            assert {name: alone(stack, name) for name in before} == before, f"{how}, {under}: not the one that ran"
            if under == "start":
                stack.ok("stop", "--only", "stopped")
                until(lambda: reading(stack, "stopped").get("why") == "stopped", PATIENCE)  # so that it remembers
            assert not stack.running("stopped"), f"{how}, {under}: started though it was stopped"
    row.figure("slowest time in which all files were rebuilt, seconds", slowest)
    stack.ok("restart-one", "api")
    assert not process.alive(before["api"]) and recorded(stack)["process"]["pid"] == alone(stack).pid
    record_path(stack).write_bytes(b"{")
    stack.ok("stop")
    assert not stack.running() and not stack.watchers()


@contextlib.contextmanager
def disturbed(stack: Stack, under: str) -> Iterator[None]:
    """A fault happens within: while a monitor lives, or when nobody does who remembers what was in the files; then it
    is mended by that command."""
    if under == "a living monitor":
        yield
        return
    for watcher in stack.watchers():
        process.send(watcher, signal.SIGSTOP)
    for watcher in stack.watchers():
        ended(watcher)
    yield
    stack.ok(under)


def is_wanted(stack: Stack, under: str) -> bool:
    """Whether what is wanted stands there again as it was said, in a file that can be read. `start` is a new wish."""
    said = read_json(str(stack.state / "wanted.json")).get("services") or {}
    found = {name: (wish["up"], wish["held"]) for name, wish in said.items()}
    return found == {**dict.fromkeys(UP, (True, False)), "stopped": (under == "start", False), "held": (True, True)}


def rebuilt(stack: Stack, name: str) -> bool:
    """Both the record and what the monitor publishes name the process that answers; either may be garbage still."""
    pid = answerer(stack, name)
    process = read_json(str(record_path(stack, name))).get("process") or {}
    published = read_json(str(stack.state / "readings.json")).get("services")
    said = published.get(name, {}) if isinstance(published, dict) else {}
    return process.get("pid") == pid == said.get("pid") and said.get("state") == "up"


def files(stack: Stack, *, copy: bool) -> list[Path]:
    """All that is written down, but the logs. Without a monitor that remembers, what is wanted is only known by its
    `copy`, which is left whole then."""
    found = [*stack.state.glob("*.json"), *(stack.state / "services").glob("*.json"), stack.state / "inventory.last"]
    return found if copy else [*found, stack.state / "wanted.copy"]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "half-written": halve,
    "emptied": lambda path: path.write_bytes(b""),
    "overwritten": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "another JSON": lambda path: path.write_text('{"schema": 1, "services": [], "process": {"pid": -1}}'),
    "removed": lambda path: path.unlink(missing_ok=True),
}
