"""The error tree: what a person is told when the tool could not know or was asked wrongly.

Knows: messages and exit codes. Must not know: any other room.

A failure to *converge* (a service does not come up) is a value, an Outcome. These exceptions are for
failing to *know*: bad usage, an inventory that cannot be read, a state folder that belongs to another user.
Each says what was seen, what was wanted, and what to do next; one door in the face turns it into an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence


class OpsError(Exception):
    """Something the user has to put right. `exit_code` is what the process ends with."""

    exit_code = 1

    def __init__(self, seen: str, *, wanted: str = "", next: str = "") -> None:
        super().__init__(seen)
        self.seen = seen
        self.wanted = wanted
        self.next = next

    def lines(self) -> list[str]:
        """The message as people read it, one fact a line."""
        lines = [self.seen]
        if self.wanted:
            lines.append(f"wanted: {self.wanted}")
        if self.next:
            lines.append(f"next:   {self.next}")
        return lines


class UsageError(OpsError):
    """The command line asks for something that does not exist or makes no sense."""


class InventoryError(OpsError):
    """The inventory cannot be used. `mistakes` holds every one that was found, a line each."""

    def __init__(self, seen: str, mistakes: Sequence[str] = (), *, next: str = "") -> None:
        super().__init__(seen, next=next)
        self.mistakes = list(mistakes)

    def lines(self) -> list[str]:
        head, *rest = super().lines()
        return [head, *(f"  {mistake}" for mistake in self.mistakes), *rest]


class StateError(OpsError):
    """The state folder cannot be used by this user or from this project."""


class LockHeld(OpsError):
    """Somebody else held a lock for longer than the caller may wait; `seen` names the holder."""

    exit_code = 2


class SpawnError(OpsError):
    """A process could not be started (no such program, no such folder, no memory)."""

    exit_code = 2


class Interrupted(OpsError):
    """Ctrl-C: what was begun is recorded, the next command carries on."""

    exit_code = 130
