"""Several remote hosts for one test: machines with a real systemd and a real sshd each, in a network of their own.

with Fleet(tmp_path, 3) as fleet:                    # h1, h2, h3 are up, with the user `ops`
    fleet.write({"all": {"vars": ..., "hosts": fleet.hosts()}})  # the project on the client
    done = fleet.inv("health", "--limit", "all")     # on the client, whose HOME has .ssh/config, known_hosts and a key
    fleet["h2"].power_off()

The client is a process here, in the network namespace of the fleet: run it with `run`, `popen` or `inv`. The machines
have this machine's files, but neither this checkout nor its venv: what they know of the toolkit was brought to them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests import machine
from tests.machine import PROJECT, ROOT, VENV, Machine
from tests.stack import PYTHON, TASKS, Done
from tests.waiting import until

CLIENT = "10.77.0.1"  # on the bridge; h1 is 10.77.0.11. Every fleet has these: each is alone in its network
PYTHON_THERE = "/usr/bin/python3"  # every user of a machine may run it
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_NEEDED = ("/usr/sbin/sshd", PYTHON_THERE)
_ASK_PYTHON = "import sys, venv; sys.exit(sys.version_info < (3, 10))"
_BRIDGE, _VOID = (
    "br0",
    "void",
)  # the other one is never up: what is plugged in there keeps its carrier and reaches nobody

SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin {root}
MaxStartups 200:30:400
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""
SSHD_UNIT = """\
[Unit]
Description=OpenSSH server
After=network.target systemd-user-sessions.service

