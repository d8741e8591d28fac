"""Reading logs while real processes write, rotate, truncate and delete them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.host import logs
from ops.host.generations import tidy
from ops.host.logs import LONGEST, Follower, follow, last_lines, plain
from ops.host.rotation import rotate, rotate_by_rename
from ops.model import Process
from tests.scene import identified
from tests.waiting import until

# Writes numbered lines as fast as it can, reopens its file on HUP on TERM says how many.
WRITER = """
import os, signal, sys
path, finished = sys.argv[1], []
def reopen(*_):
    fresh = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fresh, 9)
    os.close(fresh)
reopen()
signal.signal(signal.SIGHUP, reopen)
signal.signal(signal.SIGTERM, lambda *_: finished.append(1))
number = 0
while not finished:
    os.write(9, b"%d\\n" % number)
    number += 1
print(number)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "recon-api.log"


@pytest.fixture
def follower(log: Path) -> Iterator[Follower]:
    follower = Follower(str(log))
    yield follower
    follower.close()


@contextlib.contextmanager
def full_speed(log: Path) -> Iterator[subprocess.Popen[str]]:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log)], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: log.exists() and log.stat().st_size)
        yield writer
    finally:
        writer.kill()
        writer.communicate()


def written(writer: subprocess.Popen[str]) -> int:
    writer.send_signal(signal.SIGTERM)
    count, _ = writer.communicate(timeout=10)
    return int(count)


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def gather(follower: Follower, seen: list[bytes], enough: Callable[[], object]) -> None:
    def look() -> object:
        seen.extend(follower.poll())
        return enough()

    until(look)


def comes(follower: Follower, *expected: bytes) -> None:
    """Exactly these lines come, and at the next look none."""
    seen: list[bytes] = []
    gather(follower, seen, lambda: len(seen) >= len(expected))
    assert seen + follower.poll() == list(expected)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


# last lines


def test_the_last_lines_and_where_following_goes_on(log: Path) -> None:
    log.write_bytes(b"a\nb\nc\n")
    assert last_lines(str(log), 2) == ([b"b", b"c"], 6)
    assert last_lines(str(log), 99) == ([b"a", b"b", b"c"], 6)
    assert last_lines(str(log), 0) == ([], 6)


def test_the_last_words_without_a_newline_count_unless_only_whole_lines_are_wanted(log: Path) -> None:
    log.write_bytes(b"a\nb\nSegmentation fault")
    assert last_lines(str(log), 2) == ([b"b", b"Segmentation fault"], 22)
    assert last_lines(str(log), 2, whole=True) == ([b"a", b"b"], 4)


def test_what_cannot_be_read_has_no_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", tmp_path / "missing" / "x"):
        assert last_lines(str(path), 5) == ([], 0)


def test_lines_that_straddle_blocks_are_whole(log: Path) -> None:
    lines = [b"%d" % number * (number % 97) for number in range(20_000)]
    log.write_bytes(b"\n".join(lines) + b"\n")
    for count in (1, 2, 1000, 15_000, 20_000):
        assert last_lines(str(log), count)[0] == lines[-count:]


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST])
def test_the_longest_line_is_whole(log: Path, size: int) -> None:
    log.write_bytes(b"before\n" + b"x" * size + b"\n")
    assert last_lines(str(log), 1)[0] == [b"x" * size]


def test_a_line_longer_than_64_kib_comes_in_pieces(log: Path) -> None:
    log.write_bytes(b"before\n" + b"x" * (2 * LONGEST + 5) + b"\nafter\n")
    lines, _ = last_lines(str(log), 5)
    assert lines == [b"before", b"x" * LONGEST, b"x" * LONGEST, b"xxxxx", b"after"]


def test_the_end_of_5_gb_takes_no_time_and_no_memory(log: Path) -> None:
    size = 5 * 1024**3
    log.touch()
    os.truncate(log, size)  # a hole: 5 GB without a newline
    append(log, b"\nlast\n")
    began = time.monotonic()
    lines, taken = peak(lambda: last_lines(str(log), 10))
    assert lines[0][-1] == b"last"
    assert lines[1] == size + 6
    assert taken < 4 * 1024**2
    assert time.monotonic() - began < 1


