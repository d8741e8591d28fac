"""Reach: which hosts a request goes to, in which order, and their answers collected.

Knows: hosts, batches, that an operation runs on the machine it acts on. Must not know: what a verb does, SSH.

A host that cannot be reached, or where something is wrong, is an answer like any other: the others go on.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ops.errors import Interrupted, InventoryError, OpsError
from ops.fleet import abreast
from ops.fleet import here as this_machine
from ops.fleet.here import Answer, Lines, Origin, Tell
from ops.model import Host, Inventory, Outcome, OutcomeState
from ops.operations.verbs import Request

if TYPE_CHECKING:
    from ops.fleet.dialogue import Dialogue
    from ops.fleet.remote import Connection

FORKS = 20  # hosts at once


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Came:
    """What came of a request on one host: an answer, or an error. `unreachable`: nobody there could answer."""

    host: Host
    answer: Answer = field(default_factory=Answer)
    error: OpsError | None = None

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


def came_of(selection: Selection, host: Host, request: Request, tell: Tell) -> Came:
    """What comes of it on one host; every error is that host's alone."""
    try:
        if not selection.alone:
            tell = _for(host, tell)
        if request.task == "bootstrap":
            answer = _bootstrap(host, request, tell)
        elif host.connection == "local":
            answer = this_machine.carry_out(host, selection.origin, request, tell)
        else:
            answer = _typed(dialogue(host).ask(request, tell), request)
        return Came(host, answer)
    except Interrupted:
        raise
    except OpsError as error:
        return Came(host, error=error)


def follow(
    selection: Selection,
    host: Host,
    request: Request,
    tell: Tell,
    hear: Callable[[str, str], None],
    complain: Callable[[str, str], None],
) -> Came:
    """What a host's logs say, line by line (name, text), until it is cancelled or over."""
    try:
        if host.connection == "local":
            _, lines = this_machine.tail(host, selection.origin, request, tell.cancelled.is_set, complain)
            for name, text in lines:
                hear(name, text)
            return Came(host)
        return Came(host, dialogue(host).ask(request, tell, Lines(hear, complain)))
    except OpsError as error:
        return Came(host, error=None if tell.cancelled.is_set() else error)


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
        if known is None or known.host != host:
            known = _dialogues[host.name] = Dialogue(host)
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
    from ops.errors import OpsError
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
    """The outcomes of one host; an error is one of the host itself."""
    if came.error is None:
        return list(came.answer.outcomes)
    head, *more = came.error.lines()
    head = head.removeprefix(f"{came.host.name}: ")
    state: OutcomeState = "unreachable" if came.unreachable else "failed"
    return [Outcome("host", action, state, "unknown", "unknown", head, more=tuple(more), host=came.host.name)]


def not_run(hosts: Sequence[Host], action: str, why: str) -> list[Outcome]:
    """Hosts that the request never went to."""
    return [Outcome("host", action, "skipped", "unknown", "unknown", f"not run: {why}", host=one.name) for one in hosts]
