"""F36 and F37: the clock of the day jumps, and the machine sleeps."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import time

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.scene import recorded
from tests.stack import Stack
from tests.test_monitor_itself import both, events, faketime_library, only_those, set_clock, spawn_faked
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, reading, root, state, sweeps, watched

ASLEEP = 18.0  # seconds; silence counts after 15


@pytest.mark.slow
@pytest.mark.skipif(not faketime_library(), reason="libfaketime is not installed (package faketime)")
def test_f36_a_day_forward_and_back_restarts_nothing_and_delays_no_retry(row: Row, stack: Stack) -> None:
    stack.ops.update(delay=1.5, retry_max=1)
    stack.tiny("api")
    stack.tiny("ill", "--answer=500", "--exit-after=0.3", critical=True)  # never well, and tried for ever
    stack.write()
    stack.ok("start", "--only", "api")
    clock = stack.folder / "time"
    clock.write_text("+0")
    monitor = spawn_faked(stack, clock)
    before = root(stack)
    births: set[float] = set()  # of the kernel, which no clock of the day moves
    for jump in ("+1d", "-1d", "+0"):
        set_clock(clock, jump)
        enough = len(births) + 3
        until(lambda enough=enough: births.update(birth(stack, "ill")) or len(births) >= enough, PATIENCE)
    assert events(stack).count("the clock of the day was set") >= 2, "it did not jump"
    _, *later = sorted(births)  # the first restart comes at once
    pauses = [after - before for before, after in itertools.pairwise(later)]
    row.figure("shortest pause before a retry, seconds", min(pauses))
    row.figure("longest pause before a retry, seconds", max(pauses))
    assert min(pauses) > 1.3, f"a retry came too early: {pauses}"
    assert max(pauses) < 3, f"a retry came too late: {pauses}"
    assert root(stack) == before and answerer(stack) == before.pid
    assert not re.search(r" api (restart|down|hung|unhealthy)", events(stack))
    since = Since()
    process.send(before, signal.SIGKILL)
    row.serving(since.until(lambda: answerer(stack) not in (0, before.pid)), since="a later kill")
    assert monitor.poll() is None


def birth(stack: Stack, name: str) -> list[float]:
    """When its present process was started, in seconds since boot; nothing while it has no record."""
    with contextlib.suppress(OSError):
        return [recorded(stack, name)["process"]["birth"]]
    return []


@pytest.mark.slow
def test_f37_after_a_sleep_the_first_looks_end_nobody(row: Row, stack: Stack) -> None:
    """Services, monitor and guard are all stopped and go on, as on a laptop whose lid was closed."""
    stack.tiny("api")
    stack.tiny("slow", "--blocked-slow=0.7", grace=2)  # most of the time a probe of it is under way
    watched(stack)
    watchers = both(stack)
    before = {name: root(stack, name) for name in stack.services}
    for one in (*watchers, *before.values()):
        process.send(one, signal.SIGSTOP)
    lid = time.monotonic()
    until(lambda: time.monotonic() - lid > ASLEEP, ASLEEP + 5, every=0.1)
    since = Since()
    asked = reading(stack)["checked_at"]
    for one in (*before.values(), *watchers):
        process.send(one, signal.SIGCONT)
    row.serving(since.until(lambda: answerer(stack) == before["api"].pid), since="waking")
    row.figure("seconds until the first probe", since.until(lambda: reading(stack)["checked_at"] != asked))
    row.noticed(since.until(lambda: "woke" in events(stack)), since="waking")
    sweeps(stack, 3)
    assert {name: root(stack, name) for name in before} == before, "a service was restarted for having slept"
    assert both(stack) == watchers and only_those(stack, *watchers)
    assert not re.search(r"restart|silent|hung|unhealthy|down", events(stack)), events(stack)
    assert {state(stack, name) for name in before} == {"up"}
    process.send(before["api"], signal.SIGKILL)
    back(stack, before["api"])
