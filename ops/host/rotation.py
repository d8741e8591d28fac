"""Rotation: what a log holds becomes its newest generation, and no line is lost or doubled.

Knows: copying while the writers run, pausing them for the rest, cutting, and a journal by which a killed rotation is
ended by whoever finds it. Must not know: services, when to rotate, how generations are compressed.

The order: copy until little is left; the journal names who will be paused; they are stopped, the rest is copied, the
copy becomes NAME.log.1, the log is cut to nothing, the journal says so, they continue, the journal goes. Killed at any
point: was the log cut, the copy stays; was it not, the copy goes; the paused continue in either case. A generation
ends where its writers stood still, so it may end within a line, which goes on in the next: put together in order they
are exactly what was written. (A cut at a line's end would have to put the rest of the line back into the log: two
steps, between which a kill would lose it.)

Two things are outside its power: a process that gets the log opened within the few milliseconds after all were looked
at and is neither of ours nor new, and a writer that this user may not see. On a Mac these are the tenths of a second
since an lsof, which is run before the pause and never in it (log_writers.FamilyPause says what else that leaves open);
and a write that had entered the kernel when its process was stopped could come after the stop: the log's size, looked
at again right before the cut, tells of it up to the last microseconds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from typing import Literal

from ops.errors import LockHeld, OpsError
from ops.frozen import frozen
from ops.host import death, process
from ops.host.generations import drop, locked, put_first
from ops.host.log_writers import PAUSE, FileId, LeftAlone, Pause, resume
from ops.model import Process

PATIENCE = 0.5  # seconds that somebody else's rotation may last; then it hangs, and whom it paused goes on

_PIECE = 256 * 1024  # bytes copied at once
_LITTLE = 64 * 1024  # bytes left to be copied in the pause: a fraction of a millisecond
_ROUNDS = 20  # of copying while the writers run; each begins where the last one saw the end
_IN_PAUSE = (2 << 20, 2 << 20, 16 << 20)  # bytes copied in the pause at most, by attempt: about a ms for each 1 MiB
_SAMPLE = 64 * 1024  # bytes compared at both ends to tell whether a log was cut
_FULL = (errno.ENOSPC, errno.EDQUOT)


@frozen
class Rotated:
    """What came of it. `size`: bytes that are in the new generation; `paused`: seconds that writers stood still;
    `full`: the disk was, so that dropping generations and trying again may help; `busy`: somebody kept it shut."""

    state: Literal["rotated", "skipped"]
    why: str = ""
    size: int = 0
    paused: float = 0.0
    full: bool = False
    busy: bool = False


@frozen
class _Note:
    """The journal of one rotation."""

    log: str
    copy: FileId  # the copy, wherever it lies
    paused: tuple[Process, ...]
    by: Process
    cut: bool = False


Shut = Callable[[], contextlib.AbstractContextManager[Collection[Process]]]


def rotate(path: str, keep: int, *, shut: Shut, journal: str, pausing: type[Pause] = PAUSE) -> Rotated:
    """Makes what the log holds its generation 1, of `keep`, while its writers go on holding it.

    `shut` is entered for the pause alone, not for the copying before it: it keeps out whoever could open the log anew
    (a start of the service), and gives who may be paused (law 2); their descendants may be, too. A log that
    somebody else writes to, or somebody without O_APPEND, is left alone, and so is one whose writers cannot be
    stopped: then `why` names them. `journal`: where to note who is paused, a file of its own for each log; see
    `recover`. `pausing`: the way of this platform.
    """
    try:
        with locked(path) as log:
            _end_what_was_begun(journal, log)
            rotated = _attempts(path, log, shut, journal, pausing)
            if rotated.state == "rotated":
                drop(path, keep)
            return rotated
    except BlockingIOError:
        return Rotated("skipped", f"{path}: another rotation of it is under way")
    except (OSError, OpsError) as error:
        return _skipped(path, error)


def rotate_by_rename(path: str, keep: int) -> Rotated:
    """The same for a log whose writers open it for each line: it is renamed, and begun anew."""
    try:
        with locked(path) as log:
            size = os.fstat(log).st_size
            if not size:
                return Rotated("skipped", f"{path} is empty")
            put_first(path, path)
            with contextlib.suppress(OSError):  # so that readers find it; a writer may have been quicker
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            drop(path, keep)
            return Rotated("rotated", size=size)
    except BlockingIOError:
        return Rotated("skipped", f"{path}: another rotation of it is under way")
    except OSError as error:
        return _skipped(path, error)


def recover(journal: str) -> str:
    """Ends what a killed rotation left: whom it paused goes on, and its copy stays or goes. "" when there was nothing
    to do (one stat), else what was done, or what could not be. OSError when the journal cannot be read.

    One that is still under way is waited for, PATIENCE seconds; does it hang, only the paused are helped.
    """
    if not os.path.lexists(journal):
        return ""
    deadline = time.monotonic() + PATIENCE
    while (note := _read(journal)) is not None:
        try:
            with locked(note.log) as log:
                return _end_what_was_begun(journal, log)
        except BlockingIOError:
            if time.monotonic() > deadline:
                resume(note.paused)
                return f"{note.log}: its rotation by pid {note.by.pid} hangs; its writers were continued"
            death.gone([note.by.pid], 0.01)
        except OSError as error:
            return _without_log(journal, note, error)
    return ""


def _skipped(path: str, error: OSError | OpsError) -> Rotated:
    if isinstance(error, OpsError):
        return Rotated("skipped", f"{path}: {error.seen}", busy=isinstance(error, LockHeld))
    return Rotated("skipped", f"{path}: {error.strerror}", full=error.errno in _FULL)


def _attempts(path: str, log: int, shut: Shut, journal: str, pausing: type[Pause]) -> Rotated:
    why = ""
    for most in _IN_PAUSE:
        if not os.fstat(log).st_size:
            return Rotated("skipped", f"{path} is empty")
        try:
            return _Attempt(path, log, shut, journal, pausing).make(most)
        except LeftAlone as refusal:
            why = f"{path}: {refusal}"
            if not refusal.worth:
                break
    return Rotated("skipped", why)


class _Attempt:
    """One try at one locked log. However it ends, nobody is left paused, and the copy is there or the log is whole."""

    def __init__(self, path: str, log: int, shut: Shut, journal: str, pausing: type[Pause]) -> None:
        self._path = path
        self._pausing = pausing
        self._log = log
        self._journal = journal
        self._size = 0  # bytes copied
        info = os.fstat(log)
        self._shut = shut
        self._copy = _new_copy(path, stat.S_IMODE(info.st_mode))
        by = process.identify(os.getpid()) or Process(os.getpid(), 0.0, "")
        self._note = _Note(path, _identity(self._copy), (), by)

    def make(self, most: int) -> Rotated:
        with contextlib.ExitStack() as held:
            held.callback(os.close, self._copy)
            try:
                self._catch_up()
                os.fsync(self._copy)  # now, so that little is at stake in a power cut after the cut
                self._catch_up()
                ours = held.enter_context(self._shut())
                pause = self._pausing(self._path, _identity(self._log), ours)
                self._catch_up()  # an lsof is time enough to write a lot
                log = held.enter_context(_for_writing(self._path, self._log))
                began = time.monotonic()
                self._cut(log, pause, most)
            finally:  # before the service's lock is let go
                _, ended = _settle(self._journal, self._note, self._log)
        return Rotated("rotated", size=self._size, paused=ended - began if self._note.paused else 0.0)

    def _catch_up(self) -> None:
        for _ in range(_ROUNDS):
            end = os.fstat(self._log).st_size
            if self._size and end - self._size <= _LITTLE:
                break
            self._copy_until(end)

    def _copy_until(self, end: int) -> None:
        while self._size < end:
            piece = os.pread(self._log, min(_PIECE, end - self._size), self._size)
            if not piece:
                raise LeftAlone("it became shorter while it was copied", worth=True)
            self._size += _write(self._copy, piece)

    def _cut(self, log: int, pause: Pause, most: int) -> None:
        self._write_down(self._note)
        pause.begin(lambda paused: self._write_down(replace(self._note, paused=paused)))
        end = os.fstat(self._log).st_size
        if end - self._size > most:
            raise LeftAlone("it grows faster than it can be copied", worth=True)
        self._copy_until(end)
        put_first(self._path, _copy_path(self._path))
        if not pause.holds() or os.fstat(self._log).st_size != end:
            raise LeftAlone("somebody let its writers go on while they were paused", worth=True)
        os.ftruncate(log, 0)
        self._write_down(replace(self._note, cut=True))

    def _write_down(self, note: _Note) -> None:
        """What will be done is noted first; but should the noting fail (disk full), it was not done."""
        _write_journal(self._journal, note)
        self._note = note


def _copy_path(path: str) -> str:
    return f"{path}.part"


def _new_copy(path: str, mode: int) -> int:
    """What lies there is left from a killed rotation: this one has the lock."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_copy_path(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(_copy_path(path), flags, mode & 0o600)


