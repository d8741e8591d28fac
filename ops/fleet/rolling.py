"""Batches of hosts, one after the other, and when to stop.

Knows: `--serial` and `--max-fail-percentage` as Ansible has them, and that a critical service is never taken down on
all hosts of a group at once. Must not know: what is done to a batch, how a host is reached. Nothing here is asked of
anybody.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TypeAlias

from ops.errors import UsageError
from ops.model import Host

_SIZE = re.compile(r"([0-9]{1,9})(%?)")
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%?")
EVERYWHERE = ""  # stands for the group of all hosts

Holding: TypeAlias = tuple[str, str]  # a group and a critical service that runs there


def sizes(spec: str, hosts: int) -> list[int]:
    """How many of that many hosts are in each batch, by a `--serial` of `N`, `NN%` or `1,25%,100%`.

    The last one repeats; a percentage is of all hosts, rounded down, at least 1. UsageError for anything else, 0 too:
    to Ansible that is all at once.
    """
    found: list[int] = []
    for size in _limits(spec, hosts):
        if hosts <= 0:
            break
        found.append(min(size, hosts))
        hosts -= size
    return found


def batches(hosts: Sequence[Host], spec: str, everywhere: Sequence[Host]) -> list[tuple[Host, ...]]:
    """The hosts in their order, cut by `spec` (as `sizes` reads it), and before a batch would take a critical service
    down on all of a group.

    That holds for each critical service that at least two hosts of a group have enabled, in each group of
    `everywhere` (the hosts of the inventory, which are a group too). What is cut off begins the next batch, so that
    there may be more batches than `sizes` says, and none is larger.
    """
    holders = _holders(everywhere)
    found: list[tuple[Host, ...]] = []
    rest = list(hosts)
    for size in _limits(spec, len(hosts)):
        if not rest:
            break
        count = _bearable(rest[:size], holders)
        found.append(tuple(rest[:count]))
        rest = rest[count:]
    return found


def too_many(failed: int, hosts: int, most: float | None) -> bool:
    """Whether no further batch may follow one of `hosts` in which `failed` of them failed or were unreachable.

    Ansible's rule: when more than `most` percent failed, and whenever all did.
    """
    return 0 < hosts <= failed or (most is not None and failed * 100 > most * hosts)


def percentage(text: str) -> float | None:
    """A `--max-fail-percentage`, 0 to 100, with or without a `%`; None when it is not given. UsageError for what is
    none."""
    if not text:
        return None
    match = _PERCENTAGE.fullmatch(text.strip())
    if match is None or float(match[1]) > 100:
        raise UsageError(f"--max-fail-percentage {text!r} is not a percentage", wanted="a number from 0 to 100")
    return float(match[1])


def _limits(spec: str, hosts: int) -> Iterator[int]:
    """The size of every batch there may be, without end."""
    found = [_size(word.strip(), spec, hosts) for word in spec.split(",")]
    return chain(found, repeat(found[-1]))


def _size(word: str, spec: str, hosts: int) -> int:
    match = _SIZE.fullmatch(word)
    number = int(match[1]) if match else 0
    if match is None or number == 0 or (match[2] and number > 100):
        wanted = "a number of hosts, a percentage, or a list of them: 1, 25%, or 1,25%,100%"
        raise UsageError(f"--serial {spec!r} is not how many hosts at a time", wanted=wanted)
    return max(number * hosts // 100, 1) if match[2] else number


def _holders(everywhere: Sequence[Host]) -> Mapping[Holding, int]:
    """How many hosts have each critical service in each group; without those that only one has, which has nobody to
    stand in for it."""
    counted = Counter(holding for host in everywhere for holding in _holdings(host))
    return {holding: count for holding, count in counted.items() if count > 1}


def _holdings(host: Host) -> list[Holding]:
    critical = [service.name for service in host.services if service.critical]
    return [(group, name) for group in (EVERYWHERE, *host.groups) for name in critical]


def _bearable(hosts: Sequence[Host], holders: Mapping[Holding, int]) -> int:
    """How many of these hosts, from the first on, may be down together; at least one."""
    down: dict[Holding, int] = defaultdict(int)
    for count, host in enumerate(hosts):
        holdings = [holding for holding in _holdings(host) if holding in holders]
        if any(down[holding] + 1 == holders[holding] for holding in holdings):
            return count
        for holding in holdings:
            down[holding] += 1
    return len(hosts)
