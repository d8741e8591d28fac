"""Running a task that only looks: status, health, report, tail, alerts.

Knows: when what is printed. Must not know: how it is found out.
"""

from __future__ import annotations

import select
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ops import render
from ops.face import loading
from ops.fleet import reach
from ops.model import LOCALHOST
from ops.operations.verbs import Request

if TYPE_CHECKING:
    from ops.operations.look import HostReport


def report(request: Request, json: bool, watch: float | None) -> int:
    """Shows status or health, once or every `watch` seconds; exit code 2 when something is not well. A warning about
    the inventory is said once, unless the screen that it stood on is cleared."""
    code, told = _report_once(request, json, "", ())
    try:
        while watch is not None:
            time.sleep(watch)
            code, told = _report_once(request, json, "\033[H\033[2J" if sys.stdout.isatty() else "\n", told)
    except KeyboardInterrupt:
        return 130
    return code


def _report_once(request: Request, json: bool, before: str, told: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """`told`: what was warned of the last time; the exit code and what is warned of now."""
    loaded = loading.load()
    if loaded.warning != told:
        loading.warn(loaded)
    look = reach.health if request.task == "health" else reach.status
    found = look(loaded.inventory, request)
    if loaded.warning:
        found = _without_the_monitors(found)
    if json:
        print(render.report_document(request.task, [found]), flush=True)
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    else:
        lines = render.health_lines(found) if request.task == "health" else render.status_lines(found)
        if before.strip() and sys.stderr.isatty():
            print(end=before, flush=True)
            loading.warn(loaded)
            before = ""
        print(before + "\n".join(lines), flush=True)
    return 0 if found.healthy else 2, loaded.warning


def _without_the_monitors(found: HostReport) -> HostReport:
    """Without its word on the inventory, when that was said already."""
    from ops.operations.look import watch_warnings

    said = watch_warnings(found.monitor)
    return replace(found, warnings=tuple(one for one in found.warnings if one not in said))


def kpis(request: Request, json: bool) -> int:
    """Shows how well the services did over a window. No check: the exit code is 0 also where targets were missed."""
    from ops.face import figures

    found = reach.report(loading.loaded_and_warned(), request)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(figures.document(found) if json else "\n".join(figures.lines(found)), flush=True)
    return 0


def tail(name: str, lines: int, follow: bool, json: bool) -> int:
    """Prints log lines until Ctrl-C, which is how following ends, or until the reader is gone."""
    loaded = loading.loaded_and_warned()
    names, found = reach.tail(loaded, name, lines, follow, _reader_gone, _complain)
    try:
        for key, text in found:
            line = render.log_document(LOCALHOST, key, text) if json else render.log_line(key, text, names)
            print(line, flush=follow)
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(name: str, why: str) -> None:
    print(f"{name}: {why}", file=sys.stderr, flush=True)


def _reader_gone() -> bool:
    """Whether nobody reads standard output any more; without asking, `inv tail all | head -1` would end only when
    the next line comes. (macOS; not run on a Mac.)"""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def alerts(lines: int, json: bool) -> int:
    """Prints the last alerts, newest last."""
    loaded = loading.loaded_and_warned()
    found = reach.alerts(loaded, lines)
    if json:
        print(render.mapping_line({"schema": 1, "task": "alerts", "hosts": {LOCALHOST: {"alerts": found}}}))
        return 0
    if found:
        print("\n".join(found))
        return 0
    print("no alerts so far (what was back in time is none: inv report, inv tail monitor)")
    if reach.status(loaded, Request("status")).monitor.state != "up":
        print("No monitor runs, which is who tells of what goes wrong.\n\nnext:   inv monitor-start")
    return 0
