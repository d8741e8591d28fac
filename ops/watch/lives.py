"""Whose death is waited for, and who hears of it.

Knows: pids, births, exit codes of what this process has started. Must not know: services, what a death leads to.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
from typing import Generic, TypeVar

from ops.host import death, process, spawn
from ops.model import Process

_REAPABLE = 0.02  # seconds until what was told dead can be reaped

Mourner = TypeVar("Mourner")


class Lives(Generic[Mourner]):
    """Processes by pid, each with whom its death concerns."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._deaths = death.Deaths()
        self._mourners: dict[int, Mourner] = {}
        self._mute = True
        with contextlib.suppress(OSError):  # no descriptor left for it: then deaths are asked after, see `patience`
            selector.register(self._deaths.fileno(), selectors.EVENT_READ, self.rang)
            self._mute = False

    @staticmethod
    def rang(_now: float) -> None:
        """What is registered for its descriptor: `ended` is to be called."""

    @property
    def patience(self) -> float | None:
        """The longest that `ended` may be left uncalled, in seconds; None: until its descriptor is readable."""
        return death.ASK_EVERY if self._mute else self._deaths.patience

    def watch(self, one: Process, mourner: Mourner) -> bool:
        """False when it is dead already, or its pid somebody else's."""
        if self._deaths.watch(one.pid) and process.alive(one):
            self._mourners[one.pid] = mourner
            return True
        self._deaths.forget(one.pid)
        return False

    def forget(self, one: Process) -> None:
        """Its death is of no concern any more."""
        self._deaths.forget(one.pid)
        self._mourners.pop(one.pid, None)

    def ended(self) -> list[tuple[Mourner, str]]:
        """Those who died since, and how."""
        gone = [(pid, how(spawn.reap(pid, _REAPABLE))) for pid in self._deaths.poll()]
        return [(self._mourners.pop(pid), words) for pid, words in gone if pid in self._mourners]


def how(code: int | None) -> str:
    """How a process ended, in words that do not change from one time to the next."""
    if code is None:
        return "died"
    if code >= 0:
        return f"died: exit {code}"
    try:
        return f"died: {signal.Signals(-code).name}"
    except ValueError:
        return f"died: signal {-code}"
