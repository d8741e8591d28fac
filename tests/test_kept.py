"""Generations read while rotations go on: none is missed, however often they move meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.host.generations import drop, locked, put_first, tidy
from ops.host.kept import Kept, Newest, newer

KEEP = 40


def numbers(found: list[Kept]) -> list[int]:
    """What each holds: the number that it was rotated as."""
    said = [int(os.pread(each.descriptor, 100, 0)) for each in found]
    for each in found:
        each.close()
    return said


@contextmanager
def rotating(log: Path, pack: bool) -> Iterator[list[int]]:
    """Rotated all the time, without a pause; how often so far. Each generation holds its number."""
    over, done = threading.Event(), [0]

    def rotate() -> None:
        fresh = log.with_name("fresh")
        while not over.is_set():
            fresh.write_text(str(done[0]))
            with locked(str(log)):
                put_first(str(log), str(fresh))
                drop(str(log), KEEP)
            done[0] += 1
            if pack and done[0] % 7 == 0:
                tidy(str(log), KEEP)

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("pack", [False, True])
def test_no_generation_is_missed_however_often_they_move_meanwhile(tmp_path: Path, pack: bool) -> None:
    log = tmp_path / "api.log"
    log.write_text("")
    with rotating(log, pack) as done:
        while done[0] < KEEP:
            pass
        for _ in range(200):
            found = newer(str(log), 0)
            said = numbers(found)
            assert said == list(range(said[0], said[-1] + 1))


def test_only_those_with_a_later_time_and_none_that_is_damaged_is_read(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("")
    for number in range(6):
        (tmp_path / "fresh").write_text(str(number))
        put_first(str(log), str(tmp_path / "fresh"))
    tidy(str(log), KEEP)
    third = os.stat(f"{log}.4.gz").st_mtime_ns
    assert numbers(newer(str(log), third)) == [3, 4, 5]
    broken = Path(f"{log}.3.gz")
    broken.write_bytes(broken.read_bytes()[:-9])
    os.utime(broken, ns=(third + 1, third + 1))
    oldest, *others = newer(str(log), third)
    with pytest.raises(OSError, match="not a whole gzip file"):
        _ = oldest.descriptor
    oldest.close()
    assert numbers(others) == [4, 5]


def test_the_newest_is_known_again_when_somebody_writes_to_it_late(tmp_path: Path) -> None:
    first, fresh = tmp_path / "api.log.1", tmp_path / "fresh"
    newest = Newest(str(tmp_path / "api.log"))
    newest.hold()
    assert newest.is_other()  # there was none
    first.write_text("1")
    newest.hold()
    first.write_text("late")
    assert not newest.is_other()
    fresh.write_text("late")
    fresh.rename(first)
    assert newest.is_other()
    newest.let_go()
