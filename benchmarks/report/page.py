"""The page: what is measured beside whom, which bars were missed and why, and every table.

Knows: which rows belong beside each other, Markdown. Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.report import kept
from benchmarks.report.kept import Kept, Metric
from benchmarks.report.lines import FANS, LINES, PANELS, PEERS, TOOL, US, Seen, metrics
from benchmarks.report.picture import Bar, Panel
from benchmarks.supervision.figures import shown

_HEAD = """\
# Benchmarks

Written by `./inv dev.benchmarks` from the runs in `benchmarks/results/`; how they are made is in
[benchmarks/README.md](../benchmarks/README.md), and how each figure is taken at the top of its module. Figures compare
within one run, not with those of another day or machine. Peers run on their defaults but for what their module says.
The service of all supervisors is a C program that answers about a millisecond after it is started, so that what is
measured is the supervisor: what a service of your own needs to start comes on top.
"""


def written(runs: Sequence[Kept], reasons: dict[str, str]) -> str:
    """The page."""
    parts = [
        _HEAD,
        _machines(runs),
        _busy(runs),
        _lacking(runs),
        "![The same figures as bars](benchmarks.svg)\n",
        _missed(runs, reasons),
    ]
    parts += [_beside(runs), _fanned(runs), *(_whole(metric) for metric in metrics(runs))]
    return "\n".join(part for part in parts if part)


def _machines(runs: Sequence[Kept]) -> str:
    lines = []
    for run in runs:
        told = run.machine
        place = f"{told['cpus']} CPUs ({told['cpu']}), {told['memory_mb'] / 1000:.0f} GB, {told['system']}"
        quick = " **Quick: it shows that the harness is sound, its figures are not to be quoted.**" if run.quick else ""
        versions = ", ".join(_version(name, version) for name, version in run.versions.items())
        date = told["date"] + _of_commit(told.get("commit", ""))
        lines.append(
            f"- {date}: `{run.command}` on {place}, Python {told['python']}, load {run.load:g} when it"
            f" began.{f' With {versions}.' if versions else ''}{quick}"
        )
    return "\n".join(lines) + "\n"


def _of_commit(commit: str) -> str:
    """Older results do not say it."""
    return f", commit {commit}" if commit else ""


def _busy(runs: Sequence[Kept]) -> str:
    """What a reader must not overlook."""
    return "\n".join(
        f"> **Not a quiet machine**: when `{run.command}` began, the load was {run.load:g} on {run.cpus} CPUs, more"
        " than a quarter of them. Its figures are worse than they would be, and not by as much for each.\n"
        for run in runs
        if run.busy
    )


def _lacking(runs: Sequence[Kept]) -> str:
    """What is in none of the runs."""
    lacking = sorted(kept.KNOWN - {metric.key for metric in metrics(runs)})
    return f"> **Not measured** in these runs: {', '.join(lacking)}.\n" if runs and lacking else ""


def _version(name: str, version: str) -> str:
    """Some tools say their name with it."""
    return version if version.lower().startswith(name[:4].lower()) else f"{name} {version}"


# -- bars ------------------------------------------------------------------------------------------------------------


def _missed(runs: Sequence[Kept], reasons: dict[str, str]) -> str:
    lines = [f"## Bars\n\n{kept.met(runs)}", ""]
    for metric, row in kept.missed(runs):
        figure = " ".join(filter(None, (shown(row.median), row.unit)))
        seen = ", ".join(filter(None, (figure, row.note)))
        why = reasons.get(f"{metric.key}: {row.name}", "not found out yet")
        lines.append(f"- **Missed**: {metric.title}: {row.name}: {seen or 'no'}, asked {row.bar}. Why: {why}.")
    return "\n".join(lines) + "\n"


# -- beside the peers ------------------------------------------------------------------------------------------------


def _beside(runs: Sequence[Kept]) -> str:
    lines = [(line, found) for line in LINES if (found := line.found(runs))]
    if not lines:
        return ""
    who = [name for name in PEERS if any(name in found for _, found in lines)]
    head = "## Beside the peers\n\nMedians but where it says worst; `never` within the time that its module gives.\n"
    table = [["", *who, "ahead of ours"], ["---"] + ["---:"] * len(who) + ["---"]]
    for line, found in lines:
        table.append([line.label, *(_cell(found, name) for name in who), "; ".join(line.ahead(found))])
    return "\n".join([head, *map(pipes, table)]) + "\n"


def _fanned(runs: Sequence[Kept]) -> str:
    """A table of tools by numbers of hosts."""
    lines = [(line, found) for line in FANS if (found := line.found(runs))]
    if not lines:
        return ""
    who = list(dict.fromkeys(name for _, found in reversed(lines) for name in found))
    head = "## Many hosts, beside other tools\n\nMedians; what is empty was not measured with so many.\n"
    table = [["five health checks on each of", *(line.label for line, _ in lines)], ["---"] + ["---:"] * len(lines)]
    table += [[name, *(_cell(found, name) for _, found in lines)] for name in who]
    table.append(["ahead of ours", *("; ".join(line.ahead(found, TOOL)) for line, found in lines)])
    return "\n".join([head, *map(pipes, table)]) + "\n"


def _cell(found: dict[str, Seen], name: str) -> str:
    return found[name].text if name in found else ""


def pipes(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def panels(runs: Sequence[Kept]) -> Iterator[Panel]:
    """What is drawn."""
    for title, below, line in PANELS:
        found = line.found(runs)
        if found:
            bars = [Bar(name, found[name].value, found[name].text, name in (US, TOOL)) for name in line.sorted(found)]
            yield Panel(title, f"{below}; less is better; logarithmic", bars)


# -- every table -----------------------------------------------------------------------------------------------------


def _whole(metric: Metric) -> str:
    head = [f"## {metric.title[0].upper()}{metric.title[1:]}", ""]
    table = [["", "min", "median", "max", "", "n", "bar", ""], ["---"] + ["---:"] * 3 + ["---", "---:", "---", "---"]]
    table += [[*row.cells(), row.note.replace("\n", " ")] for row in metric.rows]
    return "\n".join([*head, *map(pipes, table)]) + "\n"
