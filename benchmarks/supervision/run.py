"""One run: which supervisors, how long, bringing them up side by side and ending everything again.

Knows: the command line, folders, the run's tag. Must not know: what is measured.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import machine
from benchmarks.reading import Reading, above_zero
from benchmarks.supervision import figures, peers, processes
from benchmarks.supervision.peers.base import Peer, Setting
from benchmarks.supervision.peers.ours import Ours
from benchmarks.supervision.workload import Service, build, ports, under_reap, until_all


@dataclass
class Run:
    """What a measurement is given. `quick`: few rounds, to see whether the harness is sound."""

    peers: Sequence[type[Peer]]
    folder: Path
    quick: bool = False
    restarts: int = 500
    tag: str = field(default_factory=lambda: "bt" + uuid.uuid4().hex[:10])
    _ports: Iterator[int] = field(default_factory=ports)
    _count: int = 0

    def say(self, *words: object) -> None:
        print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)

    def has(self, name: str) -> bool:
        """Whether that supervisor takes part."""
        return any(peer.name == name for peer in self.peers)

    def service(self, name: str, tag: str = "", flags: Sequence[str] = ()) -> Service:
        """One service on a port of its own."""
        return Service(name, next(self._ports), tag or f"{self.tag}.alone.", tuple(flags))

    @contextmanager
    def made(
        self, kind: type[Peer], count: int, flags: Sequence[str] = (), setting: Setting | None = None
    ) -> Iterator[Any]:
        """One supervisor with `count` services, all of them answering."""
        self._count += 1
        tag = f"{self.tag}.{kind.name}{self._count}."  # the dots: no tag is the beginning of another
        folder = self.folder / tag
        folder.mkdir()
        services = [self.service(f"s{number}", tag, flags) for number in range(count)]
        peer = kind(folder, tag, services, setting or Setting())
        try:
            peer.up()
            until_all(services, 60 + count)
            yield peer
        finally:
            peer.down()
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def side_by_side(
        self, count: int, setting: Setting | None = None, kinds: Sequence[type[Peer]] | None = None
    ) -> Iterator[list[Peer]]:
        """Every supervisor (or these kinds) at once, each with `count` services."""
        with ExitStack() as stack:
            kinds = self.peers if kinds is None else kinds
            yield [stack.enter_context(self.made(kind, count, setting=setting)) for kind in kinds]


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks supervision WORDS`; 0 when all bars were met, 2 when one was missed."""
    from benchmarks.supervision.metrics import ALL

    given = _given(words, list(ALL))
    if not sys.platform.startswith("linux"):
        print("these measurements need Linux: /proc, and the supervisors that they are made against", file=sys.stderr)
        return 1
    build("svc")
    under_reap(["supervision", *words])
    signal.signal(signal.SIGTERM, _terminated)
    kinds, before = _installed(given.peers), machine.told()
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as folder:
        run = Run(kinds, Path(folder), given.quick, given.restarts)
        try:
            rows = {name: _measured(run, ALL[name]) for name in given.metrics or ALL}
        finally:
            processes.sweep(run.tag)
    if given.json:
        _keep(given.json, before, run, rows)
    return 2 if any(row.met is False for found in rows.values() for row in found) else 0


def _measured(run: Run, metric: ModuleType) -> list[figures.Row]:
    """The rows of one metric, shown; one that broke off must not lose the others."""
    run.say(metric.TITLE)
    try:
        rows: list[figures.Row] = metric.measure(run)
    except (RuntimeError, OSError) as error:
        rows = [figures.broken_off(metric.TITLE, error)]
    if run.quick:
        rows = figures.without_bars(rows)
    print(figures.show(metric.TITLE, rows), flush=True)
    return rows


def _given(words: Sequence[str], metrics: Sequence[str]) -> argparse.Namespace:
    said = "The monitor beside other supervisors."
    reading = Reading(prog="python -m benchmarks supervision", description=said)
    # `choices` would refuse no metric at all
    reading.add_argument("metrics", nargs="*", metavar="METRIC", help=f"{', '.join(metrics)} (all)")
    reading.add_argument("--peers", metavar="a,b", default=",".join(peers.ALL), help="beside ours: %(default)s")
    reading.add_argument("--quick", action="store_true", help="few rounds: whether the harness is sound; shows no bars")
    reading.add_argument("--restarts", type=above_zero, metavar="N", default=500, help="of the metric restarts (500)")
    reading.add_argument("--json", metavar="FILE", help="write the figures there too")
    given = reading.parse_args(words)
    for kind, known in ((given.metrics, metrics), (given.peers.split(","), list(peers.ALL))):
        wrong = [name for name in kind if name not in known]
        if wrong:
            reading.error(f"{', '.join(wrong)}: not one of {', '.join(known)}")
    return given


def _installed(names: str) -> list[type[Peer]]:
    """Those that are here, this toolkit always; the others are named."""
    found: list[type[Peer]] = []
    for name in dict.fromkeys([Ours.name, *names.split(",")]):
        version = peers.ALL[name].version()
        print(f"{name}: {version or 'not installed, left out'}", file=sys.stderr)
        if version:
            found.append(peers.ALL[name])
    return found


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def _keep(file: str, before: dict[str, Any], run: Run, rows: dict[str, list[figures.Row]]) -> None:
    from benchmarks.supervision.metrics import ALL

    metrics = {name: {"title": ALL[name].TITLE, "rows": figures.document(found)} for name, found in rows.items()}
    versions = {kind.name: kind.version() for kind in run.peers}
    machine.keep(file, before, {"versions": versions, "quick": run.quick, "metrics": metrics})
