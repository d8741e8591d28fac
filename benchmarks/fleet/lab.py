"""Hosts on loopback: a real sshd for each, with a host key, a port, a HOME and five services of its own.

Knows: sshd, keys, what a client's ssh_config and the inventories say, how everything is ended. Must not know: what is
measured, which tools are compared.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.supervision import processes
from benchmarks.supervision.workload import Service, until

INV = str(Path(sys.executable).parent / "inv")  # the console script of the environment that runs this
USER = pwd.getpwuid(os.getuid()).pw_name
SERVICES = 5  # on each host
_TASKS = "from ops.commands import namespace\n\nns = namespace(__file__)\n"
_PLACES = ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd")

# SHLVL=2: else Debian's bash reads ~/.bashrc for every command that comes by ssh, whoever sends it.
_SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 500
MaxSessions 100
UseDNS no
PrintMotd no
PrintLastLog no
LogLevel ERROR
SetEnv HOME={home} SHLVL=2
Subsystem sftp internal-sftp
"""
_CLIENT = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {ssh}/key
  IdentitiesOnly yes
  UserKnownHostsFile {ssh}/known_hosts
  StrictHostKeyChecking yes
  BatchMode yes

"""


@dataclass
class Sshd:
    """One host."""

    name: str
    folder: Path
    port: int
    services: list[Service] = field(default_factory=list)
    child: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{service.port}/health" for service in self.services]

    def up(self, client_key: Path) -> None:
        """RuntimeError when it does not come up."""
        self.home.mkdir(parents=True)
        make_key(self.folder / "host_key")
        (self.folder / "authorized_keys").write_text(public(client_key) + "\n")
        config = self.folder / "sshd_config"
        config.write_text(_SSHD.format(port=self.port, folder=self.folder, home=self.home))
        null = subprocess.DEVNULL
        command = [*apart(), daemon(), "-D", "-f", str(config), "-E", str(self.folder / "log")]
        self.child = child = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
        pid = self.folder / "pid"  # written once it listens
        until(lambda: child.poll() is not None or (pid.exists() and pid.read_text().strip() != ""), 20)
        if child.poll() is not None or not pid.exists():
            raise RuntimeError(f"{self.name}: sshd does not start: {(self.folder / 'log').read_text()}")

    def down(self) -> None:
        """Ends it and its sessions, by pid."""
        if self.child is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self.child.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self.child.send_signal(signal.SIGKILL)
        self.child.wait(10)
        self.child = None


class Lab:
    """Hosts that are up, a client that knows them, and a project with an inventory for each of the counts."""

    def __init__(self, folder: Path, counts: Sequence[int], tag: str, ports: Iterator[int]) -> None:
        self.folder, self.tag, self.counts = folder, tag, counts
        self.home = folder / "client"
        self.ssh = self.home / ".ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.project = folder / "project"
        self.project.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8"}
        self.env |= {"OPS_STATE": str(folder / "state"), "BENCHMARKS_TAG": tag}
        key = make_key(self.ssh / "key")
        self.hosts = [Sshd(f"h{number}", folder / f"h{number}", next(ports)) for number in range(1, max(counts) + 1)]
        for host in self.hosts:
            host.services = [Service(f"s{number}", next(ports), tag) for number in range(SERVICES)]
        try:
            for host in self.hosts:
                host.up(key)
        except BaseException:
            self.down()
            raise
        self._write()

    def _write(self) -> None:
        places = [{"name": host.name, "port": host.port} for host in self.hosts]
        (self.ssh / "config").write_text("".join(_CLIENT.format(user=USER, ssh=self.ssh, **one) for one in places))
        known = (f"[127.0.0.1]:{host.port} {public(host.folder / 'host_key')}\n" for host in self.hosts)
        (self.ssh / "known_hosts").write_text("".join(known))
        (self.project / "tasks.py").write_text(_TASKS)
        (self.project / "invoke.json").write_text('{"tasks": {"dedupe": false}}')
        (self.folder / "empty").mkdir()
        (self.folder / "empty" / "tasks.py").write_text("")
        for count in self.counts:
            self.inventory(count).write_text(yaml.safe_dump(self._said(self.hosts[:count]), sort_keys=False))

    def inventory(self, count: int) -> Path:
        """That of the first `count` hosts."""
        return self.project / f"{count}.yaml"

    def _said(self, hosts: Sequence[Sshd]) -> dict[str, Any]:
        """No monitor: fifty of them on one machine would be all that is measured."""
        own = {host.name: self._of(host) for host in hosts}
        known = {name: one for said in own.values() for name, one in said["services"].items()}
        rules = {"name": "b" + self.tag.replace(".", ""), "monitor": False}
        here = {"localhost": {"ansible_connection": "local", "services_enabled": []}}
        return {"all": {"vars": {"ops": rules, "services": known}, "hosts": {**here, **own}}}

    def _of(self, host: Sshd) -> dict[str, Any]:
        probe = {"http": "/health", "json": {"status": "healthy"}, "every": 10, "timeout": 5}
        services = {
            one.name: {"command": one.argv(), "port": one.port, "health": [probe], "grace": 4, "start_time": 2}
            for one in host.services
        }
        return {"ops_root": str(host.home), "services": services, "services_enabled": list(services)}

    def down(self) -> None:
        """Ends everything, by pid."""
        for host in self.hosts:
            host.down()
        processes.sweep(self.tag)


@contextlib.contextmanager
def made(folder: Path, counts: Sequence[int], tag: str, ports: Iterator[int]) -> Iterator[Lab]:
    """The lab, with the toolkit on each host and its services up."""
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd locks its unprivileged half in
    lab = Lab(folder, counts, tag, ports)
    try:
        for words in (("bootstrap", "--forks", "2"), ("start", "--serial", "10")):
            task, *flags = words
            done = subprocess.run(
                [INV, task, "--limit", "h*", *flags, "--json"],
                cwd=lab.project,
                env={**lab.env, "OPS_INVENTORY": str(lab.inventory(max(counts)))},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"inv {' '.join(words)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr}")
        yield lab
    finally:
        lab.down()
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def apart() -> tuple[str, ...]:
    """What gives a host a process table of its own, as hosts have; nothing where that is not allowed. Else each agent
    looks through the processes of all hosts, and fifty of them at fifty times as many as there would be."""
    words = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    try:
        done = subprocess.run([*words, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    except OSError:
        return ()
    return () if done.returncode else words


def daemon() -> str:
    """sshd wants to be called by its whole path; "" when there is none."""
    return next((place for place in (shutil.which("sshd"), *_PLACES) if place and os.path.exists(place)), "")


def make_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    return path


def public(path: Path) -> str:
    """`ssh-ed25519 AAAA...`: the public half of a key, without its comment."""
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])