def peak(call: Callable[[], tuple[list[bytes], int]]) -> tuple[tuple[list[bytes], int], int]:
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# following one path


def test_lines_come_when_they_are_complete(log: Path, follower: Follower) -> None:
    append(log, b"one\ntw")
    comes(follower, b"one")
    append(log, b"o\nthree\n")
    comes(follower, b"two", b"three")


def test_an_unfinished_line_is_given_after_it_was_quiet(log: Path, follower: Follower) -> None:
    append(log, b"Password: ")
    began = time.monotonic()
    comes(follower, b"Password: ")
    assert 0.9 < time.monotonic() - began < 3
    append(log, b"\nwelcome\n")  # its newline is not an empty line
    comes(follower, b"welcome")


def test_only_the_last_lines_are_given_of_what_was_there(log: Path) -> None:
    log.write_bytes(b"a\nb\nc\nunfin")
    with contextlib.closing(Follower(str(log), lines=2)) as follower:
        comes(follower, b"b", b"c")
        append(log, b"ished\nd\n")
        comes(follower, b"unfinished", b"d")


def test_of_a_file_that_comes_later_all_is_given(log: Path) -> None:
    with contextlib.closing(Follower(str(log), lines=1)) as follower:
        assert follower.poll() == []
        assert follower.fault == "does not exist"
        log.write_bytes(b"a\nb\n")
        comes(follower, b"a", b"b")
        assert follower.fault is None


def test_renamed_and_begun_anew(log: Path, follower: Follower) -> None:
    append(log, b"a\n")
    comes(follower, b"a")
    append(log, b"b\nunfinished")
    log.rename(f"{log}.1")
    log.write_bytes(b"c\n")
    comes(follower, b"b", b"c", b"unfinished")


def test_what_was_not_read_of_the_old_file_comes_before_the_new(log: Path, follower: Follower) -> None:
    lines = [b"%d" % number for number in range(300_000)]  # several chunks
    log.write_bytes(b"0\n")
    comes(follower, b"0")
    append(log, b"\n".join(lines) + b"\n")
    log.rename(f"{log}.1")
    log.write_bytes(b"new\n")
    comes(follower, *lines, b"new")


def test_the_old_file_is_watched_until_its_writer_reopens(log: Path, follower: Follower) -> None:
    with log.open("ab", buffering=0) as old:
        old.write(b"a\n")
        comes(follower, b"a")
        log.rename(f"{log}.1")
        log.write_bytes(b"new\n")
        comes(follower, b"new")
        old.write(b"late\n")
        comes(follower, b"late")


def test_replaced_files_are_let_go(log: Path, follower: Follower) -> None:
    append(log, b"0\n")
    comes(follower, b"0")
    before = open_files()
    for number in range(1, 40):
        log.rename(f"{log}.1")
        log.write_bytes(b"%d\n" % number)
        comes(follower, b"%d" % number)
    assert open_files() <= before + 10
    until(lambda: not follower.poll() and open_files() == before)


def test_the_unfinished_line_of_a_file_that_is_let_go_is_given(log: Path, follower: Follower) -> None:
    append(log, b"a\nunfinished")
    comes(follower, b"a")
    seen: list[bytes] = []
    for number in range(10):
        log.rename(f"{log}.{number}")
        log.write_bytes(b"%d\n" % number)
        seen += follower.poll()
    assert sorted(seen) == [*(b"%d" % number for number in range(10)), b"unfinished"]


def test_deleted_for_a_while(log: Path, follower: Follower) -> None:
    with log.open("ab", buffering=0) as old:
        old.write(b"a\n")
        comes(follower, b"a")
        log.unlink()
        old.write(b"into the deleted file\n")
        comes(follower, b"into the deleted file")
        assert follower.fault == "does not exist"
    log.write_bytes(b"come again\n")
    comes(follower, b"come again")
    assert follower.fault is None


@pytest.mark.parametrize("again", [b"", b"c\n", b"\nc\n", b"longer than before, so that its size says nothing\n"])
def test_truncated(log: Path, follower: Follower, again: bytes) -> None:
    append(log, b"a\nb\nunfinished")
    comes(follower, b"a", b"b")
    log.write_bytes(again)  # truncates the same file
    comes(follower, b"unfinished", *again.splitlines())
    append(log, b"d\n")
    comes(follower, b"d")


