"""How a monitor or a guard is launched. Of its own, since the guard has to stay small.

Knows: their command line, environment and log. Must not know: when, why.
"""

from __future__ import annotations

import os
import sys

from ops.host import spawn
from ops.memory.watchpost import Watcher
from ops.model import Process


def argv(kind: Watcher, folder: str, inventory: str) -> list[str]:
    """The command line of the watcher of a state folder."""
    return [sys.executable, "-I", "-m", "ops.watch", kind, "--state", folder, "--inventory", inventory]


def log_of(folder: str) -> str:
    """Where monitor and guard write."""
    return os.path.join(folder, "logs", "monitor.log")


def launch(kind: Watcher, folder: str, inventory: str) -> Process:
    """Starts it in the background; SpawnError when that is not possible. It takes nothing of this environment but
    what a login has."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if os.environ.get(name)}
    start = spawn.Launch(argv(kind, folder, inventory), "/", kept, log_of(folder), os.path.join(folder, "quiet"))
    return spawn.spawn(start).process
