"""Seeing: who is the service, who is left over from it, who is a stranger on its port; on real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory.files import now
from ops.memory.state import Record, State
from ops.model import Host, Service
from ops.model import Stack as StackOptions
from ops.operations import environment
from ops.operations.by_hand import same_command
from ops.operations.sight import Sight, Surroundings, count, see
from tests.stack import TINY
from tests.waiting import free_port, until

HOLD = "import time\nwhile True: time.sleep(60)"


class Place:
    """One service `api` on a port of its own, and processes started by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        options = StackOptions("t" + os.urandom(4).hex(), "t")
        command = ("{python}", "-S", str(TINY), "{port}")
        self.service = Service("api", command, port=self.port, start_timeout=30)
        self.host = Host("localhost", str(folder), (self.service,), options)
        self.state = State(options, str(folder), str(folder / "state"))
        self.state.prepare()
        self.started: list[subprocess.Popen[bytes]] = []

    def see(self, service: Service | None = None, **more: bool) -> Sight:
        host = replace(self.host, services=(service or self.service,))
        return see(self.state, service or self.service, Surroundings(host, self.state), **more)

    def run(self, *flags: str, argv: Sequence[str] = (), run: str = "", **more: Any) -> subprocess.Popen[bytes]:
        """The declared command (or `argv`), once it listens; with `run` it carries the marker of the service."""
        argv = list(argv) or [sys.executable, "-S", str(TINY), str(self.port), *flags]
        env = dict(os.environ, **({environment.MARKER: self.marker(run)} if run else {}))
        more = {"cwd": self.folder, "env": env, "stdout": subprocess.PIPE, "start_new_session": True, **more}
        child = subprocess.Popen(argv, **more)
        self.started.append(child)
        while child.stdout and b"listening" not in (line := child.stdout.readline()):
            assert line, "it ended without listening"
        return child

    def marker(self, run: str, name: str = "api") -> str:
        return environment.marker(self.host.stack.name, name, run)

    def new_run(self) -> str:
        return environment.new_run(self.state)

    def remember(self, pid: int, run: str = "", **more: Any) -> Record:
        one = process.identify(pid)
        assert one
        record = Record("api", one, run, self.service.definition(), now(), port=self.port)
        record = replace(record, **more)
        self.state.remember(record)
        return record

    def end(self) -> None:
        for child in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(timeout=10)
            if child.stdout:
                child.stdout.close()
        for one, _ in process.carrying(environment.MARKER, f"{self.host.stack.name}/"):
            process.send(one, signal.SIGKILL)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.end()


# -- the same command --------------------


@pytest.mark.parametrize(
    ("words", "declared", "executable"),
    [
        (["node", "index.js"], ["node", "index.js"], None),
        (["/usr/bin/node", "index.js"], ["node", "index.js"], "/usr/bin/node"),
        (["node", "index.js"], ["/opt/node/bin/node", "index.js"], "/usr/bin/node"),
        (["/usr/bin/sh", "-c", "x"], ["/bin/sh", "-c", "x"], None),
        # the same program by another name: a link in a virtual environment
        (["anything", "-m", "app"], [sys.executable, "-m", "app"], os.path.realpath(sys.executable)),
        (["Python", "-m", "app"], [sys.executable, "-m", "app"], os.path.realpath(sys.executable)),
        (["/odd/name", "-c", "x"], ["sh", "-c", "x"], os.path.realpath("/bin/sh")),
        # a script with its interpreter in front
        (["/bin/sh", "./serve", "--port", "1"], ["./serve", "--port", "1"], "/bin/dash"),
        (["node", "/repo/node_modules/.bin/vite", "--port", "1"], ["vite", "--port", "1"], "/usr/bin/node"),
        # the title that npm gives itself
        (["npm run dev"], ["npm", "run", "dev"], "/usr/bin/node"),
        (["npm exec vite --port 5174"], ["npx", "vite", "--port", "5174"], "/usr/bin/node"),
        (["npm exec vite --port 5174"], ["/usr/bin/npx", "vite", "--port", "5174"], "/usr/bin/node"),
    ],
)
def test_the_same_command(words: list[str], declared: list[str], executable: str | None) -> None:
    assert same_command(words, declared, executable)


