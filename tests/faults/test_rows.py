"""The matrix is whole: every row has exactly one test, or says why it has none."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from ops.dev import faults
from tests.faults.row import number_of
from tests.faults.rows import ROWS, Fault

FOLDER = Path(__file__).parent


def named() -> list[ast.FunctionDef]:
    """The tests that are named after a row."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FOLDER.glob("test_*.py")]
    found = [one for tree in trees for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    return [one for one in found if number_of(one.name)]


NAMED = named()
TESTS = Counter(number_of(one.name) for one in NAMED)


@pytest.mark.parametrize("fault", ROWS, ids=str)
def test_every_row_has_one_test_or_a_reason(fault: Fault) -> None:
    assert TESTS[fault.number] == (0 if fault.not_here else 1)


@pytest.mark.parametrize("test", NAMED, ids=lambda test: test.name)
def test_every_row_measures_something(test: ast.FunctionDef) -> None:
    assert any(measures(call) for call in ast.walk(test) if isinstance(call, ast.Call)), "the page would show nothing"


def measures(call: ast.Call) -> bool:
    """Whether it is one of row.noticed, row.serving and row.figure, or hands the row on to what does that."""
    said = call.func.value if isinstance(call.func, ast.Attribute) else None
    return any(isinstance(one, ast.Name) and one.id == "row" for one in (said, *call.args))


def test_the_rows_are_all_there() -> None:
    assert [fault.number for fault in ROWS] == list(range(1, 53))
    assert set(TESTS) <= {fault.number for fault in ROWS}


def test_the_help_and_the_readme_say_how_many_rows_are_quick() -> None:
    quick = [one for one in NAMED if not any("slow" in ast.unparse(mark) for mark in one.decorator_list)]
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert len(quick) == faults.QUICK
    assert f"injects {len(ROWS)} faults" in readme and f"`--quick` the {len(quick)} that" in readme
