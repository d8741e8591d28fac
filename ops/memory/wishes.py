"""What is wanted of each service, in a file and a copy of it: so a damaged file starts nothing that was stopped.

Knows: the two files, which of them holds, what a wish is. Must not know: locks, processes, what a wish leads to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ops.memory.files import Unchanged
from ops.memory.trust import parse
from ops.model import Wanted

FILE = "wanted.json"
COPY = "wanted.copy"

Damage = Literal["", "healed", "lost", "gone"]


@dataclass(frozen=True)
class Wish:
    """What is wanted of one service. Never said: up."""

    up: bool = True
    held: bool = False
    generation: int = 0
    by: str = ""
    at: str = ""
    pid: int = 0  # of the command that said so: while it lives, the monitor lets it go first

    @property
    def wanted(self) -> Wanted:
        return "held" if self.held else "up" if self.up else "down"


class Wishes:
    """Reads them. What the file does not say, or not legibly, is taken from the copy, which is written after it."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FILE)
        self._file = Unchanged(self._path)
        self._copy = Unchanged(os.path.join(folder, COPY))

    def forget(self) -> None:
        """Has both read anew."""
        self._file.forget()
        self._copy.forget()

    def of(self, name: str) -> Wish | None:
        """What was said of one service; None when nothing was. OpsError as of Unchanged."""
        found: Wish | None = parse(Wish, _services(self._file).get(name))
        if found is None:
            found = parse(Wish, _services(self._copy).get(name))
        return found

    def all(self) -> dict[str, Wish]:
        """The same of each service that anything was ever said about."""
        names = (*_services(self._file), *_services(self._copy))
        return {name: wish for name in names if (wish := self.of(name)) is not None}

    @property
    def are_twice(self) -> bool:
        """Whether both files say the same."""
        return self._file.read() == self._copy.read()

    @property
    def damage(self) -> Damage:
        """Whether the file cannot be read, or is gone: `healed` as far as there is the copy. Without it `lost`, or
        `gone` where there is no file: then perhaps nothing was ever said."""
        if _is_legible(self._file):
            return ""
        if _is_legible(self._copy):
            return "healed"
        return "lost" if os.path.lexists(self._path) else "gone"


def _services(file: Unchanged) -> Mapping[str, Any]:
    said = file.read().get("services")
    return said if isinstance(said, dict) else {}


def _is_legible(file: Unchanged) -> bool:
    said = file.read().get("services")
    return isinstance(said, dict) and all(parse(Wish, one) is not None for one in said.values())
