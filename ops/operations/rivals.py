"""The runbook's own monitor, still running: two supervisors would fight, so it is noticed and named.

Knows: what it is called, how launchd is told of it, how it is ended. Must not know: services. It is never ended by
us: it is a stranger.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from typing import Any

from ops.frozen import frozen
from ops.host import process

_LARGEST_PLIST = 64 * 1024  # bytes
_SCRIPTS = ("service-monitor.sh", "start-with-monitoring.sh")
_SHELLS = ("sh", "bash", "zsh", "dash", "ksh")
_WITH_VALUE = ("-o", "+o", "-O", "+O", "-c", "--rcfile", "--init-file")


@frozen
class Rival:
    """A process that supervises the same services by the runbook's script."""

    pid: int
    script: str

    @property
    def text(self) -> str:
        """What it is, and the line that ends it."""
        who = process.describe(self.pid)
        return f"the runbook's own {self.script} is running, {who}; two supervisors fight; end it: kill {self.pid}"


@frozen
class Agent:
    """A LaunchAgent that starts the runbook's script at login, and again whenever it ends."""

    label: str
    script: str
    path: str

    @property
    def text(self) -> str:
        """What it is, and the line that ends it."""
        who = f"the LaunchAgent {self.path} runs the runbook's own {self.script}"
        return f"{who}; two supervisors fight; end it: launchctl bootout gui/$(id -u)/{shlex.quote(self.label)}"


def rivals() -> list[Agent | Rival]:
    """Whoever brings another back comes before it: LaunchAgents first."""
    return [*agents(os.path.expanduser("~/Library/LaunchAgents")), *running()]


def agents(folder: str) -> list[Agent]:
    """The LaunchAgents of this folder that run one of the runbook's scripts. (macOS; not run on a Mac.)"""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".plist"))
    except OSError:
        return []
    found = [_agent(os.path.join(folder, name)) for name in names]
    return [agent for agent in found if agent]


def _agent(path: str) -> Agent | None:
    said = _plist(path)
    words = said.get("ProgramArguments")
    words = [said.get("Program"), *(words if isinstance(words, list) else [])]
    for script in _SCRIPTS:
        if any(isinstance(word, str) and script in word for word in words):
            label = said.get("Label")
            return Agent(label if isinstance(label, str) else os.path.basename(path)[: -len(".plist")], script, path)
    return None


def _plist(path: str) -> dict[str, Any]:
    """What a property list says; {} when it is none, or no small regular file."""
    import plistlib
    from xml.parsers.expat import ExpatError

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return {}
        with open(path, "rb") as file:
            said = plistlib.loads(file.read(_LARGEST_PLIST))
    except (OSError, ValueError, ExpatError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def running() -> list[Rival]:
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
