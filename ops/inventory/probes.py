"""The keys of a health probe.

Knows: what can be asked of a service, and how it is written. Must not know: how it is asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ops.inventory import values
from ops.inventory.nodes import Node, Refused, Spot, plain
from ops.model import Probe

KINDS = ("http", "tcp", "command")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATUSES = "a status (100 to 599), a range such as 200-299, or a list of them"

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RANGE = re.compile(r"([1-5][0-9]{2})-([1-5][0-9]{2})")


def read_probe(spot: Spot, interval: float, timeout: float, has_port: bool) -> Probe:
    """The probe at that place; `interval` and `timeout` (seconds) are for one without its own."""
    fields = dict(spot.entries())
    kinds = [kind for kind in KINDS if kind in fields]
    kind = kinds[0] if len(kinds) == 1 else ""
    found: dict[str, Any] = {"target": "", "every": interval, "timeout": timeout}
    for key, field in fields.items():
        _read_key(field, key, kind, found)
    if not isinstance(spot.node.value, dict):
        raise Refused
    if not kind:
        raise spot.wrong("exactly one of http, tcp, command", " and ".join(kinds) or "none of http, tcp, command")
    if kind == "http" and not has_port and found["target"].startswith("/"):
        raise fields["http"].wrong("a whole URL, or a port for the service", "a path, but the service has no port")
    return Probe(**{**found, "kind": kind})


def _read_key(spot: Spot, key: str, kind: str, found: dict[str, Any]) -> None:
    if key not in READERS:
        spot.complain(f"one of {', '.join(READERS)}", "an unknown key", key, READERS)
    elif key in HTTP_ONLY and kind not in ("http", ""):
        spot.complain("it on a probe by http only", f"a key for http, but this probe asks by {kind}")
    else:
        values.keep(found, "target" if key in ("http", "tcp") else key, READERS[key], spot)


def _target(spot: Spot) -> str:
    value = values.text(spot)
    if _is_path(value) or _is_url(value):
        return value
    raise spot.wrong('a path that begins with "/", or a URL that begins with http:// or https://')


def _is_path(value: str) -> bool:
    return value.startswith("/") and value.isprintable() and " " not in value


def _is_url(value: str) -> bool:
    from urllib.parse import urlsplit  # most probes name a path

    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False
    return whole and value.isprintable() and " " not in value


def _tcp(spot: Spot) -> str:
    return str(values.port(spot))


def _method(spot: Spot) -> str:
    value = spot.node.value
    if not isinstance(value, str) or value.upper() not in METHODS:
        raise spot.wrong(f"one of {', '.join(METHODS)}", word=value, choices=METHODS)
    return value.upper()


def _status(spot: Spot) -> tuple[tuple[int, int], ...]:
    if not isinstance(spot.node.value, list):
        return (_status_range(spot),)
    if not spot.node.value:
        raise spot.wrong(STATUSES, "an empty list")
    return values.each(_status_range, spot, STATUSES)


def _status_range(spot: Spot) -> tuple[int, int]:
    value = spot.node.value
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
        return (value, value)
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[1] > match[2]:
        raise spot.wrong(STATUSES)
    return (int(match[1]), int(match[2]))


def _body(spot: Spot) -> str:
    value = values.word(spot)
    if value in ("", "~"):
        raise spot.wrong("a text, or ~ and a regular expression", "an empty text")
    try:
        re.compile(value[1:] if value.startswith("~") else "")
    except (re.error, OverflowError, RecursionError) as error:
        raise spot.wrong("~ and a regular expression", f"one that does not compile ({error})") from None
    return value


def _json(spot: Spot) -> Any:
    if not isinstance(spot.node.value, (dict, list)):
        raise spot.wrong("a mapping or a list that the answer must contain")
    _check_json(spot.node, spot)
    return plain(spot.node)


def _check_json(node: Node, spot: Spot) -> None:
    inner = Spot(node, spot.where, node.line, spot.mistakes)
    if isinstance(node.value, str):
        values.word(inner)
    elif isinstance(node.value, float) and not math.isfinite(node.value):
        inner.complain("a number that JSON has", f"{node.value}, which it has not")
    elif isinstance(node.value, dict):
        for _, child in inner.entries():
            _check_json(child.node, spot)
    elif isinstance(node.value, list):
        for item in node.value:
            _check_json(item, spot)


def _header(spot: Spot) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, field in spot.entries("a mapping of header names to texts"):
        if not _HEADER.fullmatch(name):
            field.complain("the name of a header, such as Content-Type", f"the name {name[:40]!r}")
        values.keep(found, name, values.word, field)
    return found


HTTP_ONLY = frozenset({"method", "status", "body", "json", "header"})
READERS: dict[str, values.Reader] = {
    "http": _target,
    "tcp": _tcp,
    "command": values.argv,
    "every": values.seconds(),
    "timeout": values.seconds(),
    "restart": values.boolean,
    "method": _method,
    "status": _status,
    "body": _body,
    "json": _json,
    "header": _header,
}
