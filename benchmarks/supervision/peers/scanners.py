"""runit and s6, the two daemontools descendants: a scanner, a small helper per service, another per log."""

from __future__ import annotations

import shlex
from pathlib import Path

from benchmarks.supervision.peers.base import Peer, debian_version
from benchmarks.supervision.workload import Service

_LOG_SIZE = 1_000_000
_KEPT = 1000


class _Scanner(Peer):
    detaches = False

    def logger(self, service: Service) -> str:
        """The command that writes the service's log."""
        raise NotImplementedError

    def of(self, service: Service) -> Path:
        return self.home / "sv" / service.name

    def main_pid(self) -> int:
        return self._child.pid if self._child else 0

    def configure(self) -> None:
        for service in self.services:
            folder = self.of(service)
            _script(folder / "run", f"exec 2>&1\nexec {shlex.join(service.argv())}")
            _script(folder / "log" / "run", f"exec {self.logger(service)}")


class Runit(_Scanner):
    name = "runit"

    @classmethod
    def version(cls) -> str | None:
        return debian_version("runit")

    def logger(self, service: Service) -> str:
        folder, size = self.logs(service), self.setting.rotate
        (folder / "config").write_text(f"s{size or _LOG_SIZE}\nn{_KEPT if size else 10}\n")
        return f"svlogd {folder}"

    def up_argv(self) -> list[str]:
        return ["runsvdir", "-P", str(self.home / "sv")]

    def down_argv(self) -> list[str]:
        return ["kill", "-HUP", str(self._child.pid)] if self._child else ["true"]

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return ["sv", "-w", "30", verb, str(self.of(service))]


class S6(_Scanner):
    name = "s6"

    @classmethod
    def version(cls) -> str | None:
        return debian_version("s6")

    def logger(self, service: Service) -> str:
        size = self.setting.rotate
        return f"s6-log -b n{_KEPT if size else 10} s{size or _LOG_SIZE} {self.logs(service)}"

    def up_argv(self) -> list[str]:
        return ["s6-svscan", "-c", str(max(500, 2 * len(self.services) + 10)), str(self.home / "sv")]

    def down_argv(self) -> list[str]:
        return ["s6-svscanctl", "-t", str(self.home / "sv")]

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        how = {"start": ["-wu", "-u"], "stop": ["-wD", "-d"], "restart": ["-wr", "-r"]}[verb]
        return ["s6-svc", "-T30000", *how, str(self.of(service))]


def _script(file: Path, body: str) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
