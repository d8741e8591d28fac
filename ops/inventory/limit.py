"""Which hosts `--limit PATTERN` names, in Ansible's grammar.

Knows: unions, `!`, `&`, globs, `~regex`, subscripts, `@file`, and the order in which Ansible lists hosts.
Must not know: YAML, how a host is reached, what is done there.

Source: ansible-core 2.19, inventory/manager.py and parsing/utils/addresses.py. The hosts and their order are those of
`ansible all --list-hosts --limit PATTERN` with `host_pattern_mismatch = error`, stricter in two things:

- A limit that names nothing (an unset variable, an empty retry file) is an error. To Ansible it is every host.
- There is no implicit localhost: services run where the inventory says so. `!localhost` is allowed all the same, it is
  in many people's fingers.
"""

from __future__ import annotations

import fnmatch
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from ops.errors import UsageError
from ops.model import Host, Inventory

ALL, UNGROUPED = "all", "ungrouped"
LOCALHOSTS = ("127.0.0.1", "localhost", "::1")
LARGEST = 1024 * 1024  # bytes of an @file: more than all hosts of an inventory
MOST_SHOWN = 12

_LOCALHOST_WANTED = "add under `hosts`: localhost: {ansible_connection: local}"

_SUBSCRIPT = re.compile(r"(.+)\[(?:(-?[0-9]{1,9})|([0-9]{1,9})[:-]([0-9]{0,9}))\]")
_PARTS = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")
_BRACKETED_PORT = re.compile(r"\[(.+)\]:[0-9]+")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):[0-9]+")

Subscript: TypeAlias = "tuple[int, int | None]"


def choose(pattern: str, inventory: Inventory) -> tuple[Host, ...]:
    """The hosts that the pattern names, at least one, each once, in Ansible's order.

    UsageError, naming the pattern and what there is, when a part of it is wrong or matches neither host nor group.
    """
    return _Limit(pattern, inventory).hosts()


