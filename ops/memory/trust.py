"""Values from what a file said, only as far as their types are right.

Knows: dataclasses and the types of their fields. Must not know: files, what the values mean.
"""

from __future__ import annotations

from typing import Any

from ops.model import Process


def parse(kind: Any, said: Any) -> Any:
    """A dataclass from what a file said; None unless the types are right, so that garbage is not half-believed."""
    if not isinstance(said, dict):
        return None
    known = {name: value for name, value in said.items() if name in kind.__dataclass_fields__}
    for name, value in known.items():
        declared = kind.__dataclass_fields__[name].type
        if not isinstance(value, _TYPES[declared]) or (isinstance(value, bool) and declared != "bool"):
            return None
        if isinstance(value, int) and abs(value) >= 1 << 63:  # no counter of ours, and more than a float can take
            return None
    try:
        return kind(**known)
    except TypeError:
        return None


_NONE = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "int | None": (int, _NONE),
    "str | None": (str, _NONE),
    "Process": (Process,),
    "tuple[int, int] | None": (tuple, _NONE),
}