def test_something_else_at_the_path_is_told_and_not_waited_on(log: Path) -> None:
    os.mkfifo(log)
    with contextlib.closing(Follower(str(log))) as follower:
        assert follower.poll() == []
        assert follower.fault == "not a regular file"
        log.unlink()
        log.write_bytes(b"a\n")
        comes(follower, b"a")


def test_binary_garbage_and_no_newlines_lose_no_byte(log: Path, follower: Follower) -> None:
    garbage = random.Random(1).randbytes(3_000_000)
    append(log, garbage + b"\n" + b"x" * (3 * LONGEST) + b"\n")
    seen: list[bytes] = []
    gather(follower, seen, lambda: seen[-3:] == [b"x" * LONGEST] * 3)
    assert b"\n".join(seen[:-3]) == garbage


def test_a_flood_without_newlines_takes_no_memory(log: Path, follower: Follower) -> None:
    log.touch()
    os.truncate(log, 100 * 1024**2)

    def read() -> tuple[list[bytes], int]:
        return [], sum(sum(map(len, lines)) for lines in iter(follower.poll, []))

    (_, seen), taken = peak(read)
    assert seen > 99 * 1024**2  # the rest is held back for its newline
    assert taken < 4 * 1024**2


@pytest.mark.parametrize("create", [False, True], ids=["writer creates", "rotator creates"])
def test_20_renames_at_full_speed_lose_no_line(log: Path, follower: Follower, create: bool) -> None:
    seen: list[bytes] = []
    with full_speed(log) as writer:
        gather(follower, seen, lambda: seen)
        for number in range(20):
            log.rename(f"{log}.{number}")
            if create:
                log.touch()
            writer.send_signal(signal.SIGHUP)
            gather(follower, seen, lambda: log.exists() and log.stat().st_size)
            seen += follower.poll()  # it meets every file: none may come and go between two polls
        count = written(writer)
    gather(follower, seen, lambda: len(seen) >= count)
    assert seen + follower.poll() == [b"%d" % number for number in range(count)]
    assert count > 1000


def test_truncated_20_times_under_a_writer_at_full_speed(log: Path, follower: Follower) -> None:
    """Lines may be lost with what was cut off, but none comes twice, and no two are mixed: one that was torn
    while it was read comes as far as it was read."""
    seen: list[bytes] = []
    with full_speed(log) as writer:
        for _ in range(20):
            gather(follower, seen, lambda: log.stat().st_size > 100_000)
            os.truncate(log, 0)
            until(lambda: log.stat().st_size)  # so that its last line is not among the lost
        count = written(writer)
    gather(follower, seen, lambda: seen[-1] == b"%d" % (count - 1))
    last = -1
    for line in seen:
        if int(line) > last:
            last = int(line)
        else:
            assert (b"%d" % (last + 1)).startswith(line)


# following several


def test_files_are_merged_in_order_of_arrival(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("pg-api", "bank-api")}
    Path(paths["pg-api"]).write_bytes(b"old\nold too\n")
    faults: list[tuple[str, str]] = []
    lines = follow(paths, lines=1, stop=lambda: False, complain=lambda *fault: faults.append(fault))
    assert next(lines) == ("pg-api", b"old too")
    append(Path(paths["bank-api"]), b"first\n")
    assert next(lines) == ("bank-api", b"first")
    append(Path(paths["pg-api"]), b"second\n")
    assert next(lines) == ("pg-api", b"second")
    assert faults in ([], [("bank-api", "does not exist")])  # it may have come before it was missed
    lines.close()  # type: ignore[attr-defined]


def test_a_missing_file_is_complained_of_once(log: Path) -> None:
    faults: list[tuple[str, str]] = []
    looks = iter([False] * 8 + [True])
    paths = {"recon-api": str(log)}
    assert list(follow(paths, lines=1, stop=lambda: next(looks), complain=lambda *f: faults.append(f))) == []
    assert faults == [("recon-api", "does not exist")]


