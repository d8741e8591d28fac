"""Every verb by its name: what a request asks for, wherever it is carried out.

Knows: which function is which verb. Must not know: who asks, whether from here or from afar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ops.frozen import frozen
from ops.memory.watchpost import Watchpost
from ops.model import Outcome
from ops.operations import watched
from ops.operations.site import Site

# A failure of one of these is worth an alert: a service that should be up could not be brought up.
_ALERTING = ("start", "restart", "restart-one", "reset")


@frozen
class Request:
    """What is asked for, in plain values: it could travel as JSON. `options` are those of the verb alone."""

    task: str
    only: tuple[str, ...] = ()
    check: bool = False
    timeout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def perform(site: Site, request: Request) -> list[Outcome]:
    """Carries out a verb that changes things (or would, with --check); its outcomes are also told as they come."""
    if request.check:
        site.state.check()
    else:
        from ops.host import spawn

        site.state.prepare()
        spawn.take_no_ignored_signals()  # here: services are spawned by threads, which may not touch handlers
    if request.task in ("start", "reset", "install-service"):
        _note_rivals(site)
    if not request.check:
        _recover(site)
    site.state.overdue = lambda holder: _unblock(site, holder)
    try:
        outcomes = list(VERBS[request.task](site, request))
    finally:
        if not request.check:
            Watchpost(site.state.path).ring()
    site.notes += [note for note in site.state.notes if note not in site.notes]
    if request.task in _ALERTING and not request.check:
        _alert(site, outcomes)
    return outcomes


def _recover(site: Site) -> None:
    """A rotation that was killed may have left somebody paused."""
    from ops.operations import rotating

    site.notes += rotating.recover_all(site.state)


def _unblock(site: Site, holder: int) -> None:
    from ops.operations import monitor

    monitor.unblock(site.state, holder)


def _note_rivals(site: Site) -> None:
    from ops.operations import rivals

    site.notes += [rival.text for rival in rivals.rivals()]


def _alert(site: Site, outcomes: Sequence[Outcome]) -> None:
    """Unless a monitor watches: it goes on trying, and tells when that is in vain."""
    from ops.operations import logbook

    if watched.report(site).state == "up":
        return
    for outcome in outcomes:
        if outcome.state == "failed":
            logbook.alert(site, outcome)


def _start(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import lifecycle

    outcomes = lifecycle.start(site, request.only, refresh=bool(request.options.get("refresh_env")))
    return [*outcomes, *_with_monitor(site, request.only)]


def _with_monitor(site: Site, only: Sequence[str]) -> list[Outcome]:
    """A start ends with the monitor running; that of a few services leaves one that was stopped by command."""
    from ops.operations import monitor

    if not site.host.stack.monitor or (only and Watchpost(site.state.path).wish().up is False):
        return []
    return [monitor.start(site)]


def _monitor_start(site: Site, _request: Request) -> Sequence[Outcome]:
    from ops.operations import monitor

    return [monitor.start(site)]


def _monitor_stop(site: Site, _request: Request) -> Sequence[Outcome]:
    from ops.operations import monitor

    return [monitor.stop(site)]


def _stop(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import lifecycle

    if request.only or not _monitored(site):
        return lifecycle.stop(site, request.only)
    from ops.operations import monitor

    return [*lifecycle.stop(site), monitor.stop(site)]


def _monitored(site: Site) -> bool:
    """Whether there is, or should be, a monitor to be stopped."""
    return site.host.stack.monitor or watched.report(site).pid is not None


def _restart(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import lifecycle

    return lifecycle.restart(site, request.only, refresh=bool(request.options.get("refresh_env")))


def _restart_one(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import lifecycle

    (service,) = site.chosen(request.only)
    return lifecycle.restart_one(site, service, refresh=bool(request.options.get("refresh_env")))


def _kill_port(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import ports

    return ports.kill_port(site, request.options["port"], force=bool(request.options.get("force")))


def _reset(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import reset

    return [*reset.reset(site, request.only), *_with_monitor(site, request.only)]


def _hold(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import intent

    (service,) = site.chosen(request.only)
    return (intent.hold if request.task == "hold" else intent.release)(site, service)


def _install_service(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import boot

    return [boot.install(site, system=bool(request.options.get("system")))]


def _uninstall_service(site: Site, request: Request) -> Sequence[Outcome]:
    from ops.operations import boot

    return [boot.uninstall(site, system=bool(request.options.get("system")))]


def _settle(site: Site, _request: Request) -> Sequence[Outcome]:
    from ops.operations import settling

    return settling.settle(site)


VERBS: Mapping[str, Callable[[Site, Request], Sequence[Outcome]]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "restart-one": _restart_one,
    "kill-port": _kill_port,
    "reset": _reset,
    "hold": _hold,
    "release": _hold,
    "monitor-start": _monitor_start,
    "monitor-stop": _monitor_stop,
    "install-service": _install_service,
    "uninstall-service": _uninstall_service,
    "settle": _settle,  # asked by `bootstrap`, typed by nobody
}
