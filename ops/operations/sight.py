"""Seeing what there is of a service, without asking it anything: its process, its tree, its port, who else.

Knows: records, the process table, run markers, listeners, and how they are put together to "this is the service".
Must not know: what anybody wants, how to change it.

Who is the service: the recorded process while it lives; else a process of ours that carries its run marker; else
whoever listens on its port (or an ancestor of that) with the declared command, folder and user. Nothing else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ops.frozen import frozen
from ops.host import process
from ops.memory.state import Record, State
from ops.model import Host, Process, Service, ServiceState
from ops.operations import environment
from ops.operations.by_hand import is_declared

if TYPE_CHECKING:
    from ops.host.listeners import Listener

Origin = Literal["record", "marker", "hand"]


@frozen
class Sight:
    """What was seen of one service. `members` is its whole tree, `leftovers` what a dead one left behind,
    `strangers` who listens on its port without belonging to it."""

    service: str
    state: ServiceState
    root: Process | None = None
    origin: Origin | None = None
    run: str = ""
    record: Record | None = None
    members: tuple[Process, ...] = ()
    strangers: tuple[Listener, ...] = ()
    own_listeners: tuple[Listener, ...] = ()
    age: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    stopped: bool = False
    elsewhere: tuple[Process, ...] = ()  # a worker's processes that were started with another state folder

    @property
    def leftovers(self) -> tuple[Process, ...]:
        return () if self.root else self.members

    @property
    def pid(self) -> int | None:
        return self.root.pid if self.root else None

    @property
    def ready(self) -> bool:
        """Whether its probes have passed since this run of it started. What a dead one left listening on its port
        (its child, with the same run) is no start under way."""
        if self.record is None or not self.record.ready_at:
            return False
        return self.record.process == self.root or (self.run != "" and self.run == self.record.run)


class Surroundings:
    """One look at the machine, shared by all services that are seen in it. Each part is read when first needed.
    `between` is called before each process is looked at: who does it beside something more urgent may wait there."""

    def __init__(self, host: Host, state: State, between: Callable[[], object] = process.no_pause) -> None:
        self.host = host
        self.state = state
        self._between = between

    @functools.cached_property
    def table(self) -> dict[int, process.Entry]:
        return process.table(self._between)

    @functools.cached_property
    def _carrying(self) -> list[tuple[Process, str, str]]:
        """Our processes that carry a run marker of a stack of this name, with service and run. What runs this very
        command is left out: somebody may type it in a shell that a service has opened."""
        never = process.ancestors(self.table)
        found: list[tuple[Process, str, str]] = []
        for one, value in process.carrying(environment.MARKER, f"{self.host.stack.name}/", self._between):
            _, service, run = [*value.split("/", 2), "", ""][:3]
            if one.pid not in never:
                found.append((one, service, run))
        return found

    @functools.cached_property
    def marked(self) -> dict[str, list[tuple[Process, str]]]:
        """By service: our processes that carry the run marker of this state folder, with the run."""
        found: dict[str, list[tuple[Process, str]]] = {}
        for one, service, run in self._carrying:
            if run.startswith(self.state.tag):
                found.setdefault(service, []).append((one, run))
        return found

    def elsewhere(self, service: Service) -> tuple[Process, ...]:
        """Processes of this very service, folder and all, that were started with another state folder."""
        theirs = [one for one, name, run in self._carrying if name == service.name and run[:8] != self.state.tag]
        folder = os.path.realpath(environment.folder(self.host, service))
        return tuple(one for one in theirs if os.path.realpath(process.working_folder(one.pid) or "/") == folder)

    @functools.cached_property
    def listeners(self) -> dict[int, tuple[Listener, ...]]:
        """By port: who listens on the ports of this host's services, those no longer in the inventory included."""
        from ops.host.listeners import listeners

        ports = [one.port for one in (*self.host.services, *strays(self.host, self.state)) if one.port is not None]
        found = listeners(ports, between=self._between)
        # A socket of ours without a holder: its last one ended between the look at sockets and that at processes.
        if any(not one.pids and one.uid == os.geteuid() for several in found.values() for one in several):
            found = listeners(ports, between=self._between)
        return found


