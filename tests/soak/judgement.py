"""What the client's diary comes to: availability, gaps, jobs that were acknowledged.

Knows: the diary's lines. Must not know: processes, faults. Pure but for reading the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

BREATH = 0.2  # seconds between two answers that are no gap: four requests
WORST_GAP = 45.0  # seconds: a silent monitor is ended after 15 to 20, and then recon-api's worst case is 13
LATE = 0.1  # seconds; a client that sends later than that may have made a gap itself
Span = tuple[float, float]


@dataclass
class Diary:
    """What the client noted. `answered`: the moments at which recon-api answered as it should."""

    sent: dict[str, int] = field(default_factory=dict)
    good: dict[str, int] = field(default_factory=dict)
    answered: list[float] = field(default_factory=list)
    acknowledged: list[tuple[float, str]] = field(default_factory=list)  # when, and the job's id
    late: int = 0  # requests that the client itself sent late
    begun: float = 0.0
    ended: float = 0.0

    def share(self, kind: str) -> float:
        """Percent of the requests of that kind that were answered as they should be."""
        return 100.0 * self.good.get(kind, 0) / max(1, self.sent.get(kind, 0))


def read(path: Path) -> Diary:
    """The diary; a last line that was not finished is left out."""
    diary = Diary()
    for line in _lines(path):
        kind, end = line["kind"], line["at"] + line["seconds"]
        diary.begun = min(diary.begun or line["at"], line["at"])
        diary.ended = max(diary.ended, line["at"])  # sent, not answered: nobody is asked after that
        diary.sent[kind] = diary.sent.get(kind, 0) + 1
        diary.late += line["late"] > LATE
        if kind == "job" and "id" in line:  # one that came too late for the client was acknowledged all the same
            diary.acknowledged.append((end, line["id"]))
        if line["ok"]:
            diary.good[kind] = diary.good.get(kind, 0) + 1
        if line["ok"] and kind == "ask":
            diary.answered.append(end)
    diary.answered.sort()
    return diary


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(text)


def gaps(diary: Diary) -> list[Span]:
    """From one good answer of recon-api to the next, where that took longer than a breath."""
    within = [moment for moment in diary.answered if moment < diary.ended]
    moments = [diary.begun, *within, diary.ended]
    return [(before, after) for before, after in pairwise(moments) if after - before > BREATH]


def seconds(spans: Sequence[Span]) -> float:
    return sum(end - begin for begin, end in spans)


def without(span: Span, meant: Sequence[Span]) -> float:
    """Seconds of the span that lie in none of the others, which do not overlap."""
    begin, end = span
    covered = sum(max(0.0, min(end, until) - max(begin, since)) for since, until in meant)
    return end - begin - covered


def lost(diary: Diary, kept: set[str]) -> list[tuple[float, str]]:
    """Jobs that were acknowledged and are not kept."""
    return [(moment, job) for moment, job in diary.acknowledged if job not in kept]


def faulted(diary: Diary, kept: set[str], withheld: Sequence[Span]) -> Iterator[tuple[float, str]]:
    """When something was that must not be, and what it was."""
    for moment, job in lost(diary, kept):
        yield moment, f"{job} was acknowledged and is lost"
    for gap in gaps(diary):
        missed = without(gap, withheld)
        if missed > WORST_GAP:
            yield gap[0], f"recon-api did not answer for {missed:.1f} s"
    if not diary.good.get("ask") or not diary.acknowledged:
        yield diary.ended, "the client was never answered: nothing is proven"
