"""The first thing that must work: up, a second time nothing to do, down."""

from __future__ import annotations

from tests.stack import Stack


def test_start_is_idempotent_and_stop_leaves_nothing(stack: Stack) -> None:
    stack.tiny("api")
    stack.service("pg")
    stack.write()
    assert stack.ok("start", "--json").states == {"api": "changed", "pg": "changed"}
    first = stack.pid("api")
    assert stack.get("api")[1] == str(first)
    again = stack.ok("start", "--json")
    assert again.document["recap"]["localhost"]["changed"] == 0
    assert stack.pid("api") == first
    assert stack.ok("stop", "--json").states == {"api": "changed", "pg": "changed"}
    assert not stack.running()
    assert stack.ok("stop", "--json").document["recap"]["localhost"]["changed"] == 0
