"""The sample stack as it ships: real processes, asked over real sockets.

Where a Mac differs: `ps` is used instead of /proc, so these should run there too (not tried yet).
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sample import FAULTY, ROOT, Start, starting
from tests.waiting import free_port, until

COUNTS = {
    "payments": 240,
    "credits": 222,
    "matched": 210,
    "amount_mismatch": 4,
    "missing_in_bank": 6,
    "missing_in_pg": 5,
    "duplicates": 3,
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as begin:
        yield begin


@pytest.fixture
def sources(start: Start) -> dict[str, str]:
    """pg-api and bank-api, as the environment that leads to them."""
    both = {"PG_API_URL": start("pg-api").ready(), "BANK_API_URL": start("bank-api").ready()}
    return {variable: f"http://127.0.0.1:{service.port}" for variable, service in both.items()}


@pytest.mark.parametrize("name", ["frontend", "recon-api", "overview-api", "pg-api", "bank-api"])
def test_each_service_says_who_it_is_soon_after_exec(start: Start, name: str) -> None:
    path = "/recon/health" if name == "recon-api" else "/health"
    began = time.monotonic()
    service = start(name).ready()
    assert time.monotonic() - began < 5  # 45 ms on an idle machine; the bound is for a busy one
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


def test_the_sample_imports_nothing_of_the_toolkit() -> None:
    code = (
        "import sys, ops.sample.__main__, ops.sample.frontend, ops.sample.recon, ops.sample.faults\n"
        "print(sorted(m for m in sys.modules if m.startswith('ops.') and not m.startswith('ops.sample')))"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert shown.strip() == "[]"
