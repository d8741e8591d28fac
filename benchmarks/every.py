"""All of it in one go, as `inv dev.benchmarks` types it: each part in turn, its figures kept, and the page written.

Knows: which parts there are, where their figures are kept, exit codes. Must not know: what a part measures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.reading import Reading, above_zero
from benchmarks.supervision.figures import Row, is_broken_off

ROOT = Path(__file__).parents[1]
PARTS = ("commands", "fleet", "supervision")
_QUIETER = 180.0  # seconds that a part waits for the load of the one before it to be forgotten
_PARTING = 60.0  # seconds for an interrupted part to end what it has started
MET, FAILED, MISSED = 0, 1, 2


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks all WORDS`; 0 when all bars were met, 2 when one was missed, 1 when a part was not measured
    to its end. `--quick` shows no bar, and keeps and writes nothing."""
    given = _given(words)
    parts = _parts(given.only)
    if not parts:
        print(f"--only takes {', '.join(PARTS)}", file=sys.stderr)
        return FAILED
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # whoever says nohup means it
            signal.signal(number, _terminated)
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as scratch:
        folder = Path(scratch) if given.quick else machine.RESULTS
        codes = [_measured(part, folder, given) for part in parts]
    if given.quick:
        print("sound" if set(codes) == {MET} else "not sound (see above)", file=sys.stderr)
        return max(codes)
    return verdict([*codes, _run([sys.executable, "-m", "benchmarks", "report"])])


def _given(words: Sequence[str]) -> argparse.Namespace:
    said = "Commands, many hosts and the monitor beside its peers; keeps the figures, and writes the page."
    reading = Reading(prog="./inv dev.benchmarks", description=said)
    reading.add_argument("--quick", action="store_true", help="is the harness sound? shows no bars, keeps nothing")
    reading.add_argument("--only", default=",".join(PARTS), metavar="a,b", help="these parts (%(default)s)")
    reading.add_argument("--rounds", type=above_zero, metavar="N", help="of commands and hosts (theirs)")
    return reading.parse_args(words)


def _parts(said: str) -> list[str]:
    """In our order; none when one of them is unknown."""
    asked = {word.strip() for word in said.split(",")}
    return [part for part in PARTS if part in asked] if asked <= set(PARTS) else []


def verdict(codes: Sequence[int]) -> int:
    """What was not measured weighs more than what was missed."""
    return FAILED if set(codes) - {MET, MISSED} else max(codes)


# -- one part --------------------------------------------------------------------------------------------------------


def _measured(part: str, folder: Path, given: argparse.Namespace) -> int:
    """The exit code of a part; when it is quick, 0 if all of it was measured and 1 if not."""
    file = folder / f"{PARTS.index(part) + 1}-{part}.json"
    command = [sys.executable, "-m", "benchmarks", *([] if part == PARTS[0] else [part])]
    command += ["--quick"] if given.quick else []
    command += [f"--rounds={given.rounds}"] if given.rounds and part != PARTS[2] else []
    if not given.quick:
        _wait_until_quiet()
    # by its path from here: the page tells the command, and a folder of this machine says nothing to a reader
    code = _run([*command, "--json", os.path.relpath(file, ROOT) if file.is_relative_to(ROOT) else str(file)])
    broken = code in (MET, MISSED) and is_broken(json.loads(file.read_text()))
    if code not in (MET, MISSED) or broken:
        print(f"{part}: {'a metric broke off' if broken else f'exit {code}'}, see above", file=sys.stderr)
        return FAILED
    return MET if given.quick else code


def is_broken(said: dict[str, Any]) -> bool:
    metrics = said.get("metrics", {}).values()
    return any(is_broken_off(Row(**row)) for metric in metrics for row in metric["rows"])


def _run(command: Sequence[str]) -> int:
    """Its exit code. It is out of reach of the terminal, and told once that it must end, by us: then it has time to end
    what it has started."""
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return child.wait()
    except BaseException:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        child.terminate()
        try:
            child.wait(_PARTING)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


def _wait_until_quiet() -> None:
    """Or until it has taken too long: then the page says that it was not."""
    until, most = time.monotonic() + _QUIETER, machine.quiet(os.cpu_count() or 1)
    if os.getloadavg()[0] > most:
        print(f"waiting for the load to fall to {most:g}, {_QUIETER:.0f} s at most", file=sys.stderr, flush=True)
    while os.getloadavg()[0] > most and time.monotonic() < until:
        time.sleep(1)


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
