"""Looking at the machine, and telling the policy what changed there.

Knows: sights, when to look. Must not know: probes, what a reading leads to.

The whole machine is looked at every `interval`. Whatever looks at processes or sockets is done in a thread, one thing
after the other: on a Mac that takes lsof, tenths of a second each time. The loop itself looks only before it begins
(`begin`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping
from typing import Literal

from ops.errors import LockHeld
from ops.frozen import frozen
from ops.host import process
from ops.host.listeners import listeners, listening
from ops.memory.files import now as stamp
from ops.model import Service
from ops.operations import tree
from ops.operations.revival import clean
from ops.operations.sight import Sight, Surroundings, owners, see
from ops.watch.charge import Charge
from ops.watch.crew import GiveWay
from ops.watch.loop import Loop
from ops.watch.readings import Freed, Taken, Used
from ops.watch.written import Written

_GIVES_WAY = 1.0  # seconds that a look at the machine stands back in all while somebody is being brought back


@frozen
class Look:
    """What was seen of a service, the turn of its lock before, and whether an earlier run has left something."""

    sight: Sight
    turn: int
    remains: bool


Looks = Mapping[str, Look]
Holding = Literal["nobody", "somebody", "hidden"]


class Patrol:
    """Goes its rounds for a loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._site = loop.site
        self._sweeping = False
        self._next_sweep = 0.0
        self._next_asking: dict[str, float] = {}  # by foreign service: when it is asked again who has its port
        self.swept_at: str | None = None
        self.swept = loop.clock.last  # the same on the clock of the loop
        self.awaited = self.swept  # since when the next one is awaited
        self._pace = 0.0  # seconds from sweep to sweep, when it last looked at that
        self._thread = loop.background("patrol")
        self.written = Written(loop, self._thread)
        loop.each_second.append(self._each_second)

    def begin(self) -> None:
        """The first look: adopts what runs, has brought up what does not."""
        self.written.reconcile(first=True)
        charges = list(self._loop.charges.values())
        unknown = [charge for charge in charges if charge.root is None]
        looks = self._look([charge.service for charge in unknown]) if unknown else {}
        if unknown and self._is_boot():
            self._loop.scribe.event("", "boot", "the machine was started anew")
            for charge in unknown:
                charge.booting = True
        for seen in looks.items():
            self._take(seen)
        self._next_sweep = self._loop.clock.last + 1.0

    def _is_boot(self) -> bool:
        """Whether all that is recorded is of another boot."""
        records = [self._site.state.record(name) for name in self._loop.charges]
        boots = {record.process.boot for record in records if record}
        return bool(boots) and process.boot_id() not in boots

    def _each_second(self, now: float) -> None:
        self.written.reconcile()
        for charge in self._loop.charges.values():
            if charge.watch.state == "foreign":
                self._ask_for_port(charge.service, now)
        if self.every != self._pace:  # the inventory says otherwise: nothing is late by a pace it did not have
            self._pace, self.awaited = self.every, now
            self._next_sweep = min(self._next_sweep, now + self._pace)
        if self._loop.sweep_soon:
            self._loop.sweep_soon, self._next_sweep = False, now
        if now >= self._next_sweep and not self._sweeping:
            self.sweep(now)

    def sweep(self, now: float) -> None:
        """Has the whole machine looked at, in its thread."""
        services = [charge.service for charge in self._loop.charges.values()]
        self._sweeping, self._next_sweep = True, now + self.every
        self._thread(functools.partial(self._look, services), self._swept)

    @property
    def every(self) -> float:
        """Seconds from sweep to sweep."""
        return max(1.0, min((charge.service.interval for charge in self._loop.charges.values()), default=30.0))

    # -- ports of services that others have -------------------------------------------------------------------

    def _ask_for_port(self, service: Service, now: float) -> None:
        """Has it looked at, in the thread, whether the port is still taken."""
        if service.port is not None and now >= self._next_asking.get(service.name, 0.0):
            self._next_asking[service.name] = math.inf  # not twice at a time
            self._thread(functools.partial(_holding, service.port), functools.partial(self._asked, service.name))

    def _asked(self, name: str, holding: Holding | None, _error: BaseException | None) -> None:
        del self._next_asking[name]
        charge = self._loop.charges.get(name)
        if charge is None:
            return
        if holding == "nobody":
            self._loop.tell(charge, Freed())
        elif holding == "hidden":  # only lsof sees it: not every second
            self._next_asking[name] = self._loop.clock.last + charge.service.interval

    # -- the machine ------------------------------------------------------------------------------------------

    def _look(self, services: list[Service]) -> Looks:
        """In a thread: what there is of each service."""
        state, give_way = self._site.state, GiveWay(self._loop.calm, _GIVES_WAY)
        for service in services:
            give_way()
            if state.turn(service.name) % 2:  # whoever held its lock was killed: held once, it can be compared again
                with contextlib.suppress(LockHeld), state.changing(service.name, 0.0, self._site.by):
                    pass
        turns = {service.name: state.turn(service.name) for service in services}
        around = Surroundings(self._site.host, state, give_way)
        looks: dict[str, Look] = {}
        for one in services:
            give_way()
            looks[one.name] = _seen(see(state, one, around), turns[one.name], around)
        return looks

    def _swept(self, looks: Looks | None, error: BaseException | None) -> None:
        self._sweeping = False
        if looks is None:
            self._loop.scribe.event("", "blind", f"the machine could not be looked at: {error}")
            return
        self.swept = self.awaited = self._loop.clock.last
        self.swept_at = stamp()
        self._loop.news.changed = True
        self._loop.in_parts(looks.items(), self._take)

    def _take(self, seen: tuple[str, Look]) -> None:
        name, look = seen
        charge = self._loop.charges.get(name)
        if charge is None or charge.watch.acting or self._site.state.turn(name) != look.turn or look.turn % 2:
            return  # somebody has changed it since: what was seen may be half of that
        self._take_look(charge, look)

    def _take_look(self, charge: Charge, look: Look) -> None:
        sight = look.sight
        if sight.root is not None and sight.root != charge.root and process.alive(sight.root):
            self._adopt(charge, look)
        elif sight.root == charge.root and sight.state == "foreign":
            self._loop.tell(charge, Taken(owners(sight.strangers)))
        elif sight.root is None and _missed(charge):
            charge.rest()
            self._loop.died(charge, "boot: the machine was started anew" if charge.booting else "not running")
        elif sight.root == charge.root and sight.root is not None:
            self._take_use(charge, sight)
            if sight.origin != "record":  # which was damaged, or removed
                self._adopt(charge, look)
            if look.remains:
                hear = functools.partial(self._cleaned, charge.service.name)
                self._thread(functools.partial(clean, self._site, charge.service), hear)

    def _adopt(self, charge: Charge, look: Look) -> None:
        """What runs though nobody recorded it is the service."""
        name = charge.service.name
        if name not in self.written.adopting:
            self.written.adopting.add(name)
            job = functools.partial(self._recorded, charge.service, look)
            self._thread(job, functools.partial(self._adopted, name))

    def _recorded(self, service: Service, look: Look) -> Look | None:
        """In the thread: records it under the lock of the service. What was seen counts when nobody has held that
        lock since; else it is looked at again. None when it is somebody else's turn, or another process by now."""
        state = self._site.state
        try:
            with state.changing(service.name, 0.0, self._site.by) as last:
                sight = look.sight
                if last != look.turn:
                    sight = see(state, service, Surroundings(self._site.host, state), locked=True)
                if sight.root is None or sight.root != look.sight.root or not process.alive(sight.root):
                    return None
                tree.adopt(self._site, service, sight)
        except LockHeld:
            return None
        return Look(sight, state.turn(service.name), look.remains)

    def _adopted(self, name: str, look: Look | None, error: BaseException | None) -> None:
        self.written.adopting.discard(name)
        charge = self._loop.charges.get(name)
        if error is not None:
            self._loop.scribe.event(name, "blind", f"it runs, and could not be adopted: {error}")
        if charge is None:
            return
        if look is not None and not charge.watch.acting:
            self._take_adopted(charge, look)
        self.written.look_at_record(charge)  # what was left alone meanwhile

    def _take_adopted(self, charge: Charge, look: Look) -> None:
        root, name = look.sight.root, charge.service.name
        if self._site.state.turn(name) != look.turn:  # somebody has changed it since
            self._loop.sweep_soon = True
        elif root is not None and root != charge.root and process.alive(root):
            self._loop.scribe.event(name, "adopted", f"pid {root.pid}")
            self._loop.found(charge, root, ready=look.sight.ready, anew=look.sight.origin == "hand")
        elif root is not None and root == charge.root and charge.watch.state == "up":
            tree.ready(self._site, charge.service, root)

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


def _holding(port: int) -> Holding:
    """In the thread: who has a port. "hidden": somebody whom the quick way to ask does not see."""
    if not listening(port) and not listeners([port]):
        return "nobody"
    return "somebody" if listening(port) else "hidden"


def _missed(charge: Charge) -> bool:
    """Whether the policy takes a service that does not run for one that does; first of all when it knows nothing."""
    if charge.root is not None and process.alive(charge.root):
        return False
    return charge.watch.state not in ("down", "gave-up", "foreign")


def _seen(sight: Sight, turn: int, around: Surroundings) -> Look:
    runs = [run for _, run in around.marked.get(sight.service, [])]
    return Look(sight, turn, sight.origin == "record" and any(run != sight.run for run in runs))
