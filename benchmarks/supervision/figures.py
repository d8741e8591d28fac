"""Figures, the bars they are held to, and how both are shown.

Knows: numbers, tables, JSON. Must not know: how they were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_MEASURED = "measured"


@dataclass(frozen=True)
class Row:
    """One measured thing. `bar` says in words what is asked of it, `met` whether it was so; both only where something
    is asked. `note` is what a number does not say."""

    name: str
    unit: str
    count: int
    low: float | None
    median: float | None
    high: float | None
    bar: str = ""
    met: bool | None = None
    note: str = ""

    def cells(self) -> list[str]:
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        figures = [shown(self.low), shown(self.median), shown(self.high)]
        if self.count == 1:
            figures[0] = figures[2] = ""
        return [self.name, *figures, self.unit, str(self.count or ""), "  ".join(filter(None, (self.bar, verdict)))]


def row(name: str, unit: str, values: Sequence[float], scale: float = 1.0, **said: Any) -> Row:
    """The row of these values, each times `scale`."""
    scaled = [value * scale for value in values]
    if not scaled:
        return Row(name, unit, 0, None, None, None, **said)
    return Row(name, unit, len(scaled), min(scaled), statistics.median(scaled), max(scaled), **said)


def held(name: str, unit: str, value: float, most: float, *, strictly: bool = False, note: str = "") -> Row:
    """A single figure and the most it may be (or, `strictly`, must stay below)."""
    met = value < most if strictly else value <= most
    bar = f"{'<' if strictly else '<='} {shown(most)}"
    return Row(name, unit, 1, value, value, value, bar, met, note)


def at_least(name: str, unit: str, value: float, least: float, *, note: str = "") -> Row:
    """A single figure and the least that it may be."""
    return Row(name, unit, 1, value, value, value, f">= {shown(least)}", value >= least, note)


def wanted(name: str, what: str, met: bool, note: str = "") -> Row:
    """Something that has no number: it is so or it is not."""
    return Row(name, "", 0, None, None, None, what, met, note)


def broken_off(title: str, error: Exception) -> Row:
    """What stands in the place of a metric's rows when it could not be measured to its end."""
    return wanted(title, _MEASURED, False, f"broke off: {error}")


def is_broken_off(said: Row) -> bool:
    return said.bar == _MEASURED


def without_bars(rows: Iterable[Row]) -> list[Row]:
    """What was measured, without what it is held to: a quick round is no ground for a verdict, and what compares its
    figures says nothing. That something broke off is no bar."""
    return [row for row in rows if row.met is None or is_broken_off(row)]


def shown(value: float | None) -> str:
    """A figure as people read it; "" for none."""
    if value is None:
        return ""
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def show(title: str, rows: Iterable[Row]) -> str:
    """A table for people."""
    head = [title, "min", "median", "max", "", "n", "bar"]
    rows = list(rows)
    cells = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [_line(line, widths) for line in cells]
    notes = [f"  {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, *notes]) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = {0, 4, 6}  # the name, the unit and the bar; numbers stand to the right
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(width) if at in left else cell.rjust(width) for at, (cell, width) in pairs).rstrip()


def document(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [asdict(row) for row in rows]
