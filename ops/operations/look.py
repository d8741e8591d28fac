"""status: what runs, from records and the process table alone; and the reports that health has too.

Knows: sights, and which states are well. Must not know: probes, how it is shown. It imports little: it is typed often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ops.memory.files import now
from ops.model import Reading, Service, ServiceState, Wanted
from ops.operations.sight import Sight, Surroundings, owners, see, strays
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
    needs: tuple[str, ...] = ()

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
    whole: bool = True  # all services of the host, not some that were asked for

    @property
    def healthy(self) -> bool:
        """Everything wanted up is up and well."""
        return all(service.well for service in self.services)


def status(site: Site, only: Sequence[str] = ()) -> HostReport:
    """What runs, from records and the process table alone."""
    around = Surroundings(site.host, site.state)
    services = shown(site, only)
    wishes = site.state.wishes()
    sights = [see(site.state, service, around, port=False, whole=False) for service in services]
    reports = [
        report_of(service, sight, wishes[service.name].wanted if service.name in wishes else "up")
        for service, sight in zip(services, sights, strict=True)
    ]
    return HostReport(site.host.name, tuple(reports), whole=not only)


def shown(site: Site, only: Sequence[str]) -> tuple[Service, ...]:
    """The chosen services, and those that run although the inventory no longer names them."""
    return site.chosen(only) + (() if only else strays(site.host, site.state))


def report_of(service: Service, sight: Sight, wanted: Wanted) -> ServiceReport:
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
        owner=owners(sight.strangers) if sight.strangers else "",
        needs=service.needs,
    )


def _stale(service: Service, definition: str) -> bool:
    return definition != service.definition()
