"""The supervisor itself is killed: what becomes of its services, and does the next one know them.

Three services are up; the supervisor's main process gets SIGKILL, and with our monitor its guard stays, as helpers of
runit and s6 do. After 3 s: how many services still answer from the process that they had. Then the start command is
typed again, and for 20 s copies of the services are looked for, in the process table and as complaints of a taken port
in their logs. Last a service that survived is killed: is it back within 20 s. One supervisor at a time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row, wanted
from benchmarks.supervision.peers.base import Peer, content
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Service, Silent, ask, until_answer
from ops.host import process

TITLE = "the supervisor is killed"
_SERVICES = 3
_SETTLED = 3.0
_WATCHED = 20.0
_TAKEN = b"Address already in use"


def measure(run: Run) -> list[Row]:
    rows: list[Row] = []
    for kind in run.peers:
        with run.made(kind, _SERVICES) as peer:
            rows += _watched(run, peer)
    return rows


def _watched(run: Run, peer: Peer) -> list[Row]:
    time.sleep(_SETTLED)
    before = {service.name: service.pid() for service in peer.services}
    peer.kill_main()
    time.sleep(_SETTLED)
    survived = sum(ask(service.port) == before[service.name] for service in peer.services)
    started = ""
    try:
        peer.up()
    except RuntimeError as error:
        started = f"started again, it says: {str(error).splitlines()[-1][:120]}"
    copies = _copies(peer, 5 if run.quick else _WATCHED)
    same = sum(ask(service.port) == before[service.name] for service in peer.services)
    back = _killed_later(peer.services[-1])
    run.say(peer.name, survived, copies, same, back)
    return table(peer.name, survived, copies, same, back, started)


def table(name: str, survived: int, copies: int, same: int, back: float | None, started: str = "") -> list[Row]:
    rows = [
        row(f"{name}: services that live on, of {_SERVICES}", "", [survived]),
        row(f"{name}: second copies", "", [copies], note=started),
        row(f"{name}: the same processes after a new start, of {_SERVICES}", "", [same]),
        row(f"{name}: one of them killed later, back after", "s", [] if back is None else [back]),
    ]
    return rows + (_bars(survived, copies, same, back) if name == "ours" else [])


def _bars(survived: int, copies: int, same: int, back: float | None) -> list[Row]:
    return [
        wanted("ours, all live on", f"{_SERVICES}", survived == _SERVICES),
        held("ours, second copies", "", copies, 0),
        wanted("ours, all adopted", f"{_SERVICES}", same == _SERVICES),
        wanted("ours, one killed later comes back", "yes", back is not None),
    ]


def _copies(peer: Peer, seconds: float) -> int:
    """Processes too many of any service that were seen, and as many as died of a port that was taken."""
    most: Counter[int] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen = Counter(_port_of(pid) for pid in processes.tagged(peer.tag) if processes.is_service(pid, peer.tag))
        most |= seen
        time.sleep(0.1)
    died = sum(content(file).count(_TAKEN) for service in peer.services for file in peer.captured(service))
    return died or sum(count - 1 for count in most.values())


def _port_of(pid: int) -> int:
    words = process.command_line(pid)
    return int(words[words.index("--port") + 1]) if "--port" in words else 0


def _killed_later(service: Service) -> float | None:
    """Seconds until it is back; None when it is not, or was not there any more."""
    pid = ask(service.port)
    if not pid or not processes.is_service(pid, service.tag):
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return until_answer(service.port, _WATCHED, but=pid)
    except Silent:
        return None
