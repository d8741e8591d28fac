"""Law 2: never a stranger. Whatever looks like a service without being it outlives every command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ops.host import process
from ops.model import Process
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import free_port, until

NOBODY = 65534
HOLD = "import time\nwhile True: time.sleep(60)"

# Listens on a port, then runs `inv`: an ancestor of the command that has the port of a service.
CONSOLE = """
import socket, subprocess, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
for line in sys.stdin:
    argv = [sys.executable, "-m", "invoke", *line.split()]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    print(done.returncode, flush=True)
"""


class Strangers:
    """Processes that no command may touch."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._all: dict[str, Process] = {}

    def add(self, what: str, argv: list[str], **more: Any) -> Process:
        """Starts one and remembers who it is."""
        found = process.identify(self._stack.spawn(argv, **more).pid)
        assert found
        self._all[what] = found
        return found

    def __getitem__(self, what: str) -> Process:
        return self._all[what]

    def lost(self) -> set[str]:
        """Those that are gone or stopped."""
        lines = {what: process.entry(one.pid) for what, one in self._all.items()}
        stopped = {what for what, line in lines.items() if line and line.stopped}
        return stopped | {what for what, one in self._all.items() if not process.alive(one)}


def tiny(port: int, *flags: str) -> list[str]:
    return [PYTHON, "-S", str(TINY), str(port), *flags]


