"""Law 5: look, act only if needed, look again. What --check announces is what the run then does, for every changing
command and many starting states, and announcing changes no byte and no process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory.state import State
from ops.model import Stack as StackNoun
from tests.stack import TINY, Done, Stack
from tests.waiting import until

Announced = dict[str, tuple[str, str, str, str]]

# What each service of the world has become, by its name, before the command is tried.
RUNNING = ("up", "held", "unlinked", "mispid", "corrupt", "forgotten", "stopped", "unwell", "swapped", "stray")
RUNNING += ("worker",)
GONE = ("fresh", "dead", "litter", "unwanted", "foreign", "byhand", "missing")
HEALABLE = ("fresh", "up", "dead", "stopped", "unwell", "byhand", "held", "unlinked", "mispid", "corrupt", "forgotten")
HEALABLE += ("litter", "unwanted", "worker")


class World:
    """One stack, each service in another starting state."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.strangers: list[int] = []
        self._reserved: list[socket.socket] = []

    def prepare(self) -> World:
        """Brings every service to the state that its name says."""
        stack = self.stack
        stack.ops["confirm"] = 0
        for name in ("fresh", "up", "dead", "stopped", "unwell", "foreign", "byhand", "held", "unlinked", "mispid"):
            stack.tiny(name)
        for name in ("corrupt", "forgotten", "unwanted", "stray"):
            stack.tiny(name)
        stack.tiny("litter", "--child=setsid")
        program = stack.folder / "server"
        program.symlink_to(os.path.realpath(sys.executable))
        for name in ("swapped", "missing"):  # their program will be gone; one of them runs
            stack.add(name, ["./server", "-S", str(TINY), "{port}"], health=[{"http": "/", "every": 1, "timeout": 1}])
        stack.add("worker", ["sleep", "1000"], port=None)
        stack.write()
        if sys.platform == "linux":  # elsewhere the server would not get a port that is kept
            self._reserved = [reserve(one["port"]) for one in stack.services.values() if "port" in one]
        up = ",".join((*RUNNING, "dead", "litter", "unwanted"))
        stack.ok("start", "--only", up, "stop", "--only", "unwanted", "hold", "held")
        self._break(State(StackNoun(stack.name, stack.name), str(stack.folder), str(stack.state)))
        program.unlink()
        del stack.services["stray"]
        stack.write()
        return self

    def let_go(self) -> None:
        """Gives the ports back."""
        for kept in self._reserved:
            kept.close()

    def _break(self, state: State) -> None:
        stack = self.stack
        pids = {name: record.process for name in RUNNING + GONE if (record := state.record(name))}
        for name, number in (("dead", "KILL"), ("litter", "KILL"), ("stopped", "STOP"), ("unwell", "USR1")):
            assert process.send(pids[name], signal.Signals[f"SIG{number}"])
        until(lambda: not process.alive(pids["dead"]) and not process.alive(pids["litter"]))
        until(lambda: (line := process.entry(pids["stopped"].pid)) and line.stopped)
        until(lambda: stack.get("unwell")[0] == 500)
        (stack.public / "unlinked.log").unlink()
        (stack.public / "mispid.pid").write_text("1\n")
        (stack.state / "services" / "corrupt.json").write_text('{"schema": 1, "process": {"pid"')
        (stack.state / "services" / "forgotten.json").unlink()
        server = [sys.executable, "-S", str(TINY)]
        for name, folder in (("foreign", stack.public), ("byhand", stack.folder)):
            port = str(stack.services[name]["port"])
            env = {"PATH": os.environ["PATH"]}
            self.strangers.append(stack.spawn([*server, port], cwd=folder, env=env).pid)
            until(lambda name=name: self._answers(name))

    def _answers(self, name: str) -> bool:
        try:
            return self.stack.get(name)[0] == 200
        except OSError:
            return False

    # -- what must not change -------------------------------------------------------------------------------

    def bytes_on_disk(self) -> dict[str, Any]:
        """Every file of the state folder, the public folder and the project: kind, inode, times, content."""
        found: dict[str, Any] = {}
        for folder in (self.stack.state, self.stack.public, self.stack.folder, self.stack.home):
            for path in (folder, *sorted(folder.rglob("*"))):
                found[str(path)] = _file(path)
        return found

    def processes(self) -> set[tuple[int, float, bool]]:
        """Pid, birth and whether it is stopped, of everything that belongs to this world."""
        pids = [one.pid for one in self.stack.running()] + self.strangers
        lines = [line for pid in pids if (line := process.entry(pid)) and not line.dead]
        return {(line.pid, line.birth, line.stopped) for line in lines}

    def announced(self, *args: str, as_dry: bool = False) -> Announced:
        """What --check says; nothing may have changed."""
        files, processes = self.bytes_on_disk(), self.processes()
        done = self.stack.inv(*(("--dry", *args) if as_dry else with_check(args)))
        assert self.processes() == processes, str(done)
        after = self.bytes_on_disk()
        assert {path for path in files | after if files.get(path) != after.get(path)} == set(), str(done)
        assert all(document["check"] for document in documents(done)), str(done)
        return outcomes(done)

    def done(self, *args: str) -> Announced:
        """What the run says."""
        return outcomes(self.stack.inv(*args))

    def state_of(self, *names: str) -> dict[str, str]:
        """How `status` sees these services."""
        found = self.stack.inv("status", "--json").services
        return {name: found[name]["state"] for name in names}


