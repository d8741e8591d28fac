"""The ground of a soak: the shipped sample stack on other ports, in a folder and with a state folder of its own.

Knows: the shipped inventory, what of it a soak has to change, the disk that can be filled. Must not know: faults,
figures.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ops.host import process
from ops.model import Process
from tests.stack import Stack
from tests.waiting import free_port, until

SHIPPED = Path(__file__).resolve().parents[2] / "inventory.yaml"
SERVICES = ("recon-api", "frontend", "overview-api", "pg-api", "bank-api")
LOG_SIZE = 64 << 10  # bytes; a log of that size is rotated
DISK = 48 << 20  # bytes of the disk that holds the state folder and recon-api's jobs, where one may be mounted,
GROWS = 16 << 10  # and for every second of the soak: twice what its jobs need
# Faults come faster here than in life: what a service has endured is forgiven sooner, so that none is given up for it.
HASTE: dict[str, Any] = {"delay": 1, "attempts": 20, "calm": 15, "retry_max": 5, "log_size": LOG_SIZE}


class Ground(Stack):
    """The sample stack. `disk`: the folder of a small disk that holds the state folder and the jobs of recon-api; None
    where none can be had."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        super().__init__(folder)
        self.disk = _disk(folder / "disk", DISK + int(seconds * GROWS))
        self.state = (self.disk or folder) / "state"
        self.env["OPS_STATE"] = str(self.state)
        self.diary = folder / "diary"
        shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["all"]["vars"]
        self.ops = {**shipped["ops"], **HASTE, "name": self.name, "alerts_log": str(self.public / "alerts.log")}
        ports = {name: free_port() for name in SERVICES}
        env = {f"{name.upper().replace('-', '_')}_URL": f"http://127.0.0.1:{ports[name]}" for name in SERVICES}
        env["OPS_SAMPLE_DATA"] = str((self.disk or folder) / "data")
        for name in SERVICES:
            public = {"log": str(self.public / f"{name}.log"), "pid_file": str(self.public / f"{name}.pid")}
            self.services[name] = {**shipped["services"][name], **public, "port": ports[name], "env": env}
        self.write()

    def port(self, name: str) -> int:
        return int(self.services[name]["port"])

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    def at_home(self) -> list[Process]:
        """Living processes that have the stack's HOME: whatever a command or a service of it has started."""
        return [one for one, value in process.carrying("HOME", str(self.home)) if value == str(self.home)]

    def end(self) -> None:
        """Ends all that was started, and lets go of the disk."""
        super().end()
        until(self._nobody_at_home, 15)
        if self.disk:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)
            self.disk = None

    def _nobody_at_home(self) -> bool:
        for one in self.at_home():
            process.send(one, signal.SIGKILL)
        return not self.at_home()


def _disk(folder: Path, size: int) -> Path | None:
    """A disk that is small and of this process' own mount namespace: it goes with the last process that sees it."""
    if not os.environ.get(OWN_MOUNTS):
        return None
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True)
    return None if done.returncode else folder


OWN_MOUNTS = "SOAK_OWN_MOUNTS"  # in the environment: this process has been given mounts of its own


def give_own_mounts(argv: list[str]) -> None:
    """Becomes this very command again, with mounts of its own; does nothing where that is not allowed."""
    if os.environ.get(OWN_MOUNTS) or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    way = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*way, "true"], capture_output=True).returncode == 0:
        os.execvpe(way[0], [*way, *argv], {**os.environ, OWN_MOUNTS: "1"})
