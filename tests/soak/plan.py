"""Which faults come, in which order, against whom: drawn from the seed alone.

Knows: names of faults and services, dice. Must not know: processes, time. The same seed gives the same sequence,
however long each fault takes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.soak.ground import SERVICES

PAUSE = (1.0, 6.0)  # seconds between one fault and the next
HOLD = (1.0, 5.0)  # seconds that a fault which lasts lasts
TURNS = 6  # faults until all is given time to become well
CALM = 3  # times that every fault comes which leaves monitor and guard alone, before one comes that hits them


@dataclass(frozen=True)
class Step:
    """One fault. `pause` comes before it, `hold` is how long it lasts if it lasts. `fault` is its name in the table,
    with SERVICE where it has a victim and SECONDS where it lasts."""

    number: int
    pause: float
    fault: str
    service: str
    hold: float

    @property
    def settles(self) -> bool:
        """Whether all must become well after it, before the next one comes."""
        return self.number % TURNS == 0

    def __str__(self) -> str:
        return self.fault.replace("SERVICE", self.service).replace("SECONDS", f"{self.hold:.1f} s")


def steps(seed: int, faults: Sequence[str], calm: Sequence[str] = ()) -> Iterator[Step]:
    """The sequence of a seed, without an end. Every fault comes once before one comes again; then come, a few times,
    the `calm` ones only, which leave monitor and guard alone: in a life of half a minute nothing is seen to grow."""
    dice = random.Random(seed)
    for number, fault in enumerate(_names(dice, faults, [one for one in faults if one in calm]), 1):
        # recon-api is what the requirement is about: it is hit as often as all others together
        service = dice.choice(SERVICES) if dice.random() < 0.5 else SERVICES[0]
        yield Step(number, dice.uniform(*PAUSE), fault, service, dice.uniform(*HOLD))


def _names(dice: random.Random, faults: Sequence[str], calm: Sequence[str]) -> Iterator[str]:
    while True:
        for several in (faults, *[calm] * CALM):
            yield from dice.sample(several, len(several))
