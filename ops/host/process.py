"""Processes: who a pid is, what belongs to whom, and signals that cannot hit a stranger.

Knows: pids, births, command lines, environments; psutil (this is its one door) and Linux' /proc where it is
faster or more exact. Must not know: services, files of ours, why somebody is to be signalled.

A pid without its birth is not a process: pids are used again. On Linux the birth is the kernel's start time in
ticks since boot, which no clock step moves; elsewhere psutil's (macOS: the kernel's p_starttime; not run on a Mac).
A zombie is dead: it serves nobody and cannot be killed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ops.errors import OpsError
from ops.frozen import frozen
from ops.model import Process

if TYPE_CHECKING:
    import psutil

LINUX = sys.platform.startswith("linux")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Off Linux a birth read twice may differ by rounding; two seconds is far below what pid reuse needs.
_BIRTH_TOLERANCE = 0.0 if LINUX else 2.0
# These say nothing about a process: taking it for gone would start a second one (law 1).
_CANNOT_LOOK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@frozen
class Entry:
    """One line of the process table. `state` is the kernel's letter: T stopped, Z zombie, D unkillable …;
    `cpu` is seconds of CPU time used, `rss` bytes resident."""

    pid: int
    ppid: int
    session: int
    birth: float
    state: str
    cpu: float
    rss: int
    threads: int = 1

    @property
    def dead(self) -> bool:
        # A main thread that ended while others go on looks like a zombie, but the process lives.
        return self.state in "ZXx" and self.threads < 2

    @property
    def stopped(self) -> bool:
        return self.state in "Tt"

    @property
    def age(self) -> float:
        """Seconds since it was born."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME) if LINUX else time.time()
        return max(0.0, now - self.birth)

    def process(self) -> Process:
        return Process(self.pid, self.birth, boot_id())


@functools.cache
def boot_id() -> str:
    """Names this boot of the machine, so that what was recorded before it is never believed."""
    if LINUX:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    import subprocess  # macOS; not run on a Mac.

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
        if answer:
            return answer
    import psutil

    return f"booted at {psutil.boot_time():.0f}"  # moves with clock steps: records are then dead, markers are not


def entry(pid: int) -> Entry | None:
    """The table's line for `pid`, zombies included; None when there is no such process. OpsError when this process
    has no descriptor or memory left to look."""
    return _entry_from_proc(pid) if LINUX else _entry_from_psutil(pid)


def _entry_from_proc(pid: int) -> Entry | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError as error:
        if error.errno in _CANNOT_LOOK:
            raise OpsError(f"processes cannot be looked at: {error.strerror}", next="raise ulimit -n") from error
        return None
    # The name stands in parentheses and may hold anything; the last ")" ends it. Fields: proc_pid_stat(5).
    fields = text[text.rindex(b")") + 2 :].split()
    return Entry(
        pid=pid,
        ppid=int(fields[1]),
        session=int(fields[3]),
        birth=int(fields[19]) / _TICKS,
        state=fields[0].decode(),
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        rss=int(fields[21]) * _PAGE,
        threads=int(fields[17]),
    )


_LETTERS = {"stopped": "T", "tracing-stop": "t", "zombie": "Z", "dead": "X", "disk-sleep": "D"}


def _entry_from_psutil(pid: int) -> Entry | None:  # macOS; not run on a Mac
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            # `_ident` holds the birth as the kernel recorded it; create_time() moves with clock steps (7.1+).
            birth = getattr(process, "_ident", (pid, None))[1] or process.create_time()
            cpu, rss = _use(process)
            state = _LETTERS.get(process.status(), "S")
            return Entry(pid, process.ppid(), _session(pid), float(birth), state, cpu, rss)
    except (psutil.Error, OSError):
        return None


def _session(pid: int) -> int:
    with contextlib.suppress(OSError):  # POSIX allows a refusal outside this session
        return os.getsid(pid)
    return 0


def _use(process: psutil.Process) -> tuple[float, int]:
    """CPU seconds and bytes resident; zeros for another user's process: macOS does not tell."""
    import psutil

    try:
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.Error:
        return 0.0, 0


def pids() -> list[int]:
    """Every pid there is now."""
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil

    return psutil.pids()


def no_pause() -> None:
    """Done between two processes when nothing is more urgent."""


def table(between: Callable[[], object] = no_pause) -> dict[int, Entry]:
    """The whole process table, by pid; `between` is called before each. About 20 microseconds a process on Linux."""
    entries = (entry(pid) for pid in _each(between))
    return {line.pid: line for line in entries if line is not None}


def _each(between: Callable[[], object]) -> Iterator[int]:
    for pid in pids():
        between()
        yield pid


def identify(pid: int) -> Process | None:
    """The living process of that pid; None when there is none, or only a zombie."""
    line = entry(pid)
    return None if line is None or line.dead else line.process()


def same(process: Process, line: Entry | None) -> bool:
    """Whether a line of the table is this very process (pid, birth and boot), dead or alive."""
    return (
        line is not None
        and process.pid == line.pid
        and process.boot == boot_id()
        and abs(process.birth - line.birth) <= _BIRTH_TOLERANCE
    )


def alive(process: Process) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    line = entry(process.pid)
    return line is not None and not line.dead and same(process, line)


