"""Faults of records and of the machine: what a record is worth, who comes first, whose folder it is.

Every test injects its fault for real: strangers that live, records that lie, commands that race, users without
rights. Numbers such as f17 are rows of the table of faults. Those of ports are in test_faults_ports.py.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shlex
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ops.host import process
from ops.memory.state import Record, State
from ops.model import Process
from ops.model import Stack as StackOf
from tests.scene import (
    NOBODY,
    alone,
    as_root,
    bystander,
    ended,
    on_linux,
    record_path,
    recorded,
    stranger,
    wanted,
)
from tests.stack import PYTHON, TINY, Done, Stack
from tests.waiting import until

NO_SUCH_PID = 2**22 + 1  # above what Linux ever gives


# -- records -------------------------------------------------------------------------------------------------------


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
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(PYTHON)} -S {shlex.quote(str(TINY))} "$1" --body={body}\n')
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
    stack.add("api", ["sh", "-c", f"exec '{{python}}' -S {shlex.quote(str(TINY))} {{port}}"], health=health)
    stack.write()
    stack.env = {"OPS_STATE": str(stack.state)}
    assert stack.ok("start", "--json").states == {"api": "changed"}
    mine = alone(stack)
    assert "/bin" in str(process.variable(mine.pid, "PATH")).split(":")
    assert process.variable(mine.pid, "HOME") == pwd.getpwuid(os.geteuid()).pw_dir, "from the user's account"


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
    assert stack.ok("status", "--json").services["api"]["wanted"] == "down", "its copy says so"
    (stack.state / "wanted.copy").write_bytes(b"")
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
        (line,) = [said for said in done.err.splitlines() if "sudo -u" in said]
        assert f"sudo -u {process.user_name(NOBODY)} " in line and f"OPS_STATE={stack.state} " in line, str(done)
        typed = shlex.split(line)
        assert typed[-len(verb) :] == verb and typed[-len(verb) - 1].endswith("inv"), str(done)
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
