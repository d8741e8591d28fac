"""The monitor is killed: how long until another one has taken over, and whether the services notice.

The clock runs from the SIGKILL to the first heartbeat of a new monitor. Then `status` must name that one and every
service with the process that it had; the same processes must answer; and a service that is killed must come back,
which shows that the new monitor watches what it adopted.
"""

from __future__ import annotations

import os
import signal
import time

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Silent, until

TITLE = "monitor killed to taken over"
_MOST = 1.0  # seconds
_LIMIT = 30.0


def measure(run: Run) -> list[Row]:
    rows = []
    for count in (5,) if run.quick else (5, 100):
        seconds, back, lost = [], [], 0
        with run.made(Ours, count) as ours:
            time.sleep(6)
            for turn in range(2 if run.quick else 5):
                time.sleep(3)
                before = ours.pids()
                seconds.append(_taken_over(ours))
                lost += _changed(ours, before)
                back.append(ours.brought_back(ours.services[turn]))
        rows += table(count, seconds, back, lost)
    return rows


def killed(count: int) -> str:
    return f"{count} services: killed to the next heartbeat"


def table(count: int, seconds: list[float], back: list[float], lost: int) -> list[Row]:
    return [
        row(killed(count), "s", seconds),
        row(f"{count} services: a death after that", "ms", back, 1000),
        held(f"{count} services, worst", "s", max(seconds), _MOST, strictly=True),
        held(f"{count} services, not adopted or not the same", "", lost, 0),
    ]


def _taken_over(ours: Ours) -> float:
    monitor, _ = ours.watchers()
    if monitor not in processes.supervisors(ours.tag):
        raise RuntimeError(f"the monitor on record, pid {monitor}, is none of this run")
    beat = ours.heartbeat()
    os.kill(monitor, signal.SIGKILL)

    def another() -> bool:
        return ours.watchers()[0] != monitor and ours.heartbeat() != beat

    seconds = until(another, _LIMIT, 0.002)
    if seconds is None:
        raise Silent(f"no monitor came back within {_LIMIT:g} s")
    return seconds


def _changed(ours: Ours, before: dict[str, int]) -> int:
    """How many services have another process than before, by `status` or by who answers; all when `status` does not
    know the new monitor."""
    said = ours.status()
    if said["monitor"]["state"] != "up" or said["monitor"]["pid"] != ours.watchers()[0]:
        return len(before)
    named = {service["name"]: service["pid"] for service in said["services"] if service["state"] == "up"}
    return sum(not (before[service.name] == named.get(service.name) == service.pid()) for service in ours.services)
