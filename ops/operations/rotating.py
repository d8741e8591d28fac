"""Rotating the log of one service: under its lock, so that nobody opens it meanwhile.

Knows: whose processes may be paused for it, where that is noted. Must not know: when a log is rotated.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence

from ops.host.generations import make_room, tidy
from ops.host.rotation import Rotated, recover, rotate, rotate_by_rename
from ops.memory.state import State
from ops.model import Process, Service
from ops.operations.sight import Surroundings, see
from ops.operations.site import Site

_A_LOOK = 0.05  # seconds; whoever changes the service has the word, and the log is rotated a little later
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
    shut = functools.partial(_shut, site, service)
    return rotate(site.state.log(service.name), service.log_keep, shut=shut, journal=journal(site.state, service.name))


@contextlib.contextmanager
def _shut(site: Site, service: Service) -> Iterator[Sequence[Process]]:
    """Under the lock of the service, for the pause and the look before it: who may be paused. LockHeld when somebody
    is changing it."""
    with site.state.changing(service.name, _A_LOOK, site.by):
        around = Surroundings(site.host, site.state)
        yield see(site.state, service, around, port=False, locked=True).members


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
