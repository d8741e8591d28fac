"""The init system that keeps the monitor running, where one was told to.

Knows: which there are here, what the monitor is to them. Must not know: when it is installed, how it is shown.
"""

from __future__ import annotations

import contextlib
import os

from ops import __version__
from ops.errors import OpsError
from ops.host import initsystem, launchd, privilege, systemd
from ops.host.initsystem import Job
from ops.host.launchd import Launchd
from ops.host.systemd import Systemd
from ops.model import Host
from ops.operations import environment, watchers
from ops.operations.order import in_sequence
from ops.operations.site import Site

Keeper = Systemd | Launchd
_FROZEN = "monitor"  # no service can be called that
_TO_FINISH = 25.0  # seconds that the monitor has to finish what it is restarting, besides the longest ending


def available(host: Host) -> tuple[Keeper, ...]:
    """What there is on this machine, the user's own before the machine's; () where neither is in charge."""
    label = host.stack.label
    if launchd.present():
        return Launchd(label, False), Launchd(label, True)
    return (Systemd(label, False), Systemd(label, True)) if systemd.booted() else ()


def installed(host: Host) -> Keeper | None:
    """The one that was told to keep this user's monitor of this stack, by the file that is there. Nobody is asked."""
    return next((keeper for keeper in available(host) if _is_ours(keeper)), None)


def _is_ours(keeper: Keeper) -> bool:
    """Whether we have written its file, for this user: the label may be the runbook's, or another user's stack's."""
    try:
        text = initsystem.installed(keeper.path)
    except OpsError:
        return False
    if text is None or initsystem.OURS not in text:
        return False
    return not keeper.system or (keeper.runs_as(text) or "root") == account()


def loaded(host: Host) -> Keeper | None:
    """One that still keeps it though its file is gone; each is asked."""
    for keeper in available(host):
        with contextlib.suppress(OpsError):
            if keeper.standing().loaded and not os.path.lexists(keeper.path):
                return keeper
    return None


def other_user(keeper: Keeper) -> str:
    """Whose stack the file there is for, if that is not this user; "" for ours, nobody's, and what we have not
    written."""
    text = initsystem.installed(keeper.path)
    if text is None or initsystem.OURS not in text or _is_ours(keeper):
        return ""
    return keeper.runs_as(text) or "root"


def chosen(host: Host, *, system: bool) -> Keeper:
    """The one to be told: the user's own (root is a user, too), or with `system` the machine's."""
    found = available(host)
    if not found:
        raise OpsError(
            "neither launchd nor systemd is in charge of this machine",
            wanted="one of them, to start the monitor at boot",
            next="inv monitor-start, from whatever starts things here",
        )
    keeper = found[1 if system else 0]
    allowed(keeper, "install-service", new=True)
    return keeper


def allowed(keeper: Keeper, task: str, *, new: bool = False) -> None:
    """OpsError where only root may tell it anything."""
    if keeper.system and not privilege.is_root():
        raise OpsError(f"only root may do that for {keeper.words}", next=f"sudo ./inv {task}{' --system' * new}")


def account() -> str:
    """The name of the user that this acts as."""
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def environment_of(site: Site) -> dict[str, str]:
    """What the monitor is started with: frozen when it was installed, as a service's is at its first start, so that
    another shell changes nothing. It holds nothing of a service's own."""
    kept = site.state.frozen().get(_FROZEN)
    env = kept.get("env") if isinstance(kept, dict) else None
    if isinstance(env, dict) and "PATH" in env and all(isinstance(value, str) for value in env.values()):
        return env
    if privilege.is_root() and os.geteuid() != 0:  # what root's shell has is not what its user's services have
        ones = [one.get("env") for one in site.state.frozen().values() if isinstance(one, dict)]
        return environment.capture(next((one for one in ones if isinstance(one, dict) and "PATH" in one), {}))
    return environment.capture()


def freeze(site: Site) -> None:
    """Keeps that environment for the next time."""
    site.state.freeze({_FROZEN: {"env": environment_of(site)}}, site.by)


def thaw(site: Site) -> None:
    """Whoever installs it again has it frozen anew."""
    site.state.freeze({_FROZEN: {}}, site.by)


def job(site: Site, keeper: Keeper) -> Job:
    """The monitor as its keeper is told of it."""
    host = site.host
    argv = watchers.argv("monitor", site.state.path, site.inventory, under=keeper.name)
    return Job(
        label=host.stack.label,
        argv=tuple(argv),
        cwd=host.root,
        env=environment_of(site),
        user=_user(keeper),
        stop_within=_longest_ending(host) + _TO_FINISH,
        version=__version__,
    )


def _longest_ending(host: Host) -> float:
    """Seconds that it takes at most to end all services one after another as they need one another."""
    ends: dict[str, float] = {}
    for service in in_sequence(host.services):
        ends[service.name] = service.grace + max((ends[need] for need in service.needs if need in ends), default=0.0)
    return max(ends.values(), default=0.0)


def _user(keeper: Keeper) -> str:
    """For whom the machine's own manager runs it: root needs no word."""
    return account() if keeper.system and os.geteuid() != 0 else ""
