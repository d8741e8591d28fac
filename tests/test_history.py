"""The history: real files, real kills, real full disks. Law 7 (it stops nothing) and law 10 (it survives)."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.memory import history_thin
from ops.memory.history import Change, Event, History, Past, read
from tests.fuzzing import examples, searching
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # an fsync costs nothing there
NOBODY = 65534
NOON = 1_700_000_000.0
DAY = 86400.0
LINUX = sys.platform.startswith("linux")
as_root = pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason="needs root on Linux: another user, a mount")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[str]:
    """A file whose fsync is free, for what does not ask about power cuts."""
    folder = tempfile.mkdtemp(dir=MEMORY)
    yield f"{folder}/history.db"
    shutil.rmtree(folder)


def told(path: str, since: float = 0.0, upto: float = 1e11) -> Past:
    return read(path, since, upto)


def kinds(path: str) -> list[str]:
    return [event.kind for event in told(path).events]


def written(path: str, events: int = 3) -> History:
    """A history with something of everything, still open."""
    history = History(path)
    history.begin(NOON)
    history.state(NOON + 1, "recon-api", "up", "up")
    history.sample(NOON + 2, "recon-api", seconds=0.01, cpu_percent=1.0, rss=4096)
    for number in range(events):
        history.event(NOON + number, "recon-api", f"event-{number}", "x" * 200)
    history.watching(NOON + 3)
    history.flush()
    assert (history.fault, history.dropped) == ("", 0)
    return history


def asides(path: str) -> list[str]:
    names = os.listdir(os.path.dirname(path))
    return sorted(one for one in names if ".broken-" in one and not one.endswith(("-wal", "-shm")))


def counted(path: str) -> tuple[int, int]:
    """Samples that are raw, and samples in hours; the database is sound."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw = connection.execute("SELECT count(*) FROM sample").fetchone()[0]
    thinned = sum(sum(use.responses.buckets.values()) for use in told(path).use.values())
    return raw, thinned


# -- what is written is read ------------------------------------------------------------------------------------


texts = st.text(max_size=12)
moments = st.floats(0, 1000)
changes = st.builds(Change, moments, st.sampled_from(["up", "down", "hung"]), st.just("up"), st.booleans(), texts)
events = st.builds(Event, moments, texts, texts, texts)
rows = st.lists(st.one_of(st.tuples(texts, changes), events), max_size=12)


@pytest.mark.parametrize(("beat", "ends"), [(7.5, 7.5), (2.0, 3.0), (18.0, 18.0), (19.0, 3.0), (None, 3.0)])
def test_the_next_monitor_says_until_when_the_one_before_has_watched(
    path: str, beat: float | None, ends: float
) -> None:
    """By its last heartbeat; one that came long after it said so last is nobody's."""
    written(path).close()
    history = History(path)
    history.begin(NOON + 60, None if beat is None else NOON + beat)
    history.watching(NOON + 70)
    history.flush()
    history.begin(NOON + 90)
    history.close()
    assert told(path).watched == ((NOON, NOON + ends), (NOON + 60, NOON + 70), (NOON + 90, NOON + 90))


@searching
@settings(max_examples=examples(60), deadline=None)
@given(rows, st.sets(st.integers(0, 12)), moments, moments)
def test_what_is_written_is_read(rows: list[Any], flushed: set[int], since: float, upto: float) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        history = History(f"{folder}/history.db")
        for number, row in enumerate(sorted(rows, key=lambda row: row.at if isinstance(row, Event) else row[1].at)):
            if isinstance(row, Event):
                history.event(row.at, row.service, row.kind, row.detail)
            else:
                name, change = row
                history.state(change.at, name, change.state, change.wanted, change.planned, change.why)
            if number in flushed:
                history.flush()
        history.close()
        assert (history.fault, history.dropped) == ("", 0)
        past = read(f"{folder}/history.db", since, upto)
    recorded = sorted((row for row in rows if isinstance(row, Event)), key=lambda event: event.at)
    assert list(past.events) == [event for event in recorded if since <= event.at <= upto]
    states: dict[str, list[Change]] = {}
    for name, change in sorted((row for row in rows if not isinstance(row, Event)), key=lambda row: row[1].at):
        if change.at <= upto:
            states.setdefault(name, []).append(change)
    assert {name: list(line) for name, line in past.states.items()} == states


