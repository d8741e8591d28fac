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
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from ops.host.generations import latest_time, newest_time, open_regular
from ops.host.kept import Kept, Newest, newer
from ops.host.log_ends import LONGEST, MARK, end_of, opened, split

__all__ = ["LONGEST", "Follower", "follow", "last_lines", "plain"]

QUIET = 1.0  # seconds after which an unfinished last line is given as it is
LINGER = 2.0  # seconds without news after which a replaced file is let go: its writer may reopen late
PAUSE = 0.1  # seconds between looks while nothing comes

_CHUNK = 256 * 1024  # bytes read at once forwards: what one file may bring before the next has its turn
_TURNS = 50  # from one generation to the next, and to the file, in one look
_TRIES = 5  # to look at a file and its generations while they are not rotated
_KEPT = 8  # replaced files that are watched at once; a flurry of rotations must not use up descriptors

# Unicode categories: control, format (bidi overrides, zero-width), surrogate, line and paragraph separator.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def last_lines(path: str, count: int, *, whole: bool = False, since: int | None = None) -> tuple[list[bytes], int]:
    """The last `count` lines without their newlines, and the offset in bytes where following goes on.

    An unfinished last line counts as one (a program's last words often have no newline), unless `whole`:
    then it is left to whoever follows from the offset. Lines that the file does not have (any more) come from its
    newest generation. With `since` only what was written from that offset on is given, so a generation is asked only
    when the file has become shorter than that. At most 2 x (count + 1) x LONGEST bytes are read. What cannot be
    read has no lines: ([], 0).
    """
    with contextlib.suppress(OSError), opened(path) as descriptor:
        lines, rest, end = end_of(descriptor, count, os.path.realpath(path), since)
        if rest and not whole:
            lines, rest = [*lines, rest], b""
        return (lines[-count:] if count > 0 else []), max(0, end - len(rest))
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

    A file replaced by another is read to its end first, and watched until it was quiet for `linger` seconds, because
    its writer may reopen late. What rotations took away between two polls is read from the generations, as far
    as they are kept. Not seen: what anybody else's truncation took away before it was read.
    """

    def __init__(self, path: str, *, lines: int | None = None, quiet: float = QUIET, linger: float = LINGER) -> None:
        self.fault: str | None = None
        self._path = path
        self._quiet, self._linger = quiet, linger
        self._tails: list[_Tail] = []  # open files as they were met; the last is what the path names
        self._newest = 0  # the time of the newest generation that there was when the path was found last
        self._ready: list[bytes] = []
        self._look()
        if lines is not None:
            for tail in self._tails:
                self._ready = tail.skip_to_last(lines)

    def poll(self) -> list[bytes]:
        """New complete lines since the last poll, at most about 256 KiB a file; an unfinished one is kept
        until its newline comes, or given after `quiet` seconds. Never waits, never raises for the file's faults."""
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
        newest = newest_time(self._tails[-1].log) if self._tails else 0
        try:
            current = self._current()
        except OSError as error:
            self.fault = "does not exist" if error.errno == errno.ENOENT else error.strerror
            if error.errno == errno.ENOENT:
                self._named(None)
            return
        self.fault = None
        missed = [] if current in self._tails else self._missed(current)
        self._tails = [*(tail for tail in self._tails if tail is not current), *missed, current]
        self._named(current)
        self._newest = newest

    def _named(self, current: _Tail | None) -> None:
        for tail in self._tails:
            tail.named(tail is current)

    def _current(self) -> _Tail:
        """What the path names now; it is opened when it is none of those known."""
        found = _identity(os.stat(self._path))
        for tail in self._tails:  # an open file's inode is not given to another, so this is no coincidence
            if tail.identity == found:
                return tail
        return _Tail(open_regular(self._path), os.path.realpath(self._path))

    def _missed(self, current: _Tail) -> list[_Tail]:
        """Files that came and went since the last one met, which may be older than what was written late to one that
        was let go."""
        if not self._tails:
            return []
        missed = newer(current.log, max(self._tails[-1].time(), self._newest))
        known = {tail.identity for tail in (*self._tails, current)}
        for each in missed:
            if each.identity in known:
                each.close()
        return [tail for each in missed if each.identity not in known and (tail := _tail_of(each))]

    def _read(self, tail: _Tail) -> list[bytes]:
        """Turns to another file, which bring no lines, are taken at once."""
        try:
            for _ in range(_TURNS):
                if (lines := tail.read(self._quiet)) or not tail.behind:
                    return lines
            return []
        except OSError as error:
            self.fault = error.strerror
            return []

    def _spent(self, tail: _Tail) -> bool:
        if tail is self._tails[-1]:
            return False
        return len(self._tails) > _KEPT or time.monotonic() - tail.fed > self._linger


