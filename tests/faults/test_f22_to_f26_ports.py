"""F22 to F26: the port is somebody else's, somebody else's meanwhile, kept by a child, not yet free, or not the one."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.stage import log, measured, port_of, recovery, sample, told, tree, well
from tests.scene import alone, ended, freed, identified, listening, on_linux, stranger
from tests.stack import TINY, Stack
from tests.waiting import free_port, until
from tests.watch import PATIENCE, critical, lines, resolved, restarts, root, state, sweeps, watched

TIME_WAIT = "06"  # as /proc/net/tcp writes it


@pytest.mark.slow
def test_f22_port_taken(stack: Stack, row: Row) -> None:
    sample(stack, "pg-api", "bank-api")
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    port = port_of(stack, "pg-api")
    other = stranger(stack, port)
    done = stack.inv("start", "--json")
    assert (done.code, done.states["pg-api"], done.states["bank-api"]) == (2, "failed", "changed"), str(done)
    said = done.outcomes["pg-api"]
    assert f"pid {other.pid}" in said["detail"] and TINY.name in said["detail"]
    assert f"inv kill-port {port} start --only pg-api" in said["detail"]
    row.figure("seconds to be refused", said["seconds"])
    assert said["seconds"] < 10, "it waited for a start that could not be"
    until(lambda: state(stack, "pg-api") == "foreign" and state(stack, "bank-api") == "up", PATIENCE)
    sweeps(stack, 3)
    assert f"pid {other.pid}" in stack.inv("health").out
    (alert,) = critical(stack, "pg-api")
    assert f"pid {other.pid}" in alert
    assert not (stack.state / "logs" / "pg-api.log").exists(), "it was spawned all the same"
    assert restarts(stack, "pg-api") <= 1 and other.poll() is None, "it goes round and round, or has ended a stranger"
    since = Since()
    other.kill()
    other.wait()
    row.serving(since.until(lambda: well(stack, "pg-api")), since="the port was free")
    until(lambda: state(stack, "pg-api") == "up" and resolved(stack, "pg-api"), PATIENCE)
    assert well(stack, "pg-api") == alone(stack, "pg-api").pid and log(stack, "pg-api").count("listening on") == 1
    assert len(lines(stack, "alerts", " pg-api:")) == 2


@pytest.mark.slow
def test_f23_port_stolen(stack: Stack, row: Row) -> None:
    """The thief answers whatever it is asked with 200, and with the very words that the probe wants."""
    sample(stack, "pg-api")
    watched(stack)
    stack.ok("hold", "pg-api")  # else it would be back before anybody could steal its port
    before = root(stack, "pg-api")
    ended(before)
    other = stranger(stack, port_of(stack, "pg-api"), '--body={"status": "healthy"}')
    assert stack.get("pg-api", "/health") == (200, '{"status": "healthy"}')
    since = Since()
    stack.ok("release", "pg-api")
    row.noticed(since.until(lambda: state(stack, "pg-api") == "foreign"), since="the release")
    sweeps(stack, 3)
    health = stack.inv("health", "--json")
    found = health.services["pg-api"]
    assert (health.code, health.document["healthy"], found["state"]) == (2, False, "foreign")
    (alert,) = until(lambda: critical(stack, "pg-api"), PATIENCE)
    assert f"pid {other.pid}" in alert and restarts(stack, "pg-api") <= 2 and other.poll() is None
    since = Since()
    other.kill()
    other.wait()
    row.serving(since.until(lambda: well(stack, "pg-api") not in (0, before.pid)), since="the port was free")
    until(lambda: state(stack, "pg-api") == "up" and resolved(stack, "pg-api"), PATIENCE)
    assert log(stack, "pg-api").count("listening on") == 2


def test_f24_port_kept(stack: Stack, row: Row) -> None:
    """One child carries our marker, another got rid of it."""
    sample(stack, "pg-api", start_timeout=60)
    lost = stack.tiny("lost", "--child=lost", start_timeout=60)
    watched(stack)
    with freed(lost):
        stack.fault("pg-api", "hold-port")
        (marked,) = [one for one in tree(root(stack, "pg-api").pid) if one != root(stack, "pg-api")]
        assert process.variable(marked.pid, "OPS_RUN")
        found = recovery(stack, "pg-api", lambda one: process.send(one, signal.SIGKILL), "down")
        measured(row, found)
        until(lambda: not process.alive(marked), PATIENCE)
        assert listening(port_of(stack, "pg-api")) == {found.after} and not critical(stack, "pg-api")

        holder = identified(int(until(lambda: re.findall(r"^child (\d+)$", log(stack, "lost"), re.MULTILINE))[0]))
        assert process.variable(holder.pid, "OPS_RUN") is None
        since = Since()
        process.send(root(stack, "lost"), signal.SIGKILL)
        until(lambda: state(stack, "lost") == "foreign", PATIENCE)
        row.figure("one without our marker: named after", since.seconds())
        sweeps(stack)
        (alert,) = until(lambda: critical(stack, "lost"), PATIENCE)
        assert f"pid {holder.pid}" in alert and process.alive(holder) and not stack.running("lost")
        assert log(stack, "lost").count("listening") == 1, "a crash loop against a port that is taken"
        since = Since()
        ended(holder)
        until(lambda: state(stack, "lost") == "up" and resolved(stack, "lost"), PATIENCE)
        row.figure("and up again once it was gone", since.seconds())
        stack.ok("stop")  # the new one has left such a child, too: alive it is known whose it is


@contextmanager
def load(stack: Stack, name: str, clients: int = 3) -> Iterator[list[int]]:
    """Clients that ask without a pause; who answered."""
    over, answered = threading.Event(), [0]

    def ask() -> None:
        while not over.is_set():
            answered.append(well(stack, name))
            if not answered[-1]:
                over.wait(0.005)  # between two lives nobody answers

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()


def time_waits(port: int) -> int:
    """Connections of a port that are over, but not yet forgotten by the kernel."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == TIME_WAIT for row in rows)


