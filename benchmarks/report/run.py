"""Writing it all: docs/benchmarks.md, its picture, and what README.md has of it.

Knows: the command line, where things are written. Must not know: what they say.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.reading import Reading
from benchmarks.report import kept, page, picture, short

ROOT = Path(__file__).parents[2]


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks report WORDS`; 1 when nothing was written."""
    given = _given(words)
    runs, reasons = kept.read(given.results), kept.reasons(given.results)
    readme = given.readme.read_text(encoding="utf-8")
    wrong = [f"{given.results / kept.REASONS}: {one}: there is no such bar" for one in kept.misfits(runs, reasons)]
    if not runs:
        wrong.append(f"{given.results}: no runs\nnext: ./inv dev.benchmarks")
    if not short.is_marked(readme):
        wrong.append(f"{given.readme}: it must have {short.BEGIN} and then {short.END}, each once")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    given.docs.mkdir(parents=True, exist_ok=True)
    (given.docs / "benchmarks.svg").write_text(picture.draw(list(page.panels(runs))), encoding="utf-8")
    (given.docs / "benchmarks.md").write_text(page.written(runs, reasons), encoding="utf-8")
    given.readme.write_text(short.replaced(readme, runs), encoding="utf-8")
    print(f"{given.docs / 'benchmarks.md'}, {given.docs / 'benchmarks.svg'}, {given.readme}")
    return 0


def _given(words: Sequence[str]) -> argparse.Namespace:
    said = "Writes docs/benchmarks.md, its picture, and the figures in README.md."
    reading = Reading(prog="python -m benchmarks report", description=said)
    for name, default, meta, what in (
        ("--results", machine.RESULTS, "FOLDER", "the runs"),
        ("--docs", ROOT / "docs", "FOLDER", "where the page and the picture go"),
        ("--readme", ROOT / "README.md", "FILE", "where the shorter table stands"),
    ):
        reading.add_argument(name, type=Path, default=default, metavar=meta, help=f"{what} (%(default)s)")
    return reading.parse_args(words)
