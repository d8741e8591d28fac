"""F10 to F12: it does not want to end, or leaves others behind: children, grandchildren, and those that ran away."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host import process
from ops.model import Process
from tests.faults.row import Row, Since
from tests.faults.stage import PATHS, log, port_of, recovery, sample, told, tree, well
from tests.scene import listening
from tests.stack import PYTHON, Stack
from tests.test_faults_service import DEV_SERVER, free
from tests.waiting import until
from tests.watch import PATIENCE, root, state, watched

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node" / "services"
GRACE = 1.0  # of what ignores TERM
needs_npm = pytest.mark.skipif(not (shutil.which("npm") and shutil.which("npx")), reason="npm is not installed")


@pytest.fixture
def doomed() -> Iterator[list[Process]]:
    """Processes that no run marker would find; whatever a failing test left of them is ended by identity."""
    found: list[Process] = []
    yield found
    for one in found:
        process.send(one, signal.SIGKILL)


def test_f10_ignores_term(stack: Stack, row: Row) -> None:
    sample(stack, "pg-api", "bank-api", grace=GRACE)
    watched(stack)
    for name in ("pg-api", "bank-api"):
        stack.fault(name, "ignore-term")
    first, last = root(stack, "pg-api"), root(stack, "bank-api")
    restarted = stack.ok("restart-one", "pg-api", "--json").outcomes["pg-api"]
    assert not process.alive(first) and f"KILL after {GRACE:.0f} s" in restarted["detail"], restarted
    assert well(stack, "pg-api") not in (0, first.pid)
    since = Since()
    stopped = stack.ok("stop", "--only", "bank-api", "--json").outcomes["bank-api"]
    row.figure("seconds to gone", since.seconds())
    assert not process.alive(last) and free(port_of(stack, "bank-api")) and not stack.running("bank-api")
    assert f"KILL after {GRACE:.0f} s" in stopped["detail"] and GRACE <= stopped["seconds"] < GRACE + 5, stopped
    row.figure("of which beyond its grace", round(stopped["seconds"] - GRACE, 3))
    row.serving(restarted["seconds"], since="the restart was asked for")


@needs_npm
def test_f11_grandchildren(stack: Stack, row: Row) -> None:
    """The Node services of the runbook, and in front of others a shell, npm and npx: the top of each tree is killed,
    then all are stopped."""
    node_services(stack)
    line = f"{shlex.quote(PYTHON)} -m ops.sample pg-api --port {{port}}; true"
    stack.add("shell", ["sh", "-c", line], health=answering("/health"))
    dev_server(stack.folder / "web")
    offline = {"npm_config_offline": "true", "npm_config_update_notifier": "false"}
    keys = {"cwd": "web", "env": offline, "health": answering("/"), "start_timeout": 60, "grace": 10}
    stack.add("npm", ["npm", "run", "dev", "--", "{port}"], **keys)
    stack.add("npx", ["npx", "--no-install", "devserver", "{port}"], **keys)
    watched(stack)
    trees = {name: tree(root(stack, name).pid) for name in stack.services}
    least = {"shell": 2, "npm": 3, "npx": 3}
    assert {name for name, there in trees.items() if len(there) < least.get(name, 1)} == set()
    since = Since()
    for name in trees:
        process.send(root(stack, name), signal.SIGKILL)
    row.noticed(since.until(lambda: all(told(stack, name) or adopted(stack, name, trees[name]) for name in trees)))
    row.serving(since.until(lambda: all(alone_well(stack, name) for name in trees)))
    for name in trees:
        until(lambda name=name: state(stack, name) == "up", PATIENCE)
    everyone = {one for there in trees.values() for one in there} | set(stack.running())
    row.figure("processes in their trees", sum(len(there) for there in trees.values()))
    stopped = stack.ok("stop", "--json")
    left = [one for one in everyone if process.alive(one)]
    row.figure("processes left after the stop", len(left) + len(stack.running()))
    assert left == [] and not stack.running() and "KILL" not in stopped.out
    assert all(free(port_of(stack, name)) for name in trees)


def node_services(stack: Stack) -> None:
    """Those of examples/node, on ports of their own."""
    for folder in sorted(EXAMPLE.glob("*/index.js")):
        name = folder.parent.name
        path = "/recon/health" if name == "recon-api" else "/health"
        port = stack.add(name, ["node", "index.js"], cwd=str(folder.parent), health=answering(path))
        stack.services[name]["env"] = {"NODE_ENV": "production", "PORT": str(port)}


def answering(path: str) -> list[dict[str, object]]:
    return [{"http": path, "every": 1, "timeout": 1}]


def dev_server(web: Path) -> None:
    """A package with a server of its own, as `npm run dev` and `npx` start one."""
    package = web / "node_modules" / "devserver"
    package.mkdir(parents=True)
    (package / "package.json").write_text(
        json.dumps({"name": "devserver", "version": "1.0.0", "bin": {"devserver": "cli.js"}})
    )
    (package / "cli.js").write_text(DEV_SERVER)
    (package / "cli.js").chmod(0o755)
    (web / "node_modules" / ".bin").mkdir()
    (web / "node_modules" / ".bin" / "devserver").symlink_to("../devserver/cli.js")
    scripts = {"dev": "node node_modules/devserver/cli.js"}
    (web / "package.json").write_text(
        json.dumps({"name": "web", "version": "1.0.0", "private": True, "scripts": scripts})
    )


def adopted(stack: Stack, name: str, before: list[Process]) -> bool:
    """Whether what served below is now the service itself."""
    return root(stack, name) in before[1:]


def alone_well(stack: Stack, name: str) -> bool:
    """It answers, and who listens is one process, of the recorded tree."""
    try:
        status, _ = stack.get(name, PATHS.get(name, "/health"), within=1.0)
    except OSError:
        return False
    holders = listening(port_of(stack, name))
    return status == 200 and len(holders) == 1 and holders <= {one.pid for one in tree(root(stack, name).pid)}


def test_f12_escaped_children(stack: Stack, row: Row, doomed: list[Process]) -> None:
    """Those with our marker are ended although their parent is dead; the others at a stop, while they still belong to
    somebody."""
    kinds = ("setsid", "double", "holds", "bare", "lost")
    for kind in kinds:
        stack.tiny(kind, f"--child={kind}")
    sample(stack, "pg-api")
    watched(stack)
    stack.fault("pg-api", "fork-child-setsid")
    escaped = {name: child(stack, name) for name in stack.services}
    doomed += escaped.values()
    for kind in ("double", "lost"):  # they are nobody's children, or the test would prove too little
        assert escaped[kind] not in tree(root(stack, kind).pid)
    for kind in ("bare", "lost"):
        assert process.variable(escaped[kind].pid, "OPS_RUN") is None
    crashed = ("setsid", "double", "holds", "pg-api")
    found = [recovery(stack, name, lambda one: process.send(one, signal.SIGKILL), "down") for name in crashed]
    row.noticed(max(one.noticed for one in found))
    row.serving(max(one.serving for one in found))
    since = Since()
    row.figure(
        "until the last of them was gone", since.until(lambda: not any(process.alive(escaped[n]) for n in crashed))
    )
    for kind in ("setsid", "double", "holds"):
        escaped[f"second {kind}"] = child(stack, kind, 2)
    doomed += escaped.values()
    stack.ok("stop", "--json")
    left = [name for name, one in escaped.items() if process.alive(one)]
    row.figure("processes left after the stop", len(left) + len(stack.running()))
    assert left == [] and not stack.running()
    assert all(free(port_of(stack, name)) for name in stack.services)


def child(stack: Stack, name: str, count: int = 1) -> Process:
    """The child that a server said it left: of its first life, of its second."""
    said = until(lambda: re.findall(r"child (\d+)$", log(stack, name), re.MULTILINE)[count - 1 :], PATIENCE)
    found = process.identify(int(said[0]))
    assert found is not None, f"the child of {name} is gone"
    return found
