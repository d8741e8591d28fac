"""hold and release: the monitor goes on watching a service but leaves it alone, and takes it back.

Knows: what is wanted. Must not know: processes.
"""

from __future__ import annotations

from dataclasses import replace

from ops.errors import StateError
from ops.memory.wishes import Wish
from ops.model import Outcome, Service
from ops.operations.converge import Convergence, Plan, converge
from ops.operations.site import Site


def hold(site: Site, service: Service) -> list[Outcome]:
    """Wanted `held` until `release`."""
    return [_set(site, service, "hold", held=True)]


def release(site: Site, service: Service) -> list[Outcome]:
    """Wanted up or down again, as it was before `hold`."""
    return [_set(site, service, "release", held=False)]


def _set(site: Site, service: Service, action: str, *, held: bool) -> Outcome:
    def carry_out(_seen: Wish, plan: Plan) -> Outcome:
        if not plan.idle:
            site.state.want([service.name], site.by, lambda wish: replace(wish, held=held))
        if site.state.wish(service.name).held != held:
            raise StateError(
                f"{action}: what is wanted could not be recorded in {site.state.path}",
                wanted=f"{service.name} {plan.after}",
                next=f"free some space (df -h {site.state.path}), then: inv {action} {service.name}",
            )
        return plan.outcome(service.name, action)

    return converge(
        site,
        Convergence(
            service.name,
            action,
            lambda: site.state.wish(service.name),
            lambda seen: plan_hold(seen, held=held),
            carry_out,
        ),
    )


def plan_hold(seen: Wish, *, held: bool) -> Plan:
    """Whether anything has to be written."""
    after = replace(seen, held=held).wanted
    if seen.held == held:
        return Plan("nothing", seen.wanted, after, "already held" if held else "not held")
    why = "the monitor leaves it alone until it is released" if held else f"wanted {after} again"
    return Plan("write", seen.wanted, after, why)
