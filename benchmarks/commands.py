"""How fast the commands are, as ratios within one run.

Nothing here is a test: a busy machine makes every number worse. What is compared is run in turns, round after
round, so that both sides meet the same weather.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.stage import INV, Stage, free_ports, timed

Run = Callable[[], float]
_SAID = "How fast the commands are. As the first word, `supervision` measures the monitor, `fleet` many hosts."


@dataclass(frozen=True)
class Row:
    """One measured thing: its seconds, what it is compared with, and the most it may be."""

    name: str
    low: float
    median: float
    high: float
    against: str = ""
    ratio: float | None = None
    bar: float | None = None  # of the ratio, or of the median in seconds when it is compared with nothing

    @property
    def met(self) -> bool | None:
        seen = self.median if self.ratio is None else self.ratio
        return None if self.bar is None else seen <= self.bar


def rounds(number: int, runs: Mapping[str, Run]) -> dict[str, list[float]]:
    """Each of the runs once per round; the first round only warms up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(number + 1):
        for name, run in runs.items():
            seconds = run()
            if turn:
                found[name].append(seconds)
    return found


def rows(found: Mapping[str, list[float]], bars: Mapping[str, tuple[str, float | None]]) -> list[Row]:
    """The figures; `bars` say what each is compared with ("" with nothing), and the most it may be."""
    made = []
    for name, seconds in found.items():
        against, bar = bars.get(name, ("", None))
        median = statistics.median(seconds)
        ratio = median / statistics.median(found[against]) if against else None
        made.append(Row(name, min(seconds), median, max(seconds), against, ratio, bar))
    return made


def looking(folder: Path, number: int, five: Stage, hundred: Stage) -> list[Row]:
    """status and health against `inv --list` with an empty tasks.py."""
    empty = folder / "empty"
    empty.mkdir()
    (empty / "tasks.py").write_text("")
    nothing = "inv --list, empty tasks.py"
    found = rounds(
        number,
        {
            nothing: lambda: timed([INV, "--list"], empty, five.env, code=1),  # 1: it has no tasks
            "inv --list": lambda: five.inv("--list"),
            "inv status, 5 services": lambda: five.inv("status"),
            "inv status, 100 services": lambda: hundred.inv("status"),
            "inv health, 5 services": lambda: five.inv("health"),
            "inv start, 5 services, nothing to do": lambda: five.inv("start"),
        },
    )
    bars: dict[str, tuple[str, float | None]] = {
        "inv --list": (nothing, None),
        "inv status, 5 services": (nothing, 1.5),
        "inv status, 100 services": (nothing, 1.8),
        "inv health, 5 services": (nothing, 3.0),
        "inv start, 5 services, nothing to do": (nothing, None),
    }
    return rows(found, bars)


def slow_health(number: int, hundred: Stage) -> list[Row]:
    """health of 100 services of which each takes a second to answer."""
    name = "inv health, 100 services of 1 s each"
    found = rounds(number, {name: lambda: hundred.inv("health", inventory="slow.yaml")})
    return rows(found, {name: ("", 4.0)})


def starting(number: int, hundred: Stage) -> list[Row]:
    """start of 100 services against a bare loop that spawns them and waits until all answer. What the loop does not do
    has rows of its own: a start leaves a monitor running, and shows people the health of all."""
    bare = "a bare loop, 100 services"
    ours, watched = "inv start --json, 100 services", "inv start --json, 100, monitor"
    shown = "inv start, 100, monitor, health"

    def start(inventory: str, *flags: str) -> float:
        seconds = hundred.inv("start", *flags, inventory=inventory)
        hundred.inv("stop")
        return seconds

    timed = {
        bare: hundred.bare_loop,
        ours: lambda: start("unwatched.yaml", "--json"),
        watched: lambda: start("inventory.yaml", "--json"),
        shown: lambda: start("inventory.yaml"),
    }
    return rows(rounds(number, timed), {ours: (bare, 1.5), watched: (bare, None), shown: (bare, None)})


def show(found: Iterable[Row]) -> None:
    print(f"{'':40} {'min':>7} {'median':>7} {'max':>7} {'ratio':>6}  bar")
    for row in found:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        bar = "" if row.bar is None else f"<= {row.bar:g}{'' if row.ratio else ' s'}  {'met' if row.met else 'MISSED'}"
        print(f"{row.name:40} {row.low:7.3f} {row.median:7.3f} {row.high:7.3f} {ratio:>6}  {bar}")


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks WORDS`."""
    reading = argparse.ArgumentParser(prog="python -m benchmarks", description=_SAID)
    reading.add_argument("--rounds", type=int, default=9, help="rounds of the short commands (9)")
    reading.add_argument("--json", metavar="FILE", help="write the figures there too")
    given = reading.parse_args(words)
    signal.signal(signal.SIGTERM, _terminated)
    before = machine.told()
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as name:
        folder = Path(name)
        ports = free_ports(105)
        five, hundred = Stage(folder / "five", ports[:5]), Stage(folder / "hundred", ports[5:])
        try:
            few = max(1, given.rounds // 3)
            found = starting(few, hundred)
            five.inv("start")
            hundred.inv("start")
            found += looking(folder, given.rounds, five, hundred)
            found += slow_health(few, hundred)
        finally:
            five.end()
            hundred.end()
    show(found)
    if given.json:
        figures = [{**asdict(row), "met": row.met} for row in found]
        machine.keep(given.json, before, {"quick": given.rounds < 5, "rows": figures})
    return 0
