"""The page that the benchmarks write: what it says of bars, of peers, and of a run that was a quick one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import machine
from benchmarks.supervision.figures import Row, document, held, row

ROOT = Path(__file__).parents[1]
CRASH = [
    row("ours", "ms", [4.0, 5.0, 6.0]),
    row("runit", "ms", [3.0, 4.5, 9.0]),
    row("monit", "ms", []),
    held("ours, median", "ms", 5.0, 7.0),
    held("ours, worst", "ms", 6.0, 5.0),
]


def keep(folder: Path, rows: list[Row], *, quick: bool = False) -> None:
    metrics = {"crash": {"title": "crash to answering again", "rows": document(rows)}}
    machine.keep(folder / "a.json", machine.told(), {"versions": {"runit": "2.1"}, "quick": quick, "metrics": metrics})


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    where = ["--results", str(folder), "--docs", str(folder / "docs")]
    command = [sys.executable, "-m", "benchmarks", "report", *where]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def page(tmp_path: Path) -> str:
    keep(tmp_path, CRASH)
    (tmp_path / "reasons.yaml").write_text("'ours, worst': a busy machine\n")
    done = report(tmp_path)
    assert done.returncode == 0, done.stderr
    return (tmp_path / "docs" / "benchmarks.md").read_text()


def test_a_missed_bar_is_named_with_its_reason(page: str) -> None:
    assert "1 of 2 bars were met." in page
    assert "ours, worst: 6 ms, asked <= 5. Why: a busy machine." in page
    assert "ours, median: 5 ms, asked" not in page


def test_who_is_ahead_is_told(page: str) -> None:
    (medians,) = (line for line in page.splitlines() if line.startswith("| SIGKILL to the next answer"))
    assert medians == "| SIGKILL to the next answer, ms | 5 | 4.50 | never | runit |"
    (worst,) = (line for line in page.splitlines() if line.startswith("| the worst of them"))
    assert worst == "| the worst of them, ms | 6 | 9 | never |  |"


def test_a_missed_bar_without_a_reason_says_so(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    report(tmp_path)
    assert "asked <= 5. Why: not found out yet." in (tmp_path / "docs" / "benchmarks.md").read_text()


def test_a_quick_run_is_not_passed_off_as_figures(tmp_path: Path) -> None:
    keep(tmp_path, CRASH, quick=True)
    report(tmp_path)
    assert "its figures are not to be quoted" in (tmp_path / "docs" / "benchmarks.md").read_text()


def test_the_picture_has_a_bar_for_each_figure_and_words_for_none(tmp_path: Path) -> None:
    keep(tmp_path, CRASH)
    report(tmp_path)
    drawn = ElementTree.parse(tmp_path / "docs" / "benchmarks.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    lengths = [float(one.attrib["width"]) for one in drawn.iter(f"{space}rect")][1:]  # the first is the ground
    assert len(lengths) == 2
    assert lengths == sorted(lengths)
    assert "never" in [one.text for one in drawn.iter(f"{space}text")]


def test_without_runs_it_says_how_to_make_some(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 1
    assert "no runs" in done.stderr
    assert not (tmp_path / "docs").exists()
