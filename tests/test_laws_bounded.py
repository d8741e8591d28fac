"""Law 6: every wait is bounded, and Ctrl-C, or SIGKILL, leaves a state from which the next command carries on.

The bounds that are asserted are far above what is promised, since machines are busy, and far below what would be
waited for otherwise (a minute or more)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from ops.host import process
from tests.stack import Stack
from tests.waiting import until

LONG = 90  # seconds; what a wait that is not bounded would take
BUSY = 30  # seconds; what a bounded one may take on a busy machine


def stopping(stack: Stack, name: str = "api") -> bool:
    """Whether a command is ending it just now."""
    try:
        return bool(json.loads((stack.state / "services" / f"{name}.json").read_text())["stopping"])
    except FileNotFoundError:
        return False


def interrupt(command: subprocess.Popen[str]) -> None:
    """Ctrl-C: SIGINT to the whole process group of the command, which must be its own."""
    os.killpg(command.pid, signal.SIGINT)


def interrupted(command: subprocess.Popen[str]) -> tuple[str, str]:
    """What a command printed that ended as an interrupted one does."""
    out, err = command.communicate(timeout=BUSY)
    assert command.returncode == 130, (command.returncode, out, err)
    assert "Traceback" not in out + err
    assert "interrupted" in err
    return out, err


# -- bounded ---------------------------------------------------------------------------------------------------


def test_law_6_the_timeout_of_a_start(stack: Stack) -> None:
    stack.tiny("api", "--answer=500", start_timeout=LONG)
    stack.tiny("mute", "--answer=hang", start_timeout=LONG, health=[{"http": "/", "every": 1, "timeout": LONG}])
    stack.tiny("late", f"--after={LONG}", start_timeout=LONG)
    stack.tiny("web", needs=["api"])
    stack.write()
    done = stack.inv("start", "--timeout", "1", "--json")
    assert (done.code, done.seconds < BUSY) == (2, True), str(done)
    failed = {"api": "failed", "mute": "failed", "late": "failed"}
    assert {name: state for name, state in done.states.items() if name != "web"} == failed, str(done)
    assert "--timeout" in done.outcomes["api"]["detail"]
    again = stack.inv("restart", "--only", "late", "--timeout", "1", "--json")
    assert (again.code, again.seconds < BUSY) == (2, True), str(again)


def test_law_6_start_timeout_and_grace_are_the_bounds_without_a_timeout(stack: Stack) -> None:
    stack.tiny("late", f"--after={LONG}", start_timeout=1)
    stack.tiny("deaf", "--deaf", grace=1)
    stack.write()
    done = stack.inv("start", "--json")
    assert (done.states, done.seconds < BUSY) == ({"late": "failed", "deaf": "changed"}, True), str(done)
    done = stack.ok("stop", "--json")
    assert done.seconds < BUSY
    assert "KILL after 1 s" in done.outcomes["deaf"]["detail"]
    assert not stack.running()


def test_law_6_a_service_that_answers_nothing_delays_nobody(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("mute")
    stack.services["mute"]["grace"] = 1
    stack.write()
    stack.ok("start")
    mute = next(one for one in stack.running("mute"))
    os.kill(mute.pid, signal.SIGSTOP)
    for task in ("status", "health"):
        done = stack.inv(task, "--json")
        assert (done.code, done.seconds < BUSY) == (2, True), str(done)
        assert {name: one["state"] for name, one in done.services.items()} == {"api": "up", "mute": "hung"}
    done = stack.ok("start", "--json")
    assert done.seconds < BUSY
    assert done.states == {"api": "ok", "mute": "changed"}
    assert not process.alive(mute)


def test_law_6_a_lock_held_by_a_stopped_command_is_waited_for_no_longer(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=LONG)
    stack.tiny("web")
    stack.write()
    stack.ok("start")
    holder = stack.popen("restart-one", "api")
    until(lambda: stopping(stack))
    os.kill(holder.pid, signal.SIGSTOP)
    for args in (["stop"], ["restart-one", "api"], ["reset", "--only", "api"]):
        done = stack.inv(*args, "--timeout", "2", "--json")
        assert (done.code, done.seconds < BUSY) == (2, True), str(done)
        assert f"pid {holder.pid} (inv restart-one)" in done.outcomes["api"]["detail"]
        assert f"kill -9 {holder.pid}" in done.outcomes["api"]["detail"]
        until(lambda: not stack.running("web"))  # nobody else waits for it
    assert stack.inv("status", "--json").services["api"]["state"] == "stopping"  # no lock is needed to look
    holder.kill()  # the line that was named
    holder.wait(10)
    stack.services["api"]["grace"] = 1
    stack.write()
    stack.ok("start")
    assert len(stack.running("api")) == 1


# -- interrupted -----------------------------------------------------------------------------------------------


def test_law_6_ctrl_c_in_the_middle_of_start(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("late", f"--after={LONG}", start_timeout=LONG)
    stack.tiny("web", needs=["late"])
    stack.write()
    command = stack.popen("start", start_new_session=True)
    assert "api" in command.stdout.readline()  # it is up, and late is waited for
    before = {one.pid for one in stack.running()}
    interrupt(command)
    out, _ = interrupted(command)
    assert "localhost : ok=1 changed=1 " in out
    assert {one.pid for one in stack.running()} == before  # what was started goes on
    stack.tiny("late")
    stack.write()
    stack.ok("restart-one", "late")
    done = stack.ok("start", "--json")
    assert done.states == {"api": "ok", "late": "ok", "web": "changed"}
    assert {one.pid for one in stack.running("api")} <= before


def test_law_6_ctrl_c_at_the_moment_when_something_settles(stack: Stack) -> None:
    """Just then the command is busy with its threads and locks; pressed once or twice, it must end all the same."""
    stack.tiny("api")
    stack.tiny("late", f"--after={LONG}", start_timeout=LONG)
    stack.tiny("web", needs=["late"])
    stack.write()
    for turn in range(6):
        command = stack.popen("start", start_new_session=True)
        assert "api" in command.stdout.readline()
        for _ in range(1 + turn % 2):
            interrupt(command)
        interrupted(command)
    assert {name: len(stack.running(name)) for name in stack.services} == {"api": 1, "late": 1, "web": 0}


def test_law_6_ctrl_c_twice_with_json(stack: Stack) -> None:
    stack.tiny("late", f"--after={LONG}", start_timeout=LONG)
    stack.write()
    command = stack.popen("start", "--json", start_new_session=True)
    until(lambda: stack.running("late") and (stack.state / "services" / "late.json").exists())
    interrupt(command)
    interrupt(command)
    out, _ = interrupted(command)
    assert json.loads(out)["task"] == "start"
    assert len(stack.running("late")) == 1


@pytest.mark.parametrize(
    ("how", "args"),
    [
        ("Ctrl-C", ["stop"]),
        ("Ctrl-C", ["restart"]),
        ("Ctrl-C", ["reset"]),
        ("SIGKILL", ["restart-one", "api"]),
    ],
)
def test_law_6_broken_off_while_a_service_is_being_ended(stack: Stack, how: str, args: list[str]) -> None:
    stack.tiny("api", "--deaf", grace=LONG)
    stack.write()
    stack.ok("start")
    before = stack.running("api")
    command = stack.popen(*args, start_new_session=True)
    until(lambda: stopping(stack))
    if how == "Ctrl-C":
        interrupt(command)
        interrupted(command)
    else:
        command.kill()
        command.wait(10)
    assert stack.running("api") == before  # TERM was sent, nothing more
    stack.services["api"]["grace"] = 0.5
    stack.write()
    if args == ["stop"]:
        stack.ok(*args)  # the next command carries on
        assert not stack.running()
    stack.ok("start")
    stack.ok("restart-one", "api")
    (after,) = stack.running("api")
    assert after not in before


def test_law_6_ctrl_c_while_waiting_for_a_lock_or_for_health(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=LONG)
    stack.write()
    stack.ok("start")
    holder = stack.popen("restart-one", "api", start_new_session=True)
    until(lambda: stopping(stack))
    waiter = stack.popen("stop", start_new_session=True)
    until(lambda: not json.loads((stack.state / "wanted.json").read_text())["services"]["api"]["up"])
    interrupt(waiter)
    interrupted(waiter)
    interrupt(holder)
    interrupted(holder)
    stack.services["api"]["grace"] = 0.5
    stack.write()
    assert stack.ok("stop", "--json").states == {"api": "changed"}
    assert not stack.running()


def test_law_6_sigkill_in_the_middle_of_start(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("late", "--after=3", start_timeout=20, needs=["api"])
    stack.tiny("web", needs=["late"])
    stack.write()
    command = stack.popen("start")
    (late,) = until(lambda: stack.running("late"))
    command.kill()
    command.wait(10)
    done = stack.ok("start", "--json")
    assert done.outcomes["late"]["state"] in ("ok", "changed")  # still starting, or up without a record
    assert done.states["web"] == "changed"
    assert stack.running("late") == [late]
    found: dict[str, Any] = stack.ok("status", "--json").services
    assert {one["state"] for one in found.values()} == {"up"}
