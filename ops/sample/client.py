"""Asking another service over HTTP, with a total deadline.

Knows: one question, one answer. Must not know: who is asked, or why.

Speaks HTTP/1.0, so an answer ends with the connection and is never chunked.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ops.sample.wire import Malformed, parse_headers

ANSWER_LIMIT = 16 * 1024 * 1024


class Answer(NamedTuple):
    """What came back, whatever the status."""

    status: int
    type: str
    body: bytes


class Unreachable(Exception):
    """No usable answer; the text says why. `late`: somebody is there but did not answer in time."""

    def __init__(self, why: str, *, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


def fetch(url: str, timeout: float, *, method: str = "GET", body: bytes = b"") -> Answer:
    """The answer to one request, within `timeout` seconds in all; else Unreachable."""
    host, port, target = _parts(url)
    deadline = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout) as sock:
            sock.sendall(_question(method, target, f"{host}:{port}", body))
            return _parse(_read(sock, deadline))
    except TimeoutError:
        raise Unreachable(f"no answer within {timeout:g} s", late=True) from None
    except OSError as error:
        raise Unreachable((error.strerror or str(error)).lower()) from None


def fetch_json(url: str, timeout: float) -> Any:
    """The JSON document at `url`; Unreachable also when the status is not 200 or the body is not JSON."""
    answer = fetch(url, timeout)
    if answer.status != 200:
        raise Unreachable(f"answered {answer.status}, wanted 200")
    try:
        return json.loads(answer.body)
    except ValueError:
        raise Unreachable(f"answered {answer.type or 'something'} that is not JSON") from None


def fetch_all(urls: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """Every document by name, asked for at the same time; an Unreachable stands where there is none."""
    found: dict[str, Any] = {}

    def ask(name: str, url: str) -> None:
        try:
            found[name] = fetch_json(url, timeout)
        except Unreachable as why:
            found[name] = why

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in urls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: found[name] for name in urls}


def _parts(url: str) -> tuple[str, int, str]:
    from urllib.parse import urlsplit  # 5 ms that a service does not need until it asks somebody

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if host is None or parts.scheme != "http":
        raise Unreachable(f"{url} is not http://HOST:PORT/PATH")
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _question(method: str, target: str, host: str, body: bytes) -> bytes:
    lines = [f"{method} {target} HTTP/1.0", f"Host: {host}", "Accept: application/json"]
    if method != "GET":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _read(sock: socket.socket, deadline: float) -> bytes:
    data = bytearray()
    while len(data) <= ANSWER_LIMIT:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        piece = sock.recv(64 * 1024)
        if not piece:
            return bytes(data)
        data += piece
    raise Unreachable(f"answered more than {ANSWER_LIMIT} bytes")


def _parse(data: bytes) -> Answer:
    head, blank, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not blank or len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise Unreachable("answered something that is not HTTP, or nothing")
    try:
        headers = parse_headers(rest)
    except Malformed as mistake:
        raise Unreachable(f"answered badly: {mistake}") from None
    length = headers.get("content-length", str(len(body)))
    if length != str(len(body)):
        raise Unreachable(f"the answer was cut short: {len(body)} of {length} bytes")
    return Answer(int(words[1]), headers.get("content-type", ""), body)
