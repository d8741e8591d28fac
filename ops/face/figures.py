"""Showing the figures of a window: was it good enough, a table that fits the terminal, JSON for scripts.

Knows: words, columns, the document of the promise. Must not know: how figures came about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from ops import render
from ops.face.colour import coloured
from ops.memory.kpi import PROMISED_UPTIME
from ops.model import SCHEMA

if TYPE_CHECKING:
    from ops.memory.kpi import Kpi
    from ops.operations.report import WindowReport

Column = tuple[str, Callable[["Kpi"], str]]
Found = Mapping[str, "WindowReport | str"]  # by host: its figures, or why nothing is known of it


def document(found: Found) -> str:
    """The one JSON document of `report`."""
    reports = [one for one in found.values() if not isinstance(one, str)]
    return json.dumps(
        {
            "schema": SCHEMA,
            "task": "report",
            "since": min((report.since for report in reports), default=None),
            "until": max((report.until for report in reports), default=None),
            "hosts": {name: _host_value(one) for name, one in found.items()},
        }
    )


def _host_value(found: WindowReport | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"services": [], "error": found}
    return {"services": [_value(kpi) for kpi in found.kpis]}


_KEYS = (
    *("name", "uptime_percent", "watched_seconds", "unknown_seconds", "outages", "recovery_median", "recovery_worst"),
    *("restarts", "response_p50", "response_p95", "response_p99", "cpu_percent", "rss"),
)


def _value(kpi: Kpi) -> dict[str, Any]:
    value = {key: getattr(kpi, key) for key in _KEYS}
    value = {key: round(one, 6) if key.endswith("seconds") else one for key, one in value.items()}
    return {**value, "met": {"uptime": kpi.met_uptime, "recovery": kpi.met_recovery}}


# -- for people ------------------------------------------------------------------------------------------------


def lines(found: Found) -> list[str]:
    """Of each host, one below the other; of several first where the targets were met, and each with its name."""
    shown = [_whole(found)] if len(found) > 1 else []
    for name, one in found.items():
        shown += [""] if shown else []
        shown += [f"{name}:"] if len(found) > 1 and not isinstance(one, str) else []
        shown += [coloured(f"{name}: {one}", "red")] if isinstance(one, str) else lines_of(one)
    return shown


def _whole(found: Found) -> str:
    """Of several hosts: which of them missed a target, and of which nothing is known."""
    known = {name: one for name, one in found.items() if not isinstance(one, str)}
    pairs = {name: zip(one.kpis, one.budgets, strict=True) for name, one in known.items()}
    missed = [name for name, each in pairs.items() if any(_misses(kpi, budget) for kpi, budget in each)]
    told = f"NOT met on {', '.join(missed)}" if missed else f"met on {len(known)}, as far as watched"
    silent = [name for name in found if name not in known]
    told += f"; no answer from {', '.join(silent)}" if silent else ""
    return coloured(f"{len(found)} hosts: targets {told}", "red" if missed or silent else "green")


def lines_of(report: WindowReport) -> list[str]:
    """Whether the targets were met, over which window, and the table; where nothing was watched, what to type."""
    shown = [headline(report), *_window(report), ""]
    if any(kpi.watched_seconds for kpi in report.kpis):
        return [*shown, *_tables(report.kpis)]
    return [*shown, "next:   inv monitor-start"] if _partly_unknown(report) else shown[:-1]


def headline(report: WindowReport) -> str:
    """The first thing to read: were 99.9 % and the recovery budgets met, and if not, by whom."""
    budgets = set(report.budgets)
    wanted = f"{PROMISED_UPTIME:g} % and {f'{budgets.pop():g} s' if len(budgets) == 1 else 'the recovery budgets'}"
    pairs = zip(report.kpis, report.budgets, strict=True)
    missed = [f"{kpi.name} {' and '.join(found)}" for kpi, budget in pairs if (found := _misses(kpi, budget))]
    open_ones = [kpi.name for kpi in report.kpis if kpi.met_uptime is None]
    if missed:
        colour, told = "red", f"{wanted} NOT met: {', '.join(missed)}"
        told += f" (in the {long(_watched(report))} watched)" if _partly_unknown(report) else ""
    elif len(open_ones) == len(report.kpis):
        why = "nothing was watched" if _partly_unknown(report) else "stopped by command all the time"
        colour, told = "yellow", f"{wanted}: not known, {why}"
    elif open_ones:
        colour, told = "yellow", f"{wanted} met, but not known of {', '.join(open_ones)}"
    else:
        count = len(report.kpis)
        colour, told = "green", f"{wanted} met by {report.kpis[0].name if count == 1 else f'all {count} services'}"
        told += ", as far as watched" if _partly_unknown(report) else ""
    return coloured(f"{report.stack}: {told}", colour)


def _misses(kpi: Kpi, budget: float) -> list[str]:
    """An outage that has not ended, or whose end nobody saw, has no recovery time, and may be the one that missed."""
    found = [f"{percent(kpi.uptime_percent)} %"] if kpi.met_uptime is False else []
    if kpi.met_recovery is False:
        worst = kpi.recovery_worst or 0.0
        found.append(short(worst) if worst > budget else f"{_ill(kpi)} over {budget:g} s")
    return found


def _ill(kpi: Kpi) -> str:
    """What people call the state of its outage."""
    return kpi.ongoing_state if kpi.ongoing_state in ("unhealthy", "hung") else "down"


def _window(report: WindowReport) -> list[str]:
    since, until = (datetime.fromisoformat(text) for text in (report.since, report.until))
    shown = f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} ({until:%z}), {span(report.seconds)}"
    unknown = _unknown_to_all(report)
    if unknown > report.seconds - 1:
        return [f"{shown}; not watched at all"]
    return [shown, f"{long(unknown)} of it unknown: not watched"] if unknown else [shown]


def _partly_unknown(report: WindowReport) -> bool:
    return any(kpi.unknown_seconds >= 1 for kpi in report.kpis)


def _watched(report: WindowReport) -> float:
    """Seconds of the window that were watched, of the service that was for longest."""
    return max((kpi.watched_seconds for kpi in report.kpis), default=0.0)


def _unknown_to_all(report: WindowReport) -> float:
    """Seconds of the window that are not known of any service; less than one is none."""
    least = min((kpi.unknown_seconds for kpi in report.kpis), default=0.0)
    return least if least >= 1 else 0.0


def _tables(kpis: Sequence[Kpi]) -> list[str]:
    """One table, or two below each other, with the reasons of restarts in them or below: the first that fits."""
    room = render.columns()
    found: list[str] = []
    for divided, reasons in ((False, True), (True, True), (False, False), (True, False)):
        found, width = _layout(kpis, divided=divided, reasons=reasons)
        if width <= room:
            break
    return found


def _layout(kpis: Sequence[Kpi], *, divided: bool, reasons: bool) -> tuple[list[str], int]:
    restarts = _restarts_and_why if reasons else _restarts
    unknown: list[Column] = [("unknown", _unknown)] if _differ(kpi.unknown_seconds for kpi in kpis) else []
    kept: list[Column] = [("uptime %", _uptime), *unknown, ("outages", _outages)]
    kept += [("recovery, worst", _recovery), ("restarts", restarts)]
    use: list[Column] = [("p50, p95, p99 ms", _response), ("cpu %", _cpu), ("memory", _memory), ("met", _met)]
    groups = [kept, use] if divided else [kept + use]
    tables = [_table(kpis, group) for group in groups]
    told = [line for table in tables for line in (*table, "")][:-1]
    why = [] if reasons else [f"{kpi.name}: restarts {_restarts_and_why(kpi)}" for kpi in kpis if kpi.restarts]
    return told + (["", *why] if why else []), max(len(table[1]) for table in tables)


def _differ(seconds: Iterable[float]) -> bool:
    """What is the same for all stands above the table."""
    known = sorted(seconds)
    return known[-1] - known[0] >= 1


def _table(kpis: Sequence[Kpi], group: Sequence[Column]) -> list[str]:
    rows = [[kpi.name, *(cell(kpi) for _, cell in group)] for kpi in kpis]
    return render.table(["service", *(head for head, _ in group)], rows)


def _uptime(kpi: Kpi) -> str:
    if kpi.uptime_percent is None:
        return "unknown" if kpi.unknown_seconds else "stopped"
    return percent(kpi.uptime_percent)


def _unknown(kpi: Kpi) -> str:
    return f"+ {long(kpi.unknown_seconds)}" if kpi.unknown_seconds >= 1 else ""


def _outages(kpi: Kpi) -> str:
    return str(kpi.outages) if kpi.watched_seconds else ""


def _recovery(kpi: Kpi) -> str:
    found = [f"{short(kpi.recovery_median)}"] if kpi.recovery_median is not None else []
    found += [f"{short(kpi.recovery_worst)}"] if kpi.recovery_worst is not None else []
    found += [f"{_ill(kpi)} for {short(kpi.ongoing)}"] if kpi.ongoing is not None else []
    return ", ".join(found)


def _restarts(kpi: Kpi) -> str:
    return str(kpi.restarts) if kpi.watched_seconds or kpi.restarts else ""


def _restarts_and_why(kpi: Kpi) -> str:
    why = ", ".join(f"{why} {count}" for why, count in kpi.reasons.items())
    return f"{kpi.restarts} ({why})" if why else _restarts(kpi)


def _response(kpi: Kpi) -> str:
    found = (kpi.response_p50, kpi.response_p95, kpi.response_p99)
    return ", ".join(_milliseconds(one) for one in found if one is not None)


def _cpu(kpi: Kpi) -> str:
    return "" if kpi.cpu_percent is None else f"{kpi.cpu_percent:.1f}"


def _memory(kpi: Kpi) -> str:
    return render.size(kpi.rss) or ""


def _met(kpi: Kpi) -> str:
    missed = [word for word, met in (("uptime", kpi.met_uptime), ("recovery", kpi.met_recovery)) if met is False]
    if missed:
        return coloured(f"no: {', '.join(missed)}", "red")
    return "" if kpi.met_uptime is None else coloured("yes", "green")


# -- small words -----------------------------------------------------------------------------------------------


def percent(value: float | None) -> str:
    """`99.999`: cut off, not rounded, so that no outage is ever shown as 100."""
    return "unknown" if value is None else str(Decimal(repr(value)).quantize(Decimal("0.001"), ROUND_DOWN))


def short(seconds: float | None) -> str:
    """`40 ms`, `1.2 s`, `41.3 s`, and from two minutes on as durations are: `12 min`. Rounded up, so that what took
    longer than its budget never looks as if it had not."""
    if seconds is None:
        return "unknown"
    if seconds <= 0.999:
        return f"{math.ceil(seconds * 1000 - 1e-3)} ms"
    return f"{math.ceil(seconds * 10 - 1e-3) / 10:.1f} s" if seconds < 120 else long(seconds)


def long(seconds: float) -> str:
    """`12 min`, `3 h 20 min`, `1 d`."""
    return str(render.duration(seconds)).removesuffix(" 0 min").removesuffix(" 0 h")


def span(seconds: float) -> str:
    """A window in the unit that it was asked for in: `90 s`, `15 min`, `24 h`, `7 d`."""
    for unit, word, least in ((86400, "d", 2), (3600, "h", 1), (60, "min", 1)):
        if seconds >= least * unit and seconds % unit == 0:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds:g} s"


def _milliseconds(seconds: float) -> str:
    amount = seconds * 1000
    return f"{amount:.1f}" if amount < 10 else f"{amount:.0f}"
