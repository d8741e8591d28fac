"""How the matrix is told: a line for each row, whatever becomes of its test, and the page that is made of them."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from invoke.exceptions import Exit

from ops.dev import faults
from tests.faults.document import SOAK_BEGINS, began, document, machine, read, soak, table
from tests.faults.row import Row, number_of
from tests.faults.rows import ROWS
from tests.soak.__main__ import HEAD
from tests.stack import PYTHON

ROOT = Path(__file__).parents[2]
PLAYED = """
import pytest

def test_f01_well(row):
    row.noticed(0.0041)
    row.serving(1.5)
    row.figure("lines lost", 0)

def test_f02_ill(row):
    row.noticed(2.0)
    row.serving(0.034, since="the thaw")
    assert 1 == 2, "two | three"

@pytest.mark.skip(reason="no such kernel")
def test_f03_elsewhere(row):
    pass

@pytest.fixture
def untidy():
    yield
    raise RuntimeError("left behind")

def test_f04_untidy(row, untidy):
    pass

def test_of_no_row():
    pass
"""


def play(folder: Path, **more: str) -> dict[int, dict[str, Any]]:
    """The lines that a run of those tests has left, by row."""
    (folder / "test_played.py").write_text(PLAYED)
    results = folder / "results"
    results.touch()
    command = [PYTHON, "-m", "pytest", "-q", "-p", "tests.faults.conftest", f"--rootdir={folder}", "-c", os.devnull]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPS_FAULTS_RESULTS": str(results), **more}
    done = subprocess.run([*command, str(folder)], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert "error" not in done.stderr, done.stdout + done.stderr
    return read(results)


def test_each_test_of_a_row_leaves_a_line(tmp_path: Path) -> None:
    found = play(tmp_path)
    assert {number: line["result"] for number, line in found.items()} == {
        1: "passed",
        2: "failed",
        3: "skipped",
        4: "failed",
    }
    assert (found[1]["noticed"], found[1]["serving"], found[1]["figures"]) == (0.004, 1.5, {"lines lost": 0})
    assert found[2]["noticed"] == 2.0 and "two | three" in found[2]["why"]
    assert found[3]["why"] == "no such kernel"
    assert "left behind" in found[4]["why"]


def test_only_the_rows_that_were_asked_for_run_and_none_after_the_time_is_over(tmp_path: Path) -> None:
    assert set(play(tmp_path, OPS_FAULTS_ROWS="2,3")) == {2, 3}
    late = play(tmp_path, OPS_FAULTS_ROWS="1", OPS_FAULTS_UNTIL="1")
    assert late[1]["result"] == "skipped" and "time of the run was over" in late[1]["why"]


def test_the_page_shows_every_row_and_what_became_of_it(tmp_path: Path) -> None:
    page = document(play(tmp_path), "2024-02-29", "2 cores")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| F")}
    assert list(rows) == [f"F{fault.number}" for fault in ROWS]
    assert "| passed | 0.004 | 1.50 | lines lost: 0 |" in rows["F1"]
    assert "| **failed** | 2.00 | 0.034 after the thaw |" in rows["F2"] and "| not run |" in rows["F3"]
    assert "52 rows, 1 passed, 2 failed, 49 not run" in page
    assert "on 2024-02-29: 52 rows" in page and "The machine: 2 cores." in page and "./inv dev.faults" in page
    assert "- **F3** slow crash loop: not run. no such kernel" in page
    assert "- **F50** all die at once: not run. the run ended before its turn" in page
    part = table(play(tmp_path), only_found=True)
    assert part.count("\n| F") == 4
    assert "| not run: no such kernel |" in part and "| **failed**: AssertionError: two \\| three" in part
    of = document({}, "2024-02-29", "2 cores", "1a2b3c4 with changes")
    assert "on 2024-02-29, commit 1a2b3c4 with changes: 52 rows" in of


def test_the_page_tells_of_the_machine_the_user_and_how_long_it_took(tmp_path: Path) -> None:
    play(tmp_path)
    run = began(tmp_path / "results")
    said = machine(run)
    assert f"({run['cpu']})" in said and f"{run['memory_mb'] / 1000:.1f} GB" in said, said
    assert f"by the user {pwd.getpwuid(os.geteuid()).pw_name};" in said
    assert f"load {run['load'][0]:.2f}, " in said and 0 < run["took"] < 60
    assert "took 2.5 minutes" in machine({**run, "took": 150.0})
    assert "cores" in machine({}), "a file of results that says nothing of it"


def test_a_test_that_is_named_after_no_row_cannot_speak_for_one() -> None:
    assert (number_of("test_f07_wrong_answer"), number_of("test_f7"), number_of("test_document")) == (7, 0, 0)
    made = Row(7)
    made.figure("share", 0.123456)
    assert made.figures == {"share": 0.123}
    made.serving(2.0, since="the repair")
    made.serving(1.0)
    assert (made.seconds, made.since) == ({"serving": 1.0}, {})


@pytest.mark.parametrize("said", ["F99x", "crash", "F1;F2", "F53", "F5,F0", "", ",", " "])
def test_a_row_that_is_none_is_refused(said: str) -> None:
    there = faults.list_of_rows()
    with pytest.raises(Exit) as refused:
        faults.rows_of(said, there)
    assert refused.value.code == 1 and "F5,F13" in str(refused.value) and "F3 slow crash loop" in str(refused.value)
    assert faults.rows_of("F5, f13,07", there) == [5, 13, 7]
    assert faults.rows_of(None, there) == [fault.number for fault in ROWS]


def test_the_page_shows_the_last_soak(tmp_path: Path) -> None:
    file = tmp_path / "soak.md"
    assert soak(file) == ""
    file.write_text(f"# The soak\n\n{SOAK_BEGINS}\n\nNo run is shown here yet.\n")
    assert soak(file) == ""
    file.write_text(f"# The soak\n\n{SOAK_BEGINS}\n\n## 2026-01-01: 10.0 minutes, no finding\n\nfigures\n")
    assert "## The soak" in soak(file)
    assert "### 2026-01-01: 10.0 minutes, no finding" in soak(file)


def test_the_soak_writes_what_the_page_looks_for() -> None:
    assert SOAK_BEGINS in HEAD
