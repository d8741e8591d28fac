"""The line of `status` and `health` about the monitor.

Knows: which words its state has. Must not know: how that came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.face.colour import coloured

if TYPE_CHECKING:
    from ops.operations.watched import MonitorReport


def monitor_lines(monitor: MonitorReport) -> list[str]:
    """Whether what dies comes back by itself, and whether all of it does after a boot."""
    return [*_now(monitor), *_after_a_boot(monitor)]


def _now(monitor: MonitorReport) -> list[str]:
    if monitor.state == "up":
        swept = f", last full look at {monitor.last_sweep[11:19]}" if monitor.last_sweep else ""
        return [f"monitor: {coloured('up', 'green')}, pid {monitor.pid}{_keeping(monitor)}{swept}"]
    if monitor.wanted:
        pid = f", pid {monitor.pid}" if monitor.pid else ""
        return [f"monitor: {coloured(monitor.state, 'red')}{pid}: {_help(monitor)}"]
    boot = ", and nothing is started at boot" if monitor.boot else ""
    none = f"monitor: none (stopped by command): what dies stays down{boot}: inv monitor-start"
    return [none] if not monitor.pid else []


def _after_a_boot(monitor: MonitorReport) -> list[str]:
    if not monitor.boot or not monitor.wanted:
        return []
    if monitor.boot_fault:
        return [coloured(f"boot:    NOT started: {monitor.boot_fault}: inv install-service", "yellow")]
    return [f"boot:    started by {monitor.boot}"]


def _keeping(monitor: MonitorReport) -> str:
    """Who brings it back."""
    kept = f", kept by {monitor.under}" if monitor.under else ""
    if monitor.under == "systemd":
        return kept
    if monitor.guard:
        return f"{kept}, guard {monitor.guard}"
    return f"{kept}, its guard is coming" if monitor.young else kept + coloured(", no guard", "yellow")


def _help(monitor: MonitorReport) -> str:
    if monitor.guard:
        return f"its guard, pid {monitor.guard}, brings another within 20 s; at once: inv monitor-start"
    if monitor.under == "systemd" and monitor.pid:
        return "systemd brings another within 20 s; at once: inv monitor-start"
    return "what dies now stays down"
