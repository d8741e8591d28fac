"""Several hosts at once, for people: which are meant, and what stands first when there is something of each.

Knows: the order of what is printed. Must not know: how a host is reached, what is printed of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ops.errors import UsageError
from ops.face.colour import coloured
from ops.face.given import Way
from ops.fleet import pointers, reach
from ops.fleet.reach import Came, Selection
from ops.model import Host, Inventory, Service
from ops.operations.look import HostReport, ServiceReport
from ops.operations.watched import MonitorReport

_MOST_NAMED = 8
_MOST_WHOLE = 3  # hosts that are shown in full though they are well


def selected(inventory: Inventory, way: Way) -> Selection:
    """The hosts that are meant: those of --limit, the one that `fab` is connected to, or this machine."""
    if way.connection is None:
        return reach.chosen(inventory, way.limit, way.forks)
    host = _host_of(inventory, str(way.connection.original_host), str(way.connection.host))
    reach.hand_over(host, way.connection)
    return Selection(inventory, (host,), named=True)


def _host_of(inventory: Inventory, *names: str) -> Host:
    """By the first of these names that is one of the inventory's, else the address of one alone."""
    for name in names:
        found = [host for host in inventory.hosts if host.name == name]
        found = found or [host for host in inventory.hosts if host.vars.get("ansible_host") == name]
        if len(found) == 1:
            return replace(found[0], connection="ssh")
    raise UsageError(
        f"{names[0]} is not in {inventory.path}",
        wanted="one host of the inventory, by its name or its ansible_host",
        next="known: " + ", ".join(host.name for host in inventory.hosts[:_MOST_NAMED]),
    )


def report_of(came: Came) -> HostReport:
    """What a host said of itself; of one that said nothing, its services as unknown, and why."""
    if came.error is None:
        report: HostReport = came.answer.found
        return report
    services = tuple(_unknown(service) for service in came.host.services)
    words = "unreachable" if came.unreachable else "no answer"
    head, *more = came.error.lines()
    lines = [f"{words}: {head.removeprefix(f'{came.host.name}: ')}", *more]
    return HostReport(came.host.name, services, MonitorReport(state="unknown"), error="\n  ".join(lines))


def _unknown(service: Service) -> ServiceReport:
    return ServiceReport(
        name=service.name,
        critical=service.critical,
        port=service.port,
        wanted="up",
        state="unknown",
        pid=None,
        started_at=None,
        uptime=None,
        cpu_percent=None,
        rss=None,
        restarts=0,
        stale=False,
        checked_at=None,
        needs=service.needs,
    )


def lines(came: Sequence[Came], reports: Sequence[HostReport], one: Callable[[HostReport], list[str]]) -> list[str]:
    """What is printed of each; of several, first how many are not well, and those before the others. Of more than a
    screen takes, those that are well have a line each."""
    far = {each.host.name: each.host for each in came if each.host.connection != "local"}

    def shown(report: HostReport) -> list[str]:
        if report.error:
            return [coloured(f"{report.name}: {report.error}", "red")]
        host = far.get(report.name)
        return [limited(line, host) for line in one(report)] if host else one(report)

    head = [_headline(reports), ""] if len(reports) > 1 else []
    brief = [report for report in reports if report.healthy] if len(reports) > _MOST_WHOLE else []
    lines = [line for report in brief for line in shown(report)[:1]]
    for report in sorted((one for one in reports if one not in brief), key=lambda report: report.healthy):
        lines += [*([""] if lines else []), *shown(report)]
    return [*head, *lines]


def limited(line: str, host: Host) -> str:
    """A line that a host says, with what it says to be typed meant for that host."""
    from ops.fleet.groundwork import PLACE

    return pointers.there(line, host.name, f"~/{PLACE}/{host.stack.name}")


def _headline(reports: Sequence[HostReport]) -> str:
    unwell = [report.name for report in reports if not report.healthy]
    if not unwell:
        return coloured(f"{len(reports)} hosts: all healthy", "green")
    more = f" and {len(unwell) - _MOST_NAMED} more" if len(unwell) > _MOST_NAMED else ""
    return coloured(f"{len(reports)} hosts: {len(unwell)} NOT healthy: {', '.join(unwell[:_MOST_NAMED])}{more}", "red")


def exit_code(came: Sequence[Came], *, healthy: bool = True) -> int:
    """4 when a host was not reached; 2 when something is wrong with one; else 0."""
    if any(one.unreachable for one in came):
        return 4
    return 0 if healthy and all(one.error is None for one in came) else 2
