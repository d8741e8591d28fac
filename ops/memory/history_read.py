"""Reads the history: a window of it as plain values.

Knows: the tables, one consistent look at them, what to do where SQLite's own read-only mode fails. Must not know:
who writes, what is computed from the values.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.memory.files import version
from ops.memory.history_file import Broken, Fault, faults, has_tables, open_reader
from ops.memory.history_past import Change, Event, Past, Responses, Use, disjoint, in_order_of_time
from ops.memory.history_thin import Hour, hour_from

if TYPE_CHECKING:
    import sqlite3


_COPIES = 3  # tries to copy it while nobody writes


def read(path: str, since: float, until: float) -> Past:
    """What the history tells of a window. A missing file is an empty Past. OpsError when it cannot be read.

    Nothing is created where the history lies but SQLite's own companions (-wal, -shm), which get the file's owner.
    Where they cannot be (a folder that is read-only, a full disk), a copy is read; where there is no room for that
    either, what stands in the file itself, and `lacking` says so."""
    if not os.path.lexists(path):
        return Past()
    try:
        return _read_in_place(path, since, until)
    except Broken as broken:
        raise _unreadable(path, broken) from broken
    except Fault as fault:
        for way in (_read_a_copy, _read_without_log):
            with contextlib.suppress(Fault):
                return way(path, since, until)
        raise _unreadable(path, fault) from fault


def _unreadable(path: str, fault: Fault) -> OpsError:
    seen = f"the history {path} cannot be read: {fault}"
    if isinstance(fault, Broken):
        return OpsError(
            seen, wanted="a history that the monitor wrote", next="inv monitor-start (it puts a broken one aside)"
        )
    return OpsError(seen, wanted="a history that this user may read", next=f"ls -ld {path}*")


def _read_in_place(path: str, since: float, until: float, *, log: bool = True) -> Past:
    with faults(), contextlib.closing(open_reader(path, log=log)) as connection:
        return _past(connection, since, until)


def _read_a_copy(path: str, since: float, until: float) -> Past:
    """With the log of SQLite, in which the last minutes may stand."""
    import shutil
    import tempfile

    with faults(), tempfile.TemporaryDirectory(prefix="ops-history-") as folder:
        copy = os.path.join(folder, "history.db")
        for _ in range(_COPIES):
            before = _versions(path)
            shutil.copyfile(path, copy)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}-wal", f"{copy}-wal")
            if _versions(path) == before:
                return _read_in_place(copy, since, until)
    raise Fault("it changes while it is copied")


def _versions(path: str) -> list[tuple[int, int, int] | None]:
    return [version(name) for name in (path, f"{path}-wal")]


def _read_without_log(path: str, since: float, until: float) -> Past:
    past = _read_in_place(path, since, until, log=False)
    with contextlib.suppress(OSError):
        if os.path.getsize(f"{path}-wal"):
            words = f"{path}-wal could not be read (no room): the newest minutes may be missing"
            return replace(past, lacking=words)
    return past


def _past(connection: sqlite3.Connection, since: float, until: float) -> Past:
    """In one transaction: the thinning moves samples from one table to the other."""
    connection.execute("BEGIN")
    if not has_tables(connection):
        return Past()
    return Past(
        disjoint(_rows(connection, "began REAL, ended REAL", "watch WHERE began <= ? ORDER BY id", until)),
        _states(connection, until),
        _events(connection, since, until),
        _uses(connection, since, until),
    )


def _rows(connection: sqlite3.Connection, columns: str, rest: str, *values: float) -> Iterator[Any]:
    """Every column is cast: SQLite keeps whatever it was given, and a flipped bit may have changed a type."""
    cast = ", ".join("CAST({} AS {})".format(*column.split()) for column in columns.split(", "))
    return iter(connection.execute(f"SELECT {cast} FROM {rest}", values))


def _states(connection: sqlite3.Connection, until: float) -> dict[str, tuple[Change, ...]]:
    columns = "service TEXT, at REAL, state TEXT, wanted TEXT, planned INTEGER, why TEXT"
    recorded: dict[str, list[Change]] = defaultdict(list)
    for service, *row in _rows(connection, columns, "state WHERE at <= ? ORDER BY id", until):
        at, state, wanted, planned, why = row
        recorded[service].append(Change(at, state, wanted, bool(planned), why))
    return {service: in_order_of_time(changes) for service, changes in recorded.items()}


def _events(connection: sqlite3.Connection, since: float, until: float) -> tuple[Event, ...]:
    columns = "at REAL, service TEXT, kind TEXT, detail TEXT"
    rows = _rows(connection, columns, "event WHERE at BETWEEN ? AND ? ORDER BY at, id", since, until)
    return tuple(Event(*row) for row in rows)


def _uses(connection: sqlite3.Connection, since: float, until: float) -> dict[str, Use]:
    exact = _answers(connection, since, until)
    sums = _sums(connection, since, until)
    for service, hour in _hours(connection, since, until):
        sums[service].merge(hour)
    return {service: _use(exact[service], hour) for service, hour in sums.items()}


def _answers(connection: sqlite3.Connection, since: float, until: float) -> dict[str, list[float]]:
    answers: dict[str, list[float]] = defaultdict(list)
    raw = "sample WHERE at BETWEEN ? AND ? AND seconds IS NOT NULL"
    for service, seconds in _rows(connection, "service TEXT, seconds REAL", raw, since, until):
        answers[service].append(seconds)
    return answers


def _sums(connection: sqlite3.Connection, since: float, until: float) -> dict[str, Hour]:
    columns = "service TEXT, sum(cpu) REAL, count(cpu) INTEGER, max(rss) INTEGER"
    rows = _rows(connection, columns, "sample WHERE at BETWEEN ? AND ? GROUP BY service", since, until)
    sums: dict[str, Hour] = defaultdict(Hour)
    sums.update({service: Hour({}, cpu_sum or 0.0, count, rss) for service, cpu_sum, count, rss in rows})
    return sums


def _hours(connection: sqlite3.Connection, since: float, until: float) -> Iterable[tuple[str, Hour]]:
    columns = "service TEXT, buckets TEXT, cpu_sum REAL, cpu_count INTEGER, rss INTEGER"
    overlapping = "hour WHERE hour * 3600 <= ? AND (hour + 1) * 3600 > ?"
    for service, buckets, *rest in _rows(connection, columns, overlapping, until, since):
        yield service, hour_from(buckets, *rest)


def _use(exact: list[float], hour: Hour) -> Use:
    cpu = hour.cpu_sum / hour.cpu_count if hour.cpu_count else None
    return Use(Responses(tuple(exact), hour.buckets), cpu, hour.rss)
