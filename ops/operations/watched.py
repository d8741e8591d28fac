"""What there is of the monitor, as every command sees it: whether it watches, what it has read last.

Knows: who signed on, heartbeats, readings. Must not know: how a monitor is launched or ended. It imports little:
`status` is typed often.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ops.frozen import frozen
from ops.host import process
from ops.memory.watchpost import Watcher, Watchpost
from ops.model import Process, ServiceState
from ops.operations.site import Site

SILENT_AFTER = 15.0  # seconds without a heartbeat
_AGAIN = 2.5  # seconds in which one that lives shows it, whatever the clock of the day says
_YOUNG = 5.0  # seconds in which one that has begun is getting itself a guard
_LATE = 5.0  # seconds that a watcher needs to notice and end a silent one


@frozen
class MonitorReport:
    """The monitor's state, pid and the moment of its last sweep. `wanted` False: stopped by command, or this stack has
    none. `fault`: why the inventory as it stands does not hold; `blind`: that its sweeps do not come back; `guard`: the
    pid of whoever would bring it back."""

    state: ServiceState = "down"
    pid: int | None = None
    last_sweep: str | None = None
    wanted: bool = True
    fault: str = ""
    blind: str = ""
    guard: int | None = None
    young: bool = False  # it has only just begun
    under: str = ""  # the init system that keeps it, if that has started it
    boot: str = ""  # what starts it at boot, in words; "" for nothing
    boot_fault: str = ""  # why that would not

    @property
    def well(self) -> bool:
        return self.state == "up" or not self.wanted


def who(post: Watchpost, watcher: Watcher = "monitor") -> Process | None:
    """The living process that watches; None when there is none."""
    signed = post.post(watcher)
    if signed and process.alive(signed.process):
        return signed.process if post.manned(watcher) else None
    if not post.manned(watcher):
        return None
    # On a full disk it could not sign on; whoever holds the lock has written its pid into it. For a moment that is the
    # pid of the holder before, which anybody may have by now.
    pid = post.holder(watcher)
    return process.identify(pid) if pid > 1 and _is_watcher(pid, watcher) else None


def _is_watcher(pid: int, watcher: Watcher) -> bool:
    """Whether its command line is that of such a watcher."""
    line = process.command_line(pid)
    return any(one.endswith("ops/watch/__main__.py") and kind == watcher for one, kind in pairwise(line))


def report(site: Site) -> MonitorReport:
    """What there is of it. `hung`: it is stopped, or has not shown its heartbeat for a while."""
    post = Watchpost(site.state.path)
    wish = post.wish().up
    wanted = site.host.stack.monitor if wish is None else wish
    one, guard = who(post), who(post, "guard")
    its = guard.pid if guard else None
    signed = post.post()
    if one is None:
        return MonitorReport(wanted=wanted, guard=its)
    under = signed.under if signed and signed.process == one else ""
    said = post.readings()
    swept = said.get("swept_at")
    swept = swept if isinstance(swept, str) and (not signed or swept >= signed.started_at) else None  # its own
    fault, blind = (str(said.get(key, "")) for key in ("fault", "blind"))
    line = process.entry(one.pid)
    young = line is not None and line.age < _YOUNG
    return MonitorReport(_state(post, one), one.pid, swept, wanted, fault, blind, its, young, under)


def _state(post: Watchpost, one: Process) -> ServiceState:
    line = process.entry(one.pid)
    return "hung" if (line and line.stopped) or silent(post, SILENT_AFTER + _LATE) else "up"


def silent(post: Watchpost, seconds: float, pause: Callable[[float], None] = time.sleep) -> bool:
    """Whether the monitor has shown no heartbeat for so long. The clock of the day may have been set since, so one that
    looks silent by it is watched for a moment."""
    before = post.beaten()
    if before is None or -1.0 < time.time() - before / 1e9 < seconds:
        return False
    until = time.monotonic() + _AGAIN
    while time.monotonic() < until:
        pause(0.1)
        if post.beaten() != before:
            return False
    return True


def readings(site: Site) -> Mapping[str, Mapping[str, Any]]:
    """By service: what a living monitor has published last; nothing when there is none."""
    post = Watchpost(site.state.path)
    said = post.readings().get("services") if who(post) else None
    return said if isinstance(said, dict) else {}
