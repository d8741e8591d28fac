"""The runbook's own monitor, still running: two supervisors would fight, so it is noticed and named.

Knows: what it is called and how it is ended. Must not know: services. It is never ended by us: it is a stranger.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ops.host import process

_SCRIPTS = ("service-monitor.sh", "start-with-monitoring.sh")
_SHELLS = ("sh", "bash", "zsh", "dash", "ksh")
_WITH_VALUE = ("-o", "+o", "-O", "+O", "-c", "--rcfile", "--init-file")


@dataclass(frozen=True)
class Rival:
    """A process that supervises the same services by the runbook's script."""

    pid: int
    script: str

    @property
    def text(self) -> str:
        """What it is, and the line that ends it."""
        who = process.describe(self.pid)
        return f"the runbook's own {self.script} is running, {who}; two supervisors fight; end it: kill {self.pid}"


def rivals() -> list[Rival]:
    """Every running copy, the outermost first: one that restarts another has to be ended before it."""
    never = process.ancestors()
    found = [(pid, script_of(process.command_line(pid))) for pid in sorted(process.pids()) if pid not in never]
    by_start = [Rival(pid, script) for pid, script in found if script]
    return sorted(by_start, key=lambda rival: _SCRIPTS.index(rival.script), reverse=True)


def script_of(words: Sequence[str]) -> str:
    """The runbook's script that a command line runs, "" for any other; an editor or `tail` of it is no run."""
    if not words:
        return ""
    if os.path.basename(words[0]) in _SCRIPTS:
        return os.path.basename(words[0])
    if os.path.basename(words[0]).lstrip("-") not in _SHELLS:
        return ""
    script = os.path.basename(_first_operand(words[1:]))
    return script if script in _SCRIPTS else ""


def _first_operand(words: Sequence[str]) -> str:
    """The first word that is neither an option of a shell nor the value of one."""
    takes_value = False
    for word in words:
        if not takes_value and not word.startswith(("-", "+")):
            return word
        takes_value = word in _WITH_VALUE
    return ""