@pytest.mark.parametrize(
    ("words", "declared", "executable"),
    [
        (["node", "index.js"], ["node", "other.js"], "/usr/bin/node"),
        (["node", "index.js", "--more"], ["node", "index.js"], "/usr/bin/node"),
        (["node"], ["node", "index.js"], "/usr/bin/node"),
        (["node", "--inspect", "index.js"], ["node", "index.js"], "/usr/bin/node"),
        (["deno", "index.js"], ["node", "index.js"], "/usr/bin/deno"),
        (["vim", "index.js"], ["node", "index.js"], "/usr/bin/vim"),
        (["tail", "-f", "serve"], ["./serve"], "/usr/bin/tail"),
        (["npm run dev"], ["npm", "run", "build"], "/usr/bin/node"),
        (["npm exec vite"], ["npx", "vite", "--port", "5174"], "/usr/bin/node"),
        # titles of any kind are read without harm
        ([""], ["node"], None),
        ([" "], ["node"], None),
        (["   "], ["node", "x"], None),
        (["a \\"], ["node"], None),
        (["a 'b"], ["node"], None),
        (['a "b'], ["node"], None),
        (["nginx: master process /usr/sbin/nginx"], ["nginx"], None),
    ],
)
def test_another_command(words: list[str], declared: list[str], executable: str | None) -> None:
    assert not same_command(words, declared, executable)


# -- nothing there --------------------


def test_nothing_there_is_down(place: Place) -> None:
    sight = place.see()
    assert (sight.state, sight.root, sight.members, sight.strangers, sight.pid) == ("down", None, (), (), None)
    assert not sight.ready
    assert sight.leftovers == ()


# -- by its record --------------------


def test_the_recorded_process_is_the_service(place: Place) -> None:
    child = place.run()
    place.remember(child.pid)
    sight = place.see()
    assert (sight.state, sight.pid, sight.origin) == ("starting", child.pid, "record")
    assert [one.port for one in sight.own_listeners] == [place.port]
    assert sight.rss > 1_000_000
    assert 0 <= sight.age < 3600
    place.remember(child.pid, ready_at=now())
    sight = place.see()
    assert sight.state == "up"
    assert sight.ready
    assert sight.strangers == ()
    place.remember(child.pid, ready_at=now(), stopping=True)
    with place.state.changing("api", 1.0, "inv stop"):
        assert place.see().state == "stopping"
    assert place.see().state == "up"  # whoever was stopping it is gone


def test_a_start_that_takes_longer_than_it_may_is_not_starting_for_ever(place: Place) -> None:
    child = place.run()
    place.remember(child.pid)
    assert place.see().state == "starting"
    assert place.see(replace(place.service, start_timeout=0.0001)).state == "up"


def test_f5_a_stopped_process_is_hung(place: Place) -> None:
    child = place.run()
    place.remember(child.pid, ready_at=now())
    os.kill(child.pid, signal.SIGSTOP)
    until(lambda: place.see().state == "hung")
    assert place.see().stopped
    os.kill(child.pid, signal.SIGCONT)
    until(lambda: place.see().state == "up")


def test_f17_f18_a_record_of_another_birth_or_boot_is_nobody(place: Place) -> None:
    child = place.run(argv=[sys.executable, "-S", "-c", "print('listening', flush=True)\n" + HOLD])
    record = place.remember(child.pid)
    for wrong in (replace(record.process, birth=record.process.birth - 5), replace(record.process, boot="before")):
        place.state.remember(replace(record, process=wrong))
        sight = place.see()
        assert (sight.state, sight.root, sight.members) == ("down", None, ())
    place.state.remember(record)
    assert place.see().pid == child.pid


def test_f44_a_recorded_zombie_is_down(place: Place) -> None:
    child = place.run()
    place.remember(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: (line := process.entry(child.pid)) and line.state == "Z")
    assert place.see().state == "down"


def test_an_instant_look_needs_no_listeners(place: Place) -> None:
    child = place.run()
    place.remember(child.pid, ready_at=now())
    sight = place.see(port=False, whole=False)
    assert (sight.state, sight.pid, sight.own_listeners) == ("up", child.pid, ())


# -- by its marker --------------------


@pytest.mark.parametrize("record", ["none", "garbage", "another run"])
def test_f48_a_marked_process_without_a_record_is_found(place: Place, record: str) -> None:
    """Its spawner died before it could record it, or the disk was full."""
    run = place.new_run()
    child = place.run(run=run)
    if record == "garbage":
        Path(place.state.path, "services", "api.json").write_bytes(b'{"service": "ap')
    if record == "another run":
        before = place.run(argv=["/bin/sh", "-c", "echo listening; exec sleep 60"], run=place.new_run())
        place.remember(before.pid, run=place.new_run())
        before.kill()
        before.wait(timeout=10)
    sight = place.see()
    assert (sight.pid, sight.origin, sight.run) == (child.pid, "marker", run)
    assert sight.state == "up"


