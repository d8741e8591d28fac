"""Faults of ports while the monitor runs: taken before the start, stolen while a service is down, kept by a child that
got the socket, busy with clients that hang up, or not the one that the service took."""

from __future__ import annotations

import re
import shlex
import signal
import threading

import pytest

from ops.host import process
from ops.model import Process
from tests.scene import alone, ended, freed, identified, listening, stranger
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import free_port, until
from tests.watch import PATIENCE, answerer, back, critical, lines, resolved, restarts, root, state, sweeps, watched


def log(stack: Stack, name: str = "api") -> str:
    return (stack.state / "logs" / f"{name}.log").read_text()


def child(stack: Stack, count: int = 1) -> Process:
    """The child that the tiny server said it left: of its first life, of its second."""
    return identified(int(re.findall(r"^child (\d+)$", log(stack), re.MULTILINE)[count - 1]))


def test_f22_a_taken_port_is_named_alerted_once_and_taken_back_when_free(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.tiny("web")
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    other = stranger(stack, port)
    assert stack.inv("start", "--json").states["api"] == "failed"
    until(lambda: state(stack) == "foreign" and state(stack, "web") == "up", PATIENCE)
    sweeps(stack, 3)
    for verb in ("health", "status"):
        done = stack.inv(verb, "--json")
        assert (done.code, done.services["api"]["state"], done.services["web"]["state"]) == (2, "foreign", "up"), verb
        assert f"pid {other.pid}" in stack.inv(verb).out, f"{verb} does not name it"
    (alert,) = critical(stack)
    assert f"pid {other.pid}" in alert and not lines(stack, "alerts", "RESOLVED")
    assert not (stack.state / "logs" / "api.log").exists(), "it was spawned all the same"
    assert restarts(stack) <= 1 and other.poll() is None, "it goes round and round, or has ended a stranger"
    other.kill()
    other.wait()
    until(lambda: state(stack) == "up" and resolved(stack), PATIENCE)
    assert answerer(stack) == alone(stack).pid
    assert len(lines(stack, "alerts", "")) == 2 and log(stack).count("listening") == 1


def test_f23_a_stranger_that_took_the_port_of_a_dead_service_is_not_taken_for_it(stack: Stack) -> None:
    port = stack.tiny("api")
    watched(stack)
    stack.ok("hold", "api")  # else it would be back before anybody could steal its port
    before = root(stack)
    ended(before)
    other = stranger(stack, port)
    stack.ok("release", "api")
    until(lambda: state(stack) == "foreign", PATIENCE)
    assert stack.get("api") == (200, "stranger")
    sweeps(stack)
    health = stack.inv("health", "--json")
    assert (health.code, health.document["healthy"], health.services["api"]["state"]) == (2, False, "foreign")
    (alert,) = critical(stack)
    assert f"pid {other.pid}" in alert and restarts(stack) <= 2 and other.poll() is None
    other.kill()
    other.wait()
    back(stack, before)
    until(lambda: resolved(stack), PATIENCE)
    assert log(stack).count("listening") == 2


@pytest.mark.parametrize("seen", ["by the monitor", "by the next monitor"])
def test_f24_a_marked_child_that_kept_the_port_is_ended_long_before_the_start_deadline(stack: Stack, seen: str) -> None:
    health = [{"http": "/", "every": 1, "timeout": 0.5}]
    stack.tiny("api", "--child=holds", start_timeout=60, health=health, calm=2)
    watched(stack)
    before, holder = root(stack), child(stack)
    if seen == "by the next monitor":
        stack.ok("monitor-stop")
    ended(before)
    if seen == "by the next monitor":
        stack.ok("monitor-start")
    until(lambda: not process.alive(holder), 30)  # it never answers
    after = until(lambda: (one := answerer(stack)) != before.pid and one, PATIENCE)
    until(lambda: state(stack) == "up", PATIENCE)
    assert root(stack).pid == after and log(stack).count("listening") == 2
    assert not critical(stack)


def test_f24_a_child_without_a_marker_that_kept_the_port_is_named_and_not_ended(stack: Stack) -> None:
    port = stack.tiny("api", "--child=lost")
    watched(stack)
    with freed(port):
        before, holder = root(stack), child(stack)
        ended(before)
        until(lambda: state(stack) == "foreign", PATIENCE)
        sweeps(stack)
        (alert,) = until(lambda: critical(stack), PATIENCE)
        assert f"pid {holder.pid}" in alert and process.alive(holder) and not stack.running()
        assert log(stack).count("listening") == 1, "a crash loop against a port that is taken"
        ended(holder)
        back(stack, before)
        until(lambda: resolved(stack), PATIENCE)


def test_f11_what_serves_on_after_its_shell_died_is_adopted(stack: Stack) -> None:
    line = f"{shlex.quote(PYTHON)} -S {shlex.quote(str(TINY))} {{port}}; true"
    port = stack.add("api", ["sh", "-c", line], health=[{"http": "/", "every": 1, "timeout": 1}])
    watched(stack)
    shell, serving = root(stack), answerer(stack)
    assert shell.pid != serving
    ended(shell)
    until(lambda: root(stack).pid == serving and state(stack) == "up", PATIENCE)
    sweeps(stack)
    assert listening(port) == {serving} and log(stack).count("listening") == 1
    last = root(stack)
    process.send(last, signal.SIGKILL)
    until(lambda: (now := root(stack)) not in (last, shell) and process.alive(now), PATIENCE)
    until(lambda: answerer(stack) not in (0, serving) and state(stack) == "up", PATIENCE)
    assert log(stack).count("listening") == 2 and len(stack.running()) == 2


def test_f12_children_that_escaped_a_crashed_service_are_ended_after_its_restart(stack: Stack) -> None:
    for kind in ("setsid", "double"):
        stack.tiny(kind, f"--child={kind}")
    watched(stack)
    for kind in ("setsid", "double"):
        before = root(stack, kind)
        escaped = [one for one in stack.running(kind) if one != before]
        assert len(escaped) == 1
        process.send(before, signal.SIGKILL)
        after = back(stack, before, kind)
        until(lambda escaped=escaped: not process.alive(escaped[0]), PATIENCE)
        assert root(stack, kind) == after and len(until(lambda kind=kind: stack.running(kind))) == 2


def test_f25_crashes_and_restarts_under_load_meet_no_taken_address(stack: Stack) -> None:
    stack.tiny("api", attempts=20, delay=0)
    watched(stack)
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            if not answerer(stack):
                over.wait(0.005)

    clients = [threading.Thread(target=load) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        for _ in range(4):
            before = root(stack)
            process.send(before, signal.SIGKILL)
            back(stack, before)
        stack.ok("restart-one", "api")
    finally:
        over.set()
        for client in clients:
            client.join()
    assert "in use" not in log(stack) and "Traceback" not in log(stack)
    assert log(stack).count("listening") == 6 and restarts(stack) == 4 and len(stack.running()) == 1
    assert not critical(stack)


def test_f26_a_service_that_took_another_port_is_a_failure(stack: Stack) -> None:
    other = free_port()
    stack.tiny("api", f"--other-port={other}", start_timeout=1, attempts=1, health=[])
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    done = stack.inv("start", "--json")
    assert done.states["api"] == "failed"
    assert str(other) in done.outcomes["api"]["detail"], done.outcomes["api"]["detail"]
    until(lambda: state(stack) == "gave-up", PATIENCE)
    assert log(stack).count("listening") == 3, "the command's, the first at once, one attempt"
    assert len(until(lambda: critical(stack), PATIENCE)) == 1 and len(stack.running()) <= 1
    seen = stack.inv("health", "--json")
    assert (seen.code, seen.services["api"]["state"]) == (2, "gave-up")
    said = " ".join(one["detail"] for one in seen.services["api"]["probes"])
    assert str(other) in said, f"the port that it has is not told: {said}"
    assert listening(other) == {alone(stack).pid}


def test_what_kill_port_has_ended_is_brought_back_at_once_each_time_and_counts_as_no_failure(stack: Stack) -> None:
    port = stack.tiny("api", critical=True, grace=5)
    stack.ops.update(delay=30, attempts=1)
    watched(stack)
    for _ in range(4):
        before = root(stack)
        (told,) = stack.ok("kill-port", str(port), "--json").document["outcomes"]
        assert (told["state"], told["after"]) == ("changed", "held")
        assert "brought back by the monitor" in told["detail"]
        back(stack, before)
    assert not critical(stack)
    until(lambda: len(lines(stack, "monitor", " api restart: ended by inv kill-port")) == 4, PATIENCE)
