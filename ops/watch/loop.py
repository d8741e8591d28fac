"""The monitor's loop: deaths, probes, timers and news go to the policy; what it decides is carried out by the crew.

Knows: which reading comes from where. Must not know: thresholds, counters, how a service is ended or launched.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ops.errors import OpsError
from ops.host import spawn
from ops.memory.files import now as stamp
from ops.model import Process, Service
from ops.model import Reading as ProbeReading
from ops.operations import tree
from ops.operations.revival import Revival, revive
from ops.operations.site import Site
from ops.watch.charge import AGAIN, Charge, Round, charge_of
from ops.watch.crew import Crew
from ops.watch.lives import Lives, how
from ops.watch.news import News
from ops.watch.policy import Decision, Watch, decide, next_moment
from ops.watch.reactor import Reactor
from ops.watch.readings import Acted, Answered, Died, Found, NeedRestarted, Reading, Tick, Wished
from ops.watch.rounds import Rounds
from ops.watch.scribe import Scribe

PORT_KILLER = "inv kill-port"  # how that command signs locks: it leaves the restart to the monitor
COMMAND_TIME = 0.5  # seconds until it is looked whether a command that is at it still lives
_DEEDS = 8  # restarts at once
_CRITICAL_FIRST = 0.25  # seconds that others let a critical one go first which is being brought back
_FAR = 10.0  # seconds that a timer of the policy is set ahead at most
_GATHER = 0.01  # seconds between two looks at that
_ILL_EVERY = 10.0  # seconds between askings of a probe that fails at most, see causes.py
_SPREAD = 2.0  # seconds over which the first askings of all services are spread


class Loop(Reactor):
    """Watches the services of one host."""

    def __init__(self, site: Site, scribe: Scribe) -> None:
        super().__init__()
        self.site = site
        self.scribe = scribe
        self.charges: dict[str, Charge] = {}
        self.news = News(scribe)
        scribe.written_down = lambda telling: self._put(self.news.written_down, telling)
        self.calm = threading.Event()  # unset while somebody is being brought back: other threads give way to that
        self.calm.set()
        self.sweep_soon = False  # whether the machine is to be looked at before its time
        self.turned: list[Callable[[Charge, Watch], None]] = []  # hears of every change of a state
        self.crew = Crew("deed", _DEEDS, lambda *result: self._put(self._revived, *result))
        self.lives: Lives[Charge | Callable[[], None]] = Lives(self._selector)
        self.rounds = Rounds(site, self._selector, self.clock, self.timers, lambda: len(self.charges), self._answered)

    # -- turning ----------------------------------------------------------------------------------------------

    def _urgent(self, events: list[Any]) -> None:
        """Deaths."""
        if self.lives.patience is not None or self.lives.rang in events:
            self._bury()

    def _advance(self, now: float) -> None:
        if not self.calm.is_set() and self.crew.idle:
            self.calm.set()
        self.rounds.advance(now)

    def _longest(self) -> float:
        due, patience = self.rounds.due, self.lives.patience
        left = math.inf if due is None else due - self._now
        return left if patience is None else min(left, patience)

    def _slept(self) -> None:
        self.news.watch_anew("woke", "it has not run for a while; nothing is judged by that time")

    def _blind(self, why: str) -> None:
        self.scribe.event("", "blind", why)
        self.sweep_soon = True  # that sees what was missed

    def _idle(self) -> bool:
        """What is being restarted comes up before the monitor goes; a service is not left down half-way."""
        return self.crew.idle

    def _second(self, now: float) -> None:
        super()._second(now)
        self.news.tick(now)

    # -- whom it watches --------------------------------------------------------------------------------------

    def take_charge(self, services: Sequence[Service]) -> None:
        """Watches exactly these from now on; what is known of one that stays is kept."""
        for name in set(self.charges) - {service.name for service in services}:
            self.news.resolved(name, "no longer in the inventory")
            charge = self.charges.pop(name)
            self.let_go(charge)
            if charge.root is not None:
                self.lives.watch(charge.root, lambda: None)  # a child of this process: reaped when it ends
            charge.rest()
        self.charges = {one.name: self.charges.get(one.name) or charge_of(one, self._now) for one in services}
        for index, charge in enumerate(self.charges.values()):
            charge.place = index / len(self.charges)
        self.news.settle(self.charges, services)

    def attach(self, charge: Charge, root: Process) -> bool:
        """Watches this process as the service's; False when it is dead already."""
        self.let_go(charge)
        charge.begin_again()
        charge.root, charge.last = None, root
        charge.root = root if self.lives.watch(root, charge) else None
        return charge.root is not None

    def let_go(self, charge: Charge) -> None:
        """Watches its process no longer."""
        if charge.root is not None:
            self.lives.forget(charge.root)

    # -- deaths -----------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Those that died, critical ones first."""
        dead: list[tuple[Charge, str]] = []
        for mourner, words in self.lives.ended():
            if isinstance(mourner, Charge):
                dead.append((mourner, words))
            else:
                self._call(mourner)
        if dead:
            self.calm.clear()
        for charge, words in sorted(dead, key=lambda pair: not pair[0].service.critical):
            charge.rest()
            # What was not up yet may have put itself in the background: that is seen by looking.
            self.sweep_soon = self.sweep_soon or charge.watch.state == "starting"
            self._call(self.died, charge, words)

    def died(self, charge: Charge, how: str) -> None:
        """Its process is gone: perhaps because a command ended it, which then has the word first."""
        name = charge.service.name
        try:
            wish = self.site.state.wish(name)
        except OpsError:  # no descriptor left: it will be read before anything is started
            self.tell(charge, Died(how, COMMAND_TIME))
            return
        if wish.wanted != charge.watch.wanted:
            charge.wish = wish
            self.tell(charge, Wished(wish.wanted))
        if self.site.state.changer(name, COMMAND_TIME) == PORT_KILLER:
            self.tell(charge, Died(f"ended by {PORT_KILLER}", commanded=True))
            return
        at_it = wish.generation != charge.settled or self.site.state.is_changing(name)
        self.tell(charge, Died(how, COMMAND_TIME if at_it else 0.0))

    # -- probes -----------------------------------------------------------------------------------------------

    def ask_soon(self, charge: Charge, *, spread: bool = False) -> None:
        """Has every probe of it asked: at once, or spread over a while when there are many services."""
        place = charge.place if spread else 0.0
        for one in charge.rounds:
            later = place * min(_SPREAD, one.probe.every) + (0.0 if one.probe.restart else AGAIN)
            self.rounds.ask_at(charge, one, self._now + later)

    def _answered(self, charge: Charge, one: Round, reading: ProbeReading) -> None:
        charge.checked_at = stamp()
        charge.heard(one, reading)
        if reading.ok:
            self.scribe.sample(charge.service.name, seconds=reading.seconds)
        needs = [self.charges[need] for need in charge.service.needs if need in self.charges]
        excused = any(need.watch.state != "up" for need in needs)
        gating = one.probe.restart
        self.tell(charge, Answered(one.probe.name, reading.ok, reading.detail, gating, not reading.answered, excused))
        if not reading.ok and one.probe.every > _ILL_EVERY and one.inquiry is None:
            self.rounds.ask_at(charge, one, min(one.next, self._now + _ILL_EVERY))

    # -- decisions --------------------------------------------------------------------------------------------

    def tell(self, charge: Charge, reading: Reading) -> None:
        """Has the policy decide, and sees to what it decides."""
        before = charge.watch
        charge.watch, decision = decide(before, reading, self._now)
        self.news.turned(charge, before, self._now)
        if charge.watch.state == "up" and before.state != "up":
            self._came_up(charge)
        for call in self.turned:
            call(charge, before)
        self._do(charge, decision)
        self.news.decided(charge, decision, self._now)
        self._set_moment(charge)

    def _do(self, charge: Charge, decision: Decision) -> None:
        if decision.do == "confirm":
            for one in charge.rounds:
                if one.probe.name == decision.probe and one.inquiry is None:
                    self.rounds.ask_at(charge, one, self._now + AGAIN)
        if decision.do == "restart":
            charge.cause = decision.why
            self._restart(charge, self._now, self._now)

    def _set_moment(self, charge: Charge) -> None:
        """One timer a service: one that is set for later than it has to be is set anew, an earlier one asks again."""
        moment = next_moment(charge.watch)
        moment = moment if moment is None else min(moment, self._now + _FAR)  # else a loop of crashes leaves a heap
        if moment is not None and (charge.moment is None or moment < charge.moment):
            charge.moment = moment
            self.timers.at(moment, functools.partial(self._passed, charge, moment))

    def _passed(self, charge: Charge, moment: float, _now: float) -> None:
        if charge.moment == moment and self.charges.get(charge.service.name) is charge:
            charge.moment = None
            self.tell(charge, Tick())

    def _came_up(self, charge: Charge) -> None:
        charge.settled = charge.wish.generation
        if charge.root is not None:
            tree.ready(self.site, charge.service, charge.root)
        for one in charge.rounds:
            if not one.probe.restart:
                self.rounds.ask_at(charge, one, self._now + AGAIN)
        if charge.revived:
            charge.revived, self.sweep_soon = False, True
            for other in self.charges.values():
                if charge.service.name in other.service.needs:
                    self.tell(other, NeedRestarted(charge.service.name))

    # -- deeds ------------------------------------------------------------------------------------------------

    def _restart(self, charge: Charge, begun: float, now: float) -> None:
        """Hands it to the crew. What is not critical waits a moment for what is."""
        if self.charges.get(charge.service.name) is not charge:
            return  # taken out of the inventory meanwhile
        if self._is_to_wait(charge, begun, now):
            self.timers.at(now + _GATHER, functools.partial(self._restart, charge, begun))
            return
        charge.booting = False
        for one in charge.rounds:
            one.cancel()
        job = functools.partial(revive, self.site, charge.service, charge.last, charge.settled)
        self.crew.hand(charge.service.name, job, 0 if charge.service.critical else 1)

    def _is_to_wait(self, charge: Charge, begun: float, now: float) -> bool:
        """After a boot for what it needs, as long as that usually takes to start; else for critical ones, a moment."""
        if not charge.booting:
            return not charge.service.critical and self._let_go_first(begun, now)
        needs = [self.charges[name] for name in charge.service.needs if name in self.charges]
        coming = [one for one in needs if one.watch.wanted == "up" and one.watch.state != "up"]
        return any(now - begun < one.service.start_time for one in coming)

    def _let_go_first(self, begun: float, now: float) -> bool:
        critical = (charge.watch for charge in self.charges.values() if charge.service.critical)
        coming_back = any(watch.outage is not None and watch.state != "up" for watch in critical)
        return coming_back and now - begun < _CRITICAL_FIRST

    def _revived(self, name: str, revival: Revival | None, error: BaseException | None) -> None:
        charge = self.charges.get(name)
        if charge is None:  # taken out of the inventory meanwhile
            if revival is not None and revival.root is not None:
                self.lives.watch(revival.root, lambda: None)  # a child of this process: reaped when it ends
            return
        if revival is None:
            revival = Revival("failed", f"{type(error).__name__}: {error}")
        try:
            alive = revival.root is None or self.attach(charge, revival.root)
        except OpsError as error:  # it cannot be watched now: looked at again, and then found running
            revival, alive = Revival("other", error.seen, patience=AGAIN), True
        self.news.revived(charge, revival)
        self.tell(charge, Acted(revival.result, revival.why, revival.patience))
        if revival.ready:
            self.tell(charge, Found(ready=True))
        if charge.root is not None:
            self.ask_soon(charge)
        if not alive and revival.root is not None:
            self.died(charge, how(spawn.reap(revival.root.pid)))

    def found(self, charge: Charge, root: Process, *, ready: bool, anew: bool) -> None:
        """A process is the service now: adopted, or started by a command."""
        if not self.attach(charge, root):
            return
        charge.revived = charge.revived or anew
        self.tell(charge, Found(ready, anew))
        if ready:
            charge.settled = charge.wish.generation
        self.ask_soon(charge, spread=ready)
