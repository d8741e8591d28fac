"""circus, as pip installs it."""

from __future__ import annotations

from benchmarks.supervision.peers.base import Peer, first_line
from benchmarks.supervision.workload import HOME, Service

_BIN = HOME / "circus" / "bin"
_HEAD = """\
[circus]
endpoint = ipc://{home}/e
pubsub_endpoint = ipc://{home}/p
statsd = False
"""
_SERVICE = """\
[watcher:{name}]
cmd = {command}
copy_env = True
stdout_stream.class = FileStream
stdout_stream.filename = {logs}/out.log
stderr_stream.class = FileStream
stderr_stream.filename = {logs}/err.log
"""


class Circus(Peer):
    name = "circus"
    looks = 5.0  # its check_delay
    groups = True

    @classmethod
    def version(cls) -> str | None:
        return first_line([str(_BIN / "circusd"), "--version"]) or None

    def configure(self) -> None:
        text = _HEAD.format(home=self.home)
        for service in self.services:
            command = " ".join(service.argv())
            text += _SERVICE.format(name=service.name, command=command, logs=self.logs(service))
            if self.setting.rotate:
                text += f"stdout_stream.max_bytes = {self.setting.rotate}\nstdout_stream.backup_count = 1000\n"
            if self.setting.group:
                text += "stop_children = True\n"
        (self.home / "c.ini").write_text(text)

    def up_argv(self) -> list[str]:
        own_log = ["--pidfile", str(self.home / "c.pid"), "--log-output", str(self.home / "circus.log")]
        return [str(_BIN / "circusd"), "--daemon", *own_log, str(self.home / "c.ini")]

    def down_argv(self) -> list[str]:
        return self._ctl("quit", "--waiting")

    def verb_argv(self, verb: str, service: Service) -> list[str]:
        return self._ctl(verb, service.name, "--waiting")

    def main_pid(self) -> int:
        return int((self.home / "c.pid").read_text())

    def _ctl(self, *words: str) -> list[str]:
        return [str(_BIN / "circusctl"), "--endpoint", f"ipc://{self.home}/e", "--timeout", "60", *words]
