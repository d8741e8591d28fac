"""status: what runs, from records and the process table alone; and the reports that health has too.

Knows: sights, and which states are well. Must not know: probes, how it is shown. It imports little: it is typed often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ops.frozen import frozen
from ops.host import boot_files
from ops.memory.files import now
from ops.memory.wishes import Wish
from ops.model import Reading, Service, ServiceState, Wanted
from ops.operations import watched
from ops.operations.sight import Sight, Surroundings, owners, see, strays
from ops.operations.site import Site
from ops.operations.watched import MonitorReport


@frozen
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
    listed: bool = True  # whether the inventory still names it
    why: str = ""  # what a living monitor says of its illness
    next_try: str | None = None  # when that monitor starts it again, ISO 8601
    tries: int = 0  # how often it has done so since the service was calm last
    refused: bool = False  # it runs as it was defined before: what the inventory says now was not well

    @property
    def well(self) -> bool:
        """Wanted up and up, or not wanted up."""
        return self.wanted != "up" or self.state == "up"

    @property
    def held_down(self) -> bool:
        """Held, and not well: nobody brings it back, which is easily forgotten."""
        return self.wanted == "held" and self.state not in ("up", "starting")


@frozen
class HostReport:
    """Everything that `status` and `health` say of one host."""

    name: str
    services: tuple[ServiceReport, ...]
    monitor: MonitorReport = field(default_factory=lambda: MonitorReport(wanted=False))
    warnings: tuple[str, ...] = ()
    whole: bool = True  # all services of the host, not some that were asked for
    error: str = ""  # why nothing is known of it, a line each

    @property
    def healthy(self) -> bool:
        """Everything wanted up is up and well, and so is the monitor unless it was stopped by command."""
        return not self.error and self.monitor.well and all(service.well for service in self.services)


def status(site: Site, only: Sequence[str] = ()) -> HostReport:
    """What runs, from records and the process table alone."""
    around = Surroundings(site.host, site.state)
    services = shown(site, only)
    wishes = site.state.wishes()
    sights = [see(site.state, service, around, port=False, whole=False) for service in services]
    pairs = zip(services, sights, strict=True)
    reports = [report_of(site, service, sight, wishes.get(service.name)) for service, sight in pairs]
    monitor = with_boot(site, watched.report(site))
    reports = as_watched(site, reports) if monitor.pid else reports
    warnings = watch_warnings(monitor) + sweep_warnings(monitor)
    return HostReport(site.host.name, tuple(reports), monitor, warnings, whole=not only)


def with_boot(site: Site, monitor: MonitorReport) -> MonitorReport:
    """With what starts it at boot, by the files that are there: nobody is asked."""
    if not boot_files.any_of(site.host.stack.label):
        return monitor
    from ops.operations import keepers

    keeper = keepers.installed(site.host)
    return replace(monitor, boot=keeper.words, boot_fault=keeper.fault()) if keeper else monitor


def watch_warnings(monitor: MonitorReport) -> tuple[str, ...]:
    """What of the monitor's own is worth a warning."""
    return (f"inventory: what stands there does not hold, {monitor.fault}",) if monitor.fault else ()


def sweep_warnings(monitor: MonitorReport) -> tuple[str, ...]:
    """Whether it still looks at the machine."""
    return (f"monitor: {monitor.blind}",) if monitor.blind else ()


def as_watched(site: Site, reports: Sequence[ServiceReport]) -> list[ServiceReport]:
    """With what a living monitor has found out, as far as that is about the process that runs now."""
    found = watched.readings(site)
    return [_as_watched(report, found.get(report.name)) for report in reports]


def _as_watched(report: ServiceReport, said: Mapping[str, Any] | None) -> ServiceReport:
    if not isinstance(said, dict) or said.get("pid") != report.pid:
        return report
    checked = said.get("checked_at")
    report = replace(report, checked_at=checked) if isinstance(checked, str) else report
    report = replace(report, refused=said.get("refused") is True)
    state = said.get("state")
    if report.wanted == "up" and state in ("down", "unhealthy", "hung", "foreign", "gave-up"):
        report = replace(report, why=str(said.get("why", "")), tries=said.get("restarts", 0))
        report = replace(report, next_try=said.get("next_try"))
    if state == "gave-up" and report.state != "stopping":
        return replace(report, state="gave-up")
    if report.state == "up" and state in ("unhealthy", "hung"):
        return replace(report, state=state)
    return report


def shown(site: Site, only: Sequence[str]) -> tuple[Service, ...]:
    """The chosen services, and those that the inventory no longer names and nobody has stopped."""
    return site.chosen(only) + (() if only else strays(site.host, site.state))


def report_of(site: Site, service: Service, sight: Sight, wish: Wish | None) -> ServiceReport:
    """What is wanted of one that the inventory no longer names is that it is gone."""
    listed = service in site.host.services
    wanted: Wanted = (wish.wanted if wish else "up") if listed else "down"
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
        listed=listed,
    )


def _stale(service: Service, definition: str) -> bool:
    return definition != service.definition()
