"""What is told of an outage, and what is not, when monitors change, ports are taken and probes are slow to be asked."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from ops.host import process
from ops.memory.watchpost import Watchpost
from tests.stack import Stack
from tests.waiting import until

WATCHED = {"http": "/", "every": 1, "timeout": 1, "restart": False}


def told(stack: Stack) -> list[tuple[str, str]]:
    """(CRITICAL or RESOLVED, the rest of the line after the stack's name), oldest first."""
    with contextlib.suppress(OSError):
        lines = (stack.state / "logs" / "alerts.log").read_text().splitlines()
        return [(line.split()[1], line.split(maxsplit=3)[3]) for line in lines]
    return []


def published(stack: Stack) -> str:
    return str(Watchpost(str(stack.state)).readings().get("at"))


def readings(stack: Stack) -> Mapping[str, Any]:
    return Watchpost(str(stack.state)).readings().get("services", {})


def states(stack: Stack) -> set[str]:
    return {one["state"] for one in readings(stack).values()}


@pytest.mark.parametrize("count", [1, 3])
def test_f15_an_outage_is_told_once_and_its_end_once_whoever_watches(stack: Stack, count: int) -> None:
    """Three that fall ill together are one event; of it, too, the next monitor tells nothing but its end."""
    modes = [stack.folder / f"mode{number}" for number in range(count)]
    for number, mode in enumerate(modes):
        stack.tiny(f"s{number}", f"--mode={mode}", health=[WATCHED])
    stack.ops["monitor"] = True
    stack.write()
    stack.ok("start")
    until(lambda: states(stack) == {"up"}, 20)
    for mode in modes:
        mode.write_text("500")
    until(lambda: told(stack) and states(stack) == {"unhealthy"}, 20)
    first = told(stack)
    assert [severity for severity, _ in first] == ["CRITICAL"], first
    for _ in range(2):
        before = stack.watcher()
        process.send(before, signal.SIGKILL)
        until(lambda before=before: before not in stack.watchers(), 20)
        left = published(stack)
        until(lambda left=left: published(stack) != left and states(stack) == {"unhealthy"}, 30)
    assert told(stack) == first
    for mode in modes:
        mode.unlink()
    until(lambda: len(told(stack)) > 1, 30)
    until(lambda: states(stack) == {"up"}, 30)
    assert [severity for severity, _ in told(stack)] == ["CRITICAL", "RESOLVED"]


def test_f22_a_taken_port_is_told_though_something_the_service_needs_is_ill(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("db", f"--mode={mode}", health=[WATCHED])
    port = stack.tiny("api", needs=["db"])
    stack.ops["monitor"] = True
    stack.write()
    stack.ok("start")
    stack.ok("stop", "--only", "api")
    mode.write_text("500")
    until(lambda: any(text.startswith("db: unhealthy") for _, text in told(stack)), 20)
    with socket.create_server(("127.0.0.1", port)):
        stack.inv("start", "--only", "api")
        until(lambda: any(text.startswith("api: not running, its port is held by") for _, text in told(stack)), 20)


def test_a_probe_that_is_seldom_asked_is_asked_soon_again_while_it_fails(stack: Stack) -> None:
    mode = stack.folder / "mode"
    mode.write_text("500")
    port = stack.tiny("api", f"--mode={mode}")
    stack.services["api"]["health"] = [{"tcp": port, "every": 1, "timeout": 1}, {**WATCHED, "every": 300}]
    stack.ops["monitor"] = True
    stack.write()
    stack.inv("start")
    until(lambda: told(stack), 20)
    mode.unlink()
    until(lambda: [severity for severity, _ in told(stack)] == ["CRITICAL", "RESOLVED"], 40)
