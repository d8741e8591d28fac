"""What the monitor writes down: its own log, the history, alerts. In threads of its own, so that a slow disk or a
channel that hangs delays no restart.

Knows: where each kind of thing is kept. Must not know: what leads to it.
"""

from __future__ import annotations

import collections
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import field, replace
from typing import Any, NamedTuple

from ops.frozen import frozen
from ops.memory.files import append_line, now
from ops.memory.history import History
from ops.memory.state import State
from ops.model import Host, ServiceState, Wanted
from ops.watch import alerts
from ops.watch.causes import Telling
from ops.watch.crew import Crew

_SOON = 0.2  # seconds until events are on the disk
_WAITING = 10_000  # lines, and samples, that wait at most while a disk hangs; the oldest go
_THIN_EVERY = 3600.0

Echo = Callable[[str, str, str], None]  # (service, event, detail), for a monitor in the foreground


class _Job(NamedTuple):
    """Something to be written. `service`: whose change of state it is, seconds since the epoch; "" for all else."""

    write: Callable[[], Any]
    service: str = ""
    at: float = 0.0


@frozen
class _Line:
    """An alert on its way into the alerts log."""

    telling: Telling
    alert: alerts.Alert
    settings: alerts.Settings
    written: threading.Event = field(default_factory=threading.Event)


