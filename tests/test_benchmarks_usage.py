"""What the benchmarks are told: words that make no sense, and to end before they are done. No figure is looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.supervision import figures
from benchmarks.supervision.figures import broken_off, held, row
from tests.waiting import until

ROOT = Path(__file__).parents[1]
BENCHMARKS = [sys.executable, "-m", "benchmarks"]
BY_INVOKE = [sys.executable, "-m", "invoke", "dev.benchmarks"]


@pytest.mark.parametrize(
    "command",
    [
        [*BENCHMARKS, "supervision", "nonsense"],
        [*BENCHMARKS, "supervision", "--restarts=0"],
        [*BENCHMARKS, "fleet", "--rounds=x"],
        [*BENCHMARKS, "report", "nonsense"],
        [*BENCHMARKS, "--rounds=0"],
        [*BY_INVOKE, "--rounds=abc"],
        [*BY_INVOKE, "--rounds=0"],
        [*BY_INVOKE, "--rounds=-1"],
        [*BY_INVOKE, "--only="],
        [*BY_INVOKE, "--only=fleet,flet"],
    ],
    ids=lambda command: " ".join(command[2:]),
)
def test_wrong_usage_does_not_look_like_a_missed_bar(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_quick_run_shows_no_bars_but_what_broke_off() -> None:
    broken, seen = broken_off("a title", RuntimeError("no")), row("ours", "ms", [4.0])
    assert figures.without_bars([seen, held("ours, 3 hosts more than 1 host", "s", -1.0, 3.0), broken]) == [
        seen,
        broken,
    ]


@pytest.mark.parametrize(
    ("words", "number", "code", "said"),
    [
        (["--quick"], signal.SIGINT, 130, "interrupted; all that was started is ended\n"),
        (["all", "--quick", "--only=commands"], signal.SIGINT, 130, "interrupted; all that was started is ended\n"),
        (["all", "--quick", "--only=commands"], signal.SIGTERM, 143, ""),
        (["all", "--quick", "--only=commands"], signal.SIGHUP, 129, ""),
    ],
)
def test_what_is_told_to_end_says_so_in_a_line(
    tmp_path: Path, words: list[str], number: signal.Signals, code: int, said: str
) -> None:
    """Told is the first process alone; what it has started goes with it."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w") as there:
        child = subprocess.Popen([*BENCHMARKS, *words], cwd=ROOT, env=env, stdout=there, stderr=there)
        started = until(lambda: list(tmp_path.glob("benchmarks.*/five")), 60)
        below = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(number)
        assert child.wait(60) == code
    assert started and (tmp_path / "said").read_text() == said
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below)
    assert list(tmp_path.glob("benchmarks.*")) == []
