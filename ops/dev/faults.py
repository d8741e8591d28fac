"""The developers' face: `inv dev.faults`, the fault matrix of tests/faults, and docs/faults.md, which it writes.

Knows: Invoke, pytest's options, that tests/faults leaves a line for each row in a file and makes the document of it.
Must not know: what the rows are, services, any other room.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.dev.testing import (
    ALL_PASSED,
    INTERRUPTED,
    MISUSED,
    PROJECT,
    clean_environment,
    ends,
    install_test_extra,
    send,
)

DOCUMENT = "docs/faults.md"
LONGEST = 30 * 60.0  # seconds in which all is over: a row is begun only if its own limit leaves it time to end
PARTING = 60.0  # of these, for an interrupted test to end what it has started; and as much for what pytest does itself
SOME_FAILED, OVERDUE = 1, 124
FAILED, NOT_ALL_RAN = 2, 3


@task(
    name="faults",
    auto_shortflags=False,
    help={
        "row": "only these rows: F5 or F5,F13",
        "quick": "only what `inv test` runs of them, too",
        "workers": "how many run side by side (default: 1, so that no other row is in the way of a figure)",
    },
)
def run_faults(c: Context, row: str = "", quick: bool = False, workers: int = 1) -> None:
    """Inject every fault of the matrix; writes docs/faults.md if all rows have run, whether they held or not.

    It takes half an hour at most: a row that cannot end in time is not begun.

    Exit codes: 0 every row that was asked for ran and held, 1 nothing could be run, 2 a row failed, 3 none failed but
    some were not run (no time was left, or this machine lacks what they need), 130 interrupted.
    """
    if workers < 1:
        raise Exit(f"--workers={workers}: at least one must run the tests", code=1)
    rows = rows_of(row)
    import tempfile  # not on the way of every command

    with tempfile.TemporaryDirectory(prefix="ops-faults-") as folder:
        results = Path(folder) / "results"
        results.touch()
        try:
            install_test_extra(PROJECT)
            code = run_rows(faults_command(quick, workers), rows, results)
        except OSError as error:
            raise Exit(f"{error}\nnext: make {PROJECT} writable for this user, then ./inv dev.faults", code=1) from None
        if code in MISUSED:
            raise Exit(MISUSED[code], code=1)
        if code not in (ALL_PASSED, SOME_FAILED, OVERDUE, INTERRUPTED):
            raise Exit("pytest did not get through the rows (see above)", code=1)
        verdict = verdict_of(code, endings(results))
        tell(results, partial=bool(rows) or quick or code in (OVERDUE, INTERRUPTED) or "skipped" in endings(results))
    if verdict:
        raise Exit(code=verdict)


def endings(results: Path) -> set[str]:
    """How rows have ended: passed, failed, skipped."""
    said = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {line["result"] for line in said if "result" in line}  # the first line is about the run as a whole


def verdict_of(code: int, ended: set[str]) -> int:
    """The exit code of the command, by that of pytest and by how rows have ended."""
    if code == INTERRUPTED:
        return INTERRUPTED
    if code == SOME_FAILED or "failed" in ended:
        return FAILED
    return ALL_PASSED if code == ALL_PASSED and ended == {"passed"} else NOT_ALL_RAN


def rows_of(said: str) -> list[int]:
    """The numbers of `F5,F13`; raises invoke.Exit (code 1) for anything else."""
    words = [word.strip() for word in said.split(",") if word.strip()]
    wrong = [word for word in words if not re.fullmatch(r"[Ff]?[0-9]{1,2}", word)]
    if wrong:
        raise Exit(f"--row={said}: {wrong[0]} is no row\nwanted: F5 or F5,F13", code=1)
    return [int(word.lstrip("Ff")) for word in words]


def faults_command(quick: bool, workers: int) -> list[str]:
    """The command line that runs the matrix with this Python."""
    command = [sys.executable, "-m", "pytest", "tests/faults", "-v", "--color=no"]
    if workers > 1:
        command += [f"-n={workers}", "--dist=worksteal"]
    if quick:
        command.append("-m=not slow")
    return command


def run_rows(
    command: list[str], rows: list[int], results: Path, longest: float = LONGEST, parting: float = PARTING
) -> int:
    """Pytest's exit code; 130 when somebody interrupted it, 124 when it was interrupted because its time was over."""
    print(f"running {shlex.join(command)}", file=sys.stderr, flush=True)
    environment = {
        **clean_environment(),
        "OPS_FAULTS_RESULTS": str(results),
        "OPS_FAULTS_ROWS": ",".join(map(str, rows)),
        "OPS_FAULTS_UNTIL": str(time.monotonic() + longest - 2 * parting),
    }
    child = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=sys.stderr)
    try:
        return child.wait(max(0.0, longest - parting))
    except KeyboardInterrupt:  # the terminal has told pytest, too
        part(child, parting)
        return INTERRUPTED
    except subprocess.TimeoutExpired:
        send(child, signal.SIGINT)
        part(child, parting)
        return OVERDUE


def part(child: subprocess.Popen[bytes], parting: float) -> None:
    """Waits for one that was interrupted, as long as a test may need to end what it has started."""
    if not ends(child, parting):
        send(child, signal.SIGKILL)
        child.wait()


def tell(results: Path, partial: bool) -> None:
    """Writes the document of a whole run; that of a part of it goes to standard output."""
    where = [] if partial else [str(PROJECT / DOCUMENT)]
    command = [sys.executable, "-m", "tests.faults.document", str(results), *where]
    if subprocess.call(command, cwd=PROJECT, env=clean_environment()):
        raise Exit("the results could not be told (see above)", code=2)
    if not partial:
        print(f"written: {DOCUMENT}", file=sys.stderr)