def test_law_2_a_marker_of_another_stack_service_or_user_is_not_ours(place: Place) -> None:
    run = place.new_run()
    name = place.host.stack.name
    for value in (f"{name}x/api/{run}", f"{name}/web/{run}", f"x{name}/api/{run}", f"{name}/api2/{run}"):
        env = {**os.environ, environment.MARKER: value}
        place.run(argv=["/bin/sh", "-c", "echo listening; exec sleep 60"], env=env)
    assert place.see().members == ()
    assert place.see().root is None


def test_law_2_the_same_stack_with_another_state_folder_is_another(place: Place, tmp_path: Path) -> None:
    """Two checkouts with the same name, each with a state folder of its own."""
    other = State(place.host.stack, str(tmp_path), str(tmp_path / "other"))
    child = place.run(run=environment.new_run(other))
    sight = place.see()
    assert (sight.state, sight.root, sight.members) == ("foreign", None, ())
    assert sight.strangers[0].pids == (child.pid,)
    assert see(other, place.service, Surroundings(place.host, other)).pid == child.pid


def test_f12_the_listener_among_marked_processes_is_the_service(place: Place) -> None:
    """A command that put itself in the background: the process that was recorded is gone."""
    run = place.new_run()
    child = place.run("--daemon", run=run)
    record = Record("api", process.Process(child.pid, 1.0, "gone"), run, "d", now(), port=place.port)
    place.state.remember(record)
    child.wait(timeout=10)
    sight = until(lambda: (found := place.see()) and found.root and found)
    assert sight.pid != child.pid
    assert (sight.origin, sight.run) == ("marker", run)
    assert [one.pids for one in sight.own_listeners] == [(sight.pid,)]


def test_f11_children_of_a_dead_service_are_left_over_and_not_the_service(place: Place) -> None:
    run = place.new_run()
    code = "echo listening; setsid sleep 60 & sleep 60 & wait"
    child = place.run(argv=["/bin/sh", "-c", code], run=run)
    place.remember(child.pid, run=run)
    members = until(lambda: len(found := place.see().members) == 3 and found)
    assert child.pid in [one.pid for one in members]
    os.kill(child.pid, signal.SIGKILL)
    child.wait(timeout=10)
    sight = place.see()
    assert sight.root is None
    assert sight.state == "down"
    assert {one.pid for one in sight.leftovers} == {one.pid for one in members} - {child.pid}
    assert len(sight.leftovers) == 2


def test_f12_an_escaped_child_with_the_marker_belongs_to_the_tree(place: Place) -> None:
    run = place.new_run()
    child = place.run("--child=setsid", run=run)
    place.remember(child.pid, run=run, ready_at=now())
    sight = until(lambda: len((found := place.see()).members) == 2 and found)
    assert sight.pid == child.pid
    assert {process.identify(one.pid) for one in sight.members} == set(sight.members)


def test_f24_who_holds_the_listening_socket_too_belongs_to_the_tree(place: Place) -> None:
    """A child that inherited the socket and cleared its environment: only the socket tells."""
    code = (
        "import os, socket, sys, time\n"
        "listener = socket.socket()\n"
        "listener.bind(('127.0.0.1', int(sys.argv[1])))\n"
        "listener.listen()\n"
        "listener.set_inheritable(True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        argv = ['/bin/sh', '-c', 'echo listening; exec sleep 60']\n"
        "        os.execve('/bin/sh', argv, {'PATH': '/usr/bin:/bin'})\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "time.sleep(600)\n"
    )
    run = place.new_run()
    child = place.run(argv=[sys.executable, "-S", "-c", code, str(place.port)], run=run)
    place.remember(child.pid, run=run, ready_at=now())
    sight = place.see()
    try:
        assert sight.pid == child.pid
        assert len(sight.members) == 2
        assert sight.strangers == ()
    finally:
        for one in sight.members:
            process.send(one, signal.SIGKILL)


# -- by hand --------------------


def test_started_by_hand_from_the_declared_command_and_folder(place: Place) -> None:
    child = place.run()
    sight = place.see()
    assert (sight.state, sight.pid, sight.origin, sight.run) == ("up", child.pid, "hand", "")
    assert sight.strangers == ()


