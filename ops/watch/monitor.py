"""The monitor put together: one per state folder, in the background or on a terminal.

Knows: its parts. Must not know: what any of them does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys

from ops.errors import LockHeld, OpsError
from ops.host import process, spawn
from ops.memory.files import now
from ops.memory.last_good import LastGood
from ops.memory.state import State
from ops.memory.watchpost import Watchpost
from ops.model import Host
from ops.operations.site import Site
from ops.watch import promise
from ops.watch.loop import Loop
from ops.watch.patrol import Patrol
from ops.watch.scribe import Echo, Scribe
from ops.watch.sentry import Sentry
from ops.watch.upkeep import Upkeep

_TURN = 0.0005  # seconds after which a sweep's thread lets the loop go on; Python's 0.005 add up in a restart


def monitor(folder: str, inventory: str, *, foreground: bool, json: bool) -> int:
    """Watches until a signal ends it; the exit code. With `foreground` it prints what happens, and keeps no guard."""
    kept = LastGood(folder, inventory)
    host, text, fault = _host(inventory, kept)
    state = State(host.stack, host.root, folder)
    spawn.take_no_ignored_signals()
    state.prepare()
    beaten = Watchpost(state.path).beaten()  # by the monitor before: signing the lock changes its time
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(Watchpost(state.path, state.root).lock("monitor", "the monitor"))
        except LockHeld:
            return _refused(folder)
        scribe = Scribe(host, state, _echo(host, json) if foreground else None)
        before = beaten / 1e9 if beaten else None
        return _watch(host, state, scribe, kept, (inventory, text, fault), before, guarded=not foreground)


def _host(path: str, kept: LastGood) -> tuple[Host, str, str]:
    """As the inventory has it, and the fingerprint of that; while it is broken, as it was last right, and what is
    wrong. What was read of the same text before is not read again: that takes longer than all else here."""
    last = kept.read()
    if last is not None and last.text and last.text == promise.fingerprint_of(path):
        return last.host, last.text, ""
    try:
        host, text = promise.read(path)
    except OpsError as error:
        if last is None:
            raise
        return last.host, "", str(error)
    kept.keep(host, text)
    return host, text, ""


def _watch(
    host: Host,
    state: State,
    scribe: Scribe,
    kept: LastGood,
    read: tuple[str, str, str],
    before: float | None,
    *,
    guarded: bool,
) -> int:
    """`read`: the inventory, the fingerprint of what was read, and why what stands there now does not hold. `before`:
    the last heartbeat of the monitor before this one, seconds since the epoch."""
    inventory, text, fault = read
    sys.setswitchinterval(_TURN)
    spawn.allow_files(4 * len(host.services) + 256)
    loop = Loop(Site(host, state, "monitor", mends=False), scribe)
    scribe.watching(anew=True, before=before)
    scribe.event("", "monitor", f"begins to watch {len(host.services)} services, pid {os.getpid()}")
    if fault:
        scribe.event("", "inventory", f"broken, so the last good one holds: {fault}")
    loop.take_charge(host.services)
    loop.news.tell_all()
    patrol = Patrol(loop)
    followed = promise.Promise(loop, inventory, kept, text, fault)
    Upkeep(loop)
    sentry = Sentry(loop, patrol, followed, inventory if guarded else "")
    sentry.sign_on()
    if guarded and Watchpost(state.path).wish().up is False:  # monitor-stop came while this one was being launched
        scribe.close(5.0)
        return 0
    patrol.begin()
    gc.freeze()  # what is there by now stays: collections need not go through it, nor touch its memory
    ended = loop.run()
    why = "its state folder is another one now" if sentry.displaced else signal.Signals(ended).name
    scribe.event("", "monitor", f"ends ({why}); services run on")
    scribe.close(5.0)
    if sentry.displaced:
        spawn.become_anew()
    return 130 if ended == signal.SIGINT else 0


def _echo(host: Host, json: bool) -> Echo:
    if not json:
        name = host.stack.name
        return lambda service, kind, detail: _print(f"{now()} {service or name} {kind}" + (detail and f": {detail}"))
    from json import dumps

    def as_json(service: str, kind: str, detail: str) -> None:
        line = {"schema": 1, "task": "monitor", "at": now(), "service": service, "event": kind, "detail": detail}
        _print(dumps(line))

    return as_json


def _print(line: str) -> None:
    """A reader that is gone, or a full disk, must not end the watch."""
    try:
        print("".join(c if c.isprintable() else " " for c in line), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(folder: str) -> int:
    one = Watchpost(folder).post()
    who = process.describe(one.process.pid) if one else "by somebody who left no name"
    since = f" since {one.started_at}" if one else ""
    print(f"error: a monitor watches already: {who}{since}", file=sys.stderr)
    print("  next:   inv tail monitor    or, to take its place: inv monitor-stop monitor", file=sys.stderr)
    return 2
