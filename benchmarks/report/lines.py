"""What is compared with what: the lines of the tables and the panels of the picture.

Knows: the names that the metrics give their rows, who is measured beside us. Must not know: Markdown, shapes, files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.report.kept import Kept, Metric
from benchmarks.supervision import peers
from benchmarks.supervision.figures import Row, shown
from benchmarks.supervision.peers.ours import Ours

US = Ours.name
PEERS = tuple(peers.ALL)
TOOL = "inv health"
_WHO = rf"(?P<who>{'|'.join(PEERS)})"
_TOOLS = rf"(?P<who>(?:{TOOL}|ssh|pyinfra|ansible)(?:(?! against ).)*)"


@dataclass(frozen=True)
class Seen:
    """What one of them came to: how people read it, and what it is compared by; no number is "never"."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Line:
    """A line of the comparison: less is better, unless `most`. `rows` matches a row's name, with its owner as `who`;
    `of` matches that of how many they are, where not all had as many."""

    label: str
    metric: str
    rows: str
    worst: bool = False
    most: bool = False
    of: str = ""

    def found(self, runs: Sequence[Kept]) -> dict[str, Seen]:
        """By owner."""
        whole = self._matched(runs, self.of) if self.of else {}
        return {who: self._seen(row, whole.get(who)) for who, row in self._matched(runs, self.rows).items()}

    def _matched(self, runs: Sequence[Kept], pattern: str) -> dict[str, Row]:
        rows = (row for metric in metrics(runs) if metric.key == self.metric for row in metric.rows)
        matched = ((re.fullmatch(pattern, row.name), row) for row in rows)
        return {match["who"]: row for match, row in matched if match}

    def _seen(self, row: Row, whole: Row | None) -> Seen:
        value = row.high if self.worst else row.median
        if value is None:
            return Seen("never", None)
        if whole is None or not whole.median:
            return Seen(shown(value), value)
        return Seen(f"{shown(value)} of {shown(whole.median)} {whole.unit.split()[0]}", value / whole.median)

    def ahead(self, found: dict[str, Seen], us: str = US) -> list[str]:
        """Who is better than us."""
        return [name for name, seen in found.items() if us in found and self._rank(seen) < self._rank(found[us])]

    def sorted(self, found: dict[str, Seen]) -> list[str]:
        """The best first."""
        return sorted(found, key=lambda name: self._rank(found[name]))

    def _rank(self, seen: Seen) -> float:
        """Nothing at all ("never") is worst."""
        if seen.value is None:
            return float("inf")
        return -seen.value if self.most else seen.value


def metrics(runs: Sequence[Kept]) -> Iterator[Metric]:
    for run in runs:
        yield from run.metrics


def _memory(services: int) -> str:
    return rf"{_WHO}, {services} services, \d+ process(es)?: resident"


def _hosts(count: int) -> Line:
    hosts = f"{count} host{'s' * (count > 1)}"
    return Line(f"{hosts}, s", "fan-out", f"{_TOOLS}, {hosts}")


CRASH = Line("SIGKILL to the next answer, ms", "crash", _WHO)
CRASH_WORST = Line("the worst of them, ms", "crash", _WHO, worst=True)
HUNG = Line("SIGSTOP to serving again, worst, s", "hung", _WHO, worst=True)
MEMORY_5 = Line("resident memory, 5 services, MB", "memory", _memory(5))
MEMORY_100 = Line("resident memory, 100 services, MB", "memory", _memory(100))
MEMORY_1000 = Line("resident memory, 1000 services, MB", "memory", _memory(1000))
CPU_5 = Line("CPU at idle, 5 services, %", "cpu", rf"{_WHO}, 5 services")
CPU_100 = Line("CPU at idle, 100 services, %", "cpu", rf"{_WHO}, 100 services")
CPU_1000 = Line("the same, 1000 services, one at a time, %", "memory", rf"{_WHO}, 1000 services alone: CPU at idle")
LEFT = Line("processes left by a stop, of 5 besides the service's own", "tree", rf"{_WHO}: left, of 5")
LEFT_APART = Line("of these in a session of its own, of 1", "tree", rf"{_WHO}: left in a session of its own, of 1")
PORT = Line("starts again though children held the port", "tree", rf"{_WHO}: starts again, of 1", most=True)
DEAF = Line("deaf to TERM: gone after, s", "tree", rf"{_WHO}: deaf to TERM, gone after")
PLANNED = Line("requests lost over a planned restart", "planned", rf"(?P<who>{'|'.join(PEERS)}|pm2, .*): lost")
LIVING = Line(
    "supervisor killed: services that live on, of 3", "death", rf"{_WHO}: services that live on, of 3", most=True
)
COPIES = Line("second copies after the next start", "death", rf"{_WHO}: second copies")
LATER = Line("a later death: back after, s", "death", rf"{_WHO}: one of them killed later, back after")
ROTATION = Line(
    "lines lost, doubled or torn by rotation, of those written; compared by their share",
    "rotation",
    rf"{_WHO}: lost, doubled and torn",
    of=rf"{_WHO}: written",
)
LINES = (
    *(CRASH, CRASH_WORST, HUNG, MEMORY_5, MEMORY_100, MEMORY_1000, CPU_5, CPU_100, CPU_1000),
    *(LEFT, LEFT_APART, PORT, DEAF, PLANNED, LIVING, COPIES, LATER, ROTATION),
)

HOST_1, HOSTS_10, HOSTS_50 = _hosts(1), _hosts(10), _hosts(50)
FANS = (HOST_1, HOSTS_10, HOSTS_50)

PANELS = (
    ("A service is killed: until it answers again", "median, ms", CRASH),
    ("Memory of the supervisor, 5 services", "resident, all processes, MB", MEMORY_5),
    ("Requests lost over a planned restart", "of 200 a second, median of the rounds", PLANNED),
    ("Five health checks on each of ten hosts", "median, s", HOSTS_10),
)
