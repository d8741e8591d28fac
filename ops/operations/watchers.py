"""How a monitor or a guard is launched. Of its own, since the guard has to stay small.

Knows: their command line, environment and log. Must not know: when, why.
"""

from __future__ import annotations

import contextlib
import os
import sys

from ops.host import installation, spawn
from ops.memory.watchpost import Watcher
from ops.model import Process

_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "watch", "__main__.py")


def argv(kind: Watcher, folder: str, inventory: str, under: str = "") -> list[str]:
    """The command line of the watcher of a state folder. By its path: where `ops` was found in the folder that a
    command was typed in, and is installed nowhere, `-m` would not find it. `under`: the init system that keeps it, or
    `waiting` for one that waits until the monitor before it is gone."""
    kept = ["--under", under] if under else []
    python, program = sys.executable, _PROGRAM
    if under in ("systemd", "launchd"):  # told once, and to be right also after the next release
        python, program = installation.lasting(python), installation.lasting(program)
    return [python, "-I", program, kind, "--state", folder, "--inventory", inventory, *kept]


def log_of(folder: str) -> str:
    """Where monitor and guard write."""
    return os.path.join(folder, "logs", "monitor.log")


def launch(kind: Watcher, folder: str, inventory: str, under: str = "") -> Process:
    """Starts it in the background; SpawnError when that is not possible. It takes nothing of this environment but
    what a login has."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if os.environ.get(name)}
    start = spawn.Launch(argv(kind, folder, inventory, under), "/", kept, log_of(folder), os.path.join(folder, "quiet"))
    return spawn.spawn(start).process


def follow_log(folder: str) -> None:
    """Has this process's own output (the words of a crash, say) go on into the log of watchers after a rotation has
    renamed it. Output that goes elsewhere is left alone; two looks at files while nothing has changed."""
    log = log_of(folder)
    with contextlib.suppress(OSError):
        now = os.stat(log, follow_symlinks=False)
        behind = [fd for fd in (1, 2) if not os.path.samestat(os.fstat(fd), now)]
        before = os.stat(f"{log}.1", follow_symlinks=False) if behind else now
        for descriptor in behind:
            if os.path.samestat(os.fstat(descriptor), before):
                fresh = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
                os.dup2(fresh, descriptor)
                os.close(fresh)
