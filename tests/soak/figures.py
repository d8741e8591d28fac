"""The figures of a soak, as lines of Markdown that read as well in a terminal.

Knows: what a soak came to. Must not know: how it came to that.
"""

from __future__ import annotations

import datetime
import os
import platform

from tests.soak import judgement
from tests.soak.run import Result


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
    diary, witness = result.diary, result.witness
    gaps = judgement.gaps(diary)
    unmeant = [judgement.without(gap, witness.withheld) for gap in gaps]
    lasted = diary.ended - diary.begun
    return [
        ("faults", str(sum(_counted(result).values()))),
        ("requests to recon-api answered", _of(result, "ask")),
        ("time in which recon-api answered", f"{100 * (1 - judgement.seconds(gaps) / lasted):.2f} %"),
        ("the same, where a fault did not withhold it", f"{_unwithheld(result, unmeant):.2f} %"),
        ("worst gap", f"{max((end - begin for begin, end in gaps), default=0.0):.1f} s"),
        ("worst gap, where a fault did not withhold it", f"{max(unmeant, default=0.0):.1f} s"),
        ("jobs acknowledged", _of(result, "job")),
        ("acknowledged jobs lost", str(sum("is lost" in one.what for one in witness.findings))),
        ("pages of the frontend answered", _of(result, "page")),
        ("times that a service was seen twice", f"{witness.twice} in {result.looks} looks"),
        ("processes left behind after `inv stop`", str(sum("left behind" in one.what for one in witness.findings))),
        *[(f"{kind}: most memory, most growth in one life", _memory(result, kind)) for kind in ("monitor", "guard")],
        *[(f"{kind}: most descriptors, most growth", _descriptors(result, kind)) for kind in ("monitor", "guard")],
    ]


def _unwithheld(result: Result, unmeant: list[float]) -> float:
    """Percent of the time outside of what was withheld on purpose. What the client missed only because a service
    that was given back has to come up again counts against it."""
    span = (result.diary.begun, result.diary.ended)
    return 100 * (1 - sum(unmeant) / max(1e-9, judgement.without(span, result.witness.withheld)))


def _of(result: Result, kind: str) -> str:
    good, sent = result.diary.good.get(kind, 0), result.diary.sent.get(kind, 0)
    return f"{good} of {sent} ({result.diary.share(kind):.2f} %)"


def _memory(result: Result, kind: str) -> str:
    lives = [life for life in result.witness.lives.values() if life.kind == kind]
    most = max((life.most["memory"] for life in lives), default=0)
    growth = max((life.growth("memory") for life in lives), default=0)
    return f"{most / 2**20:.1f} MiB, {growth / 2**20:.1f} MiB ({len(lives)} lives)"


def _descriptors(result: Result, kind: str) -> str:
    lives = [life for life in result.witness.lives.values() if life.kind == kind]
    most = max((life.most["descriptors"] for life in lives), default=0)
    return f"{most}, {max((life.growth('descriptors') for life in lives), default=0)}"


def _findings(result: Result) -> str:
    told = ["Findings:", ""] + [f"- {str(one).splitlines()[0][:400]}" for one in result.witness.findings]
    return "\n".join(told) if result.witness.findings else ""


def _counted(result: Result) -> dict[str, int]:
    witness = result.witness
    return {name: many for name, many in sorted(witness.counted.items()) if name not in witness.skipped}


def _faults(result: Result) -> str:
    done = [f"- {many} x {name}" for name, many in _counted(result).items()]
    skipped = [f"- not at all: {name} ({why})" for name, why in result.witness.skipped.items()]
    return "\n".join(["Faults:", "", *done, *skipped])
