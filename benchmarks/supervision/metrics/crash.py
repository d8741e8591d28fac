"""A service is killed: how long until it answers again.

Every supervisor has the same number of services, all are up at once, and each service is killed once, some seconds
after it was started: no pause between restarts is in play. In a round each supervisor loses one service, in turn, and
then the service is started without any supervisor: its cold start. The clock runs from just before the SIGKILL (or the
start) to the first answer from another process, asked for every millisecond. Supervisors that notice a death only
when they look get a quarter of the rounds, and are hit at a random moment between two looks.
"""

from __future__ import annotations

import random
import time

from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.ours import is_critical
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Silent, cold_start

TITLE = "crash to answering again"
_SETTLED = 6.0
_MORE = 0.005  # seconds that it may take beyond the cold start
_WORST = 0.050


def measure(run: Run) -> list[Row]:
    rounds = 4 if run.quick else 20
    dice = random.Random(7)
    seconds: dict[str, list[float]] = {kind.name: [] for kind in run.peers}
    lost: dict[str, int] = {}
    colds = []
    alone = run.service("alone")
    with run.side_by_side(rounds) as peers:
        time.sleep(_SETTLED)
        for turn in range(rounds):
            for peer in peers:
                if peer.looks and turn % 4:
                    continue
                time.sleep(dice.uniform(0, peer.looks or 0.4))
                try:
                    seconds[peer.name].append(peer.brought_back(peer.services[turn]))
                except Silent:
                    lost[peer.name] = lost.get(peer.name, 0) + 1
            colds.append(cold_start(alone))
    return table(colds, seconds, lost)


def table(colds: list[float], seconds: dict[str, list[float]], lost: dict[str, int]) -> list[Row]:
    return [*_figures(colds, seconds, lost), *_bars(colds, seconds, lost)]


def _figures(colds: list[float], seconds: dict[str, list[float]], lost: dict[str, int]) -> list[Row]:
    rows = [row("cold start, no supervisor", "ms", colds, 1000)]
    for name, values in seconds.items():
        note = f"{lost[name]} not back within 60 s" if name in lost else ""
        rows.append(row(name, "ms", values, 1000, note=note))
    return [rows[0], *sorted(rows[1:], key=lambda found: (found.median is None, found.median))]


def _bars(colds: list[float], seconds: dict[str, list[float]], lost: dict[str, int]) -> list[Row]:
    cold, ours = row("", "", colds).median, row("", "", seconds.get("ours", []))
    if cold is None or ours.median is None or ours.high is None:
        return []
    rows = [
        held("ours, median", "ms", ours.median * 1000, (cold + _MORE) * 1000),
        *(_by_rank(seconds["ours"]) if "ours" not in lost else []),
        held("ours, worst", "ms", ours.high * 1000, _WORST * 1000, strictly=True),
        held("ours, not back", "", lost.get("ours", 0), 0),
    ]
    for name, most in (("runit", None), ("pm2", 1.0)):
        other = row("", "", seconds.get(name, [])).median
        if other and most:
            rows.append(held(f"ours against {name}, median", "times", ours.median / other, most, strictly=True))
        elif other:
            rows.append(row(f"ours against {name}, median", "times", [ours.median / other]))
    return rows


def _by_rank(values: list[float]) -> list[Row]:
    """Critical services and the others apart: the latter let the former go first. The values are in the order of
    the services, none is missing."""
    critical = [value for place, value in enumerate(values) if is_critical(place)]
    others = [value for place, value in enumerate(values) if not is_critical(place)]
    return [row("ours, critical ones", "ms", critical, 1000), row("ours, the others", "ms", others, 1000)]
