"""Probes over https against real TLS servers with a certificate made here."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.host.probes import Question, ask
from ops.model import Probe, Reading

from .probe_server import Behaviour, Line, answering, saying, serving, silent
from .waiting import free_port, until

Tls = Callable[[Behaviour], Behaviour]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate for localhost in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate, both = (str(folder / name) for name in ("key", "certificate", "both"))
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True, timeout=30)
    Path(both).write_text(Path(key).read_text() + Path(certificate).read_text())
    return Path(both)


@pytest.fixture
def tls(certificate: Path) -> Tls:
    """Puts TLS in front of a behaviour."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def secured(behaviour: Behaviour) -> Behaviour:
        def behave(line: Line) -> None:
            with context.wrap_socket(line.connection, server_side=True) as connection:
                line.connection = connection
                behaviour(line)

        return behave

    return secured


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def asked_at(port: int, timeout: float = 5.0, **wanted: object) -> Reading:
    probe = Probe("http", f"https://127.0.0.1:{port}/health", 1.0, timeout, **wanted)  # type: ignore[arg-type]
    (reading,) = ask([Question(probe)])
    return reading


def asked_of(behaviour: Behaviour, timeout: float = 5.0, **wanted: object) -> Reading:
    with serving(behaviour) as server:
        return asked_at(server.port, timeout, **wanted)


@pytest.mark.usefixtures("trusted")
def test_answers_are_judged_as_over_http(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    fine = asked_of(tls(answering(b'{"status": "healthy"}')), json={"status": "healthy"})
    assert (fine.ok, fine.detail) == (True, "HTTP 200")
    assert asked_of(tls(answering(status="500 Oops"))).detail == "HTTP 500, wanted 200-399"
    assert asked_of(tls(answering(status="302 Found", more="Location: https://127.0.0.1:1/\r\n"))).ok
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\n \r\n0\r\n\r\n"
    assert asked_of(tls(saying(chunked)), json={}).ok
    huge = asked_of(tls(answering(b"x" * 200_000)), body="absent")
    assert huge.detail == 'first 64 KiB of the body lacks "absent"'


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("text", "answered", "detail"), [
    (b"", False, "connection closed before an answer"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True, "connection closed, the answer is not"),
    (b"garbage\r\n\r\n", True, "not HTTP: garbage"),
])  # fmt: skip
def test_broken_answers(tls: Tls, text: bytes, answered: bool, detail: str) -> None:
    reading = asked_of(tls(saying(text)))
    assert (reading.ok, reading.answered) == (False, answered)
    assert reading.detail.startswith(detail)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_f6_a_drip_fails_at_the_timeout_and_its_thread_ends(tls: Tls, beginning: bytes) -> None:
    def behaviour(line: Line) -> None:
        line.request()
        line.say(beginning)
        line.drip(b"x" if beginning else b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 9999)

    with serving(tls(behaviour)) as server:
        reading = asked_at(server.port, timeout=0.5)
        until(lambda: "probe errand" not in [thread.name for thread in threading.enumerate()], within=2)
    assert (reading.ok, reading.answered, reading.detail) == (False, False, "no answer in 0.5 s")
    assert 0.4 <= reading.seconds < 5


def test_f6_no_handshake_is_no_answer() -> None:
    began = time.monotonic()
    reading = asked_of(silent, timeout=0.5)
    assert (reading.ok, reading.answered, reading.detail) == (False, False, "no answer in 0.5 s")
    assert time.monotonic() - began < 5


def test_a_certificate_nobody_trusts_is_no(tls: Tls) -> None:
    reading = asked_of(tls(answering()))
    assert (reading.ok, reading.answered) == (False, True)
    assert reading.detail.startswith("certificate not trusted: self")


def test_refused_and_no_tls_at_all() -> None:
    refused = asked_at(free_port())
    assert (refused.ok, refused.answered, refused.detail) == (False, False, "connection refused")

    def without_tls(line: Line) -> None:
        line.connection.recv(4096)
        line.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    plain = asked_of(without_tls)
    assert (plain.ok, plain.answered) == (False, True)
    assert plain.detail.startswith("no TLS: ")


def test_f51_a_failing_resolver_says_nothing_about_the_service() -> None:
    (reading,) = ask([Question(Probe("http", "https://no-such-host.invalid/", 1.0, 5.0))])
    assert (reading.ok, reading.answered) == (None, False)
