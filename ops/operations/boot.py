"""install-service and uninstall-service: the monitor is started at boot, and watched, by launchd or systemd.

Knows: what the init system has been told and what it should be told, how one monitor gives way to another. Must not
know: unit files, property lists, which init system it is.

Verified, not just written: success is said once a monitor that the init system has started shows its heartbeat. The
one that ran before ends only when the next one waits for its place, so nobody is unwatched for longer than it takes
to begin; no service is touched.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Sequence

from ops.errors import OpsError
from ops.frozen import frozen
from ops.host import initsystem, process, terminate
from ops.host.initsystem import Standing
from ops.memory.watchpost import Watchpost
from ops.model import Outcome, Process
from ops.operations import keepers
from ops.operations.converge import Convergence, Plan, converge
from ops.operations.keepers import Keeper
from ops.operations.monitor import await_watch, watching
from ops.operations.site import Site
from ops.operations.watched import MonitorReport, report, who
from ops.operations.watchers import launch

_IN_PLACE = 20.0  # seconds from being told to start it to its process waiting or watching
_GRACE = 30.0  # seconds that the one before has to finish what it is restarting
_ABSENT, _INSTALLED = "not installed", "installed"


@frozen
class Seen:
    """What there is: the file's text and the one wanted, how the job stands, what keeps it from starting at boot, who
    watches; `rival`: the same stack installed the other way; `other_user`: whose file it is, if not ours."""

    keeper: Keeper
    text: bytes | None
    wanted: bytes
    standing: Standing
    lacking: str
    monitor: MonitorReport
    rival: Keeper | None
    other_user: str = ""

    @property
    def watches(self) -> bool:
        """Whether the monitor that watches is the one that the init system has started."""
        return self.monitor.state == "up" and self.monitor.pid == self.standing.pid

    @property
    def before(self) -> str:
        if self.text is None:
            return _ABSENT
        return _INSTALLED if self.standing.loaded and self.standing.enabled else "installed, not enabled"


# -- install-service ---------------------------------------------------------------------------------------------


def install(site: Site, *, system: bool) -> Outcome:
    """Has the monitor started at boot, or login; a second time changes nothing."""
    thing = Convergence(
        site.host.stack.label,
        "install-service",
        lambda: _look(site, keepers.chosen(site.host, system=system)),
        lambda seen: _plan_install(site, seen),
        lambda seen, plan: _carry_out_install(site, seen, plan),
    )
    return converge(site, thing)


def _look(site: Site, keeper: Keeper) -> Seen:
    others = [one for one in keepers.available(site.host) if one.system != keeper.system]
    return Seen(
        keeper,
        initsystem.installed(keeper.path),
        keeper.text(keepers.job(site, keeper)),
        keeper.standing(),
        keeper.lacking(),
        report(site),
        next((one for one in others if keepers.installed(site.host) == one), None),
        keepers.other_user(keeper),
    )


def _plan_install(site: Site, seen: Seen) -> Plan:
    if seen.other_user:
        why = f"{seen.keeper.words} is there already, of a stack of user {seen.other_user}"
        more = ("wanted: a label of its own", "next:   give this stack another `name` under `ops`, or a `label`")
        return Plan("refuse", _INSTALLED, _INSTALLED, why, more=more)
    if seen.rival is not None:
        after = "sudo ./inv uninstall-service" if seen.rival.system else "./inv uninstall-service, without sudo"
        why = f"it is installed already, as {seen.rival.words}"
        return Plan("refuse", _INSTALLED, _INSTALLED, why, more=(f"next:   {after}, then the same again",))
    wanting = _wanting(seen)
    if not wanting:
        return Plan("nothing", _INSTALLED, _INSTALLED, f"{seen.keeper.words}, watching, pid {seen.monitor.pid}")
    shown = _difference(seen) if site.check else ()
    return Plan("write", seen.before, _INSTALLED, f"{seen.keeper.words}: {', '.join(wanting)}", more=shown)


def _wanting(seen: Seen) -> list[str]:
    """What there is to be done, in words."""
    found = []
    if seen.text is None:
        found.append(f"writing {seen.keeper.path}")
    elif seen.text != seen.wanted:
        copy = "" if initsystem.OURS in seen.text else ", which is not ours, keeping a copy beside it"
        found.append(f"rewriting {seen.keeper.path}{copy}")
    if seen.text is not None and not seen.standing.loaded:
        found.append("loading it")
    elif seen.standing.behind:
        found.append("having it read again")
    if not seen.standing.enabled:
        found.append("enabling it")
    if seen.lacking:
        found.append("having the user linger")
    if not seen.watches:
        found.append("starting its monitor" if seen.monitor.pid is None else "having its monitor take over")
    elif seen.text != seen.wanted:
        found.append("restarting its monitor")
    return found


def _difference(seen: Seen) -> tuple[str, ...]:
    """A unified diff of the file."""
    before, after = ((text or b"").decode("utf-8", "replace").splitlines() for text in (seen.text, seen.wanted))
    old = "/dev/null" if seen.text is None else seen.keeper.path
    return tuple(difflib.unified_diff(before, after, old, seen.keeper.path, lineterm=""))


def _carry_out_install(site: Site, seen: Seen, plan: Plan) -> Outcome:
    label = site.host.stack.label
    if plan.idle:
        return plan.outcome(label, "install-service")
    keeper, post = seen.keeper, Watchpost(site.state.path)
    kept = _keep_copy(seen)
    keeper.install(keepers.job(site, keeper), site.pause)
    with contextlib.suppress(OpsError):  # a state folder that cannot be written keeps nothing from starting at boot
        keepers.freeze(site)
    if not post.want(True, site.by):  # not sooner: where it could not be installed nothing has changed
        site.note(label, [f"that a monitor is wanted could not be recorded in {site.state.path}"])
    rewritten = seen.text != seen.wanted
    renewed = seen.monitor.pid == seen.standing.pid and (rewritten or not seen.watches)
    if renewed:
        keeper.renew(reloaded=rewritten)
    else:
        keeper.start()
    one = _handed_over(site, keeper, post, seen.monitor.pid if renewed else None)
    done = f"{keeper.words}, watching, pid {one.pid}{kept}"
    lacking = keeper.lacking()
    if lacking:
        raise OpsError(
            f"{done}; but {lacking}",
            wanted="lingering, which only root may set here",
            next=f"sudo loginctl enable-linger {keepers.account()}, then inv install-service",
        )
    return Outcome(label, "install-service", "changed", plan.before, _INSTALLED, done)


def _keep_copy(seen: Seen) -> str:
    """A file that somebody else has written (the runbook's own agent, say) is kept beside ours."""
    if seen.text is None or initsystem.OURS in seen.text:
        return ""
    kept = initsystem.keep_copy(seen.keeper.path, seen.text, root=seen.keeper.system)
    return f"; what stood there is kept as {kept}"


def _handed_over(site: Site, keeper: Keeper, post: Watchpost, old: int | None) -> Process:
    """The monitor that the init system has started, once it shows its heartbeat; not the `old` one, which is being
    replaced. One that stands alone, whoever has started it, ends as soon as the next one waits for its place."""
    site.waiting(site.host.stack.label, "its heartbeat")
    until = site.deadline(_IN_PLACE + _GRACE)
    while True:
        pid = keeper.standing().pid
        signed, now = post.post(), who(post)
        if now is not None and now.pid == pid != old:
            if signed is not None and signed.process == now and report(site).state == "up":
                return now
        elif now is not None and post.queued() is not None and post.queued() == process.identify(pid or 0):
            _make_way(post)
        if time.monotonic() >= until:
            raise OpsError(
                f"{keeper.words} was told to start it, and no monitor of it watches",
                wanted="its heartbeat",
                next=keeper.diary,
            )
        site.pause(0.02)


def _make_way(post: Watchpost) -> None:
    """Ends the monitor that watches, its guard, and a guard that it may have launched only now."""
    before = watching(post)

    def find() -> Sequence[Process]:
        now, guard = who(post), who(post, "guard")
        late = guard if now in before and guard not in before else None
        return [*before, late] if late else before

    ending = terminate.end(find, grace=_GRACE, clock=time.monotonic)
    if ending.left:
        raise OpsError(f"the monitor before it, pid {ending.left[0].pid}, would not end: {ending.refused}")


# -- uninstall-service -------------------------------------------------------------------------------------------


def uninstall(site: Site, *, system: bool) -> Outcome:
    """Nothing starts at boot any more. Services run on, and a monitor that is wanted goes on, standing alone. With
    `system` only what is the machine's is taken away."""
    thing = Convergence(
        site.host.stack.label,
        "uninstall-service",
        lambda: _installed(site, system),
        lambda keeper: _plan_uninstall(site, keeper),
        lambda keeper, plan: _carry_out_uninstall(site, keeper, plan),
    )
    return converge(site, thing)


def _installed(site: Site, system: bool) -> Keeper | None:
    keeper = keepers.installed(site.host) or keepers.loaded(site.host)
    return keeper if keeper and (keeper.system or not system) else None


def _plan_uninstall(site: Site, keeper: Keeper | None) -> Plan:
    if keeper is None:
        return Plan("nothing", _ABSENT, _ABSENT, "nothing starts this stack's monitor at boot")
    keepers.allowed(keeper, site.task)
    return Plan("end", _INSTALLED, _ABSENT, f"taking {keeper.words} away")


def _carry_out_uninstall(site: Site, keeper: Keeper | None, plan: Plan) -> Outcome:
    label, post = site.host.stack.label, Watchpost(site.state.path)
    if keeper is None:
        return plan.outcome(label, "uninstall-service")
    going_on = report(site).wanted
    if going_on:
        _have_one_wait(site, post)
    guard = who(post, "guard")
    if guard is not None:  # of launchd's monitor
        terminate.end(lambda: [guard], grace=2.0, clock=time.monotonic)
    keeper.uninstall()
    keepers.thaw(site)
    done = f"{keeper.words} is gone{keeper.remains()}"
    if going_on:
        one = await_watch(site, post, lambda: False)
        if one is None:
            raise OpsError(f"{done}, and no monitor watches", wanted="one that stands alone", next="inv monitor-start")
        done += f"; the monitor stands alone now, pid {one.pid}"
    return Outcome(label, "uninstall-service", "changed", plan.before, _ABSENT, f"{done}; services run on")


def _have_one_wait(site: Site, post: Watchpost) -> None:
    """A monitor that waits for the place of the one that the init system is about to end."""
    launched = launch("monitor", site.state.path, site.inventory, under="waiting")
    until = site.deadline(_IN_PLACE)
    while time.monotonic() < until and process.alive(launched):
        if post.queued() == launched or who(post) == launched:
            return
        site.pause(0.02)


# -- another release ---------------------------------------------------------------------------------------------


def renewed(site: Site, keeper: Keeper, old: int) -> Process:
    """The monitor that the init system starts in the place of its `old` one."""
    keeper.renew(reloaded=False)
    return _handed_over(site, keeper, Watchpost(site.state.path), old)


def replaced(site: Site, post: Watchpost) -> Process:
    """The monitor, standing alone, that took the place of the one before it."""
    old = who(post)
    _have_one_wait(site, post)
    _make_way(post)
    one = await_watch(site, post, lambda: False, lambda found: found != old)
    if one is None:
        raise OpsError("the monitor before it has ended, and none watches", next="inv monitor-start")
    return one


# -- for status and health -----------------------------------------------------------------------------------


def warnings(site: Site) -> tuple[str, ...]:
    """What keeps the monitor from starting at boot though somebody wanted that; asks the init system."""
    keeper = keepers.installed(site.host)
    if keeper is None:
        return ()
    try:
        standing, lacking = keeper.standing(), keeper.lacking()
    except OpsError as error:
        return (f"boot: {keeper.words}: {error.seen}",)
    if lacking or keeper.fault():
        return ()  # what its files say stands in the line about the monitor
    if standing.loaded and standing.enabled:
        return _drift(site, keeper)
    hint = ", or was it switched off under Login Items?" if keeper.name == initsystem.LAUNCHD else ""
    state = "not enabled" if standing.loaded else "not loaded"
    return (f"boot: {keeper.words} is {state}{hint}: inv install-service",)


def _drift(site: Site, keeper: Keeper) -> tuple[str, ...]:
    """Whether what was installed is not what would be now, or does not keep the monitor that watches."""
    try:
        outdated = initsystem.installed(keeper.path) != keeper.text(keepers.job(site, keeper))
    except OpsError:
        return ()
    if outdated:
        return (f"boot: {keeper.words} is out of date (an update, another folder?): inv install-service",)
    signed = Watchpost(site.state.path).post()
    if signed and not signed.under and process.alive(signed.process):
        return (f"boot: the monitor stands alone until the next boot; under {keeper.name} again: inv install-service",)
    return ()
