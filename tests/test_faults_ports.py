"""Faults of ports: who has one before a start, beside a service and after its death, and whom `kill-port` may end.

Every test injects its fault for real: strangers that live, ports that are taken, users without rights. Numbers such
as f22 are rows of the table of faults.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host import process
from tests.scene import (
    NOBODY,
    alone,
    as_root,
    ended,
    freed,
    identified,
    listening,
    on_linux,
    record_path,
    recorded,
    stranger,
)
from tests.stack import PYTHON, TINY, Done, Stack
from tests.waiting import free_port, until


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
            return True
    except OSError:
        return False


with_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


# -- ports -------------------------------------------------------------------------------------------------------


def test_f22_a_port_that_is_taken_is_refused_at_once_and_heals_when_freed(stack: Stack) -> None:
    port = stack.tiny("api", start_timeout=40)
    stack.tiny("web")
    stack.write()
    other = stranger(stack, port)
    done = stack.inv("start", "--json")
    assert (done.code, done.states) == (2, {"api": "failed", "web": "changed"})
    said = done.outcomes["api"]["detail"]
    assert f"pid {other.pid}" in said and TINY.name in said and "--body=stranger" in said
    assert f"user {process.user_name(os.geteuid())}" in said
    assert f"inv kill-port {port} start --only api" in said
    assert done.seconds < 20, "it waited for a start that could not be"
    assert not stack.running("api") and not record_path(stack).exists()
    assert not (stack.state / "logs" / "api.log").exists(), "it was spawned all the same"
    other.kill()
    other.wait()
    assert stack.ok("start", "--json").states == {"api": "changed", "web": "ok"}


def test_f22_the_line_that_a_refusal_names_can_be_typed(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    other = stranger(stack, port)
    stack.ok("kill-port", str(port), "start", "--only", "api")
    assert other.wait(5) == -signal.SIGTERM
    assert listening(port) == {alone(stack).pid}


def test_f23_a_stranger_that_answers_on_the_port_of_a_dead_service_is_not_healthy(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    ended(alone(stack))
    other = stranger(stack, port)
    assert stack.get("api") == (200, "stranger")
    health = stack.inv("health", "--json")
    assert (health.code, health.document["healthy"], health.services["api"]["state"]) == (2, False, "foreign")
    assert f"pid {other.pid}" in stack.inv("health").out
    for verb in (["start"], ["restart-one", "api"]):
        done = stack.inv(*verb, "--json")
        assert (done.code, done.states) == (2, {"api": "failed"}) and f"pid {other.pid}" in done.out
    assert stack.ok("stop", "--json").states == {"api": "ok"}
    assert not stack.running() and other.poll() is None


def test_f24_a_marked_child_that_keeps_the_port_is_ended_and_the_service_starts_anew(stack: Stack) -> None:
    port = stack.tiny("api", "--child=holds", start_timeout=30, health=[{"http": "/", "every": 1, "timeout": 0.5}])
    stack.write()
    stack.ok("start", "--json")
    parent = identified(int(recorded(stack)["process"]["pid"]))
    (child,) = [one for one in stack.running() if one != parent]
    ended(parent)
    assert listening(port) == {child.pid}
    assert stack.inv("health", "--json").code == 2
    done = stack.ok("start", "--json")
    assert done.states == {"api": "changed"} and done.seconds < 20, str(done)
    assert not process.alive(child)
    assert stack.get("api")[1] == str(recorded(stack)["process"]["pid"])


def test_f24_a_child_without_a_marker_that_keeps_the_port_is_named(stack: Stack) -> None:
    port = stack.tiny("api", "--child=lost")
    stack.write()
    with freed(port):
        stack.ok("start", "--json")
        parent = alone(stack)
        (pid,) = until(lambda: listening(port) - {parent.pid})
        child = identified(pid)
        ended(parent)
        done = stack.inv("start", "--json")
        assert (done.code, done.outcomes["api"]["after"]) == (2, "foreign"), str(done)
        assert f"pid {child.pid}" in done.out and f"inv kill-port {port} start --only api" in done.out
        assert process.alive(child) and not stack.running()
        stack.ok("kill-port", str(port), "start", "--only", "api")
        assert not process.alive(child)
        (heir,) = listening(port) - {alone(stack).pid}
        child = identified(heir)  # the new one has such a child too; alive it belongs to its tree
        assert stack.ok("stop", "--json").states == {"api": "changed"}
        assert not process.alive(child) and not listening(port)


def _time_waits(port: int) -> int:
    """Connections of a port that are over, but not yet forgotten by the kernel."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "06" for line in lines)


