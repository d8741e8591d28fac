"""Rotating the log of one service: under its lock, so that nobody opens it meanwhile.

Knows: whose processes may be paused for it, where that is noted. Must not know: when a log is rotated.
"""

from __future__ import annotations

import contextlib
import os

from ops.errors import LockHeld
from ops.host.generations import make_room, tidy
from ops.host.rotation import Rotated, recover, rotate, rotate_by_rename
from ops.memory.state import State
from ops.model import Service
from ops.operations.sight import Surroundings, see
from ops.operations.site import Site

_JOURNAL = ".rotating"
OWN = ("monitor", "alerts")  # the tool's own logs, opened anew for each line


def journal(state: State, name: str) -> str:
    """Where it is noted whom a rotation has paused."""
    return f"{state.log(name)}{_JOURNAL}"


def rotate_service(site: Site, service: Service) -> Rotated:
    """Makes its log a generation. On a full disk the oldest generations of all logs go first."""
    rotated = _rotate(site, service)
    if rotated.state == "skipped" and rotated.full:
        logs = [site.state.log(name) for name in [*OWN, *(one.name for one in site.host.services)]]
        if make_room(logs, 2 * service.log_size):
            rotated = _rotate(site, service)
    return rotated


def _rotate(site: Site, service: Service) -> Rotated:
    state = site.state
    try:
        with state.changing(service.name, 0.0, site.by):
            around = Surroundings(site.host, state)
            pids = [one.pid for one in see(state, service, around, port=False, locked=True).members]
            path = state.log(service.name)
            return rotate(path, service.log_keep, ours=pids, journal=journal(state, service.name))
    except LockHeld as error:
        return Rotated("skipped", error.seen)


def rotate_own(state: State, name: str, keep: int) -> Rotated:
    """The same for one of the tool's own logs."""
    return rotate_by_rename(state.log(name), keep)


def pack(state: State, name: str, keep: int) -> str:
    """Compresses what has been rotated; "" or what went wrong."""
    return tidy(state.log(name), keep)


def recover_all(state: State) -> list[str]:
    """Ends what killed rotations have left, also of services that the inventory no longer names: whom they paused goes
    on. What was done, for people."""
    folder = os.path.dirname(state.log("any"))
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if name.endswith(_JOURNAL):
                found.append(_recover(os.path.join(folder, name)))
    return [text for text in found if text]


def _recover(path: str) -> str:
    try:
        return recover(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
