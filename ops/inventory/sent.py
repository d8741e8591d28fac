"""One host's part of an inventory as it was sent there: a file of JSON, complete and resolved, that needs no YAML.

Knows: that file. Must not know: who sent it, how it came.

What stands in it was decided where the inventory is. It is read here by the monitor, and by whoever works on that host.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.errors import InventoryError
from ops.model import Host, Inventory, fingerprint
from ops.wire import Garbled, pack, unpack

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".json"
_SCHEMA = 1
_NOTE = "sent by a command with --limit; what is changed here is replaced by the next one: change the inventory there"


def stripped(host: Host) -> Host:
    """A host as it is told of itself. How it is reached is not told: there it is the machine."""
    return replace(host, connection="local", vars={})


def at_home(host: Host) -> Host:
    """With the root that is meant on this machine: `~` is this user's home."""
    return replace(host, root=os.path.realpath(os.path.expanduser(host.root)))


def dumps(host: Host) -> bytes:
    """The file for a host."""
    said = {"note": _NOTE, "schema": _SCHEMA, "host": pack(stripped(host))}
    return json.dumps(said, indent=1).encode() + b"\n"


def loads(text: bytes, path: Path) -> Inventory:
    """The inventory of that one host; InventoryError when this is no such file."""
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or said.get("schema") != _SCHEMA:
            raise Garbled("not such a file, or another version's")
        host = at_home(unpack(Host, said.get("host")))
    except (ValueError, RecursionError) as error:
        next_line = "send it again, from where the inventory is: inv bootstrap --limit HOST"
        raise InventoryError(f"{path} is not what was sent here: {error}", next=next_line) from None
    return Inventory(str(path), host.stack, (host,), fingerprint(text))
