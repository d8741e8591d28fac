"""Showing outcomes and reports: lines and tables for people, JSON for scripts.

Knows: columns, colours, the documents of the promise; tabulate (its one door). Must not know: how values came about.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ops.face.advice import advice
from ops.face.colour import coloured
from ops.face.watcher import monitor_lines
from ops.model import SCHEMA, Outcome, Reading, tally

if TYPE_CHECKING:
    from ops.operations.look import HostReport, ServiceReport

_OUTCOME_COLOURS = {"ok": "green", "changed": "yellow", "failed": "red", "skipped": "cyan", "unreachable": "red"}
_STATE_COLOURS = {"up": "green", "starting": "yellow", "stopping": "yellow", "down": "red", "unknown": "yellow"}
_NAME_COLOURS = ("36", "35", "34", "33", "32", "31")
_ESCAPES = re.compile("\033\\[[0-9;]*m")
_PIPE_WIDTH = 100  # columns
_LEAST_ROOM = 10  # columns for the checks, however narrow the terminal


# -- outcomes ------------------------------------------------------------------------------------------------


def outcome_lines(outcome: Outcome, width: int, host_width: int = 0) -> list[str]:
    """An outcome as people read it: one line, and more only for what went wrong. Among several hosts, each line begins
    with its own."""
    way = outcome.before if outcome.before == outcome.after else f"{outcome.before} -> {outcome.after}"
    state = coloured(f"{outcome.state:<{11 if host_width else 8}}", _OUTCOME_COLOURS[outcome.state])
    head = f"{outcome.service:<{width}}  {state}  {way:<16}  {outcome.detail}".rstrip()
    lines = [head, *(f"{'':<{width}}    {line}" for line in outcome.more)]
    return [f"{outcome.host:<{host_width}}  {line}" for line in lines] if host_width else lines


def recap_lines(outcomes: Sequence[Outcome], hosts: Sequence[str]) -> list[str]:
    """Ansible's recap: a line per host."""
    rows = tally(outcomes)
    empty = {"ok": 0, "changed": 0, "unreachable": 0, "failed": 0, "skipped": 0}
    return [
        f"{host} : " + " ".join(f"{word}={count}" for word, count in rows.get(host, empty).items())
        for host in sorted({*hosts, *rows})
    ]


def outcome_document(task: str, check: bool, outcomes: Sequence[Outcome], error: str = "") -> str:
    """The one JSON document of a task that changes things."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task,
        "check": check,
        "outcomes": [outcome_value(outcome) for outcome in outcomes],
        "recap": tally(outcomes),
    }
    if error:
        document["error"] = error
    return json.dumps(document)


def error_document(task: str, check: bool, error: str) -> str:
    """What a task prints that came to nothing: the keys of its own document, and `error`."""
    if task in ("status", "health"):
        return mapping_line({"schema": SCHEMA, "task": task, "healthy": False, "hosts": {}, "error": error})
    if task == "report":
        document = {"schema": SCHEMA, "task": task, "since": None, "until": None, "hosts": {}, "error": error}
        return mapping_line(document)
    if task in ("tail", "alerts"):
        return mapping_line({"schema": SCHEMA, "task": task, "hosts": {}, "error": error})
    return outcome_document(task, check, [], error)


def outcome_value(outcome: Outcome) -> dict[str, Any]:
    """One outcome as in the promise; what a failure says besides stands in `detail`, a line each."""
    return {
        "host": outcome.host,
        "service": outcome.service,
        "action": outcome.action,
        "state": outcome.state,
        "before": outcome.before,
        "after": outcome.after,
        "detail": "\n".join([outcome.detail, *outcome.more]),
        "seconds": outcome.seconds,
    }


# -- reports -------------------------------------------------------------------------------------------------


def report_document(task: str, reports: Sequence[HostReport]) -> str:
    """The one JSON document of `status` and `health`."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "task": task,
            "healthy": all(report.healthy for report in reports),
            "hosts": {report.name: _host_value(report) for report in reports},
        }
    )


def _host_value(report: HostReport) -> dict[str, Any]:
    monitor = report.monitor
    value: dict[str, Any] = {
        "services": [_service_value(service) for service in report.services],
        "monitor": {"state": monitor.state, "pid": monitor.pid, "last_sweep": monitor.last_sweep},
    }
    return {**value, "error": report.error} if report.error else value


_SERVICE_KEYS = (
    *("name", "critical", "port", "wanted", "state", "pid", "started_at", "uptime"),
    *("cpu_percent", "rss", "restarts", "stale", "checked_at"),
)


