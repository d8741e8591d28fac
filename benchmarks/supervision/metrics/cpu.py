"""What a supervisor uses of one core while nothing happens, all of its processes taken together.

All supervisors at once, over the same seconds, for the comparison; for the bar this one alone, as it is installed:
six others that wake now and then leave it a cold cache each time. With 1000 services it is measured one at a time, by
`memory`, which has them up anyway. This toolkit asks its services on shipped intervals
(the first every 2 s, the others every 10 s), monit all of them every 10 s; the others ask nobody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row
from benchmarks.supervision.peers.base import Peer
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.run import Run

TITLE = "CPU at idle"
_SETTLED = 10.0
_MOST = {5: 0.2, 100: 3.0}  # percent of a core, by services


def measure(run: Run) -> list[Row]:
    rows = []
    seconds = 15 if run.quick else 60
    for count in _MOST:
        with run.side_by_side(count) as peers:
            used = percent(peers, seconds)
        with run.made(Ours, count) as alone:
            mine = percent([alone], seconds)["ours"]
        rows += table(count, used, mine)
    return rows


def table(count: int, used: dict[str, float], mine: float) -> list[Row]:
    """`used` beside the others, `mine` alone."""
    rows = [row(f"{name}, {count} services", "%", [share]) for name, share in used.items()]
    return [*rows, held(f"ours alone, {count} services", "%", mine, _MOST[count], strictly=True)]


def percent(peers: Sequence[Peer], seconds: float) -> dict[str, float]:
    """By name: what each uses of a core over so many seconds, once things have settled."""
    time.sleep(_SETTLED)
    before = {peer.name: processes.cpu(processes.supervisors(peer.tag)) for peer in peers}
    begun = time.perf_counter()
    time.sleep(seconds)
    found = {}
    for peer in peers:
        after = processes.cpu(processes.supervisors(peer.tag))
        used = sum(spent - before[peer.name].get(pid, 0.0) for pid, spent in after.items())
        found[peer.name] = 100 * used / (time.perf_counter() - begun)
    return found
