"""The developers' face: `inv dev.faults`, the fault matrix of tests/faults, and docs/faults.md, which it writes.

Knows: Invoke, pytest's options, that tests/faults lists its rows, leaves a line for each in a file and makes the
document of it. Must not know: what the rows are, services, any other room.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.dev.parting import Told, ends, send, told_to_end
from ops.dev.testing import ALL_PASSED, MISUSED, NO_TESTS, PROJECT, clean_environment, counted, install_test_extra

DOCUMENT = "docs/faults.md"
QUICK = 21  # rows that are not marked slow; tests/faults/test_rows.py counts them
LONGEST = 30 * 60.0  # seconds in which all is over: a row is begun only if its own limit leaves it time to end
PARTING = 60.0  # of these, for an interrupted test to end what it has started; and as much for what pytest does itself
SOME_FAILED, OVERDUE, INTERRUPTED = 1, 124, 128  # the last one and a signal's number
FAILED, NOT_ALL_RAN = 2, 3


@task(
    name="faults",
    auto_shortflags=False,
    help={
        "row": "only these rows: F5 or F5,F13",
        "quick": f"only the {QUICK} rows that `inv test` runs, too",
        "workers": "how many run side by side (default: 1, so that no other row is in the way of a figure)",
    },
)
def run_faults(c: Context, row: str | None = None, quick: bool = False, workers: str = "1") -> None:
    """Inject every fault of the matrix; writes docs/faults.md if all rows have run, whether they held or not.

    It takes half an hour at most: a row that cannot end in time is not begun.

    Exit codes: 0 every row that was asked for ran and held, 1 nothing could be run, 2 a row failed, 3 none failed but
    some were not run (no time was left, or this machine lacks what they need), 130 interrupted, 143 ended by SIGTERM,
    129 by a terminal that was closed; before it ends it ends what the rows have started.
    """
    many = counted("--workers", workers)
    import tempfile  # not on the way of every command

    try:
        with tempfile.TemporaryDirectory(prefix="ops-faults-") as folder, told_to_end():
            code = run_matrix(Path(folder) / "results", row, quick, many)
    except Told as told:
        code = told.code
    except OSError as error:
        raise Exit(f"{error}\nnext: make {PROJECT} writable for this user, then ./inv dev.faults", code=1) from None
    if code:
        raise Exit(code=code)


def run_matrix(results: Path, row: str | None, quick: bool, workers: int) -> int:
    """The exit code of the command."""
    rows = rows_of(row, list_of_rows())
    install_test_extra(PROJECT)
    results.touch()
    code = run_rows(faults_command(quick, workers), rows, results)
    if code == NO_TESTS and quick:
        raise Exit("none of these rows is quick\nnext: the same without --quick", code=1)
    if code in MISUSED:
        raise Exit(MISUSED[code], code=1)
    if code not in (ALL_PASSED, SOME_FAILED, OVERDUE) and code < INTERRUPTED:
        raise Exit("pytest did not get through the rows (see above)", code=1)
    partial = row is not None or quick or code not in (ALL_PASSED, SOME_FAILED) or "skipped" in endings(results)
    if not tell(results, partial) and code < INTERRUPTED:  # nobody may be left to be told
        raise Exit("the results could not be told (see above)", code=2)
    return verdict_of(code, endings(results))


def endings(results: Path) -> set[str]:
    """How rows have ended: passed, failed, skipped."""
    said = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    return {line["result"] for line in said if "result" in line}  # the first line is about the run as a whole


def verdict_of(code: int, ended: set[str]) -> int:
    """The exit code of the command, by that of pytest and by how rows have ended."""
    if code > INTERRUPTED:
        return code
    if code == SOME_FAILED or "failed" in ended:
        return FAILED
    return ALL_PASSED if code == ALL_PASSED and ended == {"passed"} else NOT_ALL_RAN


def list_of_rows() -> list[str]:
    """What rows there are: `F1 crash`, each with its number."""
    command = [sys.executable, "-m", "tests.faults.rows"]
    said = subprocess.run(command, cwd=PROJECT, env=clean_environment(), stdout=subprocess.PIPE, text=True)
    if said.returncode:
        raise Exit("the rows could not be read (see above)", code=1)
    return said.stdout.splitlines()


def rows_of(said: str | None, there: Sequence[str]) -> list[int]:
    """The numbers of `F5,F13`, of all rows for None; raises invoke.Exit (code 1) for what is none of those there."""
    known = {line.split()[0]: int(line.split()[0][1:]) for line in there}
    if said is None:
        return list(known.values())
    words = [word.strip() for word in said.split(",")]
    found = [number_in(word) for word in words]
    wrong = [word for word, number in zip(words, found, strict=True) if number not in known.values()]
    if wrong:
        listed = "\n".join(f"  {line}" for line in there)
        raise Exit(f"--row {said!r}: {wrong[0]!r} is no row\nwanted: F5 or F5,F13, of\n{listed}", code=1)
    return found


def number_in(word: str) -> int:
    """That of `F5`, `f05` or `5`; 0 for what is none."""
    found = re.fullmatch(r"[Ff]?([0-9]{1,3})", word)
    return int(found[1]) if found else 0


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
    """Pytest's exit code; 128 and a signal's number when that told us to end, 124 when its time was over."""
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
    except Told as told:
        # Perhaps the whole terminal was told, perhaps only we: it minds the first and no later one.
        part(child, parting)
        return told.code
    except subprocess.TimeoutExpired:
        part(child, parting)
        return OVERDUE


def part(child: subprocess.Popen[bytes], parting: float) -> None:
    """Interrupts it, and waits as long as a test may need to end what it has started."""
    send(child, signal.SIGINT)
    if not ends(child, parting):
        send(child, signal.SIGKILL)
        child.wait()


def tell(results: Path, partial: bool) -> bool:
    """Writes the document of a whole run; that of a part of it goes to standard output. Whether that could be done."""
    where = [] if partial else [str(PROJECT / DOCUMENT)]
    command = [sys.executable, "-m", "tests.faults.document", str(results), *where]
    if subprocess.call(command, cwd=PROJECT, env=clean_environment()):
        return False
    if not partial:
        print(f"written: {DOCUMENT}", file=sys.stderr)
    return True
