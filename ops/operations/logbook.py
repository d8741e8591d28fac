"""tail and alerts: reading what services, the tool and the alerts log have written.

Knows: which name means which file. Must not know: how lines are coloured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ops.memory.files import append_line, now
from ops.model import Outcome
from ops.operations import public
from ops.operations.site import Site, unknown_service

OWN = ("monitor", "alerts")


def paths(site: Site, name: str) -> dict[str, str]:
    """The files that `tail NAME` reads, by name: a service, `monitor`, `alerts`, or `all` services merged.

    UsageError, offering the nearest name, when there is no such log."""
    services = {service.name: service for service in site.host.services}
    if name in OWN:
        return {name: site.state.log(name)}
    if name != "all" and name not in services:
        raise unknown_service(name, [*services, *OWN, "all"])
    chosen = services if name == "all" else {name: services[name]}
    return {
        key: public.readable_log(site.host, site.state, service) for key, service in chosen.items()
    }


def tail(
    site: Site, name: str, lines: int, follow: bool, stop: Callable[[], bool]
) -> Iterator[tuple[str, str]]:
    """The last lines of each file, then, with `follow`, every line that comes, harmless to print."""
    from ops.host import logs

    files = paths(site, name)
    if follow:
        for key, line in logs.follow(files, lines=lines, stop=stop):
            yield key, logs.plain(line)
        return
    for key, path in files.items():
        for line in logs.last_lines(path, lines)[0]:
            yield key, logs.plain(line)


def alert(site: Site, outcome: Outcome) -> None:
    """One line in the alerts log for a service that could not be brought to what is wanted."""
    text = f"{now()} CRITICAL {site.host.stack.name} {outcome.service}: {site.by} failed: {outcome.detail}"
    append_line(site.state.log("alerts"), text)


def alerts(site: Site, lines: int) -> Sequence[str]:
    """The last alerts, newest last."""
    from ops.host import logs

    return [logs.plain(line) for line in logs.last_lines(site.state.log("alerts"), lines)[0]]
