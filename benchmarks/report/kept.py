"""The figures of the runs, as they were kept.

Knows: the files in benchmarks/results/. Must not know: how they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import commands, machine
from benchmarks.fleet import run as fleet
from benchmarks.supervision import metrics as supervision
from benchmarks.supervision.figures import Row, is_broken_off

REASONS = "reasons.yaml"
COMMANDS = "commands"
KNOWN = {COMMANDS, *fleet.TITLES, *supervision.ALL}  # every metric there is


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

    @property
    def cpus(self) -> int:
        return int(self.machine["cpus"])

    @property
    def load(self) -> float:
        """When it began."""
        return float(self.machine["load"][0])

    @property
    def busy(self) -> bool:
        """Whether others had more of the machine than leaves figures alone."""
        return self.load > machine.quiet(self.cpus)


def read(folder: Path) -> list[Kept]:
    """Every run that is kept there, in the order of the files' names. A metric that several runs have is taken from the
    last of them in which it did not break off."""
    runs = [_run(path) for path in sorted(folder.glob("*.json"))]
    best: dict[str, Metric] = {}
    for run in sorted(runs, key=lambda run: str(run.machine["date"])):
        best |= {one.key: one for one in run.metrics if one.key not in best or not _broke_off(one)}
    told = [replace(run, metrics=[one for one in run.metrics if one is best[one.key]]) for run in runs]
    return [run for run in told if run.metrics]


def _broke_off(metric: Metric) -> bool:
    return any(map(is_broken_off, metric.rows))


def reasons(folder: Path) -> dict[str, str]:
    """Why a bar was missed, by "metric: row": written by hand, since no measurement knows."""
    file = folder / REASONS
    return dict(yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


def misfits(runs: Sequence[Kept], said: Iterable[str]) -> list[str]:
    """Reasons that no bar can have, such as those of a row that has another name by now. One whose bar was met this
    time may stay, and so may one whose metric is not kept, or broke off: nobody can say."""
    there = {metric.key: metric.rows for run in runs if not run.quick for metric in run.metrics}
    bars = {key: {row.name for row in rows if row.met is not None} for key, rows in there.items()}
    open_ones = {key for key, rows in there.items() if any(map(is_broken_off, rows))} | KNOWN - there.keys()
    pairs = ((one, *one.split(": ", 1)) for one in said)
    return [one for one, key, *name in pairs if key not in open_ones and not set(name) & bars.get(key, set())]


def missed(runs: Sequence[Kept]) -> Iterator[tuple[Metric, Row]]:
    for run in runs:
        for metric in run.metrics:
            yield from ((metric, row) for row in metric.rows if row.met is False)


def met(runs: Sequence[Kept]) -> str:
    """How many bars were, in words."""
    held = [row for run in runs for metric in run.metrics for row in metric.rows if row.met is not None]
    return f"{len(held) - len(list(missed(runs)))} of {len(held)} bars were met."


def _run(path: Path) -> Kept:
    said = json.loads(path.read_text())
    if "rows" in said:
        metrics = [Metric(COMMANDS, "the commands", [_of_command(row) for row in said["rows"]])]
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
