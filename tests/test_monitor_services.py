"""Faults of services while the monitor runs: it dies, loops, hangs, answers wrongly, grows, cannot be ended, or a
command is at it at the same time. Every fault is injected for real, and the monitor is the shipped one."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ops.host import process
from tests.scene import as_root, ended, on_linux, recorded, wanted
from tests.stack import PYTHON, TINY, Done, Stack
from tests.waiting import free_port, until
from tests.watch import (
    PATIENCE,
    answerer,
    back,
    critical,
    kpi,
    lines,
    reading,
    resolved,
    restarts,
    root,
    state,
    sweeps,
    watched,
)

# Becomes a service that puts itself in the background as the first process of a namespace of its own: such a one has
# not ended before every process in there is gone and reaped, whatever signal it gets.
CELL = """
import os, sys
os.unshare(os.CLONE_NEWPID) if hasattr(os, "unshare") else __import__("ctypes").CDLL(None).unshare(0x20000000)
if os.fork():
    os._exit(0)
os.setsid()
os.execv(sys.argv[1], sys.argv[1:])
"""
# A process in the namespace of that pid, which ends at once, and whose parent, out here, reaps it only when its input
# ends.
VISITOR = """
import ctypes, os, sys
where = os.open(f"/proc/{sys.argv[1]}/ns/pid", os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(where, 0x20000000):
    sys.exit("setns")
if os.fork() == 0:
    os._exit(0)
print("in", flush=True)
sys.stdin.read()
os.wait()
"""


def all_of(done: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = done.communicate(timeout=60)
    assert out, err
    return done.returncode, json.loads(out)


# -- it dies ------------------------------------------------------------------------------------------------------


def test_f01_f04_whatever_dies_however_it_dies_is_back_and_the_report_says_so(stack: Stack) -> None:
    stack.ops.update(attempts=20, delay=0)
    stack.tiny("api", critical=True)
    stack.tiny("web", "--child=setsid")
    stack.tiny("dark", "--daemon")
    stack.add("worker", ["sleep", "600"], port=None, health=[])
    watched(stack)
    before = {name: root(stack, name) for name in stack.services}
    for name, one in before.items():
        process.send(one, signal.SIGKILL)
        assert back(stack, one, name) in stack.running(name)
    web = root(stack, "web")
    process.send(web, signal.SIGUSR2)  # a clean exit 0
    second = back(stack, web, "web")
    assert lines(stack, "monitor", " web restart", "died: exit 0")
    assert [restarts(stack, name) for name in ("api", "web", "worker")] == [1, 2, 1]
    assert restarts(stack, "dark") <= 2, "the second finds the one in the background"
    until(lambda: len(stack.running("web")) == 2, PATIENCE)  # f12: children in sessions of their own are cleaned up
    assert {second} < set(stack.running("web"))
    assert not any(critical(stack, name) for name in stack.services)
    until(lambda: kpi(stack, "web")["outages"] == 2, PATIENCE, every=0.5)  # a report may be some seconds behind
    found = kpi(stack)
    assert (found["outages"], found["restarts"]) == (1, 1), found
    assert 0 < found["recovery_worst"] < 5 and found["recovery_median"] == found["recovery_worst"]
    assert stack.ok("health", "--json").document["healthy"]


def test_f02_a_crash_loop_is_given_up_and_a_critical_one_tried_on_more_slowly(stack: Stack) -> None:
    """Both run a program that gets broken; once it is repaired, each is taken back in its own way."""
    program = stack.folder / "app.py"
    well = TINY.read_text()
    broken = f"import sys, time\nopen({str(stack.folder)!r} + '/' + sys.argv[2], 'a').write(f'{{time.time()}} ')\n"
    program.write_text(well)
    for name in ("api", "vital"):
        health = [{"http": "/", "every": 1, "timeout": 1}]
        keys = {"attempts": 1, "calm": 1, "retry_max": 3, "critical": name == "vital"}
        stack.add(name, ["{python}", "-S", str(program), "{port}", name], health=health, **keys)

    def spawned(name: str) -> list[float]:
        try:
            return [float(word) for word in (stack.folder / name).read_text().split()]
        except FileNotFoundError:
            return []

    watched(stack)
    program.write_text(broken + "sys.exit(1)\n")
    for name in ("api", "vital"):
        process.send(root(stack, name), signal.SIGKILL)
    until(lambda: state(stack) == "gave-up", PATIENCE)
    assert stack.inv("status", "--json").services["api"]["state"] == "gave-up"
    seen = stack.inv("health", "--json")
    assert (seen.code, seen.services["api"]["state"]) == (2, "gave-up"), str(seen)
    until(lambda: len(spawned("vital")) >= 4, PATIENCE)
    assert len(spawned("api")) == 2, "the first at once, and one attempt"
    pauses = [later - sooner for sooner, later in zip(spawned("vital")[:-1], spawned("vital")[1:], strict=True)]
    # Two seconds, then the three of its retry_max, as its own clock has it: the first of two may have been slow.
    assert pauses[0] < pauses[1] < pauses[2] and pauses[1] > 1.5 and pauses[2] > 2.5, pauses
    assert len(critical(stack)) == len(critical(stack, "vital")) == 1
    assert "given up after 2 restarts: died: exit 1" in critical(stack)[0]
    program.write_text(well)
    until(lambda: state(stack, "vital") == "up", PATIENCE)
    assert state(stack) == "gave-up"
    until(lambda: resolved(stack, "vital"), PATIENCE)
    stack.ok("start")
    until(lambda: state(stack) == "up" and resolved(stack), PATIENCE)
    assert len(lines(stack, "alerts", "")) == 4, lines(stack, "alerts", "")


def test_f03_a_slow_crash_loop_spends_its_attempts_too(stack: Stack) -> None:
    stack.tiny("api", "--exit-after=1", calm=300)
    stack.ops["monitor"] = True
    stack.write()
    stack.inv("start")
    until(lambda: state(stack) == "gave-up", PATIENCE)
    log = (stack.state / "logs" / "api.log").read_text()
    assert log.count("listening") == 5, "the command's, the first at once, three attempts"
    assert len(lines(stack, "monitor", " api up")) >= 3, "it was well in between"
    assert len(until(lambda: critical(stack), PATIENCE)) == 1 and not resolved(stack)
    assert not stack.running()


# -- it hangs, answers wrongly, grows -----------------------------------------------------------------------------


def test_f05_a_stopped_service_serves_again_within_its_computed_worst_case(stack: Stack) -> None:
    stack.tiny("deaf", "--deaf", grace=1, start_time=9)  # a stopped one keeps TERM pending, this one for ever
    stack.tiny("api", grace=4, start_time=6)
    watched(stack)
    worst = {}
    for one in stack.ok("check-inventory", "--json").document["outcomes"]:
        if one["service"] in stack.services:
            worst[one["service"]] = float(re.search(r"worst case ([\d.]+) s", one["detail"])[1])
    assert worst.keys() == {"deaf", "api"}
    before = {name: root(stack, name) for name in stack.services}
    stopped = time.monotonic()
    for one in before.values():
        process.send(one, signal.SIGSTOP)
    back_after: dict[str, float] = {}

    def all_back() -> bool:
        for name, one in before.items():
            if name not in back_after and answerer(stack, name) not in (0, one.pid):
                back_after[name] = time.monotonic() - stopped
        return back_after.keys() == before.keys()

    until(all_back, PATIENCE)
    assert all(back_after[name] < worst[name] for name in worst), (back_after, worst)
    for name, one in before.items():
        assert not process.alive(one)
        assert lines(stack, "monitor", f" {name} hung") and restarts(stack, name) == 1
    assert not lines(stack, "alerts", "CRITICAL")


class Waiter:
    """A server that accepts, counts who is connected at a time, and answers only while `well`."""

    def __init__(self) -> None:
        self.well = True
        self.most = self.count = 0
        self.port = free_port()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(0.02)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection = self._listener.accept()[0]
                connection.setblocking(False)
                self.count += 1
                self._open.append(connection)
            self._open = [one for one in self._open if self._stays(one)]
            self.most = max(self.most, len(self._open))

    def _stays(self, one: socket.socket) -> bool:
        try:
            gone = not one.recv(4096)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if self.well and not gone:
            with contextlib.suppress(OSError):
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            gone = True
        if gone:
            one.close()
        return not gone

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for one in (self._listener, *self._open):
            one.close()


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    made = Waiter()
    yield made
    made.close()


def test_f06_a_half_hang_piles_up_no_probes_and_a_watched_only_one_restarts_nothing(
    stack: Stack, waiter: Waiter
) -> None:
    url = f"http://127.0.0.1:{waiter.port}/"
    stack.add("api", ["sleep", "600"], port=None, health=[{"http": url, "every": 0.1, "timeout": 1, "restart": False}])
    watched(stack)
    before = root(stack)
    until(lambda: waiter.count >= 3, PATIENCE)
    waiter.well, waiter.most = False, 0
    asked = waiter.count
    until(lambda: state(stack) == "unhealthy", PATIENCE)
    assert len(until(lambda: critical(stack), PATIENCE)) == 1
    until(lambda: waiter.count >= asked + 4, PATIENCE)  # each second ten more would have come
    assert waiter.most == 1, "an asking began before the one before it was over"
    assert stack.inv("status", "--json").services["api"]["state"] == "unhealthy"
    waiter.well = True
    until(lambda: state(stack) == "up" and resolved(stack), PATIENCE)
    assert len(lines(stack, "alerts", "")) == 2
    assert root(stack) == before and process.alive(before) and restarts(stack) == 0


def test_f06_f07_f09_wrong_and_missing_answers_restart_and_a_blip_does_not(stack: Stack) -> None:
    mode = {name: stack.folder / name for name in ("hang", "blip")}
    for name, path in mode.items():
        stack.tiny(name, f"--mode={path}")
    stack.service("wrong", fault=True)  # answers 200 all the time
    stack.tiny("ill")
    watched(stack)
    before = {name: root(stack, name) for name in stack.services}
    stack.fault("wrong", "degraded")
    assert stack.get("wrong", "/health")[0] == 200
    process.send(before["ill"], signal.SIGUSR1)
    for name, path in mode.items():
        path.write_text(name)
    until(lambda: not process.alive(before["hang"]), PATIENCE)
    mode["hang"].unlink()
    for name in ("hang", "ill"):
        back(stack, before[name], name)
    until(lambda: root(stack, "wrong") != before["wrong"] and state(stack, "wrong") == "up", PATIENCE)
    assert process.alive(root(stack, "wrong"))
    assert lines(stack, "monitor", " hang hung") and lines(stack, "monitor", " ill unhealthy", "500")
    assert lines(stack, "monitor", " wrong unhealthy", "degraded")
    assert not mode["blip"].exists(), "the failing answer was never asked for"
    checked = reading(stack, "blip")["checked_at"]
    until(lambda: reading(stack, "blip")["checked_at"] != checked, PATIENCE)
    assert root(stack, "blip") == before["blip"] and restarts(stack, "blip") == 0
    assert not lines(stack, "monitor", " blip unhealthy")
    assert not any(critical(stack, name) for name in stack.services)


def test_a_service_above_its_max_rss_is_restarted_gracefully(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}", max_rss="64MiB", interval=1, grace=20)
    watched(stack)
    before = root(stack)
    mode.write_text("grow")
    after = back(stack, before)
    assert process.entry(after.pid).rss < 64 << 20
    assert lines(stack, "monitor", " api restart", "above its max_rss of 64 MiB")
    figures = until(lambda: (said := kpi(stack))["restarts"] and said)
    assert (figures["restarts"], figures["outages"]) == (1, 0), figures
    assert not lines(stack, "alerts", "CRITICAL")


def _cells_can_be_had() -> bool:
    try:
        return subprocess.run(["unshare", "-pf", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@on_linux
@as_root
@pytest.mark.skipif(not _cells_can_be_had(), reason="no namespaces of processes here")
def test_f52_one_that_no_signal_ends_is_reported_not_doubled_and_healed_afterwards(stack: Stack) -> None:
    health = [{"http": "/", "body": "tiny", "every": 1, "timeout": 1}]
    server = [PYTHON, "-S", str(TINY), "{port}", "--body=tiny", "--print=begun"]
    keys = {"grace": 0.5, "recovery_budget": 7}
    stack.add("api", ["{python}", "-c", CELL, *server], health=health, **keys)
    watched(stack)
    before = root(stack)
    visitor = stack.spawn([PYTHON, "-c", VISITOR, str(before.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert visitor.stdout.readline() == b"in\n"
    process.send(before, signal.SIGKILL)
    try:
        until(lambda: state(stack) in ("hung", "unhealthy"), PATIENCE)
        (alert,) = until(lambda: critical(stack), PATIENCE)
        assert process.alive(before), "it has ended after all: this proves nothing"
        assert "would not end" in alert and f"pid {before.pid}" in alert, alert
        log = stack.state / "logs" / "api.log"
        assert root(stack) == before and log.read_text().count("begun") == 1, "started beside it"
    finally:
        visitor.stdin.close()
        visitor.wait(10)
    after = until(lambda: (one := root(stack)) != before and state(stack) == "up" and one, PATIENCE)
    assert process.alive(after) and stack.get("api") == (200, "tiny")
    until(lambda: resolved(stack), PATIENCE)
    assert len(lines(stack, "alerts", "")) == 2


# -- several of them ----------------------------------------------------------------------------------------------


def test_f49_dependents_follow_a_restarted_need_only_where_that_is_declared(stack: Stack) -> None:
    stack.tiny("pg")
    stack.tiny("follows", needs=["pg"], on_need_restart="restart")
    stack.tiny("leaves", needs=["pg"])
    watched(stack)
    before = {name: root(stack, name) for name in stack.services}
    process.send(before["pg"], signal.SIGKILL)
    back(stack, before["pg"], "pg")
    back(stack, before["follows"], "follows")
    sweeps(stack)
    assert root(stack, "leaves") == before["leaves"]
    assert [restarts(stack, name) for name in stack.services] == [1, 1, 0]
    assert lines(stack, "monitor", " follows restart", "need: pg was restarted")
    assert not lines(stack, "alerts", "CRITICAL")


def test_f50_all_at_once_the_critical_one_first_and_one_alert(stack: Stack) -> None:
    for name in ("pg", "bank", "web"):
        stack.tiny(name)
    stack.tiny("recon", critical=True, needs=["pg", "bank"])
    stack.tiny("overview", needs=["recon"])
    watched(stack)
    before = {name: root(stack, name) for name in stack.services}
    monitor = stack.watcher()
    process.send(monitor, signal.SIGSTOP)  # for it, all of them die in the same moment
    for one in before.values():
        ended(one)
    process.send(monitor, signal.SIGCONT)
    after = {name: back(stack, one, name) for name, one in before.items()}
    begun = {name: recorded(stack, name)["started_at"] for name in after}
    assert min(begun, key=begun.get) == "recon", begun
    until(lambda: lines(stack, "alerts", "RESOLVED"), PATIENCE)
    (alert,) = lines(stack, "alerts", "CRITICAL")
    assert "services failed at once: recon" in alert
    assert len(lines(stack, "alerts", "")) == 2
    assert [restarts(stack, name) for name in after] == [1] * 5


# -- commands at the same time ------------------------------------------------------------------------------------


def test_a_held_service_is_left_alone_and_brought_back_when_released(stack: Stack) -> None:
    stack.tiny("api")
    watched(stack)
    before = root(stack)
    stack.ok("hold", "api")
    ended(before)
    until(lambda: state(stack) == "down", PATIENCE)
    sweeps(stack)
    assert root(stack) == before and not stack.running(), "it was restarted"
    seen = stack.inv("status", "--json").services["api"]
    assert (seen["wanted"], seen["state"]) == ("held", "down")
    assert restarts(stack) == 0 and not lines(stack, "alerts", "CRITICAL")
    stack.ok("release", "api")
    back(stack, before)
    assert len(stack.running()) == 1


def test_stop_holds_against_the_monitor_also_when_it_has_just_died(stack: Stack) -> None:
    for name in ("calmly", "early", "late"):
        stack.tiny(name)
    stack.tiny("other")
    watched(stack)
    stack.ok("stop", "--only", "calmly")
    ended(root(stack, "early"))  # the monitor is bringing it back
    stop_early = stack.popen("stop", "--only", "early", "--json")
    assert all_of(stop_early)[0] == 0
    stop_late = stack.popen("stop", "--only", "late", "--json")
    until(lambda: not wanted(stack).get("late", True), PATIENCE)  # said, perhaps not done
    process.send(root(stack, "late"), signal.SIGKILL)
    assert all_of(stop_late)[0] == 0
    sweeps(stack)
    assert not any(stack.running(name) for name in ("calmly", "early", "late"))
    assert restarts(stack, "calmly") == restarts(stack, "late") == 0
    assert len(stack.running("other")) == 1
    status: Done = stack.ok("status", "--json")
    assert {one["state"] for name, one in status.services.items() if name != "other"} == {"down"}
    assert not lines(stack, "alerts", "CRITICAL")


def test_restart_one_and_kill_port_are_not_doubled_and_kill_port_names_the_new_pid(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.add("worker", ["sleep", "600"], port=None, health=[])
    watched(stack)
    log = stack.state / "logs" / "api.log"
    before, worker = root(stack), root(stack, "worker")
    stack.ok("restart-one", "api", "restart-one", "worker")
    assert root(stack) != before and root(stack, "worker") != worker
    assert log.read_text().count("listening") == 2 and len(stack.running()) == 2
    assert restarts(stack) == restarts(stack, "worker") == 0
    before = root(stack)
    done = stack.ok("kill-port", str(port), "--json")
    after = back(stack, before)
    (outcome,) = done.document["outcomes"]
    assert outcome["state"] == "changed" and "brought back by the monitor" in outcome["detail"], outcome
    assert f"ended pid {before.pid}" in outcome["detail"] and f"pid {after.pid}" in outcome["detail"]
    sweeps(stack)
    assert log.read_text().count("listening") == 3 and len(stack.running("api")) == 1
    assert kpi(stack)["restarts"] == 1
    assert not lines(stack, "alerts", "CRITICAL")
