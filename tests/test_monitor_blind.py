"""What hangs under the monitor is said, and hangs nothing else: its sweeps, its care for public paths, a heartbeat
that only looks old, words that would go into a file nobody reads.

A dead network disk cannot be had everywhere. What stands for one: a FIFO in the place of a file that only a sweep
reads, and strace, which keeps one call of a running monitor back for as long as it is told to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory.state import State
from ops.memory.watchpost import Watchpost
from ops.model import Process
from ops.model import Stack as StackNoun
from ops.operations import monitor, watched
from tests.scene import bystander, ended, identified, on_linux, recorded
from tests.stack import PYTHON, Stack
from tests.waiting import until

SOON = 30.0  # seconds that a busy machine may need for what takes a few


def readings(stack: Stack) -> dict[str, Any]:
    return Watchpost(str(stack.state)).readings()


def events(stack: Stack) -> str:
    """Of the log and what was rotated from it last."""
    found = ""
    for name in ("monitor.log.1", "monitor.log"):
        with contextlib.suppress(OSError):
            found += (stack.state / "logs" / name).read_text()
    return found


def up(stack: Stack, **ops: Any) -> Stack:
    stack.ops.update({"monitor": True, "interval": 1, **ops})
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    until(lambda: readings(stack).get("services", {}).get("api", {}).get("state") == "up", SOON)
    until(lambda: watched.who(Watchpost(str(stack.state)), "guard"), SOON)
    return stack


# -- sweeps --------------------------------------------------------------------------------------------------------


def test_a_sweep_that_hangs_is_said_by_monitor_status_and_health(stack: Stack) -> None:
    """Three times the interval and 5 s after the last one that came back; once, and once that it is over."""
    up(stack)
    until(lambda: readings(stack)["swept_at"], SOON)
    assert readings(stack)["blind"] == ""
    record, released = stack.state / "services" / "gone.json", stack.folder / "gone"
    os.mkfifo(record)  # the record of a service that the inventory does not name, which only a sweep looks for
    os.link(record, released)
    until(lambda: readings(stack)["blind"], SOON)
    os.unlink(record)  # else the commands below would hang, too
    swept, words = readings(stack)["swept_at"], readings(stack)["blind"]
    assert words.startswith("the last look at the whole machine was ")
    gone = identified(recorded(stack)["process"]["pid"])
    ended(gone)  # deaths are heard of all the while
    until(lambda: recorded(stack)["process"]["pid"] != gone.pid, SOON)
    warning = "warning: monitor: the last look at the whole machine was "
    for command in ("status", "health"):
        done = until(lambda command=command: said if (said := stack.inv(command)).code == 0 else None, SOON)
        assert warning in done.out, str(done)
    done = stack.ok("status", "--json")
    assert warning in done.err
    assert done.document["hosts"]["localhost"]["monitor"]["last_sweep"] == swept
    assert events(stack).count(" blind: ") == 1
    os.close(os.open(released, os.O_WRONLY | os.O_NONBLOCK))
    until(lambda: not readings(stack)["blind"] and readings(stack)["swept_at"] > swept, SOON)
    until(lambda: "blind: the whole machine was looked at again" in events(stack))
    assert warning not in stack.ok("status").out


def test_a_shorter_interval_makes_no_sweep_late_that_was_not_awaited_yet(stack: Stack) -> None:
    up(stack, interval=60)
    swept = until(lambda: readings(stack)["swept_at"], SOON)
    until(lambda: (datetime.now(timezone.utc) - datetime.fromisoformat(swept)).total_seconds() > 9, SOON)
    stack.ops["interval"] = 1  # by that, sweeps are late after 8 s
    stack.write()
    until(lambda: "inventory: taken up" in events(stack), SOON)
    until(lambda: readings(stack)["swept_at"] != swept, SOON)
    assert " blind: " not in events(stack)


# -- public paths ----------------------------------------------------------------------------------------------------


@on_linux
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_public_path_that_hangs_gathers_no_jobs_and_keeps_nothing_from_its_work(stack: Stack) -> None:
    up(stack, log_size="20 KiB")
    shown = stack.public / "api.log"
    calls, held = stack.folder / "calls", 10
    newest = stack.state / "logs" / "api.log.1"
    with traced(stack, shown, calls, held):
        until(lambda: times(calls), SOON)  # the first is kept back now
        (stack.state / "logs" / "api.log").write_bytes(b"a line\n" * 4000)
        until(newest.exists, SOON)
        rotated_at = newest.stat().st_ctime
        for _ in range(2):  # the second one finds the lock free that the first was started under
            gone = identified(recorded(stack)["process"]["pid"])
            ended(gone)
            until(lambda gone=gone: recorded(stack)["process"]["pid"] != gone.pid, SOON)
        revived_by = time.time()
        until(lambda: len(times(calls)) >= 4, 60)
    first, *later = times(calls)
    assert revived_by < first + held, "a start has waited for a public path"
    assert later[0] - first > held - 1
    assert rotated_at < first + held
    assert later[2] - later[0] > 1, (first, later)  # a second from each to the next, and not all that was missed


@contextlib.contextmanager
def traced(stack: Stack, path: Path, into: Path, held: int) -> Iterator[None]:
    """Each time that the monitor reads where a link leads to is noted; the first is kept back some seconds."""
    link = "/^readlink"
    inject = f"inject={link}:delay_enter={held * 1_000_000}:when=1"
    argv = ["strace", "-f", "-ttt", "-P", str(path), "-e", f"trace={link}", "-e", inject, "-o", str(into)]
    tracer = stack.spawn([*argv, "-p", str(stack.watcher().pid)], stderr=subprocess.PIPE)
    try:
        yield
    except AssertionError:
        if tracer.poll() is not None:
            pytest.skip("strace may not trace here")
        raise
    finally:
        if tracer.poll() is None:
            tracer.terminate()
        tracer.wait(timeout=20)


def times(calls: Path) -> list[float]:
    """When a call began."""
    try:
        lines = calls.read_text().splitlines()
    except OSError:
        return []
    return [float(line.split()[1]) for line in lines if "readlink" in line and "resumed" not in line]


# -- heartbeats ------------------------------------------------------------------------------------------------------

# Holds the monitor's place, and shows a heartbeat each half second by a clock that is an hour behind; the word "mute"
# has it show none after the first.
HOLDER = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from ops.memory.watchpost import Watchpost
post = Watchpost(sys.argv[1])
with post.lock("monitor", "a test"):
    while True:
        then = time.time_ns() - 3600 * 10**9
        if "mute" not in sys.argv or post.beaten() > then + 10**9:
            os.utime(sys.argv[1] + "/monitor.lock", ns=(then, then))
        print("beaten", flush=True)
        time.sleep(0.5)
"""
HOME = str(Path(__file__).resolve().parent.parent)


