"""A service's own misbehaviour, injected for real: it exits, hangs, answers wrongly, is slow, is deaf, hides children,
puts itself in the background, takes another port, is stopped by a signal, or was started by hand."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host import process
from ops.host.listeners import listening
from ops.model import Process
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import until

needs_npm = pytest.mark.skipif(not (shutil.which("npm") and shutil.which("npx")), reason="npm is not installed")

# Takes a terminal as its own, output included, and becomes the command that follows: what a login shell does.
LOGIN = """
import fcntl, os, sys, termios
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for number in (0, 1, 2):
    os.dup2(terminal, number)
os.execv(sys.argv[2], sys.argv[2:])
"""

DEV_SERVER = """#!/usr/bin/env node
const port = Number(process.argv.at(-1))
require("http").createServer((_, answer) => answer.end(String(process.pid))).listen(port, "127.0.0.1")
"""


@pytest.fixture
def doomed() -> Iterator[list[Process]]:
    """Processes that no run marker would find; whatever a failing test left of them is ended by identity."""
    found: list[Process] = []
    yield found
    for one in found:
        process.send(one, signal.SIGKILL)


def answerer(stack: Stack, name: str = "api") -> int:
    """The pid that answers on the port of a tiny server."""
    return int(stack.get(name)[1])


def recorded(stack: Stack, name: str = "api") -> int:
    """The pid that people read in its pid file: the top of its tree."""
    return int((stack.public / f"{name}.pid").read_text())


def tree(pid: int) -> list[Process]:
    """A process and all below it."""
    return [line.process() for line in process.descendants([pid], process.table())]


def log(stack: Stack, name: str = "api") -> str:
    return (stack.public / f"{name}.log").read_text()


def child(stack: Stack, name: str, count: int = 1) -> Process:
    """The child that a tiny server said it left (the second, when it was restarted once)."""
    said = until(lambda: re.findall(r"^child (\d+)$", log(stack, name), re.MULTILINE)[count - 1 :])
    found = process.identify(int(said[0]))
    assert found is not None, f"the child of {name} is gone"
    return found


def free(port: int) -> bool:
    """Whether it can be listened on (SO_REUSEADDR looks past TIME_WAIT). Not for waiting: it would be in the way."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
            trial.listen()
        except OSError:
            return False
    return True


def by_hand(stack: Stack, port: int, *flags: str, python: str = PYTHON, folder: Path | None = None) -> int:
    """A tiny server started as a person would, from the project's folder; its pid once it answers."""
    path = f"{os.path.dirname(PYTHON)}:{os.environ['PATH']}"
    started = stack.spawn([python, "-S", str(TINY), str(port), *flags], cwd=folder or stack.folder, env={"PATH": path})
    until(lambda: listening(port), 30)
    return started.pid


# -- it ends, hangs, answers wrongly --------------------------------------------------------------------------


def test_f4_a_clean_exit_is_down_and_start_brings_it_back(stack: Stack) -> None:
    stack.service("api", fault=True)
    stack.tiny("brief", "--exit=0", "--print=all done")
    stack.write()
    begun = stack.inv("start", "--json")
    assert begun.states == {"api": "changed", "brief": "failed"}, str(begun)
    assert "ended with exit code 0 before it was healthy" in begun.outcomes["brief"]["detail"]
    assert "log:    all done" in begun.outcomes["brief"]["detail"]
    first = recorded(stack)
    stack.fault("api", "exit0")
    until(lambda: process.identify(first) is None)
    seen = stack.inv("status", "--only", "api", "--json")
    assert (seen.code, seen.services["api"]["state"], seen.services["api"]["pid"]) == (2, "down", None), str(seen)
    again = stack.ok("start", "--only", "api", "--json").outcomes["api"]
    assert (again["state"], again["before"], again["after"]) == ("changed", "down", "up")
    assert recorded(stack) != first
    assert stack.get("api", "/health")[0] == 200


