"""A request that changes things, on several hosts: one batch after the other, each well before the next.

Knows: batches, when to stop, what must be up elsewhere meanwhile. Must not know: what a verb does, how a host is
reached.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ops.fleet import reach, rolling
from ops.fleet.here import Tell
from ops.fleet.reach import Came, Selection
from ops.model import Host, Outcome
from ops.operations.verbs import Request

# While one of these is carried out, services are down for a moment. A `stop` means it.
_TAKES_DOWN = ("restart", "restart-one", "reset", "kill-port")
_ONE_BY_ONE, _ALL_AT_ONCE = "1", "100%"


@dataclass
class Rollout:
    """What has come of it so far, in the order of the hosts."""

    selection: Selection
    request: Request
    most: float | None
    tell: Tell
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str = ""  # why the rest is not run


def send(
    selection: Selection, request: Request, serial: str, most: float | None, tell: Tell
) -> tuple[list[Outcome], list[str]]:
    """Carries the request out on all of them; the outcomes, and the notes for people."""
    if selection.alone:
        (alone,) = reach.ask(selection, request, tell)
        return list(alone.answer.outcomes), list(alone.answer.notes)
    going = Rollout(selection, request, most, tell)
    batches = _batches(selection, request, serial)
    up = _up_at(selection, tell) if _guards(request) and len(batches) > 1 else {}
    for place, batch in enumerate(batches):
        going.stopped = going.stopped or _last_ones(selection, batch, up, request)
        if going.stopped:
            _skip(going, batch)
            continue
        came = _run(going, batch)
        if place < len(batches) - 1:
            _judge(going, came, up)
    return going.outcomes, going.notes


def _batches(selection: Selection, request: Request, serial: str) -> list[tuple[Host, ...]]:
    """One by one where a critical service goes down for a moment; else all at once, unless --serial says otherwise."""
    if request.check:
        return [selection.hosts]
    if not _guards(request) or not any(_critical(host, request) for host in selection.hosts):
        return _cut(selection.hosts, serial or _ALL_AT_ONCE)
    return rolling.batches(selection.hosts, serial or _ONE_BY_ONE, selection.inventory.hosts)


def _cut(hosts: Sequence[Host], serial: str) -> list[tuple[Host, ...]]:
    found, begin = [], 0
    for size in rolling.sizes(serial, len(hosts)):
        found.append(tuple(hosts[begin : begin + size]))
        begin += size
    return found


def _guards(request: Request) -> bool:
    return request.task in _TAKES_DOWN and not request.check


def _critical(host: Host, request: Request) -> set[str]:
    """The critical services of a host that the request is about."""
    port = request.options.get("port")
    return {
        service.name
        for service in host.services
        if service.critical and (not request.only or service.name in request.only) and port in (None, service.port)
    }


def _run(going: Rollout, batch: Sequence[Host]) -> list[Came]:
    came = reach.ask(replace(going.selection, hosts=tuple(batch)), going.request, going.tell)
    for one in came:
        found = reach.outcomes_of(one, going.request.task)
        if one.error is not None:
            for outcome in found:
                going.tell.done(outcome)
        going.outcomes += found
        going.notes += one.answer.notes
    return came


def _skip(going: Rollout, batch: Sequence[Host]) -> None:
    for outcome in reach.not_run(batch, going.request.task, going.stopped):
        going.outcomes.append(outcome)
        going.tell.done(outcome)


def _judge(going: Rollout, came: Sequence[Came], up: dict[str, set[str]]) -> None:
    """Whether the next batch may follow: how many of this one failed, and are those that did not well now."""
    failed = [one.host.name for one in came if _failed(one)]
    asked = [one.host for one in came if one.host.name not in failed]
    now = _health(going, asked) if going.request.task != "stop" else {}
    failed += [name for name, well in now.items() if not well]
    up.update({one.host.name: set() for one in came if one.host.name in failed})
    if rolling.too_many(len(failed), len(came), going.most):
        going.stopped = f"{', '.join(failed)} failed, or is not well, after its turn"


def _failed(came: Came) -> bool:
    return came.error is not None or any(one.state in ("failed", "unreachable") for one in came.answer.outcomes)


def _health(going: Rollout, hosts: Sequence[Host]) -> dict[str, bool]:
    """By host: whether the services that the request is about are well there now."""
    found = _ask_health(going.selection, hosts, going.request.only, going.tell)
    return {one.host.name: one.error is None and all(s.well for s in one.answer.found.services) for one in found}


def _ask_health(selection: Selection, hosts: Sequence[Host], only: Collection[str], tell: Tell) -> list[Came]:
    asked = replace(selection, hosts=tuple(hosts))
    return reach.ask_each(asked, Request("health", tuple(only)), Tell(cancelled=tell.cancelled)) if hosts else []


def _up_at(selection: Selection, tell: Tell) -> dict[str, set[str]]:
    """By host: the critical services that are up there before anything begins."""
    came = _ask_health(selection, selection.hosts, (), tell)
    return {
        one.host.name: {s.name for s in one.answer.found.services if s.critical and s.state == "up"}
        for one in came
        if one.error is None
    }


def _last_ones(selection: Selection, batch: Sequence[Host], up: Mapping[str, set[str]], request: Request) -> str:
    """Why a batch must not go down: it is the last of the chosen hosts that have a critical service up. "" when it may.
    One host alone is named on purpose."""
    if not up or len(selection.hosts) < 2:
        return ""
    names = {host.name for host in batch}
    elsewhere = [found for name, found in up.items() if name not in names]
    for host in batch:
        for service in sorted(_critical(host, request) & up.get(host.name, set())):
            others = [one for one in selection.hosts if one.name not in names and service in _critical(one, request)]
            if others and not any(service in found for found in elsewhere):
                return f"{service} is up on no other of these hosts; on purpose: --limit {host.name}"
    return ""
