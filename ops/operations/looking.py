"""Looking before changing: what a verb knows of a service when it plans, and whether that still holds.

Knows: sights, answers, obstacles, turns of the lock. Must not know: what is planned from them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ops.errors import OpsError
from ops.host import process
from ops.host.listeners import listening
from ops.model import Reading, Service
from ops.operations import asking, environment, public, watched
from ops.operations.plans import Look
from ops.operations.sight import Sight, Surroundings, see
from ops.operations.site import Site


def look_at(site: Site, services: Sequence[Service], *, probing: bool = True, refresh: bool = False) -> dict[str, Look]:
    """One look at the machine for all services together; those that run are asked side by side."""
    turns = {service.name: site.state.turn(service.name) for service in services}
    around = Surroundings(site.host, site.state)
    sights = {service.name: see(site.state, service, around) for service in services}
    asked = [s for s in services if probing and _worth_asking(sights[s.name])]
    readings = _confirmed(site, asked, sights, {})
    silent = [service for service in asked if _silent(service, sights[service.name])]
    # All share one look at the ports, which may be older than the record: one may have come up in between.
    again = {s.name: see(site.state, s, Surroundings(site.host, site.state)) for s in silent}
    # What it answered before it was ready says nothing of one that is ready by now.
    anew = [s for s in silent if _worth_asking(again[s.name]) and _is_news(again[s.name], sights[s.name])]
    sights.update(again)
    readings = _confirmed(site, anew, sights, readings)
    looks = [_look(site, one, sights[one.name], turns, readings, refresh) for one in services]
    said = watched.readings(site) if any(look.stale for look in looks) else {}
    return {
        one.name: replace(look, refused=_is_refused(said.get(one.name))) if look.stale else look
        for one, look in zip(services, looks, strict=True)
    }


def _confirmed(
    site: Site, services: Sequence[Service], sights: Mapping[str, Sight], known: Mapping[str, tuple[Reading, ...]]
) -> dict[str, tuple[Reading, ...]]:
    """What is known with the answers of these services, asked side by side; doubtful ones are asked again."""
    readings = {**known, **asking.ask_all(site, [(service, service.gating()) for service in services])}
    doubtful = [s for s in services if asking.judge(s, sights[s.name], readings[s.name]) in ("hung", "unhealthy")]
    return asking.confirmed(site, doubtful, readings)


def _is_news(sight: Sight, before: Sight) -> bool:
    return sight.root != before.root or (sight.ready and not before.ready)


def _is_refused(said: object) -> bool:
    return isinstance(said, dict) and said.get("refused") is True


def _worth_asking(sight: Sight) -> bool:
    return sight.root is not None and sight.state not in ("foreign", "stopping") and not sight.stopped


def _silent(service: Service, sight: Sight) -> bool:
    port = asking.port_reading(service, sight)
    return port is not None and port.restart and port.ok is False


def _look(
    site: Site,
    service: Service,
    sight: Sight,
    turns: Mapping[str, int],
    readings: Mapping[str, tuple[Reading, ...]],
    refresh: bool,
) -> Look:
    answers = readings.get(service.name, ())
    if service.name in readings:
        port = asking.port_reading(service, sight)
        answers = (*answers, port) if port and port.restart else answers
    state = asking.judge(service, sight, answers)
    return Look(
        sight,
        state,
        turns[service.name],
        answers,
        *_preparation(site, service, refresh),
        public.fault(site.host, site.state, service, sight),
        bool(sight.root and sight.record and sight.record.definition != service.definition()),
    )


def _preparation(site: Site, service: Service, refresh: bool) -> tuple[OpsError | None, bool]:
    """Why it could not be launched, and whether it would be with something else than what was frozen."""
    try:
        kept = environment.prepare(site.host, site.state, service, refresh=refresh)[1]
    except OpsError as error:
        return error, False
    return None, refresh and kept != site.state.frozen().get(service.name)


def certain(site: Site, service: Service, look: Look) -> Look:
    """A stranger on its port is believed when seen while nobody changes the service: before, it may have been the
    service itself, come or gone between the looks at processes and at ports."""
    if look.state != "foreign":
        return look
    lock = site.state.changing(service.name, site.lock_time(service), site.by)
    with contextlib.nullcontext() if site.check else lock:
        around = Surroundings(site.host, site.state)
        return look_again(service, look, see(site.state, service, around, locked=not site.check))


def look_again(service: Service, look: Look, sight: Sight) -> Look:
    """The look under the lock. What a process answered before still holds, unless it has become ready since; a new
    one is still to be asked."""
    if sight.root == look.sight.root and look.sight.state != "stopping":
        answers = tuple(one for one in look.readings if one.name != f"port {service.port}")
        port = asking.port_reading(service, sight) if answers else None
        answers = (*answers, port) if port and port.restart else answers
        answers = () if sight.ready and not look.sight.ready else answers
        return replace(look, sight=sight, state=asking.judge(service, sight, answers), readings=answers)
    state = "starting" if sight.state == "up" else sight.state
    return replace(look, sight=sight, state=state, readings=(), untidy="")


def still(service: Service, sight: Sight) -> bool:
    """Whether what was seen before the lock was taken is still so, as far as the outside world goes."""
    if sight.root is not None:
        return process.alive(sight.root)
    seen = bool(sight.own_listeners or sight.strangers)
    return service.port is None or seen or not listening(service.port)
