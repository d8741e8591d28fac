"""Keeps the history small: raw samples become hours, what is old goes, floods are cut.

Knows: how long what is kept, and the caps. Must not know: how the file is opened, who reads it.

    raw samples   a day, at most 300,000 rows of all services together (then the oldest become hours earlier)
    hours         90 days: response times as buckets (within 2 %), mean CPU, largest memory; under 1 KB each
    states        90 days and the one in force before; per service the newest 20,000, of all together 200,000
    events        90 days; per service the newest 5,000, of all together 100,000
    watching      90 days, the newest 20,000 intervals

More than 10 or 20 services share the caps equally; 200 rows are left to each in any case. Time before the oldest
state that a flood left is *unknown* to the reader, never up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.memory.history_file import Broken
from ops.memory.history_past import bucket_of

if TYPE_CHECKING:
    import sqlite3

DAY = 86400.0
KEPT = 90 * DAY
RAW_ROWS = 300_000
WATCH_ROWS = 20_000
CAPS = {"state": (20_000, 200_000), "event": (5_000, 100_000)}  # rows: of one service, of all
_LEAST = 200  # rows of one service, however many there are
_PAGES_A_TIME = 4096  # given back per call: 16 MB

_OLD_SAMPLES = "FROM sample WHERE at < ? OR id <= ?"


@dataclass
class Hour:
    """The samples of one service in one hour."""

    buckets: dict[int, int] = field(default_factory=dict)
    cpu_sum: float = 0.0
    cpu_count: int = 0
    rss: int | None = None

    def add(self, seconds: float | None, cpu: float | None, rss: int | None) -> None:
        if seconds is not None:
            bucket = bucket_of(seconds)
            self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        if cpu is not None:
            self.cpu_sum += cpu
            self.cpu_count += 1
        self.rss = larger(self.rss, rss)

    def merge(self, other: Hour) -> None:
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.cpu_sum += other.cpu_sum
        self.cpu_count += other.cpu_count
        self.rss = larger(self.rss, other.rss)


def larger(one: int | None, other: int | None) -> int | None:
    """The larger of two sizes, of which one or both may be unknown."""
    return max((size for size in (one, other) if size is not None), default=None)


def hour_from(buckets: str, cpu_sum: float, cpu_count: int, rss: int | None) -> Hour:
    """An hour as it lies in the database; Broken when its buckets are none."""
    try:
        counts = {int(bucket): int(count) for bucket, count in json.loads(buckets).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Broken(f"an hour of samples is garbage: {buckets[:40]!r}") from error
    return Hour(counts, cpu_sum or 0.0, cpu_count or 0, rss)


def thin(connection: sqlite3.Connection, at: float) -> None:
    """All of the thinning; to be called inside one transaction, so that whoever is killed midway has done nothing."""
    _samples_to_hours(connection, math.floor((at - DAY) / 3600) * 3600)
    _drop_old(connection, at - KEPT)
    for table, (of_one, of_all) in CAPS.items():
        _cut_floods(connection, table, of_one, of_all)
    connection.execute("DELETE FROM watch WHERE id <= (SELECT max(id) FROM watch) - ?", (WATCH_ROWS,))


def give_back(connection: sqlite3.Connection) -> None:
    """Gives pages that became free back to the disk; a reader in the middle of reading delays that to the next time."""
    # It frees a page per step and has no columns, so `execute` would stop after the first one.
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_A_TIME})")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _samples_to_hours(connection: sqlite3.Connection, edge: float) -> None:
    newest = connection.execute("SELECT max(id) FROM sample").fetchone()[0] or 0
    old = (edge, newest - RAW_ROWS)
    rows = connection.execute(
        f"SELECT CAST(service AS TEXT), CAST(at / 3600 AS INTEGER), CAST(seconds AS REAL), CAST(cpu AS REAL),"
        f" CAST(rss AS INTEGER) {_OLD_SAMPLES}",
        old,
    )
    for (service, hour), collected in _collected(rows).items():
        _add_hour(connection, service, hour, collected)
    connection.execute(f"DELETE {_OLD_SAMPLES}", old)


def _collected(rows: Iterable[tuple[str, int, float | None, float | None, int | None]]) -> dict[tuple[str, int], Hour]:
    hours: dict[tuple[str, int], Hour] = {}
    for service, hour, seconds, cpu, rss in rows:
        hours.setdefault((service, hour), Hour()).add(seconds, cpu, rss)
    return hours


def _add_hour(connection: sqlite3.Connection, service: str, hour: int, collected: Hour) -> None:
    there = connection.execute(
        "SELECT buckets, cpu_sum, cpu_count, rss FROM hour WHERE service = ? AND hour = ?", (service, hour)
    ).fetchone()
    if there:
        collected.merge(hour_from(*there))
    told = json.dumps(collected.buckets, separators=(",", ":"))
    connection.execute(
        "INSERT OR REPLACE INTO hour VALUES(?, ?, ?, ?, ?, ?)",
        (service, hour, told, collected.cpu_sum, collected.cpu_count, collected.rss),
    )


def _drop_old(connection: sqlite3.Connection, horizon: float) -> None:
    connection.execute("DELETE FROM hour WHERE hour < ?", (math.floor(horizon / 3600),))
    connection.execute("DELETE FROM event WHERE at < ?", (horizon,))
    connection.execute("DELETE FROM watch WHERE ended < ?", (horizon,))
    # The last one before the horizon is in force there: for a service that never changed since, it is all there is.
    in_force = "SELECT max(id) FROM state WHERE at < :horizon GROUP BY service"
    connection.execute(f"DELETE FROM state WHERE at < :horizon AND id NOT IN ({in_force})", {"horizon": horizon})


def _cut_floods(connection: sqlite3.Connection, table: str, of_one: int, of_all: int) -> None:
    counts = connection.execute(f"SELECT service, count(*) FROM {table} GROUP BY service").fetchall()
    cap = max(_LEAST, min(of_one, of_all // max(1, len(counts))))
    for service, count in counts:
        if count > cap:
            newest = f"SELECT id FROM {table} WHERE service = :service ORDER BY id DESC LIMIT 1 OFFSET :cap"
            connection.execute(
                f"DELETE FROM {table} WHERE service = :service AND id <= ({newest})", {"service": service, "cap": cap}
            )
