"""The nouns as plain values that JSON can carry, and back.

Knows: dataclasses and the types of their fields. Must not know: what a value means, where it goes, any other room.

What comes back is checked as strictly as a typed source would be: a peer that sends garbage must not be half-believed.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class Garbled(ValueError):
    """A value that is not what it should be; says where and what."""


def pack(value: Any) -> Any:
    """A noun, or what nouns are made of, as dicts, lists and scalars."""
    if is_dataclass(value):
        said = {field.name: getattr(value, field.name) for field in fields(value)}
        kind: Any = type(value)
        usual = _defaults(kind)
        return {name: pack(one) for name, one in said.items() if name not in usual or usual[name] != one}
    if isinstance(value, Mapping):
        return {str(key): pack(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [pack(one) for one in value]
    return value


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    """What need not travel, since whoever unpacks it knows it."""
    plain = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    made = {field.name: field.default_factory() for field in fields(kind) if field.default_factory is not MISSING}
    return {**plain, **made}


def unpack(kind: type[T], said: Any) -> T:
    """The noun of that kind that `pack` made this of. Garbled when it is none."""
    made: T = _made(kind, said, kind.__name__)
    return made


def _made(kind: Any, said: Any, where: str) -> Any:
    if kind is Any:
        return _anything(said, where)
    if is_dataclass(kind):
        return _noun(kind, said, where)
    origin = typing.get_origin(kind)
    if origin is None:
        return _scalar(kind, said, where)
    return _MAKERS[origin](typing.get_args(kind), said, where)


def _noun(kind: Any, said: Any, where: str) -> Any:
    known = _types(kind)
    if not isinstance(said, dict) or not said.keys() <= known.keys():
        raise Garbled(f"{where}: not a {kind.__name__}")
    made = {name: _made(known[name], one, f"{where}.{name}") for name, one in said.items()}
    try:
        return kind(**made)
    except TypeError:
        raise Garbled(f"{where}: not a whole {kind.__name__}") from None


@functools.cache
def _types(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _scalar(kind: Any, said: Any, where: str) -> Any:
    allowed = (int, float) if kind is float else kind
    if not isinstance(said, allowed) or (isinstance(said, bool) and kind is not bool):
        raise Garbled(f"{where}: {type(said).__name__} instead of {kind.__name__}")
    if kind is float and not -sys.float_info.max <= said <= sys.float_info.max:
        raise Garbled(f"{where}: a number that is none")  # Python's JSON knows Infinity, NaN and integers of any size
    return said


def _anything(said: Any, where: str) -> Any:
    if isinstance(said, float):
        return _scalar(float, said, where)
    for one in said.values() if isinstance(said, dict) else said if isinstance(said, list) else ():
        _anything(one, where)
    return said


def _choice(kinds: tuple[Any, ...], said: Any, where: str) -> Any:
    """`X | None` and the like: the first that fits."""
    for kind in kinds:
        try:
            return _made(kind, said, where)
        except Garbled:
            pass
    raise Garbled(f"{where}: {type(said).__name__} is none of what it may be")


def _literal(allowed: tuple[Any, ...], said: Any, where: str) -> Any:
    if not isinstance(said, str) or said not in allowed:
        raise Garbled(f"{where}: {str(said)[:40]!r} is none of {', '.join(map(str, allowed))}")
    return said


def _tuple(kinds: tuple[Any, ...], said: Any, where: str) -> Any:
    if not isinstance(said, list):
        raise Garbled(f"{where}: {type(said).__name__} instead of a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_made(kinds[0], one, f"{where}[{place}]") for place, one in enumerate(said))
    if len(kinds) != len(said):
        raise Garbled(f"{where}: {len(said)} values instead of {len(kinds)}")
    return tuple(_made(kind, one, where) for kind, one in zip(kinds, said, strict=True))


def _mapping(kinds: tuple[Any, ...], said: Any, where: str) -> Any:
    if not isinstance(said, dict):
        raise Garbled(f"{where}: {type(said).__name__} instead of a mapping")
    return {key: _made(kinds[1], one, f"{where}.{key}") for key, one in said.items()}


_MAKERS: dict[Any, Any] = {
    typing.Union: _choice,
    UnionType: _choice,
    Literal: _literal,
    tuple: _tuple,
    Sequence: lambda kinds, said, where: _tuple((kinds[0], Ellipsis), said, where),
    Mapping: _mapping,
}
