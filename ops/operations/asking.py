"""Asking services how they are, and what that says together with what was seen of their processes.

Knows: probes, readings, the rule from both to a state. Must not know: what to do about it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ops.errors import OpsError
from ops.frozen import frozen
from ops.host import death, process
from ops.host.probes import Question, ask
from ops.model import Probe, Process, Reading, Service, ServiceState
from ops.operations import environment
from ops.operations.sight import Sight, owners
from ops.operations.site import Site

_FIRST_PAUSE = 0.005  # seconds between looks at a starting service; grows, since most are up in a fraction of one
_LONGEST_PAUSE = 0.1


def ask_all(site: Site, wanted: Iterable[tuple[Service, Sequence[Probe]]]) -> dict[str, tuple[Reading, ...]]:
    """Asks all probes of all services side by side; the readings by service, in the order of its probes."""
    asked = list(wanted)
    pairs = [(service, probe) for service, probes in asked for probe in probes]
    readings = ask([question(site, service, probe) for service, probe in pairs])
    found: dict[str, tuple[Reading, ...]] = {service.name: () for service, _ in asked}
    for (service, _), reading in zip(pairs, readings, strict=True):
        found[service.name] = (*found.get(service.name, ()), reading)
    return found


def question(site: Site, service: Service, probe: Probe) -> Question:
    """One probe as a question; a command is asked in the folder and environment of its service."""
    if probe.kind != "command":
        return Question(probe, service.port)
    base = environment.frozen(site.state, service)["env"]
    try:
        env = environment.variables(site.host, service, base)
    except OpsError:
        env = {**base, **service.env}  # without its env_file the probe will say itself what it misses
    return Question(probe, service.port, environment.folder(site.host, service), env)


def judge(service: Service, sight: Sight, readings: Sequence[Reading]) -> ServiceState:
    """The state of a service from what was seen and what it answered.

    A starting service is not judged before its start deadline, and is healthy at the first success. A reading that
    could not be had (`ok` None) says nothing."""
    if sight.root is None or sight.state in ("foreign", "stopping"):
        return sight.state
    if sight.stopped:
        return "hung"
    failed = [reading for reading in readings if reading.restart and reading.ok is False]
    if failed and not sight.ready and sight.age < service.start_timeout:
        return "starting"
    if failed:
        silent = all(not reading.answered for reading in failed)
        return "hung" if silent and (service.port is None or sight.own_listeners) else "unhealthy"
    return "unhealthy" if any(reading.ok is False for reading in readings) else "up"


def faults(readings: Sequence[Reading]) -> str:
    """What the failing readings said, in one line."""
    return "; ".join(f"{reading.name}: {reading.detail}" for reading in readings if reading.ok is False)


def confirmed(
    site: Site, services: Sequence[Service], readings: Mapping[str, tuple[Reading, ...]]
) -> dict[str, tuple[Reading, ...]]:
    """The readings after the services that failed were asked again, `confirm` times a second apart: one failed
    probe is not believed."""
    known = dict(readings)
    for turn in range(max((service.confirm for service in services), default=0)):
        doubtful = [s for s in services if turn < s.confirm and failing(known.get(s.name, ()))]
        if not doubtful:
            break
        site.pause(1.0)
        known.update(ask_all(site, [(service, service.gating()) for service in doubtful]))
    return known


def failing(readings: Sequence[Reading]) -> bool:
    """Whether a probe that may restart the service has failed."""
    return any(reading.restart and reading.ok is False for reading in readings)


@frozen
class Verdict:
    """How waiting for a started service ended: ready, dead, or neither in time (`readings` say why)."""

    ready: bool
    dead: bool = False
    readings: tuple[Reading, ...] = ()


def wait_ready(site: Site, service: Service, root: Process, until: float) -> Verdict:
    """Waits until all gating probes pass, the process dies, or the moment `until` (monotonic) has come.

    A service without any probe counts as started when it still lives a quarter of a second later."""
    probes = service.gating()
    between = _FIRST_PAUSE
    begun = time.monotonic()
    readings: tuple[Reading, ...] = ()
    while True:
        site.checkpoint()
        if probes:
            left = max(0.05, until - time.monotonic())
            shortened = [replace(probe, timeout=min(probe.timeout, left)) for probe in probes]
            readings = ask_all(site, [(service, shortened)])[service.name]
        ready = all(reading.ok is not False for reading in readings)
        if ready and (probes or time.monotonic() - begun >= 0.25):
            return Verdict(process.alive(root), not process.alive(root), readings)
        if time.monotonic() >= until:
            return Verdict(False, False, readings)
        site.waiting(service.name, faults(readings) or "it to stay alive")
        death.gone([root.pid], between)
        if not process.alive(root):
            return Verdict(False, True, readings)
        between = min(between * 1.3, _LONGEST_PAUSE)


def port_reading(service: Service, sight: Sight, elsewhere: Sequence[int] = ()) -> Reading | None:
    """Whether the listener on its port is the service itself; None for a worker without a port.

    `elsewhere` are ports that its processes listen on instead (a dev server that took the next free one)."""
    if service.port is None or sight.root is None:
        return None
    name = f"port {service.port}"
    if not sight.own_listeners:
        if sight.strangers:
            return Reading(name, False, 0.0, "held by " + owners(sight.strangers))
        others = f"; listens on {', '.join(map(str, elsewhere))} instead" if elsewhere else ""
        return Reading(name, False, 0.0, f"nothing listens on {service.port}{others}", answered=False)
    if sight.strangers:
        where = ", ".join(sorted({listener.address for listener in sight.strangers}))
        return Reading(name, False, 0.0, f"also held on {where} by {owners(sight.strangers)}", restart=False)
    return Reading(name, True, 0.0, "its own")