def _file(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    content: str = ""
    if path.is_symlink():
        content = os.readlink(path)
    elif path.is_file():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, content)


def with_check(args: Iterable[str]) -> list[str]:
    """`--check` after every `--json`, so that each task of a chain has it."""
    return [word for arg in args for word in ((arg, "--check") if arg == "--json" else (arg,))]


def documents(done: Done) -> list[dict[str, Any]]:
    """One document per task of a chain."""
    return [json.loads(line) for line in done.out.splitlines()]


def outcomes(done: Done) -> Announced:
    """State, action, before and after of every outcome; a chain must not name a service twice."""
    found: Announced = {}
    for document in documents(done):
        for one in document["outcomes"]:
            assert one["service"] not in found, str(done)
            found[one["service"]] = (one["state"], one["action"], one["before"], one["after"])
    assert found, str(done)
    return found


def reserve(port: int) -> socket.socket:
    """Keeps a port from whoever asks for any (another test, at this moment); a server that asks for it gets it."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", port))
    return kept


@pytest.fixture
def world(stack: Stack) -> Iterator[World]:
    made = World(stack)
    try:
        yield made.prepare()
    finally:
        made.let_go()


def chain(task: str, names: Iterable[Any], *flags: str) -> list[str]:
    """`task NAME --json task NAME --json …`"""
    return [word for name in names for word in (task, str(name), *flags, "--json")]


def test_law_5_start(world: World) -> None:
    said = world.announced("start", "--json")
    assert world.done("start", "--json") == said
    assert {name for name, one in said.items() if one[0] == "ok"} == {"up", "swapped", "worker", "held"}
    assert {name: one for name, one in said.items() if one[0] == "failed"} == {
        "foreign": ("failed", "start", "foreign", "foreign"),
        "missing": ("failed", "start", "down", "down"),
    }
    again = world.announced("start", "--json")
    assert {one[0] for name, one in again.items() if name not in ("foreign", "missing")} == {"ok"}


def test_law_5_start_only_and_the_dry_run(world: World) -> None:
    args = ("start", "--only", "dead,stopped,unwanted,byhand,foreign", "--only", "litter", "--json")
    said = world.announced(*args)
    assert set(said) == {"dead", "stopped", "unwanted", "byhand", "foreign", "litter"}
    assert world.announced(*args, as_dry=True) == said
    assert outcomes(world.stack.inv(*args, "--dry")) == said
    assert world.done(*args) == said
    assert world.state_of("fresh", "corrupt", "unwanted") == {"fresh": "down", "corrupt": "up", "unwanted": "up"}


def test_law_5_stop(world: World) -> None:
    said = world.announced("stop", "--json")
    assert world.done("stop", "--json") == said
    assert said["stray"] == ("changed", "stop", "up", "down")  # no longer in the inventory, but it runs
    assert {name for name, one in said.items() if one[0] == "ok"} == {"fresh", "dead", "unwanted", "foreign", "missing"}
    assert {one[3] for one in said.values()} == {"down"}
    assert not world.stack.running()
    assert {one[0] for one in world.announced("stop", "--json").values()} == {"ok"}


def test_law_5_stop_only(world: World) -> None:
    names = "litter,stopped,byhand,corrupt,forgotten,fresh,foreign"
    said = world.announced("stop", "--only", names, "--json")
    assert world.done("stop", "--only", names, "--json") == said
    assert set(said) == set(names.split(","))
    assert world.state_of("up", "worker", "stray") == dict.fromkeys(("up", "worker", "stray"), "up")


def test_law_5_restart(world: World) -> None:
    args = ("restart", "--only", ",".join(HEALABLE), "--json")
    said = world.announced(*args)
    assert world.done(*args) == said
    assert {one[0] for one in said.values()} == {"changed"}
    refused = world.announced("restart", "--json")  # now what cannot be started comes in between
    assert world.done("restart", "--json") == refused
    assert {one[0] for one in refused.values()} == {"changed", "failed", "skipped"}


def test_law_5_restart_one(world: World) -> None:
    args = chain("restart-one", HEALABLE)
    said = world.announced(*args)
    assert set(said) == set(HEALABLE)
    assert world.done(*args) == said
    for name in ("foreign", "swapped"):
        failed = world.announced("restart-one", name, "--json")
        assert world.done("restart-one", name, "--json") == failed
        assert failed[name][0] == "failed"
    assert world.state_of("swapped") == {"swapped": "up"}  # never ended: it could not be started again


def test_law_5_kill_port(world: World) -> None:
    names = ("fresh", "up", "dead", "stopped", "unwell", "foreign", "byhand", "held", "corrupt", "litter")
    args = chain("kill-port", [world.stack.services[name]["port"] for name in names])
    said = world.announced(*args)
    assert world.done(*args) == said
    assert len(said) == len(names)
    free = {str(world.stack.services[name]["port"]) for name in ("fresh", "dead", "litter")}
    assert {port for port, one in said.items() if one[0] == "ok"} == free


def test_law_5_reset(world: World) -> None:
    said = world.announced("reset", "--json")
    assert world.done("reset", "--json") == said
    assert {name: one[3] for name, one in said.items() if one[0] == "failed"} == {"missing": "down", "swapped": "up"}
    assert said["foreign"] == ("changed", "reset", "foreign", "up")
    assert said["stray"] == ("changed", "reset", "up", "down")


def test_law_5_hold_and_release(world: World) -> None:
    for task in ("hold", "release"):
        args = chain(task, ("fresh", "up", "held", "unwanted", "foreign", "missing", "corrupt"))
        said = world.announced(*args)
        assert world.done(*args) == said
        unchanged = {"held"} if task == "hold" else set()
        assert {name for name, one in said.items() if one[0] == "ok"} == unchanged


def test_law_5_announcing_makes_no_state_folder(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    tasks = (["start"], ["stop"], ["restart"], ["reset"], ["restart-one", "api"], ["kill-port", str(port)])
    tasks += (["hold", "api"], ["release", "api"])
    stack.ok(*(word for task in tasks for word in (*task, "--check")))
    assert not stack.state.exists()
    assert not list(stack.public.iterdir())
