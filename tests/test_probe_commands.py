"""Probes that are commands: real programs that succeed, fail, hang, fork, flood and do not exist."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.host import death
from ops.host.probes import Inquiry, Question, ask
from ops.model import Probe, Reading

from .probe_server import open_descriptors
from .waiting import until

ROOT = Path(__file__).parents[1]


def command(*words: str, timeout: float = 5.0, cwd: str = "/", **env: str) -> Question:
    probe = Probe("command", "", every=1.0, timeout=timeout, command=words)
    return Question(probe, cwd=cwd, env={"PATH": os.environ["PATH"], **env})


def asked(*words: str, timeout: float = 5.0, cwd: str = "/", **env: str) -> Reading:
    (reading,) = ask([command(*words, timeout=timeout, cwd=cwd, **env)])
    return reading


def pid_in(path: Path) -> int:
    return until(lambda: path.exists() and int(path.read_text().strip() or 0))


def test_exit_codes_and_the_last_line_are_the_verdict() -> None:
    fine = asked("sh", "-c", "echo first; echo all good")
    assert (fine.ok, fine.answered, fine.detail) == (True, True, 'exit 0: "all good"')
    assert 0 < fine.seconds < 3
    bad = asked("sh", "-c", "echo queue is stuck >&2; echo; exit 3")
    assert (bad.ok, bad.answered, bad.detail) == (False, True, 'exit 3: "queue is stuck"')
    assert asked("sh", "-c", "kill -9 $$").detail == "ended by SIGKILL"


def test_it_runs_in_the_services_folder_and_environment_without_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "check.sh"
    script.write_text('#!/bin/sh\ntest -f here && echo "$TOKEN $HOME- $1"\n')
    script.chmod(0o755)
    (tmp_path / "here").touch()
    reading = asked("./check.sh", "$TOKEN;*", cwd=str(tmp_path), TOKEN="t")
    assert (reading.ok, reading.detail) == (True, 'exit 0: "t - $TOKEN;*"')
    assert asked("sh", "-c", 'read line || echo "no input"').detail == 'exit 0: "no input"'


def test_f51_a_checker_that_cannot_run_says_nothing_about_the_service(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    cases = [
        (asked("no-such-program"), "no-such-program"),
        (asked(str(plain)), "Permission denied"),
        (asked("true", cwd=str(tmp_path / "absent")), "absent"),
        (asked("sh", "-c", "no-such-program"), "exit 127"),
        (asked("sh", "-c", "exit 126"), "exit 126"),
        (asked("tr\0ue"), "null byte"),
    ]
    for reading, word in cases:
        assert (reading.ok, reading.answered) == (None, False)
        assert word in reading.detail


def test_f6_out_of_time_its_whole_session_is_killed(tmp_path: Path) -> None:
    # The second of them is in a group of its own, as job control makes one (set -m).
    script = "sleep 100 & echo $! >a; set -m; sleep 100 & echo $! >b; trap '' TERM; sleep 100"
    reading = asked("bash", "-c", script, timeout=1.5, cwd=str(tmp_path))
    assert (reading.ok, reading.answered, reading.detail) == (False, False, "no answer in 1.5 s")
    assert 1.5 <= reading.seconds < 10
    for name in ("a", "b"):
        pid = pid_in(tmp_path / name)
        until(lambda pid=pid: death.dead(pid))


def test_a_grandchild_that_keeps_the_pipe_delays_nothing_and_is_ended(tmp_path: Path) -> None:
    reading = asked("sh", "-c", "sleep 100 & echo $! >pid; echo done", cwd=str(tmp_path))
    assert (reading.ok, reading.detail) == (True, 'exit 0: "done"')
    assert reading.seconds < 3
    pid = pid_in(tmp_path / "pid")
    until(lambda: death.dead(pid))


def test_a_flood_of_output_blocks_nobody_and_its_end_is_kept() -> None:
    reading = asked("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert reading.detail == 'exit 0: "end"'


def test_a_command_that_floods_for_ever_is_bounded_beside_others() -> None:
    began = time.monotonic()
    flood, quick = ask([command("yes", timeout=0.5), command("true")])
    assert (flood.ok, quick.ok) == (False, True)
    assert time.monotonic() - began < 10


def test_control_characters_of_the_output_are_escaped() -> None:
    assert asked("printf", "\\033[2J").detail == 'exit 0: "\\x1b[2J"'


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_given_up_nothing_is_left(end: str, tmp_path: Path) -> None:
    before = open_descriptors()
    with selectors.DefaultSelector() as selector:
        question = command("sh", "-c", "echo $$ >pid; sleep 100", cwd=str(tmp_path))
        inquiry = Inquiry(question, time.monotonic(), selector)
        pid = pid_in(tmp_path / "pid")
        if end == "cancel":
            inquiry.cancel()
        else:
            inquiry.expire(time.monotonic())
        assert (inquiry.reading is None) == (end == "cancel")
        assert len(selector.get_map()) == 0
    with pytest.raises(ChildProcessError):  # reaped: no zombie of ours
        os.waitpid(pid, os.WNOHANG)
    assert open_descriptors() == before


CHILD = """
import os
for name in {without!r}:
    vars(os).pop(name, None)
from ops.host.probes import Question, ask
from ops.model import Probe
def command(timeout, *words):
    return Question(Probe("command", "", 1.0, timeout, command=words), env={{"PATH": os.environ["PATH"]}})
for reading in ask([command(20.0, "sh", "-c", {script!r}), command(1.0, "sleep", "100")]):
    print(reading.ok, reading.detail)
"""


def asked_in_a_child(script: str, *without: str) -> str:
    """What a Python of its own, without some functions of `os` and with a full standard input, reads."""
    words = [sys.executable, "-c", CHILD.format(script=script, without=without)]
    done = subprocess.run(words, input="typed\n", capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert not done.stderr
    return done.stdout


def test_our_own_input_is_not_the_commands() -> None:
    assert asked_in_a_child("read line && exit 4; exit 3").startswith("False exit 3\n")


def test_without_pidfd_and_waitid_its_end_is_noticed_by_looking() -> None:
    """A stand-in for macOS, which has neither (waitid only from Python 3.13): not run on a Mac.

    The command gives up its output first, so that nothing rings when it ends.
    """
    seen = asked_in_a_child("exec >&- 2>&-; sleep 0.2; exit 3", "pidfd_open", "waitid")
    assert seen == "False exit 3\nFalse no answer in 1 s\n"


def test_f6_a_hundred_side_by_side_take_as_long_as_one() -> None:
    began = time.monotonic()
    readings = ask([command("sleep", "1", timeout=20)] * 100)
    assert all(reading.ok for reading in readings)
    assert time.monotonic() - began < 15  # 1.2 s on an idle machine; one by one they would take 100
