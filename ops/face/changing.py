"""Running a task that changes things: outcomes shown as they come, the recap, the exit code.

Knows: when what is printed. Must not know: what a verb does.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace

from ops import inventory, render
from ops.errors import Interrupted, OpsError
from ops.fleet import reach
from ops.model import Inventory, Outcome
from ops.operations.verbs import Request

_NO_MONITOR = "no monitor runs: this version has none yet, so what dies now stays down until inv start"


def change(request: Request, json: bool, *, show_health: bool) -> int:
    """Carries the request out and shows it; the exit code: 0, or 2 when something failed."""
    loaded = inventory.load(inventory.locate())
    shown = _Shown(loaded, request, json)
    try:
        outcomes, notes = reach.send(loaded, request, shown.done, shown.waiting)
    except (OpsError, KeyboardInterrupt) as error:
        return shown.broken_off(error)
    shown.finish(outcomes, notes)
    if show_health and not request.check:
        _show_health(loaded, request, json, notes)
    shown.recap(outcomes)
    return 2 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _show_health(loaded: Inventory, request: Request, json: bool, notes: list[str]) -> None:
    """A start ends with what one wants to know next; with --json standard output is for the one document."""
    if json:
        print(_NO_MONITOR, file=sys.stderr)
        return
    report = reach.health(loaded, Request("health", request.only))
    report = replace(report, warnings=tuple(text for text in report.warnings if text not in notes))
    print("\n" + "\n".join(render.health_lines(report)) + "\n")
    print(f"{_NO_MONITOR}\n")


class _Shown:
    """What has been shown so far of one request; outcomes come from several threads."""

    def __init__(self, loaded: Inventory, request: Request, json: bool) -> None:
        self._json = json
        self._request = request
        self._host = reach.here(loaded)
        self._width = max((len(service.name) for service in self._host.services), default=8)
        self._progress = render.Progress(time.monotonic)
        self._lock = threading.Lock()
        self._seen: list[Outcome] = []

    def done(self, outcome: Outcome) -> None:
        with self._lock:
            self._seen.append(outcome)
            self._progress.clear()
            if not self._json:
                print("\n".join(render.outcome_lines(outcome, self._width)), flush=True)

    def waiting(self, service: str, what: str) -> None:
        with self._lock:
            self._progress.waiting(service, what)

    def finish(self, outcomes: list[Outcome], notes: list[str]) -> None:
        self._progress.clear()
        if self._json:
            print(render.outcome_document(self._request.task, self._request.check, outcomes), flush=True)
        for note in notes:
            print(render.coloured(f"note: {note}", "yellow", sys.stderr), file=sys.stderr)

    def recap(self, outcomes: list[Outcome]) -> None:
        if not self._json:
            print("\n".join(render.recap_lines(outcomes, [self._host.name])), flush=True)

    def broken_off(self, error: BaseException) -> int:
        """After Ctrl-C or an error: what was done until then, and what to do next; the exit code."""
        if isinstance(error, KeyboardInterrupt):
            error = Interrupted("interrupted", next=f"inv {self._request.task} carries on from here")
        if not isinstance(error, OpsError):
            raise error
        self._progress.clear()
        text = "\n".join(error.lines())
        if self._json:
            print(render.outcome_document(self._request.task, self._request.check, self._seen, text), flush=True)
        elif self._seen:
            self.recap(self._seen)
        for line in render.error_lines(error.lines()):
            print(line, file=sys.stderr)
        return error.exit_code
