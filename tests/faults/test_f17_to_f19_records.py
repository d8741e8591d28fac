"""F17 to F19: what is written down and no longer true: pids that others have now, another boot, what the dead left."""

from __future__ import annotations

import functools
import json
import operator
import re
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ops.host import process
from ops.memory.state import Record, State
from ops.memory.watchpost import Watchpost
from ops.model import Process
from ops.model import Stack as StackNoun
from ops.operations import watched as post
from tests.faults.row import Row, Since
from tests.faults.stage import sample, well
from tests.scene import alone, bystander, ended, identified, recorded
from tests.stack import PYTHON, Stack
from tests.waiting import until
from tests.watch import PATIENCE, root, state, watched

OTHER_BOOT = "00000000-dead-beef-0000-000000000000"
NAMES = ("pg-api", "bank-api")


def forge(stack: Stack, who: Process, name: str) -> None:
    """Writes a record that says: this process is the service, and well."""
    written = State(StackNoun(stack.name, stack.name), str(stack.folder), str(stack.state))
    written.prepare()
    at = "2024-01-01T00:00:00.000+00:00"
    written.remember(Record(name, who, f"{written.tag}-00000000", "", at, port=None, ready_at=at, grace=1.0))


# Whatever is sent to it stays pending for ever. What cannot be blocked shows by itself: SIGKILL and SIGSTOP at once,
# and the SIGCONT that would hide a SIGSTOP stays pending, too.
WITNESS = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
while True: time.sleep(60)
"""


def witness(stack: Stack) -> Process:
    """A process that has nothing to do with anything, of which can be told whether it was ever sent a signal. Without
    /proc, one that would end at nearly all of them."""
    if sys.platform != "linux":
        return bystander(stack)
    child = stack.spawn([PYTHON, "-S", "-c", WITNESS], cwd="/")
    until(lambda: signals_of(child.pid, "SigBlk") >> (signal.SIGTERM - 1) & 1)
    return identified(child.pid)


def signals_of(pid: int, *masks: str) -> int:
    """Signals as /proc has them, one bit each."""
    said = re.findall(r"^(\w+):\s+([0-9a-f]{16})$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    found = [int(bits, 16) for name, bits in said if name in masks]
    assert len(found) == len(masks)
    return functools.reduce(operator.or_, found)


def signalled(one: Process) -> bool:
    line = process.entry(one.pid)
    if line is None or not process.alive(one) or line.state in "Tt":
        return True
    return sys.platform == "linux" and bool(signals_of(one.pid, "SigPnd", "ShdPnd"))


@pytest.mark.slow
def test_f17_pid_reused(stack: Stack, row: Row) -> None:
    """The records of a service, of the monitor and of the guard name living strangers; every verb meets them."""
    sample(stack, *NAMES)
    stack.write()
    strangers = {name: witness(stack) for name in (*NAMES, "monitor", "guard")}
    forge(stack, strangers["pg-api"], "pg-api")
    shown = stack.inv("status", "--json").services["pg-api"]["pid"]
    assert shown == strangers["pg-api"].pid, "a true record would be believed"
    lies = {name: replace(one, birth=one.birth - 1000.0) for name, one in strangers.items()}

    def lie() -> None:
        for name in NAMES:
            forge(stack, lies[name], name)

    lie()
    seen = stack.inv("status", "--json").services
    assert [(one["state"], one["pid"]) for one in seen.values()] == [("down", None)] * 2
    for verb in (["stop"], ["restart-one", "pg-api"], ["start"], ["reset"]):
        lie()
        stack.ok(*verb)
        assert not any(map(signalled, strangers.values())), f"{verb} signalled a stranger"
    stack.ok("stop")
    lie()
    for kind in ("monitor", "guard"):
        Watchpost(str(stack.state)).sign_on(kind, lies[kind])
    since = Since()
    stack.ok("start", "--only", "pg-api")  # bank-api stays down: that was wanted last
    row.serving(since.until(lambda: well(stack, "pg-api")), since="the start")
    stack.ok("monitor-start")
    until(lambda: post.who(Watchpost(str(stack.state)), "guard"), PATIENCE)
    until(lambda: state(stack, "pg-api") == "up" and state(stack, "bank-api") == "down", PATIENCE)
    assert recorded(stack, "pg-api")["process"]["pid"] == alone(stack, "pg-api").pid
    stack.ok("stop", "monitor-stop")
    harmed = [name for name, one in strangers.items() if signalled(one)]
    row.figure("strangers signalled", len(harmed))
    assert harmed == []


def test_f18_another_boot(stack: Stack, row: Row) -> None:
    """All are gone, as after a power cut; the records name pids of the boot before, which others have now. A monitor
    begins, as at boot."""
    sample(stack, *NAMES)
    watched(stack)
    stack.ok("stop", "--only", "bank-api")
    for one in [*stack.watchers(), *stack.running()]:  # stopped first, so that none brings another back
        process.send(one, signal.SIGSTOP)
    for one in [*stack.watchers(), *stack.running()]:
        ended(one)
    strangers = {name: bystander(stack) for name in (*NAMES, "monitor", "guard")}
    for name in NAMES:
        forge(stack, replace(strangers[name], boot=OTHER_BOOT), name)
    for kind in ("monitor", "guard"):
        Watchpost(str(stack.state)).sign_on(kind, replace(strangers[kind], boot=OTHER_BOOT))
    seen = stack.inv("status", "--json").services
    assert [(one["state"], one["wanted"]) for one in seen.values()] == [("down", "up"), ("down", "down")]
    since = Since()
    stack.ok("monitor-start")
    row.serving(since.until(lambda: well(stack, "pg-api")), since="the monitor's start")
    until(lambda: state(stack, "pg-api") == "up" and state(stack, "bank-api") == "down", PATIENCE)
    assert recorded(stack, "pg-api")["process"]["boot"] == process.boot_id()
    assert recorded(stack, "pg-api")["process"]["pid"] == alone(stack, "pg-api").pid and not stack.running("bank-api")
    assert [name for name, one in strangers.items() if not process.alive(one)] == []


def test_f19_left_behind(stack: Stack, row: Row) -> None:
    """First what really stays when all are killed at once in the middle of a restart; then garbage in its place."""
    sample(stack, *NAMES)
    stack.services["pg-api"]["grace"] = 30
    watched(stack)
    stack.fault("pg-api", "ignore-term")
    command = stack.popen("restart-one", "pg-api")
    until(lambda: recorded(stack, "pg-api")["stopping"], PATIENCE)  # it holds the lock, and waits
    command.kill()
    killed_at_once(stack)
    since = Since()
    states = stack.ok("start", "--json").states
    row.serving(since.seconds(), since="the start")
    assert states == {**dict.fromkeys(NAMES, "changed"), "monitor": "changed"}
    assert all(well(stack, name) == alone(stack, name).pid for name in NAMES)

    killed_at_once(stack)
    other = bystander(stack)
    said = json.dumps({"turn": 7, "pid": other.pid, "by": "inv start", "at": "2024-01-01T00:00:00Z"}).encode()
    written = [*(stack.state / "locks").iterdir(), *stack.state.glob("*.lock")]
    assert {"pg-api", "monitor.lock", "guard.lock", "wanted.lock"} <= {path.name for path in written}
    for number, path in enumerate(sorted(written)):
        path.write_bytes(said if number % 2 else b"\0\xff{" * 99)
    for name in NAMES:
        (stack.public / f"{name}.pid").write_text(f"{other.pid}\n")
    (stack.state / "bell").unlink(missing_ok=True)
    (stack.state / "bell").write_text("not a FIFO any more")
    assert stack.ok("start", "--json").states == {**dict.fromkeys(NAMES, "changed"), "monitor": "changed"}
    for name in NAMES:
        until(lambda name=name: state(stack, name) == "up" and root(stack, name) == alone(stack, name), PATIENCE)
        assert (stack.public / f"{name}.pid").read_text().split() == [str(alone(stack, name).pid)]
    assert stat.S_ISFIFO((stack.state / "bell").stat().st_mode) and post.who(Watchpost(str(stack.state)))
    stack.ok("stop")
    assert not stack.running() and process.alive(other)
    row.figure("files that were left or spoilt", len(written) + len(NAMES) + 1)


def killed_at_once(stack: Stack) -> None:
    """All that is ours, so that none can bring another back or clear up."""
    everyone = [*stack.watchers(), *stack.running()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in everyone:
            process.send(one, number)
    for one in everyone:
        until(lambda one=one: not process.alive(one))
