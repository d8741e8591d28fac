"""docs/faults.md as text, made of the rows and of what a run has left in its file of results.

python -m tests.faults.document RESULTS [FILE]    (inv dev.faults does that; without FILE: the rows that ran)
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.faults.rows import ROWS, Fault

HEAD = """# What it survives

Every row is a fault that was reported in the field or measured on the tools that people use today. One test of
`tests/faults/` injects it for real into running services, monitor and commands, and judges what it sees. This page is
written by

```
{command}
```

on {date}{commit}: {count}. The machine: {machine}.

*Noticed* and *serving* are seconds to the moment when the toolkit knew, and to the first right answer. A bare figure
counts from the injected fault. Where the clock began with something else, the cell says with what ("0.034 after the
thaw"): some faults are over only when they are taken back, and some show that a service is still watched by a later
kill.
A figure is that of one run of its test, unless it says median, slowest, longest or worst.
Tests shorten times through the inventory only (probes every second, say), so a figure belongs to the inventory of its
test; what the shipped inventory comes to is computed by `inv check-inventory`.
"""
TABLE = ("row", "fault", "what must hold", "result", "noticed", "serving", "figures")
COMMAND = "./inv dev.faults"
SOAK_BEGINS = "What follows is written by the command."
VERDICTS = {"passed": "passed", "failed": "**failed**", "skipped": "not run"}


def read(results: Path) -> dict[int, dict[str, Any]]:
    """The last line of each row."""
    return {line["row"]: line for line in _lines(results) if "row" in line}


def began(results: Path) -> dict[str, Any]:
    """The machine and the user when the run began, and how many seconds it took until its last row was over."""
    found = next((line["run"] for line in _lines(results) if "run" in line), {})
    return {**found, "took": results.stat().st_mtime - found["began"]} if found else {}


def _lines(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def document(found: dict[int, dict[str, Any]], date: str, machine: str, commit: str = "") -> str:
    """The whole page; a row without a result is shown as not run."""
    counted = [_verdict(fault, found.get(fault.number)) for fault in ROWS]
    words = [f"{counted.count(verdict)} {word}" for word, verdict in _kinds(counted).items()]
    count, of = f"{len(ROWS)} rows, {', '.join(words)}", f", commit {commit}" if commit else ""
    head = HEAD.format(command=COMMAND, date=date, machine=machine, count=count, commit=of)
    told = [_why(fault, found.get(fault.number)) for fault in ROWS]
    notes = "\n".join(line for line in told if line)
    injected = "\n".join(f"- **{fault}** {fault.name}: {fault.injected}." for fault in ROWS)
    return (
        f"{head}\n{table(found)}\n\n## What failed, was not run, or reaches less far than its name\n\n"
        f"{notes or 'Nothing.'}\n\n## How each is injected\n\n{injected}\n"
    )


def table(found: dict[int, dict[str, Any]], only_found: bool = False) -> str:
    """The table of all rows, or of those that have a result: then with why, which the page says below its table."""
    rows = [fault for fault in ROWS if fault.number in found or not only_found]
    lines = [TABLE, ["---"] * len(TABLE), *(_cells(fault, found.get(fault.number), only_found) for fault in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _kinds(counted: list[str]) -> dict[str, str]:
    return {
        word: verdict
        for word, verdict in (*VERDICTS.items(), ("not run", "not run"))
        if verdict in counted and word != "skipped"
    }


def _verdict(fault: Fault, line: dict[str, Any] | None) -> str:
    return VERDICTS[line["result"]] if line else "not run"


def _cells(fault: Fault, line: dict[str, Any] | None, with_why: bool = False) -> list[str]:
    said = line or {"figures": {}}
    verdict = _verdict(fault, line) + (f": {said['why']}" if with_why and said.get("why") else "")
    figures = ", ".join(f"{name}: {value}" for name, value in said["figures"].items())
    times = [_time(said, name) for name in ("noticed", "serving")]
    return [str(fault), fault.name, fault.holds, verdict, *times, figures]


def _time(said: dict[str, Any], name: str) -> str:
    """How long it took, and since what, where that is not the fault."""
    since = said.get("since", {}).get(name)
    return f"{_seconds(said[name])} after {since}" if since else _seconds(said.get(name))


def _seconds(value: float | None) -> str:
    """Three digits are more than a process table gives; below a tenth of a second they count."""
    if value is None:
        return ""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _why(fault: Fault, line: dict[str, Any] | None) -> str:
    """A line for a row that is not simply passed."""
    said = [fault.not_here] if line is None else [line["why"]]
    if line is None and not fault.not_here:
        said = ["the run ended before its turn"]
    words = "; ".join(part for part in (*said, fault.limits) if part)
    return f"- **{fault}** {fault.name}: {_verdict(fault, line)}. {words}." if words else ""


def machine(run: dict[str, Any]) -> str:
    """What figures depend on, as far as it can be asked; most of it as it was when the run began."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kernel = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if not run:
        return f"{cores} cores, {kernel}"
    load = ", ".join(f"{one:.2f}" for one in run["load"])
    made_of = f"{cores} cores ({run['cpu']}), {run['memory_mb'] / 1000:.1f} GB of memory, {kernel}"
    return f"{made_of}; by the user {run['user']}; load {load} at the start; it took {run['took'] / 60:.1f} minutes"


def main(results: str, file: str = "") -> None:
    found = read(Path(results))
    if not file:
        print(table(found, only_found=True))
        return
    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    run = began(Path(results))
    page = document(found, date, machine(run), run.get("commit", "")) + soak(Path(file).with_name("soak.md"))
    Path(file).write_text(page, encoding="utf-8")


def soak(file: Path) -> str:
    """What the last soak came to, as its own page has it; "" when none was written."""
    _, _, said = file.read_text(encoding="utf-8").partition(SOAK_BEGINS) if file.exists() else ("", "", "")
    if not said.lstrip().startswith("## "):
        return ""
    last = said.strip().replace("\n## ", "\n### ").replace("## ", "### ", 1)
    return f"\n## The soak\n\nRandom faults under load, by `./inv dev.soak`; see [soak.md](soak.md).\n\n{last}\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