def test_nothing_touches_the_disk_before_a_flush(path: str) -> None:
    history = History(path)
    history.begin(NOON)
    history.event(NOON, "", "monitor")
    assert not os.path.exists(path)
    history.flush()
    assert os.stat(path).st_mode & 0o077 == 0
    history.close()


def test_a_missing_file_is_an_empty_past_and_stays_missing(path: str) -> None:
    assert told(path) == Past()
    assert os.listdir(os.path.dirname(path)) == []


def test_watching_is_told_by_intervals_that_grow_and_a_gap_stays_a_gap(quick: str) -> None:
    history = History(quick)
    for begin in (100.0, 200.0):
        history.begin(begin)
        for step in range(1, 4):
            history.watching(begin + 5 * step)
            history.flush()
    history.close()
    assert told(quick).watched == ((100.0, 115.0), (200.0, 215.0))
    with contextlib.closing(sqlite3.connect(quick)) as connection:
        assert connection.execute("SELECT count(*) FROM watch").fetchone() == (2,)


def test_a_clock_set_back_makes_no_negative_interval_and_the_states_are_told_again(quick: str) -> None:
    history = History(quick)
    history.begin(1000)
    history.state(1000, "recon-api", "up", "up")
    history.state(5000, "recon-api", "down", "up")
    history.watching(5001)
    history.watching(2000)  # an hour back
    history.watching(2010)
    history.close()
    past = told(quick)
    assert past.watched == ((1000, 2000), (2000, 2010))
    assert [(change.at, change.state) for change in past.states["recon-api"]] == [(1000, "up"), (2000, "down")]


def test_a_jitter_of_the_clock_is_no_step(quick: str) -> None:
    history = History(quick)
    history.begin(1000)
    history.watching(1010)
    history.watching(1009.5)
    history.close()
    assert told(quick).watched == ((1000, 1010),)


def test_text_that_no_database_takes_is_taken(quick: str) -> None:
    history = History(quick)
    history.event(1.0, "recon\udcff", "kind\0", "x" * 100_000)
    history.sample(1.0, "recon", seconds=math.nan, cpu_percent=math.inf, rss=10**30)
    history.state(math.nan, "recon", "up", "up")
    history.close()
    assert (history.fault, history.dropped) == ("", 1)
    event = told(quick).events[0]
    assert (event.service, event.kind, len(event.detail)) == ("recon?", "kind\0", 300)
    assert told(quick).use["recon"].responses.exact == ()


# -- thinning ---------------------------------------------------------------------------------------------------


def test_samples_become_hours_after_a_day_and_no_sample_is_lost_or_doubled(quick: str) -> None:
    history = History(quick)
    before, late = NOON - 2 * DAY, NOON - DAY / 2
    for number in range(1000):
        history.sample(before + number, "recon-api", seconds=0.001 * (number + 1), cpu_percent=4.0, rss=number)
        history.sample(late + number, "recon-api", seconds=5.0, cpu_percent=2.0, rss=7)
    for _ in range(3):
        history.flush()
        history.prune(NOON)
    history.sample(before + 1, "recon-api", seconds=0.5)  # a late one joins its hour
    history.flush()
    history.prune(NOON)
    history.close()
    assert history.fault == ""
    assert counted(quick) == (1000, 1001)
    use = told(quick).use["recon-api"]
    assert (use.cpu_percent, use.rss) == (3.0, 999)
    early = told(quick, before - 7200, before + 7200).use["recon-api"]
    for seen, wanted in zip(early.responses.percentiles(50, 95, 99), (0.5, 0.951, 0.991), strict=True):
        assert seen is not None
        assert abs(seen - wanted) <= 0.02 * wanted


