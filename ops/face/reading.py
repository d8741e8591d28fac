"""Running a task that only looks: status, health, report, alerts.

Knows: when what is printed. Must not know: how it is found out.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ops import render
from ops.face import hosts, loading
from ops.face.colour import coloured
from ops.face.given import Way
from ops.face.progress import Progress
from ops.fleet import reach
from ops.fleet.here import Tell
from ops.fleet.reach import Came, Selection
from ops.operations.look import HostReport
from ops.operations.verbs import Request


def report(request: Request, json: bool, watch: float | None, way: Way) -> int:
    """Shows status or health, once or every `watch` seconds; exit code 2 when something is not well, 4 when a host was
    not reached. A warning about the inventory is said once, unless the screen that it stood on is cleared."""
    code, told = _report_once(request, json, way, "", ())
    try:
        while watch is not None:
            time.sleep(watch)
            code, told = _report_once(request, json, way, "\033[H\033[2J" if sys.stdout.isatty() else "\n", told)
    except KeyboardInterrupt:
        return 130
    return code


def _report_once(
    request: Request, json: bool, way: Way, before: str, told: tuple[str, ...]
) -> tuple[int, tuple[str, ...]]:
    """`told`: what was warned of the last time; the exit code and what is warned of now."""
    loaded = loading.load(here=not way.limit)
    if loaded.warning != told:
        loading.warn(loaded)
    came = _asked(hosts.selected(loaded.inventory, way), request)
    reports = [hosts.report_of(one) for one in came]
    if loaded.warning:
        reports = [_without_the_monitors(one) for one in reports]
    if json:
        _print_document(request, came, reports)
    else:
        if before.strip() and sys.stderr.isatty():
            print(end=before, flush=True)
            loading.warn(loaded)
            before = ""
        show = render.health_lines if request.task == "health" else render.status_lines
        print(before + "\n".join(hosts.lines(came, reports, show)), flush=True)
    return hosts.exit_code(came, healthy=all(one.healthy for one in reports)), loaded.warning


def _asked(selection: Selection, request: Request) -> list[Came]:
    """What came of those that it is about."""
    reach.check_names(selection, request)
    until = math.inf if request.timeout is None else time.monotonic() + request.timeout
    progress = Progress(time.monotonic)
    lock = threading.Lock()

    def waiting(service: str, what: str) -> None:
        with lock:
            progress.waiting(service, what)

    try:
        came = reach.ask(selection, request, Tell(until=until, waiting=waiting))
    finally:
        progress.end()
    return [one for one in came if not one.skipped]


def _print_document(request: Request, came: Sequence[Came], reports: Sequence[HostReport]) -> None:
    print(render.report_document(request.task, reports), flush=True)
    for host, one in zip((one.host for one in came), reports, strict=True):
        for warning in [*one.warnings, *([one.error] if one.error else [])]:
            local = host.connection == "local"
            print(f"warning: {warning if local else f'{one.name}: {hosts.limited(warning, host)}'}", file=sys.stderr)


def _without_the_monitors(found: HostReport) -> HostReport:
    """Without its word on the inventory, when that was said already."""
    from ops.operations.look import watch_warnings

    said = watch_warnings(found.monitor)
    return replace(found, warnings=tuple(one for one in found.warnings if one not in said))


def kpis(request: Request, json: bool, way: Way) -> int:
    """Shows how well the services did over a window. No check: the exit code is 0 also where targets were missed."""
    from ops.face import figures

    came = _asked(hosts.selected(loading.loaded_and_warned(here=not way.limit), way), request)
    for one in came:
        for warning in one.answer.found.warnings if one.error is None else ():
            print(f"warning: {warning}", file=sys.stderr)
    found = {one.host.name: hosts.report_of(one).error if one.error else one.answer.found for one in came}
    print(figures.document(found) if json else "\n".join(figures.lines(found)), flush=True)
    return hosts.exit_code(came)


def alerts(lines: int, json: bool, way: Way) -> int:
    """Prints the last alerts, newest last; of several hosts in the order of their times."""
    selection = hosts.selected(loading.loaded_and_warned(here=not way.limit), way)
    came = reach.ask(selection, Request("alerts", options={"lines": lines}), Tell())
    if json:
        found = {one.host.name: _alerts_value(one) for one in came}
        print(render.mapping_line({"schema": 1, "task": "alerts", "hosts": found}))
        return hosts.exit_code(came)
    for one in came:
        if one.error is not None:
            print(coloured(f"{one.host.name}: {hosts.report_of(one).error}", "red", sys.stderr), file=sys.stderr)
    told = [(text, one.host.name) for one in came for text in one.answer.found or ()]
    if told:
        several = len(came) > 1
        print("\n".join(f"{name}: {text}" if several else text for text, name in sorted(told)[-lines:]))
    elif all(one.error is None for one in came):
        _no_alerts(selection)
    return hosts.exit_code(came)


def _alerts_value(came: Came) -> dict[str, Any]:
    error = {"error": hosts.report_of(came).error} if came.error is not None else {}
    return {"alerts": list(came.answer.found or ()), **error}


def _no_alerts(selection: Selection) -> None:
    print("no alerts so far (what was back in time is none: inv report, inv tail monitor)")
    came = reach.ask(selection, Request("status"), Tell())
    if any(one.error is None and one.answer.found.monitor.state != "up" for one in came):
        print("No monitor runs, which is who tells of what goes wrong.\n\nnext:   inv monitor-start")