def test_f6_half_hung_services_are_seen_within_the_probe_timeout_side_by_side(stack: Stack) -> None:
    mode = stack.folder / "mode"
    names = [f"api{number}" for number in range(5)]
    for name in names:
        stack.tiny(name, f"--mode={mode}", health=[{"http": "/", "every": 1, "timeout": 2}], confirm=0)
    stack.tiny("well")
    stack.write()
    stack.ok("start", "--json")
    before = {name: answerer(stack, name) for name in names}
    mode.write_text("hang")
    seen = stack.inv("health", "--json")
    assert seen.code == 2
    assert {name: one["state"] for name, one in seen.services.items()} == {**dict.fromkeys(names, "hung"), "well": "up"}
    probes = [one for name in names for one in seen.services[name]["probes"] if one["name"] == "GET /"]
    assert len(probes) == len(names)
    assert all(one["ok"] is False and 1.9 < one["seconds"] < 6 for one in probes), probes
    assert seen.seconds < len(names) * 2  # one after the other they would take that long for the waiting alone
    mode.unlink()
    assert {name: answerer(stack, name) for name in names} == before  # it looked, and touched nobody
    mode.write_text("hang")
    start = stack.popen("start", "--only", "api0", "--json")
    until(lambda: process.identify(before["api0"]) is None, 30)
    mode.unlink()  # the new one answers
    out, err = start.communicate(timeout=60)
    assert start.returncode == 0, out + err
    assert json.loads(out)["outcomes"][0]["before"] == "hung"
    assert answerer(stack, "api0") != before["api0"]
    assert {name: answerer(stack, name) for name in names[1:]} == {name: before[name] for name in names[1:]}


def test_f7_a_wrong_answer_is_unhealthy_and_start_restarts_after_confirming(stack: Stack) -> None:
    page = [{"http": "/", "body": "SettlePaisa", "every": 1, "timeout": 1}]
    stack.service("degraded", fault=True)
    stack.service("stranger", fault=True)
    stack.service("page", "frontend", fault=True, health=page)
    stack.write()
    stack.ok("start", "--json")
    first = {name: recorded(stack, name) for name in stack.services}
    stack.fault("degraded", "degraded")
    stack.fault("stranger", "wrong-page")
    stack.fault("page", "wrong-page")
    assert stack.get("degraded", "/health")[0] == stack.get("page")[0] == 200  # it is not the status that tells
    seen = stack.inv("health", "--json")
    assert seen.code == 2
    assert {one["state"] for one in seen.services.values()} == {"unhealthy"}
    said = {name: " ".join(p["detail"] for p in one["probes"] if not p["ok"]) for name, one in seen.services.items()}
    assert "degraded" in said["degraded"] and "healthy" in said["degraded"]
    assert "not JSON" in said["stranger"]
    assert "lacks 'SettlePaisa'" in said["page"] or 'lacks "SettlePaisa"' in said["page"]
    again = stack.ok("start", "--json")
    assert set(again.states.values()) == {"changed"}
    assert {one["before"] for one in again.outcomes.values()} == {"unhealthy"}
    assert all(recorded(stack, name) != pid for name, pid in first.items())
    assert stack.ok("health", "--json").document["healthy"]


def test_f8_a_slow_start_is_waited_for_and_one_past_its_deadline_is_not_killed(stack: Stack) -> None:
    stack.tiny("slow", "--after=4", "--print=warming up", start_timeout=60)
    late = stack.tiny("late", "--after=6", "--print=warming up", start_timeout=1)
    stack.write()
    begun = stack.popen("start", "--json")
    until(lambda: (stack.public / "slow.log").exists() and "warming up" in log(stack, "slow"), 20)
    assert stack.inv("status", "--json").services["slow"]["state"] == "starting"
    assert stack.ok("start", "--only", "slow", "--json").states == {"slow": "ok"}  # a second one waits with the first
    out, _ = begun.communicate(timeout=60)
    outcomes = {one["service"]: one for one in json.loads(out)["outcomes"]}
    assert (begun.returncode, outcomes["slow"]["state"], outcomes["late"]["state"]) == (2, "changed", "failed"), out
    assert outcomes["slow"]["after"] == "up" and outcomes["slow"]["seconds"] >= 3
    told = outcomes["late"]["detail"]
    assert "wanted: late healthy within 1 s" in told and "log:    warming up" in told and "inv tail late" in told
    pids = {name: recorded(stack, name) for name in stack.services}
    until(lambda: listening(late), 30)  # left alone, it came after all
    again = stack.ok("start", "--json")
    assert again.states == {"slow": "ok", "late": "ok"}
    assert {name: answerer(stack, name) for name in stack.services} == pids
    assert [log(stack, name).count("warming up") for name in stack.services] == [1, 1]


def test_f8_its_port_is_waited_for_when_its_probes_pass_before(stack: Stack) -> None:
    port = stack.tiny("api", "--after=1.5", health=[{"command": ["true"], "every": 1, "timeout": 1}], start_timeout=40)
    stack.write()
    assert stack.ok("start", "--json").states == {"api": "changed"}
    assert listening(port)


