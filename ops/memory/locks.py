"""Locks that vanish with their holder, and count how often they were held.

Knows: flock, who holds a lock. Must not know: what is locked.

flock and not a lock file that exists or not: a killed holder leaves nothing stale. The file is never removed (two
could then hold "it"). Its text names the last holder for messages, and a turn: a reader that finds the turn it saw
before knows that nobody held the lock in between. It is odd while the lock is held, and after a holder was killed: a
look taken meanwhile may have missed what that holder did. The text has a fixed size, so that a full disk
still takes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ops.errors import LockHeld, StateError
from ops.memory.files import FULL, now

UNCOUNTED = -1  # equals no turn that was ever seen
_SIZE = 256


class _Folders(threading.local):
    """The folders this thread has locked in the stead of a file: one may stand for several locks, and a start that
    holds its service's and takes that of the wishes must not wait for itself."""

    def __init__(self) -> None:
        self.held: list[tuple[int, int]] = []


_folders = _Folders()


@contextlib.contextmanager
def held(
    path: str, instead: Sequence[str], timeout: float, by: str, pause: Callable[[float], None] = time.sleep
) -> Iterator[int]:
    """Holds the lock; gives the turn of its last holder. LockHeld, naming the holder, after `timeout` seconds.

    `instead` are folders, the nearest first, that are locked when a full disk cannot even take the lock file. Then,
    and when the disk cannot take the turn, UNCOUNTED is given: somebody may have held it since any turn seen.
    `pause` is how a caller waits; what it raises ends the waiting."""
    descriptor = _open(path, instead)
    try:
        found = os.fstat(descriptor)
        folder = (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None
        if folder is None or folder not in _folders.held:
            _flock(descriptor, timeout, os.path.basename(path), pause)
        if folder is None:
            with _signed(descriptor, by) as last:
                yield last
        else:
            _folders.held.append(folder)
            try:
                yield UNCOUNTED
            finally:
                _folders.held.remove(folder)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signed(descriptor: int, by: str) -> Iterator[int]:
    last = _turn(_text(descriptor))
    mine = last + 1 + last % 2
    counted = _sign(descriptor, mine, by) and last % 2 == 0
    try:
        yield last if counted else UNCOUNTED
    finally:
        _sign(descriptor, mine + 1, by)


def turn(path: str) -> int:
    """The turn of the last holder; 0 when it was never held."""
    try:
        with open(path, "rb") as file:
            return _turn(file.read(_SIZE))
    except OSError:
        return 0


def holder(path: str) -> int:
    """The pid that the last holder signed with; 0 when it left none."""
    try:
        with open(path, "rb") as file:
            pid = _parse(file.read(_SIZE)).get("pid")
    except OSError:
        return 0
    return pid if isinstance(pid, int) else 0


def signature(path: str, within: float) -> str:
    """What the last holder called itself; "" when it left no word, or none in the last so many seconds."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            said = _parse(file.read(_SIZE))
    except OSError:
        return ""
    return str(said.get("by", "")) if abs(time.time() - found.st_mtime) <= within else ""


def is_held(path: str) -> bool:
    """Whether somebody holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _open(path: str, instead: Sequence[str]) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno not in (*FULL, errno.ENOENT, errno.ENOTDIR):
            raise StateError(f"lock {path}: {error.strerror}") from error
    for folder in instead:
        with contextlib.suppress(OSError):
            return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    raise StateError(f"none of {', '.join([path, *instead])} can be opened to lock it")


def _flock(descriptor: int, timeout: float, name: str, pause: Callable[[float], None]) -> None:
    deadline = time.monotonic() + timeout
    between = 0.002
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _refusal(descriptor, name, timeout) from None
        pause(between)
        between = min(between * 1.5, 0.05)


def _refusal(descriptor: int, name: str, timeout: float) -> LockHeld:
    holder = _parse(_text(descriptor))
    if "pid" not in holder:
        return LockHeld(f"{name} is being changed by somebody who left no name", next="try again")
    return LockHeld(
        f"{name} is being changed by pid {holder['pid']} ({holder.get('by')}) since {holder.get('at')}; "
        f"waited {timeout:.0f} s",
        next=f"wait for it, or end it: kill -9 {holder['pid']} (that frees the lock; the next command carries on)",
    )


def _sign(descriptor: int, turn: int, by: str) -> bool:
    text = json.dumps({"turn": turn, "pid": os.getpid(), "by": by[:80], "at": now()})
    try:
        return os.pwrite(descriptor, text.ljust(_SIZE).encode()[:_SIZE], 0) == _SIZE
    except OSError:
        return False


def _text(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, _SIZE, 0)
    except OSError:
        return b""


def _turn(text: bytes) -> int:
    number = _parse(text).get("turn")
    return number if isinstance(number, int) and number >= 0 else 0


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
