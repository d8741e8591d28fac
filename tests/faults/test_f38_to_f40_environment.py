"""F38 to F40: a boot finds another environment than a shell, there is no input and no terminal, launchd begins anew."""

from __future__ import annotations

import os
import pty
import shutil
import tempfile
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.scene import ended
from tests.stack import PYTHON, Stack
from tests.test_boot_launchd import Mac, monitor
from tests.test_faults_service import LOGIN, _read_to_its_end
from tests.test_monitor_itself import by_hand, who
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, lines, root, state, sweeps

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

# Answers with its pid, and ends when its input does, as development servers do.
SERVER = """
process.stdin.on("end", () => process.exit(0)).resume()
require("http").createServer((_, answer) => answer.end(String(process.pid))).listen(process.argv[2], "127.0.0.1")
"""


def node(stack: Stack, name: str, program: str = "node") -> None:
    (stack.folder / "index.js").write_text(SERVER)
    health = [{"http": "/", "every": 1, "timeout": 1}]
    stack.add(name, [program, "index.js", "{port}"], health=health, start_timeout=30)


@pytest.mark.slow
@needs_node
def test_f38_a_boot_starts_what_the_shell_had_and_a_missing_program_is_named(row: Row, stack: Stack) -> None:
    nvm = stack.folder / ".nvm" / "bin"
    nvm.mkdir(parents=True)
    program = nvm / "own-node"  # on no PATH but that of the first shell
    program.write_text(f'#!/bin/sh\nexec {shutil.which("node")} "$@"\n')
    program.chmod(0o755)
    node(stack, "api", "own-node")
    stack.write()
    shell = {"PATH": f"{nvm}:{stack.env['PATH']}", "TZ": "Asia/Kolkata"}
    stack.ok("start", env=shell)
    first = root(stack)
    ended(first)

    since = Since()  # as an init system would: hardly any environment, another home
    stack.spawn(by_hand(stack), env={"OPS_STATE": str(stack.state), "HOME": "/"})
    row.serving(since.until(lambda: answerer(stack)), since="the boot")
    second = back(stack, first)
    had = {name: process.variable(second.pid, name) for name in ("PATH", "HOME", "TZ")}
    assert had == {"PATH": shell["PATH"], "HOME": str(stack.home), "TZ": "Asia/Kolkata"}

    hidden = program.rename(program.with_name("gone"))
    since = Since()
    ended(second)
    row.noticed(since.until(lambda: lines(stack, "monitor", "own-node")), since="a kill without the program")
    told = until(lambda: (said := stack.inv("health")).code == 2 and "own-node" in said.out and said)  # once published
    assert told.code == 2
    refused = stack.inv("start", "--json")
    assert refused.code == 2 and str(nvm) in refused.outcomes["api"]["detail"], "it is said where it was looked for"
    hidden.rename(program)
    stack.ok("start", "--json", env={"PATH": "/usr/bin:/bin", "HOME": "/"})
    assert process.variable(back(stack, second).pid, "HOME") == str(stack.home)
    assert who(stack), "the monitor did not live through it"


@needs_node
def test_f39_without_input_or_terminal_services_live_on(row: Row, stack: Stack) -> None:
    node(stack, "closed")
    node(stack, "none")
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    master, slave = pty.openpty()  # a terminal that is closed when the command has ended
    try:
        words = [PYTHON, "-m", "invoke", "start", "--json"]
        stack.spawn([PYTHON, "-c", LOGIN, os.ttyname(slave), *words], cwd=stack.folder, env=stack.env)
        os.close(slave)
        said = _read_to_its_end(master)  # which never comes while anybody holds the terminal
    finally:
        os.close(master)
    assert said.count('"state": "changed"') == 3, said
    stack.ok("restart-one", "none")  # with </dev/null
    for name in stack.services:
        until(lambda name=name: state(stack, name) == "up", PATIENCE)
    before = {name: root(stack, name) for name in stack.services}
    assert all(process.terminal(one.pid) is None for one in [*before.values(), *stack.watchers()])
    since = Since()
    ended(before["closed"])  # the monitor has no input to give either
    row.serving(since.until(lambda: answerer(stack, "closed") not in (0, before["closed"].pid)), since="a later kill")
    after = back(stack, before["closed"], "closed")
    sweeps(stack, 2)
    assert answerer(stack, "closed") == after.pid and answerer(stack, "none") == before["none"].pid


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_f40_out_and_in_again_and_again_the_monitor_is_loaded_and_lives(row: Row) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ops-mac-"))  # pytest's own folders are closed to others
    mac = Mac(folder)
    try:
        mac.server("api", critical=True)
        mac.ops["monitor"] = True
        mac.write()
        mac.ok("start", "install-service")
        before, slowest = mac.services_of(), 0.0
        for number in range(20):
            mac.services["api"]["grace"] = 3 + number % 2  # the property list changes with it
            mac.write()
            old, since = mac.loaded(), Since()
            assert mac.one(mac.ok("install-service", "--json"))["state"] == "changed"
            slowest = max(slowest, since.seconds())
            pid = mac.loaded()
            assert pid not in (0, old) and Path(f"/proc/{pid}").exists() and monitor(mac) == pid
            assert answerer(mac) == before["api"].pid, "a service was touched"
        assert mac.services_of() == before and len(mac.calls("bootout")) == 20
        row.figure("bootout and bootstrap", 20)
        row.figure("slowest of them, seconds", slowest)
    finally:
        mac.end()
        shutil.rmtree(folder)
