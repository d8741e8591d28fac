"""Reading what rotations took away from a log before it was read.

Knows: generations as open files, in the order they were written. Must not know: lines, who follows, who rotates.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ops.host.generations import generations, newest_inode, open_regular

_PIECE = 256 * 1024


class Kept:
    """An open generation. `time` tells whether it is newer than another; it is closed by `close`."""

    def __init__(self, descriptor: int, *, packed: bool = False) -> None:
        info = os.fstat(descriptor)
        self.time = info.st_mtime_ns
        self.identity = (info.st_dev, info.st_ino)
        self._descriptor = descriptor
        self._packed = packed

    @property
    def descriptor(self) -> int:
        """To read it with. A compressed one is unpacked to a file that has no name, when it is asked for: of many only
        the one that is read takes room. OSError when it is damaged, or there is no room."""
        if self._packed:
            unpacked = _unpacked(self._descriptor)
            os.close(self._descriptor)
            self._descriptor, self._packed = unpacked, False
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class Newest:
    """What was the newest generation of the log at `path` ("" for none) when it was held. It is known again by its
    inode, also when somebody writes to it late. It is open meanwhile, so that a later one is not given the same inode:
    most file systems give that of a removed file to the next that is made."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: int | None = None

    def hold(self) -> None:
        self.let_go()
        for number in (1, 2) if self._path else ():  # as in newest_inode
            with contextlib.suppress(OSError):
                self._held = open_regular(f"{self._path}.{number}", os.O_NOFOLLOW)
                return

    def is_other(self) -> bool:
        """Whether it is another one now, or none was held."""
        return self._held is None or os.fstat(self._held).st_ino != newest_inode(self._path)

    def let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


def newer(path: str, than: int) -> list[Kept]:
    """The generations of the log at `path` with a later time than `than`, oldest first; one that cannot be opened is
    left out.

    Rotations may go on meanwhile. They move a generation to the next higher number and never back, so that going up
    through the numbers misses none; one that moves along is met twice, and known by its time."""
    found: dict[int, Kept] = {}
    number = 0
    while number := _next(path, number):
        for name in (f"{path}.{number}", f"{path}.{number}.gz"):  # it is plain until its compressed copy is there
            with contextlib.suppress(OSError):
                if os.stat(name, follow_symlinks=False).st_mtime_ns <= than:
                    return _in_order(found)  # the others are older
                _meet(found, Kept(open_regular(name, os.O_NOFOLLOW), packed=name.endswith(".gz")))
    return _in_order(found)


def _next(path: str, number: int) -> int:
    """The next higher number that one has or may move to just now; 0 after the last."""
    numbers = {each.number for each in generations(path)}
    return min((one for one in numbers | {one + 1 for one in numbers} if one > number), default=0)


def _meet(found: dict[int, Kept], one: Kept) -> None:
    if found.setdefault(one.time, one) is not one:
        one.close()


def _in_order(found: dict[int, Kept]) -> list[Kept]:
    return [found[time] for time in sorted(found)]


def _unpacked(descriptor: int) -> int:
    import gzip
    import tempfile
    import zlib

    with contextlib.ExitStack() as stack:
        packed = stack.enter_context(open(descriptor, "rb", closefd=False))
        source, target = stack.enter_context(gzip.open(packed)), stack.enter_context(tempfile.TemporaryFile())
        try:
            while piece := source.read(_PIECE):
                target.write(piece)
        except (EOFError, zlib.error) as error:
            raise OSError(f"not a whole gzip file: {error}") from error
        target.flush()
        return os.dup(target.fileno())


@contextlib.contextmanager
def newest(path: str) -> Iterator[int | None]:
    """Generation 1 of the log, opened; None when there is none that can be read."""
    try:
        descriptor = open_regular(f"{path}.1", os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
