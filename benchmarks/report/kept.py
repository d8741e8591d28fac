"""The figures of the runs, as they were kept.

Knows: the files in benchmarks/results/. Must not know: how they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import commands
from benchmarks.supervision.figures import Row

REASONS = "reasons.yaml"


@dataclass(frozen=True)
class Metric:
    """One measurement: its key, its title, and what came of it."""

    key: str
    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Kept:
    """One run."""

    name: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]
    quick: bool
    metrics: Sequence[Metric]


def read(folder: Path) -> list[Kept]:
    """Every run that is kept there, in the order of the files' names."""
    return [_run(path) for path in sorted(folder.glob("*.json"))]


def reasons(folder: Path) -> dict[str, str]:
    """Why a bar was missed, by the name of its row: written by hand, since no measurement knows."""
    file = folder / REASONS
    return dict(yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


def missed(runs: Sequence[Kept]) -> Iterator[tuple[Metric, Row]]:
    for run in runs:
        for metric in run.metrics:
            yield from ((metric, row) for row in metric.rows if row.met is False)


def _run(path: Path) -> Kept:
    said = json.loads(path.read_text())
    if "rows" in said:
        metrics = [Metric("commands", "the commands", [_of_command(row) for row in said["rows"]])]
    else:
        metrics = [
            Metric(key, one["title"], [Row(**row) for row in one["rows"]]) for key, one in said["metrics"].items()
        ]
    versions = {name: version for name, version in said.get("versions", {}).items() if version}
    return Kept(path.stem, said["command"], said["machine"], versions, said["quick"], metrics)


def _of_command(said: dict[str, Any]) -> Row:
    """A command's row in the words of the others: in milliseconds, with its ratio as a note."""
    row = commands.Row(**{key: value for key, value in said.items() if key != "met"})
    low, median, high = (1000 * seconds for seconds in (row.low, row.median, row.high))
    note = f"{row.ratio:.2f} times {row.against}" if row.ratio is not None else ""
    bar = "" if row.bar is None else f"<= {row.bar:g} {'times' if row.ratio is not None else 's'}"
    return Row(row.name, "ms", 0, low, median, high, bar, row.met, note)
