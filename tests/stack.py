"""A stack of its own for one test: a project folder, ports bound from 0, a state folder, and the real `inv`.

stack = Stack(tmp_path)                        # (or the `stack` fixture, which ends everything afterwards)
stack.service("api", fault=True)               # a bundled sample service, fault switches on
stack.write()                                  # inventory.yaml and tasks.py
done = stack.inv("start", "--json")            # a real process; done.code, done.document, done.out, done.err
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ops.host import process
from ops.model import Process
from tests.waiting import free_port, until

PYTHON = sys.executable
TINY = Path(__file__).parent / "tiny.py"  # a server that starts in milliseconds; see its first lines
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # pytest in the background of a script: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
TASKS = "from ops.commands import namespace\n\nns = namespace(__file__)\n"


@dataclass
class Done:
    """How one command ended."""

    args: list[str]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Its outcomes by service."""
        return {outcome["service"]: outcome for outcome in self.document["outcomes"]}

    @property
    def states(self) -> dict[str, str]:
        return {name: outcome["state"] for name, outcome in self.outcomes.items()}

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """The services of a `status` or `health` document."""
        return {one["name"]: one for one in self.document["hosts"]["localhost"]["services"]}

    def __str__(self) -> str:
        return f"inv {' '.join(self.args)}: exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


