"""Who has a log open for writing, and how they are paused for a moment.

Knows: descriptors and their flags (Linux: /proc; macOS: lsof), stopping and continuing identified processes.
Must not know: services, why they are paused, what is done meanwhile.

Who holds a file, Linux tells within the pause. macOS takes an lsof for it, 100 ms and more, so there it is asked only
before the pause (FamilyPause), and within it everybody stands still who may have got the file since, holder or not.

The lsof way has been run on Linux only, and its parser on made-up macOS output; FamilyPause has been run on Linux
against real writers. Neither has been run on a Mac.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable

from ops.frozen import frozen
from ops.host import process
from ops.model import Process

STOP_SECONDS = 0.05  # a process that is not stopped by then waits for something uninterruptible

_ORPHANAGE = 1  # the parent of whom has lost it

FileId = tuple[int, int]  # device and inode


@frozen
class Holder:
    """A process that has the file open for writing; `append`: through O_APPEND only."""

    process: Process
    append: bool


class LeftAlone(Exception):
    """The log cannot be rotated now; the text says why, for people. `worth`: trying again at once may help."""

    def __init__(self, why: str, *, worth: bool = False) -> None:
        super().__init__(why)
        self.worth = worth


def writers(path: str, identity: FileId, pids: Collection[int] | None = None) -> tuple[Holder, ...]:
    """Who among `pids` (None: all processes that this user may look at) has the file open for writing.

    `path` is where it lies. OpsError when lsof is needed and fails.
    """
    append = _from_proc(path, identity, process.pids() if pids is None else pids)
    found = {pid: process.identify(pid) for pid in append}
    return tuple(Holder(one, append[pid]) for pid, one in sorted(found.items()) if one)


def _from_proc(path: str, identity: FileId, pids: Iterable[int]) -> dict[int, bool]:
    """Whether each writer appends only, by pid."""
    if not process.LINUX:
        return _from_lsof(path, set(pids))
    name = _only_name(path)
    flags = {pid: _flags(pid, identity, name) for pid in pids}
    return {pid: all(each & os.O_APPEND for each in found) for pid, found in flags.items() if found}


def _only_name(path: str) -> str | None:
    """What every descriptor of the file is called in /proc; None when it has several names. With it, few descriptors
    need a stat, which would hang on one of a file system that does not answer."""
    return os.path.basename(path) if os.stat(path).st_nlink == 1 else None


def _flags(pid: int, identity: FileId, name: str | None) -> list[int]:
    """The flags (fdinfo) of its descriptors that can write to the file; none when it is gone or hidden from us."""
    folder = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(folder)
    except OSError:
        return []
    found = []
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed since it was listed
            if _leads_to(f"{folder}/{descriptor}", identity, name):
                flags = _flags_of(f"/proc/{pid}/fdinfo/{descriptor}")
                found += [flags] if flags & os.O_ACCMODE != os.O_RDONLY else []
    return found


def _leads_to(link: str, identity: FileId, name: str | None) -> bool:
    if name is not None and name not in os.readlink(link):
        return False
    info = os.stat(link)
    return (info.st_dev, info.st_ino) == identity


def _flags_of(path: str) -> int:
    with open(path, "rb") as file:
        for line in file:
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8)
    return os.O_RDWR  # it does not tell: then it may write, and not append


def _from_lsof(path: str, pids: set[int]) -> dict[int, bool]:  # macOS; not run on a Mac
    from ops.host.listeners import run_lsof

    # +fG: the flags of each open file as numbers; the file is selected by its identity, whatever it is called.
    found = parse_lsof_flags(run_lsof(["-nPw", "+fG", "-F", "pfaG", "--", path]), os.O_APPEND)
    return {pid: append for pid, append in found.items() if pid in pids}


def parse_lsof_flags(text: str, append: int) -> dict[int, bool]:
    """Whether each writer appends only, by pid, from `lsof +fG -F pfaG`. `append` is the platform's O_APPEND: kernel
    flags of Darwin have that bit in the same place (FAPPEND)."""
    found: dict[int, bool] = {}
    pid, writes = 0, False
    for line in text.splitlines():
        if line.startswith("p"):
            pid = int(line[1:])
        elif line.startswith("a"):
            writes = line[1:] in ("w", "u")
            if writes:
                found.setdefault(pid, True)
        elif line.startswith("G") and writes:
            found[pid] = found[pid] and bool(int(line[1:].partition(";")[0], 16) & append)
    return found


class Pause:
    """Everybody who may write to one file, stopped for a moment.

    `ours` may be signalled (law 2), and whatever descends from them. `note` is told who is about to be stopped, before
    it happens; what it raises keeps them running. Who was stopped already is not in `paused`: it is to stay so.
    """

    def __init__(self, path: str, identity: FileId, ours: Collection[Process]) -> None:
        self.paused: tuple[Process, ...] = ()
        self._path = path
        self._identity = identity
        self._ours = frozenset(one.pid for one in ours)
        self._never = process.ancestors()
        self._looked_at = set(process.pids())
        self._holders = self._willing(writers(path, identity, self._looked_at))

    def begin(self, note: Callable[[tuple[Process, ...]], None]) -> None:
        """Stops all of them, and who joined them meanwhile. LeftAlone when that cannot be done."""
        new = self._holders
        while new:
            running = tuple(one for one in new if not _stopped_before(one))
            self.paused += running
            note(self.paused)
            for one in running:
                _stop(one)
            self._wait()
            new = self._newcomers()
            self._holders += new

    def holds(self) -> bool:
        """Whether every thread of all of them stands still."""
        return all(_halted(one.pid) for one in self._holders)

    def _wait(self) -> None:
        """The signal is delivered when a process is next about to run, so that is waited for; twice, because a thread
        may have come while the first look was on."""
        deadline = time.monotonic() + STOP_SECONDS
        for _ in range(2):
            while not self.holds():
                if time.monotonic() > deadline:
                    busy = next((one for one in self._holders if not _halted(one.pid)), self._holders[0])
                    raise LeftAlone(f"{process.describe(busy.pid)} does not stop: it waits for a disk?", worth=True)
                os.sched_yield()

    def _newcomers(self) -> tuple[Process, ...]:
        """A writer forks; only what came since the first look, and ours, is looked at again."""
        now = set(process.pids())
        known = {one.pid for one in self._holders}
        found = writers(self._path, self._identity, ((now - self._looked_at) | self._ours) - known)
        self._looked_at |= now
        return self._willing(found, worth=True)  # a fork that has not come to its exec yet holds what it will not keep

    def _willing(self, found: Iterable[Holder], *, worth: bool = False) -> tuple[Process, ...]:
        chosen = []
        for holder in found:
            refusal = self._refusal(holder)
            if refusal:
                raise LeftAlone(f"{process.describe(holder.process.pid)} {refusal}", worth=worth)
            chosen.append(holder.process)
        return tuple(chosen)

    def _refusal(self, holder: Holder) -> str:
        pid = holder.process.pid
        if pid in self._never:
            return "writes to it, and runs this very command"
        if not self._ours & process.ancestors(pid=pid):
            return "writes to it, and is not one of ours"
        return "" if holder.append else "writes to it without O_APPEND: a cut would leave a hole"


class FamilyPause(Pause):
    """The same where nobody tells within milliseconds who has a file open: nothing but the process table is looked at
    in the pause. All of `ours` are stopped, whether they hold the file or not, and whatever of theirs was born since
    the first look: it has the file from them, and so appends. Then none of the family can open it, write or fork.

    One that was born since, and is nobody's child (macOS gives an orphan to launchd), may have had a parent in the
    family: then it is tried again with a new look, and given up should that never help.

    What it cannot exclude, and `Pause` can: somebody of the family that has opened the log itself since the first
    look, and without O_APPEND; an orphan of that time that runs as another user. And the first look is older by an
    lsof: so much longer a stranger has to get the log opened unseen.
    """

    def __init__(self, path: str, identity: FileId, ours: Collection[Process]) -> None:
        super().__init__(path, identity, ours)
        known = {one.pid for one in self._holders} | self._never
        self._holders += tuple(one for one in ours if one.pid not in known and process.alive(one))

    def _newcomers(self) -> tuple[Process, ...]:
        now = set(process.pids())
        born = now - self._looked_at
        self._looked_at |= now
        lines = [line for line in map(process.entry, sorted(born)) if line is not None and not line.dead]
        for line in lines:
            if line.ppid == _ORPHANAGE and process.owner(line.pid) == os.geteuid():
                raise LeftAlone(f"{process.describe(line.pid)} came meanwhile, and has no parent", worth=True)
        family = self._ours - self._never
        return tuple(line.process() for line in lines if family & process.ancestors(pid=line.pid))


# How a rotation pauses on this platform.
PAUSE: type[Pause] = Pause if process.LINUX else FamilyPause


def resume(paused: Iterable[Process]) -> float:
    """CONT to each that is still there. Returns when the last was sent off (monotonic): whoever is woken may take the
    processor from this process at once."""
    at = time.monotonic()
    for one in paused:
        at = time.monotonic()
        with contextlib.suppress(PermissionError):
            process.send(one, signal.SIGCONT)
    return at


def _stop(one: Process) -> None:
    try:
        process.send(one, signal.SIGSTOP)
    except PermissionError as error:
        raise LeftAlone(f"{process.describe(one.pid)} may not be paused: {error.strerror or error}") from error


def _stopped_before(one: Process) -> bool:
    line = process.entry(one.pid)
    return line is not None and line.state == "T"


def _halted(pid: int) -> bool:
    """Whether all its threads are stopped, or it is gone. One in the hands of a debugger (t) is not."""
    if not process.LINUX:
        line = process.entry(pid)
        return line is None or line.dead or line.state == "T"
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    return all(_letter(f"/proc/{pid}/task/{thread}/stat") in b"TZXx" for thread in threads)


def _letter(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return b"X"
    at = text.rindex(b")") + 2
    return text[at : at + 1]
