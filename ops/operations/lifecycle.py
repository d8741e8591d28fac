"""start, stop, restart, restart-one: bringing services to what is wanted.

Knows: how looks become plans, and plans become signals and spawns, under the lock of the service. Must not know:
where it runs, how it is printed.

The lock is held from look to spawned-and-recorded and from TERM to gone, never while waiting for health. The last
intent wins: whoever waited for the lock and finds a newer wish drops its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops.errors import OpsError
from ops.host import process
from ops.host.listeners import listeners
from ops.memory.wishes import Wish
from ops.model import Outcome, Process, Service
from ops.operations import asking, environment, tree
from ops.operations.converge import Convergence, Plan, converge, in_order
from ops.operations.looking import certain, look_again, look_at, still
from ops.operations.order import critical_first, dependents, in_sequence, with_needs
from ops.operations.plans import Look, plan_restart, plan_start, plan_stop
from ops.operations.sight import Sight, Surroundings, see, strays
from ops.operations.site import Site
from ops.operations.unwell import may_listen_yet, not_well


def start(site: Site, only: Sequence[str] = (), *, refresh: bool = False) -> list[Outcome]:
    """Every chosen service up and healthy, with the services that they need, in order of `needs`."""
    chosen = with_needs(site.host, site.chosen(only))
    return _start(site, chosen, _wish(site, chosen, up=True), refresh=refresh)


def start_exactly(site: Site, wishes: Mapping[str, Wish]) -> list[Outcome]:
    """The services of these wishes up and healthy, without whatever else they need."""
    return _start(site, [service for service in site.host.services if service.name in wishes], wishes)


def _start(
    site: Site, chosen: Sequence[Service], wishes: Mapping[str, Wish], *, refresh: bool = False
) -> list[Outcome]:
    looks = look_at(site, chosen, refresh=refresh)
    launched = [one for one in chosen if plan_start(one, looks[one.name]).do in ("spawn", "restart")]
    _freeze(site, chosen if refresh else launched, refresh)
    by_name = {service.name: service for service in chosen}

    def work(name: str, settled: Mapping[str, Outcome]) -> Outcome:
        look = _with_needs_seen(looks[name], [need for need in by_name[name].needs if need in by_name], looks, settled)
        return _start_one(site, by_name[name], look, wishes[name], refresh=refresh)

    names = [service.name for service in critical_first(chosen)]
    needs = {service.name: service.needs for service in chosen}
    return in_order(site, names, needs, work, patience=lambda need: by_name[need].start_timeout)


def _with_needs_seen(
    look: Look, needs: Sequence[str], looks: Mapping[str, Look], settled: Mapping[str, Outcome]
) -> Look:
    return replace(
        look,
        needs_down=tuple(need for need in needs if looks[need].state != "up"),
        needs_failed=tuple(need for need in needs if need in settled and settled[need].state == "failed"),
        needs_late=tuple(need for need in needs if need not in settled),
    )


def _freeze(site: Site, services: Sequence[Service], refresh: bool) -> None:
    """Keeps what all of them will be launched with in one write; one by one they would queue up for its lock."""
    kept = {}
    for service in services if not site.check else ():
        with contextlib.suppress(OpsError):  # launching it will say why
            kept[service.name] = environment.prepare(site.host, site.state, service, refresh=refresh)[1]
    site.state.freeze(kept, site.by)


def _start_one(site: Site, service: Service, look: Look, wish: Wish, *, refresh: bool) -> Outcome:
    return converge(
        site,
        Convergence(
            service.name,
            "start",
            lambda: certain(site, service, look),
            lambda seen: plan_start(service, seen),
            lambda seen, plan: _carry_out_start(site, service, seen, plan, wish, refresh),
        ),
    )


def stop(site: Site, only: Sequence[str] = ()) -> list[Outcome]:
    """Every chosen service down and staying down: its whole tree gone and its port free."""
    chosen = _also_strays(site, only)
    wishes = _wish(site, chosen, up=False)
    looks = look_at(site, chosen, probing=False)
    by_name = {service.name: service for service in chosen}

    def work(name: str, _settled: Mapping[str, Outcome]) -> Outcome:
        service = by_name[name]
        thing = Convergence(
            name,
            "stop",
            lambda: looks[name],
            lambda seen: plan_stop(service, seen),
            lambda seen, plan: _carry_out_stop(site, service, wishes[name]),
        )
        return converge(site, thing)

    return in_order(site, list(by_name), dependents(chosen), work)


def _also_strays(site: Site, only: Sequence[str]) -> tuple[Service, ...]:
    """The chosen services, and of those that the inventory no longer names all, or those that are named."""
    listed = [service.name for service in site.host.services if service.name in only]
    if only and len(listed) == len(set(only)):
        return site.chosen(only)
    others = strays(site.host, site.state, Surroundings(site.host, site.state))
    if not only:
        return site.chosen(()) + others
    named = [service for service in others if service.name in only]
    rest = [name for name in only if name not in {service.name for service in named}]
    return (*(site.chosen(rest) if rest else ()), *named)


def restart(site: Site, only: Sequence[str] = (), *, refresh: bool = False) -> list[Outcome]:
    """All chosen services, one at a time in order, each healthy before the next; the first failure ends it."""
    chosen = in_sequence(site.chosen(only))
    outcomes: list[Outcome] = []
    for service in chosen:
        failed = [outcome.service for outcome in outcomes if outcome.state == "failed"]
        if failed:
            why = f"not reached: {failed[0]} failed, so the others were left as they are"
            outcomes.append(Outcome(service.name, "restart", "skipped", "unknown", "unknown", why))
            site.done(outcomes[-1])
        else:
            outcomes += restart_one(site, service, action="restart", refresh=refresh)
    return outcomes


def restart_one(site: Site, service: Service, *, action: str = "restart-one", refresh: bool = False) -> list[Outcome]:
    """One service, gracefully: its tree ended, its port free, started anew and healthy."""
    wish = _wish(site, [service], up=True, anew=True)[service.name]
    thing = Convergence(
        service.name,
        action,
        lambda: certain(site, service, look_at(site, [service], probing=False, refresh=refresh)[service.name]),
        lambda seen: plan_restart(service, seen),
        lambda seen, plan: _carry_out_restart(site, service, plan, wish, action, refresh),
    )
    return in_order(site, [service.name], {}, lambda name, settled: converge(site, thing))


def _wish(site: Site, services: Sequence[Service], *, up: bool, anew: bool = False) -> dict[str, Wish]:
    """Records what is wanted before anything is done; --check records nothing."""
    names = [service.name for service in services]
    if site.check:
        return {name: site.state.wish(name) for name in names}
    return site.state.want(names, site.by, lambda wish: replace(wish, up=up), anew=anew)


def _carry_out_start(site: Site, service: Service, look: Look, plan: Plan, wish: Wish, refresh: bool) -> Outcome:
    """Carries the plan out under the lock, provided that what it was made from still holds; else looks anew."""
    before = look.state
    site.checkpoint()
    with site.state.changing(service.name, site.lock_time(service), site.by) as turn:
        newer = superseded(site, service, wish)
        if newer:
            return newer
        if turn != look.turn or not still(service, look.sight):
            around = Surroundings(site.host, site.state)
            look = look_again(service, look, see(site.state, service, around, locked=True))
            plan = plan_start(service, look)
        if plan.do == "nothing" and look.sight.root:
            tree.ready(site, service, look.sight.root)  # whoever started it was gone, or the disk full, before that
        if plan.idle:
            return replace(plan.outcome(service.name, "start"), before=before)
        root, how = _act(site, service, look, plan, refresh)
    return _finish(site, service, "start", before, root, how, wish, changed=plan.do != "wait")


def superseded(site: Site, service: Service, wish: Wish, *, exactly: bool = False) -> Outcome | None:
    """A skipped outcome when somebody has wanted something else since; `exactly`: or has wanted it anew."""
    newest = site.state.wish(service.name)
    if newest.generation <= wish.generation or (newest.up == wish.up and not exactly):
        return None
    return _left_to(site, service, newest)


def _still_at_it(site: Site, service: Service, wish: Wish, sight: Sight) -> Outcome | None:
    """The same when a command that is still at it has ended the service on the very wish that this one found, and so
    had no need to say anew: a reset, told by the record that it has removed."""
    another = wish.pid != os.getpid() and process.identify(wish.pid) is not None
    if sight.root or sight.record or not another or site.state.wish(service.name).generation != wish.generation:
        return None
    return _left_to(site, service, wish)


def _left_to(site: Site, service: Service, newest: Wish) -> Outcome:
    why = f"superseded by {newest.by}, which wants it {'up' if newest.up else 'down'}"
    return Outcome(service.name, site.task, "skipped", "unknown", "unknown", why)


def _act(site: Site, service: Service, look: Look, plan: Plan, refresh: bool) -> tuple[Process, str]:
    """What the plan says, under the lock. The process to wait for, and in words what was done."""
    sight = look.sight
    if plan.do in ("wait", "adopt", "tidy") and sight.root:
        tree.adopt(site, service, sight)
        return sight.root, plan.why
    how = "started"
    if look.needs_late:
        how = f"started without waiting longer for {', '.join(look.needs_late)}"
    if sight.members:
        ended = tree.end(site, service)
        how = f"restarted ({plan.why}; {ended})" if sight.root else f"started ({ended} that were left over)"
    return tree.launch(site, service, look.sight, refresh=refresh), how


def _carry_out_stop(site: Site, service: Service, wish: Wish) -> Outcome:
    with site.state.changing(service.name, site.lock_time(service), site.by):
        newer = superseded(site, service, wish)
        if newer:
            return newer
        sight = see(site.state, service, Surroundings(site.host, site.state))
        plan = plan_stop(service, Look(sight, sight.state, 0))
        if sight.members:
            ended = tree.end(site, service)
            plan = replace(plan, why=ended)
        tree.clear(site, service)
    if site.state.wish(service.name).generation < wish.generation:
        why = f"it is down, but that it should stay down could not be recorded in {site.state.path}"
        advice = f"next:   free some space (df -h {site.state.path}), then: inv stop --only {service.name}"
        return Outcome(service.name, "stop", "failed", plan.before, "down", why, more=(advice,))
    return plan.outcome(service.name, "stop")


def _carry_out_restart(site: Site, service: Service, plan: Plan, wish: Wish, action: str, refresh: bool) -> Outcome:
    with site.state.changing(service.name, site.lock_time(service), site.by):
        newer = superseded(site, service, wish, exactly=True)
        if newer:
            return replace(newer, action=action)
        sight = see(site.state, service, Surroundings(site.host, site.state))
        ended = tree.end(site, service) if sight.members else "was not running"
        root = tree.launch(site, service, sight, refresh=refresh)
    return _finish(site, service, action, plan.before, root, f"{ended}; started", wish, changed=True)


def _finish(
    site: Site,
    service: Service,
    action: str,
    before: str,
    root: Process,
    how: str,
    wish: Wish,
    *,
    changed: bool,
) -> Outcome:
    """Waits for health without the lock, then looks again: only what is seen then is said."""
    begun = time.monotonic()
    until = site.deadline(service.start_timeout)
    while True:
        verdict = asking.wait_ready(site, service, root, until)
        if verdict.ready and _serves(service, root):
            return _up(site, service, action, before, root, how, begun, changed=changed)
        sight = see(site.state, service, Surroundings(site.host, site.state))
        port = asking.port_reading(service, sight, tree.ports_of(sight))
        if verdict.ready and sight.root == root and (port is None or port.ok or not port.restart):
            return _up(site, service, action, before, root, how, begun, changed=changed)
        # Whoever holds the lock now may be replacing it: what is there is only certain once they are done.
        with site.state.changing(service.name, site.lock_time(service), site.by):
            sight = see(site.state, service, Surroundings(site.host, site.state), locked=True)
            # Ended by somebody who wants it up as well: a reset, which frees its lock before it starts it again.
            newer = superseded(site, service, wish, exactly=action != "start" or sight.root is None)
            newer = newer or _still_at_it(site, service, wish, sight)
            if newer:
                return replace(newer, action=action, before=before)
            if sight.root and sight.origin == "marker":
                # It put itself in the background: who carries its marker and listens on its port is the service.
                tree.adopt(site, service, sight)
        if time.monotonic() < until and may_listen_yet(service, root, verdict, sight):
            site.pause(0.1)
            continue
        if sight.root in (None, root) or time.monotonic() >= until:
            return not_well(site, service, action, before, root, verdict, sight, port)
        root = sight.root


def _serves(service: Service, root: Process) -> bool:
    """Whether this very process lives and listens on the port itself, which is the rule: then nobody else has to be
    looked at. What only a child of it does is seen by looking at the whole machine."""
    own = service.port is None or bool(listeners([service.port], [root.pid]))
    return own and process.alive(root)


def _up(
    site: Site, service: Service, action: str, before: str, root: Process, how: str, begun: float, *, changed: bool
) -> Outcome:
    tree.ready(site, service, root)
    who = "" if f"pid {root.pid}" in how else f", pid {root.pid}"
    why = f"{how}{who}, healthy after {time.monotonic() - begun:.1f} s"
    return Outcome(service.name, action, "changed" if changed else "ok", before, "up", why)