def test_after_ninety_days_all_goes_but_the_last_state(quick: str) -> None:
    history = History(quick)
    old = NOON - 91 * DAY
    history.begin(old)
    history.watching(old + 60)
    for number, state in enumerate(("up", "down", "up")):
        history.state(old + number, "recon-api", state, "up")  # type: ignore[arg-type]
    history.state(old, "gone", "up", "up")
    history.event(old, "", "monitor")
    history.sample(old, "recon-api", seconds=0.1)
    history.begin(NOON - 89 * DAY)
    history.event(NOON - 89 * DAY, "", "kept")
    history.sample(NOON - 89 * DAY, "recon-api", seconds=0.2)
    history.flush()
    history.prune(NOON)
    history.close()
    past = told(quick)
    assert [event.kind for event in past.events] == ["kept"]
    assert {name: [change.at for change in line] for name, line in past.states.items()} == {
        "recon-api": [old + 2],
        "gone": [old],
    }
    assert past.watched == ((NOON - 89 * DAY, NOON - 89 * DAY),)
    assert counted(quick) == (0, 1)


def flood(path: str, samples: int) -> None:
    """A service that flaps every 0.1 s and a flood of samples, written past the buffers for speed."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {samples})"
    at, whose, some = f"{NOON} - 0.1 * ({samples} - i)", "'recon-api'", f"FROM n WHERE i > {samples - 50_000}"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for into in (
            f"state(at, service, state, wanted, planned, why) {numbers} SELECT {at}, {whose}, 'up', 'up', 0, '' {some}",
            f"event(at, service, kind, detail) {numbers} SELECT {at}, {whose}, 'died', 'exit status 1' {some}",
            f"sample(at, service, seconds) {numbers} SELECT {at}, {whose}, 0.01 FROM n",
            f"watch(began, ended) {numbers} SELECT {at}, {at} {some}",
        ):
            connection.execute(f"INSERT INTO {into}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_a_flood_is_bounded_and_its_space_is_given_back(quick: str) -> None:
    history = History(quick)
    history.state(NOON - DAY, "pg-api", "up", "up")
    history.flush()
    flood(quick, history_thin.RAW_ROWS + 20_000)
    large = os.path.getsize(quick)
    history.prune(NOON)
    assert os.path.getsize(quick) < large * 0.8
    history.close()
    past = told(quick)
    assert history.fault == ""
    assert len(past.states["recon-api"]) == history_thin.CAPS["state"][0]
    assert past.states["recon-api"][-1].at > NOON - 1  # the newest are kept
    assert len(past.states["pg-api"]) == 1
    assert len(past.events) == history_thin.CAPS["event"][0]
    assert len(past.watched) == history_thin.WATCH_ROWS
    assert counted(quick) == (history_thin.RAW_ROWS, 20_000)


# -- law 10: it survives ----------------------------------------------------------------------------------------


WRITER = """
import sys
from ops.memory.history import History
path, first = sys.argv[1], int(sys.argv[2])
history = History(path)
at = 1_700_000_000.0
history.begin(at + first)
for number in range(first, first + 100_000):
    history.event(at + number, "recon-api", str(number))
    for late in range(50):
        history.sample(at + number - 200_000 - 3600 * late, "recon-api", seconds=0.01)  # an hour each
    history.watching(at + number + 0.5)
    history.flush()
    if not history.fault:
        print(number, flush=True)
    history.prune(at + number)
