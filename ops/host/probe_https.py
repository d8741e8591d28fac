"""HTTPS: one request through requests, in a thread, because TLS and its certificates are that library's
business.

Knows: requests (this is its one door for probes), certificates' trust, how its many exceptions map to a
finding. Must not know: selectors' owners, what a verdict leads to.

Trusted are the certificates of certifi, of the machine's own store, and of $SSL_CERT_FILE. No proxy, no
.netrc, no redirect.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from ops.host.probe_dial import OWN_FAULTS
from ops.host.probe_http import AGENT
from ops.host.probe_verdict import BODY_LIMIT, Answer, Finding, could_not_ask, judge
from ops.host.probe_wires import Errand, Wires, strerror
from ops.model import Probe


class HttpsTalk:
    """Asks one https URL. The thread ends by itself soon after the deadline, whatever the server does."""

    tick = None

    def __init__(self, probe: Probe, url: str, wires: Wires) -> None:
        self._probe = probe
        deadline = time.monotonic() + probe.timeout
        self._errand = Errand(lambda: fetch(probe.method, url, deadline), wires)

    def advance(self) -> Finding | None:
        import requests

        try:
            answer = self._errand.result()
        except (requests.RequestException, OSError, ValueError) as error:
            return failed(error, self._probe.timeout)
        return None if answer is None else judge(self._probe, answer)

    def late(self, seconds: float) -> Finding:
        return Finding(False, f"no answer in {seconds:g} s", answered=False)

    def close(self) -> None:
        self._errand.close()


def fetch(method: str, url: str, deadline: float) -> Answer:
    """The answer, with at most BODY_LIMIT of its body. Blocks until `deadline` (time.monotonic) at the
    latest, name resolution aside. Raises what requests raises."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _adapter(deadline))
        session.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity", "Connection": "close"})
        patience = max(deadline - time.monotonic(), 0.001)
        with session.request(method, url, stream=True, allow_redirects=False, timeout=patience) as response:
            body = bytearray()
            for chunk in response.iter_content(BODY_LIMIT):
                body += chunk
                if len(body) > BODY_LIMIT:
                    break
            head = (response.status_code, tuple(response.headers.items()))
            return Answer(*head, bytes(body[:BODY_LIMIT]), whole=len(body) <= BODY_LIMIT)


def _adapter(deadline: float) -> Any:
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, ssl_context=_context(deadline), **options)

    return Bounded(max_retries=0)


def _context(deadline: float) -> ssl.SSLContext:
    """requests bounds each read, and a dripping server makes thousands of them: here all end together."""

    class InTime(ssl.SSLSocket):
        def recv_into(self, *args: Any, **options: Any) -> int:
            self.settimeout(max(deadline - time.monotonic(), 0.001))
            return super().recv_into(*args, **options)

    context = ssl.create_default_context()
    context.sslsocket_class = InTime
    return context


def failed(error: Exception, seconds: float) -> Finding:
    """What an exception of requests says about the service, which was given `seconds`.

    Told by its causes: requests folds refused, reset and unresolved into one ConnectionError.
    """
    causes = list(_causes(error))
    for kind, words, answered in _SAYINGS:
        for cause in causes:
            if isinstance(cause, kind):
                return Finding(False, words.format(cause=cause, seconds=seconds), answered)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return could_not_ask("the name was not resolved")
    return _by_number(error, next((c.errno for c in causes if isinstance(c, OSError) and c.errno), 0))


# The first kind that is among the causes decides: (kind, what is said, whether the service said something).
_SAYINGS: tuple[tuple[type[Exception], str, bool], ...] = (
    (ssl.SSLCertVerificationError, "certificate not trusted: {cause.verify_message}", True),
    (TimeoutError, "no answer in {seconds:g} s", False),
    (ssl.SSLEOFError, "connection closed before an answer", False),
    (ssl.SSLError, "no TLS: {cause.reason}", True),
    (http.client.IncompleteRead, "connection closed, the answer is not complete", True),
    (http.client.RemoteDisconnected, "connection closed before an answer", False),
    (http.client.HTTPException, "not HTTP: {cause}", True),
)


def _by_number(error: Exception, number: int) -> Finding:
    if number in OWN_FAULTS:
        return could_not_ask(strerror(number))
    if number:
        return Finding(False, strerror(number), answered=False)
    return could_not_ask(str(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything it wraps, by any of the three ways that requests and urllib3 use."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
