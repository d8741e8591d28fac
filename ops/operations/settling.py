"""After a release has come to a host: the monitor goes on from it, old ones go, and what is missing is named.

Knows: which release a process runs from. Must not know: how a release came here.
"""

from __future__ import annotations

import os

from ops.errors import OpsError
from ops.host import installation, process, systemd
from ops.memory.watchpost import Watchpost
from ops.model import Outcome, Process
from ops.operations import boot, environment, keepers
from ops.operations.converge import Convergence, Plan, converge
from ops.operations.site import Site
from ops.operations.watched import who

_WITH_THE_LOGIN = (
    "what a command starts over ssh ends with the last logout here (KillUserProcesses=yes of logind); after "
    "inv install-service the monitor brings it back at once, and what the monitor starts stays"
)
_KEPT = 2  # releases besides the one in use


def settle(site: Site) -> list[Outcome]:
    """An outcome for the monitor, when one watches from another release."""
    for name, error in obstacles(site).items():
        site.note(name, [f"could not be started: {error.seen}" + (f"; next: {error.next}" if error.next else "")])
    if systemd.ends_sessions():
        site.note("services", [_WITH_THE_LOGIN])
    if not site.check:
        _remove_old()
    if _old_monitor(site) is None:
        return []
    thing = Convergence("monitor", site.task, lambda: _old_monitor(site), _plan, lambda one, plan: _renewed(site, one))
    return [converge(site, thing)]


def obstacles(site: Site) -> dict[str, OpsError]:
    """By service: why it could not be started on this machine (no such program, no such folder); the same of the
    `alert_command`. Changes nothing."""
    found = {}
    for service in site.host.services:
        try:
            environment.prepare(site.host, site.state, service)
        except OpsError as error:
            found[service.name] = error
    lacking = environment.missing_program(site.host, site.host.stack.alert_command)
    return {**found, "alert_command": lacking} if lacking else found


def _old_monitor(site: Site) -> Process | None:
    """The monitor, if it runs from another release than this."""
    one = who(Watchpost(site.state.path))
    mine = installation.release()
    return one if one and mine and not _runs_from(mine, one.pid) else None


def _runs_from(release: str, pid: int) -> bool:
    return any(word.startswith(release + os.sep) for word in process.command_line(pid))


def _plan(old: Process | None) -> Plan:
    if old is None:
        return Plan("nothing", "up", "up", "watching from this release")
    return Plan("restart", "up, from another release", "up", f"pid {old.pid} gives way to one of this release")


def _renewed(site: Site, old: Process | None) -> Outcome:
    if old is None:
        return _plan(old).outcome("monitor", site.task)
    keeper = keepers.installed(site.host)
    post = Watchpost(site.state.path)
    signed = post.post()
    if keeper is not None and signed is not None and signed.under:
        one = boot.renewed(site, keeper, old.pid)
    else:
        one = boot.replaced(site, post)
    return Outcome("monitor", site.task, "changed", "up, from another release", "up", f"watching, pid {one.pid}")


def _remove_old() -> None:
    """All but a few releases that nothing runs from: neither a monitor, nor a service whose command is {python}."""
    old = installation.others()[: -_KEPT or None]
    if not old:
        return
    words = [word for pid in process.pids() for word in process.command_line(pid)[:3]]
    for folder in old:
        if not any(word.startswith(folder + os.sep) for word in words):
            installation.remove(folder)
