"""HTTP/1.1 messages as values: bytes in, Request out; Response in, bytes out.

Knows: the grammar (RFC 9112) as far as five small JSON services need it. Must not know: sockets, routes.

Not `http.server`: importing it alone takes 35 ms.
"""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 64 * 1024

PHRASES = {
    200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}  # fmt: skip


class Request(NamedTuple):
    """One request. `path` is without the query; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    keep_alive: bool
    body: bytes = b""


class Response(NamedTuple):
    """One answer; Content-Length, Date and Connection are added by `render`."""

    status: int
    body: bytes
    type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Malformed(Exception):
    """A request that cannot be served: answered with `status`, then the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def reply(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(value).encode() + b"\n")


def refusal(status: int, message: str, **more: Any) -> Response:
    """A JSON answer that says what went wrong under `error`."""
    return reply({"error": message, **more}, status)


def parse_head(block: bytes) -> Request:
    """The request whose head is `block` (all up to the empty line), without body. Malformed if it is none."""
    first, *rest = block.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/"):
        raise Malformed(400, "the first line is not METHOD TARGET HTTP/1.1")
    method, target, version = words
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise Malformed(505, f"{version[:20]} is not spoken here, HTTP/1.1 is")
    headers = parse_headers(rest)
    if version == "HTTP/1.1" and "host" not in headers:
        raise Malformed(400, "HTTP/1.1 wants a Host header")
    path, _, query = _origin_form(target).partition("?")
    return Request(method, path, query, headers, _keeps_alive(version, headers))


def parse_headers(lines: list[str]) -> dict[str, str]:
    """Header lines as a mapping; a repeated name joins its values by commas (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(400, "a header line is not NAME: VALUE")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _origin_form(target: str) -> str:
    if target.startswith("/"):
        return target
    if target.lower().startswith("http://"):  # servers must accept this form too (RFC 9112, 3.2.2)
        return "/" + target[len("http://") :].partition("/")[2]
    raise Malformed(400, "the target does not begin with /")


def _keeps_alive(version: str, headers: dict[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    return "keep-alive" in wish if version == "HTTP/1.0" else "close" not in wish


def body_length(request: Request) -> int:
    """How many bytes of body follow the head. Malformed when that is unclear or more than BODY_LIMIT."""
    if "transfer-encoding" in request.headers:
        raise Malformed(501, "send a Content-Length: chunked requests are not understood here")
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):  # also refuses "5, 6": two lengths smuggle requests
        raise Malformed(400, "Content-Length is not a number")
    if len(text) > 9 or int(text) > BODY_LIMIT:
        raise Malformed(413, f"a body may have {BODY_LIMIT} bytes")
    return int(text)


def render(response: Response, *, head_only: bool, keep_alive: bool) -> bytes:
    """The answer as bytes; `head_only` for HEAD: the same headers, no body."""
    lines = [
        f"HTTP/1.1 {response.status} {PHRASES.get(response.status, 'Unknown')}",
        f"Content-Type: {response.type}",
        f"Content-Length: {len(response.body)}",
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        "Cache-Control: no-store",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + response.body
