"""frontend: the dashboard page, and the way from it to the four APIs under the page's own origin.

Knows: which prefix leads to which service. Must not know: what the services answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from ops.sample.client import Unreachable, fetch
from ops.sample.page import PAGE
from ops.sample.places import url_of
from ops.sample.routes import Handler, Routes, health_of
from ops.sample.wire import Request, Response, refusal

READ_TIME = 2.0
RUN_TIME = 4.0  # a reconciliation asks two others first, 1.5 s at most, and syncs to disk

PAGE_HEADERS = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "connect-src 'self'; img-src data:; frame-ancestors 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
)


def app(environ: Mapping[str, str]) -> Routes:
    """frontend: `/`, `/health`, and `/api/pg/…`, `/api/bank/…`, `/api/recon/…`, `/api/overview/…`.

    `/api/recon/jobs` leads to `/recon/jobs`; the other prefixes are simply cut off.
    """
    ways = {
        "/api/pg/": url_of("pg-api", environ) + "/",
        "/api/bank/": url_of("bank-api", environ) + "/",
        "/api/recon/": url_of("recon-api", environ) + "/recon/",
        "/api/overview/": url_of("overview-api", environ) + "/",
    }
    proxies = [(verb, f"{way}*", _proxy(base)) for way, base in ways.items() for verb in ("GET", "POST")]
    return Routes(
        ("GET", "/", lambda *_: Response(200, PAGE.encode(), "text/html; charset=utf-8", PAGE_HEADERS)),
        ("GET", "/health", lambda *_: health_of("frontend")),
        *proxies,
    )


def _proxy(base: str) -> Handler:
    def pass_on(request: Request, rest: str) -> Response:
        method = "POST" if request.method == "POST" else "GET"
        url = base + rest + (f"?{request.query}" if request.query else "")
        try:
            answer = fetch(url, RUN_TIME if method == "POST" else READ_TIME, method=method, body=request.body)
        except Unreachable as why:
            return refusal(504 if why.late else 502, f"{base}: {why}", reachable=False)
        return Response(answer.status, answer.body, answer.type or "application/octet-stream")

    return pass_on