class Stack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir(parents=True)
        self.state = folder / "state"
        self.public = folder / "public"  # stands for /tmp: NAME.log, NAME.pid
        self.public.mkdir()
        self.home = folder / "home"
        self.home.mkdir()
        self.name = "t" + uuid.uuid4().hex[:10]
        self.services: dict[str, dict[str, Any]] = {}
        self.ops: dict[str, Any] = {"name": self.name, "interval": 2, "timeout": 2, "delay": 0.2, "attempts": 3}
        self.ops["monitor"] = False  # tests of the monitor say `stack.ops["monitor"] = True`, or start one
        self._started: list[subprocess.Popen[Any]] = []
        self.become: list[str] = []  # a command line before each `inv`: as another user, say
        self.env: dict[str, str] = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "OPS_STATE": str(self.state),
            "LANG": "C.UTF-8",
        }

    # -- what the inventory says ----------------------------------------------------------------------------

    def add(self, name: str, command: list[str] | str, **keys: Any) -> int:
        """A service with any command; a port bound from 0 unless `port` is given (None: a worker). Its port."""
        port = keys.pop("port", 0)
        if port == 0:
            taken = {service.get("port") for service in self.services.values()}
            port = next(found for found in iter(free_port, 0) if found not in taken)
        said = {"command": command, "cwd": ".", "grace": 2, "start_timeout": 10, "start_time": 1, **keys}
        said.setdefault("log", str(self.public / f"{name}.log"))
        said.setdefault("pid_file", str(self.public / f"{name}.pid"))
        if port is not None:
            said["port"] = port
        self.services[name] = said
        return int(port or 0)

    def service(self, name: str = "api", kind: str = "pg-api", *, fault: bool = False, **keys: Any) -> int:
        """A bundled sample service (pg-api answers /health with JSON); `fault` turns its fault switches on."""
        env = {**({"OPS_SAMPLE_FAULTS": "1"} if fault else {}), **keys.pop("env", {})}
        path = "/recon/health" if kind == "recon-api" else "/health"
        keys.setdefault("health", [{"http": path, "json": {"status": "healthy"}, "every": 1, "timeout": 1}])
        return self.add(name, ["{python}", "-m", "ops.sample", kind, "--port", "{port}"], env=env, **keys)

    def tiny(self, name: str = "api", *flags: str, **keys: Any) -> int:
        """A server that starts in some 20 ms; its flags are told in tests/tiny.py."""
        keys.setdefault("health", [{"http": "/", "every": 1, "timeout": 1}])
        return self.add(name, ["{python}", "-S", str(TINY), "{port}", *flags], **keys)

    def write(self) -> None:
        """Writes inventory.yaml and tasks.py."""
        said = {
            "all": {
                "vars": {"ops": self.ops, "services": self.services, "services_enabled": list(self.services)},
                "hosts": {"localhost": {"ansible_connection": "local"}},
            }
        }
        (self.folder / "inventory.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
        (self.folder / "tasks.py").write_text(TASKS)
        (self.folder / "invoke.json").write_text('{"tasks": {"dedupe": false}}')  # as the project has it

    # -- commands -------------------------------------------------------------------------------------------

    def popen(self, *args: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        """`inv ARGS` as a process of its own, not waited for."""
        pipe = subprocess.PIPE
        more = {"cwd": self.folder, "stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **more}
        command = [*self.become, PYTHON, "-m", "invoke", *args]
        child = subprocess.Popen(command, env={**self.env, **(env or {})}, text=True, **more)
        self._started.append(child)
        return child

    def inv(self, *args: str, env: Mapping[str, str] | None = None, within: float = 60.0, **more: Any) -> Done:
        """Runs `inv ARGS` to its end."""
        begun = time.monotonic()
        child = self.popen(*args, env=env, **more)
        out, err = child.communicate(timeout=within)
        return Done(list(args), child.returncode, out or "", err or "", time.monotonic() - begun)

    def ok(self, *args: str, **more: Any) -> Done:
        """Runs `inv ARGS`, which must exit 0."""
        done = self.inv(*args, **more)
        assert done.code == 0, str(done)
        return done

    # -- what there is ----------------------------------------------------------------------------------------

    def running(self, name: str | None = None) -> list[Process]:
        """Living processes that carry this stack's run marker (of one service, or of all)."""
        prefix = f"{self.name}/{name}/" if name else f"{self.name}/"
        return [one for one, _ in process.carrying("OPS_RUN", prefix)]

    def watchers(self) -> list[Process]:
        """The monitors and guards of this stack that live, whatever state folder they have."""
        words = f"--inventory\0{self.folder / 'inventory.yaml'}".encode()
        found = [pid for pid in process.pids() if words in _command_line(pid)]
        return [one for one in map(process.identify, found) if one is not None]

    def watcher(self, kind: str = "monitor") -> Process:
        """The one monitor or guard; AssertionError when there is none or more than one."""
        (one,) = [one for one in self.watchers() if f"\0{kind}\0--state\0".encode() in _command_line(one.pid)]
        return one

    def pid(self, name: str = "api") -> int:
        """The pid that `inv status` names; AssertionError when it is not running."""
        pid = self.inv("status", "--json").services[name]["pid"]
        assert pid, f"{name} is not running"
        return int(pid)

    def get(self, name: str, path: str = "/", within: float = 3.0) -> tuple[int, str]:
        """One GET to a service: status and body. OSError when nobody answers."""
        return self._request("GET", name, path, within)

    def fault(self, name: str, fault: str) -> None:
        """Turns a fault switch of a sample service on."""
        try:
            self._request("POST", name, f"/faults/{fault}", 3.0)
        except OSError:
            if fault not in ("exit0", "exit1", "hang"):
                raise

    def _request(self, method: str, name: str, path: str, within: float) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.services[name]['port']}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, method=method), timeout=within) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    # -- by hand ----------------------------------------------------------------------------------------------

    def spawn(self, argv: list[str], **more: Any) -> subprocess.Popen[Any]:
        """A process that the test starts itself, ended with the stack."""
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
        child = subprocess.Popen(argv, **more)
        self._started.append(child)
        return child

    def end(self) -> None:
        """Ends, by pid, all that this stack started, and waits until it is gone."""

        def none_left() -> bool:
            for one in [*self.watchers(), *self.running()]:
                for number in (signal.SIGKILL, signal.SIGCONT):
                    process.send(one, number)
            return not self.running() and not self.watchers()

        for child in self._started:
            if child.poll() is None:
                child.kill()
            child.wait(timeout=10)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        until(none_left, 15)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
