"""The site of one request: the host it acts on, its state folder, its time, and whom to tell.

Knows: what every verb needs besides the service. Must not know: what any verb does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ops.errors import Interrupted, UsageError
from ops.memory.state import State
from ops.model import Host, Outcome, Service

Tell = Callable[[str, str], None]  # (service, what is being waited for; "" when it is over)


@dataclass
class Site:
    """Where and how one request is carried out. `timeout` bounds the whole of it, in seconds."""

    host: Host
    state: State
    task: str
    check: bool = False
    timeout: float | None = None
    inventory: str = ""  # the file that the host was read from
    text: str = ""  # the fingerprint of its bytes
    done: Callable[[Outcome], None] = lambda outcome: None
    waiting: Tell = lambda service, what: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    begun: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    mends: bool = True  # whether public paths are put right on the way; the monitor does that beside its work

    def __post_init__(self) -> None:
        self.state.pause = self.pause  # Ctrl-C ends waiting for a lock, too

    @property
    def by(self) -> str:
        """How this command signs what it records."""
        return f"inv {self.task}"

    @property
    def end(self) -> float:
        """The moment (monotonic) at which the time given with --timeout is used up; infinite without it."""
        return math.inf if self.timeout is None else self.begun + self.timeout

    def deadline(self, seconds: float) -> float:
        """The moment (monotonic) `seconds` from now, or the end of the whole request when that is sooner."""
        return min(time.monotonic() + seconds, self.end)

    def lock_time(self, service: Service) -> float:
        """Seconds to wait for its lock: as long as an honest holder may need to end a tree, or the request has left."""
        return max(0.1, self.deadline(service.grace + 20) - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Waits, unless Ctrl-C comes first."""
        self.cancelled.wait(max(0.0, seconds))
        self.checkpoint()

    def checkpoint(self) -> None:
        """Raises Interrupted once somebody pressed Ctrl-C; called wherever stopping leaves nothing half-done."""
        if self.cancelled.is_set():
            raise Interrupted("interrupted", next=f"{self.by} carries on from here")

    def note(self, service: str, texts: Iterable[str]) -> None:
        """Keeps what people should know besides the outcomes: what could not be kept or mended."""
        self.notes += [f"{service}: {text}" for text in texts if f"{service}: {text}" not in self.notes]

    def chosen(self, only: Iterable[str]) -> tuple[Service, ...]:
        """The services named, in the inventory's order; all of the host's when none is named."""
        names = list(only)
        known = [service.name for service in self.host.services]
        for name in names:
            if name not in known and name in self.state.recorded():
                raise _taken_out(name)
            if name not in known:
                raise unknown_service(name, known)
        return tuple(s for s in self.host.services if not names or s.name in names)


def _taken_out(name: str) -> UsageError:
    return UsageError(
        f"{name} is no longer in the inventory",
        wanted="a service that stands there",
        next=f"to be done with it: inv stop --only {name}    to have it back: put it into the inventory again",
    )


def unknown_service(name: str, known: list[str]) -> UsageError:
    """The error for a service that is not in the inventory, with the nearest name offered."""
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.5)
    shown = "".join(c if c.isprintable() else "?" for c in name)[:80]
    return UsageError(
        f"unknown service {shown!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        wanted="one of " + ", ".join(known),
    )
