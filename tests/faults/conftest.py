"""The fixture `row`, and one line of JSON for each test of a row in the file that $OPS_FAULTS_RESULTS names:

{"row": 1, "test": "tests/faults/…::test_f01_crash", "result": "passed", "why": "", "took": 3.1,
 "noticed": 0.004, "serving": 0.06, "since": {"serving": "a later kill"}, "figures": {"restarts": 1}}

What comes before them is of the run as a whole: {"run": {"user": "root", "began": 1767225600.0, "cpus": 2, ...}}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from typing import Any

import psutil
import pytest

from benchmarks import machine
from tests.faults.parting import Parting
from tests.faults.row import Row, number_of

RESULTS = "OPS_FAULTS_RESULTS"
ROWS = "OPS_FAULTS_ROWS"  # numbers; where it is not set, everything here runs, the tests of the harness, too
UNTIL = "OPS_FAULTS_UNTIL"  # of the monotonic clock
_row = pytest.StashKey[Row]()
_said = pytest.StashKey[dict[str, Any]]()


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """Where a test of the matrix says what it has measured."""
    number = number_of(request.node.name)
    assert number, f"{request.node.name} is not named after a row, as test_f01_crash is"
    return request.node.stash.setdefault(_row, Row(number))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is not asked for: names of files tell of several rows, so that -k would take too many."""
    asked = os.environ.get(ROWS, "").split(",")
    left_out = [item for item in items if asked != [""] and str(number_of(item.name)) not in asked]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The run as a whole is bounded: what might not end in the time that is left is not begun, and says so."""
    if time.monotonic() + _limit(item) > float(os.environ.get(UNTIL, "inf")):
        pytest.skip("the time of the run was over before its turn")


def _limit(item: pytest.Item) -> float:
    """Seconds after which pytest-timeout ends the test."""
    marker = item.get_closest_marker("timeout")
    said = marker.kwargs.get("timeout", *marker.args[:1]) if marker else item.config.getini("timeout")
    return float(said or 0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Puts the three parts of a test (setup, call, teardown) together, and says how it ended after the last."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    said = item.stash.setdefault(_said, {"result": "passed", "why": "", "took": 0.0})
    said["took"] = round(said["took"] + report.duration, 2)
    if report.outcome != "passed" and said["result"] != "failed":
        said.update(result=report.outcome, why=_why(report))
    if report.when == "teardown" and number_of(item.name):
        _write(item, said)


def _why(report: pytest.TestReport) -> str:
    """The reason of a skip, or the line that says what failed."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().splitlines()[0]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Writes down what the machine was like before anything ran; where several workers run, once for all of them."""
    session.config.pluginmanager.register(Parting(session), "parting")
    if not hasattr(session.config, "workerinput"):
        user = psutil.Process().username()
        _append({"run": {"began": time.time(), "user": user, **machine.told()}})


def _write(item: pytest.Item, said: dict[str, Any]) -> None:
    measured = item.stash.get(_row, Row(number_of(item.name)))
    took = {**measured.seconds, "since": measured.since, "figures": measured.figures}
    _append({"row": measured.number, "test": item.nodeid, **said, **took})


def _append(line: dict[str, Any]) -> None:
    path = os.environ.get(RESULTS)
    if not path:
        return
    with open(path, "a", encoding="utf-8") as file:  # one write at its end: several workers share the file
        file.write(json.dumps(line) + "\n")
