"""A watch: what the monitor remembers of one service, as plain values.

Knows: what there is to be remembered. Must not know: what it leads to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ops.frozen import frozen
from ops.model import ServiceState, Wanted
from ops.watch.rules import Rules


@frozen
class Watch:
    """What the monitor remembers of one service. Moments are those of `now`."""

    rules: Rules = field(default_factory=Rules)
    wanted: Wanted = "up"
    state: ServiceState = "unknown"
    since: float = 0.0  # when it came into that state
    why: str = ""  # what was wrong last, in words
    doubts: Mapping[str, int] = field(default_factory=dict)  # by probe: how often in a row it has failed
    unproven: frozenset[str] = frozenset()  # gating probes that have not passed since it was started
    attempts: int = 0  # restarts since it was last calm
    last_try: float = 0.0
    due: float | None = None  # when it is to be restarted
    acting: bool = False  # a restart is under way
    outage: float | None = None  # since when it has not served though it was wanted
    alerted: bool = False
    heavy: bool = False  # the restart that is due is for its memory
    relieved: float | None = None  # when it was last restarted for that
    planned: bool = False  # what is under way is the monitor's own wish, not a failure
    redefined: str = ""  # it has to be restarted for its new definition, as soon as nothing else is under way
    flapping: bool = False  # its attempts were spent: only a calm spell ends that alert