class _Tail:
    """One open file and how far it was read. `behind`: more was there at the last read than was taken;
    `fed`: when something last came (monotonic); `log`: whose generations have what was cut off it, "" for none.

    A generation gets its number before the file is cut. So whoever read up to the end of the file while a generation
    was there has read that one too: `_seen` is the time of the newest of these.
    """

    def __init__(self, descriptor: int, log: str = "") -> None:
        self.identity = _identity(os.fstat(descriptor))
        self.log = log
        self.behind = False
        self.fed = time.monotonic()
        self._descriptor = descriptor
        self._seen = latest_time(log) if log else 0
        self._first = Newest(log)  # held as long as nothing was read after it
        self._first.hold()
        self._kept: list[Kept] = []  # generations to be read first
        self._last: int | None = None  # the time of the last generation that can be its own, once it was replaced
        self._turned = False  # the end of a generation was met, and nothing was read since
        self._offset = 0  # in the first of those; without any, in the file
        self._mark = b""  # the bytes just before the offset
        self._rest = b""  # an unfinished line
        self._cut = False  # the unfinished line was given already, its newline is still to come

    def time(self) -> int:
        """When it was last written to, nanoseconds."""
        return os.fstat(self._descriptor).st_mtime_ns

    def named(self, still: bool) -> None:
        """Whether the path names it still: if not, the next generations are of whatever the path names then."""
        if still:
            self._last = None
        elif self._last is None:
            self._last = min(self.time(), latest_time(self.log)) if self.log else 0

    def skip_to_last(self, count: int) -> list[bytes]:
        """The last `count` whole lines; reading goes on after them."""
        lines: list[bytes] = []
        with contextlib.suppress(OSError):
            for _ in range(_TRIES):
                self._seen = latest_time(self.log)
                self._first.hold()
                lines, self._rest, self._offset = end_of(self._descriptor, count, self.log, None)
                size = min(self._offset, MARK)
                self._mark = os.pread(self._descriptor, size, self._offset - size)
                if not self._rotated():
                    break
        return lines[-count:] if count > 0 else []

    def read(self, quiet: float) -> list[bytes]:
        """Complete lines that came since, and an unfinished one after `quiet` seconds. OSError when the file cannot be
        read."""
        if self._kept:
            return self._read_kept()
        before = newest_time(self.log) if self.log else 0
        known = len(self._mark)
        data = os.pread(self._descriptor, known + _CHUNK, self._offset - known)
        if not data.startswith(self._mark) or (not known and self._rotated()):
            return self._begin_anew()
        fresh = data[known:]
        self.behind = len(fresh) == _CHUNK
        if not self.behind:
            self._seen = max(self._seen, before)
        return self._take(fresh) if fresh else self._give_up_waiting(quiet)

    def _rotated(self) -> bool:
        return bool(self.log) and newest_time(self.log) > self._seen and self._first.is_other()

    def _read_kept(self) -> list[bytes]:
        """At the end of the last one the offset stays: there the file goes on if it is not cut yet; it is looked at
        like any other, and found to be cut."""
        self.behind = True
        kept = self._kept[0]
        fresh = b""
        with contextlib.suppress(OSError):  # a damaged one is passed over
            fresh = os.pread(kept.descriptor, _CHUNK, self._offset)
        if fresh:
            return self._take(fresh)
        self._kept.pop(0).close()
        self._seen, self._turned = kept.time, True
        if self._kept:
            self._offset, self._mark = 0, b""
        return []

    def close(self) -> list[bytes]:
        """Lets go of the file; what is left is the unfinished line, if any."""
        os.close(self._descriptor)
        self._first.let_go()
        while self._kept:
            self._kept.pop().close()
        return self._give()

    def _take(self, fresh: bytes) -> list[bytes]:
        self.fed = time.monotonic()
        self._turned = False
        self._first.let_go()
        self._offset += len(fresh)
        self._mark = (self._mark + fresh)[-MARK:]
        if self._cut:
            fresh = fresh.removeprefix(b"\n")
            self._cut = False
        lines, self._rest = split(self._rest + fresh)
        return lines

    def _begin_anew(self) -> list[bytes]:
        """What was read last is no longer there: the file was rotated, and its generations are read first; or it was
        truncated by somebody, and a line that was torn by that is given as far as it was read. (A file that was cut
        and has the same bytes at the same place again cannot be told from one that was not.)"""
        # Before: one that comes after this look is not passed over.
        newest = newest_time(self.log) if self.log else 0
        self._first.hold()
        self._kept = self._own()
        self.behind = True
        if self._kept and self._goes_on(self._kept[0]):
            return []
        whole = self._turned  # the line goes on at the beginning of what comes next
        if not self._kept:
            self._seen = max(self._seen, newest)  # one that cannot be read
        self._offset, self._mark, self._turned = 0, b"", False
        if whole:
            return []
        lines, self._cut = self._give(), False
        return lines

    def _own(self) -> list[Kept]:
        """The generations that were cut off this file and not read yet."""
        own = []
        for each in newer(self.log, self._seen) if self.log else []:
            if self._last is None or each.time <= self._last:
                own.append(each)
            else:
                each.close()
        return own

    def _goes_on(self, kept: Kept) -> bool:
        with contextlib.suppress(OSError):
            return os.pread(kept.descriptor, len(self._mark), self._offset - len(self._mark)) == self._mark
        return False

    def _give_up_waiting(self, quiet: float) -> list[bytes]:
        return self._give() if time.monotonic() - self.fed > quiet else []

    def _give(self) -> list[bytes]:
        if not self._rest:
            return []
        line, self._rest, self._cut = self._rest, b"", True
        return [line]


def _tail_of(kept: Kept) -> _Tail | None:
    try:
        return _Tail(kept.descriptor)
    except OSError:  # a damaged one is passed over
        kept.close()
        return None


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character == "\t" or unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape").decode("ascii")
