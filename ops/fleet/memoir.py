"""What was answered to a request that changes things, so that it is carried out once, however often it is asked.

Knows: a file per request: what was said, and whether whoever says it lives. Must not know: what a request is.

    FOLDER/requests/ID    flocked while the request is carried out; a line of JSON for each thing that was said
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from ops.errors import OpsError

Say = Callable[..., None]
_KEPT = 86400.0  # seconds
_CANCELLED = ".cancel"
_PAUSE = 0.05
_TO_BEGIN = 1.0  # seconds from making the file to holding its lock, on a machine with much to do


def once(folder: str, name: str, say: Say, perform: Callable[[Say], None], cancelled: threading.Event) -> None:
    """Carries it out and remembers all that is said; what was asked before is only told again, to its end. Whoever asks
    again and cancels cancels what is carried out.

    A disk that takes no file keeps nothing from being done: then it is not remembered, and that is said."""
    path = os.path.join(folder, "requests", os.path.basename(name))
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)
    except FileExistsError:
        _tell_again(path, say, cancelled)
        return
    except OSError as error:
        _forgotten(path, error, say)
        perform(say)
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _forget_old(os.path.dirname(path))
        try:
            file.write(b"{}\n")
        except OSError as error:
            os.unlink(path)  # whoever asks again must not take the empty file for one that was ended
            _forgotten(path, error, say)
        done = threading.Event()
        threading.Thread(target=_heed, args=(path + _CANCELLED, cancelled, done), daemon=True).start()
        perform(lambda **said: _say(file, say, said))
        done.set()
        _write(file, {"end": True})


def _forgotten(path: str, error: OSError, say: Say) -> None:
    say(note=f"should this connection break, how it went cannot be asked for: {path}: {error.strerror}")


def _heed(path: str, cancelled: threading.Event, done: threading.Event) -> None:
    """Cancels when somebody else, who was told again, has said so."""
    while not done.wait(0.2):
        if os.path.exists(path):
            cancelled.set()


def _say(file: BinaryIO, say: Say, said: dict[str, Any]) -> None:
    if "waiting" not in said:
        _write(file, said)
    say(**said)


def _write(file: BinaryIO, said: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        file.write(json.dumps(said).encode() + b"\n")


def _tell_again(path: str, say: Say, cancelled: threading.Event) -> None:
    """All that was said, and what is said until its end. OpsError when whoever carried it out has ended before."""
    with open(path, "rb") as file:
        while True:
            over = _is_over(file)  # asked first: what it said before it ended is read below
            for text in iter(file.readline, b""):
                if not text.endswith(b"\n"):  # it is being written
                    file.seek(-len(text), os.SEEK_CUR)
                    break
                said = _read(text)
                if "end" in said:
                    return
                if said:
                    say(**said)
            if cancelled.is_set():
                open(path + _CANCELLED, "ab").close()
            if over:
                raise OpsError(
                    "whoever carried it out there was ended before it was done",
                    wanted="how it went",
                    next="look first (inv status), then the same again: it carries on from what is there",
                )
            time.sleep(_PAUSE)


def _is_over(file: BinaryIO) -> bool:
    """Whether nobody is at it any more: the lock is free, and not just because it is only now being taken."""
    return not _is_held(file) and time.time() - os.fstat(file.fileno()).st_mtime > _TO_BEGIN


def _is_held(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _read(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:  # half a line, when the disk was full
        return {}
    return said if isinstance(said, dict) else {}


def _forget_old(folder: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if time.time() - entry.stat().st_mtime > _KEPT:
                os.unlink(entry.path)
