"""status and health: how things are, without changing anything.

Knows: sights, readings, and which states are well. Must not know: how it is shown.

`status` is instant: records and the process table, no service is asked. `health` asks every probe of every service
side by side, and whether the listener on the port is the service itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ops.memory.files import now
from ops.model import Probe, Reading, Service, ServiceState, Wanted
from ops.operations import asking, public, rivals, tree
from ops.operations.sight import Sight, Surroundings, see
from ops.operations.site import Site


@dataclass(frozen=True)
class ServiceReport:
    """What `status` and `health` say of one service. Times ISO 8601, seconds, bytes; None is unknown."""

    name: str
    critical: bool
    port: int | None
    wanted: Wanted
    state: ServiceState
    pid: int | None
    started_at: str | None
    uptime: float | None
    cpu_percent: float | None
    rss: int | None
    restarts: int
    stale: bool
    checked_at: str | None
    probes: tuple[Reading, ...] = ()
    owner: str = ""  # who has its port, when that is somebody else

    @property
    def well(self) -> bool:
        """Wanted up and up, or not wanted up."""
        return self.wanted != "up" or self.state == "up"


@dataclass(frozen=True)
class MonitorReport:
    """The monitor's state, pid and the moment of its last sweep."""

    state: ServiceState = "down"
    pid: int | None = None
    last_sweep: str | None = None


@dataclass(frozen=True)
class HostReport:
    """Everything that `status` and `health` say of one host."""

    name: str
    services: tuple[ServiceReport, ...]
    monitor: MonitorReport = MonitorReport()
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Everything wanted up is up and well."""
        return all(service.well for service in self.services)


def status(site: Site, only: Sequence[str] = ()) -> HostReport:
    """What runs, from records and the process table alone."""
    around = Surroundings(site.host, site.state)
    services = _shown(site, only)
    wishes = site.state.wishes()
    sights = [see(site.state, service, around, port=False, whole=False) for service in services]
    reports = [
        _report(service, sight, wishes[service.name].wanted if service.name in wishes else "up")
        for service, sight in zip(services, sights, strict=True)
    ]
    return HostReport(site.host.name, tuple(reports))


def health(site: Site, only: Sequence[str] = ()) -> HostReport:
    """Deep checks of every service, side by side."""
    around = Surroundings(site.host, site.state)
    services = _shown(site, only)
    sights = {service.name: see(site.state, service, around) for service in services}
    answers = _ask(site, services, sights)
    wishes = site.state.wishes()
    reports: list[ServiceReport] = []
    warnings = [rival.text for rival in rivals.rivals()]
    for service in services:
        sight = sights[service.name]
        readings = _with_port(service, sight, answers.get(service.name, ()))
        wish = wishes.get(service.name)
        state = asking.judge(service, sight, readings)
        report = _report(service, sight, wish.wanted if wish else "up")
        checked = now() if readings else None
        reports.append(replace(report, state=state, probes=readings, checked_at=checked))
        notes = [*public.warnings(site.host, site.state, service, sight), *_output_warning(sight)]
        warnings += [f"{service.name}: {note}" for note in notes]
    return HostReport(site.host.name, tuple(reports), warnings=tuple(warnings))


def _shown(site: Site, only: Sequence[str]) -> tuple[Service, ...]:
    """The chosen services, and those that run although the inventory no longer names them."""
    return site.chosen(only) + (() if only else tree.strays(site))


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
    from ops.host import process

    if (sight.origin == "record" and sight.run) or sight.root is None:
        return []
    terminal = process.terminal(sight.root.pid)
    next_line = f"inv restart-one {sight.service}"
    return [f"its output is the terminal {terminal}, it dies with that: {next_line}"] if terminal else []


def _report(service: Service, sight: Sight, wanted: Wanted) -> ServiceReport:
    record = sight.record if sight.record and sight.record.process == sight.root else None
    running = sight.root is not None
    return ServiceReport(
        name=service.name,
        critical=service.critical,
        port=service.port,
        wanted=wanted,
        state=sight.state,
        pid=sight.pid,
        started_at=(record.started_at if record else now(sight.age)) if running else None,
        uptime=round(sight.age, 3) if running else None,
        cpu_percent=round(100 * sight.cpu / max(sight.age, 0.01), 1) if running else None,
        rss=sight.rss if running else None,
        restarts=record.restarts if record else 0,
        stale=bool(record and _stale(service, record.definition)),
        checked_at=record.ready_at if record else None,
        owner=asking.owners(sight.strangers) if sight.strangers else "",
    )


def _stale(service: Service, definition: str) -> bool:
    return definition != service.definition()
