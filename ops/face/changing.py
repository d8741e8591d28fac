"""Running a task that changes things: outcomes shown as they come, the recap, the exit code.

Knows: when what is printed. Must not know: what a verb does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from ops import inventory, render
from ops.errors import Interrupted, OpsError
from ops.face.colour import coloured
from ops.face.progress import Progress
from ops.fleet import reach
from ops.model import Inventory, Outcome
from ops.operations.verbs import Request


def change(request: Request, json: bool, *, show_health: bool) -> int:
    """Carries the request out and shows it; the exit code: 0, or 2 when an outcome is `failed`.

    Watched-only probes (`restart: false`) gate no start: what they find is shown, and is the exit code of `health`."""
    begun = time.monotonic()
    loaded = inventory.load(inventory.locate())
    shown = _Shown(loaded, request, json)
    try:
        outcomes, notes = reach.send(loaded, request, shown.done, shown.waiting)
        shown.finish(outcomes, notes)
        if show_health and not request.check:
            left = None if request.timeout is None else request.timeout - (time.monotonic() - begun)
            _close_with_health(shown, loaded, request, left, notes)
    except (OpsError, KeyboardInterrupt) as error:
        return shown.broken_off(error)
    shown.recap(outcomes)
    return 2 if shown.lost or any(outcome.state == "failed" for outcome in outcomes) else 0


def _close_with_health(
    shown: _Shown, loaded: Inventory, request: Request, left: float | None, notes: list[str]
) -> None:
    """A start ends with what one wants to know next: how the requested services are. `left` of --timeout bounds each
    probe, to a second at least. With --json standard output is for the one document."""
    if shown.json:
        return
    timeout = None if left is None else max(1.0, left)
    report = reach.health(loaded, Request("health", request.only, timeout=timeout))
    report = replace(report, warnings=tuple(text for text in report.warnings if text not in notes))
    shown.say(["", *render.health_lines(report), ""])


class _Shown:
    """What has been shown so far of one request; outcomes come from several threads."""

    def __init__(self, loaded: Inventory, request: Request, json: bool) -> None:
        self.json = json
        self._request = request
        self._host = reach.here(loaded)
        self._width = max((len(service.name) for service in self._host.services), default=8)
        self._progress = Progress(time.monotonic)
        self._lock = threading.Lock()
        self._seen: list[Outcome] = []
        self._finished = False  # whether the one document was printed
        self.lost = False  # whether something could not be printed that somebody would have read

    def say(self, lines: Sequence[str]) -> None:
        """Prints. A full disk, or a reader that is gone (`| head -1`), must not stop what is being done (law 7)."""
        try:
            print("\n".join(lines), flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno != errno.EPIPE:
                self.lost = True
                self.remark(f"standard output cannot be written: {error.strerror}")

    def remark(self, line: str) -> None:
        """Prints to standard error, if that is possible."""
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    def done(self, outcome: Outcome) -> None:
        with self._lock:
            self._seen.append(outcome)
            self._progress.clear()
            if not self.json:
                self.say(render.outcome_lines(outcome, self._width))

    def waiting(self, service: str, what: str) -> None:
        if self._progress.enabled:  # asked before the lock, for which a hundred starting services would queue up
            with self._lock:
                self._progress.waiting(service, what)

    def finish(self, outcomes: list[Outcome], notes: list[str]) -> None:
        self._progress.clear()
        self._finished = True
        if self.json:
            self.say([render.outcome_document(self._request.task, self._request.check, outcomes)])
        for note in notes:
            self.remark(coloured(f"note: {note}", "yellow", sys.stderr))

    def recap(self, outcomes: list[Outcome]) -> None:
        if self.json:
            return
        check = ["check only: nothing was touched"] if self._request.check else []
        self.say([*check, *render.recap_lines(outcomes, [self._host.name])])

    def broken_off(self, error: BaseException) -> int:
        """After Ctrl-C or an error: what was done until then, and what to do next; the exit code."""
        with self._lock:
            self._progress.end()
        if isinstance(error, KeyboardInterrupt | Interrupted):
            error = Interrupted("interrupted", next=carrying_on(self._request))
        if not isinstance(error, OpsError):
            raise error
        text = "\n".join(error.lines())
        if self._finished:
            self.recap(self._seen)
        elif self.json:
            self.say([render.outcome_document(self._request.task, self._request.check, self._seen, text)])
        elif self._seen:
            self.recap(self._seen)
        for line in render.error_lines(error.lines()):
            self.remark(line)
        return error.exit_code


def carrying_on(request: Request) -> str:
    """The line that carries on with what was interrupted. What a restart or reset has ended is started; what it has
    not reached is left as it is."""
    task = "start" if request.task in ("restart", "restart-one", "reset") else request.task
    words = ["inv", task]
    if task == "kill-port":
        words += [str(request.options["port"])] + (["--force"] if request.options.get("force") else [])
    elif task in ("hold", "release"):
        words += request.only
    elif request.only:
        words += ["--only", ",".join(request.only)]
    words += ["--refresh-env"] if request.task == "start" and request.options.get("refresh_env") else []
    return " ".join(words + (["--check"] if request.check else []))
