"""Going down with the machine: services are ended gracefully, and what is wanted stays as it is.

Knows: who tells that the machine goes down, the order of ending. Must not know: the monitor, whose last deed it is.

A user's systemd ends with KILL what a unit has left behind, and the machine's own soon after: whoever writes to a
database or a ledger should hear TERM first, and have its grace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ops.errors import OpsError
from ops.model import Outcome
from ops.operations import keepers, tree
from ops.operations.converge import failure, in_order
from ops.operations.order import dependents
from ops.operations.site import Site


def is_due(site: Site) -> bool:
    """Whether the machine (or all of this user's, where a unit of theirs keeps the monitor) is going down."""
    keeper = keepers.installed(site.host)
    return keeper is not None and keeper.stopping()


def lay_down(site: Site, told: Callable[[], None]) -> None:
    """Ends every service, dependents first. `told` is called with each that has ended: there is more to come."""
    services = {service.name: service for service in site.host.services}
    quiet = replace(site, done=lambda outcome: None)

    def work(name: str, _settled: Mapping[str, Outcome]) -> Outcome:
        try:
            with site.state.changing(name, site.lock_time(services[name]), site.by):
                tree.end(quiet, services[name])
        except OpsError as error:
            return failure(name, "shutdown", error)
        finally:
            told()
        return Outcome(name, "shutdown", "changed", "up", "down")

    in_order(quiet, list(services), dependents(site.host.services), work)
