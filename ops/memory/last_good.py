"""The last good inventory of a file, for whoever finds that file broken: a monitor that starts, a person who looks.

Knows: where it is kept, when what is kept may be believed. Must not know: YAML, what is done with it.

    STATE/inventory.last    a line of JSON (of which file, what the nouns looked like), then a pickled Host

The state folder is named after the stack, which only the inventory tells: so, unless $OPS_STATE is set, the folders of
all stacks are looked into for what was kept of this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import stat
import sys
from collections.abc import Sequence
from dataclasses import fields

from ops.frozen import frozen
from ops.memory.files import write_atomically
from ops.memory.folders import folder_for
from ops.model import Host, Probe, Service, Stack, fingerprint

_FILE = "inventory.last"
_NOUNS = {kind.__name__: kind for kind in (Host, Stack, Service, Probe)}


@frozen
class Good:
    """This machine's part of an inventory, and when it was read (seconds since the epoch). `text` is the fingerprint of
    the file, "" when another version has read it, which may have understood it otherwise."""

    host: Host
    read_at: float
    text: str = ""


class LastGood:
    """What is kept of one inventory in one state folder."""

    def __init__(self, folder: str, inventory: str) -> None:
        self._path = os.path.join(folder, _FILE)
        self._head = {"schema": 1, "model": _model(), "inventory": _place(inventory)}

    def keep(self, host: Host, text: str) -> None:
        """Replaces what was kept; on a full disk that stays. `text` is the fingerprint of the file that it was read
        from."""
        with contextlib.suppress(OSError):
            head = {**self._head, "text": text, "reader": _reader()}
            data = json.dumps(head).encode() + b"\n" + pickle.dumps(host)
            write_atomically(self._path, data, fsync=False)

    def read(self) -> Good | None:
        """None when there is none, or one of another file, by another version, or that another user may have
        written."""
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                head = json.loads(file.readline())
                text = str(head.pop("text")) if head.pop("reader") == _reader() else ""
                if not _believable(found) or head != self._head:
                    return None
                host = _Nouns(file).load()
        except Exception:  # noqa: BLE001 - whatever a garbled pickle raises
            return None
        return Good(host, found.st_mtime, text) if isinstance(host, Host) else None


def find(inventory: str) -> Good | None:
    """The last good one of that file, wherever the state of its stack lies; the newest, should the stack have been
    renamed."""
    known = [(folder, LastGood(folder, inventory).read()) for folder in _folders()]
    good = [one for folder, one in known if one is not None and folder == folder_for(one.host.stack.name)]
    return max(good, key=lambda one: one.read_at, default=None)


def _folders() -> Sequence[str]:
    any_stack = folder_for("any")
    if any_stack == folder_for("another"):  # $OPS_STATE
        return [any_stack]
    above = os.path.dirname(any_stack)
    try:
        return [os.path.join(above, name) for name in os.listdir(above)]
    except OSError:
        return []


def _place(inventory: str) -> str:
    """One name for a file that can be reached by several: its folder is what a stack's root is by default."""
    folder, name = os.path.split(os.path.abspath(inventory))
    return os.path.join(os.path.realpath(folder), name)


def _model() -> str:
    """Changes with every field that comes, goes or is retyped: a pickle would be made without asking for it."""
    shape = [(name, [(field.name, field.type) for field in fields(noun)]) for name, noun in _NOUNS.items()]
    return fingerprint(repr(shape).encode())


def _reader() -> str:
    """Which Python and which sources of ours read inventories here."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    rooms = [ours, os.path.join(ours, "inventory")]
    sources = [entry for room in rooms for entry in os.scandir(room) if entry.name.endswith(".py")]
    return f"{sys.executable} {ours} {max(entry.stat().st_mtime_ns for entry in sources)}"


def _believable(found: os.stat_result) -> bool:
    """A file that only this user can have written."""
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


class _Nouns(pickle.Unpickler):
    """Makes nothing but the nouns: a pickle may ask for any function."""

    def find_class(self, module: str, name: str) -> type:
        if module != Host.__module__ or name not in _NOUNS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _NOUNS[name]
