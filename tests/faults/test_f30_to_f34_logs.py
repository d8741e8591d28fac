"""F30 to F34: the disk of the logs is full, a service floods its log, it is rotated while it is written, files go, a
reader goes. The services count what they have written and what they could not (PEN, tests/test_monitor_logs.py)."""

from __future__ import annotations

import gzip
import os
import re
import signal
import stat
import time

import pytest

from ops.host import process
from ops.memory.state import State
from ops.operations import rotating
from ops.operations.site import Site
from ops.watch import promise
from tests.faults.row import Row, Since
from tests.scene import can_mount, on_linux
from tests.stack import Stack
from tests.test_monitor_logs import (
    Reader,
    content,
    events,
    fill,
    letter,
    log,
    monitored,
    mounted,
    numbers,
    pen,
    quiet,
    recorded,
    rss,
    write,
    written,
)
from tests.waiting import until

MiB = 1 << 20


def lost(stack: Stack, name: str = "api") -> int:
    """How many lines the service could not write."""
    return int(stack.get(name, within=10)[1].split()[1])


WHOLE = re.compile(rb"line (\d{9}) of a service that has something to tell ------\n")


def acknowledged(stack: Stack) -> bool:
    """Whether exactly those lines can be read that the service was told were written, each once. What a line left there
    when the disk had room for a part of it is none."""
    return [int(number) for number in WHOLE.findall(content(stack))] == list(range(written(stack)))


def astray(found: list[int], count: int) -> int:
    """How many of the first `count` lines are lost, or there a second time."""
    return count - len(set(found) & set(range(count))) + len(found) - len(set(found))


def answers(stack: Stack, name: str) -> bool:
    try:
        return stack.get(name, "/health")[0] == 200
    except OSError:
        return False


@pytest.mark.slow
@can_mount
@on_linux
def test_f30_on_a_full_disk_services_run_on_and_what_is_lost_is_bounded_and_counted(row: Row, stack: Stack) -> None:
    stack.state.mkdir(mode=0o700)
    with mounted(stack.state, "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"):
        try:
            full_disk(row, stack)
        finally:
            stack.end()


def full_disk(row: Row, stack: Stack) -> None:
    stack.ops["interval"] = 1
    pen(stack, log_size="256 KiB", log_keep=2)
    stack.service("web", log_size="256 KiB")
    monitored(stack)
    one, other, watchers = recorded(stack), recorded(stack, "web"), set(stack.watchers())
    old = log(stack).with_name("api.log.2.gz")
    old.write_bytes(gzip.compress(os.urandom(100_000)))
    os.utime(old, (1, 1))
    write(stack, 1000)
    until(lambda: written(stack) == 1000)
    assert lost(stack) == 0 and acknowledged(stack)

    since = Since()
    fill(stack.state)
    row.noticed(since.until(lambda: not old.exists()))  # the oldest generation makes room
    fill(stack.state)
    write(stack, 20_000)  # 1.2 MB that there is no room for
    until(lambda: written(stack) + lost(stack) == 21_000, 40)
    # The bound: what found no room while there was none, each line of it counted; nothing of what was written before.
    assert 0 < lost(stack) == 21_000 - written(stack) and written(stack) >= 1000
    until(lambda: acknowledged(stack))
    assert recorded(stack) == one and letter(one) == "S"
    since = Since()
    process.send(other, signal.SIGKILL)
    back = since.until(lambda: not process.alive(other) and answers(stack, "web"))
    row.serving(back, since="a kill while it was full")
    assert set(stack.watchers()) == watchers

    least, missing = written(stack), lost(stack)
    (stack.state / "filler").unlink()
    freed = Since()
    write(stack, 1000)
    until(lambda: written(stack) == least + 1000 and acknowledged(stack), 40)  # all of before, too
    row.figure("seconds until lines are kept again", freed.seconds())
    until(lambda: "upkeep: right again" in events(stack), 40)
    row.figure("lines that found no room", missing)
    assert lost(stack) == missing, "lines were lost while there was room"
    assert "the disk is full" in events(stack)
    stack.ok("health")


