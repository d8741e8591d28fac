"""One soak from its first start to its last look.

Knows: the order of things. Must not know: how a fault is done, what a figure means.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.census import Census
from tests.soak import client, growth, judgement
from tests.soak.faults import calm, perform
from tests.soak.ground import Ground
from tests.soak.growth import Growth, Life
from tests.soak.judgement import Diary
from tests.soak.plan import Step, steps
from tests.soak.witness import Witness
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CENSUS_EVERY = 0.02  # seconds; a look takes some milliseconds of a core that the stack needs too


JUDGED, MUST_BE_JUDGED = 300.0, 600.0  # seconds of a soak that may tell of growth, and that has to


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `seconds`: how long faults come; the end takes a little longer."""

    seed: int
    seconds: float
    faults: Sequence[str]


@dataclass
class Result:
    """What it came to. `lives`: those of monitors and guards; empty where the soak was too short to tell of growth."""

    wanted: Wanted
    witness: Witness
    seconds: float  # that faults came
    diary: Diary
    lives: list[Life]
    looks: int  # of the census


def soak(wanted: Wanted, folder: Path) -> Result:
    """Runs it. Whatever was started is gone when this returns or raises."""
    ground = Ground(folder, wanted.seconds)
    try:
        witness = Witness(ground)
        witness.say(f"stack {ground.name} in {ground.folder}")
        with Census(ground, CENSUS_EVERY, witness.lives_twice) as census, Growth(witness.watchers) as looking:
            lasted = _live(wanted, witness)
            diary = judgement.read(ground.diary)
            for moment, what in judgement.faulted(diary, _jobs(witness), witness.withheld):
                witness.find(what, moment)
            witness.inv("stop")
            witness.stopped()
        judge_watching(witness, {"census": census, "look at memory": looking})
        lives = list(looking.lives.values()) if wanted.seconds >= JUDGED else []
        for what in growth.faulted(lives, wanted.seconds >= MUST_BE_JUDGED):
            witness.find(what)
        return Result(wanted, witness, lasted, diary, lives, census.looks)
    finally:
        ground.end()


def _live(wanted: Wanted, witness: Witness) -> float:
    """From the first start until all is well after the last fault; for how many seconds faults came."""
    witness.inv("start")
    witness.settle()
    caller = _client(witness)
    begun = time.monotonic()
    _faults(wanted, witness, begun + wanted.seconds)
    lasted = time.monotonic() - begun
    _end_well(witness, caller)
    return lasted


def _client(witness: Witness) -> subprocess.Popen[bytes]:
    ground = witness.ground
    ports = [str(ground.port(name)) for name in ("recon-api", "frontend")]
    command = [sys.executable, "-m", "tests.soak.client", *ports, str(ground.diary)]
    started: subprocess.Popen[bytes] = ground.spawn(command, cwd=ROOT, stderr=None)
    try:
        until(lambda: ground.diary.stat().st_size)
    except AssertionError:
        witness.find("the client has noted nothing: has it begun?")
        ground.diary.touch()
    return started


def _faults(wanted: Wanted, witness: Witness, end: float) -> None:
    for step in steps(wanted.seed, wanted.faults, calm()):
        if time.monotonic() + step.pause > end:
            return
        time.sleep(step.pause)  # not a wait: the random moment itself
        perform(witness, step)
        if step.settles:
            witness.settle()


def _end_well(witness: Witness, caller: subprocess.Popen[bytes]) -> None:
    """Left alone, everything becomes well; then the client may go."""
    witness.faults.append((time.monotonic(), f"{len(witness.faults)} faults, at the end"))
    witness.settle()
    if caller.poll() is not None:
        witness.find(f"the client itself has ended before its time: exit {caller.returncode}")
        return
    caller.terminate()
    try:
        caller.wait(20)
    except subprocess.TimeoutExpired:
        witness.find("the client does not come to an end")
        caller.kill()


def _jobs(witness: Witness) -> set[str]:
    """The ids of all jobs that recon-api has; none, and a finding, when it does not say."""
    try:
        said = json.loads(client.fetch(witness.ground.port("recon-api"), "/recon/jobs", 30))
    except (OSError, ValueError, http.client.HTTPException) as why:
        witness.find(f"recon-api does not list its jobs: {type(why).__name__}: {why}")
        return set()
    return {job["id"] for job in said["jobs"]}


def judge_watching(witness: Witness, watching: Mapping[str, Census | Growth]) -> None:
    """What was not seen by one that failed is not known to be well."""
    for name, one in watching.items():
        if one.failure:
            witness.find(f"the {name} itself has failed: {type(one.failure).__name__}: {one.failure}")
        elif one.is_alive():
            witness.find(f"the {name} itself hangs")


def sequence(wanted: Wanted, many: int) -> list[Step]:
    """The first steps, as they would be done."""
    source = steps(wanted.seed, wanted.faults, calm())
    return [next(source) for _ in range(many)]
