"""pm2, as npm installs it; services in fork mode."""

from __future__ import annotations

import json

from benchmarks.supervision.peers.base import Peer, first_line
from benchmarks.supervision.workload import HOME

_PM2 = HOME / "pm2" / "bin" / "pm2"
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
            program, *words = service.argv()
            logs = self.logs(service)
            runs = {"script": program, "args": words, "interpreter": "none", "exec_mode": "fork"}
            apps.append({"name": service.name, "out_file": f"{logs}/out.log", "error_file": f"{logs}/err.log", **runs})
        (self.home / "apps.json").write_text(json.dumps({"apps": apps}))

    def up_argv(self) -> list[str]:
        return [str(_PM2), "start", str(self.home / "apps.json")]

    def down_argv(self) -> list[str]:
        return [str(_PM2), "kill"]
