"""What is wanted of each service, in a file and a copy of it: so a damaged file starts nothing that was stopped.

Knows: the two files, which of them holds, what a wish is. Must not know: locks, processes, what a wish leads to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ops.frozen import frozen
from ops.memory.files import Unchanged
from ops.memory.trust import parse
from ops.model import Wanted

FILE = "wanted.json"
COPY = "wanted.copy"

Damage = Literal["", "healed", "lost", "gone"]


@frozen
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
        self._file = _Parsed(self._path)
        self._copy = _Parsed(os.path.join(folder, COPY))

    def forget(self) -> None:
        """Has both read anew."""
        self._file.forget()
        self._copy.forget()

    def of(self, name: str) -> Wish | None:
        """What was said of one service; None when nothing was. OpsError as of Unchanged."""
        return self._file.read().wishes.get(name) or self._copy.read().wishes.get(name)

    def all(self) -> dict[str, Wish]:
        """The same of each service that anything was ever said about."""
        return {**self._copy.read().wishes, **self._file.read().wishes}

    @property
    def are_twice(self) -> bool:
        """Whether both files say the same."""
        return self._file.read() == self._copy.read()

    @property
    def damage(self) -> Damage:
        """Whether the file cannot be read, or is gone: `healed` as far as there is the copy. Without it `lost`, or
        `gone` where there is no file: then perhaps nothing was ever said."""
        if self._file.read().legible:
            return ""
        if self._copy.read().legible:
            return "healed"
        return "lost" if os.path.lexists(self._path) else "gone"


class _Said(NamedTuple):
    """What a file says. `legible`: all of it."""

    wishes: Mapping[str, Wish]
    legible: bool


class _Parsed:
    """One of the files, parsed once for each version of it: the monitor asks for one service after the other."""

    def __init__(self, path: str) -> None:
        self._file = Unchanged(path)
        self._seen: tuple[dict[str, Any], _Said] | None = None

    def forget(self) -> None:
        self._file.forget()

    def read(self) -> _Said:
        said = self._file.read()
        seen = self._seen  # threads share it, as they do Unchanged
        if seen is None or seen[0] is not said:
            seen = self._seen = (said, _parse(said.get("services")))
        return seen[1]


def _parse(services: Any) -> _Said:
    if not isinstance(services, dict):
        return _Said({}, False)
    wishes = {name: wish for name, one in services.items() if (wish := parse(Wish, one)) is not None}
    return _Said(wishes, len(wishes) == len(services))
