"""The page: what is measured beside whom, which bars were missed and why, and every table.

Knows: which rows belong beside each other, Markdown. Must not know: how anything was measured.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.report import kept, picture
from benchmarks.report.kept import Kept, Metric
from benchmarks.report.picture import Bar, Panel
from benchmarks.supervision.figures import Row, shown

DOCS = Path(__file__).parents[2] / "docs"
_PEERS = ("ours", "runit", "s6", "supervisord", "circus", "pm2", "monit")
_HEAD = """\
# Benchmarks

Written by `python -m benchmarks report` from the runs in `benchmarks/results/`; how they are made is in
[benchmarks/README.md](../benchmarks/README.md), and how each figure is taken at the top of its module. Figures compare
within one run, not with those of another day or machine. Peers run on their defaults but for what their module says.
"""


@dataclass(frozen=True)
class Line:
    """A line of the comparison: less is better, unless `most`. `rows` matches a row's name, with its owner as `who`."""

    label: str
    metric: str
    rows: str
    worst: bool = False
    most: bool = False

    def found(self, runs: Sequence[Kept]) -> dict[str, Row]:
        """By owner."""
        matched = ((re.fullmatch(self.rows, row.name), row) for metric in _all(runs) for row in self._of(metric))
        return {match["who"]: row for match, row in matched if match}

    def _of(self, metric: Metric) -> Sequence[Row]:
        return metric.rows if metric.key == self.metric else ()

    def value(self, row: Row) -> float | None:
        return row.high if self.worst else row.median


