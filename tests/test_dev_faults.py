"""`inv dev.faults` itself: how long it may take, and what its exit code says.

The runs are real child processes; what they run is small.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke.exceptions import Exit

from ops.dev import faults, testing
from tests.faults.document import read
from tests.waiting import until

ROOT = Path(__file__).parents[1]

PLAYED = """
import pytest

def test_f01_short(row):
    pass

@pytest.mark.timeout(600)
def test_f02_long(row):
    pass

@pytest.mark.timeout(timeout=600)
def test_f03_long_too(row):
    pass
"""
WAITS = """
import pathlib, signal, sys, time
def over(*_):
    pathlib.Path(sys.argv[1]).write_text("ended what it has started")
    sys.exit(2)
signal.signal(signal.SIGINT, over)
pathlib.Path(sys.argv[2]).write_text("ready")
time.sleep(60)
"""
# Two rows; each that has begun is to be ended by its fixture, which takes a while.
STARTS = """
import pathlib, time
import pytest

@pytest.fixture
def file(request):
    file = pathlib.Path(__file__).with_name(request.node.name)
    yield file
    time.sleep(0.5)
    file.write_text("ended")

def test_f01_one(file):
    file.write_text("started")
    time.sleep(60)

def test_f02_other(file):
    file.write_text("started")
    time.sleep(60)
"""
TOLD = """
import pathlib, sys
from ops.dev import faults
from ops.dev.parting import told_to_end
with told_to_end():
    sys.exit(faults.run_rows(sys.argv[2:], [1, 2], pathlib.Path(sys.argv[1])))
"""


def test_a_row_begins_only_if_it_can_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_played.py").write_text(PLAYED)
    results = tmp_path / "results"
    results.touch()
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.faults.conftest", f"--rootdir={tmp_path}"]
    command += ["-c", os.devnull, "-o", "timeout=50", str(tmp_path)]
    assert faults.run_rows(command, [], results, longest=2 * faults.PARTING + 300) == faults.ALL_PASSED
    found = read(results)
    assert {number: line["result"] for number, line in found.items()} == {1: "passed", 2: "skipped", 3: "skipped"}
    assert "time of the run was over" in found[2]["why"]
    assert faults.endings(results) == {"passed", "skipped"}
    faults.run_rows(command, [1], results, longest=2 * faults.PARTING + 40)
    assert read(results)[1]["result"] == "skipped", "its limit is that of the run"


def test_a_run_that_takes_too_long_is_interrupted_and_may_end_what_it_has_started(tmp_path: Path) -> None:
    ended, ready = tmp_path / "ended", tmp_path / "ready"
    command = [sys.executable, "-S", "-c", WAITS, str(ended), str(ready)]
    begun = time.monotonic()
    assert faults.run_rows(command, [], tmp_path / "results", longest=faults.PARTING + 2.0) == faults.OVERDUE
    assert time.monotonic() - begun < 30
    assert ready.exists() and ended.exists()


def test_one_that_does_not_end_when_it_is_interrupted_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    begun = time.monotonic()
    command = [sys.executable, "-S", "-c", deaf]
    assert faults.run_rows(command, [], tmp_path / "results", longest=2.5, parting=0.5) == faults.OVERDUE
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("number", "everyone", "workers"),
    [
        (signal.SIGTERM, False, 1),
        (signal.SIGHUP, True, 1),
        (signal.SIGINT, False, 1),
        (signal.SIGHUP, True, 2),
        (signal.SIGTERM, False, 2),
    ],
)
def test_whoever_is_told_to_end_ends_what_the_rows_have_started(
    tmp_path: Path, number: signal.Signals, everyone: bool, workers: int
) -> None:
    """The command alone, or its whole process group as a terminal does: nothing that was started stays."""
    (tmp_path / "test_played.py").write_text(STARTS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.faults.conftest", f"--rootdir={tmp_path}", "-c", os.devnull]
    command += [*([f"-n={workers}"] if workers > 1 else []), str(tmp_path)]
    with (tmp_path / "said").open("w") as said:
        words = [sys.executable, "-c", TOLD, str(tmp_path / "results"), *command]
        child = subprocess.Popen(words, cwd=ROOT, stderr=said, start_new_session=True)
    rows = [tmp_path / name for name in ("test_f01_one", "test_f02_other")]
    until(lambda: sum(file.exists() for file in rows) == workers, 60)
    (os.killpg if everyone else os.kill)(child.pid, number)
    assert child.wait(60) == 128 + number, (tmp_path / "said").read_text()
    assert [file.read_text() for file in rows if file.exists()] == ["ended"] * workers


def test_the_command_says_which_signal_ended_it_and_leaves_no_folder(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "invoke", "dev.faults", "--row", "F33"]
    with (tmp_path / "said").open("w") as said:
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said)
    until(lambda: "test session starts" in (tmp_path / "said").read_text(), 60)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("ops-faults-*")) == []
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--row", "F5,F99"], "'F99' is no row"),
        (["--row", "F0"], "'F0' is no row"),
        (["--row", ""], "'' is no row"),
        (["--row", "F1,"], "'' is no row"),
        (["--workers", "abc"], "wanted is a number from 1 to 999"),
        (["--workers", "0"], "wanted is a number from 1 to 999"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(flags: list[str], words: str) -> None:
    command = [sys.executable, "-m", "invoke", "dev.faults", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert "pytest" not in done.stderr, "it was started nevertheless"
    assert ("F52 cannot be ended" in done.stderr) is ("--row" in flags), "what there is"


def test_a_number_of_tests_is_taken_as_it_is_typed() -> None:
    assert testing.counted("--workers", "12") == 12
    for wrong in ("-1", "1.5", "", "1e3", "1000"):
        with pytest.raises(Exit) as refused:
            testing.counted("--workers", wrong)
        assert refused.value.code == 1


@pytest.mark.parametrize(
    ("code", "ended", "verdict"),
    [
        (faults.ALL_PASSED, {"passed"}, 0),
        (faults.ALL_PASSED, {"passed", "skipped"}, 3),
        (faults.ALL_PASSED, set(), 3),
        (faults.SOME_FAILED, {"passed", "failed", "skipped"}, 2),
        (faults.OVERDUE, {"passed"}, 3),
        (faults.OVERDUE, {"failed"}, 2),
        (130, {"failed"}, 130),
        (143, {"passed"}, 143),
    ],
)
def test_the_exit_code_says_0_only_if_every_row_ran_and_held(code: int, ended: set[str], verdict: int) -> None:
    assert faults.verdict_of(code, ended) == verdict