LINGERS = 1.0  # seconds that the port is still listened on, twice: by the one that is to end, then by its heir
# Told to end, it serves on for a while; then a process that is nobody's child, and has no marker of ours, gets the
# listener from it and keeps that for as long again. Before, that one has nothing to do with the port.
SLOW_TO_CLOSE = """
import os, signal, socket, sys, time

HEIR = "import signal, socket, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \\
    "line = socket.socket(fileno=int(sys.argv[1])); got = socket.recv_fds(line, 1, 1)[1]; " \\
    "time.sleep(float(sys.argv[2]) if got else 0)"
port, lingers, over = int(sys.argv[1]), float(sys.argv[2]), []

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

say("begun")
ours, theirs = socket.socketpair()
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    theirs.set_inheritable(True)
    os.execve(sys.executable, [sys.executable, "-S", "-c", HEIR, str(theirs.fileno()), str(lingers)], {})
os.wait()
theirs.close()
try:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
except OSError as error:
    sys.exit(f"cannot listen: {error}")
say("listening on", port)
signal.signal(signal.SIGTERM, lambda *_: over.append(time.monotonic() + lingers))
listener.settimeout(0.1)
while not over or time.monotonic() < over[0]:
    try:
        client = listener.accept()[0]
        client.recv(65536)
        client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n%d" % os.getpid())
        client.close()
    except OSError:
        pass
say("handed down")
socket.send_fds(ours, [b"."], [listener.fileno()])
"""