class Scribe:
    """Hands what happened to a thread that writes. No method waits or raises."""

    def __init__(self, host: Host, state: State, echo: Echo | None = None) -> None:
        self.written_down: Callable[[Telling], None] = lambda telling: None  # told by the thread, of the alerts log
        self._host = host
        self._state = state
        self._echo = echo
        self._log = state.log("monitor")
        self._history = History(f"{state.path}/history.db")
        self._jobs: collections.deque[_Job] = collections.deque()
        self._samples: collections.deque[tuple[float, str, dict[str, Any]]] = collections.deque(maxlen=_WAITING)
        self._unwritten: collections.deque[_Line] = collections.deque(maxlen=_WAITING)
        self._alerts_fault: list[str] = []
        self._unknown: dict[str, float] = {}  # services whose changes had to go, and from when on
        self._lost = 0
        self._due = float("inf")  # when what was written is to be on the disk
        self._woken = threading.Event()
        self._closing = False
        self._thinned = time.monotonic()
        self._fault = ""
        self._herald = Crew("herald", 1, lambda ticket, result, error: self._delivered(result or [], error))
        self._thread = threading.Thread(target=self._write, name="scribe", daemon=True)
        self._thread.start()

    def settle(self, host: Host) -> None:
        """The inventory was read anew."""
        self._host = host

    # -- what happened ----------------------------------------------------------------------------------------

    def event(self, service: str, kind: str, detail: str = "") -> None:
        """One line of the log and of the history."""
        at, stamp = time.time(), now()
        if self._echo:
            self._echo(service, kind, detail)
        line = f"{stamp} {service or self._host.stack.name} {kind}" + (f": {detail}" if detail else "")

        def write() -> None:
            append_line(self._log, line, fsync=False)
            self._history.event(at, service, kind, detail)

        self._put(write)

    def state(
        self, service: str, state: ServiceState, wanted: Wanted, *, planned: bool, why: str, at: float | None = None
    ) -> None:
        """It came into a state, now or at a moment before."""
        moment = time.time() if at is None else at
        write = functools.partial(self._history.state, moment, service, state, wanted, planned, why)
        self._put(write, job=_Job(write, service, moment))

    def sample(self, service: str, **values: Any) -> None:
        """A response time, or the use of the machine. It is written together with whatever comes next."""
        self._lost += len(self._samples) == _WAITING
        self._samples.append((time.time(), service, values))
        if len(self._samples) == _WAITING // 2:
            self._woken.set()

    def watching(self, *, anew: bool = False, before: float | None = None) -> None:
        """That the monitor watches at this moment; `anew`: it has not until now, or the clock has jumped. `before`:
        the last heartbeat (seconds since the epoch) of the monitor before this one."""
        at, history = time.time(), self._history
        self._put((lambda: history.begin(at, before)) if anew else (lambda: history.watching(at)), 0.0)

    def tell(self, telling: Telling) -> None:
        """An alert, or its end: to the log and the history, and through every channel."""
        kind = "alert" if telling.severity == "critical" else "resolved"
        self.event(telling.service, kind, telling.text)
        stack = self._host.stack.name
        following = f"inv tail {telling.service}" if telling.service else "inv health"
        following = following if kind == "alert" else ""
        alert = alerts.Alert(now(), telling.severity, stack, telling.service, telling.text, telling.key, following)
        settings = alerts.settings_of(self._host, self._state)
        # The log first, by the thread that is waited for in the end: a program that hangs must not keep it.
        self._put(functools.partial(self._write_alert, _Line(telling, alert, settings)))
        others = alerts.CHANNELS.keys() - {"log"}
        self._herald.hand(None, lambda: alerts.deliver(alert, settings, others))

    def close(self, within: float) -> None:
        """Writes what is left, for at most that many seconds."""
        self._closing = True
        self._woken.set()
        self._thread.join(within)

    def _put(self, write: Callable[[], Any], within: float = _SOON, job: _Job | None = None) -> None:
        """Has it written, and on the disk within that many seconds. Of a service whose change has to go it is written
        that its state is unknown from then on: it must never count as up."""
        if len(self._jobs) >= _WAITING:
            gone = self._jobs.popleft()
            self._lost += 1
            if gone.service:
                self._unknown.setdefault(gone.service, gone.at)
        self._jobs.append(job or _Job(write))
        self._due = min(self._due, time.monotonic() + within)
        self._woken.set()

    # -- in the thread ----------------------------------------------------------------------------------------

    def _write(self) -> None:
        while not self._closing or self._jobs or self._samples:
            if not self._closing:
                self._woken.wait(max(0.0, min(self._due - time.monotonic(), _THIN_EVERY)))
            self._woken.clear()
            due = time.monotonic() >= self._due
            if due:  # said before the jobs are done: what comes meanwhile sets it anew
                self._due = float("inf")
            self._do_all()
            if due:
                self._flush()
        self._flush()
        self._history.close()

    def _do_all(self) -> None:
        while self._jobs:
            self._do(self._jobs.popleft().write)
        while self._unknown:
            service, at = self._unknown.popitem()
            self._history.state(at, service, "unknown", "up", why="not recorded")
        while self._samples:
            at, service, values = self._samples.popleft()
            self._history.sample(at, service, **values)

    def _write_alert(self, line: _Line) -> None:
        self._unwritten.append(line)
        self._write_alerts()

    def _write_alerts(self) -> None:
        """To the alerts log, in their order; what it does not take is tried again later."""
        while self._unwritten:
            line = self._unwritten[0]
            if not line.written.is_set():  # else a disk that hung has taken it after all
                settings = replace(line.settings, written=line.written.set)
                faults = alerts.deliver(line.alert, settings, ["log"])
                if faults != self._alerts_fault:
                    self._alerts_fault = faults
                    self._delivered(faults, None)
            if not line.written.is_set():
                return
            self._unwritten.popleft()
            self.written_down(line.telling)

    def _do(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - one line that cannot be written must not end all others
            append_line(self._log, f"{now()} scribe {type(error).__name__}: {error}", fsync=False)

    def _flush(self) -> None:
        if self._unwritten:
            self._do(self._write_alerts)
        if self._lost:
            lost, self._lost = self._lost, 0
            append_line(self._log, f"{now()} scribe {lost} lines were lost: the disk did not take them", fsync=False)
        self._history.flush()
        if self._history.fault != self._fault:
            self._fault = self._history.fault
            words = f"not kept: {self._fault}" if self._fault else "kept again"
            append_line(self._log, f"{now()} history {words}", fsync=False)
        if time.monotonic() - self._thinned > _THIN_EVERY:
            self._thinned = time.monotonic()
            self._history.prune(time.time())

    def _delivered(self, faults: list[str], error: BaseException | None) -> None:
        for fault in faults if error is None else [str(error)]:
            self.event("", "channel", fault)
