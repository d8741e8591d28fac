"""The figures of a soak, as lines of Markdown that read as well in a terminal.

Knows: what a soak came to. Must not know: how it came to that.
"""

from __future__ import annotations

import datetime
import os
import platform

from tests.soak import growth, judgement
from tests.soak.growth import Life
from tests.soak.judgement import BREATH
from tests.soak.run import JUDGED, Result


def section(result: Result) -> str:
    """One section: date, machine, seed, figures, findings."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    title = f"## {today}: {result.seconds / 60:.1f} minutes, seed {result.wanted.seed}, {_verdict(result)}"
    rows = "\n".join(f"| {name} | {value} |" for name, value in _figures(result))
    parts = [title, _machine(), f"| what | figure |\n|---|---|\n{rows}", _findings(result), _faults(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(result: Result) -> str:
    many = len(result.witness.findings)
    return "no finding" if not many else f"{many} finding{'s' if many > 1 else ''}"


def _machine() -> str:
    system = f"{platform.system()} {platform.release()} ({platform.machine()}), {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, {'root' if os.geteuid() == 0 else 'not root'}"


def _figures(result: Result) -> list[tuple[str, str]]:
    return [("faults that hit", str(result.witness.counted.total())), *_answers(result), *_others(result)]


def _answers(result: Result) -> list[tuple[str, str]]:
    diary = result.diary
    gaps = judgement.gaps(diary)
    unmeant = [judgement.without(gap, result.witness.withheld) for gap in gaps]
    lasted = max(1e-9, diary.ended - diary.begun)
    rule = f"it answered `healthy`, and again within {BREATH:g} s"
    return [
        ("requests to recon-api answered `healthy` within 2 s", _of(result, "ask")),
        (f"time in which recon-api was up: {rule}", f"{100 * (1 - judgement.seconds(gaps) / lasted):.2f} %"),
        ("the same, where a fault did not withhold it", f"{_unwithheld(result, unmeant):.2f} %"),
        ("worst gap", f"{max((end - begin for begin, end in gaps), default=0.0):.1f} s"),
        ("worst gap, where a fault did not withhold it", f"{max(unmeant, default=0.0):.1f} s"),
        (
            "requests that the client itself sent late, by more than 0.1 s",
            f"{diary.late} of {sum(diary.sent.values())}",
        ),
        ("jobs acknowledged", _of(result, "job")),
        ("pages of the frontend answered", _of(result, "page")),
    ]


def _others(result: Result) -> list[tuple[str, str]]:
    witness = result.witness
    return [
        ("acknowledged jobs lost", _found(result, "is lost")),
        ("times that a service was seen twice", f"{witness.twice} in {result.looks} looks"),
        ("processes left behind after `inv stop`", _found(result, "left behind")),
        *[line for kind in growth.KINDS for line in _growth(result, kind)],
    ]


def _found(result: Result, words: str) -> str:
    return str(sum(words in one.what for one in result.witness.findings))


def _unwithheld(result: Result, unmeant: list[float]) -> float:
    """Percent of the time outside of what was withheld on purpose. What the client missed only because a service
    that was given back has to come up again counts against it."""
    span = (result.diary.begun, result.diary.ended)
    return 100 * (1 - sum(unmeant) / max(1e-9, judgement.without(span, result.witness.withheld)))


def _of(result: Result, kind: str) -> str:
    good, sent = result.diary.good.get(kind, 0), result.diary.sent.get(kind, 0)
    return f"{good} of {sent} ({result.diary.share(kind):.2f} %)"


def _growth(result: Result, kind: str) -> list[tuple[str, str]]:
    lives = [life for life in result.lives if life.kind == kind]
    if not lives:
        return [(f"{kind}: growth", f"not judged: that takes {JUDGED / 60:g} minutes or more")]
    judged = [life for life in lives if life.judged]
    longest = max(life.seconds for life in lives)
    return [
        (f"{kind}: lives, the longest", f"{len(lives)}, {longest:.0f} s"),
        (f"{kind}: lives of {growth.LONG:g} s or more, judged for growth", str(len(judged))),
        (f"{kind}: most memory, most growth in a judged life", _memory(lives, judged)),
        (f"{kind}: most descriptors, most growth in a judged life", _descriptors(lives, judged)),
    ]


def _memory(lives: list[Life], judged: list[Life]) -> str:
    grown = f"{max(life.growth('memory') for life in judged) / 2**20:.1f} MiB" if judged else "not judged"
    return f"{max(life.most('memory') for life in lives) / 2**20:.1f} MiB, {grown}"


def _descriptors(lives: list[Life], judged: list[Life]) -> str:
    grown = str(max(life.growth("descriptors") for life in judged)) if judged else "not judged"
    return f"{max(life.most('descriptors') for life in lives)}, {grown}"


def _findings(result: Result) -> str:
    told = ["Findings:", ""] + [f"- {str(one).splitlines()[0][:400]}" for one in result.witness.findings]
    return "\n".join(told) if result.witness.findings else ""


def _faults(result: Result) -> str:
    done = [f"- {many} x {name}" for name, many in sorted(result.witness.counted.items())]
    missed = [f"- {many} x missed, and not counted: {name}" for name, many in sorted(result.witness.missed.items())]
    return "\n".join(["Faults:", "", *done, *missed])
