"""The sample stack as it ships: real processes, asked over real sockets.

Where a Mac differs: `ps` is used instead of /proc, so these should run there too (not tried yet).
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.waiting import free_port, until

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {
    "payments": 240,
    "credits": 222,
    "matched": 210,
    "amount_mismatch": 4,
    "missing_in_bank": 6,
    "missing_in_pg": 5,
    "duplicates": 3,
}
FAULTY = {"OPS_SAMPLE_FAULTS": "1"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """One service that a test has started."""

    def __init__(self, name: str, port: int, folder: Path, env: dict[str, str], *more: str) -> None:
        self.port = port
        self.log = folder / f"{name}-{port}.log"
        # The folder is the current one, so that nothing can be left in the checkout.
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.sample", name, "--port", str(port), *more],
                cwd=folder, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, timeout: float = 8.0) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            client.request(method, path, body)
            answer = client.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            client.close()

    def raw(self, request: bytes) -> bytes:
        """All that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(4096), b""))

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def ready(self) -> Running:
        until(lambda: self.accepts() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services; whatever still runs at the end is killed, by its own handle."""
    started: list[Running] = []

    def begin(name: str, *more: str, port: int | None = None, **env: str) -> Running:
        started.append(Running(name, port or free_port(), tmp_path, env, *more))
        return started[-1]

    yield begin
    for service in started:
        service.process.kill()
        service.process.wait()


@pytest.fixture
def sources(start: Start) -> dict[str, str]:
    """pg-api and bank-api, as the environment that leads to them."""
    both = {"PG_API_URL": start("pg-api").ready(), "BANK_API_URL": start("bank-api").ready()}
    return {variable: f"http://127.0.0.1:{service.port}" for variable, service in both.items()}


def state_of(pid: int) -> str:
    """The process state as `ps` names it; "" when there is no such process or only its corpse."""
    seen = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return "" if seen.startswith("Z") else seen.strip()


@pytest.mark.parametrize("name", ["frontend", "recon-api", "overview-api", "pg-api", "bank-api"])
def test_each_service_says_who_it_is_soon_after_exec(start: Start, name: str) -> None:
    path = "/recon/health" if name == "recon-api" else "/health"
    began = time.monotonic()
    service = start(name).ready()
    assert time.monotonic() - began < 1.5  # 45 ms on an idle machine; the bound is for a busy one
    health = service.ask(path).json
    assert (health["status"], health["service"]) == ("healthy", name)
    pid = service.process.pid
    assert health["pid"] == pid
    assert service.log.read_text().startswith(f"{name} listening on 127.0.0.1:{service.port} pid {pid}\n")


def test_a_job_finds_the_mismatches_that_were_built_in(start: Start, sources: dict[str, str]) -> None:
    recon = start("recon-api", **sources).ready()
    answer = recon.ask("/recon/jobs/demo", "POST")
    assert answer.status == 201
    job = answer.json
    assert job["status"] == "completed"
    assert job["counts"] == COUNTS
    kinds = [row["kind"] for row in job["exceptions"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict(list(COUNTS.items())[3:])
    assert recon.ask(f"/recon/jobs/{job['id']}").json == job
    assert recon.ask("/recon/jobs/job-of-nobody").status == 404


def test_the_mock_money_is_the_same_in_every_process(start: Start) -> None:
    first, second = start("bank-api").ready().ask("/credits"), start("bank-api").ready().ask("/credits")
    assert first.body == second.body
    payments = start("pg-api").ready().ask("/payments").json["payments"]
    assert len({row["id"] for row in payments}) == len({row["utr"] for row in payments}) == 240
    assert all(type(row["amount"]) is int and row["currency"] == "INR" for row in payments)


def test_what_was_answered_201_is_there_after_sigkill(start: Start, sources: dict[str, str]) -> None:
    recon = start("recon-api", **sources).ready()
    older = recon.ask("/recon/jobs/demo", "POST").json["id"]
    newer = recon.ask("/recon/jobs/demo", "POST").json["id"]
    assert recon.end(signal.SIGKILL) == -signal.SIGKILL
    again = start("recon-api", port=recon.port, **sources).ready()
    listed = again.ask("/recon/jobs").json
    assert [job["id"] for job in listed["jobs"]] == [newer, older]
    assert [job["id"] for job in again.ask("/recon/jobs?limit=1").json["jobs"]] == [newer]
    assert again.ask("/recon/jobs?limit=some").status == 400


def test_ids_are_unique_under_concurrency(start: Start, sources: dict[str, str]) -> None:
    recon = start("recon-api", **sources).ready()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: recon.ask("/recon/jobs/demo", "POST"), range(36)))
    assert [answer.status for answer in answers] == [201] * 36
    listed = recon.ask("/recon/jobs").json
    assert {job["id"] for job in listed["jobs"]} == {answer.json["id"] for answer in answers}
    assert listed["count"] == 36


def test_a_source_that_is_down_costs_the_job_not_the_health(start: Start, sources: dict[str, str]) -> None:
    sources["BANK_API_URL"] = f"http://127.0.0.1:{free_port()}"
    recon = start("recon-api", **sources).ready()
    answer = recon.ask("/recon/jobs/demo", "POST")
    assert answer.status == 502
    assert answer.json["upstreams"] == {"bank-api": "connection refused"}
    assert recon.ask("/recon/jobs").json == {"count": 0, "jobs": []}
    assert recon.ask("/recon/health").json["status"] == "healthy"


def test_a_source_that_hangs_is_waited_for_shortly(start: Start, sources: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sources["PG_API_URL"] = f"http://127.0.0.1:{mute.getsockname()[1]}"
        recon = start("recon-api", **sources).ready()
        began = time.monotonic()
        answer = recon.ask("/recon/jobs/demo", "POST")
    assert (answer.status, answer.json["upstreams"]) == (502, {"pg-api": "no answer within 1.5 s"})
    assert time.monotonic() - began < 4


def test_it_answers_without_a_data_folder(start: Start, sources: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # a folder below a file: impossible for root too
    recon = start("recon-api", OPS_SAMPLE_DATA=str(tmp_path / "file" / "below"), **sources).ready()
    health = recon.ask("/recon/health")
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert recon.ask("/recon/jobs/demo", "POST").status == 503
    (tmp_path / "file").unlink()
    assert recon.ask("/recon/health").json["status"] == "healthy"
    assert recon.ask("/recon/jobs/demo", "POST").status == 201


def test_the_overview_is_partial_when_somebody_is_missing(start: Start, sources: dict[str, str]) -> None:
    recon = start("recon-api", **sources).ready()
    overview = start("overview-api", RECON_API_URL=f"http://127.0.0.1:{recon.port}", **sources).ready()
    recon.ask("/recon/jobs/demo", "POST")
    whole = overview.ask("/overview").json
    assert (whole["status"], whole["notes"]) == ("complete", [])
    assert whole["recon"]["last"]["counts"] == COUNTS
    assert whole["difference"] == whole["payments"]["amount"] - whole["credits"]["amount"] > 0
    recon.end()
    part = overview.ask("/overview")
    assert (part.status, part.json["status"], part.json["recon"]) == (200, "partial", None)
    assert part.json["notes"] == ["recon-api: connection refused"]
    assert part.json["payments"] == whole["payments"]


def test_the_dashboard_reaches_the_apis_through_its_own_origin(start: Start, sources: dict[str, str]) -> None:
    recon = start("recon-api", **sources).ready()
    nobody = f"http://127.0.0.1:{free_port()}"
    urls = {"RECON_API_URL": f"http://127.0.0.1:{recon.port}", "OVERVIEW_API_URL": nobody, **sources}
    frontend = start("frontend", **urls).ready()
    page = frontend.ask("/")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    assert b"<title>SettlePaisa" in page.body
    assert b"http://" not in page.body and b"https://" not in page.body  # self-contained
    assert frontend.ask("/api/recon/jobs/demo", "POST").status == 201
    assert frontend.ask("/api/recon/jobs?limit=1").json["count"] == 1
    assert frontend.ask("/api/pg/payments/summary").json["count"] == 220
    assert frontend.ask("/api/bank/credits").json["count"] == 222
    down = frontend.ask("/api/overview/overview")
    assert (down.status, down.json["reachable"]) == (502, False)


def test_the_request_in_flight_is_finished_on_term(start: Start) -> None:
    service = start("pg-api", OPS_SAMPLE_SLOW="0.5", **FAULTY).ready()
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    client.request("POST", "/faults/slow")
    assert client.getresponse().read()
    client.request("GET", "/payments")  # on the connection already served: it is there before the signal
    service.process.terminate()
    answer = client.getresponse()
    assert (answer.status, len(json.loads(answer.read())["payments"])) == (200, 240)
    assert answer.getheader("Connection") == "close"
    client.close()
    assert service.process.wait(5) == 0
    assert not service.accepts()
    assert f"pg-api stopped pid {service.process.pid}" in service.log.read_text()


def test_term_is_obeyed_from_the_moment_the_port_is_open(start: Start) -> None:
    for _ in range(10):  # the window that this watches is short
        service = start("pg-api")
        until(service.accepts, every=0)
        assert service.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_client_does_not_hold_up_the_end(start: Start, number: int) -> None:
    service = start("pg-api").ready()
    with socket.create_connection(("127.0.0.1", service.port), 5) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Connection: keep-alive" in idle.recv(4096)
        began = time.monotonic()
        assert service.end(number) == 0
        assert time.monotonic() - began < 2  # not the 3 s that a request in flight may take


def test_a_taken_port_is_one_line_and_exit_1(start: Start) -> None:
    service = start("pg-api").ready()
    second = start("bank-api", port=service.port)
    assert second.process.wait(5) == 1
    (line,) = second.log.read_text().splitlines()
    assert line.startswith(f"bank-api cannot listen on 127.0.0.1:{service.port}: ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x00\xff\xfe\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /health HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000, 413),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 40000, 431),
    ],
)
def test_malformed_requests_are_refused_and_survived(start: Start, request_bytes: bytes, status: int) -> None:
    service = start("pg-api").ready()
    answer = service.raw(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in answer and b'{"error": ' in answer
    assert service.ask("/health").status == 200


def test_head_unknown_paths_and_wrong_methods(start: Start) -> None:
    service = start("pg-api").ready()
    whole, head = service.ask("/payments"), service.ask("/payments", "HEAD")
    assert head.status == 200
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(whole.body))
    bare = service.raw(b"HEAD /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert bare.endswith(b"\r\n\r\n")  # http.client would not show a body
    assert service.ask("/nothing").status == 404
    wrong = service.ask("/payments", "POST", b"{}")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD")
    assert "error" in wrong.json


def test_one_connection_serves_many_requests_also_sent_together(start: Start) -> None:
    service = start("pg-api").ready()
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    answer = service.raw((ask + b"\r\n") * 2 + ask + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert service.raw(b"GET /health HTTP/1.0\r\n\r\n").count(b"Connection: close") == 1


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


def test_the_sample_imports_nothing_of_the_toolkit() -> None:
    code = (
        "import sys, ops.sample.__main__, ops.sample.frontend, ops.sample.recon, ops.sample.faults\n"
        "print(sorted(m for m in sys.modules if m.startswith('ops.') and not m.startswith('ops.sample')))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert shown.strip() == "[]"
