"""The turning of the monitor's one thread: it waits for whatever comes first, and deals with all that has come.

Knows: descriptors, timers, signals, results of other threads. Must not know: services, what anything of that leads to.

Nothing in it waits but `select`. What may take long is done by other threads, which put what came of it into
`_results` and ring. What is much is done in parts, and a turn that has lasted is broken off: what is left of it comes
in the next one, after what is urgent.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import math
import os
import selectors
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ops.errors import OpsError
from ops.watch.clock import AwakeClock, Timers
from ops.watch.crew import Crew

_TO_FINISH = 20.0  # seconds that what is under way has in the end
_A_TURN = 0.002  # seconds after which a turn begins nothing more of a kind
_A_PART = 10  # of many things, those that are done one after the other

Item = TypeVar("Item")


class Reactor(ABC):
    """Turns until a signal ends it. `each_second` hears of every second. What it deals with is told by a subclass."""

    def __init__(self) -> None:
        self.clock = AwakeClock()
        self.timers = Timers()
        self.ending = 0  # the signal that ends it
        self.each_second: list[Callable[[float], None]] = []
        self.before_sleep: list[Callable[[], None]] = []
        self.beat: Callable[[], object] = lambda: None  # shows that it is not stuck
        self._results: collections.deque[tuple[Any, ...]] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._naps = 0
        self.clock.now()
        self._ear, self._mouth = os.pipe()
        for end in (self._ear, self._mouth):
            os.set_blocking(end, False)
        self.listen(self._ear, self._heard)

    @property
    def _now(self) -> float:
        """The moment of this turn."""
        return self.clock.last

    def listen(self, descriptor: int, call: Callable[[], None]) -> None:
        """Has it called whenever the descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, lambda _now: call())

    # -- what a subclass tells ---------------------------------------------------------------------------------

    @abstractmethod
    def _urgent(self, events: list[Any]) -> None:
        """What goes before all else in a turn; `events` are the data of what is ready."""

    @abstractmethod
    def _advance(self, now: float) -> None:
        """What is looked at in every turn."""

    @abstractmethod
    def _longest(self) -> float:
        """The longest that it may wait now, in seconds, timers aside."""

    @abstractmethod
    def _slept(self) -> None:
        """It has not run for a while."""

    @abstractmethod
    def _blind(self, why: str) -> None:
        """Something could not be looked at."""

    @abstractmethod
    def _idle(self) -> bool:
        """Whether nothing is under way that is to be finished before the end."""

    # -- turning ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until a signal ends it; which one."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._second(self._now)
        while not self.ending:
            self.turn()
        self._let_finish()
        return self.ending

    def _signalled(self, number: int, _frame: object) -> None:
        self.ending = number

    def turn(self) -> None:
        """Waits for whatever comes first, and deals with all that has come."""
        for call in self.before_sleep:
            call()
        patience = self._patience()
        events = self._selector.select(patience)
        self.clock.now(patience)
        if self.clock.naps != self._naps:
            self._naps = self.clock.naps
            self._slept()
        self._urgent([key.data for key, _ in events])
        self._call_each(key.data for key, _ in events)  # what is ready stays ready
        self._call_each(self.timers.due(self._now))
        self._call(self._advance, self._now)
        self._take_results()

    def _call_each(self, calls: Iterable[Callable[[float], None]]) -> None:
        """One after the other, until that has lasted."""
        until = time.monotonic() + _A_TURN
        for call in calls:
            self._call(call, self._now)
            if time.monotonic() >= until:
                break

    def in_parts(self, items: Iterable[Item], call: Callable[[Item], None]) -> None:
        """Has it called for each of them, in this turn and the next ones."""
        self._part(iter(list(items)), call, self._now)

    def _part(self, items: Iterator[Item], call: Callable[[Item], None], now: float) -> None:
        some = list(itertools.islice(items, _A_PART))
        for item in some:
            self._call(call, item)
        if some:
            self.timers.at(now, functools.partial(self._part, items, call))

    def _take_results(self) -> None:
        while self._results:
            self._call(*self._results.popleft())

    def _call(self, call: Callable[..., None], *given: Any) -> None:
        """One thing at a time: one that could not look (no descriptor left, say) holds up no other."""
        try:
            call(*given)
        except (OpsError, OSError) as error:
            self._blind(error.seen if isinstance(error, OpsError) else str(error))

    def _patience(self) -> float:
        moment = self.timers.next()
        left = 1.0 if moment is None else max(0.0, moment - self._now)
        return max(0.0, min(left, self._longest()))

    def _put(self, call: Callable[..., None], *result: Any) -> None:
        """From another thread: have this called by the loop."""
        self._results.append((call, *result))
        with contextlib.suppress(OSError):  # full: then it is awake anyway
            os.write(self._mouth, b".")

    def background(self, name: str) -> Callable[[Callable[[], Any], Callable[[Any, BaseException | None], None]], None]:
        """A thread for one kind of work: give it a job, and who hears in the loop what came of it."""
        crew = Crew(name, 1, self._put)
        return lambda job, hear: crew.hand(hear, job)

    def _heard(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self._ear, 4096)

    def _second(self, now: float) -> None:
        self.timers.at(math.floor(now) + 1.0, self._second)  # the whole ones, on which services are asked, too
        for call in self.each_second:
            self.timers.at(now, call)

    def _let_finish(self) -> None:
        until = time.monotonic() + _TO_FINISH
        while not self._idle() and time.monotonic() < until:
            self._selector.select(0.05)
            self._heard()
            self._take_results()
            self.beat()
        self._take_results()
