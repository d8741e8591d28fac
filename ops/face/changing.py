"""Running a task that changes things: outcomes shown as they come, the recap, the exit code.

Knows: when what is printed. Must not know: what a verb does.
"""

from __future__ import annotations

import sys
import threading
import time

from ops import inventory, render
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
    except BaseException:
        shown.interrupted()
        raise
    shown.finish(outcomes, notes)
    if show_health and not request.check:
        _show_health(loaded, request, json)
    shown.recap(outcomes)
    return 2 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _show_health(loaded: Inventory, request: Request, json: bool) -> None:
    """A start ends with what one wants to know next; with --json only standard output's one document counts."""
    if json:
        return
    report = reach.health(loaded, Request("health", request.only))
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

    def interrupted(self) -> None:
        """A partial recap: what was done before Ctrl-C, or before the error."""
        self._progress.clear()
        if self._seen:
            self.recap(self._seen)
