"""A stack of a user without rights, while the test is root: who is not allowed what, and limits that root has not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.model import Process
from tests.scene import NOBODY
from tests.stack import TINY, Stack

two_users = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, and setpriv (util-linux)"
)


class Theirs(Stack):
    """A stack of a user without rights, in a folder that every user can read; the test is root's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # To read all files is allowed: this Python may lie in a folder of root's. It is no right to see whose
        # descriptors are what, nor to signal anybody.
        reading = [f"--{which}-caps=-all,+dac_read_search" for which in ("inh", "ambient")]
        bounds = ["--bounding-set=-all,+dac_read_search"]
        self.become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading, *bounds]

    def tiny(self, name: str = "api", *flags: str, **keys: Any) -> int:
        """By a Python that everybody may run."""
        program = str(shutil.which("python3", path="/usr/bin:/bin"))
        keys.setdefault("health", [{"http": "/", "every": 1, "timeout": 1}])
        return self.add(name, [program, "-S", str(TINY), "{port}", *flags], **keys)

    def write(self) -> None:
        super().write()
        for path in [self.folder.parent, *self.folder.parent.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def limited(self, pid: int, **limits: str) -> None:
        """Sets limits (RESOURCE="SOFT:HARD") of one of their processes. root of a container may not, its user may."""
        said = [f"--{name}={value}" for name, value in limits.items()]
        subprocess.run([*self.become, "prlimit", "--pid", str(pid), *said], check=True)

    def running(self, name: str | None = None) -> list[Process]:
        prefix = f"OPS_RUN={self.name}/{name}/" if name else f"OPS_RUN={self.name}/"
        found = [pid for pid in process.pids() if f"\0{prefix}".encode() in b"\0" + _environment(pid)]
        return [one for one in map(process.identify, found) if one is not None]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def theirs() -> Iterator[Theirs]:
    folder = Path(tempfile.mkdtemp(prefix="ops-faults-"))  # pytest's own folders are closed to others
    made = Theirs(folder)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)
