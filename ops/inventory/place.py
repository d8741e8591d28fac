"""Where the inventory is, and its bytes.

Knows: $OPS_INVENTORY, the search upward, files that cannot be read. Must not know: what is in the file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from ops.errors import InventoryError
from ops.inventory import sent
from ops.model import Inventory, fingerprint

VARIABLE = "OPS_INVENTORY"
FILE = "inventory.yaml"
LARGEST = 768 * 1024  # bytes; a fleet of a thousand services is a third of it
CHECKOUT = Path(__file__).resolve().parents[2]
POINTER = f"name one with {VARIABLE}=/path/to/{FILE}, or work in the folder that has tasks.py and {FILE}"


def locate() -> Path:
    """The inventory's absolute path.

    $OPS_INVENTORY, else the nearest folder from here upward with both tasks.py and inventory.yaml, else the
    checkout that this package lies in. InventoryError, saying what was looked for, when there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _named(Path(named).expanduser())
    for folder in [*_upward(), CHECKOUT]:
        if (folder / FILE).is_file() and (folder == CHECKOUT or (folder / "tasks.py").is_file()):
            return folder / FILE
    raise InventoryError(f"no {FILE} beside a tasks.py in {_here()} or above it, nor in {CHECKOUT}", next=POINTER)


def load(path: Path) -> Inventory:
    """The inventory in that file; InventoryError with every mistake that was found, each with its line."""
    return loads(_content(path), path)


def loads(text: bytes, path: Path) -> Inventory:
    """The inventory in `text`, which came (or might have come) from `path`; InventoryError as with `load`."""
    if len(text) > LARGEST:
        raise InventoryError(f"{path} has {len(text)} bytes; an inventory may have {LARGEST}")
    if path.suffix == sent.SUFFIX:
        return sent.loads(text, path)
    from ops.inventory.document import read_document  # a host that is reached by others has no YAML
    from ops.inventory.mistakes import Mistakes
    from ops.inventory.resolve import resolve

    mistakes = Mistakes(path.name)
    document = read_document(text, mistakes)
    inventory = resolve(document, str(path), mistakes) if document else None
    if inventory is None or mistakes:
        raise InventoryError(f"{path}: {mistakes.summary()}", mistakes.lines(), next=f"correct {path}")
    return replace(inventory, text=fingerprint(text))


def _named(path: Path) -> Path:
    if not path.exists():
        raise InventoryError(f"{VARIABLE} names {path}, which does not exist", next=POINTER)
    return Path(os.path.abspath(path))


def _upward() -> list[Path]:
    here = _here()
    return [here, *here.parents] if here else []


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # the folder was removed under us; the checkout may still help
        return None


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InventoryError(f"{path} is a folder; the inventory is a file", next=POINTER)
        if not stat.S_ISREG(mode):  # a pipe that nobody writes to would be read for ever
            raise InventoryError(f"{path} is not a regular file", next=POINTER)
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError:
        raise InventoryError(f"{path} does not exist", next=POINTER) from None
    except PermissionError:
        raise InventoryError(f"{path} may not be read by this user", next=f"ls -l {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InventoryError(f"{path} cannot be read: {error}", next=POINTER) from None
