"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own; everything it started is ended by pid afterwards."""
    made = Stack(tmp_path)
    try:
        yield made
    finally:
        made.end()
