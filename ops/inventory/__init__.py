"""The inventory: one YAML file becomes an Inventory, or a list of all that is wrong with it.

Knows: which file, what its keys mean, Ansible's rules for groups and hosts, how to complain.
Must not know: processes, commands, the network, whether what is promised is true.

The rooms inside: `place` finds and reads the file, `document` is the one door to PyYAML and yields `nodes`
and `mistakes`, `values` reads single values, `services`, `probes` and `catalogue` our own keys, `groups` and
`patterns` are Ansible's part, and `resolve` puts an Inventory together. `limit` tells which of its hosts a
pattern names; `sent` is the file of a host that others reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.inventory.place import load, loads, locate

__all__ = ["load", "loads", "locate"]


def __getattr__(name: str) -> Any:
    """Read when first asked for: a host that is reached by others is sent its part, and finds no file."""
    if name not in __all__:
        raise AttributeError(name)
    from ops.inventory import place

    return getattr(place, name)
