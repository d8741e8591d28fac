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

# The disk, not the caller, is at fault: an emergency goes on without the file (law 7).
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


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
        with open(path, "rb") as file:
            value = json.loads(file.read(1 << 22))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def append_line(path: str, text: str) -> bool:
    """Appends one line, fsynced; whether that was possible. Control characters become spaces: one event, one line."""
    line = "".join(character if character.isprintable() else " " for character in text) + "\n"
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return False
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
