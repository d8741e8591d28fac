"""The fault switches of the sample stack: what the tests of the toolkit inject has to be the fault it is called."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sample import FAULTY, Start, starting
from tests.waiting import until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as begin:
        yield begin


def state_of(pid: int) -> str:
    """The process state as `ps` names it; "" when there is no such process or only its corpse."""
    seen = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return "" if seen.startswith("Z") else seen.strip()


def test_faults_do_not_exist_without_the_switch(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_FAULT="exit1").ready()
    assert service.ask("/faults/500", "POST").status == 404
    assert service.ask("/faults").status == 404
    assert service.ask("/health").json["status"] == "healthy"


def test_faults_that_change_answers_begin_and_end(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_SLOW="0.3", **FAULTY).ready()
    assert service.ask("/faults/typo", "POST").status == 404
    service.ask("/faults/degraded", "POST")
    assert (service.ask("/health").status, service.ask("/health").json["status"]) == (200, "degraded")
    service.ask("/faults/wrong-page", "POST")
    assert b"nginx" in service.ask("/health").body
    service.ask("/faults/500", "POST")
    assert service.ask("/health").status == 500
    service.ask("/faults/slow", "POST")
    began = time.monotonic()
    service.ask("/health")
    assert time.monotonic() - began >= 0.3
    assert service.ask("/faults").json["active"] == ["500", "degraded", "slow", "wrong-page"]
    service.ask("/faults/none", "POST")
    assert service.ask("/health").json["status"] == "healthy"


def test_hang_accepts_and_never_answers(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_FAULT="hang", **FAULTY).ready()
    with pytest.raises(TimeoutError):
        service.ask("/health", timeout=0.3)
    service.ask("/faults/none", "POST")
    assert service.ask("/health").status == 200


@pytest.mark.parametrize("code", [0, 1])
def test_exit_at_once_or_on_request(start: Start, code: int) -> None:
    assert start("pg-api", OPS_SAMPLE_FAULT=f"exit{code}", **FAULTY).process.wait(5) == code
    service = start("pg-api", **FAULTY).ready()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        service.ask(f"/faults/exit{code}", "POST")
    assert service.process.wait(5) == code


def test_ignore_term_needs_kill(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_FAULT="ignore-term", **FAULTY).ready()
    service.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(0.3)
    assert service.ask("/health").status == 200
    service.ask("/faults/none", "POST")
    assert service.end() == 0


def test_slow_start_listens_late(start: Start) -> None:
    began = time.monotonic()
    start("pg-api", OPS_SAMPLE_FAULT="slow-start", OPS_SAMPLE_SLOW="0.5", **FAULTY).ready()
    assert time.monotonic() - began >= 0.5


def test_leak_grows(start: Start) -> None:
    service = start("pg-api", **FAULTY).ready()

    def kilobytes() -> int:
        return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(service.process.pid)]))

    before = kilobytes()
    service.ask("/faults/leak", "POST")
    assert until(lambda: kilobytes() > before + 8000, every=0.1)


@pytest.mark.parametrize("fault", ["fork-child", "fork-child-setsid", "hold-port"])
def test_children_outlive_their_parent(start: Start, fault: str) -> None:
    service = start("pg-api", OPS_RUN="a/marker/1", **FAULTY).ready()
    session = os.getsid(service.process.pid)
    child = service.ask(f"/faults/{fault}", "POST").json["child"]
    try:
        assert (os.getsid(child) == session) is (fault != "fork-child-setsid")
        service.end(signal.SIGKILL)
        assert state_of(child)
        assert service.accepts() is (fault == "hold-port")
        environ = Path(f"/proc/{child}/environ")
        assert not environ.exists() or b"OPS_RUN=a/marker/1" in environ.read_bytes()
    finally:
        os.kill(child, signal.SIGKILL)
    until(lambda: not state_of(child))
    assert not service.accepts()


def test_none_takes_the_children_back(start: Start) -> None:
    service = start("pg-api", **FAULTY).ready()
    child = service.ask("/faults/hold-port", "POST").json["child"]
    try:
        assert state_of(child)
        service.ask("/faults/none", "POST")
        assert not state_of(child)
    finally:
        with suppress(ProcessLookupError):  # as it should be
            os.kill(child, signal.SIGKILL)


def test_a_misspelt_fault_is_refused_at_the_start(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_FAULT="hagn", **FAULTY)
    assert service.process.wait(5) == 1
    assert "hagn" in service.log.read_text()
