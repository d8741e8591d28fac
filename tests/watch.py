"""What a monitor does to a stack of a test: who serves, what was published, logged, alerted, reported."""

from __future__ import annotations

from typing import Any

from ops.host import process
from ops.memory.files import read_json
from ops.model import Process
from tests.scene import recorded
from tests.stack import Stack
from tests.waiting import until

PATIENCE = 40.0  # seconds; the machine may be busy


def watched(stack: Stack) -> Stack:
    """Written, started, and with a monitor that has seen everything up."""
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    stack.ok("start")
    for name in stack.services:
        until(lambda name=name: state(stack, name) == "up", PATIENCE)
    return stack


def reading(stack: Stack, name: str = "api") -> dict[str, Any]:
    """What the monitor has published last."""
    return read_json(str(stack.state / "readings.json")).get("services", {}).get(name, {})


def state(stack: Stack, name: str = "api") -> str:
    return str(reading(stack, name).get("state"))


def root(stack: Stack, name: str = "api") -> Process:
    """The recorded process, dead or alive."""
    said = recorded(stack, name)["process"]
    return Process(**said)


def answerer(stack: Stack, name: str = "api") -> int:
    """The pid that answers; 0 when nobody does."""
    try:
        return int(stack.get(name, within=1.0)[1])
    except (OSError, ValueError):
        return 0


def back(stack: Stack, before: Process, name: str = "api", within: float = PATIENCE) -> Process:
    """The process that serves instead, once the monitor says that it is up."""

    def look() -> Process | None:
        now = root(stack, name)
        well = now != before and process.alive(now) and state(stack, name) == "up"
        return now if well and reading(stack, name)["pid"] == now.pid else None

    found = until(look, within)
    assert stack.services[name].get("port") is None or answerer(stack, name) == found.pid
    return found


def lines(stack: Stack, log: str, *words: str) -> list[str]:
    """The lines of one of the stack's logs that contain all these words."""
    try:
        said = (stack.state / "logs" / f"{log}.log").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in said if all(word in line for word in words)]


def restarts(stack: Stack, name: str = "api") -> int:
    """How often the monitor set about it."""
    return len(lines(stack, "monitor", f" {name} restart"))


def critical(stack: Stack, name: str = "api") -> list[str]:
    return lines(stack, "alerts", "CRITICAL", f" {name}:")


def resolved(stack: Stack, name: str = "api") -> list[str]:
    return lines(stack, "alerts", "RESOLVED", f" {name}:")


def sweeps(stack: Stack, count: int = 2) -> None:
    """Waits until the monitor has looked at everything so often again: time enough to do something wrong."""
    for _ in range(count):
        seen = read_json(str(stack.state / "readings.json")).get("swept_at")
        until(lambda seen=seen: read_json(str(stack.state / "readings.json")).get("swept_at") != seen, PATIENCE)


def kpi(stack: Stack, name: str = "api") -> dict[str, Any]:
    """The figures of the last hour."""
    done = stack.ok("report", "--since", "1h", "--json")
    (found,) = [one for one in done.document["hosts"]["localhost"]["services"] if one["name"] == name]
    return found
