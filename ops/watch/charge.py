"""A charge: what the loop holds of one service besides what the policy remembers of it.

Knows: its process, when each of its probes is asked next. Must not know: what readings lead to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ops.host.probes import Inquiry
from ops.memory.wishes import Wish
from ops.model import Probe, Process, Reading, Service
from ops.watch.policy import Watch, rules_of

_FIRST_PAUSE = 0.005  # seconds between askings of a starting service; it grows, since most are up in no time
_LONGEST_PAUSE = 0.1
AGAIN = 1.0  # seconds until a doubted probe is asked again (law 8 counts on it)


@dataclass
class Round:
    """One probe of one service: asked every so often, never twice at a time."""

    probe: Probe
    next: float = 0.0  # when it is asked again
    inquiry: Inquiry | None = None
    naps: int = 0  # how often the monitor had slept when it was asked
    reading: Reading | None = None

    def cancel(self) -> None:
        """Gives the asking up that is under way."""
        if self.inquiry is not None:
            self.inquiry.cancel()
            self.inquiry = None


@dataclass
class Charge:
    """One watched service. `generation` is that of the wish it was last settled under."""

    service: Service
    watch: Watch
    rounds: tuple[Round, ...] = ()
    root: Process | None = None
    last: Process | None = None  # the one that was watched last, dead or alive
    place: float = 0.0  # among all services, from 0 to 1
    wish: Wish = field(default_factory=Wish)
    settled: int = 0
    moment: float | None = None  # when the policy wants to be asked again
    pause: float = _FIRST_PAUSE
    checked_at: str | None = None
    cause: str = ""  # why it is being restarted
    failing_since: float | None = None  # when the first of the failed askings began, seconds since the epoch
    booting: bool = False  # it is being started for the first time since the machine was
    revived: bool = False  # it was started anew and is not up yet
    since: str = ""  # when it came into its state, ISO 8601
    cpu: tuple[float, float] | None = None  # CPU seconds used, and the moment of that
    previous: Service | None = None  # the last definition that was well, until this one has proved itself
    refused: Service | None = None  # one that did not, and is not tried again

    def next_pause(self) -> float:
        """Seconds until a starting service is asked again."""
        pause, self.pause = self.pause, min(self.pause * 1.3, _LONGEST_PAUSE)
        return pause

    def heard(self, one: Round, reading: Reading) -> None:
        """Remembers since when it does not answer well: what clients felt began then, not when it was believed."""
        if one.probe.restart and reading.ok:
            self.failing_since = None
        elif one.probe.restart and reading.ok is False and self.failing_since is None:
            self.failing_since = time.time() - reading.seconds

    def begin_again(self) -> None:
        """A new process: ask soon, ask nothing twice."""
        self.pause, self.failing_since = _FIRST_PAUSE, None
        for one in self.rounds:
            one.cancel()
            one.reading = None

    def rest_rounds(self, rounds: tuple[Round, ...]) -> None:
        """Other probes from now on."""
        for one in self.rounds:
            one.cancel()
            one.next = -1.0  # no moment: what is set for it is set no more
        self.rounds = rounds

    def rest(self) -> None:
        """No process, nobody to ask."""
        self.root = None
        self.cpu = None
        for one in self.rounds:
            one.cancel()


def charge_of(service: Service, now: float) -> Charge:
    """A service as it comes into the monitor's care: nothing is known of it yet."""
    rounds = tuple(Round(probe) for probe in service.probes())
    return Charge(service, Watch(rules_of(service), since=now), rounds)
