"""The figures that people see first, between two marks of README.md.

Knows: which rows those are, the marks, Markdown. Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from benchmarks import commands
from benchmarks.report import lines
from benchmarks.report.kept import COMMANDS, Kept, met
from benchmarks.report.lines import TOOL, US, Line, metrics
from benchmarks.report.page import pipes
from benchmarks.supervision.figures import shown
from benchmarks.supervision.metrics import takeover

BEGIN = "<!-- written by ./inv dev.benchmarks: from here -->"
END = "<!-- written by ./inv dev.benchmarks: to here -->"
Cells = list[str]
Maker = Callable[[Sequence[Kept]], Cells | None]


def is_marked(text: str) -> bool:
    return text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)


def replaced(text: str, runs: Sequence[Kept]) -> str:
    """The same text with these figures between the marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{written(runs)}\n{END}{rest.partition(END)[2]}"


def written(runs: Sequence[Kept]) -> str:
    """A row for what is kept, none for what is not. A quick run says nothing about speed."""
    runs = [run for run in runs if not run.quick]
    rows = [cells for make in ROWS if (cells := make(runs))]
    if not rows:
        return "No figures are kept: `./inv dev.benchmarks` takes them.\n"
    table = [["", "here", "beside it, **ahead of us** in bold"], ["---", "---", "---"], *rows]
    return "\n".join([*_where(runs), "", *map(pipes, table)]) + "\n"


def _where(runs: Sequence[Kept]) -> Iterator[str]:
    places = dict.fromkeys(f"{run.cpus} CPUs ({run.machine['cpu']})" for run in runs)
    days = sorted({run.machine["date"][:10] for run in runs})
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    yield f"Medians unless it says worst, on {'; '.join(places)}, {when}."
    yield f"{met(runs)} Which were missed and why, and all else, is in [docs/benchmarks.md](docs/benchmarks.md)."
    yield "The service is a C program that answers a millisecond after its start; what another needs comes on top."
    if any(run.busy for run in runs):
        yield "The machine was **not quiet** for some of them: the page says for which."


# -- rows ------------------------------------------------------------------------------------------------------------


def _line(label: str, line: Line, unit: str = "", worst: Line | None = None, us: str = US) -> Maker:
    """Ours, and everyone beside it, best first."""

    def made(runs: Sequence[Kept]) -> Cells | None:
        found = line.found(runs)
        if us not in found:
            return None
        most = worst.found(runs).get(us) if worst else None
        here = f"{found[us].text}{f', worst {most.text}' if most else ''} {unit}".strip()
        ahead = line.ahead(found, us)
        said = [(name, f"{name} {found[name].text}") for name in line.sorted(found) if name != us]
        return [label, here, "; ".join(f"**{words}**" if name in ahead else words for name, words in said)]

    return made


def _rows(label: str, metric: str, ours: Sequence[str], unit: str, beside: str = "", name: str = "") -> Maker:
    """The medians of rows of ours, and what they cannot be quicker than."""

    def made(runs: Sequence[Kept]) -> Cells | None:
        there = {row.name: row for one in metrics(runs) if one.key == metric for row in one.rows}
        if not all(one in there for one in [*ours, *filter(None, [beside])]):
            return None
        here = " and ".join(shown(there[one].median) for one in ours)
        worst = f", worst {shown(there[ours[0]].high)}" if not beside else ""
        return [label, f"{here}{worst} {unit}", f"{beside and name} {beside and shown(there[beside].median)}".strip()]

    return made


ROWS: Sequence[Maker] = (
    _line("a service is killed: until it answers again", lines.CRASH, "ms", worst=lines.CRASH_WORST),
    _line("a service hangs (SIGSTOP): until another serves in its place, worst", lines.HUNG, "s"),
    _line("resident memory with 5 services, all processes", lines.MEMORY_5, "MB"),
    _line("the same with 1000 services", lines.MEMORY_1000, "MB"),
    _line("CPU at idle with 5 services, % of a core", lines.CPU_5),
    _line("the same with 1000 services, one supervisor at a time", lines.CPU_1000),
    _rows(
        *("`inv status` and `inv health` of 5 services", COMMANDS, (commands.STATUS, commands.HEALTH), "ms"),
        *(commands.NOTHING, "`inv --list` without any task"),
    ),
    _rows(
        *("`inv start` of 100 services without a monitor, until all answer", COMMANDS, (commands.STARTED,), "ms"),
        *(commands.BARE, "a bare loop that spawns them and waits"),
    ),
    _rows(
        *("the monitor of 100 services is killed: until the next one's heartbeat", "takeover"),
        *((takeover.killed(100),), "s"),
    ),
    _line("lines lost, doubled or torn by rotation, at full speed", lines.ROTATION),
    _line("requests lost over a planned restart, under 200 a second", lines.PLANNED),
    _line("processes that a stop leaves, of 5 children", lines.LEFT),
    _line("a service that is deaf to TERM is stopped: until it is gone", lines.DEAF, "s"),
    _line("five health checks on each of 10 hosts", lines.HOSTS_10, "s", us=TOOL),
    _line("the same on 50 hosts (ansible: not measured)", lines.HOSTS_50, "s", us=TOOL),
)
