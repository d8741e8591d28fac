"""Verdicts: whether what a service said is what was wanted, and that in a few words.

Knows: probes, HTTP answers as values, regular expressions, JSON. Must not know: sockets, processes, the
clock.

A wanted JSON value is a subset of the answer. Mapping: each wanted key is there and its value is a
subset of the answer's. List: each wanted item is a subset of some item of the answer; order and number
do not matter. Anything else is equal, and true is not 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ops.frozen import frozen
from ops.model import Probe

BODY_LIMIT = 64 * 1024  # bytes of a body that are looked at
DETAIL_LIMIT = 160  # characters of a detail
_SHOWN = 60  # characters of one value inside a detail


@frozen
class Finding:
    """What one asking came to; `ok` and `answered` mean what they mean in a Reading."""

    ok: bool | None
    detail: str
    answered: bool = True


@frozen
class Answer:
    """An HTTP answer as far as it was read. `whole` False: the body went on after what is here."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    whole: bool = True

    def header(self, name: str) -> str | None:
        """The header's value, several of a name joined by a comma (RFC 9110, 5.3); None when absent."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None


def could_not_ask(why: str) -> Finding:
    """The asking itself failed, which says nothing about the service."""
    return Finding(None, f"could not ask: {why}", answered=False)


def judge(probe: Probe, answer: Answer) -> Finding:
    """The verdict on an answer that has been read as far as it ever will be."""
    fault = head_fault(probe, answer) or body_fault(probe, answer)
    return Finding(fault is None, fault or f"HTTP {answer.status}")


def head_fault(probe: Probe, answer: Answer) -> str | None:
    """What is wrong with status or headers; None when nothing is."""
    if not any(low <= answer.status <= high for low, high in probe.status):
        return f"HTTP {answer.status}, wanted {_ranges(probe.status)}"
    for name, wanted in probe.header.items():
        seen = answer.header(name)
        if seen is None:
            return f"header {name} is missing, wanted {quoted(wanted)}"
        if not _header_fits(wanted, seen):
            return f"header {name} is {quoted(seen)}, wanted {quoted(wanted)}"
    return None


def body_fault(probe: Probe, answer: Answer) -> str | None:
    """What is wrong with the body; None when nothing is, or nothing was wanted of it."""
    if probe.body is not None and not _occurs(probe.body, _text(answer)):
        where = "body" if answer.whole else f"first {BODY_LIMIT // 1024} KiB of the body"
        return f"{where} lacks {quoted(probe.body)}"
    return None if probe.json is None else _json_fault(probe.json, answer)


def _ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _header_fits(wanted: str, seen: str) -> bool:
    return _occurs(wanted, seen) if wanted.startswith("~") else wanted == seen


def _occurs(wanted: str, text: str) -> bool:
    if wanted.startswith("~"):
        return re.search(wanted[1:], text) is not None
    return wanted in text


def _text(answer: Answer) -> str:
    found = re.search(r"charset=[\"']?([\w.:-]+)", answer.header("Content-Type") or "", re.IGNORECASE)
    try:
        return answer.body.decode(found[1] if found else "utf-8", errors="replace")
    except LookupError:  # a charset that Python does not know
        return answer.body.decode("utf-8", errors="replace")


def _json_fault(wanted: Any, answer: Answer) -> str | None:
    if not answer.whole:
        return f"the JSON is longer than {BODY_LIMIT // 1024} KiB and was not read"
    try:
        return difference(wanted, json.loads(answer.body))
    except (ValueError, RecursionError):  # ValueError covers bad UTF-8; RecursionError a pit of brackets
        return f"the body is not JSON: {quoted(answer.body.decode('utf-8', errors='replace'))}"


def difference(wanted: Any, seen: Any, where: str = "") -> str | None:
    """The first place where `wanted` is not a subset of `seen`, in words; None when it is one."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        return _mapping_difference(wanted, seen, where)
    if isinstance(wanted, (list, tuple)) and isinstance(seen, list):
        lacking = [item for item in wanted if not any(difference(item, other) is None for other in seen)]
        return f"{where or 'the answer'} lacks {_shown(lacking[0])}" if lacking else None
    # In Python True == 1; in JSON they are two things.
    if isinstance(wanted, bool) == isinstance(seen, bool) and wanted == seen:
        return None
    return f"{where or 'the answer'} is {_shown(seen)}, wanted {_shown(wanted)}"


def _mapping_difference(wanted: Mapping[Any, Any], seen: Mapping[Any, Any], where: str) -> str | None:
    for key, value in wanted.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in seen:
            return f"{place} is missing, wanted {_shown(value)}"
        fault = difference(value, seen[key], place)
        if fault:
            return fault
    return None


def _shown(value: Any) -> str:
    return _shortened(json.dumps(value, ensure_ascii=False, default=str), _SHOWN)


def quoted(text: str) -> str:
    """The text in quotes, shortened, for use inside a detail."""
    return f'"{_shortened(text, _SHOWN)}"'


def printable(text: str) -> str:
    """One line of at most DETAIL_LIMIT; control characters, and those that reorder text, are escaped."""
    # Shortened first: what is escaped must not grow without bound; and again, since escaping lengthens.
    visible = "".join(_visible(character) for character in text[: DETAIL_LIMIT + 1])
    return _shortened(visible, DETAIL_LIMIT)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
