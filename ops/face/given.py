"""What a command line may say: names, seconds, counts, spans of time. What it may not is a UsageError that tells so.

Knows: texts as they were typed. Must not know: Invoke, what a task does with them. It is read with every command.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from ops.errors import UsageError
from ops.frozen import frozen

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SPAN = 3650 * 86400.0


@frozen
class Way:
    """Which hosts, and how many at a time: `limit` and `serial` as typed, `forks` at once, `most` percent may fail.
    `connection`: the one that `fab` has made, to one host."""

    limit: str = ""
    serial: str = ""
    forks: int = 20
    most: float | None = None
    connection: Any = None


def way(*, limit: str, serial: str, forks: str, max_fail_percentage: str, connection: Any) -> Way:
    """The way as it was typed. A forgotten pattern must not mean this machine, nor one that stands at another task."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        if word == "--limit=" or (word == "--limit" and following.startswith("-")):
            raise UsageError("--limit needs hosts", next="--limit web, or --limit h1,h2; --limit all for every host")
    if not limit and any(word.partition("=")[0] == "--limit" for word in words):
        raise UsageError(
            "--limit stands at another task of this line, and this one would go to this machine",
            wanted="hosts for each task of a line",
            next="--limit at each of them; --limit localhost where this machine is meant",
        )
    if serial and not limit:
        raise UsageError("--serial is for several hosts", next="--limit HOSTS besides")
    if connection is not None and limit:
        raise UsageError("fab names the host (-H), so --limit cannot", next="inv, with --limit; or fab, without")
    most = None
    if serial or max_fail_percentage:
        from ops.fleet import rolling

        rolling.sizes(serial or "1", 1)
        most = rolling.percentage(max_fail_percentage)
    return Way(limit, serial, whole(forks, "--forks", 1, 1000) if forks else 20, most, connection)


def names(only: Any) -> tuple[str, ...]:
    """The names given with --only, commas split. A forgotten name must not mean "all"."""
    words = sys.argv[1:]
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else "-"
        if word in ("--only", "--only=") and (word.endswith("=") or following.startswith("-")):
            raise UsageError("--only needs the name of a service", next="--only recon-api, or --only a,b")
    given = [name.strip() for text in only or [] for name in str(text).split(",")]
    if any(not name for name in given):
        raise UsageError("--only has an empty name", next="--only recon-api, or --only a,b")
    return tuple(given)


def seconds(text: str, flag: str) -> float | None:
    """The positive number of seconds given with a flag; None when it was not given."""
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise UsageError(f"{flag} {shown(text)} is not a number of seconds", wanted="a number above 0, such as 30")
    return value


def shown(text: str) -> str:
    """What was typed, short and harmless enough to be repeated."""
    return repr((text if len(text) <= 40 else text[:37] + "...") if text.isprintable() else "?")


def whole(text: str, name: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise UsageError(f"{name} {shown(text)} is not a number from {least} to {most}")
    return int(text)


def span(text: str, flag: str) -> float:
    """A span of time in seconds: `90`, `30s`, `15m`, `24h`, `7d`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", text, re.ASCII)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < value <= _LONGEST_SPAN:
        wanted = "a number of seconds, or one with s, m, h or d, such as 30s, 15m, 24h or 7d; at most 3650d"
        raise UsageError(f"{flag} {shown(text)} is not a span of time", wanted=wanted)
    return value