def _service_value(service: ServiceReport) -> dict[str, Any]:
    value = {key: getattr(service, key) for key in _SERVICE_KEYS}
    value["probes"] = [
        {
            "name": reading.name,
            "ok": reading.ok,
            "seconds": round(reading.seconds, 4),
            "detail": reading.detail,
            "restart": reading.restart,
        }
        for reading in service.probes
    ]
    return value


def headline(report: HostReport, *, asked: bool = True) -> str:
    """The first thing to read: is everything that should be up well, and if not, what is not.

    Who was not `asked` is only known to run."""
    unwell = sorted((s for s in report.services if not s.well), key=lambda service: not service.critical)
    if not unwell and not report.monitor.well:
        return coloured(f"{report.name}: NOT healthy: the services are, but nobody watches them", "red")
    if unwell:
        names = ", ".join(f"{s.name} {s.state}" + (" (critical)" if s.critical else "") for s in unwell)
        return coloured(f"{report.name}: NOT healthy: {names}", "red")
    held = [s.name + (" (critical)" if s.critical else "") for s in report.services if s.held_down]
    if held:
        return coloured(f"{report.name}: held and not up, by your word: {', '.join(held)}", "yellow")
    stopped = sum(service.wanted == service.state == "down" for service in report.services)
    if stopped and stopped == len(report.services):
        return coloured(f"{report.name}: all {stopped} stopped by command: inv start brings them back", "yellow")
    up = sum(service.state == "up" for service in report.services)
    told = f"{up} of {len(report.services)} services"
    told = f"healthy, {told} up" if asked else f"{told} run"
    told += f", {stopped} stopped by command" if stopped else ""
    return coloured(f"{report.name}: {told}" + ("" if asked else " (not asked: inv health)"), "green")


def status_lines(report: HostReport) -> list[str]:
    """The lines of `status`: a line per service, without a table, whose library alone takes as long as the rest."""
    cells = [_status_cells(service) for service in report.services]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_status_line(*row, widths) for row in zip(report.services, cells, strict=True)]
    warnings = [coloured(f"warning: {warning}", "yellow") for warning in report.warnings]
    end = [*_with_gap(warnings), *_with_gap(advice(report))]
    remarks = [f"{one.name}: {_remark(one)}" for one in report.services if _remark(one)]
    return [
        headline(report, asked=False),
        "",
        *lines,
        *_with_gap(remarks),
        *_with_gap(monitor_lines(report.monitor)),
        *end,
    ]


def _status_cells(service: ServiceReport) -> list[str]:
    running = service.pid is not None
    return [
        _label(service),
        service.state,
        f"port {service.port}" if service.port else "",
        f"pid {service.pid}" if running else "",
        f"up {duration(service.uptime)}" if running else "",
        f"{size(service.rss)}" if running else "",
        f"{_percent(service)} % cpu" if running else "",
    ]


def _status_line(service: ServiceReport, cells: Sequence[str], widths: Sequence[int]) -> str:
    name, state, port, pid, *rest = (f"{cell:<{width}}" for cell, width in zip(cells[:5], widths[:5], strict=True))
    facts = [name, state.replace(service.state, coloured(service.state, _colour(service))), port]
    if service.pid is not None:
        numbers = (f"{cell:>{width}}" for cell, width in zip(cells[5:], widths[5:], strict=True))
        facts += [pid, *rest, *numbers]
    facts += [f"wanted {service.wanted}"] if service.wanted != "up" else []
    facts += [f"restarts {service.restarts}"] if service.restarts else []
    return "  ".join(facts).rstrip()


def health_lines(report: HostReport) -> list[str]:
    """The table of `health`: what is wrong stands beside the service that it is wrong with; where that is more than
    the terminal has room for, in full below."""
    heads = ["service", "state", "port", "pid", "uptime", "cpu %", "memory"]
    rows = [_cells(service) for service in report.services]
    room = max(_LEAST_ROOM, columns() - len(table(heads, rows)[1]) - 2)
    checks = [_checks(service) for service in report.services]
    told = [text if len(text) <= room else text[: room - 3] + "..." for text in checks]
    lines = table([*heads, "checks"], [[*row, text] for row, text in zip(rows, told, strict=True)])
    pairs = zip(report.services, checks, told, strict=True)
    whole = [f"{service.name}: {text}" for service, text, shown in pairs if text != shown]
    warnings = [coloured(f"warning: {warning}", "yellow") for warning in report.warnings]
    end = [*_with_gap(monitor_lines(report.monitor)), *_with_gap(warnings), *_with_gap(advice(report))]
    return [headline(report), "", *lines, *_with_gap(whole), *end]


