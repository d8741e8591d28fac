"""Law 4: say what is wanted once. It is on the disk before anything is done, it holds, and it outlives a boot."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from typing import Any

import pytest

from ops.host import process
from ops.model import Process
from tests.stack import PYTHON, Stack
from tests.waiting import until


def wanted(stack: Stack) -> dict[str, Any]:
    """What is recorded as wanted, by service."""
    found: dict[str, Any] = json.loads((stack.state / "wanted.json").read_text())["services"]
    return found


def two(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("web")
    stack.write()


def reboot(stack: Stack) -> None:
    """What a reboot leaves: files, no process, and records that name another boot."""
    for one in stack.running():
        process.send(one, signal.SIGKILL)
    until(lambda: not stack.running())
    for path in (stack.state / "services").glob("*.json"):
        said = json.loads(path.read_text())
        said["process"]["boot"] = "11111111-2222-3333-4444-555555555555"
        path.write_text(json.dumps(said))


def test_law_4_every_wish_is_recorded_with_a_growing_generation(stack: Stack) -> None:
    two(stack)
    stack.ok("start")
    assert {(one["up"], one["held"]) for one in wanted(stack).values()} == {(True, False)}
    newest = max(one["generation"] for one in wanted(stack).values())
    for args, up, held in (
        (["stop", "--only", "api"], False, False),
        (["hold", "api"], False, True),
        (["start", "--only", "api"], True, True),
        (["release", "api"], True, False),
        (["restart-one", "api"], True, False),
        (["restart", "--only", "api"], True, False),
        (["reset", "--only", "api"], True, False),
        (["stop", "--only", "api"], False, False),
    ):
        web = wanted(stack)["web"]
        stack.ok(*args)
        said = wanted(stack)
        assert (said["api"]["up"], said["api"]["held"]) == (up, held), args
        if args[0] in ("hold", "release"):  # says who may act, not what is wanted: outruns nobody
            assert said["api"]["generation"] == newest, args
        else:
            assert said["api"]["generation"] > newest, args
            assert said["api"]["by"] == f"inv {args[0]}"
        assert said["web"] == web  # nobody spoke of it
        newest = said["api"]["generation"]
    before = (stack.state / "wanted.json").read_bytes()
    stack.ok("stop", "--only", "api", "kill-port", str(stack.services["web"]["port"]), "status", "--only", "api")
    assert (stack.state / "wanted.json").read_bytes() == before  # already wanted so, or no wish at all


def test_law_4_on_the_disk_before_the_first_signal(stack: Stack) -> None:
    """The system calls in their order: the file is synced, renamed and its folder synced before anybody is told."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    two(stack)
    stack.ok("start")
    trace = stack.folder / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,kill,tgkill,pidfd_send_signal"
    argv = [strace, "-f", "-y", "-o", str(trace), "-e", calls, PYTHON, "-m", "invoke", "stop"]
    done = subprocess.run(argv, cwd=stack.folder, env=stack.env, capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    first_signal = next(i for i, line in enumerate(lines) if re.search(r"(kill|pidfd_send_signal)\(", line))
    rename = next(i for i, line in enumerate(lines) if "rename" in line and "wanted.json" in line)
    synced = [i for i, line in enumerate(lines) if "fsync(" in line and "wanted.json" in line]
    folder = [i for i, line in enumerate(lines) if "fsync(" in line and f"<{stack.state}>" in line]
    assert synced
    assert folder
    assert synced[0] < rename < folder[0] < first_signal, "\n".join(lines[: first_signal + 1])


def test_law_4_stop_holds(stack: Stack) -> None:
    two(stack)
    assert stack.inv("status").code == 2  # never started counts as wanted up
    stack.ok("start", "stop", "--only", "web")
    services = stack.ok("health", "--json").services
    assert (services["web"]["wanted"], services["web"]["state"]) == ("down", "down")
    assert (services["api"]["wanted"], services["api"]["state"]) == ("up", "up")
    stack.ok("restart-one", "api", "hold", "api", "release", "api", "kill-port", str(stack.services["web"]["port"]))
    services = stack.ok("status", "--json").services
    assert (services["web"]["wanted"], services["web"]["state"]) == ("down", "down")
    stack.ok("stop")
    assert stack.ok("health", "--json").document["healthy"] is True


def test_law_4_it_outlives_a_boot_and_a_record_of_a_process_does_not(stack: Stack) -> None:
    two(stack)
    stack.ok("start", "stop", "--only", "web", "hold", "web")
    reboot(stack)
    done = stack.inv("status", "--json")
    assert done.code == 2
    assert {name: (one["wanted"], one["state"]) for name, one in done.services.items()} == {
        "api": ("up", "down"),
        "web": ("held", "down"),
    }
    stack.ok("start", "--only", "api", "release", "web")
    services = stack.ok("status", "--json").services
    assert {name: (one["wanted"], one["state"]) for name, one in services.items()} == {
        "api": ("up", "up"),
        "web": ("down", "down"),
    }


def test_law_4_hold_and_release(stack: Stack) -> None:
    two(stack)
    stack.ok("start")
    pids = {one.pid for one in stack.running()}
    for task, seen in (("hold", "held"), ("release", "up")):
        done = stack.ok(task, "api", "--json", task, "api", "--json", "status", "--json")
        first, second, status = [json.loads(line) for line in done.out.splitlines()]
        assert [one["outcomes"][0]["state"] for one in (first, second)] == ["changed", "ok"]
        assert [one["wanted"] for one in status["hosts"]["localhost"]["services"]] == [seen, "up"]
    assert {one.pid for one in stack.running()} == pids
    stack.ok("hold", "api", "kill-port", str(stack.services["api"]["port"]))
    assert stack.inv("status", "--json").document["healthy"] is True  # held: not wanted up
    assert stack.inv("release", "api", "status", "--json").code == 2


def deaf(stack: Stack) -> Process:
    """A running service whose end lasts until the test kills it: whoever ends it waits as long as the test wants."""
    stack.tiny("api", "--deaf", grace=100)
    stack.write()
    stack.ok("start")
    (old,) = stack.running()
    return old


def impatient(stack: Stack) -> None:
    """From now on whoever ends the service does it soon."""
    stack.services["api"]["grace"] = 0.2
    stack.write()


def test_law_4_the_last_of_two_opposite_wishes_wins(stack: Stack) -> None:
    """A stop that waits for its service while somebody wants it up again is dropped, and says so."""
    old = deaf(stack)
    record = stack.state / "services" / "api.json"
    first = stack.popen("restart-one", "api", "--json")
    until(lambda: json.loads(record.read_text())["stopping"])
    dropped = stack.popen("stop", "--json")
    until(lambda: not wanted(stack)["api"]["up"])
    last = stack.popen("start", "--json")
    until(lambda: wanted(stack)["api"]["up"])
    process.send(old, signal.SIGKILL)
    found = [json.loads(command.communicate(timeout=100)[0])["outcomes"][0] for command in (first, dropped, last)]
    assert found[0]["state"] in ("changed", "skipped"), found  # done with it, or dropped while waiting for health
    assert [one["state"] for one in found[1:]] == ["skipped", "ok"], found
    assert "superseded by inv start" in found[1]["detail"]
    assert wanted(stack)["api"]["up"]
    assert len(stack.running()) == 1


def test_law_4_a_stop_during_a_reset_holds(stack: Stack) -> None:
    """The second half of a reset is no new wish: who said stop in between has said the last word."""
    old = deaf(stack)
    record = stack.state / "services" / "api.json"
    first = stack.popen("reset", "--json")
    until(lambda: json.loads(record.read_text())["stopping"])
    last = stack.popen("stop", "--json")
    until(lambda: not wanted(stack)["api"]["up"])
    process.send(old, signal.SIGKILL)
    (reset,) = json.loads(first.communicate(timeout=100)[0])["outcomes"]
    assert (reset["state"], last.wait(60)) == ("skipped", 0), reset
    assert not wanted(stack)["api"]["up"]
    assert not stack.running()


def test_law_4_a_restart_during_a_reset_is_not_undone(stack: Stack) -> None:
    """A reset that waited for the lock while somebody restarted the service leaves the new one alone."""
    old = deaf(stack)
    record = stack.state / "services" / "api.json"
    first = stack.popen("restart-one", "api", "--json")
    until(lambda: json.loads(record.read_text())["stopping"])
    waiting = stack.popen("reset", "--json")
    until(lambda: wanted(stack)["api"]["by"] == "inv reset", 60)
    impatient(stack)
    last = stack.popen("restart-one", "api", "--json")
    until(lambda: wanted(stack)["api"]["by"] == "inv restart-one", 60)
    process.send(old, signal.SIGKILL)
    found = [json.loads(command.communicate(timeout=100)[0])["outcomes"][0] for command in (first, waiting, last)]
    assert found[0]["state"] in ("changed", "skipped"), found
    assert [one["state"] for one in found[1:]] == ["skipped", "changed"], found
    assert len(stack.running()) == 1
    assert json.loads(record.read_text())["by"] == "inv restart-one"


def test_law_4_wishes_of_many_at_once_are_all_kept(stack: Stack) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        stack.tiny(name)
    stack.write()
    commands = [stack.popen("hold", name) for name in names]
    assert [command.wait(60) for command in commands] == [0] * len(names)
    said = wanted(stack)
    assert {name for name, one in said.items() if one["held"]} == set(names)
    assert len({one["generation"] for one in said.values()}) == len(names)


def test_law_4_a_killed_command_leaves_the_old_or_the_new_wish(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=30)
    stack.write()
    stack.ok("start")
    command = stack.popen("stop")
    until(lambda: not wanted(stack)["api"]["up"])
    command.kill()
    command.wait(10)
    services = stack.inv("status", "--json").services
    assert services["api"]["wanted"] == "down"
