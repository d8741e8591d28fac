"""Seeing what there is of a service, without asking it anything: its process, its tree, its port, who else.

Knows: records, the process table, run markers, listeners, and how they are put together to "this is the service".
Must not know: what anybody wants, how to change it.

Who is the service: the recorded process while it lives; else a process of ours that carries its run marker; else
whoever listens on its port (or an ancestor of that) with the declared command, folder and user. Nothing else.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ops.host import process
from ops.host.listeners import Listener, listeners
from ops.memory.state import Record, State
from ops.model import Host, Process, Service, ServiceState
from ops.operations import environment

Origin = Literal["record", "marker", "hand"]


@dataclass(frozen=True)
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
    """One look at the machine, shared by all services that are seen in it. Each part is read when first needed."""

    def __init__(self, host: Host, state: State) -> None:
        self.host = host
        self.state = state

    @functools.cached_property
    def table(self) -> dict[int, process.Entry]:
        return process.table()

    @functools.cached_property
    def marked(self) -> dict[str, list[tuple[Process, str]]]:
        """By service: our processes that carry this stack's run marker, with the run. What runs this very command
        is left out: somebody may type it in a shell that a service has opened."""
        never = process.ancestors(self.table)
        found: dict[str, list[tuple[Process, str]]] = {}
        for one, value in process.carrying(environment.MARKER, f"{self.host.stack.name}/"):
            _, service, run = [*value.split("/", 2), "", ""][:3]
            if one.pid not in never and run.startswith(self.state.tag):
                found.setdefault(service, []).append((one, run))
        return found

    @functools.cached_property
    def listeners(self) -> dict[int, tuple[Listener, ...]]:
        """By port: who listens on the ports of this host's services."""
        return listeners([service.port for service in self.host.services if service.port is not None])


def see(
    state: State, service: Service, around: Surroundings, *, port: bool = True, whole: bool = True
) -> Sight:
    """What there is of a service now.

    `port` False leaves out who listens while its recorded process lives (an instant status), `whole` False leaves
    out escaped members of its tree (children in sessions of their own), which takes a look into every environment.
    """
    record = state.record(service.name)
    root, origin, run = _root(record, service, around)
    members = _members(root, service, around, whole=whole or root is None)
    own: tuple[Listener, ...] = ()
    strangers: tuple[Listener, ...] = ()
    if service.port is not None and (port or root is None):
        own, strangers = _ports(service, members, around)
        members = _with_holders(members, own, around)
    return _sight(service, record, root, origin, run, members, own, strangers, around)


def _root(
    record: Record | None, service: Service, around: Surroundings
) -> tuple[Process | None, Origin | None, str]:
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
            if is_declared(pid, service, around.host):
                return process.identify(pid)
            pid = around.table[pid].ppid
    return None


def is_declared(pid: int, service: Service, host: Host) -> bool:
    """Whether a process has the declared command, folder and user, as one started by hand would."""
    if process.owner(pid) != os.geteuid() or process.variable(pid, environment.MARKER):
        return False
    words = process.command_line(pid)
    if not words or not same_command(words, service.argv(sys.executable), process.program(pid)):
        return False
    cwd = process.working_folder(pid)
    return cwd is not None and os.path.realpath(cwd) == os.path.realpath(environment.folder(host, service))


def same_command(words: Sequence[str], declared: Sequence[str], executable: str | None = None) -> bool:
    """Whether a command line is the declared command: `python` or `/usr/bin/python3.11` for the same program,
    a script with its interpreter in front (#!), or the one-line title that npm gives itself."""
    if len(words) == 1 and " " in words[0]:
        words = words[0].split() or words  # a title is no shell's text: a quote or backslash in it means nothing
        declared = _npm_title(declared)
    if list(words[1:]) == list(declared[1:]) and _same_program(words[0], declared[0], executable):
        return True
    return len(words) > 1 and list(words[2:]) == list(declared[1:]) and _same_name(words[1], declared[0])


def _npm_title(declared: Sequence[str]) -> Sequence[str]:
    """The words npm titles itself with when it runs this: npx is `npm exec`, and npm's own options and the `--`
    that ends them are left out (for npx the first word that is no option ends them as well)."""
    program, rest = declared[0], list(declared[1:])
    npx = os.path.basename(program) == "npx"
    if not npx and os.path.basename(program) != "npm":
        return declared
    ends = [place for place, word in enumerate(rest) if word == "--" or (npx and not word.startswith("-"))]
    end = ends[0] if ends else len(rest)
    after = rest[end + 1 :] if rest[end : end + 1] == ["--"] else rest[end:]
    before = [word for word in rest[:end] if not word.startswith("-")]
    return ["npm", "exec", *after] if npx else [program, *before, *after]


def _same_program(word: str, declared: str, executable: str | None) -> bool:
    if _same_name(word, declared):
        return True
    if not executable:
        return False
    import shutil

    path = declared if "/" in declared else shutil.which(declared) or declared
    return os.path.realpath(path) == os.path.realpath(executable)


def _same_name(word: str, declared: str) -> bool:
    return word == declared or os.path.basename(word) == os.path.basename(declared)


def _members(
    root: Process | None, service: Service, around: Surroundings, *, whole: bool
) -> tuple[Process, ...]:
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


def _with_holders(
    members: tuple[Process, ...], own: tuple[Listener, ...], around: Surroundings
) -> tuple[Process, ...]:
    """A process that holds the very listening socket of the service got it from it: it belongs to the tree."""
    known = {member.pid for member in members}
    more = [pid for pid in sorted(_holders(own) - known) if pid in around.table]
    return members + tuple(around.table[pid].process() for pid in more)


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
    age = age_of(top) if top else 0.0
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


def age_of(line: process.Entry) -> float:
    """Seconds since a process was born."""
    if process.LINUX:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - line.birth)
    return max(0.0, time.time() - line.birth)


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


def strays(host: Host, state: State) -> tuple[Service, ...]:
    """Services that have a record but are no longer in the inventory, as far as the record knows them."""
    known = {service.name for service in host.services}
    records = [state.record(name) for name in state.recorded() if name not in known]
    return tuple(
        Service(
            record.service,
            ("?",),
            port=record.port,
            critical=record.critical,
            stop_signal=record.stop_signal,
            grace=record.grace,
        )
        for record in records
        if record is not None
    )
