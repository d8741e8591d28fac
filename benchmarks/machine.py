"""The machine that figures come from, and the file that they are kept in.

Knows: what a reader must know to judge a number: processor, memory, system, date, load. Must not know: the numbers.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


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
    }


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
