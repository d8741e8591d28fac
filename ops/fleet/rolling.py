"""Batches of hosts, one after the other, and when to stop.

Knows: `--serial` and `--max-fail-percentage` as Ansible has them, and that a critical service is never taken down on
all hosts of a group at once. Must not know: what is done to a batch, how a host is reached. Nothing here is asked of
anybody.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TypeAlias

from ops.errors import UsageError
from ops.model import Host

_SIZE = re.compile(r"([0-9]{1,9})(%?)")
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%?")
EVERYWHERE = ""  # stands for the group of all hosts

Holding: TypeAlias = tuple[str, str]  # a group and a service that runs there
Standing: TypeAlias = Mapping[Holding, frozenset[str]]
Affected: TypeAlias = Callable[[Host], Collection[str]]  # which services of a host go down for a moment


def sizes(spec: str, hosts: int) -> list[int]:
    """How many of that many hosts are in each batch, by a `--serial` of `N`, `NN%` or `1,25%,100%`.

    The last one repeats; a percentage is of all hosts, rounded down, at least 1. UsageError for anything else, 0 too:
    to Ansible that is all at once.
    """
    found: list[int] = []
    for size in limits(spec, hosts):
        if hosts <= 0:
            break
        found.append(min(size, hosts))
        hosts -= size
    return found


def limits(spec: str, hosts: int) -> Iterator[int]:
    """The size of every batch there may be, without end."""
    found = [_size(word.strip(), spec, hosts) for word in spec.split(",")]
    return chain(found, repeat(found[-1]))


def standing(everywhere: Sequence[Host], affected: Affected, up: Mapping[str, Collection[str]]) -> Standing:
    """By group (all hosts are one, too) and affected service: the hosts that have it up. Without what only one host of
    a group has, which has nobody to stand in for it."""
    found: dict[Holding, set[str]] = defaultdict(set)
    counted: Counter[Holding] = Counter()
    for host in everywhere:
        for holding in _holdings(host, affected):
            counted[holding] += 1
            found[holding] |= {host.name} if holding[1] in up.get(host.name, ()) else set()
    return {holding: frozenset(found[holding]) for holding, count in counted.items() if count > 1}


def bearable(hosts: Sequence[Host], affected: Affected, standing: Standing) -> tuple[int, Holding | None]:
    """How many of these hosts, from the first on, may go down together, and which group and service ends it: its last
    host that has it up would be among them."""
    down: set[str] = set()
    for count, host in enumerate(hosts):
        down.add(host.name)
        for holding in _holdings(host, affected):
            ones = standing.get(holding, frozenset())
            if host.name in ones and ones <= down:
                return count, holding
    return len(hosts), None


def too_many(failed: int, hosts: int, most: float | None) -> bool:
    """Whether no further batch may follow one of `hosts` in which `failed` of them failed or were unreachable.

    When more than `most` percent of the batch failed; without that, when all did. Ansible stops at a whole batch also
    where 100 percent may fail; here whoever says so means it.
    """
    return 0 < hosts <= failed if most is None else failed * 100 > most * hosts


def percentage(text: str) -> float | None:
    """A `--max-fail-percentage`, 0 to 100, with or without a `%`; None when it is not given. UsageError for what is
    none."""
    if not text:
        return None
    match = _PERCENTAGE.fullmatch(text.strip())
    if match is None or float(match[1]) > 100:
        raise UsageError(f"--max-fail-percentage {text!r} is not a percentage", wanted="a number from 0 to 100")
    return float(match[1])


def _size(word: str, spec: str, hosts: int) -> int:
    match = _SIZE.fullmatch(word)
    number = int(match[1]) if match else 0
    if match is None or number == 0 or (match[2] and number > 100):
        wanted = "a number of hosts, a percentage, or a list of them: 1, 25%, or 1,25%,100%"
        raise UsageError(f"--serial {spec!r} is not how many hosts at a time", wanted=wanted)
    return max(number * hosts // 100, 1) if match[2] else number


def _holdings(host: Host, affected: Affected) -> list[Holding]:
    return [(group, name) for group in (EVERYWHERE, *host.groups) for name in sorted(affected(host))]
