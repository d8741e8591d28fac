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

BREATH = 1.0  # seconds between two answers that are no gap
WORST_GAP = 45.0  # seconds: a silent monitor is ended after 15 to 20, and then recon-api's worst case is 13
Span = tuple[float, float]


@dataclass
class Diary:
    """What the client noted. `answered`: the moments at which recon-api answered."""

    sent: dict[str, int] = field(default_factory=dict)
    good: dict[str, int] = field(default_factory=dict)
    answered: list[float] = field(default_factory=list)
    acknowledged: list[tuple[float, str]] = field(default_factory=list)  # when, and the job's id
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
        diary.ended = max(diary.ended, end)
        diary.sent[kind] = diary.sent.get(kind, 0) + 1
        if not line["ok"]:
            continue
        diary.good[kind] = diary.good.get(kind, 0) + 1
        if kind == "ask":
            diary.answered.append(end)
        if kind == "job":
            diary.acknowledged.append((end, line["id"]))
    diary.answered.sort()
    return diary


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(text)


def gaps(diary: Diary) -> list[Span]:
    """From one answer of recon-api to the next, where that took longer than a breath."""
    moments = [diary.begun, *diary.answered, diary.ended]
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
