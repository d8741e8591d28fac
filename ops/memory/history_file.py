"""The history's SQLite file: opened, laid out, told broken from merely unwritable, put aside.

Knows: SQLite, its pragmas and errors, the file and its companions. Must not know: what the rows mean.

WAL with synchronous=FULL: readers never block the writer nor the other way round, and every COMMIT waits for an
fsync of the log, so what was committed survives a power cut (with NORMAL only a checkpoint is synced: consistent, but
the last commits may be lost). fullfsync: on macOS a plain fsync leaves the data in the drive's cache. A kill -9
costs the open transaction only. No mmap: a file that someone truncates must give an error, not a SIGBUS.

sqlite3 is imported when first used: it costs a megabyte and every command would pay for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_BUSY = 0.5  # seconds that a writer or a reader waits for a lock
_VERSION = 1
_BROKEN_KEPT = 2
_COMPANIONS = ("", "-wal", "-shm")  # the file itself, its log, the index of the log

# auto_vacuum has to come before WAL, which writes the first page.
_FRESH = ("PRAGMA auto_vacuum=INCREMENTAL",)
_PRAGMAS = (
    "PRAGMA mmap_size=0",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=1",
    "PRAGMA checkpoint_fullfsync=1",
    "PRAGMA wal_autocheckpoint=256",  # pages: the log stays about 1 MB
    "PRAGMA journal_size_limit=1048576",
    "PRAGMA cache_size=-512",  # KiB
    "PRAGMA temp_store=MEMORY",  # no temporary files on a full disk
)
# No index but the primary keys: every reader and the thinning go through a whole table anyway, and it stays small.
_TABLES = {
    "watch": "id INTEGER PRIMARY KEY, began REAL, ended REAL",
    "state": "id INTEGER PRIMARY KEY, at REAL, service TEXT, state TEXT, wanted TEXT, planned INTEGER, why TEXT",
    "event": "id INTEGER PRIMARY KEY, at REAL, service TEXT, kind TEXT, detail TEXT",
    "sample": "id INTEGER PRIMARY KEY, at REAL, service TEXT, seconds REAL, cpu REAL, rss INTEGER",
    "hour": "service TEXT, hour INTEGER, buckets TEXT, cpu_sum REAL, cpu_count INTEGER, rss INTEGER,"
    " PRIMARY KEY(service, hour)",
}


class Fault(Exception):
    """The database cannot be used now; the text says why in one line."""


class Broken(Fault):
    """The file will never be a usable history again: damaged, not a database, or of another layout."""


class Database:
    """An open database for the one writer; an empty one gets its tables."""

    def __init__(self, path: str) -> None:
        self.path = path
        with contextlib.ExitStack() as undo:
            self.connection = _connect(path)
            undo.callback(self.connection.close)
            _prepare(self.connection)
            undo.pop_all()
        self._inodes = _inodes(path)

    @property
    def replaced(self) -> bool:
        """Whether the file or a companion was removed or replaced: what is written now, nobody would ever read."""
        return _inodes(self.path) != self._inodes

    @property
    def stuck(self) -> bool:
        """Whether a transaction could not even be rolled back."""
        return self.connection.in_transaction

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when it is left without an error."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        orphans = self._orphans()
        self.connection.close()
        for companion in orphans:
            with contextlib.suppress(OSError):
                os.unlink(self.path + companion)

    def _orphans(self) -> list[str]:
        """Our companions beside a file that is not ours: SQLite leaves them, and would apply our log to the other."""
        there = _inodes(self.path)
        if there[0] == self._inodes[0]:
            return []
        return [name for name, now, ours in zip(_COMPANIONS, there, self._inodes, strict=True) if name and now == ours]


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turns every way in which SQLite and the disk can fail into a Fault, or a Broken."""
    try:
        import sqlite3
    except ImportError as error:
        raise Fault(f"this Python cannot keep a history: {error}") from error
    try:
        yield
    except sqlite3.Error as error:
        # CORRUPT and NOTADB come as a bare DatabaseError; a lock, a full disk, an I/O error as OperationalError.
        broken = type(error) is sqlite3.DatabaseError or str(error).startswith(("no such", "unsupported file"))
        raise (Broken if broken else Fault)(str(error)) from error
    except OSError as error:
        raise Fault(error.strerror or str(error)) from error


def open_reader(path: str, *, log: bool = True) -> sqlite3.Connection:
    """Read-only, and without a wait for the writer. Without its `log` (-wal) it needs no companion, but tells only what
    was put into the file itself. sqlite3.Error when it cannot be read."""
    import sqlite3
    from urllib.parse import quote

    how = "mode=ro" if log else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=_BUSY, isolation_level=None)
    connection.text_factory = _text
    return connection


def has_tables(connection: sqlite3.Connection) -> bool:
    """False for one in which nothing was ever kept. Broken when its tables are not ours."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if version != _VERSION and not (version == 0 and empty):
        raise Broken(f"not a history of this version (its layout is {version}, ours {_VERSION})")
    return not empty


def put_aside(path: str) -> str:
    """Renames a broken database, with the log that belongs to it, and keeps the last two such; gives the new name.
    OSError when it cannot be renamed."""
    aside = f"{path}.broken-{time.strftime('%Y%m%dT%H%M%S')}"
    os.rename(path, aside)
    for companion in _COMPANIONS[1:]:
        with contextlib.suppress(OSError):
            os.rename(path + companion, aside + companion)
    _forget_older(path)
    return aside


def _connect(path: str) -> sqlite3.Connection:
    import sqlite3

    _make_or_refuse(path)
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    return connection


def _make_or_refuse(path: str) -> None:
    """Made here and not by SQLite, so that it and its companions, which get the same mode, are for their owner."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return
    if not stat.S_ISREG(mode):
        raise Broken("not a file")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables in an empty database, looks through another one."""
    fresh = not has_tables(connection)
    for pragma in (*(_FRESH if fresh else ()), *_PRAGMAS):
        connection.execute(pragma).fetchall()
    if fresh:
        _lay_out(connection)
    else:
        _look_through(connection)


def _lay_out(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for name, columns in _TABLES.items():
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name}({columns})")
    connection.execute(f"PRAGMA user_version={_VERSION}")
    connection.execute("COMMIT")


def _look_through(connection: sqlite3.Connection) -> None:
    """Some 3 ms per MB, once per monitor: damage is better found now than by a report in a month."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Broken(" ".join(str(found).split()))


def _inodes(path: str) -> tuple[tuple[int, int] | None, ...]:
    return tuple(_inode(path + companion) for companion in _COMPANIONS)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _forget_older(path: str) -> None:
    folder, name = os.path.split(path)
    asides = sorted(one for one in os.listdir(folder or ".") if one.startswith(f"{name}.broken-") and one[-4] != "-")
    for aside in asides[:-_BROKEN_KEPT]:
        for companion in _COMPANIONS:
            with contextlib.suppress(OSError):  # a folder that somebody put there is left
                os.unlink(os.path.join(folder, aside + companion))
