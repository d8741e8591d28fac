"""kill-port: whoever listens on a port is ended; its clients are not.

Knows: listeners, who may be signalled even then. Must not know: which port belongs to which service beyond its name.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Sequence

from ops.errors import OpsError, UsageError
from ops.host import process, terminate
from ops.host.listeners import Listener, listeners
from ops.model import Outcome, Process, Service
from ops.operations import environment, watched
from ops.operations.converge import Convergence, Plan, converge, in_order
from ops.operations.sight import count, owners
from ops.operations.site import Site

_GRACE = 10.0  # seconds between TERM and KILL for a listener that is no service of ours


def kill_port(site: Site, port: int, *, force: bool = False) -> list[Outcome]:
    """Ends all holders of the listening sockets on `port`, both address families. A port that is not in the
    inventory needs `force`; pid 1, ancestors of this command and other users' processes are refused even then."""
    service = next((one for one in site.host.services if one.port == port), None)
    if service is None and not force:
        known = ", ".join(f"{one.port} {one.name}" for one in site.host.services if one.port)
        raise UsageError(
            f"port {port} belongs to no service of the inventory",
            wanted=f"one of {known}",
            next=f"if you mean it: inv kill-port {port} --force",
        )
    thing = Convergence(
        str(port),
        "kill-port",
        lambda: listeners([port]).get(port, ()),
        lambda found: plan_kill(port, found),
        lambda found, plan: _carry_out(site, port, service, found, plan),
    )
    return in_order(site, [str(port)], {}, lambda name, settled: converge(site, thing))


def plan_kill(port: int, found: Sequence[Listener]) -> Plan:
    """Nothing when nobody listens; a refusal when one of the holders may not be signalled."""
    if not found:
        return Plan("nothing", "free", "free", f"nothing listens on {port}")
    held = owners(found)
    refusal = _refusal(found, process.ancestors())
    if refusal:
        return Plan("refuse", "held", "held", f"{port} is held by {held}: {refusal}", _advice(port, found))
    return Plan("end", "held", "free", f"ending {held}")


def _refusal(found: Sequence[Listener], never: Collection[int]) -> str:
    pids = {pid for one in found for pid in one.pids}
    if pids & set(never):
        return "pid 1 or an ancestor of this very command, which is never ended"
    if any(not one.pids for one in found) or not all(_ours(pid) for pid in pids):
        return "you may not end another user's process"
    return ""


def _ours(pid: int) -> bool:
    return os.geteuid() in (0, process.owner(pid))


def _advice(port: int, found: Sequence[Listener]) -> tuple[str, ...]:
    return (f"wanted: port {port} free", f"next:   {_by_another(port, found)}")


def _by_another(port: int, found: Sequence[Listener]) -> str:
    users = sorted({process.user_name(one.uid) for one in found if one.uid not in (None, os.geteuid())})
    who = f"user {users[0]}" if users else "its user, or root,"
    return f"{who} has to stop it, or: sudo lsof -nP -iTCP:{port} -sTCP:LISTEN"


def advice(port: int, found: Sequence[Listener], then: str = "") -> str:
    """What to do about strangers on a port: the line to type, with the tasks of `then` behind it, or who else has to
    act. What is a service of another stack is better stopped there."""
    if _refusal(found, process.ancestors()):
        return _by_another(port, found)
    kill = f"inv kill-port {port}{then}"
    markers = {process.variable(pid, environment.MARKER) or "" for one in found for pid in one.pids}
    stacks = sorted({marker.split("/")[0] for marker in markers if marker})
    return f"{kill} (or stop it where it belongs: the stack {stacks[0]})" if stacks else kill


def holders(found: Sequence[Listener]) -> tuple[Process, ...]:
    """The processes that hold these sockets, with their births."""
    pids = sorted({pid for one in found for pid in one.pids})
    return tuple(one for pid in pids if (one := process.identify(pid)) is not None)


def _carry_out(site: Site, port: int, service: Service | None, found: Sequence[Listener], plan: Plan) -> Outcome:
    if plan.idle:
        return plan.outcome(str(port), "kill-port")
    who = owners(found)
    with _signed(site, service):
        ending = end_listeners(site, port, found, service.grace if service else _GRACE)
    after = _refilled(site, service, port) if service else listeners([port]).get(port, ())
    if ending.left:
        why = f"{count(ending.left)} would not end" + (f": {ending.refused}" if ending.refused else "")
        return Outcome(str(port), "kill-port", "failed", "held", "held", why, more=_advice(port, found))
    how = " (KILL was needed)" if ending.killed else ""
    why = f"ended {who}{how}" + _since(site, service, after)
    return Outcome(str(port), "kill-port", "changed", "held", "held" if after else "free", why)


@contextlib.contextmanager
def _signed(site: Site, service: Service | None) -> Iterator[None]:
    """Holds the service's lock where nobody else does, so that the monitor sees by whom it was ended, and counts no
    failure. An emergency waits for nobody."""
    with contextlib.ExitStack() as held:
        if service is not None:
            with contextlib.suppress(OpsError):
                held.enter_context(site.state.changing(service.name, 0.0, site.by))
        yield


def end_listeners(site: Site, port: int, found: Sequence[Listener], grace: float) -> terminate.Ending:
    """Ends the holders of the sockets that were seen, and of the same sockets handed on since; not whoever came
    to listen after them. (Off Linux sockets cannot be told apart: only the holders that were seen first.)"""
    sockets = {one.inode for one in found if one.inode}
    known: dict[Process, None] = dict.fromkeys(holders(found))

    def find() -> Sequence[Process]:
        site.checkpoint()
        now = [one for one in listeners([port]).get(port, ()) if one.inode in sockets]
        known.update(dict.fromkeys(holders(now)))
        return list(known)

    site.waiting(str(port), "its listeners to end")
    return terminate.end(find, grace=grace, give_up=site.end, clock=time.monotonic)


def _refilled(site: Site, service: Service, port: int) -> Sequence[Listener]:
    """Who listens now. Where a monitor watches a service that is wanted up, it is on its way back."""
    until = site.deadline(service.start_time + 1.0)
    again = listeners([port]).get(port, ())
    while not again and watched.report(site).state == "up" and site.state.wish(service.name).wanted == "up":
        if time.monotonic() >= until:
            break
        site.waiting(str(port), f"the monitor to bring {service.name} back")
        site.pause(0.02)
        again = listeners([port]).get(port, ())
    return again


def _since(site: Site, service: Service | None, again: Sequence[Listener]) -> str:
    if again:
        back = service is not None and watched.report(site).state == "up"
        return f"; {'brought back by the monitor:' if back else 'now held by'} {owners(again)}"
    if service and site.state.wish(service.name).wanted == "up":
        return f"; {service.name} is wanted up: inv start --only {service.name}"
    return ""