@contextlib.contextmanager
def _for_writing(path: str, log: int) -> Iterator[int]:
    """Opened only now: until here this process was not to be among the writers."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if _identity(descriptor) != _identity(log):
            raise LeftAlone("it was replaced while it was copied", worth=False)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> int:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    return written


def _identity(descriptor: int) -> FileId:
    info = os.fstat(descriptor)
    return info.st_dev, info.st_ino


# How it ends, by its own hand or another's


def _end_what_was_begun(journal: str, log: int) -> str:
    """With the lock held: a journal that is there now belongs to a dead process."""
    note = _read(journal)
    if note is None:
        return ""
    cut, _ = _settle(journal, note, log)
    whom = ", ".join(f"pid {one.pid}" for one in note.paused) or "nobody"
    end = "had been cut, and its generation stays" if cut else "had not been cut, and the copy was removed"
    return f"{note.log}: a rotation was killed; it {end}; continued: {whom}"


def _settle(journal: str, note: _Note, log: int) -> tuple[bool, float]:
    """Decides while the writers still stand, then lets them go; whether the log was cut, and when they went on."""
    cut = note.cut
    try:
        if not cut:
            cut = _take_back(note, log)
    finally:
        at = resume(note.paused)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(journal)
    return cut, at


def _take_back(note: _Note, log: int) -> bool:
    """Removes the copy unless the log was cut. The cut comes after the copy got its number, and shows in the log."""
    try:
        os.unlink(_copy_path(note.log))
        return False
    except FileNotFoundError:
        pass
    try:
        with open(f"{note.log}.1", "rb") as copy:
            if _identity(copy.fileno()) != note.copy:
                return False
            if _is_cut(log, copy.fileno()):
                return True
        os.unlink(f"{note.log}.1")
    except FileNotFoundError:
        pass
    return False


def _is_cut(log: int, copy: int) -> bool:
    """Whether the log no longer begins with the copy."""
    size = os.fstat(copy).st_size
    if os.fstat(log).st_size < size:
        return True
    samples = (0, max(0, size - _SAMPLE))
    length = min(size, _SAMPLE)
    return any(os.pread(log, length, at) != os.pread(copy, length, at) for at in samples)


def _without_log(journal: str, note: _Note, error: OSError) -> str:
    """The log is away, or something else is in its place. The copy is all there is of it, so it stays."""
    resume(note.paused)
    words = f"{note.log}: a rotation was killed, and the log cannot be opened: {error.strerror}"
    if error.errno not in (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EISDIR):
        return f"{words}; its writers were continued"
    with contextlib.suppress(FileNotFoundError):
        put_first(note.log, _copy_path(note.log))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(journal)
    return f"{words}; its writers were continued, the copy stays"


# The journal


def _write_journal(path: str, note: _Note) -> None:
    """Replaced in one step, not fsynced: a power cut leaves nobody paused."""
    temporary = f"{path}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        _write(descriptor, json.dumps(asdict(note)).encode())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def _read(path: str) -> _Note | None:
    """None when it is not there, or makes no sense: a power cut left half of it. Nobody is paused then, so it is
    removed. OSError when it cannot be read now."""
    try:
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(text)
        device, inode = told["copy"]
        paused = tuple(Process(**one) for one in told["paused"])
        return _Note(told["log"], (device, inode), paused, Process(**told["by"]), told["cut"])
    except (ValueError, KeyError, TypeError):
        os.unlink(path)
        return None
