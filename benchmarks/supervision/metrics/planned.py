"""A planned restart under load: which requests are lost.

One service gets 200 requests a second, a new connection each, sent on time whether or not earlier ones came back, and
given up after 2 s. A second after the first the restart command is typed. Lost: refused, reset, empty, or without an
answer in time; the gap is the longest time between two good answers. The service ends at once on SIGTERM, so what is
seen is the time in which nobody holds the port: no supervisor here holds it in the service's place, ours neither. The
one way around that is pm2's `reload` of a Node service with two workers. `no restart` shows what the load loses by
itself. In turns, round by round.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.supervision.figures import Row, row, wanted
from benchmarks.supervision.peers.base import Peer
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.peers.pm2 import Pm2, Pm2Cluster
from benchmarks.supervision.run import Run

TITLE = "requests lost over a planned restart"
_RATE = 200
_SECONDS = 5.0
_SETTLED = 2.0
_REQUEST = b"GET /health HTTP/1.0\r\n\r\n"


@dataclass
class Load:
    """What came of one. `good`: when the good answers came."""

    lost: Counter[str] = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    command: float = 0.0

    def gap(self) -> float:
        return max((later - earlier for earlier, later in itertools.pairwise(sorted(self.good))), default=0.0)


def measure(run: Run) -> list[Row]:
    plan = [(kind.name, kind, "restart") for kind in run.peers]
    if run.has("pm2") and Pm2.version():
        plan += [("pm2, two workers, reload", Pm2Cluster, "reload")]
    plan.append(("ours, no restart", Ours, ""))
    found: dict[str, list[Load]] = {name: [] for name, _, _ in plan}
    for _ in range(1 if run.quick else 5):
        for name, kind, verb in plan:
            with run.made(kind, 1) as peer:
                time.sleep(_SETTLED)
                command = peer.verb_argv(verb, peer.services[0]) if verb else []
                found[name].append(asyncio.run(_loaded(peer, command)))
            run.say(name, dict(found[name][-1].lost), f"{found[name][-1].gap():.3f} s")
    return table(found)


def table(found: dict[str, list[Load]]) -> list[Row]:
    rows = [line for name, loads in found.items() for line in _rows(name, loads)]
    idle = sum(load.lost.total() for load in found["ours, no restart"])
    return [*rows, wanted("the load by itself loses nothing", "0 lost", idle == 0, f"{idle} lost")]


def _rows(name: str, loads: Sequence[Load]) -> list[Row]:
    kinds = sum((load.lost for load in loads), Counter[str]())
    note = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    rows = [
        row(f"{name}: lost", "requests", [load.lost.total() for load in loads], note=note),
        row(f"{name}: longest gap", "ms", [load.gap() for load in loads], 1000),
    ]
    if any(load.command for load in loads):
        rows.append(row(f"{name}: the command", "ms", [load.command for load in loads], 1000))
    return rows


async def _loaded(peer: Peer, command: Sequence[str]) -> Load:
    load, port = Load(), peer.services[0].port
    seconds = _SECONDS + (peer.looks if peer.asks else 0.0)
    begun = time.perf_counter()
    doing = asyncio.create_task(_typed(peer, command)) if command else None
    tasks = []
    for number in range(int(_RATE * seconds)):
        await asyncio.sleep(max(0.0, begun + number / _RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(_one(port, load)))
    await asyncio.gather(*tasks)
    if doing is not None:
        load.command = await doing
    return load


async def _typed(peer: Peer, command: Sequence[str]) -> float:
    """Seconds that the restart command takes, from a second from now."""
    await asyncio.sleep(1)
    begun = time.perf_counter()
    null = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(
        *command, env=peer.env, cwd=peer.folder(), stdin=null, stdout=null, stderr=null
    )
    await child.wait()
    return time.perf_counter() - begun


async def _one(port: int, load: Load) -> None:
    try:
        answer = await asyncio.wait_for(_answer(port), 2)
    except (asyncio.TimeoutError, OSError) as error:
        load.lost[_words(error)] += 1
        return
    if answer[8:12] == b" 200":
        load.good.append(time.perf_counter())
    else:
        load.lost["empty" if not answer else "other"] += 1


def _words(error: BaseException) -> str:
    known: dict[type[BaseException], str] = {
        ConnectionRefusedError: "refused",
        ConnectionResetError: "reset",
        asyncio.TimeoutError: "too late",
    }
    return known.get(type(error), type(error).__name__)


async def _answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_REQUEST)
        return await reader.read(4096)
    finally:
        writer.close()
