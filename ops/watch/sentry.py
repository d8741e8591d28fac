"""The monitor as others see it: heartbeat, readings, bell, and the guard that it keeps.

Knows: what is published when. Must not know: how it came about.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from ops.frozen import frozen
from ops.host import process
from ops.host.notify import MORE_TIME, Notifier
from ops.memory.files import now as stamp
from ops.memory.watchpost import Watchpost
from ops.model import Process
from ops.watch import alerts
from ops.watch.charge import Charge
from ops.watch.guard import PERIOD, Care
from ops.watch.loop import Loop
from ops.watch.patrol import Patrol
from ops.watch.promise import Promise

_PUBLISH_EVERY = 10.0  # seconds, while nothing changes but when it was looked at
_AT_ONCE = 0.05  # seconds within which changes are published together: a restart is not to wait for that
_SWEEPS, _LATE = 3.0, 5.0  # after that many times their interval, and that many seconds, sweeps are missed
_JUMP = 2.0  # seconds by which the clock of the day may differ from the monotonic one


@frozen
class Kept:
    """Who brings this monitor back: a guard, which finds the inventory at `guarded` ("": it has none, since the init
    system watches it, or somebody on a terminal does), the init system `under` which it runs; and whether anybody
    still wants it."""

    guarded: str
    under: str
    notifier: Notifier
    wanted: Callable[[], bool]


class Sentry:
    """Shows itself for a loop, to commands and to whoever keeps it."""

    def __init__(self, loop: Loop, patrol: Patrol, promise: Promise, kept: Kept) -> None:
        self._loop = loop
        self._kept = kept
        self._patrol = patrol
        self._promise = promise
        self._post = Watchpost(loop.site.state.path)
        self._published = self._watched = -_PUBLISH_EVERY
        self._blind = ""  # in words, that sweeps are missed
        self._offset = _offset()
        folder = loop.site.state.path
        self._care = Care(folder, kept.guarded, "guard", self._tell, kept.under) if kept.guarded else None
        self._guard: Process | None = None
        self._next_look = 0.0
        self._place = self._post.place()  # None on a full disk, which had no room for the file
        self.displaced = False
        loop.each_second.append(self._each_second)
        loop.before_sleep.append(self._publish)
        loop.beat = self._beat
        self._recall()

    def sign_on(self) -> None:
        """From now on commands find it."""
        self._beat()
        bell = self._post.bell()
        if bell is not None:
            self._loop.listen(bell, lambda: self._rung(bell))
        me = process.identify(os.getpid())
        if me is not None:
            self._post.sign_on("monitor", me, self._kept.under)

    def _recall(self) -> None:
        """What the monitor before has told; for as long as what it published may lag behind, the alerts log knows."""
        said, state, stack = self._post.readings(), self._loop.site.state, self._loop.site.host.stack.name
        logged = alerts.logged(state.log("alerts"), stack, str(said.get("at", "")), 3 * _PUBLISH_EVERY)
        self._loop.news.recall(said.get("alerts"), logged, self._loop.clock.last)

    def _rung(self, bell: int) -> None:
        with contextlib.suppress(OSError):
            os.read(bell, 4096)
        self._patrol.written.reconcile()

    def _beat(self) -> None:
        self._post.beat()
        self._kept.notifier.tell("WATCHDOG=1", *([MORE_TIME] if self._loop.ending else []))

    def _each_second(self, now: float) -> None:
        self._beat()
        self._end_in_time()
        if self._guard is None or now >= self._next_look:
            self._next_look = now + PERIOD - 0.5  # seconds come a moment early or late
            self._keep_guard()
        self._miss_sweeps(now)
        if abs(_offset() - self._offset) > _JUMP:
            self._offset = _offset()
            self._loop.news.watch_anew("clock", "the clock of the day was set; nothing is timed by it")
        if now - self._published >= _PUBLISH_EVERY:
            self._loop.news.changed = True
        if now - self._watched >= _PUBLISH_EVERY or self._loop.news.written:  # a report reaches to what was written
            self._watched, self._loop.news.written = now, False
            self._loop.scribe.watching()

    def _end_in_time(self) -> None:
        """Where the state folder was put anew (removed, say), nobody finds this monitor, and its lock keeps nobody
        out; and one that is not wanted any more ends, should monitor-stop have missed it."""
        self.displaced = self._post.is_displaced("monitor", self._place)
        if self.displaced or not self._kept.wanted():
            self._loop.ending = self._loop.ending or signal.SIGTERM

    def _miss_sweeps(self, now: float) -> None:
        """Once, that the machine is no longer looked at (a disk or a program keeps the look), and that it is again."""
        before, seconds = self._blind, now - self._patrol.swept
        late = now - self._patrol.awaited >= _SWEEPS * self._patrol.every + _LATE
        self._blind = f"the last look at the whole machine was {seconds:.0f} s ago" if late else ""
        if bool(before) != late:
            self._loop.scribe.event("", "blind", self._blind or "the whole machine was looked at again")
            self._loop.news.changed = True

    def _keep_guard(self) -> None:
        if self._care is None or self._loop.ending:
            return
        one = self._care.look()
        if one is None or (one != self._guard and not self._loop.lives.watch(one, self._keep_guard)):
            self._guard = None  # looked at again in a second
        else:
            self._guard = one

    def _tell(self, text: str) -> None:
        self._loop.scribe.event("", "guard", text)

    def _publish(self) -> None:
        if not self._loop.news.changed or self._loop.clock.last < self._published + _AT_ONCE:
            return
        self._loop.news.changed = False
        self._published = self._loop.clock.last
        self._post.publish(
            {
                "at": stamp(),
                "swept_at": self._patrol.swept_at,
                "fault": self._promise.fault,
                "blind": self._blind,
                "services": {name: self._reading(charge) for name, charge in self._loop.charges.items()},
                "alerts": self._loop.news.open_alerts(),
            }
        )

    def _reading(self, charge: Charge) -> dict[str, Any]:
        watch = charge.watch
        trying = watch.wanted == "up" and watch.due is not None and not watch.acting
        return {
            "state": watch.state,
            "since": charge.since,
            "checked_at": charge.checked_at,
            "pid": charge.root.pid if charge.root else None,
            "why": "" if watch.state == "up" else watch.why,
            "restarts": max(0, watch.attempts),  # since it was calm last
            "next_try": stamp(self._loop.clock.last - watch.due) if trying and watch.due else None,
            "refused": charge.refused is not None,  # what the inventory says of it was tried in vain
        }


def _offset() -> float:
    return time.time() - time.monotonic()
