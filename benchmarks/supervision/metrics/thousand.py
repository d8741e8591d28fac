"""A thousand services watched, one of them killed: how long until there is another.

The clock runs from the SIGKILL to the first answer of the new process, so a millisecond longer than until it exists.
Other services each time, at random moments, with all thousand asked on shipped intervals.
"""

from __future__ import annotations

import random
import time

from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run

TITLE = "a death among a thousand"
_WORST = 50  # ms


def measure(run: Run) -> list[Row]:
    count, kills = (100, 5) if run.quick else (1000, 20)
    dice = random.Random(13)
    seconds = []
    with run.made(Ours, count) as ours:
        time.sleep(15)
        for service in dice.sample(ours.services, kills):
            time.sleep(dice.uniform(0.2, 1))
            seconds.append(ours.brought_back(service))
    return table(count, seconds)


def table(count: int, seconds: list[float]) -> list[Row]:
    name = f"{count} services: death to the new one answering"
    return [row(name, "ms", seconds, 1000), held("worst", "ms", max(seconds) * 1000, _WORST)]
