"""The same health checks on many hosts, by each tool in the way that is quickest for it.

Knows: what each tool is typed like, its configuration. Must not know: clocks, bars.

Each of them asks, from the host itself, five services for their `/health` and fails unless all answer 200. This toolkit
also compares the body, which is what its inventory says.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.lab import INV, SERVICES, USER, Lab, Sshd
from benchmarks.supervision.peers.base import first_line
from benchmarks.supervision.workload import HOME

FORKS = 50
_BIN = Path(sys.executable).parent
_PYINFRA = HOME / "pyinfra" / "bin" / "pyinfra"
_ANSIBLE = """\
[defaults]
inventory = {folder}/hosts.ini
forks = {forks}
home = {folder}/ansible
local_tmp = {folder}/ansible/tmp
[ssh_connection]
ssh_args = -F {ssh}/config -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {folder}/ansible/cp
pipelining = {pipelining}
"""
_PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.uri:
        url: "http://127.0.0.1:{{ item }}/health"
      loop: "{{ ports }}"
"""


class Failed(RuntimeError):
    """A tool that did not end well."""


@dataclass(frozen=True)
class Tool:
    """One way to ask."""

    name: str
    ask: Callable[[Sequence[Sshd]], None]
    slow: bool = False  # it takes minutes, so it is tried on one number of hosts alone


def run(lab: Lab, argv: Sequence[str | Path], folder: Path | None = None, **more: str) -> str:
    """What a command prints; Failed when it does not exit 0."""
    env = {**lab.env, **more}
    null = subprocess.DEVNULL
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd=folder or lab.folder, env=env, stdin=null, capture_output=True)
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")[-1500:]
        raise Failed(f"{argv[0]}: exit {done.returncode}\n{said}")
    return done.stdout.decode(errors="replace")


def versions() -> dict[str, str]:
    """Those that are here, and their versions; "" for one that is not."""
    ansible = first_line([str(_BIN / "ansible"), "--version"]) if (_BIN / "ansible").exists() else ""
    pyinfra = first_line([str(_PYINFRA), "--version"]) if _PYINFRA.exists() else ""
    openssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
    curl = " ".join(first_line(["curl", "--version"]).split()[:2])
    return {"ansible": ansible, "pyinfra": pyinfra, "openssh": openssh, "curl": curl}


def all_of(lab: Lab) -> list[Tool]:
    """Those that are installed, this toolkit first."""
    here = versions()
    found = [Tool("inv health", lambda hosts: _ours(lab, hosts))]
    if here["curl"]:
        found.append(Tool("ssh and curl", lambda hosts: _openssh(lab, hosts)))
        found.append(Tool("ssh and curl, masters open", lambda hosts: _openssh(lab, hosts, *_master(lab))))
        if here["pyinfra"]:
            found.append(Tool("pyinfra and curl", lambda hosts: _pyinfra(lab, hosts)))
    if here["ansible"]:
        found += _ansible(lab)
    return found


def _ours(lab: Lab, hosts: Sequence[Sshd]) -> None:
    inventory = str(lab.inventory(len(hosts)))
    run(lab, [INV, "health", "--limit", "h*", "--forks", str(FORKS)], lab.project, OPS_INVENTORY=inventory)


def curl(host: Sshd) -> list[str]:
    """All five at once, in one process."""
    outputs = [word for url in host.urls for word in ("-o", "/dev/null", url)]
    return ["curl", "-fsSZ", "--fail-early", *outputs]


# -- plain ssh(1), one client for each host ------------------------------------------------------------------------


def _openssh(lab: Lab, hosts: Sequence[Sshd], *more: str) -> None:
    def ask(host: Sshd) -> None:
        run(lab, ["ssh", "-F", lab.ssh / "config", *more, host.name, shlex.join(curl(host))])

    with ThreadPoolExecutor(FORKS) as pool:
        list(pool.map(ask, hosts))


def _master(lab: Lab) -> list[str]:
    """The first round, which does not count, opens them."""
    (lab.folder / "cp").mkdir(exist_ok=True)
    return ["-o", f"ControlPath={lab.folder}/cp/%n", "-o", "ControlMaster=auto", "-o", "ControlPersist=600"]


def close_masters(lab: Lab) -> None:
    """Those of ssh and of ansible."""
    for place in [*(lab.folder / "cp").glob("*"), *(lab.folder / "ansible" / "cp").glob("*")]:
        with contextlib.suppress(Failed):
            run(lab, ["ssh", "-F", lab.ssh / "config", "-o", f"ControlPath={place}", "-O", "exit", "h1"])
        place.unlink(missing_ok=True)


# -- ansible -------------------------------------------------------------------------------------------------------


def _ansible(lab: Lab) -> list[Tool]:
    (lab.folder / "ansible" / "cp").mkdir(parents=True, exist_ok=True)
    places = {"folder": lab.folder, "ssh": lab.ssh, "forks": FORKS}
    (lab.folder / "plain.cfg").write_text(_ANSIBLE.format(pipelining="false", **places))
    (lab.folder / "piped.cfg").write_text(_ANSIBLE.format(pipelining="true", **places))
    (lab.folder / "play.yaml").write_text(_PLAY)
    return [
        Tool("ansible -m uri, 5 times", lambda hosts: _ad_hoc(lab, hosts), slow=True),
        Tool("ansible playbook, a loop", lambda hosts: _play(lab, hosts, "plain.cfg"), slow=True),
        Tool("ansible playbook, pipelining", lambda hosts: _play(lab, hosts, "piped.cfg"), slow=True),
    ]


def _hosts_for_ansible(lab: Lab, hosts: Sequence[Sshd]) -> None:
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    lines = []
    for host in hosts:
        ports = [service.port for service in host.services]
        each = " ".join(f"port{number}={port}" for number, port in enumerate(ports))
        lines.append(f"{host.name} ansible_python_interpreter={python} {each} ports='{ports}'\n")
    (lab.folder / "hosts.ini").write_text("[all]\n" + "".join(lines))


def _ad_hoc(lab: Lab, hosts: Sequence[Sshd]) -> None:
    _hosts_for_ansible(lab, hosts)
    for number in range(SERVICES):
        asked = f"url=http://127.0.0.1:{{{{ port{number} }}}}/health"
        run(lab, [_BIN / "ansible", "all", "-m", "uri", "-a", asked], ANSIBLE_CONFIG=str(lab.folder / "plain.cfg"))


def _play(lab: Lab, hosts: Sequence[Sshd], config: str) -> None:
    _hosts_for_ansible(lab, hosts)
    run(lab, [_BIN / "ansible-playbook", lab.folder / "play.yaml"], ANSIBLE_CONFIG=str(lab.folder / config))


# -- pyinfra -------------------------------------------------------------------------------------------------------


def _pyinfra(lab: Lab, hosts: Sequence[Sshd]) -> None:
    """A deploy of one operation, since each host has ports of its own."""
    told = {"ssh_user": USER, "ssh_key": str(lab.ssh / "key"), "ssh_config_file": str(lab.ssh / "config")}
    told["ssh_known_hosts_file"] = str(lab.ssh / "known_hosts")
    named = [(host.name, {"ssh_port": host.port, "asked": shlex.join(curl(host))}) for host in hosts]
    (lab.folder / "hosts.py").write_text(f"hosts = ({named!r}, {told!r})\n")
    deploy = "from pyinfra import host\nfrom pyinfra.operations import server\n\n"
    (lab.folder / "deploy.py").write_text(f"{deploy}server.shell(commands=[host.data.asked])\n")
    run(lab, [_PYINFRA, "-y", "--parallel", str(FORKS), "hosts.py", "deploy.py"])