def test_f9_one_failed_probe_restarts_nothing(stack: Stack) -> None:
    mode = stack.folder / "mode"
    stack.tiny("api", f"--mode={mode}")
    stack.write()
    stack.ok("start", "--json")
    first = answerer(stack)
    mode.write_text("blip")
    again = stack.ok("start", "--json")
    assert not mode.exists(), "the failing answer was never asked for"
    assert again.states == {"api": "ok"}
    assert answerer(stack) == first
    assert log(stack).count("listening") == 1


def test_f10_the_deaf_is_killed_after_grace_and_gone_when_the_command_returns(stack: Stack) -> None:
    ports = [stack.tiny("deaf", "--deaf", grace=1), stack.tiny("polite", grace=20)]
    stack.write()
    stack.ok("start", "--json")
    first = process.identify(answerer(stack, "deaf"))
    assert first is not None
    restarted = stack.ok("restart-one", "deaf", "--json").outcomes["deaf"]
    assert not process.alive(first)
    assert "KILL after 1 s" in restarted["detail"]
    assert answerer(stack, "deaf") != first.pid
    done = stack.ok("stop", "--json")
    assert not stack.running()
    assert all(free(port) for port in ports)
    assert "KILL after 1 s" in done.outcomes["deaf"]["detail"] and done.outcomes["deaf"]["seconds"] >= 1
    assert "KILL" not in done.outcomes["polite"]["detail"]


# -- its tree -------------------------------------------------------------------------------------------------


def test_f11_a_shell_in_front_leaves_nobody(stack: Stack) -> None:
    line = f"{shlex.quote(PYTHON)} -S {shlex.quote(str(TINY))} {{port}} --child=plain; true"
    port = stack.add("api", ["sh", "-c", line], health=[{"http": "/", "every": 1, "timeout": 1}])
    stack.write()
    stack.ok("start", "--json")
    everyone = tree(recorded(stack))
    assert len(everyone) == 3 and answerer(stack) in [one.pid for one in everyone[1:]]
    stack.ok("restart-one", "api", "--json")
    assert not any(process.alive(one) for one in everyone)
    # The shell alone dies: what serves is still the service, and there are never two.
    serving = answerer(stack)
    os.kill(recorded(stack), signal.SIGKILL)
    until(lambda: process.identify(recorded(stack)) is None)
    again = stack.ok("start", "--json").outcomes["api"]
    assert "adopted" in again["detail"] and answerer(stack) == serving
    everyone = tree(serving)
    assert len(everyone) == 2
    stack.ok("stop", "--json")
    assert not any(process.alive(one) for one in everyone)
    assert not stack.running()
    assert free(port)


@needs_npm
def test_f11_npm_and_npx_trees_leave_nobody(stack: Stack, doomed: list[Process]) -> None:
    package = stack.folder / "web" / "node_modules" / "devserver"
    package.mkdir(parents=True)
    (package / "package.json").write_text(
        json.dumps({"name": "devserver", "version": "1.0.0", "bin": {"devserver": "cli.js"}})
    )
    (package / "cli.js").write_text(DEV_SERVER)
    (package / "cli.js").chmod(0o755)
    (package.parent / ".bin").mkdir()
    (package.parent / ".bin" / "devserver").symlink_to("../devserver/cli.js")
    scripts = {"dev": "node node_modules/devserver/cli.js"}
    (stack.folder / "web" / "package.json").write_text(
        json.dumps({"name": "web", "version": "1.0.0", "private": True, "scripts": scripts})
    )
    offline = {"npm_config_offline": "true", "npm_config_update_notifier": "false"}
    keys = {"cwd": "web", "env": offline, "health": [{"http": "/", "every": 1, "timeout": 1}], "start_timeout": 60}
    commands = {
        "npx": ["npx", "--no-install", "devserver", "{port}"],
        "dev": ["npm", "run", "dev", "--", "{port}"],
        "hand-npx": ["npx", "--no-install", "devserver", "--strict-port", "--port", "{port}"],
        "hand-dev": ["npm", "run", "--silent", "dev", "--", "--port", "{port}"],
    }
    ports = {name: stack.add(name, command, **keys, grace=10) for name, command in commands.items()}
    stack.write()
    hands = {}
    for name in ("hand-npx", "hand-dev"):
        argv = [word.replace("{port}", str(ports[name])) for word in commands[name]]
        env = {"PATH": os.environ["PATH"], "HOME": str(stack.home), **offline}
        hands[name] = stack.spawn(argv, cwd=stack.folder / "web", env=env).pid
    for name, pid in hands.items():
        until(lambda name=name: listening(ports[name]), 60)
        doomed += tree(pid)
    done = stack.inv("start", "--json", within=100)
    assert done.code == 0, str(done)
    for name, pid in hands.items():
        assert f"started by hand, adopted as pid {pid}" in done.outcomes[name]["detail"], str(done)
    trees = {name: tree(recorded(stack, name)) for name in commands}
    for name, everyone in trees.items():
        assert len(everyone) >= 3, f"{name} is not npm -> sh -> node: {everyone}"
        assert answerer(stack, name) in [one.pid for one in everyone[1:]]
    stopped = stack.ok("stop", "--json")
    assert not any(process.alive(one) for everyone in trees.values() for one in everyone)
    assert not stack.running()
    assert all(free(port) for port in ports.values())
    assert "KILL" not in stopped.out


