"""`needs` orders, it never blocks, and a service is not restarted because what it needs was down."""

from __future__ import annotations

import fcntl
import os
import sys
import time

from tests.stack import Stack
from tests.waiting import until


def test_a_need_that_takes_too_long_to_end_does_not_hold_up_a_critical_service(stack: Stack) -> None:
    """The need is deaf and wrong: ending it takes its whole grace. Its start_timeout is all that others wait."""
    stack.tiny("need", "--deaf", grace=50, start_timeout=1, confirm=0)
    stack.write()
    stack.ok("start")
    for one in stack.running("need"):
        os.kill(one.pid, 10)  # SIGUSR1: from now on it answers 500
    until(lambda: stack.get("need")[0] == 500)
    stack.tiny("vital", needs=["need"], critical=True)
    stack.write()
    begun = time.monotonic()
    command = stack.popen("start", "--json")
    until(lambda: stack.running("vital"), 60)
    waited = time.monotonic() - begun
    assert command.poll() is None  # the need is still being ended
    assert waited < 40, waited
    for one in stack.running("need"):
        os.kill(one.pid, 9)  # the rest of its grace shows nothing
    out, _ = command.communicate(timeout=60)
    assert "without waiting longer for need" in out


def test_a_held_lock_of_a_need_does_not_hold_up_a_critical_service(stack: Stack) -> None:
    stack.tiny("need", start_timeout=1)
    stack.tiny("vital", needs=["need"], critical=True)
    stack.write()
    stack.ok("hold", "need")  # makes the state folder
    (stack.state / "locks" / "need").touch(0o600)
    with open(stack.state / "locks" / "need", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = stack.popen("start", "--json", "--timeout", "8")
        until(lambda: stack.running("vital"), 20)
        assert command.poll() is None
    command.communicate(timeout=60)


def test_a_reconciler_is_not_restarted_because_its_bank_was_down(stack: Stack) -> None:
    """recon's own restart probe fails while the bank is down. Starting the bank cures it; its pid stays."""
    bank = stack.tiny("bank")
    ask = "import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=1)"
    probe = {"command": [sys.executable, "-c", ask, f"http://127.0.0.1:{bank}/"], "every": 1, "timeout": 3}
    stack.tiny("recon", needs=["bank"], critical=True, confirm=0, health=[probe])
    stack.write()
    stack.ok("start")
    before = stack.pid("recon")
    for one in stack.running("bank"):
        os.kill(one.pid, 9)
    until(lambda: not stack.running("bank"))
    announced = stack.ok("start", "--check", "--json").states
    done = stack.ok("start", "--json")
    assert done.states == announced == {"bank": "changed", "recon": "ok"}, str(done)
    assert "not restarted for that" in done.outcomes["recon"]["detail"]
    assert stack.pid("recon") == before
