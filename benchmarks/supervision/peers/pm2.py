"""pm2, as npm installs it; services in fork mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.supervision.peers.base import Peer, first_line
from benchmarks.supervision.processes import of_service
from benchmarks.supervision.workload import HOME, Service

_PM2 = HOME / "pm2" / "bin" / "pm2"
_NODE_SERVICE = Path(__file__).parents[1] / "svc.js"
_PACKAGE = HOME / "pm2" / "lib" / "node_modules" / "pm2" / "package.json"


class Pm2(Peer):
    name = "pm2"
    rotates = False

    @classmethod
    def version(cls) -> str | None:
        """Read from its package: any pm2 command, even `pm2 -v`, starts a daemon."""
        if not _PACKAGE.exists() or not first_line(["node", "--version"]):
            return None
        return str(json.loads(_PACKAGE.read_text())["version"])

    def configure(self) -> None:
        self.env["PM2_HOME"] = str(self.home / "pm2")
        apps = []
        for service in self.services:
            logs = self.logs(service)
            said = {"name": service.name, "out_file": f"{logs}/out.log", "error_file": f"{logs}/err.log"}
            apps.append({**said, **self._runs(service)})
        (self.home / "apps.json").write_text(json.dumps({"apps": apps}))

    def _runs(self, service: Service) -> dict[str, Any]:
        program, *words = service.argv()
        return {"script": program, "args": words, "interpreter": "none", "exec_mode": "fork"}

    def up_argv(self) -> list[str]:
        return [str(_PM2), "start", str(self.home / "apps.json")]

    def down_argv(self) -> list[str]:
        return [str(_PM2), "kill"]

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return [str(_PM2), verb, service.name]

    def main_pid(self) -> int:
        return int((self.home / "pm2" / "pm2.pid").read_text())


class Pm2Cluster(Pm2):
    """A service in Node, two workers that share its port: the only way in which pm2 can `reload` one."""

    name = "pm2-cluster"

    def _runs(self, service: Service) -> dict[str, Any]:
        words = ["--port", str(service.port), "--tag", of_service(self.tag)]
        return {"script": str(_NODE_SERVICE), "args": words, "exec_mode": "cluster", "instances": 2}
