"""Faults of ports, records and the machine: who has a port, what a record is worth, whose folder it is.

Every test injects its fault for real: strangers that live, records that lie, ports that are taken, users without
rights. Numbers such as f17 are rows of the table of faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.host.listeners import listeners
from ops.memory.state import Record, State
from ops.model import Process
from ops.model import Stack as StackOf
from tests.stack import PYTHON, TINY, Done, Stack
from tests.waiting import free_port, until

NOBODY = 65534
NO_SUCH_PID = 2**22 + 1  # above what Linux ever gives
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="127/8 is all loopback, $XDG_STATE_HOME counts")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
            return True
    except OSError:
        return False


with_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


# -- strangers ---------------------------------------------------------------------------------------------------


def listening(port: int) -> set[int]:
    """Who listens there, on any address."""
    return {pid for one in listeners([port]).get(port, ()) for pid in one.pids}


def stranger(stack: Stack, port: int, *flags: str, **more: Any) -> subprocess.Popen[Any]:
    """A server that is nobody's service: another folder, other arguments, no run marker; it answers with 200."""
    argv = [PYTHON, "-S", str(TINY), str(port), "--body=stranger", *flags]
    child = stack.spawn(argv, cwd="/", **more)
    until(lambda: child.pid in listening(port))
    return child


def bystander(stack: Stack) -> Process:
    """A process that has nothing to do with anything, and would end at any signal."""
    child = stack.spawn([PYTHON, "-S", "-c", "import time\nwhile True: time.sleep(60)"], cwd="/")
    return identified(child.pid)


def identified(pid: int) -> Process:
    found = process.identify(pid)
    assert found, f"pid {pid} is gone"
    return found


def ended(one: Process) -> None:
    """Kills exactly this process and waits until it is gone."""
    process.send(one, signal.SIGKILL)
    until(lambda: not process.alive(one))


@contextlib.contextmanager
def freed(port: int) -> Iterator[None]:
    """Whoever listens on a port of this test is gone afterwards, whatever the test came to."""
    try:
        yield
    finally:
        for pid in listening(port):
            if one := process.identify(pid):
                process.send(one, signal.SIGKILL)
        until(lambda: not listening(port))


def alone(stack: Stack, name: str = "api") -> Process:
    """The one living copy of a service."""
    (one,) = stack.running(name)
    return one


# -- records -----------------------------------------------------------------------------------------------------


def record_path(stack: Stack, name: str = "api") -> Path:
    return stack.state / "services" / f"{name}.json"


def recorded(stack: Stack, name: str = "api") -> dict[str, Any]:
    return json.loads(record_path(stack, name).read_text())


def wanted(stack: Stack) -> dict[str, bool]:
    """What is recorded as wanted: whether up, by service."""
    said = json.loads((stack.state / "wanted.json").read_text())["services"]
    return {name: wish["up"] for name, wish in said.items()}


def forge(stack: Stack, who: Process, name: str = "api") -> None:
    """Writes a record that says: this process is the service."""
    state = State(StackOf(stack.name, stack.name), str(stack.folder), str(stack.state))
    state.prepare()
    moment = "2024-01-01T00:00:00.000+00:00"
    state.remember(Record(name, who, f"{state.tag}-00000000", "", moment, port=None, ready_at=moment, grace=1.0))


_LIES: dict[str, Callable[[Process], Process]] = {
    "another birth": lambda one: replace(one, birth=one.birth - 1000.0),
    "another boot": lambda one: replace(one, boot="00000000-dead-beef-0000-000000000000"),
}


@pytest.mark.parametrize("lie", _LIES)
def test_f17_a_reused_pid_is_never_signalled(stack: Stack, lie: str) -> None:
    stack.tiny("api")
    stack.write()
    other = bystander(stack)
    forge(stack, other)
    assert stack.inv("status", "--json").services["api"]["pid"] == other.pid, "a true record would be believed"

    forge(stack, _LIES[lie](other))
    seen = stack.inv("status", "--json")
    assert (seen.code, seen.services["api"]["state"], seen.services["api"]["pid"]) == (2, "down", None)
    assert stack.ok("stop", "--json").states == {"api": "ok"}
    for verb in (["restart-one", "api"], ["reset"], ["start"]):
        forge(stack, _LIES[lie](other))
        done = stack.ok(*verb, "--json")
        assert done.states == {"api": "changed"}, str(done)
        assert process.alive(other), f"{verb} signalled a stranger"
        mine = alone(stack)
        assert recorded(stack)["process"]["pid"] == mine.pid
        ended(mine)


