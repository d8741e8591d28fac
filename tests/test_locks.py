"""Locks: one holder at a time, across threads and processes, and nothing stale when a holder dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.errors import LockHeld, StateError
from ops.memory import locks
from tests.waiting import until

ROOT = Path(__file__).parent.parent
HOLDER = """
import sys, time
from ops.memory import locks
with locks.held(sys.argv[1], sys.argv[2:], 10, "inv start"):
    print("held", flush=True)
    sys.stdin.readline()
"""
# Adds 1 to the number in a file, many times, giving everybody else the time to come in between.
COUNTER = """
import sys, time
from ops.memory import locks
for _ in range(25):
    with locks.held(sys.argv[1], (), 60, "counter"):
        number = int(open(sys.argv[2]).read())
        time.sleep(0.0005)
        open(sys.argv[2], "w").write(str(number + 1))
"""


@pytest.fixture
def lock(tmp_path: Path) -> str:
    return str(tmp_path / "api")


@contextlib.contextmanager
def holder(*paths: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until told."""
    argv = [sys.executable, "-c", HOLDER, *paths]
    child = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


def test_law_1_one_holder_at_a_time_across_processes(lock: str, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    argv = [sys.executable, "-c", COUNTER, lock, str(number)]
    children = [subprocess.Popen(argv, cwd=ROOT) for _ in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    assert number.read_text() == "100"
    assert locks.turn(lock) == 200


def test_law_1_one_holder_at_a_time_across_threads(lock: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(10):
            with locks.held(lock, (), 60, "thread"):
                inside.append(1)
                most.append(len(inside))
                threading.Event().wait(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 80


def test_a_lock_that_is_held_is_refused_in_bounded_time_naming_its_holder(lock: str) -> None:
    with holder(lock) as other:
        with pytest.raises(LockHeld) as told, locks.held(lock, (), 0.1, "inv stop"):
            pass
        text = "\n".join(told.value.lines())
        assert f"pid {other.pid} (inv start) since " in text
        assert f"kill -9 {other.pid}" in text
        assert text.startswith("api is being changed")
    with locks.held(lock, (), 10, "inv stop"):
        pass


def test_f19_a_killed_holder_leaves_nothing_stale(lock: str) -> None:
    with holder(lock) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait(timeout=10)
        seen = locks.turn(lock)
        with locks.held(lock, (), 5, "inv start") as turn:
            assert turn == locks.UNCOUNTED  # whoever looked meanwhile may have missed what the killed one did
            assert turn != seen
        seen = locks.turn(lock)
        with locks.held(lock, (), 5, "inv start") as turn:
            assert turn == seen


def test_who_waits_gets_it_when_the_holder_lets_go(lock: str) -> None:
    got = threading.Event()

    def wait_for_it() -> None:
        with locks.held(lock, (), 30, "waiter"):
            got.set()

    with holder(lock) as other:
        waiter = threading.Thread(target=wait_for_it)
        waiter.start()
        assert not got.wait(0.2)
        assert other.stdin
        other.stdin.write("\n")
        other.stdin.flush()
        assert got.wait(20)
        waiter.join(10)


def test_a_child_does_not_inherit_the_lock(lock: str) -> None:
    """A service spawned under the lock would hold it as long as it lives."""
    with locks.held(lock, (), 5, "inv start"):
        child = subprocess.Popen(["/bin/sleep", "60"])
        blind = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
    try:
        with locks.held(lock, (), 0.1, "inv start"):
            pass
    finally:
        for one in (child, blind):
            one.kill()
            one.wait(timeout=10)


def test_an_error_inside_gives_the_lock_back(lock: str) -> None:
    with pytest.raises(KeyError), locks.held(lock, (), 5, "one"):
        raise KeyError
    with locks.held(lock, (), 0.1, "two"):
        pass


def test_a_turn_tells_whether_anybody_held_it_since_or_holds_it_now(lock: str) -> None:
    assert locks.turn(lock) == 0
    before = []
    for _ in range(3):
        before.append(locks.turn(lock))
        with locks.held(lock, (), 5, "x") as last:
            assert last == before[-1]
            during = locks.turn(lock)
        with locks.held(lock, (), 5, "x") as last:
            assert last not in (during, *before)
    with locks.held(lock, (), 5, "x"):
        during = locks.turn(lock)
        with pytest.raises(LockHeld), locks.held(lock, (), 0.01, "waited in vain"):
            pass
    assert locks.turn(lock) == during + 1


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xfe", b"[1]", b'{"turn": "x"}', b'{"turn": -1, "pid": []}', b"[" * 9999]
)
def test_f48_garbage_in_the_lock_file_is_a_lock_never_held(lock: str, garbage: bytes) -> None:
    Path(lock).write_bytes(garbage)
    assert locks.turn(lock) == 0
    with locks.held(lock, (), 5, "x") as turn:
        assert turn == 0
    assert locks.turn(lock) == 2
    Path(lock).write_bytes(garbage)
    with locks.held(lock, (), 5, "x"):
        Path(lock).write_bytes(garbage)
        with pytest.raises(LockHeld), locks.held(lock, (), 0.01, "y"):
            pass


def test_the_file_is_private_and_stays(lock: str) -> None:
    with locks.held(lock, (), 5, "x"):
        inode = os.stat(lock).st_ino
        assert os.stat(lock).st_mode & 0o777 == 0o600
    assert os.stat(lock).st_ino == inode


def test_a_symlink_in_its_place_is_refused(tmp_path: Path, lock: str) -> None:
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", lock)
    with pytest.raises(StateError, match="lock"), locks.held(lock, (str(tmp_path),), 1, "x"):
        pass


# -- on a full disk: a folder is locked in the file's stead --------------------


def test_law_7_without_a_lock_file_the_nearest_folder_is_locked(tmp_path: Path) -> None:
    missing = str(tmp_path / "gone" / "api")
    instead = (str(tmp_path / "gone"), str(tmp_path))
    with locks.held(missing, instead, 5, "x") as turn:
        assert turn == locks.UNCOUNTED
        with holding_fails(missing, *instead) as seen:
            pass
        assert "no name" in seen[0]
    with locks.held(missing, instead, 1, "x"):
        pass
    assert not (tmp_path / "gone").exists()


@contextlib.contextmanager
def holding_fails(*paths: str) -> Iterator[list[str]]:
    """Another process finds the lock taken."""
    code = HOLDER.replace(", 10,", ", 0.1,")
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "LockHeld" in done.stderr
    yield [done.stderr]


def test_law_7_one_folder_may_stand_for_several_locks_of_one_command(tmp_path: Path) -> None:
    """A start holds the lock of its service and takes that of the wishes: with both in one folder's stead, it must
    not wait for itself."""
    instead = (str(tmp_path),)
    outer, inner = str(tmp_path / "no" / "api"), str(tmp_path / "no" / "wanted.lock")
    with locks.held(outer, instead, 5, "x"):
        with locks.held(inner, instead, 0.5, "x"):
            pass
        with holding_fails(outer, *instead):
            pass
    with locks.held(outer, instead, 1, "x"):
        pass


def test_nothing_to_lock_at_all_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StateError), locks.held(str(tmp_path / "a" / "b"), (str(tmp_path / "c"),), 1, "x"):
        pass


def test_waiting_does_not_outlast_its_time(lock: str) -> None:
    with holder(lock):
        done = threading.Event()

        def wait_for_it() -> None:
            with contextlib.suppress(LockHeld), locks.held(lock, (), 0.2, "x"):
                pass
            done.set()

        thread = threading.Thread(target=wait_for_it)
        thread.start()
        until(done.is_set, 20)
        thread.join(10)


def test_a_thread_that_holds_the_folder_does_not_open_it_for_other_threads(tmp_path: Path) -> None:
    missing, instead = str(tmp_path / "no" / "api"), (str(tmp_path),)
    refused = threading.Event()

    def other() -> None:
        try:
            with locks.held(missing, instead, 0.1, "other"):
                pass
        except LockHeld:
            refused.set()

    with locks.held(missing, instead, 5, "x"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(20)
    assert refused.is_set()