def test_f12_children_that_escaped_are_ended_with_it(stack: Stack, doomed: list[Process]) -> None:
    kinds = ("setsid", "double", "holds", "bare", "lost")
    ports = [stack.tiny(kind, f"--child={kind}") for kind in kinds]
    stack.write()
    stack.ok("start", "--json")
    escaped = {kind: child(stack, kind) for kind in kinds}
    doomed += escaped.values()
    for kind in ("double", "lost"):  # they are nobody's children, or the test would prove too little
        assert escaped[kind] not in tree(recorded(stack, kind))
    for kind in ("bare", "lost"):
        assert process.variable(escaped[kind].pid, "OPS_RUN") is None
    stack.ok("restart-one", "lost", "--json")
    assert not process.alive(escaped["lost"])
    escaped["lost"] = child(stack, "lost", 2)
    doomed.append(escaped["lost"])
    stack.ok("stop", "--json")
    assert not [kind for kind, one in escaped.items() if process.alive(one)]
    assert not stack.running()
    assert all(free(port) for port in ports)


def test_f12_what_a_dead_one_left_is_ended_before_it_starts_again(stack: Stack) -> None:
    stack.tiny("api", "--child=setsid")
    stack.write()
    stack.ok("start", "--json")
    left = child(stack, "api")
    first = answerer(stack)
    os.kill(first, signal.SIGKILL)
    until(lambda: process.identify(first) is None)
    assert stack.inv("status", "--json").services["api"]["state"] == "down"
    again = stack.ok("start", "--json").outcomes["api"]
    assert "left over" in again["detail"] and str(left.pid) in again["detail"]
    assert not process.alive(left)
    assert len(stack.running("api")) == 2


def test_f12_one_that_puts_itself_in_the_background_is_the_service(stack: Stack) -> None:
    port = stack.tiny("api", "--daemon")
    stack.write()
    begun = stack.ok("start", "--json")
    assert begun.states == {"api": "changed"}, str(begun)
    first = answerer(stack)
    assert recorded(stack) == first == stack.pid("api")
    assert stack.ok("start", "--json").states == {"api": "ok"}
    assert answerer(stack) == first and len(stack.running()) == 1
    stack.ok("restart-one", "api", "--json")
    assert answerer(stack) != first and len(stack.running()) == 1
    stack.ok("stop", "--json")
    assert not stack.running()
    assert free(port)


def test_f12_one_that_listens_only_after_it_went_to_the_background_is_waited_for(stack: Stack) -> None:
    stack.tiny("slow", "--daemon", "--after=1.5", start_timeout=40)
    stack.tiny("never", "--daemon", "--after=60", start_timeout=1)
    stack.write()
    begun = stack.inv("start", "--json")
    assert begun.states == {"slow": "changed", "never": "failed"}, str(begun)
    assert recorded(stack, "slow") == answerer(stack, "slow")
    (left,) = stack.running("never")
    assert f"pid {left.pid} in the background" in begun.outcomes["never"]["detail"]
    assert "keep it in the foreground" in begun.outcomes["never"]["detail"]
    stack.ok("stop", "--json")
    assert not stack.running()


def test_f12_a_worker_that_puts_itself_in_the_background_is_an_error(stack: Stack) -> None:
    stack.add("worker", ["sh", "-c", "sleep 300 & exit 0"], port=None)
    stack.write()
    for _ in range(2):  # the second time ends what the first left, and fails alike
        begun = stack.inv("start", "--json")
        assert (begun.code, begun.states) == (2, {"worker": "failed"}), str(begun)
        (left,) = stack.running()
        assert "keep it in the foreground" in begun.outcomes["worker"]["detail"]
        assert f"pid {left.pid}" in begun.outcomes["worker"]["detail"]
    stack.ok("stop", "--json")
    assert not stack.running()


