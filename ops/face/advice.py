"""What to type next, for whatever is not well.

Knows: which line helps in which state. Must not know: how the state came about, where the line is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.operations.look import HostReport, ServiceReport


def advice(report: HostReport) -> list[str]:
    """A line for each service that is not well, what it needs before it."""
    unwell = [service for service in report.services if not service.well]
    down = [service for service in unwell if service.state == "down"]
    if report.whole and len(down) == len(report.services) > 1:
        return ["next:   inv start"]
    watch = [] if report.monitor.well else ["next:   inv monitor-start"]
    held = [f"next:   inv release {service.name}" for service in report.services if service.held_down]
    return [*[_line(service, report) for service in _needs_first(unwell)], *held, *watch]


def _needs_first(services: list[ServiceReport]) -> list[ServiceReport]:
    waiting = list(services)
    ordered: list[ServiceReport] = []
    while waiting:
        names = {service.name for service in waiting}
        ready = [service for service in waiting if not names & set(service.needs)] or waiting[:1]
        ordered += ready
        waiting = [service for service in waiting if service not in ready]
    return ordered


def _line(service: ServiceReport, report: HostReport) -> str:
    missing = [one for one in report.services if one.name in service.needs and one.state != "up"]
    because = ", ".join(f"{one.name}, which is {one.state}" for one in missing)
    return f"next:   {_words(service, alone=not missing)}" + (f"    (needs {because})" if because else "")


def _words(service: ServiceReport, *, alone: bool) -> str:
    """`alone`: nothing that it needs can be the cause of a wrong answer. If something can, restarting will not help."""
    if service.refused:
        return "correct it in inventory.yaml"
    if service.state == "foreign" or service.owner:
        return f"inv kill-port {service.port} start --only {service.name}"
    if service.state in ("down", "starting", "stopping"):  # start waits for whoever is at it already
        return f"inv start --only {service.name}"
    failed = [reading for reading in service.probes if reading.ok is False]
    only_watched = bool(failed) and not any(reading.restart for reading in failed)
    if only_watched or (not alone and service.state == "unhealthy"):
        return f"inv tail {service.name}"
    return f"inv tail {service.name}    then: inv restart-one {service.name}"
