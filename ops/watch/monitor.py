"""The monitor put together: one per state folder, in the background or on a terminal.

Knows: its parts. Must not know: what any of them does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NamedTuple

from ops.errors import LockHeld, OpsError
from ops.frozen import frozen
from ops.host import death, process, spawn
from ops.host.notify import MORE_TIME, Notifier
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
from ops.watch.sentry import Kept, Sentry
from ops.watch.upkeep import Upkeep

_TURN = 0.0001  # seconds after which a sweep's thread lets the loop go on; Python's 0.005 add up in a restart


@frozen
class Way:
    """How it runs. `under`: the init system that keeps it, `waiting` for one that lets the monitor before it end first
    (as a kept one does), "" for one that stands alone. In the `foreground` it prints what happens."""

    under: str = ""
    foreground: bool = False
    json: bool = False

    @property
    def kept(self) -> bool:
        """Whether somebody else brings it back."""
        return self.under in ("systemd", "launchd")

    @property
    def guarded(self) -> bool:
        """Whether it has a guard: systemd watches by itself, and on a terminal somebody does."""
        return not self.foreground and self.under != "systemd"


def monitor(folder: str, inventory: str, way: Way) -> int:
    """Watches until a signal ends it; the exit code. A kept one ends by 0 only when it is not wanted."""
    kept = LastGood(folder, inventory)
    read = _read(inventory, kept)
    state = State(read.host.stack, read.host.root, folder)
    spawn.take_no_ignored_signals()
    state.prepare()
    shift = _Shift(state, Watchpost(state.path, state.root), Notifier(), inventory, kept, way)
    with contextlib.ExitStack() as held:
        waited = False
        while shift.wanted():
            beaten = shift.post.beaten()  # by the monitor before: signing the lock changes its time
            try:
                held.enter_context(shift.post.lock("monitor", "the monitor"))
            except LockHeld:
                if not way.under:
                    return _refused(folder)
                waited = True
                shift.wait()
                continue
            return shift.watch(_read(inventory, kept) if waited else read, beaten / 1e9 if beaten else None)
    shift.notifier.tell("READY=1", "STATUS=not wanted: inv monitor-start")  # else this would count as a failed start
    return 0


class _Read(NamedTuple):
    """This machine's part of the inventory, the fingerprint of what was read, and why what stands there now does not
    hold."""

    host: Host
    text: str
    fault: str


def _read(path: str, kept: LastGood) -> _Read:
    """As the inventory has it; while it is broken, as it was last right. What was read of the same text before is not
    read again: that takes longer than all else here."""
    last = kept.read()
    if last is not None and last.text and last.text == promise.fingerprint_of(path):
        return _Read(last.host, last.text, "")
    try:
        host, text = promise.read(path)
    except OpsError as error:
        if last is None:
            raise
        return _Read(last.host, "", str(error))
    kept.keep(host, text)
    return _Read(host, text, "")


@frozen
class _Shift:
    """One monitor's turn at a post."""

    state: State
    post: Watchpost
    notifier: Notifier
    inventory: str
    kept: LastGood
    way: Way

    def wanted(self) -> bool:
        """False once monitor-stop was said, which holds over a boot. Whoever types `inv monitor` wants it."""
        return self.way.foreground or self.post.wish().up is not False

    def wait(self) -> None:
        """Until the monitor that watches now may have ended."""
        me = process.identify(os.getpid())
        if me is not None and self.post.queued() != me:
            self.post.queue(me)
        holder = self.post.holder()
        self.notifier.tell(f"STATUS=waiting for pid {holder} to end", MORE_TIME)
        death.gone([holder], 1.0)

    def watch(self, read: _Read, before: float | None) -> int:
        """Until a signal. `before`: the last heartbeat of the monitor before this one, seconds since the epoch."""
        host = read.host
        scribe = Scribe(host, self.state, _echo(host, self.way.json) if self.way.foreground else None)
        sys.setswitchinterval(_TURN)
        spawn.allow_files(4 * len(host.services) + 256)
        loop = Loop(Site(host, self.state, "monitor", mends=False), scribe)
        scribe.watching(anew=True, before=before)
        scribe.event("", "monitor", f"begins to watch {len(host.services)} services, pid {os.getpid()}")
        if read.fault:
            scribe.event("", "inventory", f"broken, so the last good one holds: {read.fault}")
        loop.take_charge(host.services)
        loop.news.tell_all()
        patrol = Patrol(loop)
        followed = promise.Promise(loop, self.inventory, self.kept, read.text, read.fault)
        Upkeep(loop)
        guarded = self.inventory if self.way.guarded else ""
        under = self.way.under if self.way.kept else ""
        sentry = Sentry(loop, patrol, followed, Kept(guarded, under, self.notifier, self.wanted))
        sentry.sign_on()
        if not self.wanted():  # monitor-stop came while this one was being launched
            self.notifier.tell("READY=1")
            scribe.close(5.0)
            return 0
        patrol.begin()
        self.notifier.tell("READY=1", f"STATUS=watching {len(host.services)} services")
        gc.freeze()  # what is there by now stays: collections need not go through it, nor touch its memory
        ended = loop.run()
        self.notifier.tell("STOPPING=1")
        why = "its state folder is another one now" if sentry.displaced else signal.Signals(ended).name
        following = "services were ended with it" if self._lay_down(loop.site, scribe) else "services run on"
        scribe.event("", "monitor", f"ends ({why}); {following}")
        scribe.close(5.0)
        if sentry.displaced and not self.way.kept:
            spawn.become_anew()
        return self._exit_code(ended)

    def _lay_down(self, site: Site, scribe: Scribe) -> bool:
        """Whether services were ended, since the machine goes down."""
        if self.way.under != "systemd" or not self.wanted():
            return False
        from ops.operations import shutdown

        if not shutdown.is_due(site):
            return False
        scribe.event("", "shutdown", "the machine goes down: services are ended first")
        shutdown.lay_down(site, lambda: self.notifier.tell(MORE_TIME))
        return True

    def _exit_code(self, ended: int) -> int:
        if self.way.kept:
            return 128 + ended if self.wanted() else 0
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
