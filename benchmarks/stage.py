"""A stack of trivial services in a folder of its own, and the commands that are timed on it.

Knows: projects, inventories, the real `inv`, how everything is ended again. Must not know: what is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import yaml

from ops.host import process

INV = str(Path(sys.executable).parent / "inv")  # the console script of the environment that runs this
SERVER = str(Path(__file__).parent / "server.py")
TASKS = "from ops.commands import namespace\n\nns = namespace()\n"
ENDING = 20.0  # seconds in which everything must be gone


class Stage:
    """A service on each of these ports, and a project for them; `end()` leaves nothing behind."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.name = "bench" + uuid.uuid4().hex[:8]
        self.ports = ports
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "OPS_STATE": str(folder / "state"),
        }
        (folder / "tasks.py").write_text(TASKS)
        self._write("inventory.yaml", "/")
        self._write("slow.yaml", "/slow")
        self._write("unwatched.yaml", "/", monitor=False)

    def _write(self, name: str, path: str, *, monitor: bool = True) -> None:
        health = [{"http": path, "every": 10, "timeout": 5}]
        services = {
            f"s{number}": {
                "command": ["{python}", "-S", SERVER, "{port}"],
                "port": port,
                "health": health,
                "log": str(self.folder / f"s{number}.log"),
            }
            for number, port in enumerate(self.ports)
        }
        said = {
            "all": {
                "vars": {
                    "ops": {"name": self.name, "monitor": monitor},
                    "services": services,
                    "services_enabled": list(services),
                },
                "hosts": {"localhost": {"ansible_connection": "local"}},
            }
        }
        (self.folder / name).write_text(yaml.safe_dump(said, sort_keys=False))

    def inv(self, *words: str, inventory: str = "inventory.yaml", code: int = 0) -> float:
        """Seconds that `inv WORDS` takes; RuntimeError when it does not end with `code`."""
        env = {**self.env, "OPS_INVENTORY": str(self.folder / inventory)}
        return timed([INV, *words], self.folder, env, code)

    def bare_loop(self) -> float:
        """Seconds that the same services take when spawned by a loop and waited for. They are ended again."""
        children: list[subprocess.Popen[bytes]] = []
        null = subprocess.DEVNULL
        begun = time.perf_counter()
        try:
            for port in self.ports:
                argv = [sys.executable, "-S", SERVER, str(port)]
                more = {"stdin": null, "stdout": null, "stderr": null, "cwd": self.folder, "env": self.env}
                children.append(subprocess.Popen(argv, start_new_session=True, **more))  # type: ignore[call-overload]
            for port in self.ports:
                while not answers(port):
                    time.sleep(0.002)
            return time.perf_counter() - begun
        finally:
            for child in children:
                child.kill()
            for child in children:
                child.wait(timeout=ENDING)

    def end(self) -> None:
        """Stops the stack, and ends by pid whatever is left: all that was given this folder as its home."""
        with contextlib.suppress(RuntimeError):
            self.inv("stop")
        until = time.monotonic() + ENDING
        while time.monotonic() < until:
            left = [one for one, _ in process.carrying("HOME", str(self.folder))]
            if not left:
                return
            for one in left:
                with contextlib.suppress(PermissionError):
                    process.send(one, signal.SIGKILL)
            time.sleep(0.02)


def timed(argv: list[str], folder: Path, env: dict[str, str], code: int = 0) -> float:
    """Seconds that a command takes from start to end."""
    begun = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return seconds


def answers(port: int) -> bool:
    """Whether one GET is answered."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return client.recv(12).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, bound from 0, all different: asked for all at once."""
    with contextlib.ExitStack() as opened:
        found = []
        for _ in range(count):
            one = opened.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(int(one.getsockname()[1]))
        return found
