"""What a fault wants around it: strangers, who listens where, what is recorded, and who can be two users."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.host.listeners import listeners
from ops.model import Process
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import until

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
can_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="127/8 is all loopback, $XDG_STATE_HOME counts")


def listening(port: int) -> set[int]:
    """Who listens there, on any address."""
    return {pid for one in listeners([port]).get(port, ()) for pid in one.pids}


def stranger(stack: Stack, port: int, *flags: str, **more: Any) -> subprocess.Popen[Any]:
    """A server that is nobody's service: another folder, other arguments, no run marker; it answers with 200."""
    argv = [PYTHON, "-S", str(TINY), str(port), "--body=stranger", *flags]
    child = stack.spawn(argv, cwd="/", **more)
    until(lambda: child.pid in listening(port))
    return child


def bystander(stack: Stack) -> Process:
    """A process that has nothing to do with anything, and would end at any signal."""
    child = stack.spawn([PYTHON, "-S", "-c", "import time\nwhile True: time.sleep(60)"], cwd="/")
    return identified(child.pid)


def identified(pid: int) -> Process:
    found = process.identify(pid)
    assert found, f"pid {pid} is gone"
    return found


def ended(one: Process) -> None:
    """Kills exactly this process and waits until it is gone."""
    process.send(one, signal.SIGKILL)
    until(lambda: not process.alive(one))


@contextlib.contextmanager
def freed(port: int) -> Iterator[None]:
    """Whoever listens on a port of this test is gone afterwards, whatever the test came to."""
    try:
        yield
    finally:
        for pid in listening(port):
            if one := process.identify(pid):
                process.send(one, signal.SIGKILL)
        until(lambda: not listening(port))


def alone(stack: Stack, name: str = "api") -> Process:
    """The one living copy of a service."""
    (one,) = stack.running(name)
    return one


def record_path(stack: Stack, name: str = "api") -> Path:
    return stack.state / "services" / f"{name}.json"


def recorded(stack: Stack, name: str = "api") -> dict[str, Any]:
    return json.loads(record_path(stack, name).read_text())


def wanted(stack: Stack) -> dict[str, bool]:
    """What is recorded as wanted: whether up, by service."""
    said = json.loads((stack.state / "wanted.json").read_text())["services"]
    return {name: wish["up"] for name, wish in said.items()}
