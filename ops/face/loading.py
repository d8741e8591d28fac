"""The inventory for a command that only looks: while the file is broken, the last good one, and a warning.

A typo must not blind whoever looks. Commands that change something refuse instead: they read the file themselves.

Knows: what is said of a broken file. Must not know: what the inventory is wanted for, where the last good one is kept.
"""

from __future__ import annotations

import os
import sys

from ops import inventory
from ops.errors import InventoryError
from ops.face.colour import coloured
from ops.fleet import reach
from ops.frozen import frozen
from ops.inventory.place import VARIABLE
from ops.model import Inventory

_MOST = 5  # mistakes told in front of what was asked for; `check-inventory` tells all


@frozen
class Loaded:
    """An inventory; `warning` has the lines to show when it is not what the file says."""

    inventory: Inventory
    warning: tuple[str, ...] = ()


def load(*, here: bool = True) -> Loaded:
    """The inventory, or the last good one, which is of this machine alone. InventoryError when there is neither, or
    (`here`) when it has no part for this machine."""
    try:
        loaded = inventory.load(inventory.locate())
        if here:
            reach.here(loaded)
    except InventoryError as error:
        named = os.environ.get(VARIABLE)
        last = reach.last_good(os.path.expanduser(named) if named else str(inventory.locate()))
        if last is None:
            raise
        return Loaded(last[0], _warning(error, last[1]))
    return Loaded(loaded)


def loaded_and_warned(*, here: bool = True) -> Inventory:
    """The same for who looks once: the warning is shown first."""
    found = load(here=here)
    warn(found)
    return found.inventory


def warn(found: Loaded) -> None:
    """Shows the warning, if there is one, on standard error."""
    for line in found.warning:
        print(line, file=sys.stderr, flush=True)


def _warning(error: InventoryError, read_at: str) -> tuple[str, ...]:
    more = len(error.mistakes) - _MOST
    lines = [f"    {mistake}" for mistake in error.mistakes[:_MOST]]
    lines += [f"    ... and {more} more"] if more > 0 else []
    lines += [f"  used:   the last good inventory, of {read_at}", "  next:   inv check-inventory"]
    return (coloured(f"warning: {error.seen}", "yellow", sys.stderr), *lines)
