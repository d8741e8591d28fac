"""The history: what happened to the services, kept so that a report can tell it, and never in anybody's way.

Knows: what waits to be written, and what becomes of it when the disk is full, the file locked, broken or gone. Must
not know: SQL beyond its inserts, what is made of the rows.

Law 7: no method raises for the database or the disk. `fault` says what is wrong ("" when nothing is), and
`dropped` counts what was lost. Between two calls of `flush` nothing touches the disk. After a flush that failed,
samples are dropped, and changes and events wait for the next one, a bounded number of them; where changes had to go,
the time is written down as unknown, so it never counts as up.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.memory.history_file import Broken, Database, Fault, faults, put_aside
from ops.memory.history_past import Change, Event, Past, Responses, Use
from ops.memory.history_read import read
from ops.memory.history_thin import give_back, thin
from ops.model import ServiceState, Wanted

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Change", "Event", "History", "Past", "Responses", "Use", "read"]

_JITTER = 1.0  # seconds: a smaller step back of the clock is none
_WAITING_ROWS = 5_000  # changes, and events, that wait for a disk
_WAITING_SAMPLES = 20_000
_WAITING_WATCHES = 1_000
_LONGEST_TEXT = 300  # characters of a reason or a detail
_LARGEST = 2**62  # bytes; SQLite's integers have 64 bits


class _Sample(NamedTuple):
    at: float
    service: str
    seconds: float | None
    cpu_percent: float | None
    rss: int | None


_UNTOLD = 15.0  # seconds; a living monitor says every 10 that it watches


@dataclass
class _Watch:
    """A watching interval. `row` is its row once it was stored, `stored` the end that the row tells."""

    began: float
    ended: float
    row: int | None = None
    stored: float = -math.inf


class History:
    """The one writer; one thread uses it. Times are seconds since the epoch. Nothing is opened before the first flush.

    A change tells what is in force from then on. After a `begin` the state of every service is to be told anew, since
    it may have changed unseen; until then the one from before the gap is taken to hold on."""

    def __init__(self, path: str) -> None:
        self.fault = ""
        self.dropped = 0
        self._path = path
        self._notice = ""
        self._database: Database | None = None
        self._watches: list[_Watch] = []
        self._changes: list[tuple[str, Change]] = []
        self._events: list[Event] = []
        self._samples: list[_Sample] = []
        self._stored: dict[str, Change] = {}  # the last one of each service
        self._retold: dict[str, Change] = {}  # the same for a database just opened, which may be another one
        self._latest = -math.inf
        self._before: float | None = None

    def begin(self, at: float, before: float | None = None) -> None:
        """The monitor begins to watch: after its start, a sleep, a jump of the clock. The time since it last watched
        is unknown. Was the clock set back, what is known of the services is told again at the new time.

        `before`: the last heartbeat of the monitor before it, which watched until then though it could not say so."""
        if not self._is_time(at):
            return
        self._before = before
        if at < self._latest:
            self._tell_again(at)
        self._latest = at
        self._watches.append(_Watch(at, at))
        self.dropped += _cut(self._watches, _WAITING_WATCHES)

    def watching(self, at: float) -> None:
        """It still watches; where it never began, it begins now."""
        if not self._is_time(at):
            return
        if not self._watches or at < self._watches[-1].ended - _JITTER:
            self.begin(at)
        self._watches[-1].ended = max(self._watches[-1].ended, at)
        self._latest = max(self._latest, at)

    def state(
        self, at: float, service: str, state: ServiceState, wanted: Wanted, planned: bool = False, why: str = ""
    ) -> None:
        """A service went over into a state, or something else is wanted of it. `planned`: it is a command's work."""
        if not self._is_time(at):
            return
        self._changes.append((_clean(service), Change(float(at), state, wanted, planned, _clean(why))))
        self._latest = max(self._latest, at)
        if len(self._changes) > _WAITING_ROWS:
            self._forget_changes()

    def event(self, at: float, service: str, kind: str, detail: str = "") -> None:
        """Something worth a line; the service "" is the stack."""
        if not self._is_time(at):
            return
        self._events.append(Event(float(at), _clean(service), _clean(kind), _clean(detail)))
        self.dropped += _cut(self._events, _WAITING_ROWS)

    def sample(
        self,
        at: float,
        service: str,
        *,
        seconds: float | None = None,
        cpu_percent: float | None = None,
        rss: int | None = None,
    ) -> None:
        """The response time of one good answer, the use of the machine by the service's whole tree, or both."""
        if not self._is_time(at):
            return
        self._samples.append(_Sample(float(at), _clean(service), _number(seconds), _number(cpu_percent), _size(rss)))
        self.dropped += _cut(self._samples, _WAITING_SAMPLES)

    def flush(self) -> None:
        """Writes what waits, in one transaction. Unless `fault` tells otherwise it survives a power cut from here."""
        if not self._is_waiting():
            return
        if not self._succeeds(self._store):
            self.dropped += len(self._samples)
            self._samples.clear()

    def prune(self, at: float) -> None:
        """Thins what is old and gives its space back; see history_thin for what is kept how long. About once an hour.
        One transaction: interrupted anywhere, it has lost and doubled nothing."""
        if self._is_time(at):
            self._succeeds(lambda database: _thin(database, at))

    def close(self) -> None:
        """Writes what waits and lets go of the file."""
        self.flush()
        self._let_go()

    # -- what waits ---------------------------------------------------------------------------------------------

    def _is_time(self, at: float) -> bool:
        known = math.isfinite(at) and at >= 0
        self.dropped += not known
        return known

    def _is_waiting(self) -> bool:
        return bool(self._changes or self._events or self._samples) or any(
            watch.stored != watch.ended for watch in self._watches
        )

    def _tell_again(self, at: float) -> None:
        for service, change in {**self._stored, **dict(self._changes)}.items():
            self._changes.append((service, replace(change, at=at)))

    def _forget_changes(self) -> None:
        """The older half goes. One change per service stays in its place and says that the state is unknown."""
        half = len(self._changes) // 2
        gone, self._changes = self._changes[:half], self._changes[half:]
        first = dict(reversed(gone))
        marks = [(name, Change(one.at, "unknown", "up", False, "not recorded")) for name, one in first.items()]
        self._changes[:0] = sorted(marks, key=lambda mark: mark[1].at)
        self.dropped += len(gone) - len(marks)

    # -- the database -------------------------------------------------------------------------------------------

    def _succeeds(self, work: Callable[[Database], None]) -> bool:
        """Does it, in a new database where the old one proves broken. What went wrong is in `fault`."""
        self._notice = ""
        try:
            try:
                self._do(work)
            except Broken as broken:
                self._replace(broken)
                self._do(work)
        except Fault as fault:
            self.fault = f"the history cannot be written: {fault}"
            if self._database and self._database.stuck:
                self._let_go()
            return False
        self.fault = self._notice
        return True

    def _do(self, work: Callable[[Database], None]) -> None:
        with faults():
            work(self._opened())

    def _opened(self) -> Database:
        if self._database and self._database.replaced:
            self._let_go()
        if self._database is None:
            self._database = Database(self._path)
            self._retold = dict(self._stored)
            for watch in self._watches:
                watch.row = None
        return self._database

    def _replace(self, broken: Broken) -> None:
        self._let_go()
        with faults():
            aside = put_aside(self._path)
        self._notice = f"the history was broken ({broken}); it was put aside as {aside} and a new one begun"
        if math.isfinite(self._latest):
            self.event(self._latest, "", "history", self._notice)

    def _let_go(self) -> None:
        if self._database:
            with contextlib.suppress(Fault), faults():
                self._database.close()
        self._database = None

    def _store(self, database: Database) -> None:
        with database.transaction() as connection:
            _prolong(connection, self._before)
            rows = [_store_watch(connection, watch) for watch in self._watches]
            _insert_changes(connection, [*self._retold.items(), *self._changes])
            _insert_events(connection, self._events)
            _insert_samples(connection, self._samples)
        self._committed(rows)

    def _committed(self, rows: list[int]) -> None:
        for watch, row in zip(self._watches, rows, strict=True):
            watch.row, watch.stored = row, watch.ended
        self._before = None
        self._retold = {}
        self._stored.update(self._changes)
        for waiting in (self._changes, self._events, self._samples):
            waiting.clear()
        del self._watches[:-1]


