"""A service is stopped (SIGSTOP): how long until another process answers in its place.

Only supervisors that ask services for their health ever notice. All services have the shipped settings of recon-api:
every 2 s, timeout 2 s, confirm 1, grace 4 s (monit: every 2 s, timeout 2 s, TERM for 4 s). The bar is what
`check-inventory` computes from them. Each service is stopped once, at a random moment of its interval, the supervisors
in turn; 60 s stands for one that was not back by then.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence

from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.base import Peer, Setting
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Silent

TITLE = "stopped service to serving again"
_INTERVAL = 2.0
_LIMIT = 60.0


def measure(run: Run) -> list[Row]:
    rounds = 2 if run.quick else 10
    dice = random.Random(11)
    asking = [kind for kind in run.peers if kind.asks]
    seconds: dict[str, list[float]] = {kind.name: [] for kind in asking}
    with run.side_by_side(rounds, Setting(interval=_INTERVAL), asking) as peers:
        worst_case = next(peer.worst_case() for peer in peers if isinstance(peer, Ours))
        time.sleep(8)
        for turn in range(rounds):
            for peer in peers:
                time.sleep(1 + dice.uniform(0, _INTERVAL))
                seconds[peer.name].append(_stopped(peer, turn))
                run.say(peer.name, round(seconds[peer.name][-1], 2))
    return table(seconds, [kind.name for kind in run.peers if not kind.asks], worst_case)


def table(seconds: dict[str, list[float]], never: Sequence[str], worst_case: float) -> list[Row]:
    rows = [row(name, "s", values) for name, values in seconds.items()]
    rows += [row(name, "s", [], note="asks nobody: never") for name in never]
    return [*rows, held("ours, worst", "s", max(seconds["ours"]), worst_case)]


def _stopped(peer: Peer, number: int) -> float:
    try:
        return peer.brought_back(peer.services[number], signal.SIGSTOP, _LIMIT)
    except Silent:
        return _LIMIT
