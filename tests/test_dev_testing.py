"""`inv test` that is interrupted: what had failed by then is seen.

The runs are real child processes in a session of their own; what they run is small.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.dev import testing
from tests.waiting import until

PLAYED = """
import pathlib, time

def test_that_fails():
    assert not "a counterexample"

def test_that_is_long():
    pathlib.Path("begun").touch()
    time.sleep(60)
"""
# Who was started in the background ignores Ctrl-C; what is tested here must hear it.
HEARS = "import os, pathlib, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
TESTS = """
from invoke.context import Context
from invoke.exceptions import Exit
from ops.dev import testing
testing.pytest_command = lambda *_: sys.argv[1:]
testing.install_test_extra = lambda _: None
try:
    testing.run_tests(Context())
except Exit as end:
    print(end.message, flush=True)
    sys.exit(end.code)
"""
CALLS = """
from ops.dev import testing
sys.exit(testing.call(sys.argv[1:], parting=2.0))
"""
REPORTS = """
def over(*_):
    print("the report", flush=True)
    sys.exit(2)
signal.signal(signal.SIGINT, over)
pathlib.Path("begun").touch()
time.sleep(60)
"""
IS_DEAF = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path("begun").touch()
time.sleep(60)
"""

Signals = Callable[[int, int], None]


def interrupted(program: str, child: list[str], folder: Path, tell: Signals, word: str = "") -> tuple[int, str]:
    """The exit code and all words of a program that is interrupted once its child has begun and a word was said."""
    said = folder / "said"
    with open(said, "wb") as out:
        one = subprocess.Popen(
            [sys.executable, "-c", HEARS + program, *child],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(testing.PROJECT)},
            start_new_session=True,
        )
    try:
        until(lambda: (folder / "begun").exists() and word in said.read_text(), 60)
        tell(one.pid, signal.SIGINT)
        code = one.wait(60)
    finally:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
    return code, said.read_text()


def small(program: str, folder: Path) -> list[str]:
    return [sys.executable, "-S", "-c", f"{HEARS}os.chdir({str(folder)!r})\n{program}"]


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_interrupted_at_a_terminal_sees_what_has_failed(tmp_path: Path, workers: int) -> None:
    (tmp_path / "test_played.py").write_text(PLAYED.replace('"begun"', repr(str(tmp_path / "begun"))))
    command = testing.pytest_command("", True, workers)
    command += ["-c", os.devnull, f"--rootdir={tmp_path}", "-p", "no:cacheprovider", str(tmp_path)]
    code, said = interrupted(TESTS, command, tmp_path, os.killpg, "FAILED")
    assert code == 130
    assert re.search("^FAILED .*test_played.py::test_that_fails", said, re.MULTILINE), said
    assert "AssertionError: assert not 'a counterexample'" in said
    assert said.endswith("\ninterrupted: above is the report of what had run by then\n")


def test_a_signal_for_this_process_alone_is_handed_on(tmp_path: Path) -> None:
    code, said = interrupted(CALLS, small(REPORTS, tmp_path), tmp_path, os.kill)
    assert (code, said) == (testing.INTERRUPTED, "the report\n")


def test_one_that_does_not_end_when_it_is_interrupted_is_killed(tmp_path: Path) -> None:
    code, said = interrupted(CALLS, small(IS_DEAF, tmp_path), tmp_path, os.killpg)
    assert (code, said) == (testing.UNTOLD, "")
