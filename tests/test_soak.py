"""The soak itself: it says nothing when all is well, and names what is wrong when something is.

What is wrong is done from outside, to the real thing: a job is taken out of the database, a service is given a second
copy.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ops.host import process
from tests.soak import judgement
from tests.soak.faults import FAULTS
from tests.soak.plan import steps
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.skipif(not process.LINUX, reason="the soak reads /proc"),
    pytest.mark.timeout(300),
]
QUICK = ("restart-one SERVICE", "SIGKILL of SERVICE", "SIGKILL of the monitor", "ten starts at once")


@contextmanager
def soaking(folder: Path, minutes: float) -> Iterator[subprocess.Popen[str]]:
    """The real command, with a few quick faults; whatever it leaves behind is a failure."""
    faults = [f"--fault={name}" for name in QUICK]
    command = [sys.executable, "-m", "tests.soak", f"--minutes={minutes}", "--seed=7", *faults]
    command += [f"--write={folder / 'soak.md'}"]
    pipe = subprocess.PIPE
    env = {**os.environ, "TMPDIR": str(folder)}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=60)
    left = [one for one, _ in process.carrying("HOME", str(folder))]
    assert left == [], [process.describe(one.pid) for one in left]
    assert list(folder.glob("soak-*")) == []


def heading(child: subprocess.Popen[str]) -> tuple[str, Path]:
    """The stack's name and the soak's folder, which it prints first."""
    assert child.stdout
    for line in child.stdout:
        if found := re.search(r"stack (\w+) in (\S+)/project", line):
            return found[1], Path(found[2])
    raise AssertionError("it did not say which stack it is")


def test_soak_finds_nothing_when_all_is_well(tmp_path: Path) -> None:
    with soaking(tmp_path, 0.2) as child:
        out, err = child.communicate(timeout=240)
        assert child.returncode == 0, out + err
    assert "seed 7" in out.splitlines()[0]
    written = (tmp_path / "soak.md").read_text()
    assert "seed 7, no finding" in written
    assert "| acknowledged jobs lost | 0 |" in written


def test_soak_finds_a_lost_job_and_a_service_that_runs_twice(tmp_path: Path) -> None:
    with soaking(tmp_path, 0.2) as child:
        name, folder = heading(child)
        until(lambda: judgement.read(folder / "diary").acknowledged, 60)
        (_, job), *_ = judgement.read(folder / "diary").acknowledged
        with closing(sqlite3.connect(folder / "data" / "recon.db", timeout=20)) as database, database:
            assert database.execute("DELETE FROM jobs WHERE id = ?", (job,)).rowcount == 1
        second = subprocess.Popen(
            ["sleep", "300"], env={"OPS_RUN": f"{name}/pg-api/second", "PATH": os.environ["PATH"]}
        )
        try:
            out, err = child.communicate(timeout=240)
        finally:
            second.kill()
            second.wait(10)
    assert child.returncode == 2, out + err
    assert re.search(rf"FINDING: [\d.]+ s, after .*: {job} was acknowledged and is lost", out)
    assert re.search(r"FINDING: [\d.]+ s, after .*: pg-api ran twice", out)
    assert "| acknowledged jobs lost | 1 |" in out


def test_soak_that_is_interrupted_ends_all_it_started(tmp_path: Path) -> None:
    with soaking(tmp_path, 5) as child:
        _, folder = heading(child)
        until((folder / "diary").exists, 60)
        assert list(process.carrying("HOME", str(folder / "home")))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        assert "Traceback" not in err
        assert not list(process.carrying("HOME", str(folder / "home")))


def test_soak_draws_the_same_faults_from_the_same_seed() -> None:
    def first(seed: int) -> list[str]:
        source = steps(seed, list(FAULTS))
        return [str(next(source)) for _ in range(100)]

    assert first(1) == first(1)
    assert first(1) != first(2)
    assert {step.fault for step, _ in zip(steps(3, list(FAULTS)), FAULTS, strict=False)} == set(FAULTS)


def test_soak_sees_gaps_and_lost_jobs_in_a_diary(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    moments = [0.0, 0.1, 5.1, 5.2, 60.2]
    lines = [{"at": at, "kind": "ask", "seconds": 0.0, "ok": True} for at in moments]
    lines += [{"at": 5.3, "kind": "job", "seconds": 0.1, "ok": True, "id": one} for one in ("a", "b")]
    lines += [{"at": 6.0, "kind": "job", "seconds": 0.1, "ok": False, "why": "status 502"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at": 7')
    diary = judgement.read(path)
    assert judgement.gaps(diary) == [(0.1, 5.1), (5.2, 60.2)]
    assert judgement.without((0.0, 10.0), [(2.0, 4.0), (9.0, 20.0)]) == 7.0
    assert [job for _, job in judgement.lost(diary, {"a"})] == ["b"]
    assert (diary.sent["job"], diary.good["job"]) == (3, 2)
