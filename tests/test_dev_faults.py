"""`inv dev.faults` itself: how long it may take, and what its exit code says.

The runs are real child processes; what they run is small.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ops.dev import faults
from tests.faults.document import read

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
    ("code", "ended", "verdict"),
    [
        (faults.ALL_PASSED, {"passed"}, 0),
        (faults.ALL_PASSED, {"passed", "skipped"}, 3),
        (faults.ALL_PASSED, set(), 3),
        (faults.SOME_FAILED, {"passed", "failed", "skipped"}, 2),
        (faults.OVERDUE, {"passed"}, 3),
        (faults.OVERDUE, {"failed"}, 2),
        (faults.INTERRUPTED, {"failed"}, 130),
    ],
)
def test_the_exit_code_says_0_only_if_every_row_ran_and_held(code: int, ended: set[str], verdict: int) -> None:
    assert faults.verdict_of(code, ended) == verdict
