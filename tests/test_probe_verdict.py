"""Verdicts on answers, as values: what a wanted JSON subset is, and how differences are told."""

from __future__ import annotations

from typing import Any

import pytest

from ops.host.probe_verdict import Answer, difference, judge, printable
from ops.model import Probe

SEEN = {
    "status": "healthy",
    "up": 1,
    "ready": True,
    "owner": None,
    "checks": {"db": {"ok": True, "ms": 1.5}},
    "jobs": [{"id": 1, "state": "done"}, {"id": 2, "state": "open"}],
}


@pytest.mark.parametrize("wanted", [
    {},
    {"status": "healthy", "up": 1.0, "ready": True, "owner": None},
    {"checks": {"db": {"ok": True}}},
    {"jobs": []},
    {"jobs": [{"state": "open"}, {"id": 1}]},
    {"jobs": ({"id": 2},)},
])  # fmt: skip
def test_a_subset_is_found(wanted: Any) -> None:
    assert difference(wanted, SEEN) is None


@pytest.mark.parametrize(("wanted", "told"), [
    ({"status": "ill"}, 'status is "healthy", wanted "ill"'),
    ({"up": True}, "up is 1, wanted true"),
    ({"ready": 1}, "ready is true, wanted 1"),
    ({"owner": "x"}, 'owner is null, wanted "x"'),
    ({"checks": {"db": {"ms": 2}}}, "checks.db.ms is 1.5, wanted 2"),
    ({"checks": {"bank": {}}}, "checks.bank is missing, wanted {}"),
    ({"jobs": [{"id": 1, "state": "open"}]}, 'jobs lacks {"id": 1, "state": "open"}'),
    ({"jobs": {"id": 1}}, 'jobs is [{"id": 1, "state": "done"}, {"id": 2, "state": "open"}], wanted {"id": 1}'),
    ([1], 'the answer is {"status": "healthy"'),
])  # fmt: skip
def test_a_difference_names_its_place(wanted: Any, told: str) -> None:
    found = difference(wanted, SEEN)
    assert found is not None and found.startswith(told)


def test_a_pit_of_brackets_is_not_json() -> None:
    probe = Probe("http", "/", 1, 1, json=[[]])
    assert judge(probe, Answer(200, (), b"[" * 60_000)).ok is False


def test_several_headers_of_one_name_count_together() -> None:
    answer = Answer(200, (("set-cookie", "a=1"), ("Set-Cookie", "b=2")))
    assert answer.header("SET-COOKIE") == "a=1, b=2"


def test_an_unknown_charset_is_read_as_utf_8() -> None:
    answer = Answer(200, (("content-type", "text/html; charset=klingon"),), "für".encode())
    assert judge(Probe("http", "/", 1, 1, body="für"), answer).ok


def test_a_detail_is_one_printable_line() -> None:
    assert printable("a\r\n\x1b[31m\u202eb\ud800") == "a\\r\\n\\x1b[31m\\u202eb\\ud800"
    assert len(printable("\x00" * 500)) == 160
