"""What a supervisor occupies while its services run: all of its processes, helpers and log writers included.

One supervisor at a time, some seconds after its services answered. `resident` counts a shared page in each process
that has it, `proportional` shares it out (also with foreign programs that have the same libraries). With the most
services their CPU at idle is taken as well, as `cpu` does with fewer: six times a thousand at once would be too many.
"""

from __future__ import annotations

import time

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.metrics import cpu
from benchmarks.supervision.peers.base import Peer
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run

TITLE = "memory"
_COUNTS = (5, 100, 1000)
_SETTLED = 5.0
_MB, _KB = 1e6, 1e3
_FIVE = 40  # MB resident with five services
_MORE = 50  # KB resident per further service


def measure(run: Run) -> list[Row]:
    counts = (5, 50) if run.quick else _COUNTS
    rows, ours = [], {}
    for count in counts:
        for kind in run.peers:
            if count > kind.most:
                continue
            with run.made(kind, count) as peer:
                time.sleep(_SETTLED)
                pids = processes.supervisors(peer.tag)
                found = processes.memory(pids)
                apart = _apart(peer, count)
                if count == max(counts):
                    used = cpu.percent([peer], 10 if run.quick else 40)[kind.name]
                    apart.append(idle(kind.name, count, used))
            if kind.name == "ours":
                ours[count] = found.rss
            rows += [*table(kind.name, count, len(pids), found), *apart]
    return [*rows, *bars(ours)]


def table(name: str, count: int, number: int, found: processes.Memory) -> list[Row]:
    """What so many processes with so many services have."""
    name = f"{name}, {count} services, {number} process{'es' * (number > 1)}"
    return [
        row(f"{name}: resident", "MB", [found.rss / _MB]),
        row(f"{name}: proportional", "MB", [found.pss / _MB]),
    ]


def idle(name: str, count: int, used: float) -> Row:
    return row(f"{name}, {count} services alone: CPU at idle", "%", [used])


def bars(ours: dict[int, int]) -> list[Row]:
    """`ours`: bytes resident by number of services."""
    least, most = min(ours), max(ours)
    further = (ours[most] - ours[least]) / (most - least)
    return [
        held(f"ours, {least} services", "MB", ours[least] / _MB, _FIVE),
        held(f"ours, per further service up to {most}", "KB", further / _KB, _MORE),
    ]


def _apart(peer: Peer, count: int) -> list[Row]:
    """What monitor and guard have resident, each by itself."""
    if not isinstance(peer, Ours):
        return []
    pairs = zip(("the monitor", "its guard"), peer.watchers(), strict=True)
    sizes = {who: processes.memory([pid]).rss / _MB for who, pid in pairs}
    return [row(f"ours, {count} services, {who} alone: resident", "MB", [size]) for who, size in sizes.items()]
