"""The processes of one run: which they are, what they use, how they are ended.

Knows: /proc, the tag that every process of a run carries in its environment or its arguments. Must not know: what is
measured, which supervisor is which.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ops.host import process

ENDING = 20.0  # seconds in which everything of a run must be gone
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Bytes. `rss` counts a shared page in each process that has it, `pss` shares it out."""

    rss: int = 0
    pss: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss)


def of_service(tag: str) -> str:
    """The word that tells the services of a run from their supervisor: among their arguments."""
    return f"{tag}svc"


def is_service(pid: int, tag: str) -> bool:
    return of_service(tag) in process.command_line(pid)


def tagged(tag: str) -> list[int]:
    """Every living process that carries the tag; never this one."""
    needle, found = tag.encode(), []
    for pid in process.pids():
        if pid != os.getpid() and (needle in _read(pid, "cmdline") or needle in _read(pid, "environ")):
            found.append(pid)
    return [pid for pid in found if process.identify(pid)]


def supervisors(tag: str) -> list[int]:
    """All that carries the tag and is no service: helpers, log writers and guards too."""
    return [pid for pid in tagged(tag) if not is_service(pid, tag)]


def sweep(tag: str) -> list[int]:
    """Ends, by pid, whatever carries the tag; supervisors first, so that they bring nothing back. What would not go."""
    until = time.monotonic() + ENDING
    while left := tagged(tag):
        if time.monotonic() > until:
            return left
        for pid in sorted(left, key=lambda pid: is_service(pid, tag)):
            one = process.identify(pid)
            if one and pid in left and tag.encode() in _read(pid, "cmdline") + _read(pid, "environ"):
                with contextlib.suppress(PermissionError):
                    process.send(one, signal.SIGKILL)
        time.sleep(0.02)
    return []


def memory(pids: Iterable[int]) -> Memory:
    """The sum over these processes."""
    return sum((_memory(pid) for pid in pids), Memory())


def _memory(pid: int) -> Memory:
    sizes = {"Rss": 0, "Pss": 0}
    for line in _read(pid, "smaps_rollup").decode(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key in sizes:
            sizes[key] = int(value.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"])


def cpu(pids: Iterable[int]) -> dict[int, float]:
    """Seconds of CPU time that each has used, its dead threads and the children that it has waited for included."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = _read(pid, "stat").rpartition(b")")[2].split()
            children = (int(fields[13]) + int(fields[14])) / _TICKS
            used[pid] = time.clock_gettime(_cpu_clock(pid)) + children
    return used


def _cpu_clock(pid: int) -> int:
    """The clock of another process's CPU time, to the nanosecond: clock_getcpuclockid(3), as glibc computes it."""
    return (~pid << 3) | 2


def descriptors(pids: Iterable[int]) -> int:
    """How many descriptors they have open."""
    found = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found += len(os.listdir(f"/proc/{pid}/fd"))
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
