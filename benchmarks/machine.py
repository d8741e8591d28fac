"""The machine that figures come from, and the file that they are kept in.

Knows: what a reader must know to judge a number: processor, memory, system, date, load, the commit that was measured.
Must not know: the numbers.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
_WRITTEN = ("docs", "benchmarks/results", "README.md")  # by measuring: they change nothing of what is measured


def told() -> dict[str, Any]:
    """This machine, now."""
    return {
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "memory_mb": _memory() // 1_000_000,
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load": [round(one, 2) for one in os.getloadavg()],
        "commit": commit(ROOT),
    }


def commit(folder: Path) -> str:
    """What is checked out there: `1a2b3c4`, perhaps "with changes"; "" where git has nothing to say of this folder."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top or not os.path.samefile(top, folder):  # a copy without its history, inside somebody's repository
        return ""
    changed = _git(folder, "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in _WRITTEN))
    return _git(folder, "rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except OSError:  # not installed
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def quiet(cpus: int) -> float:
    """The load up to which a machine is one: a quarter of its cores."""
    return cpus / 4


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(named, platform.machine())


def _memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep(file: str | Path, before: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Writes figures down; `before` is the machine as it was when they began."""
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = {"schema": 2, "machine": before, "command": " ".join(["python -m benchmarks", *sys.argv[1:]]), **said}
    target.write_text(json.dumps(whole, indent=2) + "\n")
