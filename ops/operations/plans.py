"""What start, stop and restart do about a service in the state that was seen: pure functions.

Knows: looks and plans. Must not know: how to look, how to carry out; it touches nothing.
"""

from __future__ import annotations

from ops.errors import OpsError
from ops.frozen import frozen
from ops.model import Reading, Service, ServiceState
from ops.operations import asking, ports
from ops.operations.converge import Plan
from ops.operations.sight import Sight, count, owners


@frozen
class Look:
    """What a changing verb knows of one service when it plans: sight, answers, and what would be in its way."""

    sight: Sight
    state: ServiceState
    turn: int
    readings: tuple[Reading, ...] = ()
    obstacle: OpsError | None = None  # why it could not be launched
    refreshed: bool = False  # --refresh-env gives it another environment than the one that was frozen
    untidy: str = ""  # what is wrong with its public log and pid file
    stale: bool = False
    refused: bool = False  # what the inventory says of it now was tried by the monitor, and was not well
    needs_down: tuple[str, ...] = ()  # what it needs and was not up when it was looked at
    needs_failed: tuple[str, ...] = ()  # what it needs and could not be brought up
    needs_late: tuple[str, ...] = ()  # what it needs and is not up within its start_timeout


def plan_start(service: Service, look: Look) -> Plan:
    """What `start` does about a service in the state that was seen."""
    state = look.state
    if state == "foreign":
        return _foreign(service, look)
    if state in ("down", "stopping", "hung") or state == "unhealthy":
        return _plan_bring_up(look)
    if look.sight.origin != "record":
        why = "started by hand" if look.sight.origin == "hand" else "running without a record"
        return Plan("adopt", state, "up", f"{why}, adopted as pid {look.sight.pid}")
    if state == "starting":
        return Plan("wait", state, "up", "already starting")
    if look.refreshed:
        why = f"already healthy; the new environment is kept for its next start: inv restart-one {service.name}"
        return Plan("tidy", state, "up", why)
    if look.untidy:
        return Plan("tidy", state, "up", f"already healthy; put right: {look.untidy}")
    return Plan("nothing", state, state, f"already healthy, pid {look.sight.pid}{_drift(service, look)}")


def _drift(service: Service, look: Look) -> str:
    if look.refused:
        return "; it runs as it was before: what the inventory says of it now was not well, correct it there"
    return f"; its definition changed since: inv restart-one {service.name}" if look.stale else ""


def _plan_bring_up(look: Look) -> Plan:
    if look.obstacle:
        return blocked(look)
    if look.sight.elsewhere:
        return _elsewhere(look)
    if look.sight.root is None:
        left = f", after ending {len(look.sight.leftovers)} left over" if look.sight.leftovers else ""
        return Plan("spawn", look.state, "up", f"starting it{left}")
    why = asking.faults(look.readings) or ("stopped by a signal" if look.sight.stopped else "")
    why = why or f"ending pid {look.sight.pid} and starting it anew"
    if look.state == "unhealthy" and look.needs_failed:
        why = f"{why}; left alone, since what it needs is not up: {', '.join(look.needs_failed)}"
        return Plan("refuse", look.state, look.state, why)
    if look.state == "unhealthy" and look.needs_down:
        why = f"{why}; not restarted for that: what it needs was not up ({', '.join(look.needs_down)})"
        return Plan("wait", look.state, "up", why)
    return Plan("restart", look.state, "up", why)


def _elsewhere(look: Look) -> Plan:
    """A worker has no port that would tell: started with another state folder, it would run twice (law 1)."""
    why = f"it runs already, started with another state folder: {count(look.sight.elsewhere)}"
    advice = "next:   stop it with the HOME or OPS_STATE that it was started with, or go on using that one"
    return Plan("refuse", "down", "down", why, ("wanted: one of it", advice))


def _foreign(service: Service, look: Look) -> Plan:
    held = f"port {service.port} is held by {owners(look.sight.strangers)}"
    advice = ports.advice(service.port or 0, look.sight.strangers, f" start --only {service.name}")
    return Plan("refuse", "foreign", "foreign", held, (f"wanted: {service.name} on it", f"next:   {advice}"))


def blocked(look: Look) -> Plan:
    """Left as it is, since it could not be started (again)."""
    head, *more = look.obstacle.lines() if look.obstacle else [""]
    return Plan("refuse", look.state, look.state, head, tuple(more))


def plan_stop(service: Service, look: Look) -> Plan:
    """What `stop` does: nothing when no process of it is left, whoever else may hold its port."""
    if look.sight.members:
        return Plan("end", look.state, "down", f"ending {count(look.sight.members)}")
    held = f"; port {service.port} is held by {owners(look.sight.strangers)}"
    why = "already down" + (held if look.sight.strangers else "")
    return Plan("nothing", "down", "down", why)


def plan_restart(service: Service, look: Look) -> Plan:
    """What `restart` does: nothing that runs is ended before it is known that it could be started again."""
    if look.obstacle:
        return blocked(look)
    if look.state == "foreign" and not look.sight.members:
        return _foreign(service, look)
    if look.sight.elsewhere:
        return _elsewhere(look)
    if look.sight.root is None:
        return Plan("spawn", look.state, "up", "was not running")
    return Plan("restart", look.state, "up", f"ending pid {look.sight.pid} and starting it anew")
