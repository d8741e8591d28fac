"""A service writes at full speed while its log is rotated: which lines are lost, doubled or torn.

It writes numbered lines of 13 bytes, one write(2) each, without a pause, until there are a million of them and the log
was rotated fifty times (or 90 s are over, or the lines 150 million). Then it is told to be quiet and says how many it
wrote; when the files stand still they are read, packed ones too, put in order and taken together (so a line that is
cut in two between two files is whole). Supervisors that leave rotation to others do not take part. One at a time.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.supervision.figures import Row, held, row, wanted
from benchmarks.supervision.peers.base import Peer, Setting, content
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Service, Silent, get

TITLE = "rotation under a full-speed writer"
_SIZE = 250_000  # bytes at which a log is rotated
_LINES = 1_000_000
_ROTATIONS = 50
_LIMIT = 90.0
_MOST_LINES = 150_000_000
_STILL = 2.0  # seconds without a change after which nothing is on its way any more
_LINE = re.compile(rb"L\d{11}")
_FIRST = re.compile(rb"^L(\d{11})\n", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """What came of it. `held_up`: the longest time between two lines, seconds."""

    lines: int
    rotations: int
    lost: int
    doubled: int
    torn: int
    speed: float
    held_up: float


def measure(run: Run) -> list[Row]:
    rows = []
    lines, rotations = (_LINES // 10, 5) if run.quick else (_LINES, _ROTATIONS)
    for kind in run.peers:
        if not kind.rotates:
            continue
        with run.made(kind, 1, ("--spew",), Setting(rotate=_SIZE)) as peer:
            found = _written(peer, lines, rotations)
        run.say(kind.name, found)
        rows += table(kind.name, found, lines, rotations)
    return rows


def table(name: str, found: Found, lines: int, rotations: int) -> list[Row]:
    """What came of one; with ours, whether it is what was asked of `lines` and `rotations`."""
    return [*_rows(name, found), *(_bars(found, lines, rotations) if name == "ours" else [])]


def _rows(name: str, found: Found) -> list[Row]:
    """All that went wrong is one figure: whoever loses none by writing them twice is not better. Who writes quicker has
    more lines to lose, so how many they were stands beside it."""
    wrong = found.lost + found.doubled + found.torn
    which = f"{found.lost} lost, {found.doubled} doubled, {found.torn} torn, {found.rotations} rotations"
    speed = f"{found.speed / 1e6:.2f} million lines a second, held up for {found.held_up * 1000:.1f} ms at most"
    return [
        row(f"{name}: lost, doubled and torn", "lines", [wrong], note=f"{which}; {speed}"),
        row(f"{name}: written", "million lines", [found.lines], 1e-6),
    ]


def _bars(found: Found, lines: int, rotations: int) -> list[Row]:
    enough = found.lines >= lines and found.rotations >= rotations
    asked = wanted(f"ours, {found.lines} lines, {found.rotations} rotations", f">= {lines}, >= {rotations}", enough)
    seen = (("lost", found.lost), ("doubled", found.doubled), ("torn", found.torn))
    return [asked, *(held(f"ours, {what}", "lines", count, 0) for what, count in seen)]


def _written(peer: Peer, lines: int, rotations: int) -> Found:
    (service,) = peer.services
    until = time.monotonic() + _LIMIT
    while time.monotonic() < until:
        written, _, _ = _said(service, "/written")
        rotated = len(peer.captured(service)) - 2  # the log itself; a copy that is being made or packed
        if (written >= lines and rotated >= rotations) or written > _MOST_LINES:
            break
        time.sleep(0.05)
    written, held_up, writing = _said(service, "/quiet")
    files = _still(peer, service)
    lost, doubled, torn = _counted(files, written)
    speed = written / max(writing, 1) * 1000
    return Found(written, len(files) - 1, lost, doubled, torn, speed, held_up / 1e6)


def _said(service: Service, path: str) -> tuple[int, int, int]:
    """What the writer says: lines, the longest pause in microseconds, milliseconds of writing."""
    answer = get(service.port, path, 30).rpartition(b"\r\n\r\n")[2].split()
    if len(answer) != 3:
        raise Silent(f"{service.name}: the writer does not say how much it wrote")
    lines, held_up, writing = map(int, answer)
    return lines, held_up, writing


def _still(peer: Peer, service: Service) -> list[Path]:
    """The files, once nothing is moved, packed or written any more."""
    seen: dict[Path, int] = {}
    since = time.monotonic()
    until = since + _LIMIT
    while time.monotonic() < min(since + _STILL, until):
        time.sleep(0.1)
        now = _sizes(peer.captured(service))
        if now != seen:
            seen, since = now, time.monotonic()
    return list(seen)


def _sizes(files: Sequence[Path]) -> dict[Path, int]:
    """By file; what vanishes meanwhile was moved or packed."""
    found = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            found[file] = file.stat().st_size
    return found


def _counted(files: Sequence[Path], lines: int) -> tuple[int, int, int]:
    """Lines lost, doubled and torn."""
    seen, torn, rest = bytearray(lines), 0, b""
    for file in sorted(files, key=_first_number):
        *whole, rest = (rest + content(file)).split(b"\n")
        for line in whole:
            number = int(line[1:]) if _LINE.fullmatch(line) else lines
            if number < lines:
                seen[number] = min(seen[number] + 1, 2)
            else:
                torn += 1
    return seen.count(0), seen.count(2), torn + bool(rest)


def _first_number(file: Path) -> int:
    """What the files are put in order by; one without a whole line comes last."""
    found = _FIRST.search(content(file))
    return int(found[1]) if found else sys.maxsize
