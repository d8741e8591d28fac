"""What a review of the monitor found, each held by a test: services left down, wrong figures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory import locks
from ops.memory.files import read_json
from ops.memory.watchpost import Watchpost
from ops.model import Process
from tests.stack import Stack
from tests.waiting import until
from tests.watch import PATIENCE, back, critical, kpi, lines, resolved, root, state, watched

mounts = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting a tmpfs needs root on Linux"
)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_law_3_a_monitor_killed_over_a_restart_leaves_nobody_down(stack: Stack) -> None:
    """It dies while it holds the service's lock, which leaves the turn of that lock odd."""
    stack.tiny("api", "--child=plain", grace=2)
    watched(stack)
    before, monitor = root(stack), stack.watcher()
    deaf = next(line.pid for line in process.descendants([before.pid], process.table()) if line.pid != before.pid)
    os.kill(deaf, signal.SIGSTOP)  # so that ending what is left takes its time
    os.kill(before.pid, signal.SIGKILL)
    lock = str(stack.state / "locks" / "api")
    until(lambda: locks.turn(lock) % 2 and locks.is_held(lock), PATIENCE, every=0.001)
    process.send(monitor, signal.SIGKILL)
    assert back(stack, before) != before


@mounts
def test_law_7_a_monitor_on_a_full_disk_is_found(stack: Stack) -> None:
    """It cannot write down who it is; its lock says so."""
    stack.tiny("api")
    with small_disk(stack.state):
        watched(stack)
        before, monitor = root(stack), stack.watcher()
        fill(stack.state / "filler")
        process.send(monitor, signal.SIGKILL)
        until(lambda: another(stack, monitor), PATIENCE)
        until(lambda: (one := another(stack, monitor)) and shown(stack)["pid"] == one.pid, PATIENCE)
        assert root(stack) == before
        stack.ok("monitor-stop")
        until(lambda: not stack.watchers(), PATIENCE)  # one that was just being launched reads that nobody wants it


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def shown(stack: Stack) -> dict[str, Any]:
    """The monitor as `inv status` shows it."""
    found: dict[str, Any] = stack.inv("status", "--json").document["hosts"]["localhost"]["monitor"]
    return found


def another(stack: Stack, before: Process) -> Process | None:
    """The monitor that came after; None while there is none, or a child of a watcher still looks like it."""
    with contextlib.suppress(ValueError):
        now = stack.watcher()
        return now if now != before else None
    return None


def test_f21_a_lock_held_by_a_command_is_waited_for_and_counted_as_one_outage(stack: Stack) -> None:
    stack.ops["recovery_budget"] = 2
    stack.tiny("api", critical=True)
    watched(stack)
    before = root(stack)
    with locks.held(str(stack.state / "locks" / "api"), [str(stack.state)], 5, "a test"):
        process.send(before, signal.SIGKILL)
        until(lambda: critical(stack), PATIENCE)  # not back within its budget
    back(stack, before)
    said = until(lambda: (found := kpi(stack))["outages"] and found, PATIENCE)
    assert (said["restarts"], said["outages"]) == (1, 1)
    assert len(critical(stack)) == 1


def test_f13_one_that_died_between_telling_and_saying_that_it_told_is_not_repeated(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}", health=[{"http": "/", "every": 1, "timeout": 1, "restart": False}])
    watched(stack)
    mode.write_text("500")
    until(lambda: critical(stack), PATIENCE)
    stack.ok("monitor-stop")
    path = stack.state / "readings.json"
    left = read_json(str(path))
    path.write_text(json.dumps({**left, "alerts": {"told": [], "failed": []}}))
    stack.ok("monitor-start")
    until(lambda: read_json(str(path)).get("alerts", {}).get("told") == ["api"], PATIENCE)
    mode.unlink()
    until(lambda: resolved(stack), PATIENCE)
    assert len(critical(stack)) == 1


def test_law_10_what_was_told_is_resolved_by_the_next_monitor(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}", health=[{"http": "/", "every": 1, "timeout": 1, "restart": False}])
    watched(stack)
    mode.write_text("500")
    until(lambda: read_json(str(stack.state / "readings.json")).get("alerts", {}).get("told") == ["api"], PATIENCE)
    monitor = stack.watcher()
    process.send(monitor, signal.SIGKILL)
    mode.unlink()
    until(lambda: resolved(stack), PATIENCE)
    assert len(critical(stack)) == 1


