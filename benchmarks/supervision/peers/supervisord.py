"""supervisord, as pip installs it."""

from __future__ import annotations

from benchmarks.supervision.peers.base import Peer, first_line
from benchmarks.supervision.workload import HOME, Service

_BIN = HOME / "supervisord" / "bin"
_HEAD = """\
[unix_http_server]
file={home}/s.sock
[supervisord]
logfile={home}/supervisord.log
pidfile={home}/supervisord.pid
childlogdir={home}
minfds=10000
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{home}/s.sock
"""
_SERVICE = """\
[program:{name}]
command={command}
redirect_stderr=true
stdout_logfile={logs}/out.log
"""


class Supervisord(Peer):
    name = "supervisord"
    groups = True

    @classmethod
    def version(cls) -> str | None:
        return first_line([str(_BIN / "supervisord"), "--version"]) or None

    def configure(self) -> None:
        text = _HEAD.format(home=self.home)
        for service in self.services:
            command = " ".join(service.argv())
            text += _SERVICE.format(name=service.name, command=command, logs=self.logs(service))
            if self.setting.rotate:
                text += f"stdout_logfile_maxbytes={self.setting.rotate}\nstdout_logfile_backups=1000\n"
            if self.setting.group:
                text += "stopasgroup=true\nkillasgroup=true\n"
        (self.home / "s.conf").write_text(text)

    def up_argv(self) -> list[str]:
        return [str(_BIN / "supervisord"), "-c", str(self.home / "s.conf")]

    def down_argv(self) -> list[str]:
        return self._ctl("shutdown")

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return self._ctl(verb, service.name)

    def main_pid(self) -> int:
        return int((self.home / "supervisord.pid").read_text())

    def _ctl(self, *words: str) -> list[str]:
        return [str(_BIN / "supervisorctl"), "-c", str(self.home / "s.conf"), *words]