def _prolong(connection: sqlite3.Connection, until: float | None) -> None:
    """The last interval that was stored, by what its monitor had not told yet."""
    if until is not None:
        last = "id = (SELECT max(id) FROM watch) AND ended < ? AND ended >= ?"
        connection.execute(f"UPDATE watch SET ended = ? WHERE {last}", (until, until, until - _UNTOLD))


def _store_watch(connection: sqlite3.Connection, watch: _Watch) -> int:
    """Its row, new where it has none, or where its row was thinned away."""
    if watch.row is not None:
        done = connection.execute("UPDATE watch SET ended = ? WHERE id = ?", (watch.ended, watch.row))
        if done.rowcount:
            return watch.row
    return int(
        connection.execute("INSERT INTO watch(began, ended) VALUES(?, ?)", (watch.began, watch.ended)).lastrowid or 0
    )


def _insert_changes(connection: sqlite3.Connection, changes: list[tuple[str, Change]]) -> None:
    connection.executemany(
        "INSERT INTO state(at, service, state, wanted, planned, why) VALUES(?, ?, ?, ?, ?, ?)",
        [(one.at, service, one.state, one.wanted, int(one.planned), one.why) for service, one in changes],
    )


def _insert_events(connection: sqlite3.Connection, events: list[Event]) -> None:
    connection.executemany(
        "INSERT INTO event(at, service, kind, detail) VALUES(?, ?, ?, ?)",
        [(one.at, one.service, one.kind, one.detail) for one in events],
    )


def _insert_samples(connection: sqlite3.Connection, samples: list[_Sample]) -> None:
    connection.executemany("INSERT INTO sample(at, service, seconds, cpu, rss) VALUES(?, ?, ?, ?, ?)", samples)


def _thin(database: Database, at: float) -> None:
    with database.transaction() as connection:
        thin(connection, at)
    give_back(database.connection)


def _cut(waiting: list[Any], most: int) -> int:
    """Drops the oldest beyond `most`; how many."""
    over = max(0, len(waiting) - most)
    del waiting[:over]
    return over


def _clean(text: str) -> str:
    """Bounded, and without the lone surrogates of undecodable names, which SQLite cannot take."""
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _size(value: float | None) -> int | None:
    known = _number(value)
    return None if known is None else int(max(0.0, min(known, _LARGEST)))