def test_started_by_hand_through_a_shell_it_is_the_ancestor_of_the_listener(place: Place) -> None:
    script = place.folder / "serve"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" -S "{TINY}" "$1"\ntrue\n')
    script.chmod(0o755)
    service = replace(place.service, command=("./serve", "{port}"))
    child = place.run(argv=["./serve", str(place.port)])
    sight = place.see(service)
    assert (sight.pid, sight.origin) == (child.pid, "hand")
    assert len(sight.members) == 2


Spoil = Callable[[Place, Path], Service]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place, other: replace(place.service, cwd=str(other)),
        lambda place, other: replace(place.service, command=(*place.service.command, "--more")),
        lambda place, other: replace(place.service, command=("node", *place.service.command[1:])),
    ],
    ids=["another folder", "other arguments", "another program"],
)
def test_law_2_what_differs_from_the_declaration_is_a_stranger(place: Place, tmp_path: Path, spoil: Spoil) -> None:
    (tmp_path / "other").mkdir()
    child = place.run()
    sight = place.see(spoil(place, tmp_path / "other"))
    assert (sight.state, sight.root, sight.members) == ("foreign", None, ())
    assert [one.pids for one in sight.strangers] == [(child.pid,)]


def test_law_2_a_process_of_another_stack_is_not_started_by_hand(place: Place) -> None:
    env = {**os.environ, environment.MARKER: "another/api/run"}
    child = place.run(env=env)
    sight = place.see()
    assert (sight.state, sight.root) == ("foreign", None)
    assert sight.strangers[0].pids == (child.pid,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as somebody else")
def test_law_2_another_users_process_is_a_stranger(place: Place) -> None:
    # Nobody may be unable to run our Python, so root listens and then becomes nobody.
    code = (
        "import os, socket, sys, time\n"
        "listener = socket.socket()\n"
        "listener.bind(('127.0.0.1', int(sys.argv[1])))\n"
        "listener.listen()\n"
        "print('listening', flush=True)\n"
        "os.setgid(65534)\nos.setuid(65534)\nprint('listening', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    service = replace(place.service, command=("{python}", "-S", "-c", code, "{port}"))
    child = place.run(argv=[sys.executable, "-S", "-c", code, str(place.port)])
    assert child.stdout
    assert child.stdout.readline() == b"listening\n"
    assert place.see(service).state == "foreign"


def test_a_worker_is_never_adopted_by_its_command_line(place: Place) -> None:
    place.run()
    worker = replace(place.service, port=None)
    assert place.see(worker).state == "down"


def test_law_2_a_service_is_never_an_ancestor_of_this_command(place: Place) -> None:
    """`inv` run from a shell whose own parent is the declared command: the listener's ancestors end at us."""
    mine = process.command_line(os.getpid())
    service = replace(place.service, command=tuple(mine), cwd=os.getcwd())
    child = place.run()  # a child of this very process
    sight = place.see(service)
    assert sight.root is None
    assert sight.strangers[0].pids == (child.pid,)


# -- strangers --------------------


def test_f22_f27_a_stranger_on_the_port_is_named_on_either_family(place: Place) -> None:
    child = place.run("--host=::1")
    service = replace(place.service, command=("something", "else"))
    sight = place.see(service)
    assert sight.state == "foreign"
    assert [(one.family, one.pids) for one in sight.strangers] == [("IPv6", (child.pid,))]


def test_f27_a_stranger_on_the_other_family_does_not_make_the_service_foreign(place: Place) -> None:
    mine = place.run()
    place.remember(mine.pid, ready_at=now())
    other = place.run("--host=::1")
    sight = place.see()
    assert sight.state == "up"
    assert sight.pid == mine.pid
    assert [one.pids for one in sight.strangers] == [(other.pid,)]


def test_f23_a_stranger_on_the_port_of_a_living_service_makes_it_foreign(place: Place) -> None:
    idle = place.run(argv=["/bin/sh", "-c", "echo listening; exec sleep 60"])
    place.remember(idle.pid, ready_at=now())
    place.run("--body=healthy", env={**os.environ, environment.MARKER: "another/api/run"})
    sight = place.see()
    assert sight.state == "foreign"
    assert sight.own_listeners == ()


# -- words --------------------


def test_counting_in_words() -> None:
    def some(*pids: int) -> list[process.Process]:
        return [process.Process(pid, 1.0, "b") for pid in pids]

    assert count(some(5)) == "pid 5"
    assert count(some(5, 6)) == "2 processes (pids 5, 6)"
    assert count(some(1, 2, 3, 4, 5, 6, 7)) == "7 processes (pids 1, 2, 3, 4, 5, 6, ...)"
