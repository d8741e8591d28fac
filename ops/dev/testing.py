"""The developers' face: `inv test`, which works from a fresh clone.

Knows: Invoke, pip, pytest, and that a checkout keeps its venv up to date by pyproject.toml.
Must not know: services, the inventory, any other room. The installed `ops` command does not offer this.

All talk goes to stderr; pytest has stdout to itself.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from ops.dev.parting import ends, send

PROJECT = Path(__file__).resolve().parents[2]
STAMP = ".ops-test-stamp"  # in the venv: the pyproject.toml that its test extra was installed from
NEEDED = ("pytest", "pytest_timeout", "xdist", "hypothesis")
PER_CORE, MOST = 2, 8  # tests side by side: they mostly wait; MOST is where the longest test begins to decide
# pytest's own codes: https://docs.pytest.org/en/stable/reference/exit-codes.html
ALL_PASSED, BAD_OPTION, NO_TESTS = 0, 4, 5
INTERRUPTED, UNTOLD = 130, 137  # ours: by Ctrl-C, and pytest has reported; or it died of it before it had
PARTING = 15.0  # seconds that an interrupted pytest has for its report; xdist alone gives its workers 10
MISUSED = {
    BAD_OPTION: "pytest did not understand its command line (see above)",
    NO_TESTS: "no test matches the filter",
}
CUT_SHORT = {
    INTERRUPTED: "interrupted: above is the report of what had run by then",
    UNTOLD: "interrupted: pytest was ended before its report, so what had failed by then is not told",
}


def collection(*tasks: Task[Any]) -> Collection:
    """What is typed as `inv dev.NAME`."""
    return Collection(*tasks)


@task(
    name="test",
    auto_shortflags=False,
    help={
        "filter": "only tests whose names match this expression (pytest's -k)",
        "verbose": "a line for every test",
        "workers": f"how many tests run side by side (default: {PER_CORE} per core, at most {MOST})",
    },
)
def run_tests(c: Context, filter: str = "", verbose: bool = False, workers: str = "") -> None:
    """Run the project's tests, several side by side; installs what they need into the venv first.

    Left out are the rows of the fault matrix that take long: `inv dev.faults` runs those.

    Exit codes: 0 passed, 1 nothing could be run, 2 tests failed, 130 interrupted.
    """
    many = counted("--workers", workers) if workers else default_workers()
    try:
        install_test_extra(PROJECT)
        command = pytest_command(filter, verbose, many)
        print(f"running {shlex.join(command)}", file=sys.stderr, flush=True)
        code = call(command)
    except KeyboardInterrupt:
        raise Exit("interrupted; the next run carries on", code=130) from None
    except OSError as error:  # a full disk, somebody else's checkout
        raise Exit(f"{error}\nnext: make {PROJECT} writable for this user, then ./inv test", code=1) from None
    if code in CUT_SHORT:
        raise Exit(CUT_SHORT[code], code=INTERRUPTED)
    if code in MISUSED:
        raise Exit(MISUSED[code], code=1)
    if code != ALL_PASSED:
        raise Exit(code=2)


def counted(flag: str, text: str) -> int:
    """The number given with a flag; raises invoke.Exit (code 1) for anything but a whole one above 0. As text it comes
    here: what Invoke cannot make a number of ends in a traceback."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1000):
        raise Exit(f"{flag} {text!r}: wanted is a number from 1 to 999", code=1)
    return int(text)


def call(command: Sequence[str], parting: float = PARTING) -> int:
    """Pytest's exit code; INTERRUPTED or UNTOLD when somebody has interrupted it."""
    child = subprocess.Popen(command, cwd=PROJECT, env=clean_environment())
    try:
        return child.wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would end this process before the report
    # The terminal has told pytest, too. Told again while it makes its report it drops that: so it is told from here
    # only when it goes on, as it does when the signal was for this process alone.
    if not ends(child, parting):
        send(child, signal.SIGINT)
    if not ends(child, parting):
        send(child, signal.SIGKILL)
    return INTERRUPTED if child.wait() >= 0 else UNTOLD


def default_workers() -> int:
    """How many tests run side by side here: by the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(PER_CORE * cores, MOST)


def pytest_command(expression: str, verbose: bool, workers: int) -> list[str]:
    """The command line that runs the tests with this Python; one worker is pytest itself."""
    command = [sys.executable, "-m", "pytest"]
    if workers > 1:
        command += [f"-n={workers}", "--dist=worksteal"]
    command.append("-m=not slow")
    if verbose:
        command.append("-v")
    if expression:
        command.append(f"-k={expression}")  # one word: an expression may begin with a dash
    return command


def clean_environment() -> dict[str, str]:
    """This environment with the venv's programs first, and without what steers a live stack, Python or pip."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("OPS_") and key not in ("PYTHONPATH", "PIP_TARGET", "PIP_PREFIX")
    }
    environment["PIP_USER"] = "0"  # pip.conf may say otherwise
    programs = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([programs, environment.get("PATH", os.defpath)])
    return environment


def install_test_extra(project: Path) -> None:
    """Bring the running venv's `test` extra up to date with `project`'s pyproject.toml.

    Raises invoke.Exit (code 1) outside a venv, or when pip fails and the old ones cannot serve.
    """
    wanted = (project / "pyproject.toml").read_text(encoding="utf-8")
    stamp = Path(sys.prefix) / STAMP
    if is_installed() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    if sys.prefix == sys.base_prefix:
        raise Exit(f"{sys.executable} is not in a venv\nnext: ./inv test", code=1)
    print("installing what the tests need", file=sys.stderr)
    if run_pip(project):
        stamp.write_text(wanted, encoding="utf-8")
    elif is_installed():
        print("pip failed (see above): going on with what is installed", file=sys.stderr)
    else:
        raise Exit("pip could not install the test extra (see above)\nnext: ./inv test, when it can", code=1)


def is_installed() -> bool:
    """Whether the running Python can import what every test needs."""
    return all(find_spec(name) for name in NEEDED)


def run_pip(project: Path) -> bool:
    """Install the test extra; True when pip succeeded. Two at once take turns, also with ./inv."""
    import fcntl

    command = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "-e", ".[test]"]
    with open(project / ".venv.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = subprocess.call(
            command, cwd=project, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
    return code == 0
