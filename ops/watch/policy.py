"""The decisions of the monitor: a pure table from (watch, reading, now) to (watch, decision).

Knows: counters, thresholds, when a restart is due, what is worth an alert. Must not know: clocks, files, processes,
any I/O. `now` is in seconds of a clock that stands still while the machine sleeps.

A reading is one thing that came to be known of a service. The table turns it into what is remembered; then, the same
for all readings, what has become due is decided: a restart, a give-up, an alert. The rules:

- One failed probe is doubted, and asked again after a second, `confirm` times, before it is believed.
- The first restart comes at once, `attempts` more at least `delay` apart. Then a service is given up and alerted; a
  critical one is tried for ever, the pauses doubling up to `retry_max`. An outage longer than the recovery budget is
  alerted if nothing was before: one alert an outage.
- Attempts are forgiven after `calm` seconds of being up, so one that dies every 20 s spends them too.
- A starting service is judged at its start deadline, not before; it is up at the first success of each gating probe.
- Wrong answers restart nothing while a need is not up; death and silence do.
- Nothing is done about what is held, wanted down, being changed by a command, or without its port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from ops.frozen import frozen
from ops.model import ServiceState
from ops.watch.readings import (
    Acted,
    Answered,
    Died,
    Found,
    Freed,
    NeedRestarted,
    Reading,
    Redefined,
    Taken,
    Tick,
    Used,
    Wished,
)
from ops.watch.rules import Rules, rules_of
from ops.watch.watch import Watch
from ops.watch.wording import critical_event, late, over

__all__ = ["Decision", "Rules", "Watch", "decide", "next_moment", "rules_of"]

_NONE_YET = -1  # attempts before the first start, which is no restart
ALIVE_FOR = 0.25  # seconds that a service without any probe must live to count as started
_WELL: tuple[ServiceState, ...] = ("up", "starting", "stopping", "unknown")


@frozen
class Decision:
    """What is to be done: restart it, or ask `probe` again in a second; and what is to be told, if anything."""

    do: Literal["nothing", "restart", "confirm"] = "nothing"
    why: str = ""
    probe: str = ""
    alert: str = ""
    resolved: str = ""


NOTHING = Decision()


def decide(watch: Watch, reading: Reading, now: float) -> tuple[Watch, Decision]:
    """What is remembered after a reading, and what is to be done about it."""
    before = watch
    watch = _TABLE[type(reading)](watch, reading, now)
    watch, decision = _decide_due(watch, now)
    if decision.do == "nothing" and isinstance(reading, Answered) and _doubted(before, watch, reading):
        decision = replace(decision, do="confirm", probe=reading.probe)
    return watch, decision


def next_moment(watch: Watch) -> float | None:
    """When something becomes due without any reading; None when nothing does."""
    moments = []
    if watch.wanted == "up" and watch.outage is not None and not watch.alerted:
        moments.append(late(watch, watch.outage))
    if watch.wanted == "up" and watch.due is not None and not watch.acting:
        moments.append(watch.due)
    if watch.state == "starting" and not watch.acting:
        moments.append(_deadline(watch))
    if _strained(watch):
        moments.append(watch.since + watch.rules.calm)
    return min(moments, default=None)


# -- what is remembered ------------------------------------------------------------------------------------------


def _wished(watch: Watch, reading: Wished, now: float) -> Watch:
    if reading.wanted == watch.wanted and watch.state != "gave-up":
        return watch
    watch = replace(watch, wanted=reading.wanted, due=None, attempts=0, flapping=False)
    if watch.state == "gave-up":
        watch = replace(watch, state="down", since=now)
    if reading.wanted != "up":
        return replace(watch, outage=None)
    if watch.state == "down":
        return replace(watch, due=now + reading.patience, attempts=_NONE_YET)
    # What runs is judged by its next probe, a foreign one waits for its port.
    return watch if watch.state in _WELL else replace(watch, outage=now)


def _found(watch: Watch, reading: Found, now: float) -> Watch:
    if watch.acting:
        return watch
    watch = replace(watch, due=None, doubts={})
    if reading.anew or watch.state == "gave-up":
        watch = replace(watch, attempts=0, flapping=False)
    if reading.anew:  # by its definition of today
        watch = replace(watch, redefined="")
    if not reading.ready:
        return _starting(watch, now)
    if watch.state == "unknown" and watch.outage is not None:  # ill when the monitor before this one ended
        return replace(watch, unproven=watch.rules.asked) if watch.rules.asked else _up(watch, now)
    return _up(watch, now)


def _died(watch: Watch, reading: Died, now: float) -> Watch:
    if watch.acting:  # the restart under way has ended it
        return replace(_in_state(watch, "down", now), outage=_outage(watch, now))
    if watch.state == "gave-up":
        return watch
    why = "stopped" if watch.wanted == "down" else reading.why
    watch = replace(watch, doubts={}, why=why, redefined="")  # whatever starts now has its new definition
    if watch.state == "unknown" or reading.commanded:
        watch = replace(watch, attempts=_NONE_YET)
    if reading.patience and (watch.outage is None or _next_try(watch, now) is None):
        return replace(_in_state(watch, "down", now), due=now + reading.patience)
    return _failed(watch, "down", why, now)


def _taken(watch: Watch, reading: Taken, now: float) -> Watch:
    if watch.acting:
        return watch
    return replace(_failed(watch, "foreign", f"its port is held by {reading.owner}", now), due=None)


def _freed(watch: Watch, _reading: Freed, now: float) -> Watch:
    if watch.state != "foreign":
        return watch
    return replace(_in_state(watch, "down", now), due=now, attempts=_NONE_YET)


def _answered(watch: Watch, reading: Answered, now: float) -> Watch:
    if watch.acting or watch.state in ("down", "foreign") or reading.ok is None:
        return watch
    if reading.ok:
        return _passed(watch, reading, now)
    excused = reading.excused and not reading.silent
    if watch.state == "starting" and reading.gating:
        others = {probe: count for probe, count in watch.doubts.items() if probe != reading.probe}
        return replace(watch, why=reading.detail, doubts={**others, reading.probe: 0} if excused else others)
    count = watch.doubts.get(reading.probe, 0) + 1
    watch = replace(watch, doubts={**watch.doubts, reading.probe: count})
    if count <= watch.rules.confirm or watch.state in ("starting", "gave-up"):
        return watch
    why = f"{reading.probe}: {reading.detail}"
    if not reading.gating:
        return _ailing(watch, why, now)
    if excused:  # doubted anew once what it needs is back
        return _ailing(replace(watch, doubts={**watch.doubts, reading.probe: 0}), why, now)
    return _failed(watch, "hung" if reading.silent else "unhealthy", why, now)


def _passed(watch: Watch, reading: Answered, now: float) -> Watch:
    doubts = {probe: count for probe, count in watch.doubts.items() if probe != reading.probe}
    watch = replace(watch, doubts=doubts, unproven=watch.unproven - {reading.probe})
    if watch.state == "up" or watch.unproven or any(probe in watch.rules.gating for probe in doubts):
        return watch
    if watch.state == "gave-up":
        watch = replace(watch, attempts=0, flapping=False)
    watch = replace(watch, due=None)
    ailing = [probe for probe, count in doubts.items() if count > watch.rules.confirm]
    if not ailing:
        return _up(watch, now)
    return _ailing(watch, watch.why if watch.state == "unhealthy" else f"{ailing[0]} fails", now)


def _used(watch: Watch, reading: Used, now: float) -> Watch:
    most = watch.rules.max_rss
    if most is None or reading.rss <= most or watch.state != "up" or watch.due is not None:
        return watch
    why = f"memory: {reading.rss // 2**20} MiB, above its max_rss of {most // 2**20} MiB"
    due = _when_planned(watch, now)
    if _relieved_in_vain(watch, now):  # more and more slowly, as one that dies again and again
        due = max(due, _next_try(watch, now) or watch.last_try + watch.rules.retry_max)
    return replace(watch, due=due, why=why, heavy=True)


def _relieved_in_vain(watch: Watch, now: float) -> bool:
    """Whether it was restarted for its memory not long ago: another time spends an attempt."""
    return watch.relieved is not None and now - watch.relieved < watch.rules.calm


def _need_restarted(watch: Watch, reading: NeedRestarted, now: float) -> Watch:
    if not watch.rules.follow_needs or watch.state not in ("up", "unhealthy"):
        return watch
    due = watch.due if watch.due is not None else _when_planned(watch, now)
    return replace(watch, due=due, why=f"need: {reading.need} was restarted", heavy=False)


def _redefined(watch: Watch, reading: Redefined, _now: float) -> Watch:
    return replace(watch, attempts=0, flapping=False, redefined=reading.why)


def _acted(watch: Watch, reading: Acted, now: float) -> Watch:
    watch = replace(watch, acting=False, doubts={}, due=None)
    if reading.result == "started":
        return _starting(watch, now)
    if reading.result == "failed":
        return _failed(watch, "down" if watch.state in _WELL else watch.state, reading.why, now)
    watch = replace(watch, attempts=max(watch.attempts - 1, _NONE_YET))
    if reading.result == "taken":
        return _taken(watch, Taken(reading.why), now)
    return replace(watch, due=now + reading.patience)


_TABLE: Mapping[type, Callable[[Watch, Any, float], Watch]] = {
    Wished: _wished,
    Found: _found,
    Died: _died,
    Taken: _taken,
    Freed: _freed,
    Answered: _answered,
    Used: _used,
    NeedRestarted: _need_restarted,
    Redefined: _redefined,
    Acted: _acted,
    Tick: lambda watch, _reading, _now: watch,
}


def _in_state(watch: Watch, state: ServiceState, now: float) -> Watch:
    return watch if watch.state == state else replace(watch, state=state, since=now)


def _up(watch: Watch, now: float) -> Watch:
    return replace(_in_state(watch, "up", now), outage=None, planned=False, unproven=frozenset(), doubts={})


def _starting(watch: Watch, now: float) -> Watch:
    return replace(watch, state="starting", since=now, unproven=watch.rules.gating, due=None)


def _ailing(watch: Watch, why: str, now: float) -> Watch:
    """Not well, but no reason to restart it: seen, alerted, left alone."""
    return replace(_in_state(watch, "unhealthy", now), why=why, outage=_outage(watch, now))


def _outage(watch: Watch, now: float) -> float | None:
    return now if watch.outage is None and watch.wanted == "up" else watch.outage


def _failed(watch: Watch, state: ServiceState, why: str, now: float) -> Watch:
    """Not well, and believed. When it is wanted, a restart becomes due; None is due when its attempts are spent."""
    if watch.state != "gave-up":
        watch = _in_state(replace(watch, why=why), state, now)
    if watch.wanted != "up" or watch.state == "gave-up":
        return replace(watch, due=None)
    due = watch.due if watch.due is not None else _next_try(watch, now)
    outage = now if watch.outage is None else watch.outage
    given_up = due is None and state != "foreign"
    watch = replace(watch, due=due, outage=outage, planned=False)
    return replace(watch, state="gave-up", since=now, flapping=False) if given_up else watch


def _next_try(watch: Watch, now: float) -> float | None:
    """When the next restart may be; None when the attempts are spent and it is not critical."""
    rules = watch.rules
    if watch.attempts <= 0:
        return now
    beyond = watch.attempts - rules.attempts
    if beyond > 0 and not rules.critical:
        return None
    pause = rules.delay
    if beyond > 0:
        pause = min(max(rules.delay, 1.0) * 2.0 ** min(beyond, 30), max(rules.retry_max, rules.delay))
    return max(now, watch.last_try + pause)


def _when_planned(watch: Watch, now: float) -> float:
    """When a service that is well may be restarted for another reason: that spends no attempt, and is not done again
    and again."""
    return max(now, watch.last_try + watch.rules.delay) if watch.last_try else now


# -- what is due -------------------------------------------------------------------------------------------------


def _decide_due(watch: Watch, now: float) -> tuple[Watch, Decision]:
    watch = _with_time(watch, now)
    if watch.redefined and not watch.acting and watch.wanted == "up":
        if watch.state in ("foreign", "gave-up"):  # that was said of its old definition
            watch = _in_state(watch, "down", now)
        watch = replace(watch, due=now, why=watch.redefined, redefined="")
    if watch.wanted != "up":
        return _with_alert(watch, now, NOTHING)
    if watch.due is None or watch.due > now or watch.acting:
        return _with_alert(watch, now, NOTHING)
    well = watch.state == "up"
    heavy = well and watch.heavy
    attempts = watch.attempts + (not well or (heavy and _relieved_in_vain(watch, now)))
    planned = well and attempts <= watch.rules.attempts
    outage = watch.outage if planned or watch.outage is not None else now
    watch = replace(watch, acting=True, planned=planned, due=None, attempts=attempts, last_try=now, outage=outage)
    watch = replace(watch, heavy=False, relieved=now if heavy else watch.relieved)
    return _with_alert(watch, now, Decision("restart", watch.why))


def _with_time(watch: Watch, now: float) -> Watch:
    """What the passing of time alone changes."""
    if watch.acting:
        return watch
    if watch.state == "starting" and now >= _deadline(watch):
        watch = _judge_start(watch, now)
    if _strained(watch) and now >= watch.since + watch.rules.calm:
        watch = replace(watch, attempts=0, flapping=False)
    return watch


def _judge_start(watch: Watch, now: float) -> Watch:
    if not watch.rules.gating:
        return _up(watch, now)
    why = f"start: not well within {watch.rules.start_timeout:g} s" + (f": {watch.why}" if watch.why else "")
    if watch.unproven <= watch.doubts.keys():  # all that fails is excused
        return _ailing(watch, why, now)
    return _failed(watch, "unhealthy", why, now)


def _strained(watch: Watch) -> bool:
    """Whether it is up, but has not been for long enough to be forgiven."""
    return watch.state == "up" and not watch.acting and (watch.attempts > 0 or watch.flapping)


def _deadline(watch: Watch) -> float:
    return watch.since + (watch.rules.start_timeout if watch.rules.gating else ALIVE_FOR)


def _with_alert(watch: Watch, now: float, decision: Decision) -> tuple[Watch, Decision]:
    spent = watch.attempts > watch.rules.attempts and watch.state != "gave-up"
    if watch.alerted:
        watch = replace(watch, flapping=watch.flapping or spent)
        if watch.wanted == "up" and (watch.state != "up" or watch.flapping):
            return watch, decision
        return replace(watch, alerted=False, flapping=False), replace(decision, resolved=over(watch))
    text = critical_event(watch, now) if watch.wanted == "up" and watch.outage is not None else ""
    if not text:
        return watch, decision
    return replace(watch, alerted=True, flapping=spent), replace(decision, alert=text)


def _doubted(before: Watch, watch: Watch, reading: Answered) -> bool:
    """Whether a failed probe is not believed yet."""
    count = watch.doubts.get(reading.probe, 0)
    return count > before.doubts.get(reading.probe, 0) and count <= watch.rules.confirm and watch.state == before.state
