"""Small files that are replaced in one step, and read without trust.

Knows: atomic writes, fsync, errors of a full disk. Must not know: what is in the files.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import time
from typing import Any

from ops.errors import OpsError

# The disk, not the caller, is at fault: an emergency goes on without the file (law 7).
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_LONGEST = 1 << 22  # bytes; what is longer is nothing of ours
# These say nothing about what is in a file.
_CANNOT_LOOK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def write_atomically(path: str, data: bytes, *, fsync: bool) -> None:
    """Replaces the file in one step; with `fsync` it survives a power cut. OSError leaves the old one as it was."""
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(data)
            if fsync:
                os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if fsync:
        _fsync_folder(os.path.dirname(path))


def _fsync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def now(ago: float = 0.0) -> str:
    """This moment, or one `ago` seconds before it, as ISO 8601 with the zone."""
    moment = datetime.datetime.now().astimezone() - datetime.timedelta(seconds=ago)
    return moment.isoformat(timespec="milliseconds")


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in a file; {} when it is missing, half-written, garbage or not an object."""
    try:
        return _read_json(path)
    except OSError:
        return {}


def _read_json(path: str) -> dict[str, Any]:
    with open(path, "rb", buffering=0) as file:
        # Not a buffer for the longest: a monitor that is short of memory is to go on.
        text = file.read(min(os.fstat(file.fileno()).st_size, _LONGEST))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def version(path: str) -> tuple[int, int, int] | None:
    """What changes when the file is replaced or written to; None when there is none to look at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class Unchanged:
    """A JSON file that is read again only when it was replaced. What `read` gives is not to be changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[tuple[int, int, int], dict[str, Any]] | None = None

    def forget(self) -> None:
        """Has it read anew, whatever its time says (two changes may fall into one tick of the file system's clock)."""
        self._seen = None

    def read(self) -> dict[str, Any]:
        """As read_json does. OpsError when this process has no descriptor or memory left to look: what is not known
        is not nothing, and must not be taken for it."""
        identity = version(self._path)
        if identity is None:
            return {}
        seen = self._seen  # threads share it: each takes and leaves the pair as a whole
        if seen is None or seen[0] != identity:
            seen = self._seen = (identity, self._look())
        return seen[1]

    def _look(self) -> dict[str, Any]:
        try:
            return _read_json(self._path)
        except OSError as error:
            if error.errno in _CANNOT_LOOK:
                raise OpsError(f"{self._path} cannot be read: {error.strerror}", next="raise ulimit -n") from error
            return {}


def append_line(path: str, text: str, *, fsync: bool = True) -> bool:
    """Appends one line, by default fsynced; whether that was possible. One event, one line: control characters become
    spaces."""
    try:
        append(path, text, fsync=fsync)
    except OSError:
        return False
    return True


def append(path: str, text: str, *, fsync: bool = True) -> None:
    """The same; OSError says why it was not possible. A line that a full disk cut off is ended before the next."""
    line = "".join(character if character.isprintable() else " " for character in text) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        left = ("\n" * torn + line).encode()
        while left:
            left = left[os.write(descriptor, left) :]
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
