"""What can come to be known of a watched service: the readings that the policy decides by.

Knows: the words between the loop and the policy. Must not know: how they are come by, what they lead to.
"""

from __future__ import annotations

from typing import Literal

from ops.frozen import frozen
from ops.model import Wanted


@frozen
class Wished:
    """What is wanted of it. `patience`: whoever said so is at it now, and needs that many seconds."""

    wanted: Wanted
    patience: float = 0.0


@frozen
class Found:
    """It runs. `ready`: its probes have passed before; `anew`: a command has started it."""

    ready: bool = False
    anew: bool = False


@frozen
class Died:
    """It does not run. `patience`: a command is at it, and needs that many seconds. `commanded`: a command has ended
    it that leaves the rest to the monitor; that is no fault of the service."""

    why: str
    patience: float = 0.0
    commanded: bool = False


@frozen
class Taken:
    """A stranger has its port."""

    owner: str


@frozen
class Freed:
    """The stranger has left its port."""


@frozen
class Answered:
    """One probe's reading. `ok` None: the asking itself failed. `silent`: nobody answered. `excused`: something that
    it needs is not up, so a wrong answer says nothing about itself."""

    probe: str
    ok: bool | None
    detail: str = ""
    gating: bool = True
    silent: bool = False
    excused: bool = False


@frozen
class Used:
    """The memory of its whole tree, bytes."""

    rss: int


@frozen
class NeedRestarted:
    """Something it needs was restarted, and is well again."""

    need: str


@frozen
class Redefined:
    """The inventory defines it otherwise than it was started."""

    why: str


@frozen
class Acted:
    """A restart is over. `started`; `failed`: it could not be; `taken`: a stranger has its port; `other`: somebody
    else is changing it or wants something else, so this was no attempt."""

    result: Literal["started", "failed", "taken", "other"]
    why: str = ""
    patience: float = 0.0


@frozen
class Tick:
    """Nothing but that time has passed."""


Reading = Wished | Found | Died | Taken | Freed | Answered | Used | NeedRestarted | Redefined | Acted | Tick