def see(
    state: State,
    service: Service,
    around: Surroundings,
    *,
    port: bool = True,
    whole: bool = True,
    locked: bool = False,
) -> Sight:
    """What there is of a service now.

    `port` False leaves out who listens while its recorded process lives (an instant status), `whole` False leaves
    out escaped members of its tree (children in sessions of their own), which takes a look into every environment.
    `locked`: the caller holds the lock of the service, so nobody else is stopping it.
    """
    record = state.record(service.name)
    root, origin, run = _root(record, service, around)
    members = _members(root, service, around, whole=whole or root is None)
    own: tuple[Listener, ...] = ()
    strangers: tuple[Listener, ...] = ()
    if service.port is not None and (port or root is None):
        own, strangers = _ports(service, members, around)
        members = _with_heirs(members, own, around)
    sight = _sight(service, record, root, origin, run, members, own, strangers, around)
    if sight.state == "stopping" and (locked or not state.is_changing(service.name)):
        return replace(sight, state="hung" if sight.stopped else "up")  # whoever was stopping it was ended over it
    if service.port is None and root is None:
        return replace(sight, elsewhere=around.elsewhere(service))
    return sight


def _root(record: Record | None, service: Service, around: Surroundings) -> tuple[Process | None, Origin | None, str]:
    line = around.table.get(record.process.pid) if record else None
    if record and line and process.same(record.process, line) and not line.dead:
        return record.process, "record", record.run
    marked = around.marked.get(service.name, [])
    chosen = _chosen_marked(record, service, marked, around)
    if chosen:
        return chosen[0], "marker", chosen[1]
    by_hand = _started_by_hand(service, around)
    return (by_hand, "hand", "") if by_hand else (None, None, "")


def _chosen_marked(
    record: Record | None, service: Service, marked: list[tuple[Process, str]], around: Surroundings
) -> tuple[Process, str] | None:
    """The marked process that is the service: whoever listens on its port (it may have daemonized); failing that
    the top of a tree that was never recorded (its spawner died in between). A dead one's children are not it."""
    tops = [one for one in marked if not _has_marked_parent(one[0], marked, around)]
    holders = _holders(around.listeners.get(service.port, ())) if service.port is not None else set()
    for top in tops:
        tree = {line.pid for line in process.descendants([top[0].pid], around.table)}
        if tree & holders:
            return top
    unrecorded = [one for one in tops if record is None or one[1] != record.run]
    return min(unrecorded, key=lambda one: one[0].birth, default=None)


def _has_marked_parent(one: Process, marked: list[tuple[Process, str]], around: Surroundings) -> bool:
    return around.table[one.pid].ppid in {other.pid for other, _ in marked} if one.pid in around.table else False


def _holders(found: Iterable[Listener]) -> set[int]:
    return {pid for listener in found for pid in listener.pids}


def _started_by_hand(service: Service, around: Surroundings) -> Process | None:
    """The listener on its port, or the nearest ancestor of it, that has the declared command, folder and user."""
    if service.port is None:
        return None
    never = process.ancestors(around.table)
    for pid in sorted(_holders(around.listeners.get(service.port, ()))):
        while pid not in never and pid in around.table:
            if is_declared(pid, service, around.host, around.state):
                return process.identify(pid)
            pid = around.table[pid].ppid
    return None


def _members(root: Process | None, service: Service, around: Surroundings, *, whole: bool) -> tuple[Process, ...]:
    tops = [root] if root else []
    if whole:
        tops += [one for one, _ in around.marked.get(service.name, [])]
    return tree_of(tops, around)


def tree_of(tops: Iterable[Process], around: Surroundings) -> tuple[Process, ...]:
    """The living among these processes, and all below them."""
    pids = [top.pid for top in tops if process.same(top, around.table.get(top.pid))]
    return tuple(line.process() for line in process.descendants(pids, around.table))


def _ports(
    service: Service, members: tuple[Process, ...], around: Surroundings
) -> tuple[tuple[Listener, ...], tuple[Listener, ...]]:
    found = around.listeners.get(service.port, ()) if service.port is not None else ()
    pids = {member.pid for member in members}
    own = tuple(one for one in found if pids & set(one.pids) or _newborn(one, service, around))
    return own, tuple(listener for listener in found if listener not in own)