def test_f18_after_a_boot_what_was_wanted_counts_and_who_ran_does_not(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("web")
    stack.write()
    stack.ok("start", "--json")
    stack.ok("stop", "--only", "web", "--json")
    mine, other = alone(stack), bystander(stack)
    ended(mine)
    for name in ("api", "web"):
        forge(stack, _LIES["another boot"](other), name)
    seen = stack.inv("status", "--json").services
    assert [(one["state"], one["wanted"]) for one in seen.values()] == [("down", "up"), ("down", "down")]
    done = stack.ok("start", "--only", "api", "--json")
    assert (done.outcomes["api"]["before"], done.outcomes["api"]["after"]) == ("down", "up")
    assert recorded(stack)["process"]["boot"] == process.boot_id() and process.alive(other)
    assert recorded(stack)["process"]["pid"] == alone(stack).pid


@pytest.mark.parametrize("text", ["dead holder", "living stranger", "garbage"])
def test_f19_locks_and_pid_files_that_were_left_behind_stop_nobody(stack: Stack, text: str) -> None:
    stack.tiny("api")
    stack.write()
    other = bystander(stack)
    pid = NO_SUCH_PID if text == "dead holder" else other.pid
    said = json.dumps({"turn": 7, "pid": pid, "by": "inv start", "at": "2024-01-01T00:00:00Z"}).encode()
    said = b"\0\xff{" * 99 if text == "garbage" else said
    (stack.state / "locks").mkdir(parents=True, mode=0o700)
    stack.state.chmod(0o700)
    for lock in ("locks/api", "wanted.lock"):
        (stack.state / lock).write_bytes(said)
    pid_file = stack.public / "api.pid"
    pid_file.write_text(f"{other.pid}\n")

    assert stack.ok("start", "--json").states == {"api": "changed"}
    assert pid_file.read_text().split() == [str(alone(stack).pid)]
    pid_file.write_text(f"{other.pid}\n")
    assert stack.ok("stop", "--json").states == {"api": "changed"}
    assert not stack.running() and process.alive(other)


# -- many at once ------------------------------------------------------------------------------------------------


class Copies:
    """While entered, a thread looks again and again how many copies of each service live at one moment."""

    def __init__(self, stack: Stack) -> None:
        self.most: Counter[str] = Counter()
        self.looks = 0
        self.fault: Exception | None = None
        self._prefix = f"{stack.name}/"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Copies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._over.wait(0.005):
                self._look()
        except Exception as error:
            self.fault = error

    def _look(self) -> None:
        found = [(one, value.split("/")[1]) for one, value in process.carrying("OPS_RUN", self._prefix)]
        # Who was found and still lives now lived all the while: only such were there at one moment.
        count = Counter(name for one, name in found if process.alive(one))
        self.most |= count
        self.looks += 1


def all_ended(begun: list[subprocess.Popen[str]], within: float = 100.0) -> list[Done]:
    """How commands that run side by side end."""
    until(lambda: all(child.poll() is not None for child in begun), within, every=0.05)
    return [Done([], child.returncode, *child.communicate(), 0.0) for child in begun]


def test_f20_law_1_twenty_starts_at_once_make_one_copy_of_each(stack: Stack) -> None:
    for name in ("api", "web"):
        stack.tiny(name, start_timeout=60)
    stack.write()
    with Copies(stack) as copies:
        done = all_ended([stack.popen("start", "--json") for _ in range(20)])
    assert [one.code for one in done] == [0] * 20, "\n".join(str(one) for one in done if one.code)
    assert copies.fault is None and copies.most == {"api": 1, "web": 1}
    pids = {name: alone(stack, name).pid for name in ("api", "web")}
    assert {name: int(stack.get(name)[1]) for name in pids} == pids
    spawned = [one for each in done for one in each.outcomes.values() if one["detail"].startswith("started")]
    assert sorted(one["service"] for one in spawned) == ["api", "web"], spawned


def test_f20_a_look_taken_while_somebody_changes_the_service_is_not_believed(tmp_path: Path) -> None:
    state = State(StackOf("turns", "turns"), str(tmp_path), str(tmp_path / "state"))
    state.prepare()
    before = state.turn("api")
    with state.changing("api", 1, "inv start") as turn:
        assert turn == before, "nobody held it in between"
        meanwhile = state.turn("api")
    with state.changing("api", 1, "another inv start") as turn:
        assert turn != meanwhile, "what was seen before the first had spawned would count as still true"


@pytest.mark.parametrize("seed", [11, 2024, 77])
def test_f21_law_1_of_commands_that_interleave_the_last_wish_wins(stack: Stack, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    names = ["api", "web"]
    stack.tiny("api", start_timeout=60)
    stack.tiny("web", start_timeout=60, needs=["api"])
    stack.write()
    verbs = [["start"], ["stop"], ["restart-one", "api"], ["start", "--only", "api"], ["stop", "--only", "web"]]
    begun = []
    with Copies(stack) as copies:
        for _ in range(9):
            begun.append(stack.popen(*dice.choice(verbs), "--json"))
            time.sleep(dice.uniform(0, 0.4))  # what is tested, not waited for: when each comes
        done = all_ended(begun)
    assert [one.code for one in done] == [0] * 9, "\n".join(str(one) for one in done if one.code)
    assert copies.fault is None and copies.looks > 10
    assert set(copies.most.values()) <= {1}, "two copies at one moment"
    assert {name: len(stack.running(name)) for name in names} == {n: int(wanted(stack).get(n, False)) for n in names}
    shown = stack.inv("status", "--json").services
    assert {name: shown[name]["state"] == "up" for name in names} == {n: wanted(stack).get(n, False) for n in names}


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


# -- logs --------------------------------------------------------------------------------------------------------


def test_f33_a_public_log_that_was_removed_is_put_back(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    mine, public = alone(stack), stack.public / "api.log"
    assert "warning: api" not in stack.ok("health", "--json").err
    public.unlink()
    warned = stack.ok("health", "--json")
    assert f"warning: api: log {public}: missing" in warned.err, str(warned)
    assert stack.ok("start", "--json").states == {"api": "changed"}
    assert public.is_symlink() and "listening" in public.read_text()
    assert stack.ok("start", "--json").states == {"api": "ok"}
    assert alone(stack) == mine


def test_f33_a_real_log_that_was_removed_is_reported_until_the_restart(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    mine, real = alone(stack), stack.state / "logs" / "api.log"
    real.unlink()
    for _ in range(2):
        warned = stack.ok("health", "--json")
        assert f"{real} was deleted" in warned.err and warned.services["api"]["state"] == "up", str(warned)
        stack.ok("start", "--json")
        assert alone(stack) == mine, "a lost log is no reason to end a service"
    stack.ok("restart-one", "api", "--json")
    assert "warning: api" not in stack.ok("health", "--json").err
    assert "listening" in real.read_text()


# -- the environment ---------------------------------------------------------------------------------------------


def tool(folder: Path, body: str) -> Path:
    """A program `mytool` in a folder of its own: a tiny server that answers `body`."""
    folder.mkdir()
    path = folder / "mytool"
    path.write_text(f'#!/bin/sh\nexec {PYTHON} -S {TINY} "$1" --body={body}\n')
    path.chmod(0o755)
    return path


def test_f38_the_environment_of_the_first_start_is_used_ever_after(stack: Stack, tmp_path: Path) -> None:
    rich, poor = tool(tmp_path / "rich", "rich"), tool(tmp_path / "poor", "poor")
    stack.add("api", ["mytool", "{port}"], health=[{"http": "/", "every": 1, "timeout": 1}])
    stack.write()
    said = {"PATH": f"{rich.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", "TZ": "Asia/Kolkata"}
    shell = {**stack.env, **said}
    boot = {"HOME": "/other", "PATH": f"{poor.parent}:/bin", "OPS_STATE": str(stack.state), "SECRET": "no"}

    stack.env = shell
    stack.ok("start", "--json")
    first = alone(stack)
    names = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SECRET")
    environment = {name: process.variable(first.pid, name) for name in names}
    assert environment == {name: said.get(name) for name in names}
    ended(first)

    stack.env = {key: boot[key] for key in ("HOME", "OPS_STATE")}  # env -i HOME=/other
    stack.ok("start", "--json")
    second = alone(stack)
    assert {name: process.variable(second.pid, name) for name in names} == environment
    assert stack.get("api") == (200, "rich")
    ended(second)

    stack.env = boot
    rich.unlink()
    done = stack.inv("start", "--json")
    assert (done.code, done.states) == (2, {"api": "failed"}), "it may not silently become another program"
    why = done.outcomes["api"]["detail"]
    assert "'mytool'" in why and str(rich.parent) in why and "inv start --only api --refresh-env" in why
    stack.ok("start", "--only", "api", "--refresh-env", "--json")
    third = alone(stack)
    assert stack.get("api") == (200, "poor") and process.variable(third.pid, "HOME") == "/other"
    assert process.variable(third.pid, "SECRET") is None, "only what is frozen or declared gets through"


def test_f38_a_first_start_without_a_path_finds_what_every_machine_has(stack: Stack) -> None:
    health = [{"http": "/", "every": 1, "timeout": 1}]
    stack.add("api", ["sh", "-c", f"exec {{python}} -S {TINY} {{port}}"], health=health)
    stack.write()
    stack.env = {"OPS_STATE": str(stack.state)}
    assert stack.ok("start", "--json").states == {"api": "changed"}
    mine = alone(stack)
    assert "/bin" in str(process.variable(mine.pid, "PATH")).split(":")
    assert process.variable(mine.pid, "HOME") == os.path.expanduser("~"), "from the user's account"


# -- files that are not what they were ---------------------------------------------------------------------------


def _damaged(whole: bytes) -> dict[str, bytes]:
    said = json.loads(whole)
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "garbage": b"not json at all",
        "binary": bytes(range(256)) * 4,
        "huge": b"[" * 9_000_000,
        "a list": b"[1, 2, 3]",
        "other types": json.dumps({**said, "process": {"pid": "1", "birth": [], "boot": None}}).encode(),
        "pid of everybody": json.dumps({**said, "process": {**said["process"], "pid": -1}}).encode(),
    }


def test_f48_a_record_that_is_damaged_is_rebuilt_from_the_processes(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    mine, path = alone(stack), record_path(stack)
    for how, data in _damaged(path.read_bytes()).items():
        path.write_bytes(data)
        done = stack.ok("start", "--json")
        assert done.states == {"api": "changed"} and "adopted" in done.out, f"{how}: {done}"
        assert alone(stack) == mine and recorded(stack)["process"]["pid"] == mine.pid, how
    assert stack.ok("start", "--json").states == {"api": "ok"}
    path.write_bytes(b"{")
    seen = stack.ok("status", "--json").services["api"]
    assert (seen["state"], seen["pid"]) == ("up", mine.pid)
    path.write_bytes(b"\0" * 100)
    stack.ok("restart-one", "api", "--json")
    assert not process.alive(mine) and recorded(stack)["process"]["pid"] == alone(stack).pid
    path.write_bytes(b"\xff")
    assert stack.ok("stop", "--json").states == {"api": "changed"}
    assert not stack.running() and not path.exists()


def test_f48_what_is_wanted_or_frozen_may_be_damaged(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start", "--json")
    stack.ok("stop", "--json")
    (stack.state / "wanted.json").write_bytes(b'{"services": {"api": {"up": fal')
    seen = stack.inv("status", "--json")
    assert (seen.code, seen.services["api"]["wanted"]) == (2, "up"), "never said counts as up"
    for damage in (b"", b"\xff\xfe", b'{"services": {"api": {"up": "yes", "generation": []}}}'):
        for name in ("wanted.json", "frozen.json", "stack.json"):
            (stack.state / name).write_bytes(damage)
        assert stack.ok("start", "--json").states["api"] in ("changed", "ok")
        assert wanted(stack) == {"api": True}
        stack.ok("restart-one", "api", "--json")
        assert json.loads((stack.state / "frozen.json").read_text())["services"]["api"]["env"]["PATH"]
        assert json.loads((stack.state / "stack.json").read_text())["root"] == str(stack.folder.resolve())
        (stack.state / "wanted.json").write_bytes(damage)
        stack.ok("stop", "--json")
        assert wanted(stack) == {"api": False} and not stack.running()


def test_f48_a_service_that_left_the_inventory_is_shown_until_stop(stack: Stack) -> None:
    stack.tiny("api")
    port = stack.tiny("old", "--deaf", grace=0.5)
    stack.write()
    stack.ok("start", "--json")
    old = alone(stack, "old")
    del stack.services["old"]
    stack.write()
    seen = stack.ok("status", "--json").services
    assert (seen["old"]["pid"], seen["old"]["port"], seen["old"]["state"]) == (old.pid, port, "up")
    assert "old" in stack.inv("health", "--json").services
    stack.ok("start", "--json")
    assert process.alive(old), "a start ends nothing that it was not told of"
    done = stack.ok("stop", "--json")
    assert done.states == {"api": "changed", "old": "changed"} and not stack.running()
    assert list(stack.inv("status", "--json").services) == ["api"]


# -- the checker fails, not the service --------------------------------------------------------------------------


def test_f51_a_probe_that_cannot_be_asked_says_nothing_against_the_service(stack: Stack) -> None:
    probes = [
        {"http": "/", "every": 1, "timeout": 1},
        {"command": ["/nonexistent/check-it"], "every": 1, "timeout": 1},
        {"command": ["no-such-checker", "now"], "every": 1, "timeout": 1},
        {"http": "http://nowhere.invalid/", "every": 1, "timeout": 1},
    ]
    stack.tiny("api", health=probes, start_timeout=5)
    stack.write()
    assert stack.ok("start", "--json").states == {"api": "changed"}
    mine = alone(stack)
    health = stack.ok("health", "--json")
    seen = health.services["api"]
    assert (health.document["healthy"], seen["state"]) == (True, "up")
    answers = {probe["name"]: probe["ok"] for probe in seen["probes"]}
    assert list(answers.values()) == [True, True, None, None, None], answers
    assert all(probe["detail"].startswith("could not ask") for probe in seen["probes"] if probe["ok"] is None)
    shown = stack.ok("health").out
    assert "2 of 5 ok" in shown and shown.count("could not be asked") == 3, shown
    assert stack.ok("start", "--json").states == {"api": "ok"}
    assert alone(stack) == mine


# -- whose folder it is ------------------------------------------------------------------------------------------


@as_root
def test_a_state_folder_of_another_user_is_refused_with_the_line_to_type(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    stack.state.mkdir(mode=0o700)
    os.chown(stack.state, NOBODY, NOBODY)
    other = stranger(stack, port)
    for verb in (["start", "--only", "api"], ["kill-port", str(port)], ["reset"], ["start", "--check"]):
        done = stack.inv(*verb)
        assert done.code == 1, str(done)
        assert f"sudo -u {process.user_name(NOBODY)} inv {' '.join(verb)}" in done.err, str(done)
        assert "Traceback" not in done.err
    assert not list(stack.state.iterdir()) and not stack.running() and other.poll() is None


@on_linux
def test_a_stack_of_the_same_name_from_another_folder_is_refused(stack: Stack, tmp_path: Path) -> None:
    stack.tiny("api")
    del stack.env["OPS_STATE"]
    stack.env["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    stack.write()
    stack.ok("start", "--json")
    mine = alone(stack)
    twin = Stack(tmp_path / "twin")
    try:
        twin.name, twin.env = stack.name, stack.env
        twin.ops["name"] = stack.name
        twin.tiny("api")
        twin.write()
        for verb in (["start"], ["stop"], ["restart-one", "api"]):
            done = twin.inv(*verb)
            assert done.code == 1, str(done)
            assert str(stack.folder) in done.err and f"cd {stack.folder}" in done.err
        assert alone(stack) == mine
        own = {**stack.env, "OPS_STATE": str(twin.state)}
        assert twin.ok("start", "--json", env=own).states == {"api": "changed"}, "with OPS_STATE it is another stack"
        assert len(stack.running()) == 2
        assert stack.ok("stop", "--json").states == {"api": "changed"}
        assert len(twin.running()) == 1, "each ends its own"
    finally:
        twin.end()
