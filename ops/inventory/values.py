"""Single values of the inventory, read strictly.

Knows: what a port, a duration, a size, a command is, and which values YAML misreads.
Must not know: which key wants which.

Each reader takes a Spot and gives the value, or raises Refused after having complained. Durations are
seconds, sizes bytes.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ops.inventory.nodes import Refused, Spot

T = TypeVar("T")
Reader = Callable[[Spot], Any]

LONGEST_WAIT = 1_000_000  # seconds; poll() takes milliseconds in 31 bits
LARGEST_SIZE = 2**50

_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|K|KB|KIB|M|MB|MIB|G|GB|GIB|T|TB|TIB)?")
_UNITS = dict.fromkeys(("", "B"), 1)
_UNITS |= {letter + "B": 1000**power for power, letter in enumerate("KMGT", 1)}
_UNITS |= {letter + end: 1024**power for power, letter in enumerate("KMGT", 1) for end in ("", "IB")}

# These stop, continue or merely inform a process: a service told to stop by one would run on.
_NOT_ENDING = frozenset({"STOP", "TSTP", "TTIN", "TTOU", "CONT", "CHLD", "CLD", "URG", "WINCH", "INFO"})
SIGNALS = frozenset(s.name.removeprefix("SIG") for s in signal.Signals) - _NOT_ENDING


def text(spot: Spot) -> str:
    """A text that says something."""
    value = spot.node.value
    if not isinstance(value, str):
        raise spot.wrong("a text: quote it" if _is_scalar(spot) else "a text")
    if not value:
        raise spot.wrong("a text that is not empty", "an empty text")
    return _usable(spot, value)


def word(spot: Spot) -> str:
    """A text, perhaps empty, or a number as it was written."""
    value = spot.node.value
    if isinstance(value, str):
        return _usable(spot, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _as_written(spot)
        return spot.node.text
    raise spot.wrong(_wanted_word(spot))


def boolean(spot: Spot) -> bool:
    """true or false."""
    value = spot.node.value
    if not isinstance(value, bool):
        raise spot.wrong("true or false")
    return value


def integer(low: int, high: int) -> Callable[[Spot], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(spot: Spot) -> int:
        _as_written(spot)
        value = spot.node.value
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise spot.wrong(f"a whole number from {low} to {high}")
        return value

    return read


port = integer(1, 65535)


def seconds(zero: bool = False) -> Callable[[Spot], float]:
    """A reader of durations, finite and more than 0 (or 0, when `zero`)."""
    allowed = f"a number of seconds, {'0 or more' if zero else 'more than 0'}, at most {LONGEST_WAIT}"

    def read(spot: Spot) -> float:
        value = spot.node.value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise spot.wrong(allowed)
        # Not a number is no number in this range either.
        if not 0 <= value <= LONGEST_WAIT or not (value or zero):
            raise spot.wrong(allowed)
        _as_written(spot)
        return float(value)

    return read


def size(least: int) -> Callable[[Spot], int]:
    """A reader of sizes: bytes, or a text such as "512 MiB" (1024) or "10MB" (1000)."""

    def read(spot: Spot) -> int:
        _as_written(spot)
        found = _bytes(spot.node.value)
        if found is None or not least <= found <= LARGEST_SIZE:
            raise spot.wrong(f'bytes, or a text such as "512 MiB" or "10MB"; at least {least} bytes')
        return found

    return read


def choice(*allowed: str) -> Callable[[Spot], str]:
    """A reader of one of a few texts."""

    def read(spot: Spot) -> str:
        value = spot.node.value
        if not isinstance(value, str) or value not in allowed:
            raise spot.wrong(" or ".join(allowed), word=value, choices=allowed)
        return value

    return read


def matching(pattern: re.Pattern[str], allowed: str) -> Callable[[Spot], str]:
    """A reader of texts that `pattern` matches as a whole."""

    def read(spot: Spot) -> str:
        value = spot.node.value
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise spot.wrong(allowed)
        return value

    return read


def each(reader: Callable[[Spot], T], spot: Spot, allowed: str) -> tuple[T, ...]:
    """What `reader` reads of each item of a list; all items are read before a wrong one is refused."""
    if not isinstance(spot.node.value, list):
        raise spot.wrong(allowed)
    found: list[T] = []
    for item in spot.items():
        with suppress(Refused):
            found.append(reader(item))
    if len(found) < len(spot.node.value):
        raise Refused
    return tuple(found)


def keep(found: dict[str, Any], key: str, reader: Reader, spot: Spot) -> None:
    """Puts into `found` what `reader` reads there, unless that is refused."""
    with suppress(Refused):
        found[key] = reader(spot)


def argv(spot: Spot) -> tuple[str, ...]:
    """A command: a list of words, or a text that is split as a shell would."""
    if isinstance(spot.node.value, str):
        words = _split(spot, _usable(spot, spot.node.value))
    else:
        words = each(word, spot, "a list of words, or a text")
    if not words or not words[0]:
        raise spot.wrong("a program and its arguments", "an empty command")
    return words


def names(spot: Spot) -> tuple[str, ...]:
    """A list of different names."""
    found = each(text, spot, "a list of names, such as [pg-api]")
    for index, item in enumerate(spot.items()):
        if found[index] in found[:index]:
            item.complain("each name once", f"{found[index]} again")
    return found


def stop_signal(spot: Spot) -> str:
    """A signal's name without SIG."""
    value = spot.node.value
    name = value.upper().removeprefix("SIG") if isinstance(value, str) else ""
    if name not in SIGNALS:
        raise spot.wrong("a signal that ends a process, such as TERM", word=name, choices=sorted(SIGNALS))
    return name


def _usable(spot: Spot, value: str) -> str:
    if "{{" in value or "{%" in value:
        raise spot.wrong("the value itself", "a template, which nothing here expands")
    if "\0" in value:
        raise spot.wrong("a text without it", "a NUL character")
    return value


def _as_written(spot: Spot) -> None:
    """Refuses a number that is not what it looks like: to YAML 0777 is 511, 22:30 is 1350."""
    value, source = spot.node.value, spot.node.text
    if isinstance(value, bool) or not isinstance(value, (int, float)) or _DECIMAL.fullmatch(source):
        return
    read_as = f"{value:g}" if abs(value) < LARGEST_SIZE else "another number"
    raise spot.wrong("plain decimal digits, or quotes if it is a text", f"{source[:40]}, which YAML reads as {read_as}")


def _is_scalar(spot: Spot) -> bool:
    return not isinstance(spot.node.value, (list, dict, type(None)))


def _wanted_word(spot: Spot) -> str:
    value = spot.node.value
    if isinstance(value, dict) and len(value) == 1:
        ((key, child),) = value.items()
        if child.value is None:  # an unquoted {port} is a mapping to YAML
            return f'a text: quote it, "{{{key}}}"'
    return "a text or a number: quote it" if _is_scalar(spot) else "a text or a number"


def _split(spot: Spot, whole: str) -> tuple[str, ...]:
    from shlex import split  # most commands are lists

    try:
        return tuple(split(whole))
    except ValueError as error:
        raise spot.wrong("what a shell could split, or a list", f"a text that cannot be split ({error})") from None


def _bytes(value: object) -> int | None:
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    match = _SIZE.fullmatch(value.strip().upper()) if isinstance(value, str) and len(value) < 30 else None
    return int(float(match[1]) * _UNITS[match[2] or ""]) if match else None
