"""F46 to F48: the inventory is broken or changed while the monitor runs, and files of the state folder are damaged."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from ops.host import process
from ops.memory.files import read_json
from tests.faults.row import Row, Since
from tests.scene import alone, ended, record_path, recorded, wanted
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, lines, reading, root, state, watched


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
    row.serving(since.until(lambda: answerer(stack) not in (0, before.pid)))
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
    for name in ("api", "web"):
        stack.tiny(name)
    watched(stack)
    before = {name: root(stack, name) for name in stack.services}
    slowest = 0.0
    for how, damage in DAMAGES.items():
        for watcher in stack.watchers():  # so that nobody remembers what was in the files
            process.send(watcher, signal.SIGSTOP)
        for watcher in stack.watchers():
            ended(watcher)
        for path in files(stack):
            damage(path)
        since = Since()
        stack.ok("start")
        until(lambda: all(rebuilt(stack, name) for name in stack.services), PATIENCE)
        slowest = max(slowest, since.seconds())
        assert {name: root(stack, name) for name in before} == before, f"{how}: not the process that ran"
        assert {name: alone(stack, name) for name in before} == before, f"{how}: two of them"
        assert wanted(stack) == {"api": True, "web": True}, how
    row.figure("slowest start that rebuilt all files, seconds", slowest)
    stack.ok("restart-one", "api")
    assert not process.alive(before["api"]) and recorded(stack)["process"]["pid"] == alone(stack).pid
    record_path(stack).write_bytes(b"{")
    stack.ok("stop")
    assert not stack.running() and not stack.watchers()


def rebuilt(stack: Stack, name: str) -> bool:
    """Both the record and what the monitor publishes name the process that answers."""
    pid = answerer(stack, name)
    return root(stack, name).pid == pid == reading(stack, name).get("pid") and state(stack, name) == "up"


def files(stack: Stack) -> list[Path]:
    """All that is written down, but the history."""
    return [*stack.state.glob("*.json"), *(stack.state / "services").glob("*.json"), stack.state / "inventory.last"]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "half-written": halve,
    "emptied": lambda path: path.write_bytes(b""),
    "overwritten": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "another JSON": lambda path: path.write_text('{"schema": 1, "services": [], "process": {"pid": -1}}'),
    "removed": lambda path: path.unlink(missing_ok=True),
}