@pytest.mark.slow
@on_linux
def test_f25_time_wait(stack: Stack, row: Row) -> None:
    """Under load: connections in TIME_WAIT, and a service whose port is still listened on when it is gone."""
    sample(stack, "pg-api", attempts=20, delay=0)
    command = ["{python}", "-S", "-c", SLOW_TO_CLOSE, "{port}", str(LINGERS)]
    stack.add("slow", command, grace=10, health=[{"http": "/", "every": 1, "timeout": 1}])
    watched(stack)
    port, most, found = port_of(stack, "pg-api"), 0, []
    with load(stack, "pg-api") as answered:
        for _ in range(4):
            most = max(most, until(lambda: (count := time_waits(port)) > 20 and count, PATIENCE, every=0.1))
            found.append(recovery(stack, "pg-api", lambda one: process.send(one, signal.SIGKILL), "down"))
            until(lambda: state(stack, "pg-api") == "up", PATIENCE)
        for _ in range(2):
            until(lambda: time_waits(port) > 20, PATIENCE, every=0.1)
            assert stack.ok("restart-one", "pg-api", "--json").states == {"pg-api": "changed"}
    measured(row, *found)
    row.figure("connections in TIME_WAIT at most", most)
    row.figure("answers under load", sum(map(bool, answered)))
    said = log(stack, "pg-api")
    assert "cannot listen" not in said and "Traceback" not in said
    assert said.count("listening on") == 7 and restarts(stack, "pg-api") == 4, "a start that failed was tried again"
    assert len(stack.running("pg-api")) == 1 and not critical(stack, "pg-api")
    row.figure("until the next one of a slow closer serves", max(closed_slowly(stack) for _ in range(3)))
    said = log(stack, "slow")
    assert "cannot listen" not in said and "Traceback" not in said, said
    assert said.count("begun") == said.count("listening on") == 4 and said.count("handed down") == 3, said
    assert restarts(stack, "slow") == 0 and len(stack.running("slow")) == 1 and not critical(stack, "slow")


def closed_slowly(stack: Stack) -> float:
    """Restarts it under load; the seconds that took."""
    with load(stack, "slow"):
        done = stack.ok("restart-one", "slow", "--json").outcomes["slow"]
        assert done["state"] == "changed" and done["seconds"] > 2 * LINGERS, done
        assert well(stack, "slow") == alone(stack, "slow").pid
    return float(done["seconds"])


BUMPS = """
import os, socket, sys

for port in map(int, sys.argv[1:]):  # as a dev server tries one after the other
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        break
    except OSError:
        continue
os.write(1, f"listening on {port}\\n".encode())
while True:
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n%d" % os.getpid())
    client.close()
"""


@contextmanager
def bound(port: int) -> Iterator[None]:
    """A port that nobody listens on, and that is not to be had all the same: no look at listeners says so."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        assert not listening(port)
        yield


def test_f26_another_port(stack: Stack, row: Row) -> None:
    """It is well, on a port that nobody asked for: two although their own is free, one since its own is not. Of those
    two, one even passes its only probe, which does not ask the port: the command that starts it, and `health`, look at
    the port all the same."""
    others = {name: free_port() for name in ("pg-api", "blind", "bumps")}
    stack.service("pg-api", start_timeout=2, attempts=1)
    stack.service("blind", start_timeout=2, health=[{"command": ["true"], "every": 1, "timeout": 1}])
    for name in ("pg-api", "blind"):
        stack.services[name]["command"][-1] = str(others[name])
    bumps = ["{python}", "-S", "-c", BUMPS, "{port}", str(others["bumps"])]
    port = stack.add("bumps", bumps, start_timeout=2, attempts=1, health=[{"http": "/", "every": 1, "timeout": 1}])
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    with bound(port):
        since = Since()
        begun = stack.inv("start", "--json").outcomes
        row.noticed(since.seconds(), since="the start")
        for name, other in others.items():
            assert begun[name]["state"] == "failed" and f"listens on {other} instead" in begun[name]["detail"], begun
        for name in ("pg-api", "bumps"):
            until(lambda name=name: state(stack, name) == "gave-up", PATIENCE)
            assert len(until(lambda name=name: critical(stack, name), PATIENCE)) == 1
        seen = stack.inv("health", "--json")
        said = {name: seen.services[name]["state"] for name in others}
        assert (seen.code, said) == (2, {"pg-api": "gave-up", "blind": "unhealthy", "bumps": "gave-up"})
        for name, other in others.items():
            assert f"listens on {other} instead" in " ".join(one["detail"] for one in seen.services[name]["probes"])
        for name in ("pg-api", "bumps"):
            starts = log(stack, name).count("listening on")
            assert starts == 3, "the command's, the first at once, one attempt"
            assert len(stack.running(name)) <= 1 and not told(stack, name, "up")
        row.figure("starts until it was given up", starts)
    assert stack.ok("start", "--only", "bumps", "--json").states["bumps"] == "changed"
    assert well_on(stack, "bumps", port)


def well_on(stack: Stack, name: str, port: int) -> bool:
    """Whether what answers on a port is the service, and listens nowhere else."""
    return port == port_of(stack, name) and {well(stack, name)} == listening(port) == {alone(stack, name).pid}
