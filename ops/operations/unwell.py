"""Saying why a service did not become healthy: what was seen, what was wanted, its last lines, what to do next.

Knows: the words. Must not know: what is done about it.
"""

from __future__ import annotations

import signal

from ops.host import spawn
from ops.model import Outcome, Process, Reading, Service
from ops.operations import asking, ports, tree
from ops.operations.sight import Sight, count, owners
from ops.operations.site import Site


def not_well(
    site: Site,
    service: Service,
    action: str,
    before: str,
    root: Process,
    verdict: asking.Verdict,
    sight: Sight,
    port: Reading | None,
) -> Outcome:
    """A failure to become healthy: what was seen, what was wanted, the last lines of its log, what to do next."""
    if sight.state == "foreign":
        seen = f"port {service.port} is held by {owners(sight.strangers)}"
        advice = ports.advice(service.port or 0, sight.strangers, f" start --only {service.name}")
    else:
        seen = _ended(root, sight) if sight.root is None else _unwell(service, verdict, port)
        advice = f"inv tail {service.name}"
    after = asking.judge(service, sight, (*verdict.readings, *([port] if port else [])))
    wanted = f"{service.name} healthy within {service.start_timeout:g} s"
    if site.timeout is not None and site.timeout < service.start_timeout:
        wanted = f"{service.name} healthy within {site.timeout:g} s (--timeout)"
    lines = [f"log:    {line}" for line in tree.log_tail(site, service)]
    return Outcome(
        service.name,
        action,
        "failed",
        before,
        after,
        seen,
        more=(f"wanted: {wanted}", *lines, f"next:   {advice}"),
    )


def may_listen_yet(service: Service, root: Process, verdict: asking.Verdict, sight: Sight) -> bool:
    """Whether only the listening on its port is missing: its probes pass, or it went to the background (ended well
    and left processes), and nobody else has the port."""
    if service.port is None or sight.state == "foreign":
        return False
    backgrounded = sight.root is None and bool(sight.leftovers) and spawn.exit_code(root.pid) == 0
    return backgrounded or (verdict.ready and sight.root == root)


def _ended(root: Process, sight: Sight) -> str:
    code = spawn.exit_code(root.pid)
    how = "ended" if code is None else f"ended with exit code {code}" if code >= 0 else f"was ended by {_signal(code)}"
    if sight.leftovers and code == 0:
        return (
            f"pid {root.pid} {how} and left {count(sight.leftovers)} in the background, none of them on its port; "
            "keep it in the foreground (an option such as --no-daemon)"
        )
    return f"pid {root.pid} {how} before it was healthy"


def _signal(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _unwell(service: Service, verdict: asking.Verdict, port: Reading | None) -> str:
    faults = asking.faults((*verdict.readings, *([port] if port else [])))
    return faults or f"{service.name} did not become healthy"