def test_a_flood_in_one_file_does_not_starve_another(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    quiet.write_bytes(b"heard\n")
    with full_speed(tmp_path / "flood") as writer:
        paths = {"flood": str(tmp_path / "flood"), "quiet": str(quiet)}
        lines = follow(paths, lines=1, stop=lambda: False)
        assert next(line for name, line in lines if name == "quiet") == b"heard"
        append(quiet, b"again\n")
        assert next(line for name, line in lines if name == "quiet") == b"again"
        lines.close()  # type: ignore[attr-defined]
        assert writer.poll() is None


def test_idle_following_costs_almost_nothing_and_leaves_nothing_open(tmp_path: Path) -> None:
    paths = {str(number): str(tmp_path / str(number)) for number in range(5)}
    for path in paths.values():
        Path(path).write_bytes(b"a\n")
    before, deadline, began = open_files(), time.monotonic() + 1, time.thread_time()
    assert len(list(follow(paths, lines=9, stop=lambda: time.monotonic() > deadline))) == 5
    assert time.thread_time() - began < 0.05  # of one second
    assert open_files() == before


# for people's eyes


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"GET /recon/health 200\t1 ms", "GET /recon/health 200\t1 ms"),
        ("Überweisung 5 €, 支付, \N{ROCKET}".encode(), "Überweisung 5 €, 支付, \N{ROCKET}"),
        (b"\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        (b"50%\r100%", "50%\\r100%"),
        (b"\xff\xfe\x9b31m", "\\xff\\xfe\\x9b31m"),
        ("C1 \x9b31m".encode(), "C1 \\x9b31m"),
        ("ab\N{RIGHT-TO-LEFT OVERRIDE}dc".encode(), "ab\\u202edc"),
        (b"", ""),
    ],
)
def test_terminals_are_sent_nothing_they_obey(line: bytes, shown: str) -> None:
    assert plain(line) == shown


def test_no_character_of_unicode_and_no_garbage_gets_through() -> None:
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000)))).encode()
    for line in (everything, random.Random(2).randbytes(200_000)):
        harmful = {mark for mark in set(plain(line)) if unicodedata.category(mark) in logs._HARMFUL}
        assert harmful == {"\t"}
        assert {"Cc", "Cf", "Zl", "Zp"} <= logs._HARMFUL


# over rotations


