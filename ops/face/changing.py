"""Running a task that changes things: outcomes shown as they come, the recap, the exit code.

Knows: when what is printed. Must not know: what a verb does.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from ops import inventory, render
from ops.errors import Interrupted, OpsError
from ops.face import afterwards, hosts
from ops.face.colour import coloured
from ops.face.given import Way
from ops.face.progress import Progress
from ops.fleet import reach
from ops.fleet.here import Tell
from ops.fleet.reach import Selection
from ops.model import Outcome
from ops.operations.verbs import Request


def change(request: Request, json: bool, way: Way, *, show_health: bool) -> int:
    """Carries the request out and shows it; the exit code: 0, 2 when an outcome is `failed`, 4 when a host was
    not reached.

    Watched-only probes (`restart: false`) gate no start: what they find is shown, and is the exit code of `health`."""
    begun = time.monotonic()
    selection = hosts.selected(inventory.load(inventory.locate()), way)
    reach.check_names(selection, request)
    shown = _Shown(selection, request, json, way)
    try:
        until = math.inf if request.timeout is None else begun + request.timeout
        outcomes, notes = _sent(selection, request, way, Tell(shown.done, shown.waiting, shown.cancelled, until))
        shown.finish(outcomes, notes)
        if show_health and not request.check:
            left = None if request.timeout is None else request.timeout - (time.monotonic() - begun)
            gone = {one.host for one in outcomes if afterwards.is_unwell(one) and one.service == afterwards.HOST}
            asked = replace(selection, hosts=tuple(host for host in selection.hosts if host.name not in gone))
            _close_with_health(shown, asked, request, left, notes)
    except (OpsError, KeyboardInterrupt) as error:
        return shown.broken_off(error)
    shown.recap(outcomes)
    if any(outcome.state == "unreachable" for outcome in outcomes):
        return 4
    return 2 if shown.lost or any(afterwards.is_unwell(outcome) for outcome in outcomes) else 0


def _sent(selection: Selection, request: Request, way: Way, tell: Tell) -> tuple[list[Outcome], list[str]]:
    if selection.alone and request.task != "bootstrap":
        (came,) = reach.ask(selection, request, tell)
        return list(came.answer.outcomes), list(came.answer.notes)
    from ops.fleet import rollout

    return rollout.send(selection, request, way.serial, way.most, tell)


def _close_with_health(
    shown: _Shown, selection: Selection, request: Request, left: float | None, notes: list[str]
) -> None:
    """A start ends with what one wants to know next: how the requested services are. `left` of --timeout bounds each
    probe, to a second at least. With --json standard output is for the one document."""
    if shown.json or not selection.hosts:
        return
    timeout = None if left is None else max(1.0, left)
    asked = reach.ask(selection, Request("health", request.only, timeout=timeout), Tell(cancelled=shown.cancelled))
    came = [one for one in asked if not one.skipped]
    reports = [hosts.report_of(one) for one in came]
    told = [replace(one, warnings=tuple(text for text in one.warnings if text not in notes)) for one in reports]
    shown.say(["", *hosts.lines(came, told, render.health_lines), ""])


class _Shown:
    """What has been shown so far of one request; outcomes come from several threads."""

    def __init__(self, selection: Selection, request: Request, json: bool, way: Way) -> None:
        self.json = json
        self.cancelled = threading.Event()
        self._request = request
        self._way = way
        self._hosts = [host.name for host in selection.hosts]
        self._named = selection.named
        names = [service.name for host in selection.hosts for service in host.services]
        self._host_width = 0 if selection.alone else max(map(len, self._hosts))
        names += ["inventory"] if self._host_width else []  # what else an outcome of a host may be about
        self._width = max(map(len, names), default=8)
        self._progress = Progress(time.monotonic)
        self._lock = threading.Lock()
        self._seen: list[Outcome] = []
        self._broken = False  # off, by Ctrl-C or an error
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
                self.say(render.outcome_lines(outcome, self._width, self._host_width))

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

    def _untold(self) -> list[str]:
        told = {outcome.host for outcome in self._seen}
        return [name for name in self._hosts if name not in told]

    def _carrying_on(self) -> str:
        if not self._named:
            return afterwards.carrying_on(self._request)
        return afterwards.after_interruption(self._request, self._way, self._hosts, self._untold())

    def recap(self, outcomes: list[Outcome]) -> None:
        if self.json:
            return
        check = ["check only: nothing was touched"] if self._request.check else []
        self.say([*check, *render.recap_lines(outcomes, self._hosts)])
        lines = afterwards.again(outcomes, self._request, self._way) if self._host_width else []
        if lines and not self._broken:
            self.say(["", *lines])

    def broken_off(self, error: BaseException) -> int:
        """After Ctrl-C or an error: what was done until then, and what to do next; the exit code."""
        with self._lock:
            self._progress.end()
        self._broken = True
        if isinstance(error, KeyboardInterrupt | Interrupted):
            error = Interrupted("interrupted", next=self._carrying_on())
        if not isinstance(error, OpsError):
            raise error
        if self._host_width and error.exit_code == 130:
            self._seen += [afterwards.interrupted(name, self._request.task) for name in self._untold()]
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
