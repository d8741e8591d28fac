"""Nouns that do not change: `@frozen` in the place of `@dataclass(frozen=True)`.

Knows: dataclasses. Must not know: any noun.

A frozen dataclass has each of its methods compiled anew when its module is imported, 0.75 ms for one of ten fields
(Python 3.11). Each command imports some thirty of them, and so does what answers on another host. Here only `__init__`
is compiled, which leaves 0.3 ms; the other methods are the same for all. That a noun is not changed is seen to by the
type checker, not at run time. `fields`, `replace` and `asdict` of dataclasses know these as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

Noun = TypeVar("Noun")

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_told: Any) -> Callable[[Noun], Noun]:
        return lambda decorator: decorator


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[Noun]) -> type[Noun]:
    """Makes a dataclass of it whose instances are compared by their fields, and can be hashed."""
    made = dataclass(eq=False, repr=False)(kind)
    names = [one.name for one in fields(made)]  # type: ignore[arg-type]
    ours = {"_values": operator.attrgetter(*names) if names else _nothing, "__eq__": _equal, "__hash__": _hash}
    for name, method in {**ours, "__repr__": _shown}.items():
        setattr(made, name, method)
    return made


def _nothing(_one: object) -> tuple[()]:
    return ()


def _equal(one: Any, other: Any) -> Any:
    return type(one)._values(one) == type(one)._values(other) if one.__class__ is other.__class__ else NotImplemented


def _hash(one: Any) -> int:
    return hash(type(one)._values(one))


def _shown(one: Any) -> str:
    said = ", ".join(f"{each.name}={getattr(one, each.name)!r}" for each in fields(one))
    return f"{one.__class__.__qualname__}({said})"
