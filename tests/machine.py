"""A machine of its own for one test, with a real systemd and this checkout on it; see lab/machine.sh.

machine = Machine(folder)                          # up, with the user `ops`, whose project it is
machine.install(services)                          # the checkout, and an inventory of these services
done = machine.inv("start", "--json")              # as ops; done.code, done.document, done.out, done.err
machine.power_cut()                                # every process ends at once, and it boots on the same disk
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.stack import Done
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tests" / "lab" / "machine.sh"
PROJECT = "/srv/stack"
VENV = Path(sys.prefix)
LABEL = "com.settlepaisa.servicemonitor"
_NEEDED = ("unshare", "nsenter", "setpriv", "loginctl", "dbus-daemon", "ip")


def obstacle() -> str:
    """Why there can be no such machine here; "" when there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux can make a machine"
    lacking = [name for name in _NEEDED if shutil.which(name) is None]
    lacking += [] if os.path.exists("/lib/systemd/systemd") else ["/lib/systemd/systemd"]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


class Machine:
    """Up once it is made; `down()` leaves nothing of it."""

    python = sys.executable  # what a test runs inside by hand

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "ops"
        self.project = PROJECT
        self._run("up", f"{VENV}={PROJECT}/.venv")
        self._run("adduser", self.user)
        self._let_python_be_run()
        # Its disk begins as this machine's, where root may have a stack of the same name. It goes from its disk alone.
        self.root("rm", "-rf", "/root/.local/state", "/root/.config/systemd")

    def _let_python_be_run(self) -> None:
        """The Python of the venv may lie in somebody's home; on this machine's disk everybody may pass through it."""
        python = Path(sys.base_prefix)
        for place in (python, *python.parents):
            self.root("chmod", "o+x", str(place))

    # -- running something ------------------------------------------------------------------------------------

    def _run(self, verb: str, *words: str, within: float = 120.0, **more: Any) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(SCRIPT), verb, str(self.folder), *words]
        more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(command, capture_output=True, timeout=within, text=True, **more)
        if verb not in ("exec", "as"):
            assert done.returncode == 0, f"machine.sh {verb}: {done.stdout}{done.stderr}"
        return done

    def root(self, *words: str, **more: Any) -> str:
        """What a command of root says, which must succeed."""
        done = self._run("exec", *words, **more)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def shell(self, text: str, user: str = "ops") -> subprocess.CompletedProcess[str]:
        """Runs a line of a shell, in the project's folder."""
        return self._run("as", user, "sh", "-c", f"cd {self.project} && {text}")

    def inv(self, *args: str, user: str = "ops", env: Mapping[str, str] | None = None, root: bool = False) -> Done:
        """Runs `inv ARGS` to its end: as the user, or as root (with `env`: as sudo has it)."""
        begun = time.monotonic()
        given = [f"{key}={value}" for key, value in (env or {}).items()]
        command = ["env", f"--chdir={self.project}", *given, f"{PROJECT}/.venv/bin/python", "-m", "invoke", *args]
        done = self._run("exec", *command) if root else self._run("as", user, *command)
        return Done(list(args), done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def ok(self, *args: str, **more: Any) -> Done:
        """Runs `inv ARGS`, which must exit 0."""
        done = self.inv(*args, **more)
        assert done.code == 0, str(done)
        return done

    def systemctl(self, *words: str, system: bool = False) -> str:
        """What systemctl says, of the user's manager or (`system`) the machine's."""
        if system:
            return self._run("exec", "systemctl", *words).stdout.strip()
        runtime = f"XDG_RUNTIME_DIR=/run/user/{self.uid}"
        return self._run("as", self.user, "env", runtime, "systemctl", "--user", *words).stdout.strip()

    def shown(self, *properties: str, system: bool = False) -> dict[str, str]:
        """Properties of the monitor's unit."""
        said = self.systemctl("show", "-p", ",".join(properties), f"{LABEL}.service", system=system)
        return dict(line.split("=", 1) for line in said.splitlines())

    @property
    def uid(self) -> int:
        return int(self.root("id", "-u", self.user))

    # -- what is on it ------------------------------------------------------------------------------------------

    def install(self, services: Mapping[str, Any], ops: Mapping[str, Any] | None = None, owner: str = "ops") -> None:
        """This checkout, as the project of a user, with an inventory of these services."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in ("ops", "tasks.py", "invoke.json", "pyproject.toml", "launchd", "tests/tiny.py"):
                archive.add(ROOT / name, name, filter=lambda info: None if "__pycache__" in info.name else info)
        command = ["bash", str(SCRIPT), "exec", str(self.folder), "tar", "-x", "-C", PROJECT, "-f", "-"]
        subprocess.run(command, input=packed.getvalue(), check=True, timeout=60)
        self.write(services, ops, owner)

    def write(self, services: Mapping[str, Any], ops: Mapping[str, Any] | None = None, owner: str = "ops") -> None:
        """Its inventory."""
        said = {
            "all": {
                "vars": {
                    "ops": {"name": "settlepaisa", "interval": 2, **(ops or {})},
                    "services": dict(services),
                    "services_enabled": list(services),
                },
                "hosts": {"localhost": {"ansible_connection": "local"}},
            }
        }
        self.root("tee", f"{PROJECT}/inventory.yaml", input=yaml.safe_dump(said, sort_keys=False), stdin=None)
        self.root("sh", "-c", f"chown {owner}: {PROJECT} && find {PROJECT} -xdev -exec chown {owner}: {{}} +")

    def pids(self) -> dict[str, int | None]:
        """The pid of each service, by `inv status`."""
        return {name: one["pid"] for name, one in self.inv("status", "--json").services.items()}

    def monitor(self) -> int:
        """The pid of the monitor; 0 when there is none."""
        said = self.inv("status", "--json").document["hosts"]["localhost"]["monitor"]
        return int(said["pid"] or 0) if said["state"] == "up" else 0

    def healthy(self) -> bool:
        return self.inv("health", "--json").code == 0

    def answers(self, port: int) -> bool:
        """Whether somebody answers there."""
        code = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/', timeout=2)"
        return self._run("exec", self.python, "-S", "-c", code).returncode == 0

    # -- its end ------------------------------------------------------------------------------------------------

    def power_cut(self) -> None:
        """Every process ends at once; it boots on the same disk."""
        self._run("reboot")
        self._await_manager()

    def reboot(self) -> None:
        """As `reboot` does it: services are told, and have their time."""
        self._run("reboot", "clean")
        self._await_manager()

    def _await_manager(self) -> None:
        runtime = f"/run/user/{self.uid}/systemd/private"
        if self._run("exec", "test", "-e", f"/var/lib/systemd/linger/{self.user}").returncode == 0:
            until(lambda: self._run("exec", "test", "-S", runtime).returncode == 0)

    def down(self) -> None:
        self._run("down")


def tiny(port: int, *flags: str, **keys: Any) -> dict[str, Any]:
    """A service that starts in some 20 ms."""
    command: Sequence[str] = ["{python}", "-S", "tests/tiny.py", "{port}", *flags]
    health = [{"http": "/", "every": 1, "timeout": 1}]
    return {"command": command, "cwd": ".", "port": port, "grace": 2, "start_time": 1, "health": health, **keys}


def stack_of(*names: str) -> dict[str, Any]:
    """Such services on the ports of the runbook; each needs the one before it."""
    made: dict[str, Any] = {}
    for port, name in zip(range(5101, 5199), names, strict=False):
        made[name] = tiny(port, needs=list(made)[-1:])
    return made