def holder(stack: Stack, *words: str) -> Process:
    """A process in the place of the monitor, as far as commands can tell."""
    argv = [PYTHON, "-c", HOLDER, str(stack.state), HOME, *words]
    child = stack.spawn(argv, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline()
    post, one = Watchpost(str(stack.state)), identified(child.pid)
    post.sign_on("monitor", one)
    assert watched.who(post) == one
    return one


@pytest.fixture
def state(stack: Stack) -> State:
    stack.write()
    made = State(StackNoun(stack.name, stack.name), str(stack.folder), str(stack.state))
    made.prepare()
    return made


def test_f17_who_holds_the_lock_unsigned_is_no_stranger_that_has_got_the_pid_of_the_holder_before(
    stack: Stack, state: State
) -> None:
    """Between taking the lock and writing its pid into it."""
    stranger, lock = bystander(stack), stack.state / "monitor.lock"
    lock.write_text(json.dumps({"turn": 3, "pid": stranger.pid, "by": "the monitor", "at": "2024-01-01T00:00:00Z"}))
    with lock.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        post = Watchpost(str(stack.state))
        assert post.manned()
        assert post.holder() == stranger.pid
        assert watched.who(post) is None


def test_f36_a_monitor_whose_heartbeat_only_looks_old_is_left_alone(stack: Stack, state: State) -> None:
    """The clock of the day was set forward since: it beats on."""
    one = holder(stack)
    monitor.unblock(state, one.pid)
    assert process.alive(one)
    assert stack.inv("status", "--json").document["hosts"]["localhost"]["monitor"]["state"] == "up"


def test_f15_a_silent_monitor_that_holds_a_lock_is_ended_once_it_was_looked_at_twice(
    stack: Stack, state: State
) -> None:
    one = holder(stack, "mute")
    assert stack.inv("status", "--json").document["hosts"]["localhost"]["monitor"]["state"] == "hung"
    monitor.unblock(state, os.getpid())  # not the one that holds it
    assert process.alive(one)
    monitor.unblock(state, one.pid)
    until(lambda: not process.alive(one))


def test_f15_a_stopped_monitor_that_holds_a_lock_is_ended_at_once(stack: Stack, state: State) -> None:
    one = holder(stack)
    process.send(one, signal.SIGSTOP)
    until(lambda: (line := process.entry(one.pid)) and line.stopped)
    os.utime(stack.state / "monitor.lock")  # its heartbeat is no reason to wait for
    begun = time.monotonic()
    monitor.unblock(state, one.pid)
    assert time.monotonic() - begun < 2
    until(lambda: not process.alive(one))


# -- its own log -----------------------------------------------------------------------------------------------------

CRASHING = """
import os, sys
sys.path.insert(0, sys.argv[2])
from ops.operations import watchers
log = watchers.log_of(sys.argv[1])
def say(word):
    os.write(1, word + b" 1\\n")
    os.write(2, word + b" 2\\n")
say(b"before")
watchers.follow_log(sys.argv[1])
say(b"same")
os.rename(log, log + ".1")
watchers.follow_log(sys.argv[1])
say(b"no log")
open(log, "x").close()
watchers.follow_log(sys.argv[1])
say(b"after")
"""


def test_output_goes_on_in_the_log_that_was_begun_anew_and_other_output_stays(tmp_path: Path) -> None:
    log, other = tmp_path / "logs" / "monitor.log", tmp_path / "other"
    log.parent.mkdir()
    argv = [sys.executable, "-c", CRASHING, str(tmp_path), HOME]
    with log.open("ab") as first, other.open("ab") as second:
        subprocess.run(argv, stdout=second, stderr=first, check=True, timeout=60)
    assert (tmp_path / "logs" / "monitor.log.1").read_text() == "before 2\nsame 2\nno log 2\n"
    assert log.read_text() == "after 2\n"
    assert other.read_text() == "before 1\nsame 1\nno log 1\nafter 1\n"


@on_linux
@pytest.mark.parametrize("kind", ["monitor", "guard"])
def test_f32_a_watchers_last_words_are_in_its_log_also_after_a_rotation(stack: Stack, kind: str) -> None:
    up(stack, log_size="20 KiB")
    log = stack.state / "logs" / "monitor.log"
    one = stack.watcher(kind)
    with log.open("ab") as file:
        file.write(b"a line\n" * 4000)
    until(lambda: log.with_name("monitor.log.1").exists(), SOON)
    for number in (1, 2):
        until(lambda number=number: os.path.samefile(f"/proc/{one.pid}/fd/{number}", log), SOON)


# -- generations -----------------------------------------------------------------------------------------------------


def test_f33_that_generations_are_not_compressed_is_told_once(stack: Stack) -> None:
    up(stack, log_size="20 KiB")
    log = stack.state / "logs" / "api.log"
    hindrance = log.with_name("api.log.gz.part")
    hindrance.mkdir()
    for number in range(4):
        rotated(log, number)
    until(lambda: "api compression: " in events(stack), SOON)
    hindrance.rmdir()
    rotated(log, 4)
    until(lambda: "api compression: right again" in events(stack), SOON)
    assert events(stack).count("its generations are not compressed: Is a directory") == 1
    assert log.with_name("api.log.5.gz").exists()


def rotated(log: Path, number: int) -> None:
    """Has it rotated once more."""
    with log.open("ab") as file:
        file.write(b"a line %d\n" % number * 4000)
    until(lambda: log.stat().st_size == 0, SOON)


# -- a report when there is no room ----------------------------------------------------------------------------------


def test_law_7_a_report_without_room_for_sqlite_tells_what_it_can_and_says_so(stack: Stack) -> None:
    """The monitor was killed, so its last minutes stand in SQLite's log, which takes room to be read."""
    up(stack)
    until(lambda: (stack.state / "history.db-wal").exists() and " up" in events(stack), SOON)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in stack.watchers():
            process.send(one, number)
    until(lambda: not stack.watchers())
    with contextlib.suppress(FileNotFoundError):
        (stack.state / "history.db-shm").unlink()
    without = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))}
    done = stack.ok("report", "--json", **without)
    assert [one["name"] for one in done.document["hosts"]["localhost"]["services"]] == ["api"]
    assert "warning: " in done.err and "history.db-wal could not be read" in done.err
    whole = stack.ok("report", "--json")
    assert whole.err == ""
    assert whole.document["hosts"]["localhost"]["services"][0]["watched_seconds"] > 0
