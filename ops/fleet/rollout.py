"""A request that changes things, on several hosts: one batch after the other, each well before the next.

Knows: batches, when to stop, what must be up elsewhere meanwhile. Must not know: what a verb does, how a host is
reached.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ops.fleet import reach, rolling
from ops.fleet.here import Tell
from ops.fleet.reach import Came, Selection
from ops.fleet.rolling import EVERYWHERE, Holding
from ops.model import Host, Outcome
from ops.operations.verbs import Request

# While one of these is carried out, services are down for a moment. A `stop` means it.
_TAKES_DOWN = ("restart", "restart-one", "reset", "kill-port")
_LEAVES_UP = (*_TAKES_DOWN, "start")  # after one of these, what it was about is to be well
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
    up: dict[str, Collection[str]] | None = None  # by host: what is up there; None when nothing critical goes down
    stopped: str = ""  # why the rest is not run


def send(
    selection: Selection, request: Request, serial: str, most: float | None, tell: Tell
) -> tuple[list[Outcome], list[str]]:
    """Carries the request out on all of them; the outcomes, and the notes for people."""
    going = Rollout(selection, request, most, tell)
    guarded = _is_guarded(selection, request)
    limits = rolling.limits(serial or (_ONE_BY_ONE if guarded else _ALL_AT_ONCE), len(selection.hosts))
    rest = list(selection.hosts)
    if request.check:
        _run(going, rest)
        return going.outcomes, going.notes
    going.up = _up_now(going) if guarded else None
    while rest:
        batch = _next_batch(going, rest[: next(limits)])
        if not batch:
            _skip(going, rest)
            break
        rest = rest[len(batch) :]
        came = _run(going, batch)
        if rest:
            _judge(going, came)
    return going.outcomes, going.notes


def _is_guarded(selection: Selection, request: Request) -> bool:
    """Whether something critical goes down for a moment. One host alone is named on purpose."""
    several = len(selection.hosts) > 1
    return several and request.task in _TAKES_DOWN and any(_affected(host, request) for host in selection.hosts)


def _affected(host: Host, request: Request) -> set[str]:
    """The critical services of a host that the request is about."""
    port = request.options.get("port")
    return {
        service.name
        for service in host.services
        if service.critical and (not request.only or service.name in request.only) and port in (None, service.port)
    }


def _next_batch(going: Rollout, hosts: Sequence[Host]) -> Sequence[Host]:
    """As many of the hosts as may go down together; none when the rollout is over, and why."""
    if going.stopped:
        return ()
    if going.up is None:
        return hosts

    def affected(host: Host) -> set[str]:
        return _affected(host, going.request)

    up = rolling.standing(going.selection.inventory.hosts, affected, going.up)
    count, last = rolling.bearable(hosts, affected, up)
    if not count and last is not None:
        going.stopped = _last_one(hosts[0], last)
    return hosts[:count]


def _last_one(host: Host, holding: Holding) -> str:
    group, service = holding
    where = "host" if group == EVERYWHERE else f"host of {group}"
    return f"{service} is up on no other {where}; on purpose: --limit {host.name}"


def _run(going: Rollout, batch: Sequence[Host]) -> list[Came]:
    request = replace(going.request, timeout=_left(going))
    came = reach.ask_each(replace(going.selection, hosts=tuple(batch)), request, going.tell)
    for one in came:
        going.outcomes += reach.outcomes_of(one, going.request.task)
        going.notes += one.answer.notes
        if one.error is not None:
            going.tell.done(going.outcomes[-1])
    return came


def _left(going: Rollout) -> float | None:
    """Seconds of --timeout that are left."""
    return None if going.request.timeout is None else max(0.1, going.tell.until - time.monotonic())


def _skip(going: Rollout, hosts: Iterable[Host]) -> None:
    for outcome in reach.not_run(hosts, going.request.task, going.stopped):
        going.outcomes.append(outcome)
        going.tell.done(outcome)


def _judge(going: Rollout, came: Sequence[Came]) -> None:
    """Whether the next batch may follow: how many of this one failed, and are those that did not well now."""
    failed = {one.host.name: "failed" for one in came if _failed(one)}
    if going.request.task in _LEAVES_UP:
        failed |= _unwell(going, [one.host for one in came if one.host.name not in failed and not one.skipped])
    if going.up is not None:
        well = [one.host for one in came if one.host.name not in failed]
        going.up.update(dict.fromkeys(failed, ()))
        going.up.update({host.name: {*going.up.get(host.name, ()), *_affected(host, going.request)} for host in well})
    if rolling.too_many(len(failed), len(came), going.most):
        going.stopped = ", ".join(f"{name} {why}" for name, why in failed.items())


def _failed(came: Came) -> bool:
    return came.error is not None or any(one.state in ("failed", "unreachable") for one in came.answer.outcomes)


def _unwell(going: Rollout, hosts: Sequence[Host]) -> dict[str, str]:
    """By host that is not well now: what of it is not."""
    found = {}
    for one in _ask_health(going, hosts, going.request.only):
        ill = [] if one.error or one.skipped else [s for s in one.answer.found.services if not s.well]
        if one.error is not None:
            found[one.host.name] = f"does not answer: {one.error.seen.removeprefix(f'{one.host.name}: ')}"
        elif ill:
            found[one.host.name] = f"is not well after its turn: {', '.join(f'{s.name} {s.state}' for s in ill)}"
    return found


def _up_now(going: Rollout) -> dict[str, Collection[str]]:
    """The services that are up, on each host that has one of the critical ones; the chosen ones alone do not tell."""
    affected = {name for host in going.selection.hosts for name in _affected(host, going.request)}
    holders = [host for host in going.selection.inventory.hosts if affected & {one.name for one in host.services}]
    came = _ask_health(going, holders, tuple(affected))
    known = [one for one in came if one.error is None and not one.skipped]
    return {one.host.name: {s.name for s in one.answer.found.services if s.state == "up"} for one in known}


def _ask_health(going: Rollout, hosts: Sequence[Host], only: Sequence[str]) -> list[Came]:
    asked = replace(going.selection, hosts=tuple(hosts))
    tell = Tell(cancelled=going.tell.cancelled, until=going.tell.until)
    return reach.ask_each(asked, Request("health", tuple(only), timeout=_left(going)), tell) if hosts else []
