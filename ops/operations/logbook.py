"""tail and alerts: reading what services, the tool and the alerts log have written.

Knows: which name means which file. Must not know: how lines are coloured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from ops.memory.files import append_line, now
from ops.model import Outcome
from ops.operations import public
from ops.operations.site import Site, unknown_service

OWN = ("monitor", "alerts")
Complain = Callable[[str, str], None]  # (name of the log, why nothing comes from it)


def paths(site: Site, name: str) -> dict[str, str]:
    """The files that `tail NAME` reads, by name: a service, `monitor`, `alerts`, or `all` services merged.

    UsageError, offering the nearest name, when there is no such log."""
    services = {service.name: service for service in site.host.services}
    if name in OWN:
        return {name: site.state.log(name)}
    if name not in services and name in site.state.recorded():  # no longer in the inventory
        return {name: site.state.log(name)}
    if name != "all" and name not in services:
        raise unknown_service(name, [*services, *OWN, "all"])
    chosen = services if name == "all" else {name: services[name]}
    return {key: public.readable_log(site.host, site.state, service) for key, service in chosen.items()}


def tail(
    site: Site, name: str, lines: int, follow: bool, stop: Callable[[], bool], complain: Complain
) -> Iterator[tuple[str, str]]:
    """The last lines of each file, then, with `follow`, every line that comes, harmless to print. `complain` hears
    why nothing comes from one; not of a file that is away for a moment while it is rotated."""
    from ops.host import logs

    files = paths(site, name)
    missing = [key for key, path in files.items() if not os.path.exists(path)]
    for key in missing:
        complain(key, _why_missing(key, files[key], follow))

    def tell(key: str, fault: str) -> None:
        if fault != "does not exist":
            complain(key, f"{files[key]}: {fault}")

    if follow:
        for key, line in logs.follow(files, lines=lines, stop=stop, complain=tell):
            yield key, logs.plain(line)
        return
    for key, path in files.items():
        for line in logs.last_lines(path, lines)[0]:
            yield key, logs.plain(line)


def _why_missing(name: str, path: str, follow: bool) -> str:
    if name == "monitor":
        return "no monitor has run yet" + ("; waiting for the first" if follow else "")
    if name == "alerts":
        return "no alerts so far" + ("; waiting for the first" if follow else "")
    return f"no log yet, {path} does not exist" + ("; waiting for it" if follow else "")


def alert(site: Site, outcome: Outcome) -> None:
    """One line in the alerts log for a service that could not be brought to what is wanted; people find it at the
    public path."""
    text = f"{now()} CRITICAL {site.host.stack.name} {outcome.service}: {site.by} failed: {outcome.detail}"
    append_line(site.state.log("alerts"), text)
    site.notes += [note for note in public.mend_alerts(site.host, site.state) if note not in site.notes]


def alerts(site: Site, lines: int) -> Sequence[str]:
    """The last alerts, newest last."""
    from ops.host import logs

    return [logs.plain(line) for line in logs.last_lines(site.state.log("alerts"), lines)[0]]