class Rotated:
    """A log that this process writes and rotates; nobody else holds it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.written = 0

    def write(self, count: int) -> list[bytes]:
        lines = [b"%d is a line" % (self.written + number) for number in range(count)]
        self.written += count
        append(self.log, b"".join(line + b"\n" for line in lines))
        return lines

    def rotate(self, keep: int = 100) -> None:
        done = rotate(str(self.log), keep, shut=lambda: contextlib.nullcontext([]), journal=f"{self.log}.rotating")
        assert done.state == "rotated", done.why

    def rename(self) -> None:
        assert rotate_by_rename(str(self.log), 100).state == "rotated"

    def tidy(self) -> None:
        assert tidy(str(self.log), 100) == ""


@pytest.fixture
def rotated(log: Path) -> Rotated:
    log.touch()
    return Rotated(log)


@pytest.mark.parametrize("way", ["rotate", "rename"])
def test_f32_what_a_rotation_took_before_it_was_read_is_read_from_the_generation(
    rotated: Rotated, follower: Follower, way: str
) -> None:
    comes(follower, *rotated.write(3))
    lines = rotated.write(2)
    getattr(rotated, way)()
    comes(follower, *lines, *rotated.write(2))
    getattr(rotated, way)()
    comes(follower)
    comes(follower, *rotated.write(1))


@pytest.mark.parametrize("way", ["rotate", "rename"])
def test_f32_several_rotations_between_two_looks(rotated: Rotated, follower: Follower, way: str) -> None:
    comes(follower, *rotated.write(3))
    lines = []
    for _ in range(5):
        lines += rotated.write(1000)
        getattr(rotated, way)()
        rotated.tidy()
    comes(follower, *lines, *rotated.write(2))
    getattr(rotated, way)()
    comes(follower, *rotated.write(2))


def test_f32_a_line_that_lies_in_two_generations_is_one_line(rotated: Rotated, follower: Follower) -> None:
    append(rotated.log, b"a\none ")
    comes(follower, b"a")
    rotated.rotate()
    append(rotated.log, b"line ")
    rotated.rotate()
    rotated.tidy()
    append(rotated.log, b"in three\nb\n")
    comes(follower, b"one line in three", b"b")
    assert last_lines(str(rotated.log), 2)[0] == [b"line in three", b"b"]  # only the newest generation is asked


def test_f32_the_file_is_not_given_again_while_its_copy_has_a_number_already(rotated: Rotated, log: Path) -> None:
    """Looked at between the copy and the cut, and after a rotation that was undone."""
    lines = rotated.write(5)
    with contextlib.closing(Follower(str(log))) as early, contextlib.closing(Follower(str(log))) as late:
        comes(early, *lines)
        Path(f"{log}.1").write_bytes(log.read_bytes())
        comes(early)
        comes(late, *lines)
        assert last_lines(str(log), 9)[0] == lines
        Path(f"{log}.1").unlink()
        more = rotated.write(2)
        comes(early, *more)
        comes(late, *more)
        Path(f"{log}.1").write_bytes(log.read_bytes())
        comes(late)
        os.truncate(log, 0)
        more = rotated.write(1)
        comes(early, *more)
        comes(late, *more)


def test_f32_what_was_not_read_yet_when_the_copy_had_its_number_is_read_from_it(
    rotated: Rotated, follower: Follower, log: Path
) -> None:
    lines = rotated.write(60_000)  # several looks
    seen = follower.poll()
    Path(f"{log}.1").write_bytes(log.read_bytes())
    seen += follower.poll()
    assert 0 < len(seen) < len(lines)
    os.truncate(log, 0)
    lines += rotated.write(3)
    gather(follower, seen, lambda: len(seen) >= len(lines))
    assert seen + follower.poll() == lines


def test_f32_a_log_that_is_rotated_before_anything_was_read(rotated: Rotated, follower: Follower) -> None:
    assert follower.poll() == []
    lines = rotated.write(3)
    rotated.rotate()
    comes(follower, *lines, *rotated.write(3))


def test_f32_while_the_generations_move_up_nobody_has_the_first_number(
    rotated: Rotated, follower: Follower, log: Path
) -> None:
    """Looked at in the middle of the second of two rotations that nobody looked between."""
    comes(follower, *rotated.write(3))
    rotated.rotate()
    comes(follower)
    lines = rotated.write(2)
    rotated.rotate()
    lines += rotated.write(2)
    for number in (2, 1):
        Path(f"{log}.{number}").rename(f"{log}.{number + 1}")
    comes(follower, *lines)


def test_a_late_line_in_a_renamed_log_is_all_that_comes_of_it(rotated: Rotated, follower: Follower, log: Path) -> None:
    comes(follower, *rotated.write(3))
    rotated.rename()
    comes(follower)
    time.sleep(0.01)  # the clock of the file system has steps of some ms; this is no wait for anybody
    append(Path(f"{log}.1"), b"late\n")
    comes(follower, b"late")
    comes(follower, *rotated.write(2))


def test_an_old_generation_is_not_given_again_when_somebody_truncates(rotated: Rotated, follower: Follower) -> None:
    lines = [b"tick"] * 100
    for _ in range(2):
        append(rotated.log, b"tick\n" * 100)
        comes(follower, *lines)
        rotated.rotate()
        comes(follower)
    append(rotated.log, b"tick\n" * 50)
    comes(follower, *lines[:50])
    os.truncate(rotated.log, 0)
    append(rotated.log, b"tick\n" * 3)
    comes(follower, *lines[:3])


def test_f32_the_generations_of_a_new_log_are_not_those_of_an_empty_one_that_was_deleted(
    rotated: Rotated, follower: Follower, log: Path
) -> None:
    """Both are watched for a while, and nothing was read of the first by which it would be known."""
    comes(follower)
    log.unlink()
    lines = rotated.write(3)
    comes(follower, *lines)
    rotated.rotate()
    comes(follower, *rotated.write(2))
    rotated.rotate()
    comes(follower, *rotated.write(1))


def test_a_late_line_in_a_renamed_log_is_not_given_again_when_the_new_one_is_truncated(
    rotated: Rotated, follower: Follower, log: Path
) -> None:
    comes(follower, *rotated.write(3))
    rotated.rename()
    comes(follower, *rotated.write(2))
    os.truncate(log, 0)
    comes(follower)
    time.sleep(0.01)  # the clock of the file system has steps of some ms; this is no wait for anybody
    append(Path(f"{log}.1"), b"late\n")
    comes(follower, b"late")
    comes(follower, *rotated.write(1))


def test_a_generation_that_was_let_go_is_not_given_again_when_it_is_written_to_late(
    rotated: Rotated, log: Path
) -> None:
    """Nothing was written to the log since, so that of the two the generation has the later time."""
    with contextlib.closing(Follower(str(log), linger=0)) as follower:
        comes(follower, *rotated.write(3))
        rotated.rename()
        comes(follower)
        time.sleep(0.01)  # the clock of the file system has steps of some ms; this is no wait for anybody
        append(Path(f"{log}.1"), b"late\n")
        comes(follower)
        log.unlink()
        comes(follower, *rotated.write(1))


def test_f32_the_newest_generation_may_have_the_inode_that_a_compressed_one_had(
    rotated: Rotated, follower: Follower, log: Path
) -> None:
    """Nothing was read after the first rotation; two more come before the next look, and between them what was the
    newest is compressed, so that its inode is free."""
    for _ in range(5):  # others on this machine may be given the inode
        comes(follower, *rotated.write(1))
        rotated.rotate()
        comes(follower)
        inode = Path(f"{log}.1").stat().st_ino
        lines = rotated.write(1)
        rotated.rotate()
        rotated.tidy()
        use_up_inodes(log.parent, inode)
        lines += rotated.write(1)
        rotated.rotate()
        comes(follower, *lines)


def use_up_inodes(folder: Path, below: int) -> None:
    """Most file systems give the lowest inode that is free: then the next file is given this one, if it is free."""
    for number in range(10_000):
        file = folder / f"uses up {below} {number}"
        file.touch()
        if file.stat().st_ino >= below:
            file.unlink()
            break


def test_f32_20_rotations_at_full_speed_are_followed_exactly(log: Path, follower: Follower) -> None:
    seen: list[bytes] = []
    with full_speed(log) as writer:
        ours = [identified(writer.pid)]

        def shut() -> contextlib.AbstractContextManager[list[Process]]:
            return contextlib.nullcontext(ours)

        for number in range(20):
            gather(follower, seen, lambda: log.stat().st_size > 50_000)
            until(lambda: log.stat().st_size > 300_000, every=0.001)  # more than one look takes
            until(lambda: rotate(str(log), 100, shut=shut, journal=f"{log}.rotating").state == "rotated")
            if number % 3 == 0:
                until(lambda: tidy(str(log), 100) == "")
        count = written(writer)
    gather(follower, seen, lambda: len(seen) >= count)
    assert seen + follower.poll() == [b"%d" % number for number in range(count)]


def test_the_last_lines_right_after_a_rotation_come_from_the_generation(rotated: Rotated, log: Path) -> None:
    first = rotated.write(5)
    start = log.stat().st_size
    lines = rotated.write(5)
    rotated.rotate()
    assert last_lines(str(log), 3) == (lines[-3:], 0)
    assert last_lines(str(log), 9, since=start)[0] == lines  # of this run, which began there
    assert last_lines(str(log), 9, since=0)[0] == []  # a run that began in the new file
    lines += rotated.write(1)
    assert last_lines(str(log), 3)[0] == lines[-3:]
    assert last_lines(str(log), 99)[0] == first + lines
    with contextlib.closing(Follower(str(log), lines=4)) as follower:
        comes(follower, *lines[-4:])
        comes(follower, *rotated.write(1))


def test_a_follower_that_begins_right_after_a_rotation(rotated: Rotated, log: Path) -> None:
    lines = rotated.write(5)
    rotated.rotate()
    with contextlib.closing(Follower(str(log), lines=2)) as follower:
        comes(follower, *lines[-2:])
        comes(follower, *rotated.write(2))


def test_following_over_rotations_leaves_nothing_open(rotated: Rotated, follower: Follower) -> None:
    comes(follower, *rotated.write(1))
    before = open_files()
    for _ in range(5):
        lines = rotated.write(3)
        rotated.rotate()
        lines += rotated.write(3)
        rotated.rotate()
        rotated.tidy()
        comes(follower, *lines, *rotated.write(1))
    assert open_files() == before
    lines = rotated.write(3)
    rotated.rotate()
    follower.poll()
    follower.close()
    assert open_files() == before - 1
