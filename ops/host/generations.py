"""The kept generations of a log: NAME.log.1 is the newest, NAME.log.2.gz and so on are older and compressed.

Knows: their names, order and times, gzip, who may change them at the moment. Must not know: who writes the log, and
how a generation comes off it.

Whoever renames or removes a generation holds the flock of the log itself, which vanishes with its holder and is let
go by a rename of the log. Each generation has a later time (mtime) than the one before it, and keeps that time when
it is renamed or compressed: so a reader knows which ones it has not seen.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterator

from ops.frozen import frozen

_PIECE = 256 * 1024  # bytes copied or compressed at once
_LEVEL = 1  # of gzip: a flood must not cost a core
_TRIES = 5  # to lock a log that is renamed meanwhile


@frozen
class Generation:
    """One kept file. The higher the number, the older; `packed` ones end in .gz."""

    path: str
    number: int
    packed: bool


def generations(path: str) -> list[Generation]:
    """What is kept of the log at `path`, newest first; a plain one before its own compressed copy."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,8})(\.gz)?")
    try:
        matches = [match for each in os.listdir(folder or ".") if (match := pattern.fullmatch(each))]
    except OSError:
        return []
    found = [Generation(os.path.join(folder, m.group()), int(m.group(1)), m.group(2) is not None) for m in matches]
    return sorted(found, key=lambda each: (each.number, each.packed))


def newest_time(path: str) -> int:
    """The time (mtime in nanoseconds) of the newest generation; 0 when there is none."""
    info = _newest(path)
    return info.st_mtime_ns if info else 0


def newest_inode(path: str) -> int:
    """Of the newest one, which changes with each rotation but not when somebody writes to it late; 0 when there is
    none."""
    info = _newest(path)
    return info.st_ino if info else 0


def _newest(path: str) -> os.stat_result | None:
    """While `put_first` is under way nobody has the number 1 for a moment: then the newest is number 2."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            return os.stat(f"{path}.{number}")
    return None


def latest_time(path: str) -> int:
    """The highest time of all generations; 0 when there are none."""
    return max((_time(each.path) for each in generations(path)), default=0)


def _time(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@contextlib.contextmanager
def locked(path: str) -> Iterator[int]:
    """The log, open for reading, and locked: nobody else rotates it or changes its generations meanwhile.

    BlockingIOError when somebody else has it; OSError when it is missing, a symlink, or no regular file.
    """
    descriptor = _lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(path: str) -> int:
    for _ in range(_TRIES):
        descriptor = _open_log(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "it is replaced again and again", path)


def _open_log(path: str) -> int:
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise OSError(errno.ELOOP, "a symlink", path)
    return open_regular(path, os.O_NOFOLLOW)


def open_regular(path: str, flags: int = 0) -> int:
    """A file, open for reading; OSError when it is none. O_NONBLOCK: opening a FIFO that somebody put there must not
    wait for its writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


@contextlib.contextmanager
def _turn(path: str) -> Iterator[None]:
    """As `locked`; a log that is not there is rotated by nobody."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):
            stack.enter_context(locked(path))
        yield


# Changing them; `put_first` and `drop` while the log is locked


def put_first(path: str, fresh: str) -> None:
    """Renames `fresh` to generation 1, the others move up by one (as far as the first free number)."""
    os.utime(fresh, ns=_later(fresh, latest_time(path)))
    held: dict[int, list[Generation]] = {}
    for each in generations(path):
        held.setdefault(each.number, []).append(each)
    last = 1
    while last in held:
        last += 1
    for number in range(last - 1, 0, -1):
        for each in held[number]:
            os.rename(each.path, f"{path}.{number + 1}" + (".gz" if each.packed else ""))
    os.rename(fresh, f"{path}.1")


def _later(fresh: str, than: int) -> tuple[int, int]:
    info = os.stat(fresh)
    return info.st_atime_ns, max(info.st_mtime_ns, than + 1)


def drop(path: str, keep: int) -> None:
    """Removes the generations beyond the number `keep`, the oldest first."""
    for each in reversed(generations(path)):
        if each.number > keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each.path)


def tidy(path: str, keep: int) -> str:
    """Drops generations beyond `keep` and compresses those from number 2 on. Returns "" or what went wrong.

    Takes no writer's time, and a constant of memory. Killed at any moment it loses and doubles nothing.
    """
    try:
        with _turn(path):
            drop(path, keep)
        for each in generations(path):
            if each.number > 1 and not each.packed:
                _pack(path, each)
    except BlockingIOError:
        return f"{path}: its generations are in use by another rotation"
    except OSError as error:
        return f"{path}: its generations are not compressed: {error.strerror}"
    return ""


def make_room(paths: Collection[str], need: int) -> int:
    """For a full disk: drops generations of these logs, the oldest of all first, until `need` bytes are free.

    The logs themselves are never touched. Returns the bytes that were freed, less than `need` when nothing is left.
    """
    freed, left = 0, set(paths)
    while freed < need:
        oldest = [(_time(kept[-1].path), path) for path in left if (kept := generations(path))]
        if not oldest:
            break
        _, path = min(oldest)
        gained = _drop_oldest(path)
        freed += gained or 0
        if gained is None:
            left.discard(path)
    return freed


def _drop_oldest(path: str) -> int | None:
    """The bytes that its oldest generation took on the disk; None when it cannot be removed now."""
    try:
        with _turn(path):
            oldest = generations(path)[-1].path
            size = os.stat(oldest).st_blocks * 512
            os.unlink(oldest)
            return size
    except (OSError, IndexError):
        return None


# Compressing


def _pack(path: str, plain: Generation) -> None:
    """Puts the compressed one in place in one step, then removes the plain one. In between there are both, and the
    plain one counts. Meanwhile the plain one may have moved up by a rotation: it is found by its inode."""
    temporary = f"{path}.gz.part"
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(_reading(plain.path))
        except FileNotFoundError:
            return  # moved since it was listed; the next time will do
        target = stack.enter_context(_workplace(temporary))
        info = os.fstat(source)
        _compress(source, target)
        os.fchmod(target, stat.S_IMODE(info.st_mode))
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        os.fsync(target)
        if os.fstat(source).st_size != info.st_size:
            return  # somebody who opened it before it was renamed has just written to it
        with _turn(path):
            for each in generations(path):
                if not each.packed and os.path.samestat(os.lstat(each.path), info):
                    os.rename(temporary, f"{each.path}.gz")
                    os.unlink(each.path)
                    return


@contextlib.contextmanager
def _reading(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _workplace(path: str) -> Iterator[int]:
    """A temporary file that one process at a time works in; what a killed one left in it is overwritten, and nothing
    is left of it afterwards unless it was renamed. BlockingIOError while another works."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _still(path, descriptor):
            raise BlockingIOError(errno.EAGAIN, "another has just compressed", path)
        os.ftruncate(descriptor, 0)
        try:
            yield descriptor
        finally:
            if _still(path, descriptor):
                os.unlink(path)
    finally:
        os.close(descriptor)


def _still(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _compress(source: int, target: int) -> None:
    import gzip

    with open(target, "wb", closefd=False) as raw, gzip.GzipFile("", "wb", _LEVEL, raw) as packed:
        while piece := os.read(source, _PIECE):
            packed.write(piece)
