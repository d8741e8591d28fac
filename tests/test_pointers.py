"""Lines to type that a host names are meant for that host."""

from __future__ import annotations

import pytest

from ops.fleet.pointers import there
from tests.test_commands import COMMANDS


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("next:   inv start", "next:   inv start --limit h1"),
        ("next:   inv tail api    then: inv restart-one api", None),
        ("  inv kill-port 5103 start --only api", "  inv kill-port 5103 --limit h1 start --limit h1 --only api"),
        ("free some space (df -h /x), then: inv stop --only a", None),
        (
            "its definition changed since: inv restart-one api",
            "its definition changed since: inv restart-one api --limit h1",
        ),
        ("(not asked: inv health)", "(not asked: inv health --limit h1)"),
        ("out of date (an update?): inv install-service", "out of date (an update?): inv install-service --limit h1"),
        ("inv restart-one api; then start", "inv restart-one api --limit h1; then start"),
        ("not told to start or stop, but to tail", "not told to start or stop, but to tail"),
        ("next:   sudo ./inv install-service --system", "next:   on h1: sudo ~/x/inv install-service --system"),
    ],
)
def test_what_a_host_says_to_type_is_meant_for_that_host(said: str, meant: str | None) -> None:
    found = there(said, "h1", "~/x")
    if meant is not None:
        assert found == meant
    assert found.replace(" --limit h1", "") == said or "sudo" in said
    assert found.count("--limit h1") >= (1 if "inv " in said and "sudo" not in said else 0)


@pytest.mark.parametrize("task", sorted(COMMANDS - {"monitor", "bootstrap"}))
def test_every_task_is_known(task: str) -> None:
    assert there(f"inv {task}" + (" X" if task in ("tail", "hold") else " "), "h1", "").count("--limit h1") <= 1
    assert "--limit h1" in there(f"inv {task} X", "h1", "")