# -- its port, its input, its parent ---------------------------------------------------------------------------


def test_f26_a_server_that_took_another_port_is_named(stack: Stack) -> None:
    other = stack.tiny("unused")
    del stack.services["unused"]
    port = stack.tiny("api", f"--other-port={other}", start_timeout=1)
    stack.write()
    begun = stack.inv("start", "--json")
    assert (begun.code, begun.states) == (2, {"api": "failed"}), str(begun)
    assert f"nothing listens on {port}; listens on {other} instead" in begun.outcomes["api"]["detail"]
    seen = stack.inv("health", "--json")
    assert seen.code == 2
    assert f"listens on {other} instead" in seen.services["api"]["probes"][0]["detail"]
    stack.ok("stop", "--json")
    assert not stack.running()
    assert free(other)


def test_f39_its_input_never_ends_and_no_terminal_is_its_own(stack: Stack) -> None:
    stack.tiny("api", "--reads-stdin")
    stack.tiny("other", "--reads-stdin")
    stack.write()
    stack.ok("start", "--only", "api", "--json", stdin=subprocess.DEVNULL)
    first = answerer(stack)
    # The same from a terminal that is closed as soon as the command has ended.
    master, slave = pty.openpty()
    try:
        stack.spawn(
            [PYTHON, "-c", LOGIN, os.ttyname(slave), PYTHON, "-m", "invoke", "start", "--only", "other", "--json"],
            cwd=stack.folder,
            env=stack.env,
        )
        os.close(slave)
        said = _read_to_its_end(master)  # which never comes while a service holds the terminal
    finally:
        os.close(master)
    assert '"state": "changed"' in said, said
    second = answerer(stack, "other")
    assert os.getsid(first) == first and os.getsid(second) == second
    assert process.terminal(second) is None
    seen = stack.ok("status", "--json").services
    assert {name: (one["state"], one["pid"]) for name, one in seen.items()} == {
        "api": ("up", first),
        "other": ("up", second),
    }
    assert (answerer(stack), answerer(stack, "other")) == (first, second)


def _read_to_its_end(master: int, within: float = 60.0) -> str:
    """What is said on a terminal until nobody has it open any more."""
    found = b""
    deadline = time.monotonic() + within
    opened = False
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            more = os.read(master, 65536)
        except OSError:  # EIO: nobody has it open; at first the command may not have opened it yet
            more = b""
        if more:
            opened = True
            found += more
        elif opened:
            return found.decode(errors="replace")
        else:
            time.sleep(0.02)
    raise AssertionError(f"the terminal is still open; it said {found!r}")


def test_f44_a_zombie_is_down_and_can_be_started_again(stack: Stack) -> None:
    ports = {name: stack.tiny(name, grace=20) for name in ("killed", "ended")}
    stack.write()
    pids = {name: by_hand(stack, port) for name, port in ports.items()}  # this test is the parent that does not wait
    stack.ok("start", "--json")
    os.kill(pids["killed"], signal.SIGKILL)
    until(lambda: (line := process.entry(pids["killed"])) is not None and line.state == "Z")
    seen = stack.inv("status", "--json")
    assert (seen.code, seen.services["killed"]["state"], seen.services["killed"]["pid"]) == (2, "down", None)
    assert seen.services["ended"]["pid"] == pids["ended"]
    again = stack.ok("start", "--json")
    assert again.states == {"killed": "changed", "ended": "ok"}
    assert answerer(stack, "killed") != pids["killed"]
    done = stack.ok("stop", "--json")
    assert "KILL" not in done.out  # a zombie is gone, it is not waited for
    assert [process.entry(pid).state for pid in pids.values() if process.entry(pid)] == ["Z", "Z"]
    assert all(free(port) for port in ports.values())


