"""What of a watch is worth an alert, in words: pure.

Knows: when an outage has to be told. Must not know: clocks, channels, what was told before.
"""

from __future__ import annotations

from ops.watch.watch import Watch


def critical_event(watch: Watch, now: float) -> str:
    """What of an outage has to be told; "" as long as it is being put right in time."""
    rules, tries = watch.rules, _times(watch.attempts)
    if watch.state == "gave-up":
        return f"given up after {tries}: {watch.why}"
    if watch.state == "foreign":
        return f"not running, {watch.why}"
    underway = watch.acting or watch.state == "starting"  # the last attempt may yet help
    if watch.attempts > rules.attempts + underway:
        return f"not well after {tries}, tried on: {watch.why}"
    if watch.state == "unhealthy" and watch.due is None and not watch.acting:
        return f"unhealthy, {watch.why}"
    if watch.outage is not None and now >= watch.outage + rules.budget:
        return f"not back within {rules.budget:g} s, {tries} so far: {watch.why}"
    return ""


def over(watch: Watch) -> str:
    """That what was told is over, in words."""
    return "well again" if watch.wanted == "up" else f"no longer wanted up (it is {watch.wanted})"


def _times(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"