@on_linux
def test_f25_restart_under_load_meets_no_taken_address(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    over = threading.Event()
    answered: list[str] = []

    def load() -> None:
        while not over.is_set():
            try:
                answered.append(stack.get("api", within=5)[1])
            except OSError:
                over.wait(0.005)  # between two lives nobody answers

    clients = [threading.Thread(target=load) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            until(lambda: _time_waits(port) > 20)
            done = stack.ok("restart-one", "api", "--json")
            assert done.states == {"api": "changed"}
            until(lambda: str(alone(stack).pid) in answered)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert "EADDRINUSE" not in (log := (stack.state / "logs" / "api.log").read_text()) and "Traceback" not in log


@with_ipv6
def test_f27_a_service_on_one_address_family_is_healthy(stack: Stack) -> None:
    stack.tiny("six", "--host=::1")
    stack.tiny("four")
    stack.write()
    assert stack.ok("start", "--json").states == {"six": "changed", "four": "changed"}
    health = stack.ok("health", "--json")
    assert {one["state"] for one in health.services.values()} == {"up"}
    assert all(probe["ok"] for one in health.services.values() for probe in one["probes"])


@with_ipv6
def test_f27_a_stranger_on_the_other_family_is_seen(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    mine, other = alone(stack), stranger(stack, port, "--host=::1")
    health = stack.inv("health", "--json")
    assert health.code == 2, "whoever asks for localhost may reach either"
    (port_reading, asked) = health.services["api"]["probes"]
    assert port_reading["ok"] is False and "::1" in port_reading["detail"] and asked["ok"] is True
    assert f"pid {other.pid}" in port_reading["detail"]
    stack.inv("start", "--json")
    assert process.alive(mine) and other.poll() is None, "it is reported, and nobody is ended for it"
    ended(mine)
    done = stack.inv("start", "--json")
    assert (done.code, done.outcomes["api"]["after"]) == (2, "foreign")
    assert f"pid {other.pid}" in done.outcomes["api"]["detail"] and not stack.running()


# -- kill-port ---------------------------------------------------------------------------------------------------

# Attaches to every HOST:PORT it is given (FROM_HOST:FROM_PORT>HOST:PORT: from that end); echoes on the last.
CLIENT = """
import socket, sys
lines = []
for word in sys.argv[1:]:
    own, _, place = word.rpartition(">")
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if own:
        line.bind((own.split(":")[0], int(own.split(":")[1])))
    line.connect((place.split(":")[0], int(place.split(":")[1])))
    lines.append(line)
while data := lines[-1].recv(99):
    lines[-1].sendall(data)
"""


@on_linux
def test_f28_kill_port_leaves_clients_alone(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    elsewhere = stranger(stack, port, "--host=127.0.0.2")
    with socket.create_server(("127.0.0.1", 0)) as home:
        home.settimeout(10)
        echo = f"127.0.0.1:{home.getsockname()[1]}"
        attachments = [[f"127.0.0.1:{port}"], [f"127.0.0.2:{port}"], [f"127.0.0.3:{port}>{echo}"]]
        clients = []
        for places in attachments:
            child = stack.spawn([PYTHON, "-S", "-c", CLIENT, *places, echo])
            lines = [home.accept()[0] for _ in range(1 + places[0].endswith(echo))]
            clients.append((child, lines))
        done = stack.ok("kill-port", str(port), "--json")
        assert done.states == {str(port): "changed"}
        assert "inv start --only api" in done.outcomes[str(port)]["detail"], "it is wanted up: say how"
        assert not listening(port) and not stack.running() and elsewhere.wait(5)
        for child, lines in clients:
            lines[-1].sendall(b"there?")
            assert lines[-1].recv(99) == b"there?", "a client was ended"
            assert child.poll() is None
            for line in lines:
                line.close()


@pytest.fixture
def open_stack() -> Iterator[Stack]:
    """A stack in a folder that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="ops-test-"))
    folder.chmod(0o755)
    stack = Stack(folder)
    try:
        yield stack
    finally:
        stack.end()
        shutil.rmtree(folder)


def as_nobody(stack: Stack, *args: str) -> Done:
    """`inv ARGS` as a user without rights, except to read all files: this Python may lie in root's own folder. That is
    no right to see whose descriptors are what, nor to signal anybody."""
    reading = [f"--{which}-caps=-all,+dac_read_search" for which in ("inh", "ambient")]
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading]
    child = stack.spawn(
        [*become, PYTHON, "-m", "invoke", *args],
        cwd=stack.folder,
        env=stack.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = child.communicate(timeout=60)
    return Done(list(args), child.returncode, out, err, 0.0)


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux)")
def test_f29_a_listener_of_another_user_is_refused_and_explained(open_stack: Stack) -> None:
    stack = open_stack
    port = stack.add("api", ["sh", "-c", "exec sleep 99"])
    stack.write()
    stack.state.mkdir(mode=0o700)
    os.chown(stack.state, NOBODY, NOBODY)
    other = stranger(stack, port)
    for more in ([], ["--force"]):
        done = as_nobody(stack, "kill-port", str(port), *more)
        assert done.code == 2, str(done)
        assert "another user" in done.out and "user root" in done.out, str(done)
        assert "failed=1" in done.out and "Traceback" not in done.out + done.err
    started = as_nobody(stack, "start", "--json")
    assert (started.code, started.outcomes["api"]["after"]) == (2, "foreign") and "user root" in started.out
    reset = as_nobody(stack, "reset", "--json")
    assert (reset.code, reset.states) == (2, {"api": "failed"}) and "another user" in reset.out, str(reset)
    assert other.poll() is None, "it was signalled"


def test_kill_port_wants_force_for_a_port_of_nobody_and_says_what_it_killed(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    port = free_port()
    other = stranger(stack, port)
    refused = stack.inv("kill-port", str(port))
    assert refused.code == 1 and f"inv kill-port {port} --force" in refused.err and other.poll() is None
    announced = stack.ok("kill-port", str(port), "--force", "--check", "--json")
    assert announced.states == {str(port): "changed"} and other.poll() is None
    done = stack.ok("kill-port", str(port), "--force", "--json")
    (outcome,) = done.outcomes.values()
    assert (outcome["state"], outcome["before"], outcome["after"]) == ("changed", "held", "free")
    assert f"pid {other.pid}" in outcome["detail"] and "--body=stranger" in outcome["detail"]
    assert other.wait(5) == -signal.SIGTERM
    assert stack.ok("kill-port", str(port), "--force", "--json").states == {str(port): "ok"}


@with_ipv6
def test_kill_port_ends_all_holders_on_both_address_families(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    with freed(port):
        four = stranger(stack, port, "--child=holds")
        six = stranger(stack, port, "--host=::1")
        (heir,) = until(lambda: listening(port) - {four.pid, six.pid})
        held = identified(heir)
        done = stack.ok("kill-port", str(port), "--json")
        assert not process.alive(held), "the port was still held"
        assert four.wait(5) and six.wait(5) and not listening(port)
        assert all(f"pid {pid}" in done.out for pid in (four.pid, six.pid, heir))
        assert done.outcomes[str(port)]["after"] == "free"


# Told to end, it gives the port to another process of its own first: who looks again finds it refilled.
SUCCEEDED = """
import os, signal, socket, subprocess, sys, time
where = ("127.0.0.1", int(sys.argv[1]))
def end(*_):
    listener.close()
    heir = "import socket, sys, time\\nkept = socket.create_server(('127.0.0.1', int(sys.argv[1])))"
    heir += "\\nprint('there', flush=True)\\nwhile True: time.sleep(60)"
    argv = [sys.executable, "-S", "-c", heir, sys.argv[1]]
    subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True).stdout.readline()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(where)
while True: time.sleep(60)
"""


def test_kill_port_names_who_has_refilled_the_port(stack: Stack) -> None:
    port = stack.tiny("api", grace=30)
    stack.write()
    first = stack.spawn([PYTHON, "-c", SUCCEEDED, str(port)], cwd="/")
    until(lambda: first.pid in listening(port))
    with freed(port):
        done = stack.ok("kill-port", str(port), "--json")
        (heir,) = listening(port)
        (outcome,) = done.outcomes.values()
        assert (outcome["state"], outcome["after"]) == ("changed", "held"), str(done)
        assert f"now held by pid {heir}" in outcome["detail"] and f"ended pid {first.pid}" in outcome["detail"]
        assert first.poll() == 0 and heir != first.pid


# Listens on a port and runs a command meanwhile, as a shell with a debug port would.
PARENT = """
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


@pytest.mark.parametrize("ours", [True, False], ids=["port of a service", "port of nobody"])
def test_kill_port_never_ends_what_runs_it(stack: Stack, ours: bool) -> None:
    port = stack.tiny("api")
    stack.write()
    port = port if ours else free_port()
    invocation = [PYTHON, "-m", "invoke", "kill-port", str(port), "--force", "--json"]
    parent = stack.spawn(
        [PYTHON, "-S", "-c", PARENT, str(port), *invocation],
        cwd=stack.folder,
        env=stack.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = parent.communicate(timeout=30)
    assert parent.returncode == 2, "ended by what it ran, or not refused"
    (outcome,) = json.loads(out)["outcomes"]
    assert outcome["state"] == "failed" and "ancestor" in outcome["detail"] and f"pid {parent.pid}" in outcome["detail"]