_WHO = rf"(?P<who>{'|'.join(_PEERS)})"
LINES = (
    Line("SIGKILL to the next answer, ms", "crash", _WHO),
    Line("the worst of them, ms", "crash", _WHO, worst=True),
    Line("SIGSTOP to serving again, worst, s", "hung", _WHO, worst=True),
    Line("resident memory, 5 services, MB", "memory", rf"{_WHO}, 5 services, \d+ process(es)?: resident"),
    Line("resident memory, 100 services, MB", "memory", rf"{_WHO}, 100 services, \d+ process(es)?: resident"),
    Line("resident memory, 1000 services, MB", "memory", rf"{_WHO}, 1000 services, \d+ process(es)?: resident"),
    Line("CPU at idle, 5 services, %", "cpu", rf"{_WHO}, 5 services"),
    Line("CPU at idle, 100 services, %", "cpu", rf"{_WHO}, 100 services"),
    Line("the same, 1000 services, one at a time, %", "memory", rf"{_WHO}, 1000 services alone: CPU at idle"),
    Line("processes left in the group by a stop, of 4", "tree", rf"{_WHO}: left in its group, of 4"),
    Line("left in a session of its own, of 1", "tree", rf"{_WHO}: left in a session of its own, of 1"),
    Line("starts again though children held the port", "tree", rf"{_WHO}: starts again, of 1", most=True),
    Line("deaf to TERM: gone after, s", "tree", rf"{_WHO}: deaf to TERM, gone after"),
    Line("requests lost over a planned restart", "planned", rf"(?P<who>{'|'.join(_PEERS)}|pm2, .*): lost"),
    Line("supervisor killed: services that live on, of 3", "death", rf"{_WHO}: services that live on, of 3", most=True),
    Line("second copies after the next start", "death", rf"{_WHO}: second copies"),
    Line("a later death: back after, s", "death", rf"{_WHO}: one of them killed later, back after"),
    Line("lines lost by rotation", "rotation", _WHO),
)
_TOOL = "inv health"
_TOOLS = rf"(?P<who>(?:{_TOOL}|ssh|pyinfra|ansible)(?:(?! against ).)*)"
FANS = tuple(
    Line(f"{hosts}, s", "fan-out", f"{_TOOLS}, {hosts}") for hosts in ("1 host", "3 hosts", "10 hosts", "50 hosts")
)
PANELS = (
    ("A service is killed: until it answers again", "median, ms", LINES[0]),
    ("Memory of the supervisor, 5 services", "resident, all processes, MB", LINES[3]),
    ("Requests lost over a planned restart", "of 200 a second, median", LINES[12]),
    ("Five health checks on each of ten hosts", "median, s", FANS[2]),
)


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks report WORDS`."""
    reading = argparse.ArgumentParser(prog="python -m benchmarks report", description="Writes docs/benchmarks.md.")
    reading.add_argument(
        "--results", type=Path, default=machine.RESULTS, metavar="FOLDER", help="the runs (%(default)s)"
    )
    reading.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="where it goes (%(default)s)")
    given = reading.parse_args(words)
    runs = kept.read(given.results)
    if not runs:
        print(f"{given.results}: no runs; make some with --json {given.results}/NAME.json", file=sys.stderr)
        return 1
    given.docs.mkdir(parents=True, exist_ok=True)
    (given.docs / "benchmarks.svg").write_text(picture.draw(list(_panels(runs))))
    (given.docs / "benchmarks.md").write_text(written(runs, kept.reasons(given.results)))
    print(f"{given.docs / 'benchmarks.md'}, {given.docs / 'benchmarks.svg'}")
    return 0


def written(runs: Sequence[Kept], reasons: dict[str, str]) -> str:
    """The page."""
    parts = [_HEAD, _machines(runs), "![The same figures as bars](benchmarks.svg)\n", _missed(runs, reasons)]
    parts += [_beside(runs), _fanned(runs), *(_whole(metric) for metric in _all(runs))]
    return "\n".join(part for part in parts if part)


def _all(runs: Sequence[Kept]) -> Iterator[Metric]:
    for run in runs:
        yield from run.metrics


def _machines(runs: Sequence[Kept]) -> str:
    lines = []
    for run in runs:
        told = run.machine
        place = f"{told['cpus']} CPUs ({told['cpu']}), {told['memory_mb'] / 1000:.0f} GB, {told['system']}"
        quick = " **Quick: it shows that the harness is sound, its figures are not to be quoted.**" if run.quick else ""
        versions = ", ".join(_version(name, version) for name, version in run.versions.items())
        lines.append(
            f"- {told['date']}: `{run.command}` on {place}, Python {told['python']}, load {told['load'][0]:g} when it"
            f" began.{f' With {versions}.' if versions else ''}{quick}"
        )
    return "\n".join(lines) + "\n"


def _version(name: str, version: str) -> str:
    """Some tools say their name with it."""
    return version if version.lower().startswith(name[:4].lower()) else f"{name} {version}"


# -- bars ------------------------------------------------------------------------------------------------------------


def _missed(runs: Sequence[Kept], reasons: dict[str, str]) -> str:
    held = [row for metric in _all(runs) for row in metric.rows if row.met is not None]
    found = list(kept.missed(runs))
    lines = [f"## Bars\n\n{len(held) - len(found)} of {len(held)} bars were met.", ""]
    for metric, row in found:
        figure = " ".join(filter(None, (shown(row.median), row.unit)))
        seen = ", ".join(filter(None, (figure, row.note)))
        why = reasons.get(row.name, "not found out yet")
        lines.append(f"- **Missed**: {metric.title}: {row.name}: {seen or 'no'}, asked {row.bar}. Why: {why}.")
    return "\n".join(lines) + "\n"


# -- beside the peers ------------------------------------------------------------------------------------------------


def _beside(runs: Sequence[Kept]) -> str:
    lines = [(line, line.found(runs)) for line in LINES]
    lines = [(line, found) for line, found in lines if found]
    if not lines:
        return ""
    who = [name for name in _PEERS if any(name in found for _, found in lines)]
    head = "## Beside the peers\n\nMedians but where it says worst; `never` within the time that its module gives.\n"
    table = [["", *who, "ahead of ours"], ["---"] + ["---:"] * len(who) + ["---"]]
    for line, found in lines:
        table.append([line.label, *(_cell(line, found.get(name)) for name in who), "; ".join(_ahead(line, found))])
    return "\n".join([head, *map(_pipes, table)]) + "\n"


def _fanned(runs: Sequence[Kept]) -> str:
    """A table of tools by numbers of hosts."""
    lines = [(line, found) for line in FANS if (found := line.found(runs))]
    if not lines:
        return ""
    who = list(dict.fromkeys(name for _, found in reversed(lines) for name in found))
    table = [["five health checks on each of", *(line.label for line, _ in lines)], ["---"] + ["---:"] * len(lines)]
    table += [[name, *(_cell(line, found.get(name)) for line, found in lines)] for name in who]
    table.append(["ahead of ours", *("; ".join(_ahead(line, found, _TOOL)) for line, found in lines)])
    return "\n".join(map(_pipes, table)) + "\n"


def _cell(line: Line, row: Row | None) -> str:
    if row is None:
        return ""
    return "never" if row.count == 0 else shown(line.value(row))


def _ahead(line: Line, found: dict[str, Row], us: str = "ours") -> list[str]:
    """Who is better than us; nothing at all ("never") is worst."""
    worst = float("-inf") if line.most else float("inf")
    values = {name: worst if (seen := line.value(row)) is None else seen for name, row in found.items()}
    mine = values.get(us, worst)
    return [name for name, value in values.items() if (value > mine if line.most else value < mine)]


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _panels(runs: Sequence[Kept]) -> Iterator[Panel]:
    for title, below, line in PANELS:
        found = line.found(runs)
        if found:
            bars = [_drawn(name, line.value(row)) for name, row in found.items()]
            bars.sort(key=lambda bar: (bar.value is None, bar.value))
            yield Panel(title, f"{below}; less is better, lengths are logarithmic", bars)


def _drawn(name: str, value: float | None) -> Bar:
    return Bar(name, value, "never" if value is None else shown(value), name in ("ours", _TOOL))


# -- every table -----------------------------------------------------------------------------------------------------


def _whole(metric: Metric) -> str:
    head = [f"## {metric.title[0].upper()}{metric.title[1:]}", ""]
    table = [["", "min", "median", "max", "", "n", "bar", ""], ["---"] + ["---:"] * 3 + ["---", "---:", "---", "---"]]
    table += [[*row.cells(), row.note.replace("\n", " ")] for row in metric.rows]
    return "\n".join([*head, *map(_pipes, table)]) + "\n"
