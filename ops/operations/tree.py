"""The deeds on one service, done under its lock: launch its process, adopt one, end its whole tree.

Knows: how a deed is carried out, recorded and looked at again. Must not know: why it is done, who waits for it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from ops.errors import OpsError
from ops.host import process, spawn, terminate
from ops.host.listeners import Listener, listeners, open_ports
from ops.memory.files import now
from ops.memory.state import Record
from ops.model import Process, Service
from ops.operations import environment, public
from ops.operations.sight import Sight, Surroundings, count, owners, see, tree_of
from ops.operations.site import Site

_PORT_TIME = 3.0  # seconds in which the kernel has closed the sockets of processes that are gone


def launch(site: Site, service: Service, before: Sight, *, refresh: bool = False) -> Process:
    """Starts it and records it; SpawnError when that is not possible. What could not be kept becomes a note."""
    start, kept = environment.prepare(site.host, site.state, service, refresh=refresh)
    site.state.freeze({service.name: kept}, site.by)
    run = environment.new_run(site.state)
    marked = environment.marker(site.host.stack.name, service.name, run)
    spawned = spawn.spawn(replace(start, env={**start.env, environment.MARKER: marked}))
    record = replace(
        _record(service, spawned.process, run, site.by),
        restarts=before.record.restarts + 1 if before.record else 0,
        log_file=spawned.log_file,
        log_start=spawned.log_start,
    )
    site.state.remember(record)
    site.note(service.name, [*spawned.notes, *_mend(site, service, record)])
    return spawned.process


def adopt(site: Site, service: Service, sight: Sight) -> None:
    """Records a process that runs already (when it is not recorded yet) and puts its public paths in order."""
    if sight.root is None:
        return
    record = sight.record
    if record is None or record.process != sight.root:
        restarts = record.restarts if record else 0
        record = replace(_record(service, sight.root, sight.run, "adopted"), restarts=restarts)
        record = replace(record, started_at=now(sight.age))
        site.state.remember(record)
    site.note(service.name, _mend(site, service, record))


def ready(site: Site, service: Service, root: Process) -> None:
    """Records that its probes have passed."""
    record = site.state.record(service.name)
    if record and record.process == root and record.ready_at is None:
        site.state.remember(replace(record, ready_at=now()))


def _record(service: Service, root: Process, run: str, by: str) -> Record:
    return Record(
        service.name,
        root,
        run,
        service.definition(),
        now(),
        by,
        service.port,
        service.critical,
        service.stop_signal,
        service.grace,
    )


def _mend(site: Site, service: Service, record: Record) -> list[str]:
    if not site.mends:
        return []
    pid, logged = record.process.pid, record.run != ""
    return public.in_time(lambda: public.mend(site.host, site.state, service, pid, logged=logged))


def end(site: Site, service: Service) -> str:
    """Ends the whole tree and waits until its port is free; says how. OpsError names what is left."""
    before = see(site.state, service, Surroundings(site.host, site.state))
    if before.root:
        adopt_for_ending(site, service, before)
    known: dict[Process, None] = {}

    def find() -> Sequence[Process]:
        site.checkpoint()
        around = Surroundings(site.host, site.state)
        known.update(dict.fromkeys(see(site.state, service, around).members))
        known.update(dict.fromkeys(tree_of(known, around)))
        return list(known)

    site.waiting(service.name, "its processes to end")
    ending = terminate.end(
        find,
        stop_signal=signal.Signals[f"SIG{service.stop_signal}"],
        grace=service.grace,
        give_up=site.end,
        clock=time.monotonic,
    )
    if ending.left:
        raise _left(site, service, ending)
    _await_port(site, service, before.strangers)
    force = f", KILL after {service.grace:g} s" if ending.killed else ""
    return f"ended {count(ending.ended)}{force}"


def adopt_for_ending(site: Site, service: Service, sight: Sight) -> None:
    """Recorded before it is signalled (law 2), and as stopping, so that others can tell."""
    record = sight.record
    if sight.root and (record is None or record.process != sight.root):
        record = _record(service, sight.root, sight.run, "adopted")
    if record:
        site.state.remember(replace(record, stopping=True))


def _left(site: Site, service: Service, ending: terminate.Ending) -> OpsError:
    if time.monotonic() >= site.end and not ending.killed:
        return OpsError(
            f"{count(ending.left)} still ending after {site.timeout:g} s (--timeout); its grace is {service.grace:g} s",
            wanted=f"no process of {service.name} left",
            next=f"inv {'stop' if site.task == 'stop' else 'start'} --only {service.name}",
        )
    who = "; ".join(_stubborn(one) for one in ending.left[:5])
    why = f" ({ending.refused})" if ending.refused else ""
    return OpsError(
        f"{len(ending.left)} of its processes would not end: {who}{why}",
        wanted=f"no process of {service.name} left",
        next="an unkillable one waits for its disk or network; another user's is ended by that user or root",
    )


def _stubborn(one: Process) -> str:
    line = process.entry(one.pid)
    return process.describe(one.pid) + (", uninterruptible" if line and line.state == "D" else "")


def _await_port(site: Site, service: Service, before: Sequence[Listener]) -> None:
    """Done only when the port is free of all but who was a stranger on it before."""
    if service.port is None:
        return
    until = time.monotonic() + _PORT_TIME
    known = {_socket(one) for one in before}
    while True:
        found = [one for one in listeners([service.port]).get(service.port, ()) if _socket(one) not in known]
        if not found:
            return
        if time.monotonic() >= until:
            raise OpsError(
                f"port {service.port} is still held, by {owners(found)}",
                wanted=f"port {service.port} free",
                next=f"inv kill-port {service.port}",
            )
        site.pause(0.05)


def _socket(listener: Listener) -> tuple[object, ...]:
    """What tells one listening socket from another, whoever holds it."""
    return (listener.inode,) if listener.inode else (listener.address, listener.family)


def ports_of(sight: Sight) -> list[int]:
    """The ports that its processes listen on."""
    found = open_ports([member.pid for member in sight.members])
    return sorted({port for ports in found.values() for port in ports})


def clear(site: Site, service: Service) -> None:
    """Forgets what is recorded of a service that is down."""
    site.state.forget(service.name)
    public.in_time(lambda: public.remove(site.host, service))


def log_tail(site: Site, service: Service, count: int = 10) -> list[str]:
    """The last lines that its present run has logged, harmless to print."""
    from ops.host import logs

    record = site.state.record(service.name)
    path = public.readable_log(site.host, site.state, service)
    return [logs.plain(line) for line in logs.last_lines(path, count, since=record.log_start if record else None)[0]]
