"""The inventory while the monitor runs: broken, it holds as it was; changed, only what the change touches is touched.

The monitor takes a file up once it has stood unchanged for 5 s, so each test makes many changes in one go.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.host import process
from ops.memory.watchpost import Watchpost
from ops.model import Process
from ops.operations import watched
from tests.scene import ended, identified, recorded
from tests.stack import Stack
from tests.waiting import until

TAKEN_UP = 40.0  # seconds: 5 to settle, and what a busy machine needs to read it


def who(stack: Stack) -> Process | None:
    return watched.who(Watchpost(str(stack.state)))


def fault(stack: Stack) -> str:
    """Why the inventory as it stands does not hold, as the monitor publishes it."""
    return str(Watchpost(str(stack.state)).readings().get("fault", ""))


def reading(stack: Stack, name: str) -> Mapping[str, Any]:
    return Watchpost(str(stack.state)).readings().get("services", {}).get(name, {})


def pid(stack: Stack, name: str) -> int:
    """Which process is the service now; 0 when none is."""
    with contextlib.suppress(OSError):
        one = recorded(stack, name)["process"]
        return one["pid"] if process.identify(one["pid"]) else 0
    return 0


def body(stack: Stack, name: str) -> str:
    with contextlib.suppress(OSError):
        return stack.get(name)[1]
    return ""


def events(stack: Stack) -> str:
    return (stack.state / "logs" / "monitor.log").read_text()


def alerts(stack: Stack) -> str:
    with contextlib.suppress(OSError):
        return (stack.state / "logs" / "alerts.log").read_text()
    return ""


def started(stack: Stack) -> dict[str, int]:
    """Up with a monitor; the pid of each service."""
    stack.ops["monitor"] = True
    stack.write()
    stack.ok("start")
    return {name: pid(stack, name) for name in stack.services}


def test_f46_a_broken_inventory_changes_nothing_and_is_named_with_line_and_column(stack: Stack) -> None:
    stack.tiny("api")
    before = started(stack)
    file = stack.folder / "inventory.yaml"
    good = file.read_text()
    file.write_text(good.replace("services:", "services: [", 1))
    until(lambda: fault(stack), TAKEN_UP)
    place = re.search(r"inventory\.yaml:\d+: column \d+", fault(stack))
    assert place, fault(stack)
    for command in ("status", "health"):
        done = stack.inv(command)
        assert place[0] in done.out + done.err, str(done)
    first = who(stack)
    assert first
    ended(first)  # the next one has nothing but the broken file, and what the first has kept
    second = until(lambda: (one := who(stack)) and one != first and one, TAKEN_UP)
    assert fault(stack)
    assert pid(stack, "api") == before["api"]
    ended(identified(before["api"]))
    until(lambda: body(stack, "api") not in ("", str(before["api"])), TAKEN_UP)
    after = pid(stack, "api")
    file.write_text(good)
    until(lambda: not fault(stack), TAKEN_UP)
    assert "right again" in events(stack)
    assert stack.ok("health", "--json").document["healthy"]
    assert (pid(stack, "api"), who(stack)) == (after, second)


def test_f47_a_changed_inventory_touches_only_what_it_changes(stack: Stack) -> None:
    quick = [{"http": "/", "every": 1, "timeout": 1}]
    for name in ("changed", "same", "probed", "gone"):
        stack.tiny(name, health=quick)
    stack.tiny("ill", "--body=old", critical=True, health=quick, start_timeout=2)
    stack.tiny("dead", "--body=old", critical=True, health=quick)
    first = started(stack)
    monitor = who(stack)
    ended(identified(first["gone"]))  # so that it becomes a child of the monitor
    until(lambda: body(stack, "gone") not in ("", str(first["gone"])), TAKEN_UP)
    before = {**first, "gone": pid(stack, "gone")}
    script = stack.folder / "no-interpreter"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    stack.services["changed"]["env"] = {"WHAT": "new"}
    stack.services["probed"]["health"] = [*quick, {"http": "/", "body": "never", "every": 1, "restart": False}]
    stack.services["ill"]["command"][-1] = "--answer=500"
    stack.services["dead"]["command"] = ["./no-interpreter"]
    removed = stack.services.pop("gone")
    stack.tiny("new", health=quick)
    stack.write()
    until(lambda: "taken up" in events(stack), TAKEN_UP)
    until(lambda: body(stack, "new"), TAKEN_UP)
    until(lambda: body(stack, "changed") not in ("", str(before["changed"])), TAKEN_UP)
    until(lambda: reading(stack, "probed").get("state") == "unhealthy", TAKEN_UP)
    for name in ("ill", "dead"):  # as they were before, and told
        until(lambda name=name: f"{name}: its new definition is not well" in alerts(stack), TAKEN_UP)
        until(lambda name=name: body(stack, name) == "old", TAKEN_UP)
    assert {name: pid(stack, name) for name in ("same", "probed")} == {
        name: before[name] for name in ("same", "probed")
    }
    assert process.variable(pid(stack, "changed"), "WHAT") == "new"
    assert who(stack) == monitor
    left_out(stack, before["gone"], removed)


def test_f47_an_edit_is_corrected_while_it_still_starts_and_one_that_failed_is_not_tried_again(stack: Stack) -> None:
    """Two broken edits, the second while the first still starts: `right` is put right by it, `worse` is broken anew."""
    for name in ("right", "worse"):
        stack.tiny(name, f"--body={name}", critical=True, start_timeout=14)
    stack.tiny("other")
    started(stack)
    good = {name: list(stack.services[name]["command"]) for name in ("right", "worse")}
    for name in good:
        stack.services[name]["command"] = [*good[name], "--after=900"]
    stack.write()
    until(lambda: "restarted with its new definition: right, worse" in events(stack), TAKEN_UP)
    until(lambda: {body(stack, name) for name in good} == {""}, TAKEN_UP)
    stack.services["right"]["command"] = good["right"]
    stack.services["worse"]["command"] = [*good["worse"], "--after=901"]
    stack.write()
    until(lambda: all(body(stack, name) == name for name in good), TAKEN_UP)
    assert "right:" not in alerts(stack), "what was ended by the correction has not failed"
    assert alerts(stack).count("worse: its new definition is not well") == 1
    before = {name: pid(stack, name) for name in good}
    stack.services["other"]["env"] = {"WHAT": "new"}
    stack.write()
    until(lambda: "restarted with its new definition: other" in events(stack), TAKEN_UP)
    until(lambda: reading(stack, "other").get("state") == "up", TAKEN_UP)
    assert {name: pid(stack, name) for name in good} == before


def left_out(stack: Stack, gone: int, removed: dict[str, Any]) -> None:
    """A service that the inventory no longer names: shown, not watched, and no zombie once it ends."""
    assert stack.inv("status", "--json").services["gone"]["pid"] == gone
    assert reading(stack, "gone") == {}
    one, monitor = identified(gone), who(stack)
    assert monitor
    ended(one)
    until(lambda: not [line for line in process.table().values() if line.ppid == monitor.pid and line.dead])
    assert not re.search(r" gone (down|restart).*", events(stack).split("taken up", 1)[1])
    left = stack.inv("status", "--json")
    assert (left.services["gone"]["state"], left.services["gone"]["wanted"]) == ("down", "down")
    assert "no longer in the inventory: inv stop --only gone" in stack.inv("status").out
    assert "listening" in stack.ok("tail", "gone", "--no-follow").out
    refused = stack.inv("restart-one", "gone")
    assert refused.code == 1
    assert "gone is no longer in the inventory" in refused.err, str(refused)
    stack.ok("stop", "--only", "gone")
    assert "gone" not in stack.inv("status", "--json").services
    assert removed["port"] not in {service["port"] for service in stack.services.values()}


def test_f47_a_new_port_that_a_stranger_holds_is_told_once_and_taken_back(stack: Stack) -> None:
    port = stack.tiny("api", critical=True, start_timeout=3)
    first = started(stack)["api"]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stack.services["api"]["port"] = stranger.getsockname()[1]
        stack.write()
        until(lambda: "RESOLVED" in alerts(stack), TAKEN_UP)
        stack.services["api"]["port"] = port
        assert body(stack, "api") == str(pid(stack, "api")) != str(first)
    critical, resolved = alerts(stack).splitlines()
    assert "CRITICAL" in critical and "api: its new definition is not well (its port is held by" in critical
    assert "RESOLVED" in resolved and "api: well again" in resolved


def test_f47_a_command_that_does_not_exist_waits_until_it_does(stack: Stack) -> None:
    stack.tiny("api")
    before = started(stack)
    program = Path(stack.folder / "server")
    command = stack.services["api"]["command"]
    stack.services["api"]["command"] = ["./server", *command[1:]]
    stack.write()
    until(lambda: "./server" in fault(stack), TAKEN_UP)
    told = stack.inv("status", "--json")
    assert "'./server' was not found" in told.out + told.err, str(told)
    assert pid(stack, "api") == before["api"]
    program.write_text(f'#!/bin/sh\nexec {process.command_line(before["api"])[0]} "$@"\n')
    program.chmod(0o755)
    until(lambda: body(stack, "api") not in ("", str(before["api"])), TAKEN_UP)
    until(lambda: not fault(stack) and reading(stack, "api").get("state") == "up", TAKEN_UP)
    assert stack.ok("health", "--json").services["api"]["stale"] is False
