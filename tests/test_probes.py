"""Probes over http and tcp against real servers, good and bad."""

from __future__ import annotations

import errno
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ops.host.probe_dial import unreachable
from ops.host.probes import Question, ask
from ops.host.sockets import met_itself
from ops.model import Probe, Reading

from .probe_server import Line, Server, answering, bound, saying, serving, silent
from .waiting import free_port

HEAD = b"HTTP/1.1 200 OK\r\n"


def http(target: str = "/health", timeout: float = 5.0, **wanted: Any) -> Probe:
    return Probe("http", target, every=1.0, timeout=timeout, **wanted)


def asked(server: Server | int, **wanted: Any) -> Reading:
    port = server if isinstance(server, int) else server.port
    (reading,) = ask([Question(http(**wanted), port)])
    return reading


def asked_of(behaviour: Callable[[Line], None], **wanted: Any) -> Reading:
    with serving(behaviour) as server:
        return asked(server, **wanted)


def test_a_healthy_service_is_ok() -> None:
    reading = asked_of(answering(b'{"status": "healthy", "up": 1}'), json={"status": "healthy"})
    assert (reading.ok, reading.answered, reading.detail) == (True, True, "HTTP 200")
    assert reading.name == "GET /health" and reading.restart
    assert 0 < reading.seconds < 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_request_is_what_local_services_understand(method: str) -> None:
    heard: list[bytes] = []

    def behaviour(line: Line) -> None:
        heard.append(line.request())
        line.say(HEAD + b"Content-Length: 0\r\n\r\n")

    with serving(behaviour) as server:
        assert asked(server, target="/a b?q=ü", method=method).ok
        host = f"Host: localhost:{server.port}".encode()
    first, *fields = heard[0].split(b"\r\n")
    assert first == method.encode() + b" /a%20b?q=%C3%BC HTTP/1.1"
    assert {host, b"Connection: close", b"Accept-Encoding: identity", b"User-Agent: ops-probe"} <= set(fields)
    assert (b"Content-Length: 0" in fields) == (method == "POST")


def test_f7_a_wrong_answer_says_what_was_seen_and_wanted() -> None:
    degraded = answering(b'{"status": "degraded"}')
    cases = [
        (answering(status="500 Oops"), {}, "HTTP 500, wanted 200-399"),
        (answering(), {"status": ((201, 201), (204, 206))}, "HTTP 200, wanted 201, 204-206"),
        (degraded, {"json": {"status": "healthy"}}, 'status is "degraded", wanted "healthy"'),
        (answering(b"<h1>Other app"), {"body": "SettlePaisa"}, 'body lacks "SettlePaisa"'),
        (answering(b"<h1>Other app"), {"body": "~Settle ?Paisa"}, 'body lacks "~Settle ?Paisa"'),
        (answering(b"<h1>Other app"), {"json": {}}, 'the body is not JSON: "<h1>Other app"'),
        (answering(), {"header": {"X-App": "recon"}}, 'header X-App is missing, wanted "recon"'),
        (answering(more="x-app: bank\r\n"), {"header": {"X-App": "recon"}},
         'header X-App is "bank", wanted "recon"'),
    ]  # fmt: skip
    for behaviour, wanted, detail in cases:
        reading = asked_of(behaviour, **wanted)
        assert (reading.ok, reading.answered, reading.detail) == (False, True, detail)


def test_what_is_wanted_of_text_and_headers_is_found() -> None:
    page = answering(b"<h1>SettlePaisa</h1>", more="X-App: recon\r\n")
    assert asked_of(page, body="SettlePaisa", header={"x-app": "recon"}).ok
    assert asked_of(page, body="~Settle.aisa", header={"X-APP": "~^re"}).ok
    latin = answering("hü".encode("latin-1"), more="Content-Type: a/b; charset=latin-1\r\n")
    assert asked_of(latin, body="hü").ok


def test_redirects_are_not_followed() -> None:
    with serving(answering(status="302 Found", more="Location: http://127.0.0.1:1/\r\n")) as server:
        assert asked(server).detail == "HTTP 302"
        assert server.accepted == 1


@pytest.mark.parametrize("text", [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5\r\n\": 1}\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n{\"a\": 1}",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
])  # fmt: skip
def test_every_framing_of_http_is_read(text: bytes) -> None:
    assert asked_of(saying(text), json={"a": 1}).detail == "HTTP 200"


@pytest.mark.parametrize(("text", "answered", "detail"), [
    (b"", False, "connection closed before an answer"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True, "connection closed after 41 bytes"),
    (b"HTTP/1.1 2", True, "connection closed after 10 bytes"),
    (b"SSH-2.0-x\x1b[31m\r\n\r\n", True, 'not HTTP: "SSH-2.0-x\\x1b[31m\\r\\n\\r\\n"'),
    (b"HTTP/1.1 200 OK\r\nContent-Length: minus\r\n\r\n", True, "broken HTTP: "),
])  # fmt: skip
def test_broken_answers(text: bytes, answered: bool, detail: str) -> None:
    reading = asked_of(saying(text))
    assert (reading.ok, reading.answered) == (False, answered)
    assert reading.detail.startswith(detail)


def test_control_characters_and_length_of_a_detail_are_tamed() -> None:
    reading = asked_of(answering(b'"\\u001b[2J\\u202e' + b"x" * 999 + b'"'), json="ok")
    assert reading.detail.isprintable() and len(reading.detail) <= 160
    assert reading.detail.endswith('wanted "ok"')


