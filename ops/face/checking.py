"""check-inventory: is the file right, and how long would each service be gone at worst.

Knows: how that is shown. Must not know: how the file is read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops import inventory, render
from ops.face import hosts
from ops.face.colour import coloured
from ops.face.given import Way
from ops.fleet import here
from ops.fleet.here import Tell
from ops.model import Host, Outcome, Service
from ops.operations.verbs import Request


def check_inventory(json: bool, way: Way) -> int:
    """Prints a line per service; exit code 2 when one needs longer to recover than its budget allows.

    What this machine lacks is a warning only: the file may be meant for another, or the program come later."""
    loaded = inventory.load(inventory.locate())
    chosen = hosts.selected(loaded, way)
    outcomes = [replace(verdict(service), host=host.name) for host in chosen.hosts for service in host.services]
    if json:
        print(render.outcome_document("check-inventory", False, outcomes), flush=True)
    else:
        for host in chosen.hosts:
            _show(loaded.path if chosen.alone else f"{loaded.path}, {host.name}", host)
        print("\n".join(render.recap_lines(outcomes, [host.name for host in chosen.hosts])))
    for host in chosen.hosts:
        if host.connection == "local":
            _warn(here.carry_out(host, chosen.origin, Request("obstacles"), Tell()).found)
    return 2 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _show(title: str, host: Host) -> None:
    rows = [_row(service, verdict(service)) for service in host.services]
    print(f"{title}: {len(host.services)} services\n")
    print("\n".join(render.table(["service", "port", "needs", "worst case", "budget", ""], rows)) + "\n")


def _warn(obstacles: Mapping[str, Sequence[str]]) -> None:
    for name, (seen, *more) in obstacles.items():
        told = "".join(f"; next: {line.removeprefix('next:').strip()}" for line in more if line.startswith("next:"))
        warning = f"warning: {name} could not be started here: {seen}{told}"
        print(coloured(warning, "yellow", sys.stderr), file=sys.stderr)


def verdict(service: Service) -> Outcome:
    """Whether a service would be back within its recovery budget, whatever happens to it (law 8)."""
    worst, budget = service.worst_case(), service.recovery_budget
    if worst is None:
        why = "no probe would see it hang; a death is seen at once"
        return Outcome(service.name, "check-inventory", "ok", "valid", "valid", why)
    why = f"worst case {worst:g} s of {budget:g} s"
    if worst <= budget:
        return Outcome(service.name, "check-inventory", "ok", "valid", "valid", why)
    more = (f"wanted: at most {budget:g} s", "next:   lower `every`, `timeout`, `confirm`, `grace` or `start_time`")
    return Outcome(service.name, "check-inventory", "failed", "valid", "valid", f"{why}: too slow", more=more)


def _row(service: Service, outcome: Outcome) -> list[str | int | None]:
    worst = service.worst_case()
    return [
        f"{service.name} *" if service.critical else service.name,
        service.port,
        ", ".join(service.needs),
        None if worst is None else f"{worst:g} s",
        f"{service.recovery_budget:g} s",
        outcome.detail if outcome.state == "failed" or worst is None else "ok",
    ]