def _with_gap(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _label(service: ServiceReport) -> str:
    return f"{service.name} *" if service.critical else service.name


def _colour(service: ServiceReport) -> str:
    return _STATE_COLOURS.get(service.state, "red") if service.wanted == "up" else "dim"


def _percent(service: ServiceReport) -> str | None:
    return None if service.cpu_percent is None else f"{service.cpu_percent:.1f}"


def _cells(service: ServiceReport) -> list[str | int | None]:
    return [
        _label(service),
        coloured(service.state, _colour(service)),
        service.port,
        service.pid,
        duration(service.uptime),
        _percent(service),
        size(service.rss),
    ]


def _remark(service: ServiceReport) -> str:
    """What has to be known of it besides its state, in one line."""
    if service.owner:
        return f"port {service.port} is held by {service.owner}"
    return "; ".join(part for part in (_trouble(service), _drift(service)) if part)


def _trouble(service: ServiceReport) -> str:
    """What the monitor says of its illness, and what it does about it."""
    if not service.why or service.state == "up":
        return ""
    tries = f", restarted {service.tries} times" if service.tries > 1 else ", restarted once" if service.tries else ""
    again = f", next try at {service.next_try[11:19]}" if service.next_try else ""
    return service.why + tries + again


def _drift(service: ServiceReport) -> str:
    """How it differs from what the inventory says."""
    if not service.listed:
        return f"no longer in the inventory: inv stop --only {service.name}"
    if service.refused:
        return "what the inventory says of it now was not well: it runs as it was before"
    return "definition changed since it started" if service.stale else ""


def _checks(service: ServiceReport) -> str:
    if service.owner and service.state == "foreign":
        return f"port {service.port} is held by {service.owner}"
    failed = [reading for reading in service.probes if reading.ok is False]
    unknown = [reading for reading in service.probes if reading.ok is None]
    if failed:
        return "; ".join(_distinct_faults(failed)).replace("\n", " ")
    passed = len(service.probes) - len(unknown)
    said = f"{passed} of {len(service.probes)} ok" if service.probes else ""
    said += "".join(f"; {reading.name} could not be asked: {reading.detail}" for reading in unknown)
    if service.wanted != "up":
        said = "; ".join(part for part in (said, f"wanted {service.wanted}") if part)
    return "; ".join(part for part in (said, _trouble(service), _drift(service)) if part)


def _distinct_faults(failed: Sequence[Reading]) -> list[str]:
    """What is wrong, without what follows from it: where nothing listens, every connection is refused."""
    if any("nothing listens" in reading.detail for reading in failed):
        failed = [reading for reading in failed if "refused" not in reading.detail]
    return [f"{reading.name}: {reading.detail}" for reading in failed]


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A table in plain text, as narrow as it can be; the names of services marked with * are critical."""
    from tabulate import tabulate

    lines = [list(heads), *(["" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(len(_ESCAPES.sub("", cell)) for cell in column) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [line.rstrip() for line in tabulate(lines, tablefmt="plain", disable_numparse=True).splitlines()]


def columns() -> int:
    """The columns of the terminal that standard output is; in a pipe, a number that most have."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    except (OSError, ValueError):
        return _PIPE_WIDTH


def duration(seconds: float | None) -> str | None:
    """`4 s`, `12 min`, `3 h 20 min`, `5 d 2 h`."""
    if seconds is None:
        return None
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 1:
        return f"{int(seconds)} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


def size(amount: int | None) -> str | None:
    """`18.4 MB`; a megabyte has 2**20 bytes, as ps and top have it."""
    return None if amount is None else f"{amount / 2**20:.1f} MB"


# -- logs ----------------------------------------------------------------------------------------------------


def log_line(name: str, text: str, names: Sequence[str]) -> str:
    """A line of a followed log; with several logs, its name in a colour of its own in front."""
    if len(names) < 2:
        return text
    width = max(len(one) for one in names)
    return coloured(f"{name:<{width}} |", _NAME_COLOURS[list(names).index(name) % len(_NAME_COLOURS)]) + f" {text}"


def log_document(host: str, name: str, text: str) -> str:
    """A line of a followed log as a line of JSON."""
    return json.dumps({"schema": SCHEMA, "host": host, "service": name, "line": text})


def error_lines(lines: Sequence[str]) -> list[str]:
    """An error as people read it, on standard error."""
    head, *rest = lines
    return [coloured("error:", "red", sys.stderr) + f" {head}", *(f"  {line}" for line in rest)]


def mapping_line(values: Mapping[str, Any]) -> str:
    """One JSON document on one line."""
    return json.dumps(dict(values))
