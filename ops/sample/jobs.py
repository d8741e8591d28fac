"""The reconciliation jobs on disk: what was answered 201 is there after a power cut.

Knows: one SQLite file. Must not know: what a job means, HTTP.

Every operation opens the file anew: a folder that was wiped or a disk that was full heals without a restart.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

Job = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order they were made in
    id TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL
)
"""
WRITE_WAIT = 5.0
LOOK_WAIT = 0.2  # for health: whoever holds the file longer is writing, and so it is writable
LEAST_FREE = 1024 * 1024  # bytes; below it a health check should not say that jobs can be stored


class StoreFailed(Exception):
    """The job could not be stored or read; the text says why. `full`: because the disk is full."""

    def __init__(self, why: str, *, full: bool = False) -> None:
        super().__init__(why)
        self.full = full


class Jobs:
    """The jobs in `folder`/recon.db, newest first."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._path = os.path.join(self._folder, "recon.db")
        self._writing = threading.Lock()

    def add(self, job: Job) -> None:
        """Stores the job; when this returns it is on the disk. StoreFailed if it is not."""
        with self._writing, self._opened(WRITE_WAIT) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO jobs (id, document) VALUES (?, ?)", (job["id"], json.dumps(job)))
            database.execute("COMMIT")

    def newest(self, limit: int) -> list[Job]:
        """Up to `limit` jobs, or all for -1, newest first."""
        with self._opened(WRITE_WAIT) as database:
            rows = database.execute("SELECT document FROM jobs ORDER BY number DESC LIMIT ?", (limit,))
            return [json.loads(document) for (document,) in rows]

    def count(self) -> int:
        """How many there are."""
        with self._opened(WRITE_WAIT) as database:
            return int(database.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def find(self, id: str) -> Job | None:
        """The job of that id, or None."""
        with self._opened(WRITE_WAIT) as database:
            row = database.execute("SELECT document FROM jobs WHERE id = ?", (id,)).fetchone()
            return json.loads(row[0]) if row else None

    def complaint(self) -> str | None:
        """Why a job could not be stored now, or None. Writes nothing: it is asked every two seconds."""
        try:
            with self._opened(LOOK_WAIT) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
        except StoreFailed as why:
            return None if "locked" in str(why) else str(why)
        if not os.access(self._folder, os.W_OK):
            return f"{self._folder} is not writable"
        return f"{self._folder}: the disk is full" if self._is_full() else None

    def _is_full(self) -> bool:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize < LEAST_FREE

    @contextmanager
    def _opened(self, wait: float) -> Iterator[sqlite3.Connection]:
        import sqlite3  # only recon-api needs it, and not before its first job or health check

        try:
            os.makedirs(self._folder, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=wait, isolation_level=None)
            try:
                _prepare(database)
                yield database
            finally:
                database.close()
        except (sqlite3.Error, OSError) as error:
            full = "full" in str(error) or self._is_full()
            raise StoreFailed(f"{self._path}: {_words(error)}", full=full) from error


def _prepare(database: sqlite3.Connection) -> None:
    # EXTRA is FULL plus a sync of the folder once the journal is gone: without it a power cut can bring
    # the journal back, and that undoes the commit (sqlite.org/pragma.html#pragma_synchronous).
    database.execute("PRAGMA synchronous = EXTRA")
    # macOS: fsync alone stops at the drive's cache (elsewhere this does nothing; not run on a Mac).
    database.execute("PRAGMA fullfsync = ON")
    database.execute(SCHEMA)


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