def test_endless_headers_end() -> None:
    def behaviour(line: Line) -> None:
        line.request()
        line.say(HEAD)
        while not line.over.is_set():
            line.say(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    reading = asked_of(behaviour)
    assert (reading.ok, reading.answered) == (False, True)
    assert reading.detail.startswith("broken HTTP") and reading.seconds < 4


def test_a_huge_body_is_judged_by_its_first_64_kib() -> None:
    def behaviour(line: Line) -> None:
        line.request()
        line.say(HEAD + b"\r\nSettlePaisa")
        while not line.over.is_set():
            line.say(b"x" * 65536)

    assert asked_of(behaviour, body="SettlePaisa").detail == "HTTP 200"
    assert asked_of(behaviour, body="absent").detail == 'first 64 KiB of the body lacks "absent"'
    assert asked_of(behaviour, json={}).detail == "the JSON is longer than 64 KiB and was not read"


@pytest.mark.parametrize("beginning", [b"", HEAD + b"Content-Length: 9999\r\n\r\n", HEAD + b"\r\n"])
def test_f6_a_drip_fails_at_the_timeout(beginning: bytes) -> None:
    def behaviour(line: Line) -> None:
        line.request()
        line.say(beginning)
        line.drip(b"x" if beginning else HEAD + b"X-Filler: " + b"x" * 9999)

    reading = asked_of(behaviour, timeout=0.4)
    assert (reading.ok, reading.answered) == (False, False)
    assert reading.detail.startswith("dripped ") and 0.4 <= reading.seconds < 5


def test_f6_accepted_and_never_answered() -> None:
    reading = asked_of(silent, timeout=0.3)
    assert (reading.ok, reading.answered, reading.detail) == (False, False, "no answer in 0.3 s")
    assert 0.3 <= reading.seconds < 5


def test_f6_a_full_backlog_is_no_answer() -> None:
    with bound(socket.AF_INET) as listener:
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        reading = asked(listener.getsockname()[1], timeout=0.3)
        for one in waiting:
            one.close()
    assert (reading.ok, reading.answered) == (False, False)
    assert reading.detail.startswith("no answer in 0.3 s")


def test_reset_before_an_answer() -> None:
    def behaviour(line: Line) -> None:
        line.request()
        line.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.connection.close()

    reading = asked_of(behaviour)
    assert (reading.ok, reading.answered) == (False, False)
    assert reading.detail == "connection reset by peer before an answer"


def test_refused_on_both_families() -> None:
    port = free_port()
    for reading in ask([Question(http(), port), Question(Probe("tcp", str(port), 1, 2))]):
        assert (reading.ok, reading.answered) == (False, False)
        assert reading.detail == f"connection refused on 127.0.0.1:{port} and [::1]:{port}"


@pytest.mark.parametrize("families", [
    (socket.AF_INET,), (socket.AF_INET6,), (socket.AF_INET, socket.AF_INET6),
])  # fmt: skip
def test_f27_either_family_will_do(families: tuple[socket.AddressFamily, ...]) -> None:
    with serving(answering(), *families) as server:
        tcp = Probe("tcp", str(server.port), 1, 2)
        url = http(f"http://localhost:{server.port}/")
        readings = ask([Question(http(), server.port), Question(tcp), Question(url)])
    assert [reading.ok for reading in readings] == [True, True, True]
    place = "127.0.0.1" if socket.AF_INET in families else "[::1]"
    assert readings[1].detail == f"accepts connections on {place}:{server.port}"


def test_a_port_that_answers_itself_is_nobody() -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.connect(line.getsockname())
        assert met_itself(line)
    with serving(silent) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        assert not met_itself(line)


def test_a_machine_without_ipv6_still_says_refused() -> None:
    v4 = (socket.AF_INET, ("127.0.0.1", 1))
    v6 = (socket.AF_INET6, ("::1", 1))
    absent = unreachable([(v4, errno.ECONNREFUSED), (v6, errno.EADDRNOTAVAIL)])
    assert (absent.ok, absent.detail) == (False, "connection refused on 127.0.0.1:1")
    assert unreachable([(v4, errno.EADDRNOTAVAIL), (v6, errno.ECONNREFUSED)]).ok is None
    assert unreachable([(v4, errno.EHOSTUNREACH)]).ok is False


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering(status="502 Proxy")) as proxy, serving(answering()) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert asked(server).detail == "HTTP 200"
        assert proxy.accepted == 0


def test_f51_a_failing_resolver_says_nothing_about_the_service() -> None:
    reading = asked(1, target="http://no-such-host.invalid/", timeout=3.0)
    assert (reading.ok, reading.answered) == (None, False)
    assert "no-such-host.invalid was not resolved" in reading.detail


@pytest.mark.parametrize("target", ["http://[::1/", "http:///x", "http://localhost:99999/", "ftp:x"])
def test_f51_a_target_that_is_none_says_nothing_about_the_service(target: str) -> None:
    assert asked(1, target=target).ok is None


def test_f51_a_pattern_that_is_none_says_nothing_about_the_service() -> None:
    assert asked_of(answering(), body="~(").ok is None
    (reading,) = ask([Question(http(), None)])
    assert (reading.ok, "has no port" in reading.detail) == (None, True)


def test_f51_no_descriptors_left_says_nothing_about_the_service() -> None:
    with serving(answering()) as server:
        assert asked(server).ok
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            command = Probe("command", "", 1, 1, command=("true",))
            url = http("http://x.invalid")
            readings = ask([Question(http(), server.port), Question(command), Question(url)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [reading.ok for reading in readings] == [None, None, None]
    assert all("too many open files" in reading.detail.lower() for reading in readings)
