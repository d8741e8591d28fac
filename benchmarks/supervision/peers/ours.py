"""This toolkit: a project of its own, the real `inv`, and the monitor and guard that `inv start` leaves behind.

What it is told is what is shipped: the first service has the probe of recon-api (every 2 s, timeout 2 s), the others
that of the remaining services (every 10 s, timeout 5 s), two of five are critical, all have grace 4 and start_time 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from benchmarks.supervision import processes
from benchmarks.supervision.peers.base import Peer
from benchmarks.supervision.workload import Service, until
from ops import inventory
from ops.fleet import reach
from ops.memory.files import read_json

INV = str(Path(sys.executable).parent / "inv")  # the console script of the environment that runs this
_TASKS = "from ops.commands import namespace\n\nns = namespace(__file__)\n"


class Ours(Peer):
    name = "ours"
    asks = True

    @classmethod
    def version(cls) -> str | None:
        try:
            return metadata.version("settlepaisa-ops")
        except metadata.PackageNotFoundError:
            return None

    def configure(self) -> None:
        self.state = self.home / "state"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "OPS_STATE": str(self.state),
            "BENCHMARKS_TAG": self.tag,
        }
        self.folder().mkdir()
        services = {service.name: self._said(place, service) for place, service in enumerate(self.services)}
        said = {
            "all": {
                "vars": {"ops": self._rules(), "services": services, "services_enabled": list(services)},
                "hosts": {"localhost": {"ansible_connection": "local"}},
            }
        }
        (self.folder() / "inventory.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
        (self.folder() / "tasks.py").write_text(_TASKS)
        (self.folder() / "invoke.json").write_text('{"tasks": {"dedupe": false}}')

    def _rules(self) -> dict[str, Any]:
        rules: dict[str, Any] = {"name": "b" + self.tag.replace(".", "")}
        if self.setting.rotate:
            rules |= {"log_size": self.setting.rotate, "log_keep": 100}
        if self.setting.eager:
            rules |= {"attempts": 1_000_000, "delay": 0}
        return rules

    def _said(self, place: int, service: Service) -> dict[str, Any]:
        every = self.setting.interval or (2 if place == 0 else 10)
        probe = {"http": "/health", "json": {"status": "healthy"}, "every": every, "timeout": min(every, 5)}
        times = {"grace": 4, "start_time": 2}
        critical = is_critical(place)
        return {"command": service.argv(), "port": service.port, "critical": critical, "health": [probe], **times}

    def folder(self) -> Path:
        return self.home / "project"

    def up_argv(self) -> list[str]:
        return [INV, "start"]

    def up(self) -> None:
        """RuntimeError when no monitor and guard came with it: nothing measured would mean anything."""
        super().up()
        if until(self._watched, 10) is None:
            raise RuntimeError(f"ours: no monitor and guard after `inv start`, but {self.watchers()}")

    def _watched(self) -> bool:
        return set(self.watchers()) <= set(processes.supervisors(self.tag))

    def down_argv(self) -> list[str]:
        return [INV, "stop"]

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return [INV, "restart-one", service.name] if verb == "restart" else [INV, verb, "--only", service.name]

    def main_pid(self) -> int:
        return self.watchers()[0]

    def captured(self, service: Service) -> list[Path]:
        return [file for file in (self.state / "logs").glob(f"{service.name}.log*") if file.is_file()]

    # -- what only this one is asked ------------------------------------------------------------------------------

    def watchers(self) -> tuple[int, int]:
        """The pids of monitor and guard, as they signed on; 0 for one that did not."""
        monitor, guard = (read_json(str(self.state / f"{watcher}.json")) for watcher in ("monitor", "guard"))
        return _pid(monitor.get("process")), _pid(guard.get("process"))

    def heartbeat(self) -> int:
        """Changes with every heartbeat of the monitor."""
        try:
            return os.stat(self.state / "monitor.lock").st_mtime_ns
        except OSError:
            return 0

    def status(self) -> dict[str, Any]:
        """What `inv status` says of this host."""
        done = self.run([INV, "status", "--json"])
        found: dict[str, Any] = json.loads(done.stdout)["hosts"]["localhost"]
        return found

    def pids(self) -> dict[str, int]:
        """The process of each service, by its record."""
        return {service.name: self.recorded(service) for service in self.services}

    def recorded(self, service: Service) -> int:
        """The process that the toolkit has on record for a service; 0 when it has none."""
        return _pid(read_json(str(self.state / "services" / f"{service.name}.json")).get("process"))

    def worst_case(self) -> float:
        """Seconds until the first service serves again whatever happens to it, as `inv check-inventory` computes it."""
        host = reach.here(inventory.load(self.folder() / "inventory.yaml"))
        return float(host.services[0].worst_case() or 0)


def is_critical(place: int) -> bool:
    """Whether the service at that place is critical."""
    return place % 5 < 2


def _pid(process: Mapping[str, Any] | None) -> int:
    return int(process["pid"]) if process else 0
