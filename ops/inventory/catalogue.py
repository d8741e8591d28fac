"""The services of a host: which are enabled, and whether they go together.

Knows: names, needs, ports and files that clash. Must not know: groups, hosts, YAML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ops.inventory import values
from ops.inventory.groups import cycle
from ops.inventory.nodes import Spot
from ops.inventory.services import read_service
from ops.model import Service


class Catalogue:
    """Every service that one `services` mapping defines, in its order."""

    def __init__(self, spot: Spot, defaults: Mapping[str, Any]) -> None:
        # A complaint about a service begins with the service's name: that is what people look for.
        self.spots = {name: place._replace(where=name) for name, place in spot.entries("a mapping of services")}
        self.services = {name: read_service(name, place, defaults) for name, place in self.spots.items()}
        self._check_needs()

    def enabled(self, spot: Spot | None) -> tuple[Service, ...]:
        """The services that `services_enabled` lists there, in its order; all when it is not given."""
        if spot is None:
            chosen = tuple(self.services.values())
        else:
            found: dict[str, Any] = {}
            place = spot._replace(where="services_enabled")
            values.keep(found, "names", values.names, place)
            chosen = tuple(self._listed(found.get("names", ()), place))
        self._check_clashes(chosen)
        self._check_present(chosen)
        return chosen

    def _listed(self, names: tuple[str, ...], spot: Spot) -> Iterator[Service]:
        for name, item in zip(names, spot.items(), strict=False):
            if name in self.services:
                yield self.services[name]
            else:
                item.complain(f"one of {_some(self.services)}", f"no service {name}", name, self.services)

    def _check_needs(self) -> None:
        needs: dict[str, list[str]] = {}
        for name, service in self.services.items():
            for need, item in self._needs(service):
                if need == name:
                    item.complain("another service", f"{name} itself")
                elif need not in self.services:
                    item.complain(f"one of {_some(self.services)}", f"no service {need}", need, self.services)
                else:
                    needs.setdefault(name, []).append(need)
        loop = cycle(needs)
        if loop:
            place = self._place(self.services[loop[0]], "needs")
            place.complain("needs without a circle: take one of these out", f"a circle: {' -> '.join(loop)}")

    def _check_clashes(self, chosen: tuple[Service, ...]) -> None:
        for key in ("port", "log", "pid_file"):
            first: dict[object, str] = {}
            for service in chosen:
                value = getattr(service, key)
                other = first.setdefault(value, service.name)
                if value is not None and other != service.name:
                    self._place(service, key).complain(f"a {key} of its own", f"{value}, which {other} has")

    def _check_present(self, chosen: tuple[Service, ...]) -> None:
        names = {service.name for service in chosen}
        for service in chosen:
            for need, item in self._needs(service):
                if need in self.services and need not in names:
                    allowed = f"one that is: enable {need}, or take it out of the needs"
                    item.complain(allowed, f"{need}, which is not enabled where {service.name} is")

    def _needs(self, service: Service) -> Iterator[tuple[str, Spot]]:
        if service.needs:
            yield from zip(service.needs, self._place(service, "needs").items(), strict=True)

    def _place(self, service: Service, key: str) -> Spot:
        return self.spots[service.name].at(key, f"{service.name}.{key}")


def _some(names: Mapping[str, Any]) -> str:
    listed = ", ".join(list(names)[:12]) or "none: there are no services"
    return f"{listed}, ..." if len(names) > 12 else listed
