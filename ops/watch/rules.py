"""The numbers that decisions about one service are made by.

Knows: which of a service's keys the policy needs. Must not know: how they are used.
"""

from __future__ import annotations

from ops.frozen import frozen
from ops.model import Service


@frozen
class Rules:
    """The numbers of one service that decisions are made by. Seconds and bytes."""

    critical: bool = False
    attempts: int = 3
    delay: float = 10.0
    retry_max: float = 60.0
    confirm: int = 1
    calm: float = 300.0
    start_timeout: float = 60.0
    budget: float = 30.0
    max_rss: int | None = None
    follow_needs: bool = False  # restarted when something it needs was
    gating: frozenset[str] = frozenset()  # the names of the probes that gate its start
    asked: frozenset[str] = frozenset()  # those, and of the probes that are only watched


def rules_of(service: Service) -> Rules:
    """The rules as the inventory says them."""
    return Rules(
        service.critical,
        service.attempts,
        service.delay,
        service.retry_max,
        service.confirm,
        service.calm,
        service.start_timeout,
        service.recovery_budget,
        service.max_rss,
        service.on_need_restart == "restart",
        frozenset(probe.name for probe in service.gating()),
        frozenset(probe.name for probe in service.probes()),
    )
