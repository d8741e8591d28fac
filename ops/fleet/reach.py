"""Reach: which hosts a request goes to, in which order, and their answers collected.

Knows: hosts, batches, that an operation runs on the machine it acts on. Must not know: what a verb does, how
a host is reached.

A host that cannot be reached, or where something is wrong, is an answer like any other: the others go on.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from ops.errors import Interrupted, InventoryError, OpsError
from ops.fleet import abreast
from ops.fleet import here as this_machine
from ops.fleet.here import Answer, Lines, Origin, Tell
from ops.frozen import frozen
from ops.model import Host, Inventory, Outcome, OutcomeState
from ops.operations.site import unknown_service
from ops.operations.verbs import Request

if TYPE_CHECKING:
    from ops.fleet.dialogue import Dialogue
    from ops.fleet.remote import Connection

FORKS = 20  # hosts at once
_FOLLOWED_AGAIN = 10.0  # seconds at most until a log is looked for again on a host that was lost


@frozen
class Selection:
    """The hosts that a request goes to. `named`: somebody has named them, with --limit; `forks` at once."""

    inventory: Inventory
    hosts: tuple[Host, ...]
    named: bool = False
    forks: int = FORKS

    @property
    def origin(self) -> Origin:
        return Origin(self.inventory.path, self.inventory.text)

    @property
    def alone(self) -> bool:
        """Whether this is about this one machine, as it nearly always is."""
        return len(self.hosts) == 1 and self.hosts[0].connection == "local"


@frozen
class Came:
    """What came of a request on one host: an answer, and an error when it is not the whole one. `unreachable`: nobody
    there could answer. `skipped`: it has none of the services that it is about, and was not asked."""

    host: Host
    answer: Answer = field(default_factory=Answer)
    error: OpsError | None = None
    skipped: bool = False

    @property
    def unreachable(self) -> bool:
        return self.error is not None and self.error.exit_code == 4


def here(inventory: Inventory) -> Host:
    """The host of the inventory that is this machine."""
    for host in inventory.hosts:
        if host.connection == "local":
            return host
    raise InventoryError(
        f"{inventory.path}: no host has `ansible_connection: local`",
        next="add under `hosts`: localhost: {ansible_connection: local}, or name hosts: --limit all",
    )


def chosen(inventory: Inventory, limit: str = "", forks: int = FORKS) -> Selection:
    """The hosts that --limit names; without it, this machine."""
    if not limit:
        return Selection(inventory, (here(inventory),))
    from ops.inventory.limit import choose

    return Selection(inventory, choose(limit, inventory), named=True, forks=forks)


def last_good(path: str) -> tuple[Inventory, str] | None:
    """What the monitor of this machine has last read in an inventory that cannot be read now, and when (local time,
    for people). None when it has kept nothing that can be believed."""
    import time

    from ops.memory import last_good

    found = last_good.find(path)
    if found is None:
        return None
    read_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.read_at))
    return Inventory(path, found.host.stack, (found.host,)), read_at


def ask(selection: Selection, request: Request, tell: Tell) -> list[Came]:
    """Every host's answer, in the order of the hosts. On this machine alone an error is raised, as it always was."""
    if selection.alone and request.task != "bootstrap":
        return [Came(selection.hosts[0], this_machine.carry_out(selection.hosts[0], selection.origin, request, tell))]
    return ask_each(selection, request, tell)


def ask_each(selection: Selection, request: Request, tell: Tell) -> list[Came]:
    """The same, where an error of one host is that host's answer, also of a single one."""
    return each(selection, tell.cancelled, lambda host: came_of(selection, host, request, tell))


def check_names(selection: Selection, request: Request) -> None:
    """UsageError for a service that none of the hosts has. What is no longer in the inventory can still be stopped."""
    if selection.alone or request.task in ("stop", "tail"):
        return
    known = list(dict.fromkeys(service.name for host in selection.hosts for service in host.services))
    for name in request.only:
        if name not in known:
            raise unknown_service(name, known)


def came_of(selection: Selection, host: Host, request: Request, tell: Tell) -> Came:
    """What comes of it on one host; every error is that host's alone."""
    asked = _narrowed(selection, host, request)
    if asked is None:
        return _skipped(host, request, tell)
    told: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        told.append(outcome)
        tell.done(outcome)

    heard = replace(tell if selection.alone else _for(host, tell), done=done)
    if host.connection != "local":
        heard.waiting("", "an answer")
    try:
        return Came(host, _answer(selection, host, asked, heard))
    except Interrupted:
        raise
    except OpsError as error:
        return Came(host, Answer(tuple(told)), error)
    except Exception as error:  # noqa: BLE001 - a mistake of ours on one host must not end it on the others
        return Came(host, Answer(tuple(told)), OpsError(f"{type(error).__name__}: {error}", wanted="an answer"))
    finally:
        heard.waiting("", "")


def _answer(selection: Selection, host: Host, request: Request, tell: Tell) -> Answer:
    if request.task == "bootstrap":
        return _bootstrap(host, request, tell)
    if host.connection == "local":
        return this_machine.carry_out(host, selection.origin, request, tell)
    return _typed(dialogue(host).ask(request, tell), request)


