"""What people find at the runbook's paths: a link to the log and a file with the pid.

Knows: which service shows what where. Must not know: how links are mended, anything that believes a pid file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from ops.memory import logfiles
from ops.memory.logfiles import Link
from ops.memory.state import State
from ops.model import Host, Service
from ops.operations.sight import Sight

_PATIENCE = 2.0  # seconds; these paths lie on whatever disk people have named, which may be gone


def in_time(job: Callable[[], Sequence[str]]) -> list[str]:
    """What a job with public paths says, or that it has not come back: nobody is to wait for them."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(job()), name="public", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread to be had
        return list(job())
    thread.join(_PATIENCE)
    return [f"public paths: no answer within {_PATIENCE:g} s, left as they are"] if thread.is_alive() else found


def link(host: Host, state: State, service: Service) -> Link | None:
    """Its public log as a link to the real one; None when the inventory names no public path."""
    if service.log is None:
        return None
    return Link(_absolute(host, service.log), state.log(service.name))


def alerts_link(host: Host, state: State) -> Link | None:
    """The public path of the alerts log as a link to the real one."""
    return Link(_absolute(host, host.stack.alerts_log), state.log("alerts")) if host.stack.alerts_log else None


def mend_alerts(host: Host, state: State) -> list[str]:
    """Makes the public path of the alerts log right; why it could not be, for people."""
    shown = alerts_link(host, state)
    words = logfiles.mend(shown) if shown else None
    return [f"alerts log {shown.public}: {words}; the log itself is {shown.real}"] if shown and words else []


def alerts_warnings(host: Host, state: State) -> list[str]:
    """What `health` says of that path; nothing as long as there are no alerts."""
    shown = alerts_link(host, state)
    words = logfiles.link_fault(shown) if shown and os.path.exists(shown.real) else None
    return [f"alerts log {shown.public}: {words}; the log itself is {shown.real}"] if shown and words else []


def readable_log(host: Host, state: State, service: Service) -> str:
    """Where its output can be read: the real log; for one that was started by hand its old public file."""
    record = state.record(service.name)
    by_hand = record is not None and record.run == ""
    if by_hand and service.log and os.path.isfile(_absolute(host, service.log)):
        return _absolute(host, service.log)
    return state.log(service.name)


def fault(host: Host, state: State, service: Service, sight: Sight) -> str:
    """What `mend` would put right for a running service; "" when all is in order or not ours to mend."""
    if sight.root is None:
        return ""
    found = []
    if sight.run and (shown := link(host, state, service)) and logfiles.mendable(shown):
        found.append(f"log {shown.public}: {logfiles.link_fault(shown)}")
    path = _pid_path(host, service)
    if path and _content(path) != _pid_text(sight.root.pid) and not logfiles.public_fault(path):
        found.append(f"pid file {path} is wrong")
    return "; ".join(found)


def mend(host: Host, state: State, service: Service, pid: int, *, logged: bool) -> list[str]:
    """Makes link and pid file right; what could not be, for people. `logged`: its output goes to the real log."""
    shown = link(host, state, service) if logged else None
    log_fault = logfiles.mend(shown) if shown else None
    path = _pid_path(host, service)
    pid_fault = None
    if path and _content(path) != _pid_text(pid):
        pid_fault = logfiles.write_public(path, _pid_text(pid))
    notes = [f"log {shown.public}: {log_fault}; the log itself is {shown.real}"] if shown and log_fault else []
    return notes + ([f"pid file {pid_fault}"] if pid_fault else [])


def remove(host: Host, service: Service) -> list[str]:
    """Takes the pid file away once the service is down; nobody believes it, so a failure does not matter."""
    path = _pid_path(host, service)
    fault = logfiles.remove_public(path) if path else None
    return [f"pid file {fault}"] if fault else []


def warnings(host: Host, state: State, service: Service, sight: Sight) -> list[str]:
    """What `health` says of the public paths and the real log; none of it makes a service unhealthy."""
    found = []
    shown = link(host, state, service)
    if shown and sight.run and (words := logfiles.link_fault(shown)):
        found.append(f"log {shown.public}: {words}; the log itself is {shown.real}")
    if sight.record and sight.record.log_file and sight.record.process == sight.root:
        words = logfiles.real_fault(state.log(service.name), sight.record.log_file)
        found += [f"log {words}"] if words else []
    return found


def _absolute(host: Host, path: str) -> str:
    return os.path.normpath(os.path.join(host.root, os.path.expanduser(path)))


def _pid_path(host: Host, service: Service) -> str | None:
    return _absolute(host, service.pid_file) if service.pid_file else None


def _pid_text(pid: int) -> str:
    return f"{pid}\n"


def _content(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, 64).decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)
