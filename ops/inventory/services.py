"""The keys of a service, and of the `ops` block.

Knows: which keys there are, which reader each has, what a service needs besides.
Must not know: hosts and groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ops.inventory import values
from ops.inventory.names import LABEL, NAME
from ops.inventory.nodes import Spot
from ops.inventory.probes import read_probe
from ops.inventory.values import Reader
from ops.model import Probe, Service, Stack

NAMES = "lower-case letters, digits and . _ - (it becomes a file name), at most 64, a letter or digit first"
RESERVED = frozenset({"all", "alerts", "monitor"})  # `tail NAME` means something else by them
RUN_MARKER = "OPS_RUN"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")


class Settings(NamedTuple):
    """An `ops` block: what holds for the stack, and the defaults of its services."""

    stack: Stack
    defaults: Mapping[str, Any]


def read_settings(spot: Spot | None, folder: str) -> Settings:
    """The `ops` block at that place, or all defaults; a stack without a name is called after `folder`."""
    found: dict[str, Any] = {"name": tidy_name(folder)}
    for key, field in spot._replace(where="ops").entries() if spot else ():
        _read_key(found, key, OPS, field)
    found.setdefault("label", f"com.{found['name']}.servicemonitor")
    stack = Stack(**{key: value for key, value in found.items() if key in STACK})
    return Settings(stack, {key: value for key, value in found.items() if key in DEFAULTS})


def tidy_name(folder: str) -> str:
    """A folder's name as a stack's name."""
    return _NOT_IN_NAMES.sub("-", folder.lower()).lstrip("._-")[:64].rstrip("._-") or "ops"


def read_service(name: str, spot: Spot, defaults: Mapping[str, Any]) -> Service:
    """The service at that place. What is wrong with it is told, and is at its default in what comes back."""
    if name in RESERVED:
        spot.complain("another name", f"the name {name}, which `tail` gives another meaning")
    elif not NAME.fullmatch(name):
        spot.complain(NAMES, f"the name {name[:80]!r}")
    found: dict[str, Any] = {"command": (), **defaults}
    for key, field in spot.entries("a mapping with at least a command"):
        _read_key(found, key, SERVICE, field)
    health = found.pop("health", None)
    service = Service(name=name, **found)
    keys = spot.node.value if isinstance(spot.node.value, dict) else {"command": None}
    if "command" not in keys:
        spot.complain("a command, such as [node, index.js]", "no command")
    if "port" not in keys and any("{port}" in word for word in service.command):
        spot.at("command", f"{spot.where}.command").complain("a port for it", "{port} in a service without a port")
    return replace(service, health=_probes(service, "port" in keys, health)) if health else service


def _probes(service: Service, has_port: bool, spot: Spot) -> tuple[Probe, ...]:
    def read(item: Spot) -> Probe:
        return read_probe(item, service.interval, service.timeout, has_port)

    found: dict[str, Any] = {}
    allowed = "a list of probes, such as [{http: /health}]"
    values.keep(found, "health", lambda health: values.each(read, health, allowed), spot)
    health: tuple[Probe, ...] = found.get("health", ())
    names = [probe.name for probe in health]
    return tuple(replace(probe, nth=names[: at + 1].count(names[at])) for at, probe in enumerate(health))


def _read_key(found: dict[str, Any], key: str, readers: Mapping[str, Reader], spot: Spot) -> None:
    if key in readers:
        values.keep(found, key, readers[key], spot)
    else:
        spot.complain(f"one of {', '.join(readers)}", "an unknown key", key, readers)


def _environment(spot: Spot) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in spot.entries("a mapping of names to texts"):
        if name == RUN_MARKER:
            field.complain("any other name", "a name by which the toolkit tells its own processes")
        elif not _VARIABLE.fullmatch(name):
            field.complain("a name of letters, digits and _, no digit first", f"the name {name[:40]!r}")
        values.keep(found, name, values.word, field)
    return found


def _later(spot: Spot) -> Spot:
    """Probes are read last: they want the service's port and timings."""
    return spot


# What `ops` says for all services and a service may say for itself.
DEFAULTS: dict[str, Reader] = {
    "interval": values.seconds(),
    "timeout": values.seconds(),
    "attempts": values.integer(1, 1_000_000),
    "delay": values.seconds(zero=True),
    "confirm": values.integer(0, 100),
    "calm": values.seconds(zero=True),
    "retry_max": values.seconds(),
    "recovery_budget": values.seconds(),
    "log_size": values.size(1024),
    "log_keep": values.integer(0, 100),
}

STACK = frozenset({"name", "label", "monitor", "alerts_log", "alert_command", "log_size", "log_keep"})

OPS: dict[str, Reader] = {
    "name": values.matching(NAME, NAMES),
    **DEFAULTS,
    "monitor": values.boolean,
    "alerts_log": values.text,
    "alert_command": values.argv,
    "label": values.matching(LABEL, "letters, digits and . _ -, at most 128"),
}

SERVICE: dict[str, Reader] = {
    "command": values.argv,
    "cwd": values.text,
    "port": values.port,
    "critical": values.boolean,
    "needs": values.names,
    "env": _environment,
    "env_file": values.text,
    "health": _later,
    "log": values.text,
    "pid_file": values.text,
    "start_timeout": values.seconds(),
    "start_time": values.seconds(zero=True),
    "grace": values.seconds(zero=True),
    "stop_signal": values.stop_signal,
    "max_rss": values.size(1024 * 1024),
    "on_need_restart": values.choice("leave", "restart"),
    **DEFAULTS,
}
