"""What is told of the watch: changes of state to the history, what people have to know as alerts.

Knows: which change is worth which line. Must not know: how it came about, where lines are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops.memory.files import now as stamp
from ops.model import Service
from ops.operations.revival import Revival
from ops.watch.causes import Causes, Telling
from ops.watch.charge import Charge
from ops.watch.policy import Decision, Watch
from ops.watch.scribe import Scribe


class News:
    """Tells a scribe, for a loop. `changed`: whether something happened since the readings were published."""

    def __init__(self, scribe: Scribe) -> None:
        self.changed = True
        self.written = False  # whether a state was written since anybody asked
        self._scribe = scribe
        self._causes = Causes({})
        self._charges: Mapping[str, Charge] = {}
        self._written: set[str] = set()  # whose alert is in the alerts log, and not yet its end

    def settle(self, charges: Mapping[str, Charge], services: Sequence[Service]) -> None:
        """These are watched from now on."""
        needs = {service.name: service.needs for service in services}
        critical = {service.name for service in services if service.critical}
        self._charges, self._causes = charges, Causes(needs, critical, self._causes)

    def ill(self) -> set[str]:
        """The services that are wanted and do not serve."""
        return {name for name, charge in self._charges.items() if charge.watch.outage is not None}

    def turned(self, charge: Charge, before: Watch, now: float) -> None:
        """A watch has changed."""
        watch, name = charge.watch, charge.service.name
        fell_ill = (before.outage is None or before.planned) and watch.outage is not None and not watch.planned
        if watch.state != before.state or watch.wanted != before.wanted or fell_ill:
            self.changed, charge.since = True, stamp()
            ill = watch.state in ("hung", "unhealthy") and before.state == "up"
            self._write_state(name, watch, charge.failing_since if ill else None)
        if watch.state != before.state:
            self._scribe.event(name, watch.state, "" if watch.state in ("up", "starting") else watch.why)
        if fell_ill and not charge.booting:  # after a boot all are down, which is no news
            self._causes.began(name, now)

    def decided(self, charge: Charge, decision: Decision, now: float) -> None:
        """The policy has decided."""
        name = charge.service.name
        if decision.alert and self._own_fault(charge):
            self._say(self._causes.tell(name, decision.alert))
        elif decision.alert:
            self._say(self._causes.alert(name, decision.alert, now, self.ill() - {name}))
        if decision.resolved:
            as_before = ", as it was before: the inventory says of it what was not well" if charge.refused else ""
            self.resolved(name, decision.resolved + as_before)

    def _own_fault(self, charge: Charge) -> bool:
        """Whether an alert of it is told whatever else is ill: that it was given up, that a stranger has its port, and
        that a critical one does not run or is silent. Wrong answers may be the fault of what it needs."""
        state = charge.watch.state
        return state in ("gave-up", "foreign") or (charge.service.critical and state != "unhealthy")

    def revived(self, charge: Charge, revival: Revival) -> None:
        """A restart is over; one that was somebody else's turn was none."""
        charge.revived = charge.revived or revival.result == "started"
        if revival.result == "started" and not revival.why:
            self._scribe.event(charge.service.name, "restart", charge.cause)
        elif revival.result == "failed":
            self._scribe.event(charge.service.name, "not-started", revival.why)

    def open_alerts(self) -> dict[str, list[str]]:
        """What stands in the alerts log and is not over, for the next monitor: what is still on its way there is told
        by that one. "" stands for what failed at once, which are `failed`."""
        return {"told": sorted(self._written), "failed": self._causes.memory()["failed"]}

    def written_down(self, telling: Telling) -> None:
        """It stands in the alerts log."""
        self.changed = True
        if telling.severity == "critical":
            self._written.add(telling.service)
        else:
            self._written.discard(telling.service)

    def recall(self, memory: object, logged: Mapping[str, str], now: float) -> None:
        """What the monitor before has told, as it published; and by service what the alerts log says of that time,
        which is right where the two differ: it may have died between the one and the other."""
        said = memory if isinstance(memory, dict) else {}
        written = {one for one in said.get("told", ()) if isinstance(one, str)}
        written -= {name for name, severity in logged.items() if severity == "resolved"}
        self._written = written | {name for name, severity in logged.items() if severity == "critical"}
        failed = said.get("failed", ()) if "" in self._written else ()
        for name in self._causes.recall({"told": sorted(self._written - {""}), "failed": failed}):
            charge = self._charges.get(name)
            if charge is None:
                self.resolved(name, "no longer in the inventory")
                continue
            # Ill still, until its probes have said otherwise: what is told must not be taken back by the changing of
            # the guard alone.
            told = self._causes.is_told(name)
            charge.watch = replace(charge.watch, alerted=told, outage=now, why="ill when the monitor was relieved")

    def resolved(self, name: str, why: str) -> None:
        """What was to be told of a service is over."""
        self._say(self._causes.resolved(name, why))

    def tick(self, now: float) -> None:
        """A second has passed."""
        self._say(self._causes.tick(now, self.ill()))

    def watch_anew(self, kind: str, why: str) -> None:
        """What lies before this moment was not watched: the history is told so, and where everything stands."""
        self._scribe.event("", kind, why)
        self._scribe.watching(anew=True)
        self.tell_all()

    def tell_all(self) -> None:
        """The history is told where everything stands: as yet unknown, before anybody has looked."""
        for name, charge in self._charges.items():
            self._write_state(name, charge.watch)

    def alert(self, name: str, text: str) -> None:
        """Something of an outage that people have to know. Nothing more is told of it then but its end."""
        charge = self._charges[name]
        charge.watch = replace(charge.watch, alerted=True)
        self._say(self._causes.tell(name, text) or [Telling("critical", name, text, name)])

    def _write_state(self, name: str, watch: Watch, since: float | None = None) -> None:
        self.written = True
        planned = watch.state != "up" and (watch.planned or watch.outage is None)
        self._scribe.state(name, watch.state, watch.wanted, planned=planned, why=watch.why, at=since)

    def _say(self, tellings: Sequence[Telling]) -> None:
        for telling in tellings:
            self._scribe.tell(telling)
