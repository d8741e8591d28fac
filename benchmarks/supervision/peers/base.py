"""What every supervisor is measured through.

Knows: how one is started, ended and recognised. Must not know: what is measured, what a particular one is told.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.supervision import processes
from benchmarks.supervision.workload import Service, until, until_answer


@dataclass(frozen=True)
class Setting:
    """What a measurement asks of a supervisor, where it differs from what people get. Sizes in bytes, times in seconds.

    `rotate`: at which size captured output is rotated; `interval`: between two looks at a service's health, for all
    services alike; `eager`: restarts follow each other without pauses and without end; `group`: the whole
    process group is stopped, where there is a switch for that."""

    rotate: int = 0
    interval: float = 0.0
    eager: bool = False
    group: bool = False


class Peer:
    """One supervisor, told to keep these services in a folder of its own. `tag` must reach every process of it, in the
    environment (`env` has it, and the folder's name) or the arguments."""

    name = ""
    detaches = True  # its start command comes back with the supervisor in the background
    asks = False  # it asks services for their health by itself
    looks = 0.0  # seconds between its looks, when it notices a death by looking only
    rotates = True  # it rotates captured output by itself
    groups = False  # it has a switch for stopping the whole process group
    most = 1000  # more services than that it is not given

    def __init__(self, folder: Path, tag: str, services: Sequence[Service], setting: Setting) -> None:
        self.home = folder
        self.tag = tag
        self.services = list(services)
        self.setting = setting
        self.env = {**os.environ, "BENCHMARKS_TAG": tag}
        self._child: subprocess.Popen[bytes] | None = None
        self.configure()

    # -- each in its own way --------------------------------------------------------------------------------------

    @classmethod
    def version(cls) -> str | None:
        """Its version; None when it is not installed."""
        raise NotImplementedError

    def configure(self) -> None:
        """Writes its configuration into the folder. What `setting` does not name stays as people get it."""
        raise NotImplementedError

    def up_argv(self) -> list[str]:
        """Starts the supervisor and with it every service."""
        raise NotImplementedError

    def down_argv(self) -> list[str]:
        """Ends both."""
        raise NotImplementedError

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        """`start`, `stop` or `restart` of one service."""
        raise NotImplementedError

    def main_pid(self) -> int:
        """The one process whose death is the supervisor's death."""
        raise NotImplementedError

    # -- the same for all -----------------------------------------------------------------------------------------

    def up(self) -> None:
        """RuntimeError when the start command fails; the services may still be starting when it comes back."""
        with open(self.home / "up.log", "ab") as log:
            child = subprocess.Popen(
                self.up_argv(),
                env=self.env,
                cwd=self.folder(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if not self.detaches:
            self._child = child
        elif child.wait(timeout=900):
            said = (self.home / "up.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name}: its start command exited with {child.returncode}\n{said}")

    def down(self) -> None:
        """In its own way, and then by pid whatever is left."""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            self.run(self.down_argv())
            until(lambda: not processes.supervisors(self.tag), 3, 0.1)
        left = processes.sweep(self.tag)
        if self._child is not None and not left:
            self._child.wait(timeout=processes.ENDING)
            self._child = None
        if left:
            raise RuntimeError(f"{self.name}: still there: {left}")

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """One of its commands, to its end."""
        return subprocess.run(
            list(argv),
            env=self.env,
            cwd=self.folder(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def brought_back(self, service: Service, number: int = signal.SIGKILL, within: float = 60.0) -> float:
        """Seconds from signalling the process that answers for a service until another one does. Silent when none does
        within that time."""
        pid = service.pid()
        begun = time.perf_counter()
        os.kill(pid, number)
        until_answer(service.port, within, but=pid)
        return time.perf_counter() - begun

    def kill_main(self) -> None:
        """SIGKILL to the supervisor's main process, and it is gone."""
        pid = self.main_pid()
        if pid not in processes.supervisors(self.tag):
            raise RuntimeError(f"{self.name}: its main process on record, pid {pid}, is none of this run")
        os.kill(pid, signal.SIGKILL)
        if self._child is not None and self._child.pid == pid:
            self._child.wait(timeout=processes.ENDING)
        until(lambda: pid not in processes.supervisors(self.tag), processes.ENDING)

    def folder(self) -> Path:
        """Where its commands are typed."""
        return self.home

    def logs(self, service: Service) -> Path:
        """The folder where the output of one service is captured."""
        folder = self.home / "logs" / service.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def captured(self, service: Service) -> list[Path]:
        """The files of that output, rotated ones included."""
        folder = self.logs(service)
        return [file for file in folder.iterdir() if file.is_file() and file.name not in ("config", "lock", "state")]


def content(file: Path) -> bytes:
    """What is in a log, packed or not."""
    data = file.read_bytes()
    return gzip.decompress(data) if file.suffix == ".gz" else data


def first_line(argv: Sequence[str]) -> str:
    """The first line that a command prints; "" when it cannot be run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else ""


def debian_version(package: str) -> str | None:
    return first_line(["dpkg-query", "-W", "-f", "${Version}\n", package]) or None
