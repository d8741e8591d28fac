"""Deaths of real processes: children, orphans, zombies, many at once, and with nothing to be told by.

kqueue does not exist on Linux: there, a stand-in with its semantics (from the manual page) takes its place in
a process of its own. On a Mac all the other tests run the real one.
"""

from __future__ import annotations

import os
import selectors
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.host.death import Deaths, dead, gone, is_zombie
from tests.waiting import until

ROOT = Path(__file__).parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and pidfd are Linux'")

SLEEP = ["sleep", "600"]


@contextmanager
def sleepers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes, killed and reaped in the end."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen(SLEEP))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextmanager
def orphan() -> Iterator[int]:
    """The pid of a process that is nobody's child here."""
    shell = ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]
    pid = int(subprocess.run(shell, stdout=subprocess.PIPE, check=True).stdout)
    try:
        yield pid
    finally:
        if not dead(pid):
            os.kill(pid, signal.SIGKILL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill and do not reap: it stays a zombie until the block of `sleepers` ends."""
    os.kill(process.pid, signal.SIGKILL)


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# One process


def test_a_death_is_told_once() -> None:
    with sleepers(2) as (one, two), Deaths() as deaths:
        assert deaths.watch(one.pid)
        assert deaths.watch(two.pid)
        assert deaths.poll() == set()
        kill(one)
        assert deaths.poll(5) == {one.pid}
        assert deaths.poll() == set()


def test_a_killed_process_is_noticed_within_100_ms() -> None:
    """Most times: a machine that runs other tests beside this one may be late with anything."""
    took = []
    for _ in range(9):
        with sleepers(1) as (process,), Deaths() as deaths:
            deaths.watch(process.pid)
            killed = time.monotonic()
            kill(process)
            assert deaths.poll(5) == {process.pid}
            took.append(time.monotonic() - killed)
    assert statistics.median(took) < 0.1, took


def test_the_death_of_somebody_elses_child_is_told() -> None:
    with orphan() as pid, Deaths() as deaths:
        assert deaths.watch(pid)
        os.kill(pid, signal.SIGKILL)
        assert deaths.poll(5) == {pid}


def test_a_process_that_is_gone_is_not_watched() -> None:
    with sleepers(1) as (process,), Deaths() as deaths:
        process.kill()
        process.wait()
        assert not deaths.watch(process.pid)
        assert not deaths.watch(0)
        assert not deaths.watch(-1)
        assert deaths.poll() == set()


def test_an_unreaped_child_counts_as_dead_and_is_left_to_its_parent() -> None:
    """F44."""
    with sleepers(1) as (process,), Deaths() as deaths:
        kill(process)
        until(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        assert not deaths.watch(process.pid)
        assert gone([process.pid], 1) == set()
        assert process.wait() == -signal.SIGKILL


def test_a_forgotten_process_is_not_told_of() -> None:
    with sleepers(2) as (one, two), Deaths() as deaths:
        deaths.watch(one.pid)
        deaths.watch(two.pid)
        deaths.forget(one.pid)
        deaths.forget(one.pid)
        kill(one)
        kill(two)
        assert deaths.poll(5) == {two.pid}
        assert deaths.poll() == set()


def test_watching_again_starts_afresh() -> None:
    """The number may belong to another process by then: the old death must not be told of the new one."""
    with sleepers(1) as (process,), Deaths() as deaths:
        deaths.watch(process.pid)
        kill(process)
        until(lambda: gone([process.pid], 0) == set())
        assert not deaths.watch(process.pid)
        assert deaths.poll() == set()


def test_poll_is_over_when_its_time_is() -> None:
    with sleepers(1) as (process,), Deaths() as deaths:
        deaths.watch(process.pid)
        began = time.monotonic()
        assert deaths.poll(0.05) == set()
        assert 0.05 <= time.monotonic() - began < 5


def test_an_outer_selector_wakes_by_the_descriptor() -> None:
    with sleepers(1) as (process,), Deaths() as deaths, selectors.DefaultSelector() as selector:
        selector.register(deaths, selectors.EVENT_READ)
        deaths.watch(process.pid)
        assert deaths.patience is None
        assert selector.select(0) == []
        kill(process)
        assert selector.select(5) != []
        assert deaths.poll() == {process.pid}
        assert selector.select(0) == []


# Many


def test_two_hundred_deaths_are_all_told() -> None:
    with sleepers(200) as processes, Deaths() as deaths:
        pids = {process.pid for process in processes}
        assert all(deaths.watch(pid) for pid in pids)
        for process in processes:
            kill(process)
        told: set[int] = set()
        until(lambda: told.update(deaths.poll(1)) or told == pids)


def test_watching_leaks_no_descriptor() -> None:
    before = open_descriptors()
    with sleepers(1) as (process,):
        with Deaths() as deaths:
            opened = open_descriptors()
            for _ in range(2000):
                assert deaths.watch(process.pid)
            assert open_descriptors() <= opened + 1
            for _ in range(2000):
                deaths.watch(process.pid)
                deaths.forget(process.pid)
            assert open_descriptors() == opened
            deaths.watch(process.pid)
            kill(process)
            deaths.poll(5)
            assert open_descriptors() == opened
        assert open_descriptors() == before


def test_closing_gives_back_what_is_still_watched() -> None:
    before = open_descriptors()
    with sleepers(3) as processes, Deaths() as deaths:
        for process in processes:
            deaths.watch(process.pid)
        deaths.close()
        assert open_descriptors() == before


# gone


def test_gone_waits_for_all() -> None:
    with sleepers(2) as (one, two):
        kill(one)
        kill(two)
        assert gone([one.pid, two.pid], 5) == set()
    assert gone([], 5) == set()


def test_gone_returns_those_that_are_alive_when_the_time_is_over() -> None:
    with sleepers(2) as (one, two):
        kill(one)
        until(lambda: gone([one.pid], 0) == set())
        began = time.monotonic()
        assert gone([one.pid, two.pid], 0.05) == {two.pid}
        assert 0.05 <= time.monotonic() - began < 5
        assert gone([two.pid], 0) == {two.pid}
        assert gone([two.pid], -1) == {two.pid}


# Nothing to be told by: asking instead

PROCESSES = """
import os, resource, select, signal, subprocess, sys
from contextlib import ExitStack
stack = ExitStack()
def start():
    process = subprocess.Popen(["sleep", "600"])
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process
one, two = start(), start()
"""

WITHOUT_PIDFD = """
del os.pidfd_open  # as in a Python that was built for older kernels
from ops.host.death import ASK_EVERY, Deaths, gone
with stack, Deaths() as deaths:
    assert deaths.watch(one.pid) and deaths.watch(two.pid)
    assert deaths.patience == ASK_EVERY
    assert deaths.poll() == set()
    os.kill(one.pid, signal.SIGKILL)
    assert deaths.poll(5) == {one.pid}, "a zombie is dead"
    assert not deaths.watch(one.pid)
    assert gone([one.pid, two.pid], 0.1) == {two.pid}
    deaths.forget(two.pid)
    assert deaths.patience is None
"""

WITHOUT_DESCRIPTORS = """
from ops.host.death import Deaths, dead, gone
with stack, Deaths() as deaths:
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    try:
        while True:
            filler = os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass
    assert deaths.watch(one.pid) and deaths.watch(two.pid)
    one.kill(); one.wait()
    assert deaths.poll(5) == {one.pid}
    assert gone([one.pid, two.pid], 0.1) == {two.pid}
    with Deaths() as bare:
        try:
            bare.fileno()
        except OSError as error:
            assert "ulimit -n" in str(error)
        else:
            raise AssertionError("a descriptor out of nothing")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    assert not dead(1), "somebody else's, that we may not signal, is alive"
    if root:
        os.seteuid(0)
    os.close(filler)
"""

KQUEUE = """
KQ_FILTER_PROC, KQ_NOTE_EXIT, KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT = -5, 0x80000000, 1, 2, 0x10
class kevent:
    def __init__(self, ident, filter, flags, fflags):
        self.ident, self.flags = ident, flags
        assert (filter, fflags) == (KQ_FILTER_PROC, KQ_NOTE_EXIT)
class kqueue:
    def __init__(self):
        self.epoll, self.added = select.epoll(), {}
    def change(self, event):
        if event.flags == KQ_EV_DELETE:
            self.drop(next(fd for fd, pid in self.added.items() if pid == event.ident))
            return
        assert event.flags == KQ_EV_ADD | KQ_EV_ONESHOT
        fd = os.pidfd_open(event.ident)  # ESRCH when it is gone, as with a kqueue
        self.added[fd] = event.ident
        self.epoll.register(fd, select.EPOLLIN)
    def drop(self, fd):
        os.close(fd)
        return self.added.pop(fd)
    def control(self, changes, count, timeout):
        for event in changes:
            try:
                self.change(event)
            except StopIteration:
                raise FileNotFoundError("ENOENT: it has rung")
        rung = self.epoll.poll(timeout)[:count] if count else []
        return [kevent(self.drop(fd), KQ_FILTER_PROC, 0, KQ_NOTE_EXIT) for fd, _ in rung]
    def fileno(self):
        return self.epoll.fileno()
    def close(self):
        self.epoll.close()
for name in [name for name in globals() if name.lower().startswith(("kq", "kevent"))]:
    setattr(select, name, globals()[name])
sys.platform = "darwin"
from ops.host.death import Deaths, gone
with stack, Deaths() as deaths:
    three = start()
    assert all(deaths.watch(process.pid) for process in (one, two, three))
    deaths.forget(three.pid)
    assert deaths.poll(0.01) == set() and deaths.patience is None
    one.kill(); two.kill(); three.kill(); three.wait()
    told = deaths.poll(5)
    while told != {one.pid, two.pid}:
        more = deaths.poll(5)
        assert more
        told |= more
    assert deaths.poll() == set()
    assert not deaths.watch(three.pid)
    assert gone([start().pid, three.pid], 0.05) != set()
"""


@linux
@pytest.mark.parametrize("script", [WITHOUT_PIDFD, WITHOUT_DESCRIPTORS, KQUEUE])
def test_deaths_are_told_by_every_other_way(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROCESSES + script], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


MAIN_THREAD_ENDS = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)  # exit(2): this thread alone
"""


@linux
@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the number of exit(2) is unknown")
def test_a_process_that_lost_its_main_thread_is_alive() -> None:
    """ps shows it as a zombie, but its other threads run on and hold its port."""
    with subprocess.Popen([sys.executable, "-c", MAIN_THREAD_ENDS], stdout=subprocess.PIPE) as process:
        try:
            stat = Path(f"/proc/{process.pid}/stat")
            until(lambda: b") Z " in stat.read_bytes())
            assert not dead(process.pid)
            assert gone([process.pid], 0.05) == {process.pid}
        finally:
            process.kill()
        assert gone([process.pid], 5) == set()
        assert dead(process.pid)


@pytest.mark.parametrize(
    ("name", "state", "threads", "ended"),
    [
        ("node", "S", 11, False),
        ("node", "Z", 1, True),
        ("node", "X", 0, True),
        ("node", "Z", 2, False),
        (") Z (Z) X", "R", 1, False),
    ],
)
def test_the_state_is_read_behind_whatever_name(name: str, state: str, threads: int, ended: bool) -> None:
    stat = f"4711 ({name}) {state} 1 4711 4711 0 -1 4194304 100 0 0 0 5 2 0 0 20 0 {threads} 0 73101 0 0\n"
    assert is_zombie(stat.encode()) is ended


def test_asking_knows_the_living_and_the_strangers() -> None:
    assert not dead(os.getpid())
    assert not dead(1)  # somebody else's
    assert dead(0)
