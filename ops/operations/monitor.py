"""monitor-start and monitor-stop: the same operations for every command that ends with it running, or without it.

Knows: how the monitor and its guard are launched, told apart, ended. Must not know: what the monitor does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from ops.errors import OpsError
from ops.host import process, terminate
from ops.memory.last_good import LastGood
from ops.memory.state import OVERDUE, State
from ops.memory.watchpost import Post, Watcher, Watchpost
from ops.model import Outcome, Process
from ops.operations import keepers
from ops.operations.converge import Convergence, Plan, converge
from ops.operations.site import Site
from ops.operations.watched import MonitorReport, report, silent, who
from ops.operations.watchers import launch, log_of

NAME = "monitor"
_UP_WITHIN = 15.0  # seconds from its spawn to its first heartbeat
_TO_SIGN = 1.0  # seconds from its lock to its name
_GRACE = 25.0  # seconds that it has to finish what it is restarting


# -- verbs -------------------------------------------------------------------------------------------------------


def start(site: Site) -> Outcome:
    """A monitor in the background, and the wish for it recorded."""
    thing = Convergence(
        NAME,
        "monitor-start",
        lambda: report(site),
        _plan_start,
        lambda seen, plan: _carry_out_start(site, plan),
    )
    return converge(site, thing)


def _plan_start(seen: MonitorReport) -> Plan:
    if seen.state == "up":
        return Plan("wait", "up", "up", f"already watching, pid {seen.pid}")
    if seen.state == "hung":
        return Plan("restart", "hung", "up", f"ending pid {seen.pid}, which shows no heartbeat, and starting it anew")
    return Plan("spawn", "down", "up", "starting it")


def _carry_out_start(site: Site, plan: Plan) -> Outcome:
    post = Watchpost(site.state.path)
    if not post.want(True, site.by):
        site.note(NAME, [f"that it is wanted could not be recorded in {site.state.path}"])
    if plan.do == "wait":
        return plan.outcome(NAME, "monitor-start")
    _end(site, post, "guard")
    if plan.do == "restart":  # else one that is there by now is another start's
        _end(site, post, "monitor")
    if site.text:  # spares the monitor reading it: YAML is slow
        LastGood(site.state.path, site.inventory).keep(site.host, site.text)
    site.waiting(NAME, "its first heartbeat")
    said_before = _log_size(site)
    one = _kept(site, post) or _launched(site, post)
    signed = _signed(site, post, one) if one else None
    if one is None or not process.alive(one):
        words = _last_words(site, said_before)
        seen = f"it did not begin to watch{words and ': '}{words}"
        raise OpsError(seen, wanted="its heartbeat", next=f"inv tail {NAME} --no-follow")
    by = f", kept by {signed.under}" if signed and signed.under else ""
    return Outcome(NAME, "monitor-start", "changed", plan.before, "up", f"watching, pid {one.pid}{by}")


def _signed(site: Site, post: Watchpost, one: Process) -> Post | None:
    """What it signed on with. It holds its lock a moment before; it never does on a full disk, or when it has ended."""
    until = site.deadline(_TO_SIGN)
    while time.monotonic() < until and process.alive(one):
        signed = post.post()
        if signed is not None and signed.process == one:
            return signed
        site.pause(0.01)
    return None


def _log_size(site: Site) -> int:
    try:
        return os.stat(log_of(site.state.path)).st_size
    except OSError:
        return 0


def _last_words(site: Site, since: int) -> str:
    """The last line that it wrote since its log was so long; "" when it left none."""
    from ops.host import logs

    lines = logs.last_lines(log_of(site.state.path), 1, since=since)[0]
    return logs.plain(lines[0]) if lines else ""


def _kept(site: Site, post: Watchpost) -> Process | None:
    """Whoever watches once the init system that was told to keep it has started it; None where there is none, or it
    would not: then it is launched all the same (law 7)."""
    keeper = keepers.installed(site.host)
    if keeper is None:
        return None
    try:
        keepers.allowed(keeper, "install-service", new=True)
        keeper.start()
    except OpsError as error:
        then = f"; under it again: {error.next}" if error.next else ""
        site.note(NAME, [f"it stands alone until the next boot: {error.seen}{then}"])
        return None
    one = await_watch(site, post, lambda: False)
    if one is None:
        site.note(NAME, [f"{keeper.words} was told to start it, and it did not begin to watch; it stands alone"])
    return one


def _launched(site: Site, post: Watchpost) -> Process | None:
    launched = launch("monitor", site.state.path, site.inventory)
    return await_watch(site, post, lambda: not process.alive(launched) and not post.manned())


def await_watch(
    site: Site, post: Watchpost, in_vain: Callable[[], bool], wanted: Callable[[Process], bool] = lambda one: True
) -> Process | None:
    """Whoever watches (and is the wanted one), once there is one; None when it is `in_vain`, or takes too long."""
    until = site.deadline(_UP_WITHIN)
    while time.monotonic() < until:
        one = who(post)
        if one is not None and wanted(one):
            return one
        if one is None and in_vain():
            return None
        site.pause(0.01)
    return None


def stop(site: Site) -> Outcome:
    """No monitor and no guard, and none wanted; services run on."""
    thing = Convergence(
        NAME,
        "monitor-stop",
        lambda: watching(Watchpost(site.state.path)),
        _plan_stop,
        lambda seen, plan: _carry_out_stop(site, seen, plan),
    )
    return converge(site, thing)


def watching(post: Watchpost) -> list[Process]:
    """The monitor first: once it has been told to end, it does not bring its guard back."""
    return [one for one in (who(post), who(post, "guard")) if one is not None]


def _plan_stop(seen: list[Process]) -> Plan:
    if not seen:
        return Plan("wait", "down", "down", "none runs")
    return Plan("end", "up", "down", f"ending {_named(seen)}")


def _named(seen: list[Process]) -> str:
    return " and ".join(f"pid {one.pid}" for one in seen)


def _carry_out_stop(site: Site, seen: list[Process], plan: Plan) -> Outcome:
    post = Watchpost(site.state.path)
    recorded = post.want(False, site.by)  # before either ends, else they would bring one another back
    _end_both(site, post)
    _end_unit(site, recorded)
    if not recorded:
        raise OpsError(
            f"it is down, but that it should stay down could not be recorded in {site.state.path}",
            next=f"free some space (df -h {site.state.path}), then: inv monitor-stop",
        )
    if plan.do == "end":
        more = "; services run on" if site.task == "monitor-stop" else ""
        if more and keepers.installed(site.host):
            more += ", and nothing is started at the next boot: inv monitor-start"
        plan = replace(plan, why=f"ended {_named(seen)}{more}")
    return plan.outcome(NAME, "monitor-stop")


def _end_unit(site: Site, recorded: bool) -> None:
    """Where an init system keeps it, it sees by the exit code that nobody wants it, or by the record; only where that
    could not be written does it have to be told."""
    keeper = None if recorded else keepers.installed(site.host)
    if keeper is not None:
        keeper.stop()


def _end_both(site: Site, post: Watchpost) -> None:
    """At the same moment, and again whoever one of them has brought back in between: on a full disk they cannot read
    that they are not wanted. OpsError names what is left."""
    site.waiting(NAME, "monitor and guard to end")
    ending = terminate.end(lambda: watching(post), grace=_GRACE, clock=time.monotonic)
    if ending.left:
        raise OpsError(f"{_named(list(ending.left))} would not end: {ending.refused}")


def _end(site: Site, post: Watchpost, watcher: Watcher) -> None:
    """OpsError names what is left."""
    one = who(post, watcher)
    if one is None:
        return
    site.waiting(NAME, f"the {watcher} to end")
    ending = terminate.end(lambda: [one], grace=_GRACE if watcher == NAME else 2.0, clock=time.monotonic)
    if ending.left:
        raise OpsError(f"the {watcher}, pid {one.pid}, would not end: {ending.refused}")


def unblock(state: State, holder: int) -> None:
    """Ends a monitor that holds a lock and is stopped or silent; anybody else is left alone."""
    post = Watchpost(state.path)
    one = who(post)
    if one is None or one.pid != holder or holder == os.getpid():
        return
    line = process.entry(one.pid)
    if (line and line.stopped) or silent(post, OVERDUE, state.pause):
        process.send(one, signal.SIGKILL)
