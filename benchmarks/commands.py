"""How fast the commands are, as ratios within one run.

Nothing here is a test: a busy machine makes every number worse. What is compared is run in turns, round after
round, so that both sides meet the same weather.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import machine
from benchmarks.reading import Reading, above_zero
from benchmarks.stage import INV, Stage, free_ports, timed

Run = Callable[[], float]
Bars = Mapping[str, tuple[str, float | None]]
_SAID = "How fast the commands are. As the first word, `supervision` measures the monitor, `fleet` many hosts."

NOTHING = "inv --list, empty tasks.py"
LISTED, STATUS, MANY, HEALTH = (
    "inv --list",
    "inv status, 5 services",
    "inv status, 100 services",
    "inv health, 5 services",
)
AGAIN = "inv start, 5 services, nothing to do"
SLOW = "inv health, 100 services of 1 s each"
BARE, STARTED = "a bare loop, 100 services", "inv start --json, 100 services"
WATCHED, SHOWN = "inv start --json, 100, monitor", "inv start, 100, monitor, health"
# What each is compared with ("" with nothing), and the most it may be.
LOOKING: Bars = {
    NOTHING: ("", None),
    LISTED: (NOTHING, None),
    STATUS: (NOTHING, 1.5),
    MANY: (NOTHING, 1.8),
    HEALTH: (NOTHING, 3.0),
    AGAIN: (NOTHING, None),
}
STARTING: Bars = {BARE: ("", None), STARTED: (BARE, 1.5), WATCHED: (BARE, None), SHOWN: (BARE, None)}
SLOWLY: Bars = {SLOW: ("", 4.0)}


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


def rows(found: Mapping[str, list[float]], bars: Bars) -> list[Row]:
    """The figures of what was run."""
    made = []
    for name, seconds in found.items():
        against, bar = bars[name]
        median = statistics.median(seconds)
        ratio = median / statistics.median(found[against]) if against else None
        made.append(Row(name, min(seconds), median, max(seconds), against, ratio, bar))
    return made


def looking(folder: Path, number: int, five: Stage, hundred: Stage) -> list[Row]:
    """status and health against `inv --list` with an empty tasks.py."""
    empty = folder / "empty"
    empty.mkdir()
    (empty / "tasks.py").write_text("")
    found = rounds(
        number,
        {
            NOTHING: lambda: timed([INV, "--list"], empty, five.env, code=1),  # 1: it has no tasks
            LISTED: lambda: five.inv("--list"),
            STATUS: lambda: five.inv("status"),
            MANY: lambda: hundred.inv("status"),
            HEALTH: lambda: five.inv("health"),
            AGAIN: lambda: five.inv("start"),
        },
    )
    return rows(found, LOOKING)


def slow_health(number: int, hundred: Stage) -> list[Row]:
    """health of 100 services of which each takes a second to answer."""
    return rows(rounds(number, {SLOW: lambda: hundred.inv("health", inventory="slow.yaml")}), SLOWLY)


def starting(number: int, hundred: Stage) -> list[Row]:
    """start of 100 services against a bare loop that spawns them and waits until all answer. What the loop does not do
    has rows of its own: a start leaves a monitor running, and shows people the health of all."""

    def start(inventory: str, *flags: str) -> float:
        seconds = hundred.inv("start", *flags, inventory=inventory)
        hundred.inv("stop")
        return seconds

    timed = {
        BARE: hundred.bare_loop,
        STARTED: lambda: start("unwatched.yaml", "--json"),
        WATCHED: lambda: start("inventory.yaml", "--json"),
        SHOWN: lambda: start("inventory.yaml"),
    }
    return rows(rounds(number, timed), STARTING)


def show(found: Iterable[Row]) -> None:
    print(f"{'':40} {'min':>7} {'median':>7} {'max':>7} {'ratio':>6}  bar")
    for row in found:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        bar = "" if row.bar is None else f"<= {row.bar:g}{'' if row.ratio else ' s'}  {'met' if row.met else 'MISSED'}"
        print(f"{row.name:40} {row.low:7.3f} {row.median:7.3f} {row.high:7.3f} {ratio:>6}  {bar}")


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(143)


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks WORDS`; 0 when all bars were met, 2 when one was missed."""
    reading = Reading(prog="python -m benchmarks", description=_SAID)
    reading.add_argument("--rounds", type=above_zero, default=9, help="rounds of the short commands (9)")
    reading.add_argument("--quick", action="store_true", help="one round: whether the harness is sound; shows no bars")
    reading.add_argument("--json", metavar="FILE", help="write the figures there too")
    given = reading.parse_args(words)
    number = 1 if given.quick else given.rounds
    signal.signal(signal.SIGTERM, _terminated)
    before = machine.told()
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as name:
        folder = Path(name)
        ports = free_ports(105)
        five, hundred = Stage(folder / "five", ports[:5]), Stage(folder / "hundred", ports[5:])
        try:
            few = max(1, number // 3)
            found = starting(few, hundred)
            five.inv("start")
            hundred.inv("start")
            found += looking(folder, number, five, hundred)
            found += slow_health(few, hundred)
        finally:
            five.end()
            hundred.end()
    if given.quick:  # one round decides nothing
        found = [replace(row, bar=None) for row in found]
    show(found)
    if given.json:
        figures = [{**asdict(row), "met": row.met} for row in found]
        machine.keep(given.json, before, {"quick": number < 5, "rows": figures})
    return 2 if any(row.met is False for row in found) else 0