[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D
KillMode=process
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
"""


def obstacle() -> str:
    """Why there can be no fleet here; "" when there can."""
    lacking = [path for path in _NEEDED if not os.path.exists(path)]
    lacking += [name for name in ("ssh", "ssh-keygen", "ss") if shutil.which(name) is None]
    if machine.obstacle() or lacking:
        return machine.obstacle() or f"not installed: {', '.join(lacking)}"
    fit = subprocess.run([PYTHON_THERE, "-c", _ASK_PYTHON], capture_output=True).returncode == 0
    return "" if fit else f"{PYTHON_THERE} is older than 3.10, or has no venv module"


class Host(Machine):
    """One remote host: an address on the fleet's network, and sshd under its systemd."""

    python = PYTHON_THERE

    def __init__(self, name: str, folder: Path, network: str, address: str) -> None:
        self.name, self.folder, self.network, self.address = name, folder, network, address
        self.user, self.project = "ops", PROJECT
        self.port = f"v{address.rpartition('.')[2]}"  # of the bridge; machine.sh names it

    def boot(self, hosts: str, authorized: str, *, linger: bool, root_login: bool) -> None:
        """Up for the first time: sshd answers, and `ops` and its project's empty folder are there."""
        self._lay(hosts, authorized, root_login)
        self._run("plug", self.network, self.address)
        hidden = [Path("/root"), ROOT, *([] if VENV.is_relative_to(ROOT) else [VENV])]
        self._run("up", *(f"-{folder}" for folder in hidden))
        self._run("adduser", self.user, *([] if linger else ["nolinger"]))
        self.root("install", "-d", "-o", self.user, "-g", self.user, self.project)

    def _lay(self, hosts: str, authorized: str, root_login: bool) -> None:
        """What is on its disk before it boots."""
        disk = self.folder / "first"
        units = disk / "etc/systemd/system"
        (units / "multi-user.target.wants").mkdir(parents=True)
        (units / "ssh.service").write_text(SSHD_UNIT)
        (units / "multi-user.target.wants/ssh.service").symlink_to("/etc/systemd/system/ssh.service")
        (disk / "etc/hostname").write_text(f"{self.name}\n")
        (disk / "etc/hosts").write_text(hosts)
        (disk / "etc/ssh").mkdir()
        root = "prohibit-password" if root_login else "no"
        (disk / "etc/ssh/sshd_config").write_text(SSHD_CONFIG.format(root=root))
        make_key(disk / "etc/ssh/ssh_host_ed25519_key", self.name)
        for home in ["etc/skel", *(["root"] if root_login else [])]:
            (disk / home).mkdir(mode=0o700 if home == "root" else 0o755)
            (disk / home / ".ssh").mkdir(mode=0o700)
            (disk / home / ".ssh/authorized_keys").write_text(authorized)

    @property
    def host_key(self) -> str:
        """What known_hosts has of it: its type and key."""
        return " ".join((self.folder / "first/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])

    def _run(self, verb: str, *words: str, within: float = 120.0, **more: Any) -> subprocess.CompletedProcess[str]:
        """Without this process's environment: no PYTHONPATH and no shims reach the machine."""
        return super()._run(verb, *words, within=within, **{"env": CLEAN, **more})

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file of the user's; the folders that are missing are made, and are the user's too."""
        script = f'for d; do test -d "$d" || install -d -o {self.user} -g {self.user} "$d"; done; '
        script += f'cat >"$0" && chown {self.user}: "$0" && chmod {mode:o} "$0"'
        above = [str(folder) for folder in reversed(PurePosixPath(path).parents)]
        command = ["bash", str(machine.SCRIPT), "exec", str(self.folder), "sh", "-ec", script, path, *above]
        subprocess.run(command, input=content, env=CLEAN, check=True, timeout=60)

    # -- what may happen to a host --------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Everything on it ends at once, and nobody is told: its address answers no more."""
        self._run("off")

    def power_on(self) -> None:
        """Boots on the same disk, and has the same address and key."""
        self._run("on")
        self._await_manager()

    def drop_packets(self) -> None:
        """Packets to it and from it vanish, as in a firewall that drops: no reset, no "no route to host"."""
        self._ip("neighbour", "replace", self.address, "lladdr", mac(self.address), "dev", _BRIDGE, "nud", "permanent")
        self._ip("link", "set", self.port, "master", _VOID)

    def accept_packets(self) -> None:
        """Packets pass again; what was sent meanwhile is sent again, as TCP does."""
        self._ip("link", "set", self.port, "master", _BRIDGE)
        self._ip("neighbour", "replace", self.address, "lladdr", mac(self.address), "dev", _BRIDGE, "nud", "stale")

    def cut_connections(self) -> int:
        """Every connection to its sshd is reset, at both ends; how many there were."""
        return len(self.root("ss", "-HKtn", "state", "established", "sport", "=", ":22").splitlines())

    def connections(self) -> int:
        """How many connections to its sshd there are."""
        return len(self.root("ss", "-Htn", "state", "established", "sport", "=", ":22").splitlines())

    def _ip(self, *words: str) -> None:
        ip("-n", self.network, *words)


class Fleet:
    """`count` hosts h1, h2, …, up once it is made; `down()` leaves nothing of them.

    `linger=False`: the manager of `ops` ends with its last session. `root_login`: the client's key is root's, too.
    `name`: of the network namespace; by default nobody else's.
    """

    def __init__(
        self, folder: Path, count: int, *, linger: bool = True, root_login: bool = False, name: str = ""
    ) -> None:
        self.folder = folder
        self.name = name or f"ops-fleet-{uuid.uuid4().hex[:8]}"
        self.project = folder / "project"
        self.home = folder / "home"
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        names = [f"h{number}" for number in range(1, count + 1)]
        self.machines = {
            one: Host(one, folder / f"{self.name}-{one}", self.name, f"10.77.0.{10 + number}")
            for number, one in enumerate(names, 1)
        }
        try:
            self._make_client()
            self._make_network()
            hosts, key = self._hosts_file(), (self.home / ".ssh/id_ed25519.pub").read_text()
            self._each(lambda host: host.boot(hosts, key, linger=linger, root_login=root_login))
            self._let_client_know()
        except BaseException:
            self.down()
            raise

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def __getitem__(self, name: str) -> Host:
        return self.machines[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self.machines.values())

    # -- making it --------------------------------------------------------------------------------------------------

    def _each(self, deed: Callable[[Host], object]) -> None:
        """Side by side; the first error is raised when all have ended."""
        with ThreadPoolExecutor(max(1, len(self.machines))) as pool:
            for coming in [pool.submit(deed, host) for host in self]:
                coming.result()

    def _make_client(self) -> None:
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.project.mkdir()
        make_key(self.home / ".ssh/id_ed25519", "client")

    def _make_network(self) -> None:
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "add", _VOID, "type", "bridge")
        # A MAC of its own: by itself it takes one of its ports', and another when that one leaves.
        ip("-n", self.name, "link", "add", _BRIDGE, "address", mac(CLIENT), "type", "bridge")
        ip("-n", self.name, "address", "add", f"{CLIENT}/24", "dev", _BRIDGE)
        ip("-n", self.name, "link", "set", _BRIDGE, "up")

    def _hosts_file(self) -> str:
        known = {"localhost": "127.0.0.1", "client": CLIENT, **{host.name: host.address for host in self}}
        return "".join(f"{address} {name}\n" for name, address in known.items())

    def _let_client_know(self) -> None:
        """Absolute paths, because OpenSSH takes `~` from the password file and not from HOME."""
        ssh = self.home / ".ssh"
        known = [f"{host.name},{host.address} {host.host_key}\n" for host in self]
        (ssh / "known_hosts").write_text("".join(known))
        said = [f"Host {host.name}\n    HostName {host.address}\n" for host in self]
        said.append(
            f"Host *\n    User ops\n    IdentityFile {ssh}/id_ed25519\n    IdentitiesOnly yes\n"
            f"    UserKnownHostsFile {ssh}/known_hosts\n    StrictHostKeyChecking yes\n"
        )
        (ssh / "config").write_text("".join(said))

    # -- the project on the client ------------------------------------------------------------------------------------

    def hosts(self, **keys: Any) -> dict[str, dict[str, Any]]:
        """The hosts as an inventory has them, with these vars each."""
        return {host.name: {"ansible_host": host.address, "ansible_user": host.user, **keys} for host in self}

    def write(self, inventory: Mapping[str, Any]) -> None:
        """Writes inventory.yaml, tasks.py and invoke.json."""
        (self.project / "inventory.yaml").write_text(yaml.safe_dump(dict(inventory), sort_keys=False))
        (self.project / "tasks.py").write_text(TASKS)
        (self.project / "invoke.json").write_text('{"tasks": {"dedupe": false}}')

    # -- running something on the client ------------------------------------------------------------------------------

    def popen(self, *argv: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        """A command where the hosts can be reached, not waited for; its pid is the command's own."""
        pipe = subprocess.PIPE
        more = {"cwd": self.project, "stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **more}
        command = ["nsenter", f"--net=/run/netns/{self.name}", *argv]
        return subprocess.Popen(command, env={**self.env, **(env or {})}, text=True, **more)

    def run(self, *argv: str, within: float = 60.0, **more: Any) -> Done:
        """The same, to its end; it is killed when it takes longer than `within` seconds."""
        begun = time.monotonic()
        with self.popen(*argv, **more) as child:
            try:
                out, err = child.communicate(timeout=within)
            except BaseException:
                child.kill()
                raise
        return Done(list(argv), child.returncode, out or "", err or "", time.monotonic() - begun)

    def inv(self, *args: str, **more: Any) -> Done:
        """Runs `inv ARGS` in the project to its end."""
        return replace(self.run(PYTHON, "-m", "invoke", *args, **more), args=list(args))

    def ok(self, *args: str, **more: Any) -> Done:
        """Runs `inv ARGS`, which must exit 0."""
        done = self.inv(*args, **more)
        assert done.code == 0, str(done)
        return done

    def ssh(self, *args: str, **more: Any) -> Done:
        """Runs OpenSSH's own client: `ssh("h1", "true")`."""
        return self.run("ssh", "-F", f"{self.home}/.ssh/config", "-o", "BatchMode=yes", *args, **more)

    def processes(self) -> list[int]:
        """The pids on the client's side that live."""
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    # -- its end ------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Ends the hosts, and whatever runs in the network; a second time does nothing."""
        try:
            self._each(Machine.down)
        finally:
            if os.path.exists(f"/run/netns/{self.name}"):
                until(self._nobody_left, 10)
                ip("netns", "delete", self.name)

    def _nobody_left(self) -> bool:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not self.processes()


def ip(*words: str) -> str:
    """What iproute2 says, which must succeed."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def mac(address: str) -> str:
    """The MAC that machine.sh gives to whoever has this address."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def make_key(path: Path, comment: str) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=30)
