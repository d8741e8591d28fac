"""Bringing a service back up: what the monitor does, under the lock of the service, when its policy says so.

Knows: that somebody else may be at it, what a dead one may have left, how it is ended and launched. Must not know:
why it is brought back, when it is tried again.

After a plain death the way is short: when nobody is left in its process group and nobody listens on its port, it is
launched at once. Children that left the group without a port are found and ended afterwards (`clean`). In every other
case the whole machine is looked at first, which takes a Mac half a second. Where only a loopback address can be asked
quickly (macOS), somebody may have the port on another one: then the new process either gets its address all the same,
or ends at once, and the next try, which looks thoroughly, finds who is there.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Literal

from ops.errors import LockHeld, OpsError
from ops.frozen import frozen
from ops.host import process, terminate
from ops.host.listeners import listening
from ops.memory.state import Record
from ops.memory.wishes import Wish
from ops.model import Process, Service
from ops.operations import tree
from ops.operations.sight import Sight, Surroundings, owners, see
from ops.operations.site import Site

_A_LOOK = 0.02  # seconds; whoever only looks whether the lock is held holds it for an instant
SOON = 0.1  # seconds until it is tried again when somebody holds the lock
_AT_IT = 10.0  # seconds beyond its start_timeout that a command may wait before it starts it
_LATER = 1.0  # seconds while a command is at it
_FUNERAL = 0.02  # seconds that a process may still be in the table after its death was told


@frozen
class Revival:
    """How it went: started (`root` is the new process, or one that somebody else has started); failed; taken: a
    stranger has its port; other: it is somebody else's turn, look again after `patience` seconds. `ready`: what runs
    was well before, so its next probes judge it, not a start deadline."""

    result: Literal["started", "failed", "taken", "other"]
    why: str = ""
    root: Process | None = None
    patience: float = 0.0
    ready: bool = False


def revive(site: Site, service: Service, ill: Process | None, known: int) -> Revival:
    """Ends what there is of it and starts it anew. `ill` is the process that was judged; another one that runs by now
    is left alone. `known` is the generation of the wish that the service was last seen well under: with a newer one,
    the command that wished it goes first while it lives."""
    try:
        with site.state.changing(service.name, _A_LOOK, site.by):
            return _revive(site, service, ill, known)
    except LockHeld as error:
        return Revival("other", error.seen, patience=SOON)
    except OpsError as error:
        return Revival("failed", error.seen)


def _revive(site: Site, service: Service, ill: Process | None, known: int) -> Revival:
    wish = site.state.wish(service.name)
    if wish.wanted != "up":
        return Revival("other", f"wanted {wish.wanted}", patience=_LATER)
    record = site.state.record(service.name)
    if wish.generation != known and _commanded(wish, record, service):
        return Revival("other", f"{wish.by} is at it", patience=_LATER)
    if record and ill is not None and record.process == ill and _nothing_left(site, service, record):
        return _launched(site, service, Sight(service.name, "down", record=record))
    return _look_and_launch(site, service, ill)


def _look_and_launch(site: Site, service: Service, ill: Process | None) -> Revival:
    sight = see(site.state, service, Surroundings(site.host, site.state), locked=True)
    if sight.root is not None and sight.root != ill:
        tree.adopt(site, service, sight)
        return Revival("started", "runs already", sight.root, ready=sight.ready)
    if sight.state == "foreign":
        return Revival("taken", owners(sight.strangers))
    if sight.elsewhere:
        return Revival("failed", "it runs already, started with another state folder")
    if sight.root is None and sight.members and _may_be_coming(service, sight):
        return Revival("other", "it may be putting itself in the background", patience=SOON)
    if sight.members:
        tree.end(site, service)
    return _launched(site, service, sight)


def _may_be_coming(service: Service, sight: Sight) -> bool:
    """What a process has left that was never well: the service, perhaps, on its way to its port."""
    record = sight.record
    if record is None or record.ready_at or service.port is None:
        return False
    passed = time.time() - _moment(record.started_at)
    return 0 <= passed < service.start_time  # not for a day, when the clock was set back by one


def _launched(site: Site, service: Service, before: Sight) -> Revival:
    return Revival("started", root=tree.launch(site, service, before))


def _nothing_left(site: Site, service: Service, record: Record) -> bool:
    """Whether its death left neither a process in its group nor a listener on its port. A worker, and one that died
    before it was ever well (it may have put itself in the background), is looked at thoroughly."""
    ours = record.run and record.ready_at  # only what we launched leads a group of its own
    if service.port is None or not ours or not _is_over(site, record.process):
        return False
    return process.group_is_empty(record.process.pid) and not listening(service.port)


def _is_over(site: Site, one: Process) -> bool:
    """Whether it is dead. macOS tells of a death (NOTE_EXIT) a moment before the process counts as a zombie."""
    until = time.monotonic() + _FUNERAL
    while process.alive(one):
        if time.monotonic() >= until:
            return False
        site.pause(0.001)
    return True


def _commanded(wish: Wish, record: Record | None, service: Service) -> bool:
    """Whether the command that said what is wanted is still to see to it: it runs, was born before it said so, and has
    not started the service since. One that goes on for ever (`inv start tail all`) holds nothing down, nor one that
    was stopped with Ctrl-Z."""
    said = _moment(wish.at)
    if record is not None and _moment(record.started_at) >= said:
        return False
    line = process.entry(wish.pid) if wish.pid else None
    if line is None or line.dead or line.stopped:
        return False
    return line.age >= time.time() - said and abs(time.time() - said) < service.start_timeout + _AT_IT


def _moment(text: str) -> float:
    """Seconds since the epoch; 0 for what is no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def clean(site: Site, service: Service) -> str:
    """Ends what earlier runs of a service have left behind beside the one that runs; "" when there is nothing."""
    with site.state.changing(service.name, 0.0, site.by):
        around = Surroundings(site.host, site.state)
        sight = see(site.state, service, around, locked=True)
        old = [one for one, run in around.marked.get(service.name, []) if sight.run and run != sight.run]
        if sight.root is None or sight.origin != "record" or not old:
            return ""
        ending = terminate.end(lambda: old, grace=service.grace, clock=time.monotonic)
    return f"ended {len(ending.ended)} that an earlier run had left" if ending.ended else ""
