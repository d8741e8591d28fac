"""In which order services are started, restarted and stopped.

Knows: `needs` and `critical`. Must not know: processes, time. `needs` orders, it never blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from ops.model import Host, Service


def with_needs(host: Host, chosen: Sequence[Service]) -> tuple[Service, ...]:
    """The chosen services and all that they need, in the inventory's order."""
    names = {service.name for service in chosen}
    waiting = list(chosen)
    while waiting:
        for need in waiting.pop().needs:
            if need not in names:
                names.add(need)
                waiting += [service for service in host.services if service.name == need]
    return tuple(service for service in host.services if service.name in names)


def critical_first(services: Sequence[Service]) -> list[Service]:
    """Critical ones, and what a critical one needs, before the others; else as listed."""
    vital = {service.name for service in services if service.critical}
    for _ in services:
        vital |= {need for service in services if service.name in vital for need in service.needs}
    return sorted(services, key=lambda service: (service.name not in vital, not service.critical))


def in_sequence(services: Sequence[Service]) -> list[Service]:
    """One after the other: needs before those who need them, critical ones first among equals."""
    waiting = critical_first(services)
    names = {service.name for service in services}
    ordered: list[Service] = []
    while waiting:
        done = {service.name for service in ordered}
        ready = [s for s in waiting if set(s.needs) & names <= done] or waiting[:1]
        ordered.append(min(ready, key=lambda service: not service.critical))
        waiting.remove(ordered[-1])
    return ordered


def dependents(services: Sequence[Service]) -> dict[str, list[str]]:
    """By service: who needs it. The order of stopping."""
    return {service.name: [s.name for s in services if service.name in s.needs] for service in services}