def listening(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(2)
        return client.connect_ex((address, port)) == 0


def rewrite(path: Path, **changes: Any) -> None:
    """Changes a record as a test needs it; `process` values are merged."""
    said = json.loads(path.read_text())
    said["process"].update(changes)
    path.write_text(json.dumps(said))


def test_law_2_who_looks_like_a_service(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.tiny("web", needs=["api"])
    stack.write()
    stack.ok("start")
    plain = {"PATH": os.environ["PATH"]}
    record = json.loads((stack.state / "services" / "api.json").read_text())
    run = record["run"]
    strangers = Strangers(stack)
    hold = [PYTHON, "-S", "-c", HOLD]
    strangers.add("same command, other port", tiny(free_port()), cwd=stack.folder, env=plain)
    strangers.add("same command and port, other address", tiny(port, "--host=127.0.0.2"), cwd=stack.folder, env=plain)
    for what, marker in {
        "another stack": f"other/api/{run}",
        "a stack whose name begins the same": f"{stack.name}2/api/{run}",
        "a stack whose name ends the same": f"x{stack.name}/api/{run}",
        "the same stack in another state folder": f"{stack.name}/api/00000000-00000000",
    }.items():
        strangers.add(what, hold, env={**plain, "OPS_RUN": marker})
    named = {**plain, "NOT_OPS_RUN": f"{stack.name}/api/{run}", "OPS_RUN_NOT": f"{stack.name}/api/{run}"}
    strangers.add("another variable", hold, env=named)
    strangers.add("the marker among its arguments", [*hold, f"OPS_RUN={stack.name}/api/{run}"], env=plain)
    if os.geteuid() == 0:
        marked = {**plain, "OPS_RUN": f"{stack.name}/api/{run}"}
        strangers.add("another user with our marker", ["/bin/sleep", "1000"], env=marked, user=NOBODY, cwd="/")
    until(lambda: listening(port, "127.0.0.2"))
    for args in (
        ["restart-one", "api"],
        ["stop", "--only", "api"],
        ["stop"],
    ):
        stack.ok(*args)
        assert strangers.lost() == set(), args
    assert stack.running() == [strangers["the same stack in another state folder"]]
    # The service's own port is held at another address now: start refuses, and ends nobody.
    assert stack.inv("start", "--only", "api", "--json").states == {"api": "failed"}
    assert strangers.lost() == set()
    # reset is told to free the ports of the services: only who listens there is ended.
    stack.ok("reset")
    assert strangers.lost() == {"same command and port, other address"}


def test_law_2_a_pid_is_not_a_process(stack: Stack) -> None:
    """A record or a pid file that names a stranger: its pid used again, or from before a boot."""
    stack.tiny("api")
    stack.tiny("web")
    stack.write()
    stack.ok("start")
    own = {name: stack.running(name)[0].pid for name in ("api", "web")}
    strangers = Strangers(stack)
    stranger = strangers.add("named by the records", [PYTHON, "-S", "-c", HOLD])
    folder = stack.state / "services"
    # Used again: the pid of the stranger, with the birth of the service that was recorded.
    rewrite(folder / "api.json", pid=stranger.pid)
    # From before the boot: pid and birth are those of the stranger, by chance.
    rewrite(folder / "web.json", pid=stranger.pid, birth=stranger.birth, boot="00000000-another-boot")
    for name in ("api", "web"):
        (stack.public / f"{name}.pid").write_text(f"{stranger.pid}\n")
    status = stack.inv("status", "--json").services
    assert {name: status[name]["pid"] for name in own} == own  # found again by their markers
    stack.ok("restart-one", "api")
    rewrite(folder / "api.json", pid=stranger.pid)
    (stack.public / "api.pid").write_text(f"{stranger.pid}\n")
    record = json.loads((folder / "api.json").read_text())
    for args in (["stop"], ["start"], ["reset"]):
        stack.ok(*args)
        assert strangers.lost() == set(), args
        if args == ["stop"]:
            assert not stack.running()
            (folder / "api.json").write_text(json.dumps({**record, "process": {**asdict(stranger), "boot": "gone"}}))
    assert stack.running("api")


def test_law_2_who_runs_the_command(stack: Stack) -> None:
    """The console that types the commands listens on the port of a service, and carries the stack's own marker."""
    port = stack.tiny("api")
    stack.tiny("web")
    stack.write()
    stack.ok("start", "--only", "web")
    run = json.loads((stack.state / "services" / "web.json").read_text())["run"]
    strangers = Strangers(stack)
    for marker in ("", f"{stack.name}/api/{run}", f"{stack.name}/web/{run}"):
        console = stack.spawn(
            [sys.executable, "-c", CONSOLE, str(port)],
            cwd=stack.folder,
            env={**stack.env, **({"OPS_RUN": marker} if marker else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        until(lambda: listening(port))
        found = process.identify(console.pid)
        assert found
        for line in (f"kill-port {port}", "reset --only api", "start --only api", "stop", "start --only web"):
            console.stdin.write(line + "\n")
            console.stdin.flush()
            code = int(console.stdout.readline())
            assert code == (0 if line in ("stop", "start --only web") else 2), (marker, line, code)
            assert process.alive(found), (marker, line)
        console.kill()
        console.wait(10)
        until(lambda: not listening(port))
    assert strangers.lost() == set()
    stack.ok("start")


def test_law_2_a_client_of_the_port(stack: Stack) -> None:
    """Who is connected to the port lives on, and so do its other connections."""
    port = stack.tiny("api", "--answer=hang")
    other = stack.tiny("web", "--answer=hang")
    for name, number in (("api", port), ("web", other)):
        stack.services[name]["health"] = [{"tcp": number, "every": 1, "timeout": 1}]
    stack.write()
    stack.ok("start")
    script = (
        "import socket, sys, time\n"
        "links = [socket.create_connection(('127.0.0.1', int(port))) for port in sys.argv[1:]]\n"
        "print('connected', flush=True)\nlinks[1].recv(1)\nprint('closed', flush=True)\ntime.sleep(600)\n"
    )
    for args in (["restart-one", "api"], ["reset", "--only", "api"], ["kill-port", str(port)]):
        client = stack.spawn([sys.executable, "-S", "-c", script, str(port), str(other)], stdout=subprocess.PIPE)
        assert client.stdout.readline() == b"connected\n"
        before = stack.running("api")
        stack.ok(*args)
        assert not any(process.alive(one) for one in before)
        assert client.poll() is None
        os.set_blocking(client.stdout.fileno(), False)
        assert client.stdout.read() is None  # the other connection still stands