class _Limit:
    """One pattern and the names it is about."""

    def __init__(self, pattern: str, inventory: Inventory) -> None:
        self._pattern = pattern
        self._hosts = {host.name: host for host in inventory.hosts}
        self._groups = inventory.groups or _grouped(inventory.hosts)

    def hosts(self) -> tuple[Host, ...]:
        parts = self._parts()
        chosen = self._union([part for part in parts if part[0] not in "&!"] or [ALL])
        for part in parts:
            if part[0] == "&":
                chosen &= self._union([part])
            elif part[0] == "!":
                chosen -= self._union([part])
        if not chosen:
            raise self._wrong("leaves no host", wanted=self._some())
        return tuple(self._hosts[name] for name in self._groups[ALL] if name in chosen)

    def _parts(self) -> list[str]:
        found: list[str] = []
        for part in split(self._pattern):
            found += self._lines(part[1:]) if part[0] == "@" else [part]
        if not found:
            raise self._wrong("names no host", wanted=self._some(), next=f"--limit {ALL}, if all are meant")
        return found

    def _lines(self, path: str) -> list[str]:
        """The patterns in a file, one a line; as with Ansible, a line is not split any further."""
        try:
            if not os.path.isfile(path):  # a pipe that nobody writes to would be read for ever
                there = os.path.exists(path)
                raise self._wrong(f"names {path!r}, which {'is no file' if there else 'does not exist'}")
            with open(path, "rb") as file:
                content = file.read(LARGEST + 1)
            lines = content.decode("utf-8-sig").split("\n")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, a NUL in the name
            raise self._wrong(f"names {path!r}, which cannot be read: {error}") from None
        if len(content) > LARGEST:
            raise self._wrong(f"names {path!r}, which has more than {LARGEST} bytes")
        return [line.strip() for line in lines if line.strip()]

    def _union(self, parts: Iterable[str]) -> set[str]:
        return {name for part in parts for name in self._matching(part)}

    def _matching(self, part: str) -> Sequence[str]:
        """The hosts that one part matches, whatever is done with them."""
        if part in self._hosts:
            return [part]
        text = part[1:] if part[0] in "&!" else part
        if not text:
            raise self._wrong(f"has a {part!r} with nothing after it")
        glob, subscript = _subscripted(text)
        names = self._listed(glob)
        if names is None:
            if part[0] == "!" and glob in LOCALHOSTS:
                return []
            raise self._unmatched(glob, part)
        return self._picked(names, subscript, part) if subscript and names else names

    def _listed(self, glob: str) -> list[str] | None:
        """The hosts of all groups that match, then all hosts that do: some twice, which subscripts count, as in
        Ansible. None when nothing is called so."""
        groups = self._called(self._groups, glob)
        found = [host for group in groups for host in self._groups[group]]
        if not groups or glob[0] == "~" or any(special in glob for special in ".?*["):
            found += self._called(self._hosts, glob)
        if not found and glob in LOCALHOSTS:  # whichever of its names the inventory has
            found = [name for name in self._hosts if name in LOCALHOSTS][:1]
        return found if found or groups else None

    def _called(self, names: Iterable[str], glob: str) -> list[str]:
        written = glob[1:] if glob[0] == "~" else fnmatch.translate(glob)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of a regex that is odd, not wrong
                pattern = re.compile(written)
        except (re.error, OverflowError, RecursionError) as error:
            raise self._wrong(f"has {glob!r}, which is no regular expression: {error}") from None
        return [name for name in names if pattern.match(name)]

    def _picked(self, names: list[str], subscript: Subscript, part: str) -> list[str]:
        first, last = subscript
        if last:  # with 0 as the end, Ansible takes the first alone
            return names[first : (len(names) if last == -1 else last + 1)]
        try:
            return [names[first]]
        except IndexError:
            wanted = f"[0] to [{len(names) - 1}], or [-1] for the last"
            raise self._wrong(f"asks for {part!r}, but has {len(names)} to take it from", wanted=wanted) from None

    def _unmatched(self, glob: str, part: str) -> UsageError:
        from difflib import get_close_matches  # only a mistake pays for it

        if glob in LOCALHOSTS:
            return self._no_localhost(glob)
        near = get_close_matches(glob, [*self._groups, *self._hosts], n=1)
        offer = f"; did you mean {near[0]!r}?" if near else ""
        told = "matches no host or group" if part == self._pattern else f"has {part!r}, which matches no host or group"
        mixed = "," in self._pattern and ":" in glob  # with a comma, Ansible splits at commas only
        return self._wrong(f"{told}{offer}", wanted=self._some(), next="commas between all parts" if mixed else "")

    def _no_localhost(self, name: str) -> UsageError:
        here = next((host.name for host in self._hosts.values() if host.connection == "local"), None)
        advice = f"--limit {here}, which is this machine" if here else _LOCALHOST_WANTED
        return self._wrong(f"has {name}, which the inventory does not list", wanted=self._some(), next=advice)

    def _wrong(self, what: str, *, wanted: str = "", next: str = "") -> UsageError:
        return UsageError(f"--limit {self._pattern!r} {what}", wanted=wanted, next=next)

    def _some(self) -> str:
        groups = [name for name, hosts in self._groups.items() if hosts and name != UNGROUPED]
        names = [*groups[: MOST_SHOWN // 2], *self._hosts]
        shown = ", ".join(names[:MOST_SHOWN])
        return f"a host or a group, such as {shown}{', ...' if len(names) > MOST_SHOWN else ''}"


def split(pattern: str) -> list[str]:
    """The parts of a pattern: at commas when there are any, else at colons and white space, except those of an address,
    a port or a subscript."""
    parts = pattern.split(",") if "," in pattern else [pattern] if _is_one(pattern) else _PARTS.findall(pattern)
    return [part.strip() for part in parts if part.strip()]


def _is_one(pattern: str) -> bool:
    """Whether Ansible reads it as one host, perhaps with ranges and a port."""
    if not re.search(r"[\s:\[\]]", pattern):
        return True
    for with_port in (_BRACKETED_PORT, _PORT):
        match = with_port.fullmatch(pattern)
        pattern = match[1] if match else pattern
    return any(re.fullmatch(address, pattern, re.IGNORECASE) for address in _addresses())


def _addresses() -> Sequence[str]:
    """What a host may be called, as regular expressions: a name (an IPv4 address is one), and IPv6."""
    span = r"\[(?:[a-z]:[a-z]|[0-9]+:[0-9]+)(?::[0-9]+)?\]"
    label = rf"(?:\w|{span})(?:[\w-]|{span})*(?<![_-])"
    six = r"(?:[0-9a-f]{1,4}|\[[0-9a-f]+:[0-9a-f]+(?::[0-9]+)?\])"
    four = rf"(?:{six}\.){{3}}{six}"
    gaps = [rf"(?:{six}:){{{before}}}(?::{six}){{1,{7 - before}}}" for before in range(1, 7)]
    whole = [rf"(?:{six}:){{7}}{six}", rf"(?:{six}:){{1,6}}:", rf":(?::{six}){{1,6}}", rf"{six}?::"]
    mapped = [rf"(?:0:){{6}}{four}", rf"::(?:ffff:)?{four}", rf"(?:0:){{5}}ffff:{four}"]
    return [rf"{label}(?:\.{label})*", *whole, *gaps, *mapped]


def _subscripted(text: str) -> tuple[str, Subscript | None]:
    """A pattern without its subscript, and that: its first and its last index, None for one alone, -1 for the end."""
    match = _SUBSCRIPT.fullmatch(text) if text[0] != "~" else None
    if match is None:
        return text, None
    name, index, first, last = match.groups()
    return name, (int(index), None) if index else (int(first), int(last or -1))


def _grouped(hosts: Sequence[Host]) -> Mapping[str, tuple[str, ...]]:
    """The groups as far as the hosts tell, for an inventory that knows no more."""
    found: dict[str, list[str]] = {ALL: [host.name for host in hosts]}
    for host in hosts:
        for group in host.groups:
            found.setdefault(group, []).append(host.name)
    return {name: tuple(names) for name, names in found.items()}
