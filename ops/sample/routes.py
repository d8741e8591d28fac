"""Which function answers which request.

Knows: methods and paths. Must not know: sockets, what the functions do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from ops.sample.wire import Request, Response, refusal, reply

# What a server asks. None means: never answer this one (only the fault `hang` does that).
App = Callable[[Request], Response | None]
# What a route names: the request, and what the `*` at the end of its pattern stood for ("" without one).
Handler = Callable[[Request, str], Response]

STARTED = time.monotonic()


class Routes:
    """A table of (method, path, handler), tried in order; GET answers HEAD too. Else 404, or 405."""

    def __init__(self, *table: tuple[str, str, Handler]) -> None:
        self._table = table

    def __call__(self, request: Request) -> Response:
        wanted = "GET" if request.method == "HEAD" else request.method
        allowed = []
        for method, pattern, handler in self._table:
            rest = _match(pattern, request.path)
            if rest is None:
                continue
            if method == wanted:
                return handler(request, rest)
            allowed.append(method)
        return _not_allowed(allowed) if allowed else refusal(404, f"there is nothing at {request.path}")


def _match(pattern: str, path: str) -> str | None:
    if not pattern.endswith("*"):
        return "" if path == pattern else None
    stem = pattern[:-1]
    return path[len(stem) :] if path.startswith(stem) else None


def _not_allowed(allowed: list[str]) -> Response:
    verbs = sorted(set(allowed) | ({"HEAD"} if "GET" in allowed else set()))
    answer = refusal(405, f"allowed here: {', '.join(verbs)}")
    return answer._replace(headers=(("Allow", ", ".join(verbs)),))


def health_of(name: str, **more: Any) -> Response:
    """What `/health` says: well, who, since how many seconds. `more` may overwrite `status`."""
    about = {"status": "healthy", "service": name, "pid": os.getpid()}
    return reply({**about, "uptime": round(time.monotonic() - STARTED, 3), **more})
