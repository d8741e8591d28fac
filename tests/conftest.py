"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.stack import Stack

# An example that is slow here waited for a core: the tests run side by side. One that hangs meets pytest's timeout.
settings.register_profile("side by side", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("side by side")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own; everything it started is ended by pid afterwards."""
    made = Stack(tmp_path)
    try:
        yield made
    finally:
        made.end()
