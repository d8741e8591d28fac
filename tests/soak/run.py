"""One soak from its first start to its last look.

Knows: the order of things. Must not know: how a fault is done, what a figure means.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.census import Census
from tests.soak import client, judgement
from tests.soak.faults import perform
from tests.soak.ground import Ground
from tests.soak.judgement import Diary
from tests.soak.plan import Step, steps
from tests.soak.witness import Witness
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CENSUS_EVERY = 0.02  # seconds; a look takes some milliseconds of a core that the stack needs too


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `seconds`: how long faults come; the end takes a little longer."""

    seed: int
    seconds: float
    faults: Sequence[str]


@dataclass
class Result:
    """What it came to."""

    wanted: Wanted
    witness: Witness
    seconds: float  # that faults came
    diary: Diary
    kept: int  # jobs that recon-api has at the end
    looks: int  # of the census


def soak(wanted: Wanted, folder: Path) -> Result:
    """Runs it. Whatever was started is gone when this returns or raises."""
    ground = Ground(folder)
    try:
        witness = Witness(ground)
        witness.say(f"stack {ground.name} in {ground.folder}")
        with Census(ground, CENSUS_EVERY, witness.lives_twice) as census:
            witness.inv("start")
            witness.settle()
            caller = _client(ground)
            begun = time.monotonic()
            _faults(wanted, witness, begun + wanted.seconds)
            lasted = time.monotonic() - begun
            _end_well(witness, caller)
        if census.failure:
            raise census.failure
        diary, kept = judgement.read(ground.diary), _jobs(ground)
        _judge(witness, diary, kept)
        _stop(witness)
        return Result(wanted, witness, lasted, diary, len(kept), census.looks)
    finally:
        ground.end()


def _client(ground: Ground) -> subprocess.Popen[bytes]:
    ports = [str(ground.port(name)) for name in ("recon-api", "frontend")]
    command = [sys.executable, "-m", "tests.soak.client", *ports, str(ground.diary)]
    started: subprocess.Popen[bytes] = ground.spawn(command, cwd=ROOT, stderr=None)
    until(lambda: ground.diary.exists() and ground.diary.stat().st_size)
    return started


def _faults(wanted: Wanted, witness: Witness, end: float) -> None:
    for step in steps(wanted.seed, wanted.faults):
        if time.monotonic() + step.pause > end:
            return
        time.sleep(step.pause)  # not a wait: the random moment itself
        witness.measure()
        perform(witness, step)
        if step.settles:
            witness.settle()


def _end_well(witness: Witness, caller: subprocess.Popen[bytes]) -> None:
    """Left alone, everything becomes well; then the client may go."""
    witness.faults.append((time.monotonic(), f"{len(witness.faults)} faults, at the end"))
    witness.settle()
    witness.measure()
    if caller.poll() is not None:
        raise RuntimeError(f"the client itself has failed: exit {caller.returncode}")
    caller.terminate()
    caller.wait(20)


def _jobs(ground: Ground) -> set[str]:
    """The ids of all jobs that recon-api has."""
    said = json.loads(client.fetch(ground.port("recon-api"), "/recon/jobs", 30))
    return {job["id"] for job in said["jobs"]}


def _judge(witness: Witness, diary: Diary, kept: set[str]) -> None:
    for moment, job in judgement.lost(diary, kept):
        witness.find(f"{job} was acknowledged and is lost", moment)
    for gap in judgement.gaps(diary):
        missed = judgement.without(gap, witness.withheld)
        if missed > judgement.WORST_GAP:
            witness.find(f"recon-api did not answer for {missed:.1f} s", gap[0])
    if not diary.good.get("ask") or not diary.acknowledged:
        witness.find("the client was never answered: nothing is proven")
    witness.judge_growth()


def _stop(witness: Witness) -> None:
    witness.inv("stop")
    try:
        until(lambda: not witness.left_behind(), 10)
    except AssertionError:
        for one in witness.left_behind():
            witness.find(f"left behind after `inv stop`: {one}")


def sequence(wanted: Wanted, many: int) -> list[Step]:
    """The first steps, as they would be done."""
    source = steps(wanted.seed, wanted.faults)
    return [next(source) for _ in range(many)]
