"""F13 to F16: what befalls the monitor itself. Services never notice: each keeps its process, and answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sysconfig
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ops
from ops.host import process
from ops.memory.watchpost import Watchpost
from ops.model import Process
from ops.operations import watched as post
from tests.faults.row import Row, Since
from tests.faults.stage import PATHS, recovery, sample, well
from tests.scene import on_linux, recorded
from tests.stack import PYTHON, Stack
from tests.waiting import until
from tests.watch import PATIENCE, lines, restarts, state, sweeps, watched

NAMES = ("pg-api", "bank-api", "recon-api")
OTHER_VERSION = "99.0.0"
A_LONG_TIME = 10.0  # seconds for one answer: the machine may be busy
# Seconds until a silent monitor is replaced. The promise is 20: a look every 3 s finds 15 s of silence, the next one is
# launched. The rest is for a machine that is busy with other tests.
SILENT_FOR = 25.0


def monitor(stack: Stack) -> Process | None:
    """Whoever watches now: living, and signed on."""
    return post.who(Watchpost(str(stack.state)), "monitor")


def pids(stack: Stack) -> dict[str, int]:
    return {name: recorded(stack, name)["process"]["pid"] for name in stack.services}


@contextlib.contextmanager
def asked(stack: Stack, answers: dict[str, int]) -> Iterator[None]:
    """A client of each service asks all the while; every answer is right, and comes from the process that it should."""
    over, lost, right = threading.Event(), [], Counter[str]()

    def ask(name: str) -> None:
        while not over.wait(0.01):
            try:
                said = json.loads(stack.get(name, PATHS.get(name, "/health"), within=A_LONG_TIME)[1])
                assert (said["pid"], said["status"]) == (answers[name], "healthy"), said
                right[name] += 1
            except Exception as error:
                lost.append((name, repr(error)))

    threads = [threading.Thread(target=ask, args=[name]) for name in answers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert lost == []
    assert set(right) == set(answers), "a client that never got to ask has proved nothing"


@contextlib.contextmanager
def unharmed(stack: Stack) -> Iterator[None]:
    """Every service keeps its process meanwhile, and until a monitor has looked at everything twice; each answers
    throughout, and nobody is left beside them."""
    before, wishes = pids(stack), wanted_file(stack)
    with asked(stack, before):
        yield
        sweeps(stack, 2)
    assert pids(stack) == before
    assert {name: well(stack, name) for name in before} == before
    assert {one.pid for one in stack.running()} == set(before.values())
    assert wanted_file(stack) == wishes


def wanted_file(stack: Stack) -> dict[str, object]:
    """What is wanted of each service, since when and by whom."""
    return dict(json.loads((stack.state / "wanted.json").read_text())["services"])


def staged(stack: Stack) -> Process:
    """Three services under a monitor that its guard watches; the monitor."""
    sample(stack, *NAMES)
    watched(stack)
    until(lambda: post.who(Watchpost(str(stack.state)), "guard"), PATIENCE)
    return until(lambda: monitor(stack), PATIENCE)


def test_f13_monitor_killed(stack: Stack, row: Row) -> None:
    first = staged(stack)
    with unharmed(stack):
        since = Since()
        process.send(first, signal.SIGKILL)
        until(lambda: monitor(stack) not in (None, first), PATIENCE)
        row.noticed(since.seconds())
        health = stack.ok("health", "--json").document["hosts"]["localhost"]
        assert health["monitor"]["pid"] == until(lambda: monitor(stack)).pid
        assert all(restarts(stack, name) == 0 for name in NAMES)
    found = recovery(stack, "recon-api", lambda one: process.send(one, signal.SIGKILL), "down")
    row.serving(found.serving, since="a kill under the next one")


MUCH = 3 << 20  # bytes; a Python that runs has less than that in reserve


@on_linux
def test_f14_monitor_without_memory(stack: Stack, row: Row) -> None:
    """It may starve or go on; what it must not do is to harm what it watches, or what is written down."""
    first = staged(stack)
    before = pids(stack)
    with unharmed(stack):
        soft, hard = resource.prlimit(first.pid, resource.RLIMIT_AS)
        since = Since()
        resource.prlimit(first.pid, resource.RLIMIT_AS, (1 << 20, hard))
        assert process.alive(first)
        stack.ok("hold", "bank-api", "release", "bank-api")  # something to do: it has to read, remember, write
        with (stack.folder / "inventory.yaml").open("a") as file:  # more of it than it has left
            file.write(f"# {'x' * MUCH}\n")
        row.figure("seconds until it was felt", since.until(lambda: felt(stack, first), PATIENCE))
        until(lambda: monitor(stack), PATIENCE)
    with contextlib.suppress(ProcessLookupError):  # what it starts has its limits, so the memory is to come back
        resource.prlimit(first.pid, resource.RLIMIT_AS, (soft, hard))
    found = recovery(stack, "recon-api", lambda one: process.send(one, signal.SIGKILL), within=80)
    row.noticed(found.noticed, since="a later kill")
    row.serving(found.serving, since="a later kill")
    row.figure("it ended for it", "no" if process.alive(first) else "yes")
    files = [*stack.state.glob("*.json"), *(stack.state / "services").glob("*.json")]
    assert len(files) >= len(NAMES) + 2
    assert all(json.loads(path.read_text())["schema"] == 1 for path in files)
    until(lambda: monitor(stack), PATIENCE)
    until(lambda: stack.inv("health", "--json").code == 0, 60)
    sweeps(stack, 2)
    assert pids(stack) == {**before, "recon-api": found.after}
    assert {one.pid for one in stack.running()} == set(pids(stack).values())


def felt(stack: Stack, starving: Process) -> bool:
    """Whether the lack of memory did something to it: it said so, or another one watches."""
    said = lines(stack, "monitor", "MemoryError") or lines(stack, "monitor", "could not be read this time")
    return monitor(stack) not in (None, starving) or bool(said)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_f15_monitor_hangs(stack: Stack, row: Row) -> None:
    first = staged(stack)
    with unharmed(stack):
        since = Since()
        process.send(first, signal.SIGSTOP)
        row.noticed(since.until(lambda: monitor(stack) not in (None, first), SILENT_FOR))
        assert not process.alive(first)
        assert lines(stack, "monitor", f"the monitor, pid {first.pid}, is silent: ended")
        until(lambda: all(state(stack, name) == "up" for name in NAMES), PATIENCE)
        assert stack.ok("health", "--json").document["healthy"]
    found = recovery(stack, "recon-api", lambda one: process.send(one, signal.SIGKILL), "down")
    row.serving(found.serving, since="a kill under the next one")


@pytest.mark.slow
def test_f16_upgrade(stack: Stack, row: Row, tmp_path: Path) -> None:
    """The same package with another version, in an environment of its own, takes over and gives back."""
    sample(stack, *NAMES)
    for one in stack.services.values():
        one["command"][0] = PYTHON  # a program of the services' own, whichever environment the toolkit is in
    watched(stack)
    first = until(lambda: monitor(stack), PATIENCE)
    newer = other_version(tmp_path / "newer")
    with unharmed(stack):
        since = Since()
        stack.ok("monitor-stop")
        run(stack, newer, "monitor-start", "start")
        second = until(lambda: monitor(stack), PATIENCE)
        assert second != first and process.command_line(second.pid)[0] == newer
        row.figure("until the newer one watches", since.seconds())
        until(lambda: lines(stack, "monitor", "begins to watch", f"pid {second.pid}"), PATIENCE)
        assert json.loads(run(stack, newer, "health", "--json"))["healthy"]
        run(stack, newer, "monitor-stop")
        stack.ok("monitor-start")
        third = until(lambda: monitor(stack), PATIENCE)
        assert process.command_line(third.pid)[0] == PYTHON
        until(lambda: all(state(stack, name) == "up" for name in NAMES), PATIENCE)
    row.figure("services restarted", sum(restarts(stack, name) for name in NAMES))
    assert all(restarts(stack, name) == 0 for name in NAMES)


def other_version(folder: Path) -> str:
    """A Python that finds a copy of the package with another version first, and all else where this one finds it."""
    copy = folder / "package"
    shutil.copytree(Path(ops.__file__).parent, copy / "ops", ignore=shutil.ignore_patterns("__pycache__"))
    first = copy / "ops" / "__init__.py"
    text, count = re.subn(r'__version__ = ".*"', f'__version__ = "{OTHER_VERSION}"', first.read_text())
    assert count == 1
    first.write_text(text)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=60)
    python = folder / "venv" / "bin" / "python"
    (places,) = (folder / "venv").glob("lib/python3*/site-packages")
    (places / "first.pth").write_text(f"{copy}\n{sysconfig.get_path('purelib')}\n")
    told = [str(python), "-I", "-c", "import ops; print(ops.__version__)"]
    assert subprocess.run(told, capture_output=True, text=True, timeout=60).stdout.strip() == OTHER_VERSION
    return str(python)


def run(stack: Stack, python: str, *args: str) -> str:
    """`inv ARGS` of another environment; its standard output."""
    done = subprocess.run(
        [python, "-m", "invoke", *args],
        cwd=stack.folder,
        env={**stack.env, "PATH": f"{os.path.dirname(PYTHON)}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
