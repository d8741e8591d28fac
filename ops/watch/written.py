"""What commands have written into the state folder: wishes and records.

Knows: the files, how it is seen that they changed. Must not know: probes, the process table, what a reading leads to.

Commands ring the bell; should that be lost, a look a second at two times of files sees the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from ops.errors import OpsError
from ops.host import process
from ops.memory.files import version
from ops.memory.wishes import FILE, Wish
from ops.watch.charge import Charge
from ops.watch.loop import COMMAND_TIME, Loop
from ops.watch.readings import Wished

STARTER = "inv start"  # how that command signs what it wants: it leaves alone what is up


class Written:
    """Reads it for a loop. `thread` does what may wait for a lock; whose record is written by the monitor itself just
    now is in `adopting`, and left alone."""

    def __init__(self, loop: Loop, thread: Callable[[Callable[[], Any], Callable[..., None]], None]) -> None:
        self._loop = loop
        self._site = loop.site
        self._thread = thread
        self._seen: dict[str, tuple[int, int, int] | None] = {}  # times of files, to see that they change
        self.adopting: set[str] = set()

    def reconcile(self, *, first: bool = False) -> None:
        """Takes up what commands have written."""
        folder = self._site.state.path
        wanted = os.path.join(folder, FILE)
        if self._changed(wanted) or first:
            try:
                self._take_wishes(first)
            except OpsError:  # no descriptor left to read it with: another second
                del self._seen[wanted]
                if first:
                    raise
        changed = self._changed(os.path.join(folder, "services"))
        if first:
            for charge in self._loop.charges.values():
                self.look_at_record(charge, first)
        elif changed:
            self._loop.in_parts(self._loop.charges.values(), self._look_again)

    def _changed(self, path: str) -> bool:
        before, self._seen[path] = self._seen.get(path), version(path)
        return before != self._seen[path]

    def _take_wishes(self, first: bool) -> None:
        damage = self._site.state.wishes_damage
        known = {name: charge.wish for name, charge in self._loop.charges.items() if charge.wish.generation}
        if damage and (known or damage != "gone"):
            self._mend_wishes(known)
        if damage in ("lost", "gone") and not first:
            return  # what is remembered here holds, and is being written down again
        wishes = self._site.state.wishes()
        for charge in self._loop.charges.values():
            wish = wishes.get(charge.service.name, Wish())
            if wish == charge.wish and not first:
                continue
            anew = wish.generation != charge.wish.generation
            charge.wish = wish
            left_alone = wish.by == STARTER and wish.wanted == charge.watch.state == "up"
            charge.settled = wish.generation if first or left_alone else charge.settled
            if anew or wish.wanted != charge.watch.wanted:
                self._loop.tell(charge, Wished(wish.wanted, 0.0 if first else COMMAND_TIME))
                self._loop.news.changed = True

    def _mend_wishes(self, known: dict[str, Wish]) -> None:
        """Has it done in the thread, which may wait for a lock."""
        self._thread(functools.partial(self._site.state.mend_wishes, known, self._site.by), self._mended_wishes)

    def _mended_wishes(self, done: str | None, error: BaseException | None) -> None:
        if done or error:
            self._loop.scribe.event("", "state", done or f"what is wanted could not be written anew: {error}")

    def _look_again(self, charge: Charge) -> None:
        if self._loop.charges.get(charge.service.name) is charge:
            self.look_at_record(charge)

    def look_at_record(self, charge: Charge, first: bool = False) -> None:
        name = charge.service.name
        path = os.path.join(self._site.state.path, "services", f"{name}.json")
        if name not in self.adopting and (self._changed(path) or (first and os.path.exists(path))):
            self._take_record(charge, first)

    def _take_record(self, charge: Charge, first: bool) -> None:
        record = self._site.state.record(charge.service.name)
        if record is None or record.process == charge.root or charge.watch.acting or not process.alive(record.process):
            return
        self._loop.found(charge, record.process, ready=record.ready_at is not None, anew=not first)