def test_a_report_reaches_to_the_present_while_a_monitor_lives(stack: Stack) -> None:
    """The monitor says only every ten seconds that it watches; its heartbeat says so every second."""
    stack.tiny("api")
    watched(stack)
    begun = time.time()
    seen = kpi(stack)["watched_seconds"]
    until(lambda: time.time() - begun > 4, PATIENCE)
    later = kpi(stack)["watched_seconds"]
    assert later - seen > 2
    monitor = stack.watcher()
    process.send(monitor, signal.SIGKILL)
    until(lambda: kpi(stack)["watched_seconds"] > later, PATIENCE)


@pytest.mark.parametrize("how", ["goes on", "is stopped"])
def test_law_9_a_command_that_does_not_end_holds_nothing_down(stack: Stack, how: str) -> None:
    stack.tiny("api", critical=True)
    stack.tiny("slow", "--ready-after=60" if how == "is stopped" else "", start_timeout=90)
    if how == "goes on":
        del stack.services["slow"]
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    stack.ok("monitor-start")  # both are brought up without a wish
    until(lambda: state(stack) == "up", PATIENCE)
    command = stack.popen("start", "tail", "all")
    until((stack.state / "wanted.json").exists, PATIENCE)
    if how == "is stopped":
        command.send_signal(signal.SIGSTOP)
    before = root(stack)
    process.send(before, signal.SIGKILL)
    assert back(stack, before, within=10).pid != before.pid
    assert command.poll() is None


def test_law_10_an_alert_that_the_log_did_not_take_is_written_later(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}", health=[{"http": "/", "every": 1, "timeout": 1, "restart": False}])
    watched(stack)
    log = stack.state / "logs" / "alerts.log"
    log.mkdir()
    mode.write_text("500")
    until(lambda: lines(stack, "monitor", "channel", "alerts.log"), PATIENCE)
    assert read_json(str(stack.state / "readings.json"))["alerts"]["told"] == []
    log.rmdir()
    until(lambda: critical(stack), PATIENCE)
    mode.unlink()
    until(lambda: resolved(stack), PATIENCE)
    assert len(critical(stack)) == 1


def test_f48_a_state_folder_that_is_removed_leaves_one_monitor_which_is_found(stack: Stack) -> None:
    stack.tiny("api")
    watched(stack)
    before = root(stack)
    os.rename(stack.state, stack.folder / "removed")  # at once: the monitor may be writing there
    shutil.rmtree(stack.folder / "removed", ignore_errors=True)
    until(lambda: (stack.state / "readings.json").exists() and state(stack) == "up", PATIENCE)
    until(lambda: len(stack.watchers()) == 2, PATIENCE)
    assert stack.watcher().pid == Watchpost(str(stack.state)).post().process.pid
    assert process.alive(before) and root(stack) == before
    stack.ok("monitor-stop")
    until(lambda: not stack.watchers(), PATIENCE)


def test_f45_an_inventory_that_could_not_be_read_once_is_read_again(stack: Stack) -> None:
    stack.tiny("api")
    watched(stack)
    before = root(stack)
    stack.services["api"]["env"] = {"CHANGED": "1"}
    stack.write()
    monitor = stack.watcher()

    def reader_killed() -> bool:
        children = [line for line in process.table().values() if line.ppid == monitor.pid]
        readers = [one for one in children if "-c" in process.command_line(one.pid)]
        return any(process.send(one.process(), signal.SIGKILL) for one in readers)

    until(reader_killed, PATIENCE, every=0.001)
    until(lambda: lines(stack, "monitor", "could not be read this time"), PATIENCE)
    back(stack, before)
    until(lambda: not read_json(str(stack.state / "readings.json"))["fault"], PATIENCE)


def test_f13_one_that_was_found_dead_has_an_outage_but_no_recovery_time(stack: Stack) -> None:
    """Nobody knows since when it was down: a made-up 70 ms would look better than it was."""
    stack.tiny("api")
    watched(stack)
    before = root(stack)
    stack.ok("monitor-stop")
    process.send(before, signal.SIGKILL)
    until(lambda: not process.alive(before), PATIENCE)
    stack.ok("monitor-start")
    back(stack, before)
    found = until(lambda: (said := kpi(stack))["outages"] and said, PATIENCE)
    assert (found["outages"], found["recovery_median"], found["recovery_worst"]) == (1, None, None)
    process.send(root(stack), signal.SIGKILL)
    again = until(lambda: (said := kpi(stack))["recovery_worst"] is not None and said, PATIENCE)
    assert (again["outages"], again["recovery_median"]) == (2, again["recovery_worst"])
