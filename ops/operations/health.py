"""health: every probe of every service, asked side by side, and whether the listener on a port is the service itself.

Knows: readings, what they say together with a sight, what is worth a warning. Must not know: how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ops.host import process
from ops.memory.files import now
from ops.model import Probe, Reading, Service
from ops.operations import asking, public, rivals, tree, watched
from ops.operations.look import (
    HostReport,
    ServiceReport,
    as_watched,
    report_of,
    shown,
    sweep_warnings,
    watch_warnings,
    with_boot,
)
from ops.operations.sight import Sight, Surroundings, see
from ops.operations.site import Site


def health(site: Site, only: Sequence[str] = ()) -> HostReport:
    """Deep checks of every service, side by side."""
    around = Surroundings(site.host, site.state)
    services = shown(site, only)
    seen = [see(site.state, service, around) for service in services]
    sights = {sight.service: sight for sight in seen}
    answers = _ask(site, services, sights)
    wishes = site.state.wishes()
    reports: list[ServiceReport] = []
    warnings = [rival.text for rival in rivals.rivals()]
    for service in services:
        sight = sights[service.name]
        readings = _with_port(service, sight, answers.get(service.name, ()))
        state = asking.judge(service, sight, readings)
        report = report_of(site, service, sight, wishes.get(service.name))
        checked = now() if readings else None
        reports.append(replace(report, state=state, probes=readings, checked_at=checked))
        notes = [*public.warnings(site.host, site.state, service, sight), *_output_warning(sight)]
        warnings += [f"{service.name}: {note}" for note in notes]
    warnings += public.alerts_warnings(site.host, site.state)
    monitor = with_boot(site, watched.report(site))
    warnings += _boot_warnings(site) if monitor.boot else ()
    warnings += watch_warnings(monitor) + sweep_warnings(monitor)
    if monitor.pid:
        pairs = zip(reports, as_watched(site, reports), strict=True)
        reports = [_with_what_the_monitor_knows(asked, said) for asked, said in pairs]
    return HostReport(site.host.name, tuple(reports), monitor, tuple(warnings), whole=not only)


def _boot_warnings(site: Site) -> tuple[str, ...]:
    from ops.operations import boot  # a fifth of what a host without it has to read before it can answer

    return tuple(boot.warnings(site))


def _with_what_the_monitor_knows(asked: ServiceReport, said: ServiceReport) -> ServiceReport:
    """What was asked just now counts, but for having been given up, which no asking tells."""
    if asked.state == "up":
        return replace(asked, refused=said.refused)
    return said if said.state == "gave-up" else replace(said, state=asked.state, checked_at=asked.checked_at)


def _ask(site: Site, services: Sequence[Service], sights: dict[str, Sight]) -> dict[str, tuple[Reading, ...]]:
    """The readings of whoever can answer; one that a signal has stopped is not waited for."""
    running = [s for s in services if sights[s.name].root and sights[s.name].state not in ("foreign", "stopping")]
    stopped = {s.name: _silence(s) for s in running if sights[s.name].stopped}
    asked = [service for service in running if service.name not in stopped]
    return stopped | asking.ask_all(site, [(service, _bounded(site, service.probes())) for service in asked])


def _bounded(site: Site, probes: Sequence[Probe]) -> list[Probe]:
    """The probes with their time limits cut to --timeout, should one be given."""
    return [replace(one, timeout=min(one.timeout, site.timeout or one.timeout)) for one in probes]


def _silence(service: Service) -> tuple[Reading, ...]:
    why = "stopped by a signal"
    return tuple(Reading(probe.name, False, 0.0, why, probe.restart, False) for probe in service.probes())


def _with_port(service: Service, sight: Sight, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    first = asking.port_reading(service, sight)
    if first is not None and first.ok is False and not sight.strangers:
        first = asking.port_reading(service, sight, tree.ports_of(sight))
    return (first, *readings) if first else readings


def _output_warning(sight: Sight) -> list[str]:
    """A service whose output is a terminal dies with that terminal."""
    if (sight.origin == "record" and sight.run) or sight.root is None:
        return []
    terminal = process.terminal(sight.root.pid)
    next_line = f"inv restart-one {sight.service}"
    return [f"its output is the terminal {terminal}, it dies with that: {next_line}"] if terminal else []
