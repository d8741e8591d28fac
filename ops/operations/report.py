"""report: how well each service did over a window: uptime, recovery, restarts, response times, use.

Knows: where the history lies, which window is asked for. Must not know: how the figures follow from it, how they are
shown.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from ops.frozen import frozen
from ops.memory import history, kpi
from ops.memory.history import Past
from ops.memory.kpi import Kpi
from ops.memory.watchpost import Watchpost
from ops.operations import watched
from ops.operations.site import Site

_UNTOLD = 20.0  # seconds; a living monitor says every 10 that it watches, and may be late


@frozen
class WindowReport:
    """The figures of the services of one host from `since` to `until` (ISO 8601), `seconds` apart. `budgets` are the
    recovery budgets that they were held to, in their order; `warnings` say what could not be read."""

    name: str
    stack: str
    since: str
    until: str
    seconds: float
    kpis: tuple[Kpi, ...]
    budgets: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def report(site: Site, only: Sequence[str], seconds: float) -> WindowReport:
    """The figures of the chosen services over the last so many seconds. OpsError when the history is unreadable."""
    until = time.time()
    since = until - seconds
    wanted = [(service.name, service.recovery_budget) for service in site.chosen(only)]
    past = _up_to_now(site, history.read(os.path.join(site.state.path, "history.db"), since, until), until)
    found = tuple(kpi.kpis(past, wanted, since, until))
    budgets = tuple(budget for _, budget in wanted)
    warnings = (past.lacking,) if past.lacking else ()
    names = (site.host.name, site.host.stack.name)
    return WindowReport(*names, _iso(since), _iso(until), seconds, found, budgets, warnings)


def _up_to_now(site: Site, past: Past, now: float) -> Past:
    """With the time in which a living monitor has watched, and not said so yet."""
    if not past.watched or watched.report(site).state != "up":
        return past
    beaten = min((Watchpost(site.state.path).beaten() or 0) / 1e9, now)
    began, ended = past.watched[-1]
    if not ended < beaten <= ended + _UNTOLD:
        return past
    return replace(past, watched=(*past.watched[:-1], (began, beaten)))


def _iso(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment).astimezone().isoformat(timespec="milliseconds")
