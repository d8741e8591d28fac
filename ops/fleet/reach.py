"""Reach: which hosts a request goes to, and its results collected. So far: this machine.

Knows: hosts, and that an operation runs on the machine it acts on. Must not know: what a verb does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ops.errors import InventoryError, OpsError
from ops.memory.state import State
from ops.model import Host, Inventory, Outcome
from ops.operations.site import Site
from ops.operations.verbs import Request, perform

if TYPE_CHECKING:
    from ops.operations.look import HostReport
    from ops.operations.report import WindowReport

_FOR_OWNERS = ("install-service", "uninstall-service", "monitor-start", "monitor-stop")
Done = Callable[[Outcome], None]
Waiting = Callable[[str, str], None]


def here(inventory: Inventory) -> Host:
    """The host of the inventory that is this machine."""
    for host in inventory.hosts:
        if host.connection == "local":
            return host
    raise InventoryError(
        f"{inventory.path}: no host has `ansible_connection: local`",
        next="add under `hosts`: localhost: {ansible_connection: local}",
    )


def last_good(path: str) -> tuple[Inventory, str] | None:
    """What the monitor of this machine has last read in an inventory that cannot be read now, and when (local time,
    for people). None when it has kept nothing that can be believed."""
    import time

    from ops.memory import last_good

    found = last_good.find(path)
    if found is None:
        return None
    read_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.read_at))
    return Inventory(path, found.host.stack, (found.host,)), read_at


def site_of(inventory: Inventory, request: Request, done: Done, waiting: Waiting) -> Site:
    """The site of a request on this machine."""
    host = here(inventory)
    if request.task in _FOR_OWNERS:
        _act_for_owner(host)
    state = State(host.stack, host.root)
    read = (inventory.path, inventory.text)
    return Site(host, state, request.task, request.check, request.timeout, *read, done, waiting)


def _act_for_owner(host: Host) -> None:
    """As root (with `sudo`, say) in the project of another user: root's part is only to tell the init system."""
    if os.geteuid() != 0:
        return
    from ops.host import privilege
    from ops.memory import folders

    with contextlib.suppress(OSError):
        owner = os.stat(host.root).st_uid
        theirs = folders.folder_of_owner(host.stack.name, host.root)
        if theirs and (os.environ.get("SUDO_UID") == str(owner) or os.path.isdir(theirs)):
            privilege.act_for(owner)


def send(inventory: Inventory, request: Request, done: Done, waiting: Waiting) -> tuple[list[Outcome], list[str]]:
    """Carries the request out; its outcomes, and the notes for people."""
    site = site_of(inventory, request, done, waiting)
    return perform(site, request), site.notes


def status(inventory: Inventory, request: Request) -> HostReport:
    """What runs on this machine, without asking anybody."""
    from ops.operations import look

    return look.status(_quiet(inventory, request), request.only)


def health(inventory: Inventory, request: Request) -> HostReport:
    """How the services of this machine are, with everything asked."""
    from ops.operations import health

    return health.health(_quiet(inventory, request), request.only)


def report(inventory: Inventory, request: Request) -> WindowReport:
    """How well the services of this machine did over the last `since` seconds."""
    from ops.operations import report

    return report.report(_quiet(inventory, request), request.only, request.options["since"])


def tail(
    inventory: Inventory, name: str, lines: int, follow: bool, stop: Callable[[], bool], complain: Waiting
) -> tuple[list[str], Iterator[tuple[str, str]]]:
    """The names of the logs that are read, and their lines as they come, harmless to print."""
    from ops.operations import logbook

    site = _quiet(inventory, Request("tail"))
    return list(logbook.paths(site, name)), logbook.tail(site, name, lines, follow, stop, complain)


def alerts(inventory: Inventory, lines: int) -> list[str]:
    """The last alerts of this machine, newest last."""
    from ops.operations import logbook

    return list(logbook.alerts(_quiet(inventory, Request("alerts")), lines))


def obstacles(inventory: Inventory) -> dict[str, OpsError]:
    """By service: why it could not be started on this machine (no such program, no such folder); the same of the
    `alert_command`. Changes nothing."""
    from ops.operations import environment

    host = here(inventory)
    state = State(host.stack, host.root)
    found = {}
    for service in host.services:
        try:
            environment.prepare(host, state, service)
        except OpsError as error:
            found[service.name] = error
    lacking = environment.missing_program(host, host.stack.alert_command)
    return {**found, "alert_command": lacking} if lacking else found


def watcher(inventory: Inventory) -> list[str]:
    """How the monitor of this machine is run. StateError when this is not the state of these services."""
    from ops.operations import watchers

    site = site_of(inventory, Request("monitor"), lambda outcome: None, lambda service, what: None)
    site.state.prepare()
    return watchers.argv("monitor", site.state.path, inventory.path)


def _quiet(inventory: Inventory, request: Request) -> Site:
    """The site of a command that only reads. StateError when this is not the state of these services."""
    site = site_of(inventory, request, lambda outcome: None, lambda service, what: None)
    site.state.check(reading=True)
    return site
