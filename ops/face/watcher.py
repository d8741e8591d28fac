"""The line of `status` and `health` about the monitor.

Knows: which words its state has. Must not know: how that came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.face.colour import coloured

if TYPE_CHECKING:
    from ops.operations.watched import MonitorReport


def monitor_lines(monitor: MonitorReport) -> list[str]:
    """Whether what dies comes back by itself."""
    if monitor.state == "up":
        swept = f", last full look at {monitor.last_sweep[11:19]}" if monitor.last_sweep else ""
        guard = f", guard {monitor.guard}" if monitor.guard else ", its guard is coming"
        guard = guard if monitor.guard or monitor.young else coloured(", no guard", "yellow")
        return [f"monitor: {coloured('up', 'green')}, pid {monitor.pid}{guard}{swept}"]
    if monitor.wanted:
        pid = f", pid {monitor.pid}" if monitor.pid else ""
        if monitor.guard:
            what = f"its guard, pid {monitor.guard}, ends it and brings another within 20 s"
        else:
            what = "what dies now stays down"
        return [f"monitor: {coloured(monitor.state, 'red')}{pid}: {what}"]
    none = "monitor: none (stopped by command): what dies stays down: inv monitor-start"
    return [none] if not monitor.pid else []
