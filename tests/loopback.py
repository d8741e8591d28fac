"""Hosts on loopback with a stack each: real sshd, a HOME for each, services on ports bound from 0, and the real `inv`.

fleet = Loopback(folder, 3)                  # h1, h2, h3 (or the `fleet` fixture of a test file)
fleet.tiny_everywhere("api", "web")          # the same services on each host, each on ports of its own
fleet.write()
fleet.ok("bootstrap", "--limit", "all")
fleet.inv("health", "--limit", "h1", "--json").document
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from ops.host import process
from ops.model import Process
from tests.sshd import SshHosts
from tests.stack import TINY, Stack, _command_line
from tests.waiting import free_port


class Loopback(Stack):
    """A project whose inventory names hosts that are reached by SSH. Its own machine has no services."""

    def __init__(self, folder: Path, count: int, settings: str = "") -> None:
        super().__init__(folder)
        self.hosts = SshHosts(folder / "ssh", count, settings)
        self.env["HOME"] = str(self.hosts.home)
        self.here: dict[str, dict[str, Any]] = {}
        self.there: dict[str, dict[str, Any]] = {name: {} for name in self.hosts.hosts}
        self.variables: dict[str, dict[str, Any]] = {name: {} for name in self.hosts.hosts}
        self.groups: dict[str, Any] = {}

    def root(self, host: str) -> Path:
        """Where the services of a host lie."""
        return self.hosts[host].folder / "root"

    def state_of(self, host: str) -> Path:
        """The state folder of its stack."""
        return self.hosts[host].home / ".local/state" / self.name

    def toolkit_of(self, host: str) -> Path:
        """What `bootstrap` puts there."""
        return self.hosts[host].home / ".local/share/settlepaisa-ops" / self.name

    def tiny_on(self, host: str, name: str, *flags: str, **keys: Any) -> int:
        """A server that starts in some 20 ms, on one host; its port."""
        taken = {service.get("port") for services in self.there.values() for service in services.values()}
        port = next(found for found in iter(free_port, 0) if found not in taken)
        keys.setdefault("health", [{"http": "/", "every": 1, "timeout": 1}])
        command = ["{python}", "-S", str(TINY), "{port}", *flags]
        said = {"command": command, "cwd": ".", "port": port, "grace": 2, "start_timeout": 10, "start_time": 1, **keys}
        said.setdefault("log", str(self.public / f"{host}-{name}.log"))
        said.setdefault("pid_file", str(self.public / f"{host}-{name}.pid"))
        self.there[host][name] = said
        self.root(host).mkdir(exist_ok=True)
        return port

    def tiny_everywhere(self, *names: str, **keys: Any) -> None:
        for host in self.there:
            for name in names:
                self.tiny_on(host, name, **keys)

    def write(self) -> None:
        """Writes inventory.yaml and tasks.py."""
        hosts: dict[str, Any] = {"localhost": {"ansible_connection": "local", "services_enabled": []}}
        for name, services in self.there.items():
            own = {"ops_root": str(self.root(name)), "services": services, "services_enabled": list(services)}
            hosts[name] = {**self.hosts.variables(name), **own, **self.variables[name]}
        known = {name: one for services in self.there.values() for name, one in services.items()}
        said = {"vars": {"ops": self.ops, "services": known}, "hosts": hosts}
        said |= {"children": self.groups} if self.groups else {}
        super().write()
        (self.folder / "inventory.yaml").write_text(yaml.safe_dump({"all": said}, sort_keys=False))

    def watchers(self) -> list[Process]:
        """The monitors and guards on any of the hosts."""
        inside = os.fsencode(self.hosts.folder)
        found = [pid for pid in process.pids() if b"ops/watch/__main__.py" in _command_line(pid)]
        mine = [pid for pid in found if inside in _command_line(pid)]
        return [one for one in map(process.identify, mine) if one is not None]

    def agents(self, host: str) -> list[psutil.Process]:
        """The agents that run on a host now."""
        home = str(self.hosts[host].home)
        return [one for one in psutil.process_iter() if _is_agent(one, home)]

    def pids(self, host: str) -> dict[str, int | None]:
        """The pid of each service of a host, by `inv status`."""
        said = self.inv("status", "--limit", host, "--json").document["hosts"][host]["services"]
        return {one["name"]: one["pid"] for one in said}

    def end(self) -> None:
        try:
            self.hosts.down()
        finally:
            super().end()


@contextmanager
def made_ready(folder: Path, define: Callable[[Loopback], None]) -> Iterator[Loopback]:
    """Three hosts with the toolkit and the services that `define` gives them; all of it ended afterwards."""
    made = Loopback(folder, 3)
    try:
        define(made)
        made.write()
        made.ok("bootstrap", "--limit", "h*")
        yield made
    finally:
        made.end()


def _is_agent(one: psutil.Process, home: str) -> bool:
    try:
        words = one.cmdline()
        return "ops.fleet.agent" in words and words[0].startswith(home)
    except psutil.Error:
        return False


def states(outcomes: list[dict[str, Any]], host: str) -> dict[str, str]:
    """By service of a host: the state of its outcome."""
    return {one["service"]: one["state"] for one in outcomes if one["host"] == host}
