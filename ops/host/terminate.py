"""Ending processes and whatever they leave: a stop signal, patience, KILL.

Knows: signals, how long is waited for whom. Must not know: services, why somebody is to end.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable

from ops.frozen import frozen
from ops.host import process
from ops.model import Process


@frozen
class Ending:
    """How ending a tree went: who was there, who would not go, and whether KILL was needed."""

    ended: tuple[Process, ...]
    left: tuple[Process, ...]
    killed: bool
    refused: str = ""


def end(
    find: Callable[[], Iterable[Process]],
    *,
    stop_signal: int = signal.SIGTERM,
    grace: float = 10.0,
    kill_time: float = 5.0,
    give_up: float = math.inf,
    clock: Callable[[], float],
) -> Ending:
    """Ends everything that `find()` names: the stop signal to all at once, up to `grace` seconds, then KILL.

    `find` is asked again after each step, since a dying parent may leave children that were not there before; what
    was named once is remembered. A stopped process gets CONT first, else the stop signal would stay pending.
    Returns only when all are gone, or `kill_time` seconds after the KILL (an uninterruptible one is then `left`), or
    at the moment `give_up` of the clock: then the grace of what is `left` is not over, and it gets no KILL.
    """
    from ops.host import death

    seen: dict[Process, None] = {}
    refusals: dict[Process, str] = {}
    killed = False
    until = clock() + grace
    for number, limit in ((stop_signal, until), (signal.SIGKILL, until + kill_time)):
        told: set[Process] = set()
        while True:
            seen.update(dict.fromkeys(find()))
            living = [one for one in seen if process.alive(one)]
            for one in [one for one in living if one not in told and one not in refusals]:
                told.add(one)
                killed = killed or number == signal.SIGKILL
                refusals.update(_tell(one, number))
            waiting = [one.pid for one in living if one not in refusals]
            if not waiting:
                return _ending(seen, living, killed, refusals)
            if clock() >= min(limit, give_up):
                break
            # Wakes up now and then: the stop signal may make a tree grow before it shrinks.
            death.gone(waiting, min(0.5, max(0.0, min(limit, give_up) - clock())))
        if clock() >= give_up:
            break
    return _ending(seen, [one for one in seen if process.alive(one)], killed, refusals)


def _ending(seen: Iterable[Process], left: Iterable[Process], killed: bool, refusals: dict[Process, str]) -> Ending:
    left = tuple(left)
    ended = tuple(one for one in seen if one not in left)
    return Ending(ended, left, killed, next(iter(refusals.values()), ""))


def _tell(one: Process, number: int) -> dict[Process, str]:
    """Sends it; says who refused, and why."""
    try:
        line = process.entry(one.pid)
        if line is not None and line.stopped and number != signal.SIGKILL:
            process.send(one, signal.SIGCONT)
        process.send(one, number)
    except PermissionError as error:
        return {one: error.strerror or str(error)}
    return {}
