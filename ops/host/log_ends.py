"""The end of a log as lines, and the end of its newest generation where the log alone is too short.

Knows: files as bytes, newlines. Must not know: who follows, what a line means.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ops.host.generations import open_regular
from ops.host.kept import newest

LONGEST = 64 * 1024  # bytes of one line; a longer one comes in pieces
MARK = 64  # bytes before an offset, by which a file is known again: are they others, it was truncated

_BLOCK = 64 * 1024  # bytes read at once from the end backwards


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    descriptor = open_regular(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def end_of(descriptor: int, count: int, log: str, since: int | None) -> tuple[list[bytes], bytes, int]:
    """At least the last `count` whole lines if there are so many, the unfinished one after them, and the size."""
    end = os.fstat(descriptor).st_size
    data = _from_end(descriptor, end, count, since if since and since <= end else 0)
    if len(data) == end and data.count(b"\n") <= count and (since is None or since > end):
        data = _before(descriptor, end, count, log, since or 0) + data
    lines, rest = split(data)
    return lines, rest, end


def _before(descriptor: int, end: int, count: int, log: str, begin: int) -> bytes:
    """The end of the newest generation, unless it is a copy of what the file still holds (a rotation is under way)."""
    with newest(log) as kept:
        size = os.fstat(kept).st_size if kept is not None else 0
        if kept is None or not size:
            return b""
        sample = min(size, MARK)
        if end >= size and os.pread(kept, sample, size - sample) == os.pread(descriptor, sample, size - sample):
            return b""
        return _from_end(kept, size, count, begin if begin <= size else 0)


def _from_end(descriptor: int, end: int, count: int, begin: int) -> bytes:
    """The end of the file after the offset `begin`, at least `count` whole lines of it: one newline more is needed,
    where the first began."""
    start, newlines, blocks = end, 0, list[bytes]()
    most = (max(count, 0) + 1) * (LONGEST + 1)  # each with its newline, and the unfinished one
    while start > begin and newlines <= count and end - start < most:
        size = min(_BLOCK, start - begin)
        start -= size
        block = os.pread(descriptor, size, start)
        newlines += block.count(b"\n")
        blocks.append(block)
    return b"".join(reversed(blocks))


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Complete lines, and the unfinished rest, which is at most LONGEST."""
    *finished, last = data.split(b"\n")
    lines = [piece for line in finished for piece in _pieces(line)]
    *full, rest = _pieces(last)
    return lines + full, rest


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST:
        return [line]
    return [line[at : at + LONGEST] for at in range(0, len(line), LONGEST)]
