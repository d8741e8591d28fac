"""What of a watch is worth an alert, in words: pure.

Knows: when an outage has to be told. Must not know: clocks, channels, what was told before.
"""

from __future__ import annotations

from ops.watch.watch import Watch

_LAST_TRY = 2.0  # seconds that the budget is overdrawn, so that the shipped numbers (both fall on 30 s) tell the more


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
    if watch.outage is not None and now >= late(watch, watch.outage):
        return f"not back within {rules.budget:g} s, {tries} so far: {watch.why}"
    return ""


def late(watch: Watch, outage: float) -> float:
    """When an outage has lasted too long. A last try that fails at once is told as what it is: given up."""
    rules = watch.rules
    return outage + rules.budget + (_LAST_TRY if watch.attempts >= rules.attempts and not rules.critical else 0.0)


def over(watch: Watch) -> str:
    """That what was told is over, in words."""
    return "well again" if watch.wanted == "up" else f"no longer wanted up (it is {watch.wanted})"


def _times(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"