def _narrowed(selection: Selection, host: Host, request: Request) -> Request | None:
    """The request as far as it is about services of this host; None when it is about others' alone."""
    elsewhere = {service.name for one in selection.hosts for service in one.services}
    mine = {service.name for service in host.services}
    only = tuple(name for name in request.only if name in mine or name not in elsewhere)
    if request.only and not only:
        return None
    return replace(request, only=only)


def _skipped(host: Host, request: Request, tell: Tell) -> Came:
    if request.task in this_machine.LOOKING:
        return Came(host, skipped=True)
    why = f"{', '.join(request.only)} not enabled on this host"
    outcome = Outcome(", ".join(request.only), request.task, "skipped", "down", "down", why, host=host.name)
    tell.done(outcome)
    return Came(host, Answer((outcome,)), skipped=True)


def follow(selection: Selection, host: Host, request: Request, tell: Tell, lines: Lines) -> Came:
    """What a host's logs say, line by line, until it is cancelled or over. One that is followed and cannot be reached
    is tried again, for as long as it takes."""
    if _narrowed(selection, host, request) is None:
        return Came(host, skipped=True)
    pause = 1.0
    while True:
        try:
            return Came(host, _followed(selection, host, request, tell, lines))
        except OpsError as error:
            if tell.cancelled.is_set():
                return Came(host)
            if error.exit_code != 4 or not request.options["follow"]:
                return Came(host, error=error)
            lines.complaint(host.name, f"{error.seen.removeprefix(f'{host.name}: ')}; trying again")
        if tell.cancelled.wait(pause):
            return Came(host)
        pause = min(2 * pause, _FOLLOWED_AGAIN)
        request = replace(request, options={**request.options, "lines": 0})  # not the same lines again


def _followed(selection: Selection, host: Host, request: Request, tell: Tell, lines: Lines) -> Answer:
    if host.connection != "local":
        return dialogue(host).ask(request, tell, lines)
    _, found = this_machine.tail(host, selection.origin, request, tell.cancelled.is_set, lines.complaint)
    for name, text in found:
        lines.line(name, text)
    return Answer()


def _bootstrap(host: Host, request: Request, tell: Tell) -> Answer:
    if host.connection != "local":
        return dialogue(host).bootstrap(request, tell)
    outcome = Outcome("toolkit", "bootstrap", "ok", "in use", "in use", "runs from here", host=host.name)
    tell.done(outcome)
    return Answer((outcome,))


def _for(host: Host, tell: Tell) -> Tell:
    """What is waited for is told with the host that it is waited for on."""
    return replace(tell, waiting=lambda service, what: tell.waiting(f"{host.name} {service}".rstrip(), what))


def each(selection: Selection, cancelled: threading.Event, work: Callable[[Host], Came]) -> list[Came]:
    """The work for each host, `forks` at a time."""
    return abreast.each(selection.hosts, selection.forks, cancelled, work)


# -- one dialogue for each host, kept for the next task of the same line ----------------------------------------------

_dialogues: dict[str, Dialogue] = {}
_lock = threading.Lock()


def dialogue(host: Host) -> Dialogue:
    """The dialogue with a host of another machine."""
    if importlib.util.find_spec("fabric") is None:
        raise OpsError(
            "fabric is not installed here, so no other host can be reached",
            wanted="the machine that the inventory is on, with the whole toolkit",
            next=f"{sys.executable} -m pip install 'fabric>=3.2'",
        )
    from ops.fleet.dialogue import Dialogue

    with _lock:
        known = _dialogues.get(host.name)
        if known is not None and known.host != host:  # its inventory changed while this watches
            known.close()
            known = None
        known = _dialogues[host.name] = known or Dialogue(host)
        return known


def close_all() -> None:
    """Ends all connections: whatever still reads there ends with them."""
    with _lock:
        for one in _dialogues.values():
            one.close()


def hand_over(host: Host, connection: Connection) -> None:
    """The connection that `fab` has made to a host is used for it."""
    from ops.fleet import dialogue, remote, ssh

    remote.for_fab(connection, ssh.route(host))
    with _lock:
        _dialogues[host.name] = dialogue.Dialogue(host, connection)


def _typed(answer: Answer, request: Request) -> Answer:
    """With what was found as the value that it is on the machine that found it."""
    from ops.wire import Garbled, unpack

    kind: Any = None
    if request.task in ("status", "health"):
        from ops.operations.look import HostReport

        kind = HostReport
    elif request.task == "report":
        from ops.operations.report import WindowReport

        kind = WindowReport
    if kind is None:
        return answer
    try:
        return replace(answer, found=unpack(kind, answer.found))
    except Garbled as error:
        raise OpsError(f"the answer is garbled: {error}") from None


def outcomes_of(came: Came, action: str) -> list[Outcome]:
    """The outcomes of one host; an error comes after what was told before it, as one of the host itself."""
    if came.error is None:
        return list(came.answer.outcomes)
    head, *more = came.error.lines()
    head = head.removeprefix(f"{came.host.name}: ")
    state: OutcomeState = "unreachable" if came.unreachable else "failed"
    error = Outcome("host", action, state, "unknown", "unknown", head, more=tuple(more), host=came.host.name)
    return [*came.answer.outcomes, error]


def not_run(hosts: Iterable[Host], action: str, why: str) -> list[Outcome]:
    """Hosts that the request never went to."""
    return [Outcome("host", action, "skipped", "unknown", "unknown", f"not run: {why}", host=one.name) for one in hosts]
