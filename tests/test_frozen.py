"""Nouns made by `@frozen` do what a frozen dataclass does, but for the refusal at run time."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace

import pytest

from ops.frozen import frozen


@frozen
class Port:
    number: int
    names: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> str:
        return self.names[0]


@frozen
class Lone:
    number: int


@frozen
class Nothing: ...


@frozen
class Wide(Port):
    width: float = 1.5


@dataclass(frozen=True)
class Dear:
    number: int
    names: tuple[str, ...] = ()


def test_it_is_compared_by_its_fields_and_with_its_own_kind_alone() -> None:
    assert Port(1, ("a",)) == Port(1, ("a",))
    assert Port(1) != Port(2)
    assert Lone(1) == Lone(1) != Lone(2)
    assert Nothing() == Nothing()
    assert Wide(1) != Port(1)
    assert Wide(1, width=2.0) != Wide(1)


def test_it_can_be_hashed_like_its_fields() -> None:
    assert {Lone(1), Lone(1), Lone(2)} == {Lone(1), Lone(2)}
    assert hash(Nothing()) == hash(Nothing())
    with pytest.raises(TypeError, match="unhashable"):
        hash(Port(1))


def test_it_is_shown_as_a_dataclass_is() -> None:
    assert repr(Lone(1)) == "Lone(number=1)"
    assert repr(Dear(1, ("x",))).replace("Dear", "Port")[:-1] + ", env={})" == repr(Port(1, ("x",)))
    assert repr(Wide(1)) == "Wide(number=1, names=(), env={}, width=1.5)"


def test_dataclasses_know_it() -> None:
    one = Wide(1, ("a", "b"))
    assert [each.name for each in fields(one)] == ["number", "names", "env", "width"]
    assert replace(one, number=2) == Wide(2, ("a", "b"))
    assert asdict(one) == {"number": 1, "names": ("a", "b"), "env": {}, "width": 1.5}
    assert one.first == "a"
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError):
        Port()  # type: ignore[call-arg]


def test_only_the_type_checker_refuses_a_change() -> None:
    """Mypy reads this file, too: it would complain of an "ignore" that it has no use for."""
    one = Lone(1)
    one.number = 2  # type: ignore[misc]
    assert one == Lone(2)