def test_f5_one_that_a_signal_stopped_is_hung_and_every_command_deals_with_it(stack: Stack) -> None:
    for name in ("started", "ended", "renewed"):
        stack.tiny(name, grace=30)
    line = f"{shlex.quote(PYTHON)} -S {shlex.quote(str(TINY))} {{port}}; true"
    stack.add("inner", ["sh", "-c", line], grace=30, health=[{"http": "/", "every": 1, "timeout": 1}])
    stack.write()
    stack.ok("start", "--json")
    before = {name: answerer(stack, name) for name in stack.services}
    for pid in before.values():  # of `inner` it is the server behind the shell that is stopped
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(process.entry(pid).stopped for pid in before.values()))
    seen = stack.inv("status", "--json")
    assert seen.code == 2
    hung = {"started": "hung", "ended": "hung", "renewed": "hung"}
    assert {name: one["state"] for name, one in seen.services.items()} == {**hung, "inner": "up"}
    seen = stack.inv("health", "--json")
    assert seen.code == 2
    assert {name: one["state"] for name, one in seen.services.items()} == {**hung, "inner": "hung"}
    again = stack.ok("start", "--only", "started,inner", "--json")
    assert again.states == {"started": "changed", "inner": "changed"}
    assert {one["before"] for one in again.outcomes.values()} == {"hung"}
    renewed = stack.ok("restart-one", "renewed", "--json")
    ended = stack.ok("stop", "--only", "ended", "--json")
    assert ended.states == {"ended": "changed"}
    # CONT came first, so that TERM was enough: nobody had to wait for 30 s of grace and be killed.
    assert not [done for done in (again, renewed, ended) if "KILL" in done.out]
    assert not [pid for pid in before.values() if process.identify(pid)]
    for name in ("started", "renewed", "inner"):
        assert answerer(stack, name) != before[name]
    assert len(stack.running()) == 4  # the shell and its server, and two more


# -- started by hand ------------------------------------------------------------------------------------------


def test_started_by_hand_is_adopted_only_with_the_same_command_and_folder(stack: Stack) -> None:
    names = ("absolute", "relative", "resolved", "folder", "arguments")
    ports = {name: stack.tiny(name, grace=20) for name in names}
    stack.write()
    pids = {
        "absolute": by_hand(stack, ports["absolute"]),
        "relative": by_hand(stack, ports["relative"], python=os.path.basename(PYTHON)),
        "resolved": by_hand(stack, ports["resolved"], python=os.path.realpath(PYTHON)),
        "folder": by_hand(stack, ports["folder"], folder=stack.home),
        "arguments": by_hand(stack, ports["arguments"], "--deaf"),
    }
    ours, strangers = names[:3], names[3:]
    seen = stack.inv("status", "--json").services
    assert {name: one["state"] for name, one in seen.items()} == {
        **dict.fromkeys(ours, "up"),
        **dict.fromkeys(strangers, "foreign"),
    }
    begun = stack.inv("start", "--json")
    assert begun.code == 2
    assert begun.states == {**dict.fromkeys(ours, "changed"), **dict.fromkeys(strangers, "failed")}, str(begun)
    for name in ours:
        assert f"started by hand, adopted as pid {pids[name]}" in begun.outcomes[name]["detail"]
    for name in strangers:
        detail = begun.outcomes[name]["detail"]
        assert f"pid {pids[name]} (" in detail and "user " in detail
        assert f"inv kill-port {ports[name]} start --only {name}" in detail
    again = stack.inv("start", "--json")
    assert again.states == {**dict.fromkeys(ours, "ok"), **dict.fromkeys(strangers, "failed")}
    assert {name: answerer(stack, name) for name in names} == pids
    stack.ok("stop", "--json")
    assert not [name for name in ours if process.identify(pids[name])]
    assert {name: answerer(stack, name) for name in strangers} == {name: pids[name] for name in strangers}


def test_health_warns_when_one_started_by_hand_writes_to_a_terminal(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.write()
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    fcntl.fcntl(master, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        hand = stack.spawn(
            [PYTHON, "-c", LOGIN, name, PYTHON, "-S", str(TINY), str(port)], cwd=stack.folder, env=stack.env
        )
        until(lambda: listening(port), 30)
        warning = f"api: its output is the terminal {name}, it dies with that: inv restart-one api"
        before = stack.ok("health", "--json")
        assert warning in before.err, str(before)
        assert "adopted" in stack.ok("start", "--json").outcomes["api"]["detail"]
        adopted = stack.ok("health")
        assert warning in adopted.out, str(adopted)
        assert answerer(stack) == hand.pid
        stack.ok("restart-one", "api", "--json")
    finally:
        os.close(slave)
        with contextlib.suppress(OSError):
            os.close(master)  # the terminal is closed, as a window is
    after = stack.ok("health", "--json")
    assert "terminal" not in after.err
    assert answerer(stack) == recorded(stack) != hand.pid
