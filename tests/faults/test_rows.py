"""The matrix is whole: every row has exactly one test, or says why it has none."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.row import number_of
from tests.faults.rows import ROWS, Fault

FOLDER = Path(__file__).parent


def named() -> Counter[int]:
    """How many tests are named after each row."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FOLDER.glob("test_*.py")]
    names = [one.name for tree in trees for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    return Counter(number for number in map(number_of, names) if number)


TESTS = named()


@pytest.mark.parametrize("fault", ROWS, ids=str)
def test_every_row_has_one_test_or_a_reason(fault: Fault) -> None:
    assert TESTS[fault.number] == (0 if fault.not_here else 1)


def test_the_rows_are_all_there() -> None:
    assert [fault.number for fault in ROWS] == list(range(1, 53))
    assert set(TESTS) <= {fault.number for fault in ROWS}
