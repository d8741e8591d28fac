"""Keeping house beside the watch: logs that have grown, a disk that is filling up, public paths that are gone.

Knows: when which of these is due. Must not know: how a log is rotated, how a path is mended.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from ops.host.generations import make_room
from ops.host.rotation import Rotated
from ops.model import Service
from ops.operations import public, rotating, watchers
from ops.watch.charge import Charge
from ops.watch.loop import Loop
from ops.watch.watch import Watch

_HANGS = 30.0  # seconds after which mending is said to hang
_AGAIN = 30.0  # seconds until a log is tried again that could not be rotated
_LEAST_FREE = 32 << 20  # bytes, or a tenth of a small disk; below that, old generations go


class Upkeep:
    """Does it for a loop, in a thread of its own."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._state = loop.site.state
        self._thread = loop.background("upkeep")
        self._mending = loop.background("mending")  # a path may hang, and must not keep logs from being rotated
        self._mending_since: float | None = None
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._next_mend = 0.0
        loop.each_second.append(self._each_second)
        loop.turned.append(self._turned)
        for text in rotating.recover_all(self._state):
            loop.scribe.event("", "rotation", text)

    def _each_second(self, now: float) -> None:
        self._loop.in_parts(self._loop.charges.values(), self._look_at_log)
        stack = self._loop.site.host.stack
        keep = stack.log_keep
        for name in rotating.OWN:
            if self._grown(name, stack.log_size, now):
                self._begin(name, functools.partial(rotating.rotate_own, self._state, name, keep), keep)
        watchers.follow_log(self._state.path)
        if self._mending_since is not None:
            if now - self._mending_since >= _HANGS:
                self._tell("", "upkeep", "the look at public paths and the disk does not come back")
        elif now >= self._next_mend:
            services = [one.service for one in self._loop.charges.values()]
            self._next_mend = now + max(1.0, min((one.interval for one in services), default=30.0))
            running = [one.service for one in self._loop.charges.values() if one.root]
            self._mending_since = now
            self._mending(functools.partial(self._mend, running), self._mended)

    def _look_at_log(self, charge: Charge) -> None:
        service = charge.service
        if charge.root is not None and self._grown(service.name, service.log_size, self._loop.clock.last):
            self._begin(service.name, functools.partial(self._rotate, service), service.log_keep)

    def _turned(self, charge: Charge, before: Watch) -> None:
        """A new process: what people find at its public paths is put right with the next second."""
        if charge.watch.state != before.state and charge.watch.state in ("starting", "up"):
            self._next_mend = 0.0

    def _grown(self, name: str, most: int, now: float) -> bool:
        if name in self._busy or now < self._not_before.get(name, 0.0):
            return False
        try:
            return os.stat(self._state.log(name)).st_size > most
        except OSError:
            return False

    def _begin(self, name: str, job: Any, keep: int) -> None:
        self._busy.add(name)
        self._thread(job, functools.partial(self._rotated, name, keep))

    def _rotate(self, service: Service) -> Rotated:
        return rotating.rotate_service(self._loop.site, service)

    def _rotated(self, name: str, keep: int, rotated: Rotated | None, error: BaseException | None) -> None:
        self._busy.discard(name)
        if rotated is not None and rotated.busy:  # a command is at it: the next second will do
            return
        why = str(error) if rotated is None else rotated.why if rotated.state == "skipped" else ""
        if rotated is not None and not why:
            paused = f", its writers paused for {1000 * rotated.paused:.1f} ms" if rotated.paused else ""
            self._loop.scribe.event(name if name in self._loop.charges else "", "rotation", f"{name}.log{paused}")
            pack = functools.partial(rotating.pack, self._state, name, keep)
            self._thread(pack, functools.partial(self._packed, name))
        else:
            self._not_before[name] = self._loop.clock.last + _AGAIN
        self._tell(name, "rotation", why)

    def _packed(self, name: str, why: str | None, error: BaseException | None) -> None:
        self._tell(name, "compression", why or str(error or ""))

    def _mend(self, running: list[Service]) -> dict[str, str]:
        """In the thread: what of the public paths could not be put right, by service."""
        host, found = self._loop.site.host, {"": ""}
        for service in running:
            record = self._state.record(service.name)
            if record is not None:
                faults = public.mend(host, self._state, service, record.process.pid, logged=record.run != "")
                found[service.name] = "; ".join(faults)
                if self._state.record(service.name) is None:  # stopped meanwhile, and its pid file put back by this
                    public.remove(host, service)
        names = [*(service.name for service in host.services), *rotating.OWN]
        disk = os.statvfs(self._state.path)
        lacking = min(_LEAST_FREE, disk.f_blocks * disk.f_frsize // 10) - disk.f_bavail * disk.f_frsize
        if lacking > 0:
            gone = make_room([self._state.log(name) for name in names], lacking)
            found[""] = f"the disk is full; {gone >> 20} MiB of old logs were dropped" if gone else "the disk is full"
        return found

    def _mended(self, found: dict[str, str] | None, error: BaseException | None) -> None:
        self._mending_since = None
        for name, words in (found or {"": str(error)}).items():
            self._tell(name, "upkeep", words)

    def _tell(self, name: str, kind: str, words: str) -> None:
        """Once, not every second."""
        if words != self._told.get(name + kind, ""):
            self._loop.scribe.event(name if name in self._loop.charges else "", kind, words or "right again")
        self._told[name + kind] = words
