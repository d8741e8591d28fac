"""Reading logs: their last lines, and following them while they grow, are rotated, are deleted and come
again.

Knows: files, lines as bytes, what a terminal must not be sent. Must not know: services, what a line means,
who writes it.

Memory is bounded by constants, whatever the size of the file, the speed of its writer or the length of its
lines: a line longer than LONGEST comes in pieces of that length. Only regular files are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

LONGEST = 64 * 1024  # bytes of one line; a longer one comes in pieces
QUIET = 1.0  # seconds after which an unfinished last line is given as it is
LINGER = 2.0  # seconds without news after which a replaced file is let go: its writer may reopen late
PAUSE = 0.1  # seconds between looks while nothing comes

_BLOCK = 64 * 1024  # bytes read at once from the end backwards
_CHUNK = 256 * 1024  # bytes read at once forwards: what one file may bring before the next has its turn
_MARK = 64  # bytes before the offset, read again each time: are they others, the file was truncated
_KEPT = 8  # replaced files that are watched at once; a flurry of rotations must not use up descriptors

# Unicode categories: control, format (bidi overrides, zero-width), surrogate, line and paragraph separator.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def last_lines(path: str, count: int, *, whole: bool = False, since: int = 0) -> tuple[list[bytes], int]:
    """The last `count` lines without their newlines, and the offset in bytes where following goes on.

    An unfinished last line counts as one (a program's last words often have no newline), unless `whole`:
    then it is left to whoever follows from the offset. What lies before the offset `since` is left out, unless the
    file has become shorter than that. At most (count + 1) x LONGEST bytes are read. What
    cannot be read has no lines: ([], 0).
    """
    with contextlib.suppress(OSError), _opened(path) as descriptor:
        return _end_of(descriptor, count, whole, since)
    return [], 0


def plain(line: bytes) -> str:
    """The line as text that no terminal obeys: control and format characters are shown as escapes, bytes
    that are not UTF-8 as \\xNN; tabs stay."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def follow(
    paths: Mapping[str, str],
    *,
    lines: int,
    stop: Callable[[], bool],
    complain: Callable[[str, str], None] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """(name, line) of all files in order of arrival: the last `lines` of each, then what comes, until
    `stop()`.

    `stop` is asked before each turn of each file. A file that does not exist yet is waited for and then read
    from its beginning. `complain(name, fault)` hears once why nothing comes from a file.
    """
    followers = {name: Follower(path, lines=lines) for name, path in paths.items()}
    faults: dict[str, str | None] = {}
    try:
        while not stop():
            news = False
            for name, follower in followers.items():
                if stop():
                    return
                for line in follower.poll():
                    news = True
                    yield name, line
                if complain and follower.fault and faults.get(name) != follower.fault:
                    complain(name, follower.fault)
                faults[name] = follower.fault
            if not news:
                time.sleep(PAUSE)
    finally:
        for follower in followers.values():
            follower.close()


class Follower:
    """Follows what one path names: through growth, truncation, rename, deletion and re-creation.

    `lines`: how many of the lines that are there already are given first (None: all). `fault` says in words
    why the path cannot be read at the moment, or is None; what was opened before is read on meanwhile.

    A file replaced by another is read to its end first, and watched until it was quiet for LINGER, because
    its writer may reopen late. Not seen: a file that came and went between two polls, and what a truncation
    took away before it was read; `_current` and `_Tail._begin_anew` are the places to ask a kept generation
    for it.
    """

    def __init__(self, path: str, *, lines: int | None = None) -> None:
        self.fault: str | None = None
        self._path = path
        self._tails: list[_Tail] = []  # open files as they were met; the last is what the path names
        self._ready: list[bytes] = []
        self._look()
        if lines is not None:
            for tail in self._tails:
                self._ready = tail.skip_to_last(lines)

    def poll(self) -> list[bytes]:
        """New complete lines since the last poll, at most about 256 KiB a file; an unfinished one is kept
        until its newline comes, or given after QUIET. Never waits, never raises for the file's faults."""
        self._look()
        lines, self._ready = self._ready, []
        for tail in list(self._tails):
            lines += self._read(tail)
            if tail.behind:
                break  # the next file's lines come after this one's
            if self._spent(tail):
                self._tails.remove(tail)
                lines += tail.close()
        return lines

    def close(self) -> None:
        """Lets go of all files; an unfinished line is dropped."""
        while self._tails:
            self._tails.pop().close()

    def _look(self) -> None:
        """Looking comes before reading: then all that was written before the replacement is read from the
        old."""
        try:
            current = self._current()
        except OSError as error:
            self.fault = "does not exist" if error.errno == errno.ENOENT else error.strerror
            return
        self.fault = None
        self._tails = [*(tail for tail in self._tails if tail is not current), current]

    def _current(self) -> _Tail:
        """What the path names now; it is opened when it is none of those known."""
        found = _identity(os.stat(self._path))
        for tail in self._tails:  # an open file's inode is not given to another, so this is no coincidence
            if tail.identity == found:
                return tail
        return _Tail(_open(self._path))

    def _read(self, tail: _Tail) -> list[bytes]:
        try:
            return tail.read()
        except OSError as error:
            self.fault = error.strerror
            return []

    def _spent(self, tail: _Tail) -> bool:
        if tail is self._tails[-1]:
            return False
        return len(self._tails) > _KEPT or time.monotonic() - tail.fed > LINGER


class _Tail:
    """One open file and how far it was read. `behind`: more was there at the last read than was taken;
    `fed`: when something last came (monotonic)."""

    def __init__(self, descriptor: int) -> None:
        self.identity = _identity(os.fstat(descriptor))
        self.behind = False
        self.fed = time.monotonic()
        self._descriptor = descriptor
        self._offset = 0
        self._mark = b""  # the bytes just before the offset
        self._rest = b""  # an unfinished line
        self._cut = False  # the unfinished line was given already, its newline is still to come

    def skip_to_last(self, count: int) -> list[bytes]:
        """The last `count` whole lines; reading goes on after them."""
        try:
            lines, self._offset = _end_of(self._descriptor, count, whole=True)
            size = min(self._offset, _MARK)
            self._mark = os.pread(self._descriptor, size, self._offset - size)
        except OSError:
            return []
        return lines

    def read(self) -> list[bytes]:
        """Complete lines that came since. OSError when the file cannot be read."""
        known = len(self._mark)
        data = os.pread(self._descriptor, known + _CHUNK, self._offset - known)
        if not data.startswith(self._mark):
            return self._begin_anew()
        fresh = data[known:]
        self.behind = len(fresh) == _CHUNK
        if not fresh:
            return self._give_up_waiting()
        self._offset += len(fresh)
        self._mark = data[-_MARK:]
        return self._take(fresh)

    def close(self) -> list[bytes]:
        """Lets go of the file; what is left is the unfinished line, if any."""
        os.close(self._descriptor)
        return self._give()

    def _take(self, fresh: bytes) -> list[bytes]:
        self.fed = time.monotonic()
        if self._cut:
            fresh = fresh.removeprefix(b"\n")
            self._cut = False
        lines, self._rest = _split(self._rest + fresh)
        return lines

    def _begin_anew(self) -> list[bytes]:
        """What was read last is no longer there: the file was truncated, or its head was cut off. A line that
        was torn by that is given as far as it was read. (A file that was truncated and has the same bytes at
        the same place again cannot be told from one that was not.)"""
        self._offset, self._mark, self.behind = 0, b"", True
        lines, self._cut = self._give(), False
        return lines

    def _give_up_waiting(self) -> list[bytes]:
        return self._give() if time.monotonic() - self.fed > QUIET else []

    def _give(self) -> list[bytes]:
        if not self._rest:
            return []
        line, self._rest, self._cut = self._rest, b"", True
        return [line]


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _open(path: str) -> int:
    """O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _end_of(descriptor: int, count: int, whole: bool, since: int = 0) -> tuple[list[bytes], int]:
    end = os.fstat(descriptor).st_size
    lines, rest = _split(_from_end(descriptor, end, count, since if since <= end else 0))
    if rest and not whole:
        lines.append(rest)
        rest = b""
    return (lines[-count:] if count > 0 else []), end - len(rest)


def _from_end(descriptor: int, end: int, count: int, begin: int) -> bytes:
    """The end of the file after the offset `begin`, at least `count` whole lines of it: one newline more is needed,
    where the first began."""
    start, newlines, blocks = end, 0, list[bytes]()
    most = (max(count, 0) + 1) * LONGEST
    while start > begin and newlines <= count and end - start < most:
        size = min(_BLOCK, start - begin)
        start -= size
        block = os.pread(descriptor, size, start)
        newlines += block.count(b"\n")
        blocks.append(block)
    return b"".join(reversed(blocks))


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Complete lines, and the unfinished rest, which is at most LONGEST."""
    *finished, last = data.split(b"\n")
    lines = [piece for line in finished for piece in _pieces(line)]
    *full, rest = _pieces(last)
    return lines + full, rest


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST:
        return [line]
    return [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)]


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character == "\t" or unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")