def ancestors(entries: dict[int, Entry] | None = None, pid: int | None = None) -> set[int]:
    """The pids of a process (by default this one) and of all above it: what a command must never signal."""
    found = {0, 1}
    pid = os.getpid() if pid is None else pid
    while pid not in found:
        found.add(pid)
        line = entries.get(pid) if entries else entry(pid)
        pid = line.ppid if line else 0
    return found


def descendants(roots: Iterable[int], entries: dict[int, Entry]) -> list[Entry]:
    """The roots themselves and everything below them, parents first; zombies left out."""
    children: dict[int, list[int]] = {}
    for line in entries.values():
        children.setdefault(line.ppid, []).append(line.pid)
    seen: dict[int, Entry] = {}
    waiting = [pid for pid in roots if pid in entries]
    while waiting:
        pid = waiting.pop(0)
        if pid not in seen:
            seen[pid] = entries[pid]
            waiting.extend(children.get(pid, ()))
    return [line for line in seen.values() if not line.dead]


def group_is_empty(leader: int) -> bool:
    """Whether nobody lives in the process group of a dead leader; a zombie does not."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    except OSError:  # EPERM: another user's are left; on macOS (XNU's killpg1) also: zombies alone
        pass
    return not any(_lives_in(leader, pid) for pid in pids())


def _lives_in(leader: int, pid: int) -> bool:
    try:
        line = entry(pid) if os.getpgid(pid) == leader else None
    except ProcessLookupError:
        return False
    return line is not None and not line.dead


def command_line(pid: int) -> list[str]:
    """Its arguments; empty when it is gone, a kernel thread, or not ours to look at."""
    if LINUX:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            text = file.read().rstrip(b"\0")
            return [os.fsdecode(word) for word in text.split(b"\0")] if text else []
        return []
    import psutil

    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []


def working_folder(pid: int) -> str | None:
    """Its current folder; None when it cannot be read."""
    import psutil

    try:
        return psutil.Process(pid).cwd() or None
    except (psutil.Error, OSError):
        return None


def program(pid: int) -> str | None:
    """The path of the file it executes; None when it cannot be read."""
    import psutil

    try:
        return psutil.Process(pid).exe() or None
    except (psutil.Error, OSError):
        return None


def owner(pid: int) -> int | None:
    """The uid it runs under; None when it is gone."""
    if LINUX:
        with contextlib.suppress(OSError):
            return os.stat(f"/proc/{pid}").st_uid
        return None
    import psutil

    try:
        return psutil.Process(pid).uids().real
    except (psutil.Error, OSError):
        return None


def variable(pid: int, name: str) -> str | None:
    """The value of one variable of its initial environment; None when absent or not ours to read."""
    if LINUX:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            wanted = f"{name}=".encode()
            for pair in file.read().split(b"\0"):
                if pair.startswith(wanted):
                    return os.fsdecode(pair[len(wanted) :])
        return None
    import psutil

    try:
        return psutil.Process(pid).environ().get(name)
    except (psutil.Error, OSError):
        return None


def terminal(pid: int) -> str | None:
    """The terminal that its output goes to (off Linux: that it belongs to, and dies with as well); None when there
    is none or it cannot be read."""
    if LINUX:
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/{pid}/fd/1")
            return path if path.startswith(("/dev/pts/", "/dev/tty")) else None
        return None
    import psutil

    try:
        return psutil.Process(pid).terminal()
    except (psutil.Error, OSError):
        return None


def carrying(name: str, prefix: str, between: Callable[[], object] = no_pause) -> Iterator[tuple[Process, str]]:
    """Our own living processes whose environment has `name` beginning with `prefix`, with the whole value."""
    mine = os.geteuid()
    for pid in _each(between):
        if owner(pid) != mine:
            continue
        before = identify(pid)
        value = variable(pid, name) if before else None
        # Looked at again: the value must be that of the process whose birth was read.
        if before and value is not None and value.startswith(prefix) and alive(before):
            yield before, value


def user_name(uid: int | None) -> str:
    """`ops`, or the number where the machine has no name for it."""
    if uid is None:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def describe(pid: int) -> str:
    """`pid 4242 (node index.js), user ops`: what people need to recognise a process."""
    words = command_line(pid)
    command = " ".join(words) or "command not readable"
    shown = "".join(c if c.isprintable() else "?" for c in command)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return f"pid {pid} ({shown}), user {user_name(owner(pid))}"


def send(process: Process, number: int, *, above: bool = False) -> bool:
    """Signals this very process; False when it is no longer there.

    Its identity is compared after a pidfd is held, so that a pid used again in between is not hit. PermissionError
    when it may not be signalled: another user's, pid 1, or an ancestor of this command. `above`: it may be an
    ancestor, as a monitor is of the guard that it has launched.
    """
    if process.pid in ({0, 1} if above else ancestors()):
        raise PermissionError(f"{describe(process.pid)} is pid 1 or runs this very command")
    if not hasattr(os, "pidfd_open"):
        return _send_by_pid(process, number)
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise
    except OSError:  # no descriptors left, an old kernel, or the race of psutil #2715: an emergency needs little
        return _send_by_pid(process, number)
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def _send_by_pid(process: Process, number: int) -> bool:
    if not alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
