"""The bundled sample stack on ports of its own, who answers well in it, and how long a fault is felt there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.host import process
from ops.model import Process
from tests.faults.row import Row, Since
from tests.scene import recorded
from tests.stack import Stack
from tests.watch import PATIENCE, lines, root

ALL = ("pg-api", "bank-api", "recon-api", "overview-api", "frontend")
PATHS = {"recon-api": "/recon/health", "frontend": "/"}
SIGNS = ("down", "hung", "unhealthy", "foreign")  # how the monitor's log names what is wrong


def sample(stack: Stack, *names: str, **keys: object) -> None:
    """Bundled services under their own names, fault switches on, each told where the others are; recon-api is critical.
    One probe a second, one second each: that, the grace and the start are what the computed worst case is made of."""
    for name in names:
        more = dict(keys)
        if name == "frontend":
            more.setdefault("health", [{"http": "/", "body": "SettlePaisa", "every": 1, "timeout": 1}])
        stack.service(name, name, fault=True, critical=name == "recon-api", **more)
    places = {f"{name.upper().replace('-', '_')}_URL": f"http://127.0.0.1:{port_of(stack, name)}" for name in names}
    for name in names:
        stack.services[name]["env"].update(places)


def port_of(stack: Stack, name: str) -> int:
    return int(stack.services[name]["port"])


def well(stack: Stack, name: str) -> int:
    """The pid behind a right answer, as the answer says or, of the frontend, as is recorded; 0 for any other answer."""
    try:
        status, body = stack.get(name, PATHS.get(name, "/health"), within=1.0)
        if status != 200:
            return 0
        if name == "frontend":
            return int(recorded(stack, name)["process"]["pid"]) if "SettlePaisa" in body else 0
        said = json.loads(body)
    except (OSError, ValueError):
        return 0
    if isinstance(said, int):  # a tiny server
        return said
    return int(said.get("pid", 0)) if said.get("status") == "healthy" else 0


def told(stack: Stack, name: str, *signs: str) -> list[str]:
    """The lines of the monitor's log that say that something is wrong with a service."""
    return [line for sign in signs or SIGNS for line in lines(stack, "monitor", f" {name} {sign}")]


@dataclass
class Recovery:
    """Seconds from the fault to the monitor's word, and to the first right answer of another process."""

    noticed: float
    serving: float
    after: int


def recovery(
    stack: Stack, name: str, inject: Callable[[Process], object], *signs: str, within: float = PATIENCE
) -> Recovery:
    """Injects a fault into the recorded process of a service, and waits until it is over."""
    before, known = root(stack, name), len(told(stack, name, *signs))
    since = Since()
    inject(before)
    noticed, serving = since.both(
        lambda: len(told(stack, name, *signs)) > known,
        lambda: well(stack, name) not in (0, before.pid),
        within,
    )
    return Recovery(noticed, serving, well(stack, name))


def measured(row: Row, *found: Recovery) -> None:
    """The slowest of several."""
    row.noticed(max(one.noticed for one in found))
    row.serving(max(one.serving for one in found))


def worst_cases(stack: Stack) -> dict[str, float]:
    """Seconds by service, as `check-inventory` computes them."""
    done = stack.ok("check-inventory", "--json").outcomes
    said = {name: done[name]["detail"].partition("worst case ")[2].split()[0] for name in stack.services}
    return {name: float(seconds) for name, seconds in said.items()}


def tree(pid: int) -> list[Process]:
    """A process and all below it."""
    return [line.process() for line in process.descendants([pid], process.table())]


def log(stack: Stack, name: str) -> str:
    return (stack.state / "logs" / f"{name}.log").read_text()


def processor_seconds(one: Process) -> float:
    """What a process has used of the processor so far."""
    fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