@pytest.mark.slow
@on_linux
def test_f31_a_flood_blocks_nobody_the_monitor_stays_small_and_rotation_is_exact(row: Row, stack: Stack) -> None:
    pen(stack, log_size="4 MiB", health=[{"http": "/", "every": 1, "timeout": 30}])
    monitored(stack)
    one, monitor = recorded(stack), stack.watcher("monitor")
    write(stack, 200_000)  # until what a rotation takes is taken
    until(lambda: written(stack) == 200_000, 60)
    before, slowest = rss(monitor), 0.0
    begun = time.monotonic()
    write(stack, 1_000_000)
    while written(stack) < 1_200_000:
        asked = time.monotonic()
        stack.get("api", within=10)
        slowest = max(slowest, time.monotonic() - asked)
    speed = 1_000_000 / (time.monotonic() - begun)
    row.figure("lines per second", round(speed))
    row.figure("slowest answer of the service meanwhile, seconds", slowest)
    assert speed > 100_000 and slowest < 1
    left = numbers(quiet(stack, most=4 * MiB))
    row.figure("lines lost or doubled of 1200000", astray(left, 1_200_000))
    assert left == list(range(1_200_000))
    grown = rss(monitor) - before
    row.figure("growth of the monitor, KiB", grown // 1024)
    assert grown < 4 * MiB, "60 MB went through, a fraction of which may be held"
    assert (recorded(stack), stack.watcher("monitor")) == (one, monitor)
    paused = [float(ms) for ms in re.findall(r"api\.log, its writers paused for ([\d.]+) ms", events(stack))]
    row.figure("rotations", len(paused))
    row.figure("longest pause for one, ms", max(paused, default=0.0))
    assert len(paused) >= 2 and max(paused) < 200, paused


@pytest.mark.slow
@pytest.mark.timeout(600)
@on_linux
def test_f32_a_thousand_rotations_while_it_is_written_lose_and_double_no_line(row: Row, stack: Stack) -> None:
    """By the toolkit's own rotation, under the lock of the service, while a monitor runs and a reader follows."""
    pen(stack, log_size="64 MiB")  # so that the monitor has no reason to rotate
    monitored(stack)
    one, site = recorded(stack), site_of(stack)
    (service,) = site.host.services
    write(stack, 1)
    reader = Reader(stack, "api")
    until(lambda: reader.seen() == [0])
    told, seen, rotations, spent = 1, 0, 0, 0.0
    while rotations < 1000:
        if written(stack) == told:
            write(stack, 2000, 0.0002)
            told += 2000
        begun = time.monotonic()
        done = rotating.rotate_service(site, service)
        if done.state != "rotated":
            assert "is empty" in done.why
            continue
        spent += time.monotonic() - begun
        rotations += 1
        if rotations % 50 == 0:  # half of the generations that are kept: what is seen now overlaps what was seen then
            assert rotating.pack(site.state, "api", service.log_keep) == ""
            left = numbers(content(stack))
            assert left[0] <= seen and left == list(range(left[0], left[-1] + 1)), "a gap, or a line twice"
            seen = left[-1] + 1
            until(lambda seen=seen: len(reader.seen()) >= seen, 60)  # it may lag behind, though not by all that is kept
    until(lambda: written(stack) == told, 60)
    left = numbers(content(stack))
    assert left[0] <= seen and left == list(range(left[0], told))
    until(lambda: len(reader.seen()) >= told, 60)
    row.figure("rotations", rotations)
    row.figure("seconds for one", spent / rotations)
    row.figure(f"lines lost or doubled of {told}", astray(reader.seen(), told))
    assert reader.seen() == list(range(told)), "what a reader was given has a gap or a double"
    assert recorded(stack) == one and letter(one) == "S" and lost(stack) == 0


def site_of(stack: Stack) -> Site:
    """Where the toolkit rotates, as the monitor of this stack would have it."""
    host, _ = promise.read(str(stack.folder / "inventory.yaml"))
    return Site(host, State(host.stack, host.root, str(stack.state)), "monitor", mends=False)


def test_f33_a_removed_public_path_comes_back_and_a_removed_log_is_told_of_until_the_restart(
    row: Row, stack: Stack
) -> None:
    pen(stack)
    stack.ops["interval"] = 1
    monitored(stack)
    one, public = recorded(stack), stack.public / "api.log"
    since = Since()
    public.unlink()
    back = since.until(lambda: public.is_symlink() and os.readlink(public) == str(log(stack)))
    row.figure("seconds until the public path is back", back)
    write(stack, 5)
    until(lambda: numbers(public.read_bytes()) == list(range(5)))

    since = Since()
    log(stack).unlink()
    told = [stack.ok("health")]
    row.noticed(since.seconds())
    told.append(stack.ok("health"))
    assert all(f"{log(stack)} was deleted" in one.out + one.err for one in told), told[-1]
    assert recorded(stack) == one, "a lost log is no reason to end a service"
    stack.ok("restart-one", "api")
    healed = stack.ok("health")
    assert "was deleted" not in healed.out + healed.err
    write(stack, 5)
    until(lambda: numbers(public.read_bytes()) == list(range(5)))


@pytest.mark.slow
@on_linux
def test_f34_readers_that_die_disturb_neither_the_service_nor_the_monitor(row: Row, stack: Stack) -> None:
    pen(stack, log_size="64 MiB")
    monitored(stack)
    one, watchers = recorded(stack), set(stack.watchers())
    for number in (1, 2):
        assert stat.S_ISREG(os.stat(f"/proc/{one.pid}/fd/{number}").st_mode), "a pipe can break"
    write(stack, 20_000, 0.0005)
    killed, closed = stack.popen("tail", "api"), stack.popen("tail", "api")
    for reader in (killed, closed):
        assert reader.stdout and b"of a service" in reader.stdout.buffer.readline()
    before = written(stack)
    killed.kill()
    closed.stdout.close()
    assert killed.wait(20) == -signal.SIGKILL and closed.wait(20) in (0, -signal.SIGPIPE)
    assert before < 20_000, "nothing was written when they went"
    until(lambda: written(stack) == 20_000, 60)
    row.figure("lines lost of 20000", lost(stack))
    assert numbers(content(stack)) == list(range(20_000)) and lost(stack) == 0
    assert recorded(stack) == one and set(stack.watchers()) == watchers
    assert "Traceback" not in closed.stderr.read()
