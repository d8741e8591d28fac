"""Many restarts: whether the monitor and its guard grow.

Ten services are killed in turn, each as soon as all have come back, `--restarts` times; there are no pauses between
restarts (`delay: 0`, `attempts` without end). Memory and descriptors are looked at ten times on the way; the growth is
that after the first fifth, in which caches fill.
"""

from __future__ import annotations

import time

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.base import Setting
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run

TITLE = "many restarts"
_SERVICES = 10
_LOOKS = 10
_MOST = 1.0  # MB that it may grow by and still be called flat


def measure(run: Run) -> list[Row]:
    number = 100 if run.quick else run.restarts
    resident, open_files, seconds = [], [], []
    with run.made(Ours, _SERVICES, setting=Setting(eager=True)) as ours:
        time.sleep(5)
        for count in range(1, number + 1):
            seconds.append(ours.brought_back(ours.services[count % _SERVICES]))
            if count % max(1, number // _LOOKS) == 0:
                memory, descriptors = _look(ours)
                run.say(f"{count} restarts: {memory / 1e6:.2f} MB, {descriptors} descriptors")
                resident.append(memory)
                open_files.append(descriptors)
    return table(number, seconds, resident, open_files)


def table(number: int, seconds: list[float], resident: list[int], open_files: list[int]) -> list[Row]:
    settled = max(0, len(resident) // 5 - 1)
    return [
        row("restart, from death to answering", "ms", seconds, 1000),
        row("resident, monitor and guard", "MB", resident, 1e-6),
        row("open descriptors", "", open_files),
        held(f"growth over {number} restarts", "MB", (resident[-1] - resident[settled]) / 1e6, _MOST),
        held(f"more descriptors after {number}", "", open_files[-1] - open_files[settled], 0),
    ]


def _look(ours: Ours) -> tuple[int, int]:
    """Bytes resident and open descriptors, when nothing is under way: the least of some looks."""
    looks = []
    for _ in range(10):
        time.sleep(0.1)
        pids = processes.supervisors(ours.tag)
        looks.append((processes.memory(pids).rss, processes.descriptors(pids)))
    return min(memory for memory, _ in looks), min(descriptors for _, descriptors in looks)
