"""Looking at the machine and the state folder, and telling the policy what changed there.

Knows: wishes, records, sights; when to look. Must not know: probes, what a reading leads to.

Commands ring the bell; should that be lost, a look a second at two times of files sees the same. The whole machine is
looked at every `interval`, in a thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ops.errors import LockHeld, OpsError
from ops.host import process
from ops.host.listeners import listening
from ops.memory.files import now as stamp
from ops.memory.state import Wish
from ops.model import Process, Service
from ops.operations import tree
from ops.operations.revival import clean
from ops.operations.sight import Sight, Surroundings, owners, see
from ops.watch.charge import Charge
from ops.watch.loop import COMMAND_TIME, Loop
from ops.watch.readings import Freed, Taken, Used, Wished


@dataclass(frozen=True)
class Look:
    """What was seen of a service, the turn of its lock before, and whether an earlier run has left something."""

    sight: Sight
    turn: int
    remains: bool


Looks = Mapping[str, Look]


class Patrol:
    """Goes its rounds for a loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._site = loop.site
        self._seen: dict[str, tuple[int, int, int] | None] = {}  # times of files, to see that they change
        self._sweeping = False
        self._next_sweep = 0.0
        self.swept_at: str | None = None
        self._thread = loop.background("patrol")
        loop.each_second.append(self._each_second)

    def begin(self) -> None:
        """The first look: adopts what runs, has brought up what does not."""
        self.reconcile(first=True)
        charges = list(self._loop.charges.values())
        unknown = [charge for charge in charges if charge.root is None]
        looks = self._look([charge.service for charge in unknown]) if unknown else {}
        self._take(looks)
        self._next_sweep = self._loop.clock.last + 1.0

    def _each_second(self, now: float) -> None:
        self.reconcile()
        for charge in self._loop.charges.values():
            if charge.watch.state == "foreign" and not self._still_taken(charge.service):
                self._loop.tell(charge, Freed())
        if self._loop.sweep_soon:
            self._loop.sweep_soon, self._next_sweep = False, now
        if now >= self._next_sweep and not self._sweeping:
            self.sweep(now)

    def sweep(self, now: float) -> None:
        """Has the whole machine looked at, in its thread."""
        services = [charge.service for charge in self._loop.charges.values()]
        interval = min((service.interval for service in services), default=30.0)
        self._sweeping, self._next_sweep = True, now + max(1.0, interval)
        self._thread(functools.partial(self._look, services), self._swept)

    def _still_taken(self, service: Service) -> bool:
        with contextlib.suppress(OpsError):
            return service.port is not None and listening(service.port)
        return True

    # -- wishes and records -----------------------------------------------------------------------------------

    def reconcile(self, *, first: bool = False) -> None:
        """Takes up what commands have written."""
        folder = self._site.state.path
        wanted = os.path.join(folder, "wanted.json")
        if self._changed(wanted) or first:
            try:
                self._take_wishes(first)
            except OpsError:  # no descriptor left to read it with: another second
                del self._seen[wanted]
                if first:
                    raise
        if self._changed(os.path.join(folder, "services")) or first:
            for charge in self._loop.charges.values():
                path = os.path.join(folder, "services", f"{charge.service.name}.json")
                if self._changed(path) or (first and os.path.exists(path)):
                    self._take_record(charge, first)

    def _changed(self, path: str) -> bool:
        try:
            found = os.stat(path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            seen = None
        before, self._seen[path] = self._seen.get(path), seen
        return before != seen

    def _take_wishes(self, first: bool) -> None:
        wishes = self._site.state.wishes()
        for charge in self._loop.charges.values():
            wish = wishes.get(charge.service.name, Wish())
            if wish == charge.wish and not first:
                continue
            anew = wish.generation != charge.wish.generation
            charge.wish = wish
            charge.settled = wish.generation if first else charge.settled
            if anew or wish.wanted != charge.watch.wanted:
                self._loop.tell(charge, Wished(wish.wanted, 0.0 if first else COMMAND_TIME))
                self._loop.news.changed = True

    def _take_record(self, charge: Charge, first: bool) -> None:
        record = self._site.state.record(charge.service.name)
        if record is None or record.process == charge.root or charge.watch.acting or not process.alive(record.process):
            return
        self._loop.found(charge, record.process, ready=record.ready_at is not None, anew=not first)

    # -- the machine ------------------------------------------------------------------------------------------

    def _look(self, services: list[Service]) -> Looks:
        """In a thread: what there is of each service."""
        state = self._site.state
        for service in services:
            if state.turn(service.name) % 2:  # whoever held its lock was killed: held once, it can be compared again
                with contextlib.suppress(LockHeld), state.changing(service.name, 0.0, self._site.by):
                    pass
        turns = {service.name: state.turn(service.name) for service in services}
        around = Surroundings(self._site.host, state)
        return {one.name: _seen(see(state, one, around), turns[one.name], around) for one in services}

    def _swept(self, looks: Looks | None, error: BaseException | None) -> None:
        self._sweeping = False
        self.swept_at = stamp()
        self._loop.news.changed = True
        if looks is None:
            self._loop.scribe.event("", "blind", f"the machine could not be looked at: {error}")
            return
        self._take(looks)

    def _take(self, looks: Looks) -> None:
        for name, look in looks.items():
            charge = self._loop.charges.get(name)
            if charge is None or charge.watch.acting or self._site.state.turn(name) != look.turn or look.turn % 2:
                continue  # somebody has changed it since: what was seen may be half of that
            self._take_look(charge, look)

    def _take_look(self, charge: Charge, look: Look) -> None:
        sight = look.sight
        if sight.root is not None and sight.root != charge.root and process.alive(sight.root):
            self._adopt(charge, sight.root)
        elif sight.root == charge.root and sight.state == "foreign":
            self._loop.tell(charge, Taken(owners(sight.strangers)))
        elif sight.root is None and _missed(charge):
            charge.rest()
            self._loop.died(charge, "not running")
        elif sight.root == charge.root and sight.root is not None:
            self._take_use(charge, sight)
            if look.remains:
                hear = functools.partial(self._cleaned, charge.service.name)
                self._thread(functools.partial(clean, self._site, charge.service), hear)

    def _adopt(self, charge: Charge, root: Process) -> None:
        """What runs though nobody recorded it is the service."""
        service, state = charge.service, self._site.state
        try:
            with state.changing(service.name, 0.0, self._site.by):
                sight = see(state, service, Surroundings(self._site.host, state), locked=True)
                if sight.root != root:
                    return
                tree.adopt(self._site, service, sight)
        except LockHeld:
            return
        self._loop.scribe.event(service.name, "adopted", f"pid {root.pid}")
        self._loop.found(charge, root, ready=sight.ready, anew=sight.origin == "hand")

    def _take_use(self, charge: Charge, sight: Sight) -> None:
        moment = time.monotonic()
        if charge.cpu is not None and moment > charge.cpu[1]:
            used = max(0.0, sight.cpu - charge.cpu[0]) / (moment - charge.cpu[1])
            self._loop.scribe.sample(charge.service.name, cpu_percent=100 * used, rss=sight.rss)
        charge.cpu = (sight.cpu, moment)
        self._loop.tell(charge, Used(sight.rss))

    def _cleaned(self, name: str, what: str | None, error: BaseException | None) -> None:
        if what or error:
            self._loop.scribe.event(name, "cleaned", what or str(error))


def _missed(charge: Charge) -> bool:
    """Whether the policy takes a service that does not run for one that does; first of all when it knows nothing."""
    if charge.root is not None and process.alive(charge.root):
        return False
    return charge.watch.state not in ("down", "gave-up", "foreign")


def _seen(sight: Sight, turn: int, around: Surroundings) -> Look:
    runs = [run for _, run in around.marked.get(sight.service, [])]
    return Look(sight, turn, sight.origin == "record" and any(run != sight.run for run in runs))
