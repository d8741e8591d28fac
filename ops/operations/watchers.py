"""How a monitor or a guard is launched. Of its own, since the guard has to stay small.

Knows: their command line, environment and log. Must not know: when, why.
"""

from __future__ import annotations

import os
import sys

from ops.host import spawn
from ops.memory.watchpost import Watcher
from ops.model import Process

_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "watch", "__main__.py")


def argv(kind: Watcher, folder: str, inventory: str) -> list[str]:
    """The command line of the watcher of a state folder. By its path: where `ops` was found in the folder that a
    command was typed in, and is installed nowhere, `-m` would not find it."""
    return [sys.executable, "-I", _PROGRAM, kind, "--state", folder, "--inventory", inventory]


def log_of(folder: str) -> str:
    """Where monitor and guard write."""
    return os.path.join(folder, "logs", "monitor.log")


def launch(kind: Watcher, folder: str, inventory: str) -> Process:
    """Starts it in the background; SpawnError when that is not possible. It takes nothing of this environment but
    what a login has."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if os.environ.get(name)}
    start = spawn.Launch(argv(kind, folder, inventory), "/", kept, log_of(folder), os.path.join(folder, "quiet"))
    return spawn.spawn(start).process
