"""The guard: a minimal process that brings the monitor back. And the monitor's care for its guard.

Knows: heartbeats, deaths, how either is launched. Must not know: services, why one died.

A dead one is brought back at once, a silent one is ended first: no heartbeat for 15 s of the watcher's own time, in
which it was awake itself. So sleep, a stopped pair or a clock jump ends nobody.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from ops.errors import LockHeld, OpsError
from ops.host import death, process, spawn
from ops.memory.files import append_line, now
from ops.memory.watchpost import Watcher, Watchpost
from ops.model import Process
from ops.operations import watched, watchers

PERIOD = 3.0  # seconds between looks at a heartbeat; deaths are told by event
_TO_BEGIN = 20.0  # seconds that a launched one has until it watches
_CALM = 60.0  # seconds after which failed launches are forgotten
_LAUNCHD_FIRST = 5.0  # seconds that launchd has to bring back a monitor that it keeps
_LONGEST = 30.0  # seconds between launches of one that dies again and again


class Silence:
    """How long a heartbeat has not changed, in seconds that the watcher itself was awake."""

    def __init__(self) -> None:
        self._beat: int | None = None
        self._looked = time.monotonic()
        self._seconds = 0.0

    def seconds(self, beat: int | None) -> float:
        """After this look. A look that comes late says that the watcher slept, and counts for nothing."""
        looked = time.monotonic()
        passed, self._looked = looked - self._looked, looked
        if beat != self._beat or beat is None or passed > 3 * PERIOD:
            self._beat, self._seconds = beat, 0.0
        else:
            self._seconds += passed
        return self._seconds


class Care:
    """One watcher's care for the other."""

    def __init__(
        self, folder: str, inventory: str, other: Watcher, tell: Callable[[str], None], under: str = ""
    ) -> None:
        self._under = under
        self._missed_since: float | None = None
        self._folder = folder
        self._inventory = inventory
        self._other: Watcher = other
        self._tell = tell
        self._post = Watchpost(folder)
        self._silence = Silence()
        self._launched: Process | None = None
        self._launched_at = -_CALM
        self._failures = 0
        self._next = 0.0
        self._seen: Process | None = None  # whom it saw last

    def look(self) -> Process | None:
        """Shows that this one lives; brings the other back when it is dead or silent. Whom to watch, when it lives."""
        able = self._post.beat("guard" if self._other == "monitor" else "monitor")
        signed = self._post.post(self._other)
        if self._seen is None or signed is None or signed.process != self._seen or not process.alive(self._seen):
            one = watched.who(self._post, self._other)
            if one is None:
                return self._bring_back()
            self._seen, self._missed_since = one, None
        one = self._seen
        if time.monotonic() - self._launched_at > _CALM:
            self._failures = 0
        # Where no time of a file can be set, silence says nothing.
        silent = self._silence.seconds(self._post.beaten(self._other) if able else None)
        if silent >= watched.SILENT_AFTER - PERIOD / 10:  # a look may come a moment early
            self._tell(f"the {self._other}, pid {one.pid}, is silent: ended")
            process.send(one, signal.SIGKILL, above=True)  # it may have launched this watcher
            death.gone([one.pid], 2.0)
            return self._bring_back()
        return one

    def _bring_back(self) -> Process | None:
        """At once the first time; more slowly one that does not come up."""
        moment = time.monotonic()
        launched = self._launched
        if launched is not None:
            if process.alive(launched) and moment - self._launched_at < _TO_BEGIN:
                return launched
            process.send(launched, signal.SIGKILL)
            death.gone([launched.pid], 2.0)
            spawn.reap(launched.pid)
        if moment < self._next or self._post.wish().up is False or self._is_left_to_launchd(moment):
            return None
        self._failures += 1
        self._next = moment + (0.0 if self._failures < 2 else min(0.25 * 2.0**self._failures, _LONGEST))
        self._launched_at = moment
        self._tell(f"the {self._other} is gone: brought back" if self._seen else f"launching the {self._other}")
        try:
            under = self._under if self._other == "guard" else ""
            self._launched = watchers.launch(self._other, self._folder, self._inventory, under)
        except OpsError as error:
            self._launched = None
            self._tell(f"the {self._other} could not be launched: {error}")
        return self._launched

    def _is_left_to_launchd(self, moment: float) -> bool:
        """Whether launchd, which keeps the monitor, still has time to bring it back by itself."""
        if self._under != "launchd" or self._other == "guard":
            return False
        self._missed_since = moment if self._missed_since is None else self._missed_since
        return moment - self._missed_since < _LAUNCHD_FIRST


def guard(folder: str, inventory: str, under: str = "") -> int:
    """Guards until no monitor is wanted any more."""
    post = Watchpost(folder)
    try:
        with post.lock("guard", "guard"):
            _guard(folder, inventory, post, under)
    except LockHeld:
        return 0  # there is one already
    return 0


def _guard(folder: str, inventory: str, post: Watchpost, under: str) -> None:
    me = process.identify(os.getpid())
    if me is not None:
        post.sign_on("guard", me)
    care = Care(folder, inventory, "monitor", lambda text: _log(folder, text), under)
    with death.Deaths() as deaths:
        seen: Process | None = None
        place = post.place("guard")
        while post.wish().up is not False and not post.is_displaced("guard", place) and not _is_relieved(post, under):
            watchers.follow_log(folder)
            try:
                one = care.look()
            except (OpsError, OSError):  # no descriptor left to look with: nothing is known, and it is looked again
                one = None
            if one is None:
                time.sleep(0.1)
            elif one == seen or deaths.watch(one.pid):
                seen = None if deaths.poll(PERIOD) else one
                spawn.reap(one.pid)


def _is_relieved(post: Watchpost, under: str) -> bool:
    """Whether the monitor that watches now is kept in another way: by systemd, which needs no guard, or by launchd,
    whose guard lets that go first."""
    signed = post.post()
    return signed is not None and signed.under != under and process.alive(signed.process)


def _log(folder: str, text: str) -> None:
    append_line(watchers.log_of(folder), f"{now()} guard {text}", fsync=False)
