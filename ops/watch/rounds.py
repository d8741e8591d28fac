"""Asking probes, each on its own schedule, in the monitor's one thread.

Knows: when each is asked next, which answers are awaited. Must not know: what an answer leads to.
"""

from __future__ import annotations

import functools
import math
import selectors
from collections.abc import Callable

from ops.errors import OpsError
from ops.host.probes import Inquiry
from ops.model import Reading
from ops.operations import asking
from ops.operations.site import Site
from ops.watch.charge import AGAIN, Charge, Round
from ops.watch.clock import AwakeClock, Timers

_A_HAIR = 1e-9  # of a period: what was asked at its place is asked again a period later, whatever floats make of it
_TOGETHER = 10  # services whose askings may fall together in each part of a second


def following(started: float, every: float, place: float, count: int) -> float:
    """When what was asked at `started` is asked again, at most `every` seconds later: each of `count` services at its
    place (0 to 1) in the period, so that those who were held up together do not stay together. Whole seconds are
    divided so finely that a few services fall together each time, and with what the loop does every second: an idle
    monitor is to wake seldom, and never to be busy for long."""
    parts = 1 + count // _TOGETHER
    offset = place * every if parts > 1 else 0.0
    if (every * parts).is_integer():
        offset = math.floor(offset * parts) / parts
    return offset + every * math.floor((started - offset) / every + 1.0 + _A_HAIR)


class Rounds:
    """All askings. `count` says of how many services; `answered` hears every reading that says something."""

    def __init__(
        self,
        site: Site,
        selector: selectors.BaseSelector,
        clock: AwakeClock,
        timers: Timers,
        count: Callable[[], int],
        answered: Callable[[Charge, Round, Reading], None],
    ) -> None:
        self._site = site
        self._selector = selector
        self._clock = clock
        self._timers = timers
        self._count = count
        self._answered = answered
        self._under_way: dict[int, tuple[Charge, Round]] = {}

    def ask_at(self, charge: Charge, one: Round, moment: float) -> None:
        """Has it asked then, and not when it was to be before."""
        one.next = moment
        self._timers.at(moment, functools.partial(self._ask, charge, one, moment))

    @property
    def due(self) -> float | None:
        """When one of those under way is to be looked at though no descriptor was ready."""
        return min((one.inquiry.due for _, one in self._under_way.values() if one.inquiry), default=None)

    def advance(self, now: float) -> None:
        """Looks at those that are due, and lets go of those that were cancelled."""
        for charge, one in list(self._under_way.values()):
            if one.inquiry is None or one.inquiry.due <= now:
                self._advance(charge, one, now)

    def _ask(self, charge: Charge, one: Round, moment: float, now: float) -> None:
        """Unless another moment was set since, or its answer is still awaited: askings never pile up."""
        if moment != one.next or one.inquiry is not None or charge.root is None or charge.watch.acting:
            return
        one.naps = self._clock.naps
        try:
            asked = asking.question(self._site, charge.service, one.probe)
        except OpsError:  # no descriptor left to look what it is to be asked with
            self.ask_at(charge, one, now + AGAIN)
            raise
        one.inquiry = Inquiry(asked, now, self._selector, functools.partial(self._advance, charge, one))
        self._under_way[id(one)] = (charge, one)
        self._settle(charge, one, now)

    def _advance(self, charge: Charge, one: Round, now: float) -> None:
        if one.inquiry is not None:
            one.inquiry.advance(now)
        self._settle(charge, one, now)

    def _settle(self, charge: Charge, one: Round, now: float) -> None:
        """Once there is a reading: the next asking is set, and it is told."""
        inquiry = one.inquiry
        if inquiry is not None and inquiry.reading is None:
            return
        self._under_way.pop(id(one), None)
        one.inquiry = None
        if inquiry is None or inquiry.reading is None:  # it was cancelled
            return
        if inquiry.reading.ok is False and one.naps != self._clock.naps:
            self.ask_at(charge, one, now + AGAIN)  # the monitor slept meanwhile, the service may have, too
            return
        starting = charge.watch.state == "starting" and one.probe.restart
        if starting:
            self.ask_at(charge, one, now + charge.next_pause())
        else:
            again = following(inquiry.started, one.probe.every, charge.place, self._count())
            self.ask_at(charge, one, max(now, again))
        one.reading = inquiry.reading
        self._answered(charge, one, inquiry.reading)
