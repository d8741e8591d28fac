"""Reading what rotations took away from a log before it was read.

Knows: generations as open files, in the order they were written. Must not know: lines, who follows, who rotates.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ops.host.generations import Generation, generations

_TRIES = 5  # a rotation renames them one by one: looked at in between, some would be missed
_PIECE = 256 * 1024


class Kept:
    """An open generation. `time` tells whether it is newer than another; it is closed by `close`."""

    def __init__(self, descriptor: int) -> None:
        info = os.fstat(descriptor)
        self.descriptor = descriptor
        self.time = info.st_mtime_ns
        self.identity = (info.st_dev, info.st_ino)

    def close(self) -> None:
        os.close(self.descriptor)


def newer(path: str, than: int) -> list[Kept]:
    """The generations of the log at `path` with a later time than `than`, oldest first. A compressed one is unpacked
    to a file that has no name. One that cannot be read is left out."""
    found: list[Kept] = []
    for _ in range(_TRIES):
        for each in found:
            each.close()
        before = generations(path)
        found, missing = _opened(before, than)
        if not missing and before == generations(path):
            break
    return found


def _opened(these: list[Generation], than: int) -> tuple[list[Kept], bool]:
    """By time; of two with the same time (plain and compressed, or one met twice) the first. And whether one was no
    longer there."""
    found: dict[int, Kept] = {}
    missing = False
    for each in these:
        try:
            if os.stat(each.path).st_mtime_ns <= than:
                continue
            kept = _unpacked(each.path) if each.packed else Kept(_open(each.path))
        except FileNotFoundError:
            missing = True
            continue
        except OSError:
            continue
        if kept.time in found:
            kept.close()
        else:
            found[kept.time] = kept
    return [found[time] for time in sorted(found)], missing


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _unpacked(path: str) -> Kept:
    import gzip
    import tempfile
    import zlib

    with open(_open(path), "rb") as packed, gzip.open(packed) as source, tempfile.TemporaryFile() as target:
        time = os.fstat(packed.fileno()).st_mtime_ns
        try:
            while piece := source.read(_PIECE):
                target.write(piece)
        except (EOFError, zlib.error) as error:
            raise OSError(errno.EINVAL, f"not a whole gzip file: {error}", path) from error
        target.flush()
        kept = Kept(os.dup(target.fileno()))
    kept.time = time
    return kept


@contextlib.contextmanager
def newest(path: str) -> Iterator[int | None]:
    """Generation 1 of the log, opened; None when there is none that can be read."""
    try:
        descriptor = _open(f"{path}.1")
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
