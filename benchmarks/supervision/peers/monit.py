"""monit: no parent, it starts daemons, reads their pid files and asks their ports."""

from __future__ import annotations

from benchmarks.supervision.peers.base import Peer, debian_version
from benchmarks.supervision.workload import Service

_HEAD = """\
set daemon {interval:.0f}
set log {home}/monit.log
set pidfile {home}/monit.pid
set idfile {home}/monit.id
set statefile {home}/monit.state
set httpd unixsocket {home}/monit.sock allow localhost
"""
_SERVICE = """\
check process {name} with pidfile {pid_file}
  start program = "{start}"
  stop program = "/sbin/start-stop-daemon --stop --oknodo --pidfile {pid_file} --retry TERM/4/KILL/5"
  if failed host 127.0.0.1 port {port} protocol http request "/health" with timeout 2 seconds then restart
"""


class Monit(Peer):
    name = "monit"
    asks = True
    looks = 10.0
    rotates = False
    most = 100  # it starts some five a second

    @classmethod
    def version(cls) -> str | None:
        return debian_version("monit")

    def configure(self) -> None:
        text = _HEAD.format(interval=self.setting.interval or self.looks, home=self.home)
        for service in self.services:
            pid_file = self.home / f"{service.name}.pid"
            start = self._start(service, str(pid_file))
            text += _SERVICE.format(name=service.name, pid_file=pid_file, start=start, port=service.port)
        file = self.home / "monitrc"
        file.write_text(text)
        file.chmod(0o600)

    def _start(self, service: Service, pid_file: str) -> str:
        log = f"{self.logs(service)}/out.log"
        return " ".join([*service.argv(), "--daemonize", "--pidfile", pid_file, "--log", log])

    def up_argv(self) -> list[str]:
        return ["monit", "-c", str(self.home / "monitrc")]

    def down_argv(self) -> list[str]:
        return [*self.up_argv(), "quit"]

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return [*self.up_argv(), verb, service.name]

    def main_pid(self) -> int:
        return int((self.home / "monit.pid").read_text())
