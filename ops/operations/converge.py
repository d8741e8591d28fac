"""Converging, written once: look, act only if needed, look again; and in which order.

Knows: plans, outcomes, `--check`, what waits for what. Must not know: what is converged.

`--check` and the real run share one plan: what --check announces is what the run then does (law 5).
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Generic, Literal, TypeVar

from ops.errors import Interrupted, OpsError
from ops.frozen import frozen
from ops.model import Outcome, OutcomeState
from ops.operations.site import Site

Seen = TypeVar("Seen")
Do = Literal["nothing", "wait", "tidy", "adopt", "spawn", "restart", "end", "write", "refuse", "skip"]

_STATES: Mapping[Do, OutcomeState] = {"nothing": "ok", "wait": "ok", "refuse": "failed", "skip": "skipped"}
# More threads than this gain nothing: they wait for the same two or ten cores.
_MOST_AT_ONCE = 256
_LISTEN_EVERY = 0.1  # seconds: a signal that arrives just before a wait begins does not end that wait


@frozen
class Plan:
    """What is to be done about one thing, and why. A plan that does nothing, waits, refuses or skips changes
    nothing; all others do. `after` is the state that is expected then, as --check announces it."""

    do: Do
    before: str
    after: str
    why: str = ""
    more: tuple[str, ...] = ()

    @property
    def state(self) -> OutcomeState:
        return _STATES.get(self.do, "changed")

    @property
    def idle(self) -> bool:
        """Whether there is nothing to carry out, not even to wait for."""
        return self.do in ("nothing", "refuse", "skip")

    def outcome(self, name: str, action: str) -> Outcome:
        return Outcome(name, action, self.state, self.before, self.after, self.why, more=self.more)


@frozen
class Convergence(Generic[Seen]):
    """One thing to converge: how to look, what to plan from what was seen, and how to carry the plan out."""

    name: str
    action: str
    look: Callable[[], Seen]
    plan: Callable[[Seen], Plan]
    carry_out: Callable[[Seen, Plan], Outcome]


def converge(site: Site, thing: Convergence[Seen]) -> Outcome:
    """Looks, plans, and unless --check carries the plan out; whatever goes wrong becomes a failed outcome."""
    begun = time.monotonic()
    try:
        seen = thing.look()
        plan = thing.plan(seen)
        if site.check or plan.do in ("refuse", "skip"):
            outcome = plan.outcome(thing.name, thing.action)
        else:
            outcome = thing.carry_out(seen, plan)
    except Interrupted:
        raise
    except OpsError as error:
        outcome = failure(thing.name, thing.action, error)
    outcome = replace(outcome, seconds=round(time.monotonic() - begun, 3), host=site.host.name)
    site.waiting(thing.name, "")
    site.done(outcome)
    return outcome


def failure(name: str, action: str, error: OpsError, before: str = "unknown") -> Outcome:
    """An error of one service as an outcome: the others go on."""
    head, *more = error.lines()
    return Outcome(name, action, "failed", before, before, head, more=tuple(more))


def in_order(
    site: Site,
    names: Sequence[str],
    after: Mapping[str, Collection[str]],
    work: Callable[[str, Mapping[str, Outcome]], Outcome],
    patience: Callable[[str], float] = lambda name: math.inf,
) -> list[Outcome]:
    """Does the work for each name once those it comes after are settled (however they turned out), side by side
    where the order allows; among equals in the order of `names`. `work` gets the outcomes so far. Nobody waits for
    another longer than `patience` of it, in seconds since it began.

    Ctrl-C lets what is under way reach its next checkpoint, then raises Interrupted."""
    holders = {name: set(after.get(name, ())) & set(names) for name in names}
    settled: dict[str, Outcome] = {}
    waiting = list(names)
    running: dict[Future[Outcome], str] = {}
    until: dict[str, float] = {}  # the moment from which nobody waits for it any more
    with _noted() as pressed, ThreadPoolExecutor(max_workers=max(1, min(len(waiting), _MOST_AT_ONCE))) as pool:
        try:
            while (waiting or running) and not pressed:
                passed = {*settled, *(name for name, moment in until.items() if moment <= time.monotonic())}
                ready = [name for name in waiting if holders[name] <= passed]
                if not ready and not running:
                    ready = waiting[:1]  # a cycle, which the inventory refuses; still nothing may be held down
                for name in ready:
                    waiting.remove(name)
                    until[name] = time.monotonic() + patience(name)
                    running[pool.submit(work, name, dict(settled))] = name
                left = _patience_left(until, passed) if waiting else math.inf
                for future in wait(running, min(left, _LISTEN_EVERY), FIRST_COMPLETED).done:
                    settled[running.pop(future)] = future.result()
        except BaseException:
            site.cancelled.set()
            raise
        if pressed:
            site.cancelled.set()  # before the pool is waited for
    if pressed:
        site.cancelled.set()
        site.checkpoint()
    return [settled[name] for name in names]


def _patience_left(until: Mapping[str, float], passed: Collection[str]) -> float:
    """Seconds until somebody's patience with another ends; infinity when it never does."""
    moment = min((moment for name, moment in until.items() if name not in passed), default=math.inf)
    return max(0.0, moment - time.monotonic())


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """Ctrl-C is noted instead of raised wherever the main thread happens to be: inside a lock of the thread pool it
    would leave that broken. Once noted, another one does not break off how the command ends."""
    pressed: list[int] = []
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield pressed
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN if pressed else signal.default_int_handler)
