"""What is asked of this machine, carried out: the one place where a request meets the verbs, typed here or sent here.

Knows: requests and answers. Must not know: who asked, how the request came, how the answer is shown.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any

from ops.frozen import frozen
from ops.memory.state import State
from ops.model import Host, Outcome
from ops.operations.site import Site
from ops.operations.verbs import Request, perform

_FOR_OWNERS = ("install-service", "uninstall-service", "monitor-start", "monitor-stop")
LOOKING = ("status", "health", "report", "alerts", "obstacles")


def changes(request: Request) -> bool:
    """Whether it is carried out to its end, and remembered, though nobody may be left to hear of it."""
    return request.task not in (*LOOKING, "tail") and not request.check


@frozen
class Origin:
    """The file that a host was read from, and the fingerprint of its bytes."""

    path: str
    text: str


@frozen
class Tell:
    """Who hears how it goes: of each outcome, and of what is waited for (service, what; "" when that is over). `until`:
    the moment (monotonic) at which the time for all of it is used up."""

    done: Callable[[Outcome], None] = lambda outcome: None
    waiting: Callable[[str, str], None] = lambda service, what: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    until: float = math.inf


@frozen
class Lines:
    """Who hears the lines of logs (name, text), and why nothing comes from one."""

    line: Callable[[str, str], None] = lambda name, text: None
    complaint: Callable[[str, str], None] = lambda name, why: None


@frozen
class Answer:
    """What a request came to. A verb that changes things has outcomes, and notes for people; one that looks has what
    it found: a HostReport, a WindowReport, lines."""

    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    found: Any = None


def carry_out(host: Host, origin: Origin, request: Request, tell: Tell) -> Answer:
    """Does what is asked, on this machine."""
    if request.task in LOOKING:
        return Answer(found=_LOOKS[request.task](host, origin, request, tell))
    site = site_of(host, origin, request, tell)
    return Answer(tuple(perform(site, request)), tuple(site.notes))


def site_of(host: Host, origin: Origin, request: Request, tell: Tell) -> Site:
    """The site of a request on this machine."""
    if request.task in _FOR_OWNERS:
        _act_for_owner(host)
    state = State(host.stack, host.root)
    said = (request.task, request.check, request.timeout, origin.path, origin.text)
    return Site(host, state, *said, tell.done, tell.waiting, tell.cancelled)


def _act_for_owner(host: Host) -> None:
    """As root (with `sudo`, say) in the project of another user: root's part is only to tell the init system."""
    if os.geteuid() != 0:
        return
    from ops.host import privilege
    from ops.memory import folders

    with contextlib.suppress(OSError):
        owner = os.stat(host.root).st_uid
        theirs = folders.folder_of_owner(host.stack.name, host.root)
        if theirs and (os.environ.get("SUDO_UID") == str(owner) or os.path.isdir(theirs)):
            privilege.act_for(owner)


def _quiet(host: Host, origin: Origin, request: Request, tell: Tell) -> Site:
    """The site of a command that only reads. StateError when this is not the state of these services."""
    site = site_of(host, origin, request, Tell(cancelled=tell.cancelled))
    site.state.check(reading=True)
    return site


def _status(host: Host, origin: Origin, request: Request, tell: Tell) -> Any:
    from ops.operations import look

    return look.status(_quiet(host, origin, request, tell), request.only)


def _health(host: Host, origin: Origin, request: Request, tell: Tell) -> Any:
    from ops.operations import health

    return health.health(_quiet(host, origin, request, tell), request.only)


def _report(host: Host, origin: Origin, request: Request, tell: Tell) -> Any:
    from ops.operations import report

    return report.report(_quiet(host, origin, request, tell), request.only, request.options["since"])


def _alerts(host: Host, origin: Origin, request: Request, tell: Tell) -> Any:
    from ops.operations import logbook

    return list(logbook.alerts(_quiet(host, origin, request, tell), request.options["lines"]))


def _obstacles(host: Host, origin: Origin, request: Request, tell: Tell) -> Any:
    from ops.operations import settling

    found = settling.obstacles(site_of(host, origin, request, tell))
    return {name: error.lines() for name, error in found.items()}


_LOOKS: dict[str, Callable[[Host, Origin, Request, Tell], Any]] = {
    "status": _status,
    "health": _health,
    "report": _report,
    "alerts": _alerts,
    "obstacles": _obstacles,
}


def tail(
    host: Host, origin: Origin, request: Request, stop: Callable[[], bool], complain: Callable[[str, str], None]
) -> tuple[list[str], Iterator[tuple[str, str]]]:
    """The names of the logs that are read, and their lines as they come, harmless to print."""
    from ops.operations import logbook

    site = _quiet(host, origin, request, Tell())
    (name,), asked = request.only, request.options
    return list(logbook.paths(site, name)), logbook.tail(site, name, asked["lines"], asked["follow"], stop, complain)


def watcher(host: Host, origin: Origin) -> list[str]:
    """How the monitor of this machine is run. StateError when this is not the state of these services."""
    from ops.operations import watchers

    site = site_of(host, origin, Request("monitor"), Tell())
    site.state.prepare()
    return watchers.argv("monitor", site.state.path, origin.path)
