"""The ground of a soak: the shipped sample stack on other ports, in a folder and with a state folder of its own.

Knows: the shipped inventory, what of it a soak has to change, the disk that can be filled. Must not know: faults,
figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.stack import Stack
from tests.waiting import free_port

SHIPPED = Path(__file__).resolve().parents[2] / "inventory.yaml"
SERVICES = ("recon-api", "frontend", "overview-api", "pg-api", "bank-api")
LOG_SIZE = 64 << 10  # bytes; a log of that size is rotated
DISK = "size=48m,mode=755"  # of the state folder, where one may be mounted
# Faults come faster here than in life: what a service has endured is forgiven sooner, so that none is given up for it.
HASTE: dict[str, Any] = {"delay": 1, "attempts": 20, "calm": 15, "retry_max": 5, "log_size": LOG_SIZE}


class Ground(Stack):
    """The sample stack. `disk`: the folder of a small disk that holds the state folder; None where none can be had."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.disk = _disk(folder / "disk")
        self.state = (self.disk or folder) / "state"
        self.env["OPS_STATE"] = str(self.state)
        self.diary = folder / "diary"
        shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["all"]["vars"]
        self.ops = {**shipped["ops"], **HASTE, "name": self.name, "alerts_log": str(self.public / "alerts.log")}
        ports = {name: free_port() for name in SERVICES}
        env = {f"{name.upper().replace('-', '_')}_URL": f"http://127.0.0.1:{ports[name]}" for name in SERVICES}
        env["OPS_SAMPLE_DATA"] = str(folder / "data")
        for name in SERVICES:
            public = {"log": str(self.public / f"{name}.log"), "pid_file": str(self.public / f"{name}.pid")}
            self.services[name] = {**shipped["services"][name], **public, "port": ports[name], "env": env}
        self.write()

    def port(self, name: str) -> int:
        return int(self.services[name]["port"])

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    def end(self) -> None:
        """Ends all that was started, and lets go of the disk."""
        super().end()
        if self.disk:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)
            self.disk = None


def _disk(folder: Path) -> Path | None:
    """A disk that is small and of this process' own mount namespace: it goes with the last process that sees it."""
    if not os.environ.get(OWN_MOUNTS):
        return None
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)], capture_output=True)
    return None if done.returncode else folder


OWN_MOUNTS = "SOAK_OWN_MOUNTS"  # in the environment: this process has been given mounts of its own


def give_own_mounts(argv: list[str]) -> None:
    """Becomes this very command again, with mounts of its own; does nothing where that is not allowed."""
    if os.environ.get(OWN_MOUNTS) or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    way = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*way, "true"], capture_output=True).returncode == 0:
        os.execvpe(way[0], [*way, *argv], {**os.environ, OWN_MOUNTS: "1"})