def _newborn(listener: Listener, service: Service, around: Surroundings) -> bool:
    """Whether a process holds it that carries the marker but did not yet when this look looked for it."""
    prefix = environment.marker(around.host.stack.name, service.name, around.state.tag)
    pids = set(listener.pids) - process.ancestors(around.table)
    mine = [pid for pid in pids if process.owner(pid) == os.geteuid()]
    return any((process.variable(pid, environment.MARKER) or "").startswith(prefix) for pid in mine)


def _with_heirs(members: tuple[Process, ...], own: tuple[Listener, ...], around: Surroundings) -> tuple[Process, ...]:
    """With those who got the very listening socket of the service from it, however they escaped its tree. Whoever
    may have had it before the service is a stranger: a parent that handed it down, and that parent's other heirs."""
    known = {member.pid for member in members}
    holders = {pid for pid in _holders(own) - known if pid in around.table}
    eldest = min((member.birth for member in members), default=0.0)
    heirs = [
        around.table[pid]
        for pid in sorted(holders)
        if around.table[pid].birth >= eldest
        and process.owner(pid) == os.geteuid()
        and not holders & (process.ancestors(around.table, pid) - {pid})
    ]
    return members + tuple(heir.process() for heir in heirs)


def _sight(
    service: Service,
    record: Record | None,
    root: Process | None,
    origin: Origin | None,
    run: str,
    members: tuple[Process, ...],
    own: tuple[Listener, ...],
    strangers: tuple[Listener, ...],
    around: Surroundings,
) -> Sight:
    lines = [around.table[member.pid] for member in members if member.pid in around.table]
    top = around.table.get(root.pid) if root else None
    age = top.age if top else 0.0
    stopped = bool(top and top.stopped)
    return Sight(
        service.name,
        _state(service, record, root, age, stopped, bool(own), bool(strangers)),
        root,
        origin,
        run,
        record,
        members,
        strangers,
        own,
        age,
        sum(line.cpu for line in lines),
        sum(line.rss for line in lines),
        stopped,
    )


def _state(
    service: Service,
    record: Record | None,
    root: Process | None,
    age: float,
    stopped: bool,
    own: bool,
    strangers: bool,
) -> ServiceState:
    if strangers and not own:
        return "foreign"
    if root is None:
        return "down"
    recorded = record is not None and record.process == root
    if recorded and record and record.stopping:
        return "stopping"
    if stopped:
        return "hung"
    if recorded and record and record.ready_at is None and age < service.start_timeout:
        return "starting"
    return "up"


def count(members: Sequence[Process]) -> str:
    """`pid 4242`, or `3 processes (pids 1, 2, 3)`."""
    pids = [member.pid for member in members]
    if len(pids) == 1:
        return f"pid {pids[0]}"
    return f"{len(pids)} processes (pids {', '.join(map(str, pids[:6]))}{', ...' if len(pids) > 6 else ''})"


def owners(found: Sequence[Listener]) -> str:
    """Who listens, in words: pid, command and user; the user alone when its processes are not ours to see."""
    pids = sorted({pid for listener in found for pid in listener.pids})
    if pids:
        more = f" and {len(pids) - 3} more" if len(pids) > 3 else ""
        return ", ".join(process.describe(pid) for pid in pids[:3]) + more
    users = sorted({process.user_name(listener.uid) for listener in found})
    return f"a process that you may not see, user {', '.join(users)}"


def strays(host: Host, state: State, around: Surroundings | None = None) -> tuple[Service, ...]:
    """Services that have a record but are no longer in the inventory, as far as the record knows them; with
    `around` also those whose record is damaged or gone, known by their run marker alone."""
    known = {service.name for service in host.services}
    records = [state.record(name) for name in state.recorded() if name not in known]
    found = {
        record.service: Service(
            record.service,
            ("?",),
            port=record.port,
            critical=record.critical,
            stop_signal=record.stop_signal,
            grace=record.grace,
        )
        for record in records
        if record is not None
    }
    marked = around.marked if around else {}
    unknown = {name: Service(name, ("?",)) for name in marked if name and name not in known}
    return tuple({**unknown, **found}.values())
