"""Running a task that only looks: status, health, report, tail, alerts.

Knows: when what is printed. Must not know: how it is found out.
"""

from __future__ import annotations

import select
import sys
import time

from ops import inventory, render
from ops.fleet import reach
from ops.model import LOCALHOST
from ops.operations.verbs import Request


def report(request: Request, json: bool, watch: float | None) -> int:
    """Shows status or health, once or every `watch` seconds; exit code 2 when something is not well."""
    code = _report_once(request, json, "")
    try:
        while watch is not None:
            time.sleep(watch)
            code = _report_once(request, json, "\033[H\033[2J" if sys.stdout.isatty() else "\n")
    except KeyboardInterrupt:
        return 130
    return code


def _report_once(request: Request, json: bool, before: str) -> int:
    loaded = inventory.load(inventory.locate())
    look = reach.health if request.task == "health" else reach.status
    found = look(loaded, request)
    if json:
        print(render.report_document(request.task, [found]), flush=True)
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    else:
        lines = render.health_lines(found) if request.task == "health" else render.status_lines(found)
        print(before + "\n".join(lines), flush=True)
    return 0 if found.healthy else 2


def kpis(request: Request, json: bool) -> int:
    """Shows how well the services did over a window. No check: the exit code is 0 also where targets were missed."""
    from ops.face import figures

    found = reach.report(inventory.load(inventory.locate()), request)
    print(figures.document(found) if json else "\n".join(figures.lines(found)), flush=True)
    return 0


def tail(name: str, lines: int, follow: bool, json: bool) -> int:
    """Prints log lines until Ctrl-C, which is how following ends, or until the reader is gone."""
    loaded = inventory.load(inventory.locate())
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
    loaded = inventory.load(inventory.locate())
    found = reach.alerts(loaded, lines)
    if json:
        print(render.mapping_line({"schema": 1, "task": "alerts", "hosts": {LOCALHOST: {"alerts": found}}}))
        return 0
    print("\n".join(found) if found else "no alerts")
    return 0
