"""A YAML document as values that know their line.

Knows: the shape of a document. Must not know: PyYAML, files, what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from ops.inventory.mistakes import Mistakes

Value: TypeAlias = bool | int | float | str | list["Node"] | dict[Any, "Node"] | None
LONGEST_QUOTE = 60


class Node:
    """One value. Aliases share nodes, so that `size` (of all of it, expanded) may exceed what is in memory.

    `text` is the source of a scalar; `lines` says where each key of a mapping was written.
    """

    __slots__ = ("height", "line", "lines", "size", "text", "value")

    def __init__(self, value: Value, line: int, text: str = "") -> None:
        self.value = value
        self.line = line
        self.text = text
        self.lines: dict[Any, int] = {}
        self.size = 1
        self.height = 1

    def describe(self) -> str:
        """What a person would say was written here."""
        value = self.value
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return f"the boolean {'true' if value else 'false'} (written {self.text})"
        if isinstance(value, str):
            return f"the text {_quoted(value)}"
        if isinstance(value, list):
            return "a list"
        return "a mapping" if isinstance(value, dict) else f"the number {self.text[:LONGEST_QUOTE]}"


class Refused(Exception):
    """A value that is of no use; the mistake is already told."""


class Spot(NamedTuple):
    """A node and its place, which is all that a complaint about it needs."""

    node: Node
    where: str
    line: int
    mistakes: Mistakes

    def complain(self, allowed: str, found: str = "", word: object = None, choices: Iterable[str] = ()) -> None:
        """Tells a mistake of this spot; `found` is told from the node unless it is given."""
        self.mistakes.add(self.line, self.where, found or self.node.describe(), allowed, word, choices)

    def wrong(self, allowed: str, found: str = "", word: object = None, choices: Iterable[str] = ()) -> Refused:
        """Complains, and returns what to raise when there is no value to go on with."""
        self.complain(allowed, found, word, choices)
        return Refused()

    def at(self, key: object, where: str) -> Spot:
        """The value of that key of a mapping."""
        assert isinstance(self.node.value, dict)
        return Spot(self.node.value[key], where, self.node.lines[key], self.mistakes)

    def entries(self, allowed: str = "a mapping") -> Iterator[tuple[str, Spot]]:
        """The keys and values of a mapping; whatever else is there is complained of and yields nothing."""
        value, lines, mistakes = self.node.value, self.node.lines, self.mistakes
        if not isinstance(value, dict):
            self.complain(allowed)
            return
        for key, child in value.items():
            where = f"{self.where}.{key}" if self.where else str(key)
            spot = Spot(child, where, lines[key], mistakes)
            if isinstance(key, str):
                yield key, spot
            else:
                spot.complain("a text as the key: quote it", f"the key {key!r}")

    def items(self, allowed: str = "a list") -> Iterator[Spot]:
        """The items of a list; whatever else is there is complained of and yields nothing."""
        if not isinstance(self.node.value, list):
            self.complain(allowed)
            return
        for index, child in enumerate(self.node.value):
            yield Spot(child, f"{self.where}[{index}]", child.line, self.mistakes)


def plain(node: Node) -> Any:
    """The node as plain Python values."""
    value = node.value
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= LONGEST_QUOTE else repr(text[:LONGEST_QUOTE]) + "..."
