"""What a test of the matrix has measured: the fixture `row` of tests/faults/conftest.py is one of these."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from tests.waiting import until

T = TypeVar("T")
NAME = re.compile(r"test_f(\d\d)_\w+")  # a test of a row: test_f01_crash


def number_of(test: str) -> int:
    """The row that a test is named after; 0 when it is none."""
    found = NAME.match(test)
    return int(found[1]) if found else 0


@dataclass
class Row:
    """One row's figures. Seconds are wall time since the fault was injected, as the test's own clock had it; where that
    clock began with anything else (a repair, a command, a later kill), `since` says with what."""

    number: int
    seconds: dict[str, float] = field(default_factory=dict)
    since: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)

    def noticed(self, seconds: float, since: str = "") -> None:
        """The toolkit knew: what `status` reads, or the log of the monitor, said so."""
        self._took("noticed", seconds, since)

    def serving(self, seconds: float, since: str = "") -> None:
        """Somebody answered again as the service should: row.serving(0.034, since="the thaw")."""
        self._took("serving", seconds, since)

    def figure(self, name: str, value: float | str) -> None:
        """Anything else worth telling: row.figure("lines lost", 0)."""
        self.figures[name] = round(value, 3) if isinstance(value, float) else value

    def _took(self, what: str, seconds: float, since: str) -> None:
        self.seconds[what] = round(seconds, 3)
        self.since.pop(what, None)
        if since:
            self.since[what] = since


class Since:
    """A clock that starts with the fault: since = Since(); inject(); row.noticed(since.until(look))."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def until(self, look: Callable[[], T], within: float = 40.0) -> float:
        """Seconds from the fault to the first look that finds something."""
        until(look, within, every=0.002)
        return self.seconds()

    def both(self, one: Callable[[], T], other: Callable[[], T], within: float = 40.0) -> tuple[float, float]:
        """The same for two looks side by side, so that neither waits for the other: noticed, and serving."""
        with ThreadPoolExecutor(2) as pool:
            first, second = (pool.submit(self.until, look, within) for look in (one, other))
            return first.result(), second.result()
