"""Names of hosts, as an Ansible inventory abbreviates them.

Knows: `web-[01:03]`, `db-[a:f]`, steps, `host:2222`. Must not know: groups, variables, YAML.
"""

from __future__ import annotations

import re
import string
from itertools import product

MOST_HOSTS = 5_000

_RANGE = re.compile(r"\[([^\[\]]*)\]")
_BOUNDS = re.compile(r"([0-9A-Za-z]{0,9}):([0-9A-Za-z]{1,9})(?::([0-9]{1,9}))?")
_BRACKETED_PORT = re.compile(r"\[(.+)\]:([0-9]{1,5})")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\[\]]*\])*):([0-9]{1,5})")
_NAME = re.compile(r"\w[\w.-]{0,252}")
_RANGE_WORDS = "a range such as [begin:end] or [begin:end:step], of numbers or of single letters, begin not after end"


class BadPattern(Exception):
    """A name that stands for no host: what was found, and what is wanted."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(found)
        self.found = found
        self.allowed = allowed


def expand(pattern: str) -> tuple[list[str], int | None]:
    """The hosts that the pattern stands for, and its port; BadPattern when it stands for none.

    Source: ansible-core, parsing/utils/addresses.py and plugins/inventory/__init__.py. Stricter in one
    thing: what Ansible cannot parse it takes for a name; here it is a mistake.
    """
    match = _BRACKETED_PORT.fullmatch(pattern) or _PORT.fullmatch(pattern)
    name, port = (match[1], int(match[2])) if match else (pattern, None)
    if port is not None and not 1 <= port <= 65535:
        raise BadPattern(f"port {port}", "1 to 65535")
    literals, ranges = _parts(name)
    hosts = ["".join(_woven(literals, chosen)) for chosen in product(*ranges)]
    for host in (hosts[0], hosts[-1]):
        if not _NAME.fullmatch(host) and not _is_ipv6(host):
            raise BadPattern(f"{host[:80]!r}", "letters, digits and . _ -, or an address")
    return hosts, port


def _parts(name: str) -> tuple[list[str], list[list[str]]]:
    pieces = _RANGE.split(name)
    ranges: list[list[str]] = []
    count = 1
    for bounds in pieces[1::2]:
        ranges.append(_range(bounds))
        count *= len(ranges[-1])
        if count > MOST_HOSTS:
            raise BadPattern(f"a range of more than {MOST_HOSTS} hosts", "at most that many")
    return pieces[0::2], ranges


def _woven(literals: list[str], chosen: tuple[str, ...]) -> list[str]:
    return [piece for pair in zip(literals, (*chosen, ""), strict=True) for piece in pair]


def _range(bounds: str) -> list[str]:
    match = _BOUNDS.fullmatch(bounds)
    begin, end, step = (match[1], match[2], int(match[3] or 1)) if match else ("", "", 0)
    found = (_letters(begin, end, step) or _numbers(begin or "0", end, step)) if step else []
    if not found:
        raise BadPattern(f"[{bounds[:40]}]", _RANGE_WORDS)
    return found


def _letters(begin: str, end: str, step: int) -> list[str]:
    letters = string.ascii_letters
    if len(begin) != 1 or len(end) != 1 or begin not in letters or end not in letters:
        return []
    return list(letters[letters.index(begin) : letters.index(end) + 1 : step])


def _numbers(begin: str, end: str, step: int) -> list[str]:
    if not (begin.isdecimal() and end.isdecimal()):
        return []
    padded = begin[0] == "0" and len(begin) > 1
    if padded and len(begin) != len(end):
        raise BadPattern(f"[{begin}:{end}]", "as many digits at the end as at the beginning")
    numbers = range(int(begin), int(end) + 1, step)
    if len(numbers) > MOST_HOSTS:
        raise BadPattern(f"a range of more than {MOST_HOSTS} hosts", "at most that many")
    return [str(number).zfill(len(begin) if padded else 0) for number in numbers]


def _is_ipv6(name: str) -> bool:
    if ":" not in name:
        return False
    import ipaddress  # 5 ms that hardly any inventory needs

    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return True
