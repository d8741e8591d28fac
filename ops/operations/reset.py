"""reset: the emergency. All down, ports freed, stale files cleared, all up again, verified.

Knows: that order. Must not know: how a service is ended or started. Needs little: neither history nor a disk with
room, no readable record, nobody's cooperation (law 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops.errors import OpsError
from ops.host.listeners import listeners
from ops.memory.wishes import Wish
from ops.model import Outcome, Service
from ops.operations import lifecycle, looking, ports, tree
from ops.operations.converge import Convergence, Plan, converge, in_order
from ops.operations.order import dependents
from ops.operations.plans import Look, blocked
from ops.operations.sight import Surroundings, count, owners, see, strays
from ops.operations.site import Site


def reset(site: Site, only: Sequence[str] = ()) -> list[Outcome]:
    """One outcome per service, for the way down and up together."""
    chosen = site.chosen(only)
    others = () if only else strays(site.host, site.state, Surroundings(site.host, site.state))
    gone = [service.name for service in others]
    wishes: Mapping[str, Wish] = {}
    if not site.check:
        names = [service.name for service in chosen]
        wishes = site.state.want(names, site.by, lambda wish: replace(wish, up=True), anew=True)
    cleared = {outcome.service: outcome for outcome in _clear(site, (*chosen, *others), wishes)}
    begun = {name: wish for name, wish in wishes.items() if cleared[name].state == "changed"}
    outcomes = {name: _announced(one) if site.check and name not in gone else one for name, one in cleared.items()}
    for name, outcome in outcomes.items():
        if name not in begun:
            site.done(outcome)
    telling = replace(site, done=lambda outcome: site.done(_joined(cleared[outcome.service], outcome)))
    for outcome in lifecycle.start_exactly(telling, begun):
        outcomes[outcome.service] = _joined(cleared[outcome.service], outcome)
    return list(outcomes.values())


def _clear(site: Site, services: Sequence[Service], wishes: Mapping[str, Wish]) -> list[Outcome]:
    by_name = {service.name: service for service in services}
    quiet = replace(site, done=lambda outcome: None)
    looks = looking.look_at(site, services, probing=False)

    def work(name: str, _settled: Mapping[str, Outcome]) -> Outcome:
        service = by_name[name]
        thing = Convergence(
            name,
            "reset",
            lambda: looks[name],
            lambda look: _plan(service, look, stray=service not in site.host.services),
            lambda look, plan: _carry_out(site, service, plan, wishes.get(name)),
        )
        return converge(quiet, thing)

    return in_order(site, list(by_name), dependents(services), work)


def _plan(service: Service, look: Look, *, stray: bool) -> Plan:
    """Ends what there is of it and frees its port; refuses where that is not allowed, and where what runs could
    not be started again."""
    if look.obstacle and not stray:
        return blocked(look)
    if look.sight.strangers:
        freeing = ports.plan_kill(service.port or 0, look.sight.strangers)
        if freeing.do == "refuse":
            return replace(freeing, before="foreign", after="foreign")
    members, strangers = look.sight.members, look.sight.strangers
    what = [f"ending {count(members)}"] if members else []
    what += [f"freeing port {service.port} of {owners(strangers)}"] if strangers else []
    return Plan("end", look.state, "down", ", ".join([*what, "forgetting it" if stray else "starting it anew"]))


def _carry_out(site: Site, service: Service, plan: Plan, wish: Wish | None) -> Outcome:
    with site.state.changing(service.name, site.lock_time(service), site.by):
        newer = lifecycle.superseded(site, service, wish, exactly=True) if wish else None
        if newer:
            return newer
        sight = see(site.state, service, Surroundings(site.host, site.state))
        done = [tree.end(site, service)] if sight.members else []
        done += _free(site, service)
        tree.clear(site, service)
    return Outcome(service.name, "reset", "changed", plan.before, "down", "; ".join(done) or "nothing ran")


def _free(site: Site, service: Service) -> list[str]:
    found = listeners([service.port]).get(service.port, ()) if service.port is not None else ()
    if not found or service.port is None:
        return []
    who = owners(found)
    ending = ports.end_listeners(site, service.port, found, service.grace)
    if ending.left:
        raise OpsError(f"port {service.port} is held by {who}, which would not end", next=ending.refused)
    return [f"freed port {service.port} of {who}"]


def _announced(cleared: Outcome) -> Outcome:
    if cleared.state == "failed":
        return cleared
    return replace(cleared, after="up")


def _joined(cleared: Outcome, started: Outcome) -> Outcome:
    """The outcome of both halves: as started, with what was cleared before it."""
    state = "changed" if started.state == "ok" else started.state
    detail = f"{cleared.detail}; {started.detail}" if started.detail else cleared.detail
    seconds = round(cleared.seconds + started.seconds, 3)
    return replace(started, action="reset", state=state, before=cleared.before, detail=detail, seconds=seconds)