"""


@contextlib.contextmanager
def writer(path: str, first: int = 0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, path, str(first)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_law_10_a_writer_killed_anywhere_loses_and_doubles_nothing(quick: str) -> None:
    dice, first = random.Random(7), 0
    for _ in range(8):
        with writer(quick, first) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline())]
            time.sleep(dice.uniform(0, 0.06))  # the kill comes at any moment of a flush or a thinning
            process.kill()
            said += [int(line) for line in process.stdout if line.endswith("\n")]
        numbers = [int(kind) for kind in kinds(quick)]
        assert numbers == list(range(len(numbers)))
        assert said[-1] in numbers
        assert len(numbers) - said[-1] <= 2  # and no more than the one whose flush had not returned
        raw, thinned = counted(quick)
        assert raw + thinned == 50 * len(numbers)
        first = len(numbers)
    assert first >= 8


def test_law_10_every_beginning_of_the_log_is_a_sound_history(quick: str, tmp_path: Path) -> None:
    """What a power cut leaves of the log is a beginning of it: the database is sound, and whole flushes are there."""
    history = History(quick)
    for number in range(10):
        history.event(number, "recon-api", str(number))
        history.state(number, "recon-api", "up", "up", why=str(number))
        history.flush()
    main, log = Path(quick).read_bytes(), Path(f"{quick}-wal").read_bytes()
    cut = f"{os.path.dirname(quick)}/cut.db"
    seen = set()
    for length in (*range(0, len(log), 2048), len(log)):
        Path(cut).write_bytes(main)
        Path(f"{cut}-wal").write_bytes(log[:length])
        successor = History(cut)
        successor.event(100, "", "after")
        successor.flush()
        assert (successor.fault, successor.dropped) == ("", 0)
        past = told(cut)
        numbers = [int(event.kind) for event in past.events if event.kind != "after"]
        assert numbers == list(range(len(numbers)))
        assert [int(change.why) for change in past.states.get("recon-api", ())] == numbers
        seen.add(len(numbers))
        successor.close()
    history.close()
    assert seen == set(range(11))
    assert asides(quick) == []


def traced(path: str, trace: str) -> list[str]:
    """The writes and syncs of two flushes, each announced by a mark on standard output once it returned."""
    code = (
        "import os, sys; from ops.memory.history import History; history = History(sys.argv[1])\n"
        "for number in (1.0, 2.0):\n"
        "    history.event(number, '', 'monitor'); history.flush(); os.write(1, b'RETURNED')\n"
        "    assert history.fault == ''\n"
    )
    calls = "trace=pwrite64,write,fsync,fdatasync"
    command = ["strace", "-f", "-y", "-e", calls, "-o", trace, sys.executable, "-c", code, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    if done.returncode:
        pytest.skip(f"strace may not run here: {done.stderr.decode()[-200:]}")
    return Path(trace).read_text().splitlines()


@pytest.mark.skipif(not shutil.which("strace"), reason="shown by strace, which is not installed")
def test_law_10_a_flush_returns_after_its_bytes_are_synced(path: str, tmp_path: Path) -> None:
    lines = traced(path, str(tmp_path / "trace"))
    returned = [number for number, line in enumerate(lines) if "RETURNED" in line]
    assert len(returned) == 2
    begun = 0
    for end in returned:
        to_log = [n for n in range(begun, end) if "pwrite64" in lines[n] and "history.db-wal" in lines[n]]
        synced = [n for n in range(begun, end) if "sync(" in lines[n] and "history.db-wal" in lines[n]]
        assert to_log
        assert synced
        assert synced[-1] > to_log[-1]
        begun = end
    assert any("sync(" in line and f"<{tmp_path}>" in line for line in lines[: returned[0]])  # the names, too


# -- law 7: it stops nothing ------------------------------------------------------------------------------------


GARBAGE = random.Random(3).randbytes(50_000)


def spoil(path: str, how: str) -> None:
    whole = Path(path).read_bytes()
    if how == "folder":
        os.unlink(path)
        os.mkdir(path)
    elif how == "foreign":
        os.unlink(path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE state(other)")
    else:
        spoilt = {
            "garbage": GARBAGE,
            "text": b"not a database\n" * 1000,
            "header": whole[:50],
            "page": whole[:4096],
            "half": whole[: len(whole) // 2],
            "tail": whole[:-5000],
            "zeros": bytes(len(whole)),
            "middle": whole[:8192] + GARBAGE[:8192] + whole[16384:],
        }
        Path(path).write_bytes(spoilt[how])


WAYS = ["garbage", "text", "header", "page", "half", "tail", "zeros", "middle", "folder", "foreign"]


@pytest.mark.parametrize("how", WAYS)
def test_law_7_a_broken_file_is_put_aside_and_a_new_one_begun(quick: str, how: str) -> None:
    written(quick, 200).close()
    spoil(quick, how)
    with pytest.raises(OpsError) as caught:
        told(quick)
    assert quick in caught.value.seen
    assert caught.value.next
    history = History(quick)
    history.begin(NOON)
    history.event(NOON, "recon-api", "restart")
    history.flush()
    assert history.dropped == 0
    assert "put aside" in history.fault
    assert kinds(quick) == ["restart", "history"]
    assert len(asides(quick)) == 1
    history.event(NOON + 1, "recon-api", "later")
    history.flush()
    assert history.fault == ""
    history.close()


def test_law_7_an_empty_file_is_a_history_not_begun_yet(quick: str) -> None:
    Path(quick).touch()
    assert told(quick) == Past()
    written(quick).close()
    assert asides(quick) == []


def test_law_7_at_most_two_broken_files_are_kept(quick: str) -> None:
    older = [f"{quick}.broken-2023010{day}T000000" for day in (1, 2, 3)]
    for name in older:
        Path(name).touch()
        Path(f"{name}-wal").touch()
    Path(quick).write_bytes(GARBAGE)
    written_anew = History(quick)
    written_anew.begin(NOON)
    written_anew.flush()
    written_anew.close()
    assert asides(quick)[0] == os.path.basename(older[2])
    assert len(asides(quick)) == 2
    assert not os.path.exists(f"{older[0]}-wal")


def test_law_7_the_log_of_a_broken_file_does_not_reach_the_new_one(quick: str) -> None:
    written(quick, 200).close()
    history = written(quick, 1)
    log = Path(f"{quick}-wal").read_bytes()  # with a few pages of many
    history.close()
    Path(quick).write_bytes(GARBAGE)
    Path(f"{quick}-wal").write_bytes(log)
    successor = History(quick)
    successor.event(NOON, "", "monitor")
    successor.flush()
    assert kinds(quick) == ["monitor"]
    assert len(asides(quick)) == 1
    successor.close()


def test_law_7_a_file_that_breaks_under_the_writer_is_replaced_and_the_states_are_told_again(quick: str) -> None:
    history = written(quick, 200)
    history.state(NOON + 4, "pg-api", "down", "up")
    history.flush()
    with contextlib.closing(sqlite3.connect(quick)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(quick, "r+b") as file:
        file.write(GARBAGE)
    history.watching(NOON + 60)
    history.event(NOON + 60, "recon-api", "restart")
    history.prune(NOON + 60)
    history.flush()
    history.flush()
    history.close()
    assert history.dropped == 0
    past = told(quick)
    assert "restart" in kinds(quick)
    assert past.watched == ((NOON, NOON + 60),)
    assert {name: [change.at for change in line] for name, line in past.states.items()} == {
        "recon-api": [NOON + 1],
        "pg-api": [NOON + 4],
    }


@pytest.mark.parametrize("gone", ["", "-wal", "-shm", "all"])
def test_law_7_a_removed_file_is_made_again(quick: str, gone: str) -> None:
    history = written(quick)
    for companion in ("", "-wal", "-shm") if gone == "all" else (gone,):
        os.unlink(quick + companion)
    history.watching(NOON + 10)
    history.event(NOON + 10, "recon-api", "restart")
    history.flush()
    assert (history.fault, history.dropped) == ("", 0)
    past = told(quick)
    assert past.events[-1].kind == "restart"
    assert past.watched == ((NOON, NOON + 10),)
    assert past.states["recon-api"][-1] == Change(NOON + 1, "up", "up")
    history.close()
    assert counted(quick)[0] in (0, 1)


def test_law_7_a_file_put_in_its_place_keeps_what_it_tells(quick: str) -> None:
    """A backup laid over the file while the monitor runs: its rows are its own."""
    backup = f"{quick}.backup"
    earlier = History(backup)
    earlier.begin(NOON - 500)
    earlier.watching(NOON - 400)
    earlier.close()
    history = written(quick)
    os.replace(backup, quick)
    history.watching(NOON + 10)
    history.flush()
    history.close()
    assert told(quick).watched == ((NOON - 500, NOON - 400), (NOON, NOON + 10))
    assert told(quick).states["recon-api"] == (Change(NOON + 1, "up", "up"),)


def test_law_7_any_flipped_bits_neither_stop_the_writer_nor_the_reader(quick: str) -> None:
    written(quick, 100).close()
    whole, dice = Path(quick).read_bytes(), random.Random(11)
    for _ in range(60):
        spoilt = bytearray(whole)
        for _ in range(dice.choice([1, 3, 30])):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        Path(quick).write_bytes(spoilt)
        with contextlib.suppress(OpsError):
            told(quick)
        history = History(quick)
        history.event(NOON, "recon-api", "restart")
        history.flush()
        history.prune(NOON + 2 * DAY)
        history.flush()
        assert history.fault == "" or "put aside" in history.fault
        assert "restart" in kinds(quick)
        history.close()


def test_law_7_no_folder_no_history(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "history.db")
    history = History(path)
    history.begin(NOON)
    history.event(NOON, "", "monitor")
    history.sample(NOON, "recon-api", seconds=0.1)
    history.flush()
    history.prune(NOON)
    assert "No such file" in history.fault
    assert history.dropped == 1  # the sample; the event waits
    (tmp_path / "missing").mkdir()
    history.flush()
    assert (history.fault, kinds(path)) == ("", ["monitor"])
    history.close()


def test_law_7_two_writers_wait_a_second_at_most_and_lose_no_event(quick: str) -> None:
    history = written(quick)
    other = sqlite3.connect(quick, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    history.event(NOON, "recon-api", "restart")
    history.sample(NOON, "recon-api", seconds=0.1)
    began = time.monotonic()
    history.flush()
    took = time.monotonic() - began
    assert "locked" in history.fault
    assert history.dropped == 1
    assert 0.3 < took < 5  # half a second, and a busy machine
    assert "restart" not in kinds(quick)  # a reader waits for nobody
    other.execute("COMMIT")
    other.close()
    history.flush()
    assert history.fault == ""
    assert kinds(quick).count("restart") == 1
    history.close()


def test_law_7_what_waits_for_a_disk_is_bounded_and_forgotten_changes_become_unknown(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "history.db")
    history = History(path)
    count = 30_000
    for number in range(count):
        history.state(number, "recon-api", "up" if number % 2 else "down", "up")
        history.event(number, "recon-api", "died")
    for number in range(25_000):
        history.sample(number, "recon-api", seconds=0.1)
    history.flush()
    (tmp_path / "missing").mkdir()
    history.flush()
    line = told(path).states["recon-api"]
    assert history.fault == ""
    assert line[0] == Change(0, "unknown", "up", False, "not recorded")
    assert [change.at for change in line[1:]] == list(range(count - len(line) + 1, count))
    assert 2_000 < len(line) <= 5_000
    assert len(told(path).events) == 5_000
    assert history.dropped == (count - len(line)) + (count - 5_000) + 25_000
    history.close()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # lazily: a test that failed leaves files open


@as_root
def test_f30_a_full_disk_drops_samples_keeps_changes_waiting_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = str(disk / "history.db")
        history = written(path)
        with contextlib.suppress(OSError), open(disk / "hog", "wb", buffering=0) as hog:
            while hog.write(bytes(4096)):
                pass
        history.state(NOON + 100, "recon-api", "down", "up")
        for number in range(3000):
            history.event(NOON + 100 + number, "recon-api", f"died-{number}", "x" * 100)
            history.sample(NOON + 100 + number, "recon-api", seconds=0.1)
        history.flush()
        history.prune(NOON + 2 * DAY)
        history.flush()
        assert history.fault
        assert history.dropped == 3000
        told(path)  # it can be read all the while
        os.unlink(disk / "hog")
        for _ in range(2):
            history.watching(NOON + 5000)
            history.flush()
        assert history.fault == ""
        assert [change.state for change in told(path).states["recon-api"]] == ["up", "down"]
        assert kinds(path).count("died-0") == kinds(path).count("died-2999") == 1
        history.close()
        full = History(str(disk / "new.db"))
        with contextlib.suppress(OSError), open(disk / "hog", "wb", buffering=0) as hog:
            while hog.write(bytes(512)):
                pass
        full.begin(NOON)
        full.flush()
        assert full.fault
        os.unlink(disk / "hog")
        full.flush()
        assert full.fault == ""
        full.close()


# -- readers ----------------------------------------------------------------------------------------------------


def test_it_is_read_while_another_process_writes(quick: str) -> None:
    with writer(quick) as process:
        assert process.stdout is not None
        threading.Thread(target=process.stdout.read, daemon=True).start()
        until(lambda: len(kinds(quick)) > 0)
        for _ in range(40):
            before = len(kinds(quick))
            past = told(quick)
            numbers = [int(event.kind) for event in past.events]
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= before
            use = past.use["recon-api"].responses
            assert len(use.exact) + sum(use.buckets.values()) == 50 * len(numbers)  # one moment, not two
        until(lambda: len(kinds(quick)) > len(numbers))


@as_root
def test_it_is_read_in_a_folder_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = str(disk / "history.db")
        written(path).close()
        killed = str(disk / "killed.db")
        history = written(killed)
        shutil.copy(f"{killed}-wal", disk / "log")
        shutil.copy(killed, disk / "main")
        history.close()
        os.rename(disk / "main", killed)
        os.rename(disk / "log", f"{killed}-wal")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert kinds(path) == kinds(killed) == ["event-0", "event-1", "event-2"]
        assert sorted(os.listdir(disk)) == ["history.db", "killed.db", "killed.db-wal"]


def killed_writer(path: str) -> None:
    """A history whose writer was killed: what it wrote last stands in SQLite's log alone."""
    history = written(path)
    for name in ("", "-wal"):
        shutil.copy(path + name, f"{path}{name}.kept")
    history.close()
    for name in ("", "-wal"):
        os.rename(f"{path}{name}.kept", path + name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-shm")


@as_root
def test_law_7_what_a_killed_writer_left_on_a_full_disk_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = str(disk / "history.db")
        killed_writer(path)
        with contextlib.suppress(OSError), open(disk / "hog", "wb", buffering=0) as hog:
            while hog.write(bytes(512)):
                pass
        assert kinds(path) == ["event-0", "event-1", "event-2"]
        assert told(path).lacking == ""


def test_law_7_with_no_room_anywhere_what_stands_in_the_file_itself_is_read(quick: str) -> None:
    written(quick).close()
    killed_writer(quick)
    code = (
        "import resource, sys; from ops.memory.history import read; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
        "; past = read(sys.argv[1], 0.0, 1e11); print(len(past.events), past.lacking)"
    )
    done = subprocess.run([sys.executable, "-c", code, quick], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"3 {quick}-wal could not be read (no room): the newest minutes may be missing\n", done.stderr
    assert len(kinds(quick)) == 6  # where there is room, it is


@as_root
def test_root_may_read_without_taking_the_file_from_its_owner(tmp_path: Path) -> None:
    written(str(tmp_path / "history.db")).close()
    for folder in (*tmp_path.parents[:3], tmp_path):
        with contextlib.suppress(PermissionError):
            os.chmod(folder, os.stat(folder).st_mode | 0o755)
    os.chown(tmp_path, NOBODY, NOBODY)
    os.chown(tmp_path / "history.db", NOBODY, NOBODY)
    told(str(tmp_path / "history.db"))
    assert {os.stat(tmp_path / name).st_uid for name in os.listdir(tmp_path)} == {NOBODY}


def test_reading_while_the_tables_are_not_there_yet_is_an_empty_past(quick: str) -> None:
    sqlite3.connect(quick).close()
    assert told(quick) == Past()


def test_importing_the_history_does_not_load_sqlite() -> None:
    code = "import sys, ops.memory.history, ops.memory.kpi; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
