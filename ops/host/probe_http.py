"""HTTP without blocking: one request, one answer, one verdict.

Knows: HTTP/1.1 through h11 (this is its one door), what a request to a local service has to look like.
Must not know: the clock, TLS, what a verdict leads to.

No proxy, no .netrc, no redirect is followed: the service itself is asked, and nobody in its place.
"""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ops.frozen import frozen
from ops.host.probe_dial import OWN_FAULTS, Address, Dial, literal, resolve
from ops.host.probe_verdict import (
    BODY_LIMIT,
    Answer,
    Finding,
    could_not_ask,
    head_fault,
    judge,
    quoted,
)
from ops.host.probe_wires import READ, WRITE, Errand, Wires, strerror
from ops.model import Probe

if TYPE_CHECKING:
    import h11

AGENT = "ops-probe"
_HEAD_LIMIT = 64 * 1024  # bytes of status line and headers; h11 calls more than that a broken answer
_WITH_BODY = ("POST", "PUT", "PATCH")
# The same few are asked again and again, and a monitor that has slept finds its memory cold: every step counts.
_REMEMBERED = 2048


@frozen
class Where:
    """A URL taken apart. `authority` is what goes into the Host header, `target` into the request line."""

    host: str
    port: int
    authority: str
    target: str


@functools.lru_cache(_REMEMBERED)
def where(url: str) -> Where:
    """Takes an http URL apart; ValueError when it is none. A user name in it is not sent."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"no host in {url}")
    # Escaped here, so that a blank or an umlaut in the inventory is asked for instead of refused by h11.
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?[]")
    authority = parts.netloc.rpartition("@")[2]
    return Where(parts.hostname, parts.port or 80, authority, f"{target}?{query}" if query else target)


def headers(method: str, authority: str) -> list[tuple[str, str]]:
    """What every request carries. Host is the name asked by: Vite answers 403 to one it does not know."""
    fixed = [
        ("Host", authority),
        ("User-Agent", AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    return [*fixed, ("Content-Length", "0")] if method in _WITH_BODY else fixed


class HttpTalk:
    """Asks one http URL: resolves if it must, dials, sends, reads until the verdict is clear."""

    tick = None

    def __init__(self, probe: Probe, url: str, wires: Wires) -> None:
        self._probe = probe
        self._wires = wires
        self._where = place = where(url)
        self._errand: Errand[list[Address]] | None = None
        self._dial: Dial | None = None
        self._exchange: Exchange | None = None
        self._greeting = Greeting(probe.method, place)
        addresses = literal(place.host, place.port)
        if addresses:
            self._dial = Dial(addresses, wires)
        else:
            self._errand = Errand(lambda: resolve(place.host, place.port), wires)

    def advance(self) -> Finding | None:
        if self._dial is None:
            finding = self._look_up()
            if finding or self._dial is None:
                return finding
        if self._exchange is None:
            line = self._dial.advance()
            if not isinstance(line, socket.socket):
                return line
            self._exchange = Exchange(self._probe, self._greeting, line, self._wires)
        return self._exchange.advance()

    def _look_up(self) -> Finding | None:
        assert self._errand is not None
        try:
            addresses = self._errand.result()
        except (socket.gaierror, UnicodeError) as error:
            words = (isinstance(error, socket.gaierror) and error.strerror) or str(error)
            return could_not_ask(f"the name {self._where.host} was not resolved: {words}")
        if addresses:
            self._dial = Dial(addresses, self._wires)
        return None

    def late(self, seconds: float) -> Finding:
        """A resolver that is silent is not the service's silence."""
        if self._exchange is not None:
            return self._exchange.late(seconds)
        if self._dial is not None:
            return self._dial.late(seconds)
        return could_not_ask(f"the name {self._where.host} was not resolved in {seconds:g} s")

    def close(self) -> None:
        for part in (self._errand, self._dial, self._exchange):
            if part is not None:
                part.close()


class Greeting:
    """The request as bytes, and the h11 connection that will understand the answer to it."""

    def __init__(self, method: str, place: Where) -> None:
        import h11

        self.connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        try:
            parts = [self.connection.send(event) for event in (_request(method, place), h11.EndOfMessage())]
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from error
        self.text = b"".join(part or b"" for part in parts)


@functools.lru_cache(_REMEMBERED)
def _request(method: str, place: Where) -> h11.Request:
    import h11

    return h11.Request(method=method, target=place.target, headers=headers(method, place.authority))


class Exchange:
    """The conversation on a connected line. It owns the line."""

    def __init__(self, probe: Probe, greeting: Greeting, line: socket.socket, wires: Wires) -> None:
        self._probe = probe
        self._h11 = greeting.connection
        self._unsent = greeting.text
        self._line = line
        self._wires = wires
        self._head: Answer | None = None
        self._body = bytearray()
        self._received = 0
        self._first = b""

    def advance(self) -> Finding | None:
        """Sends what is left, then reads once: a server that never pauses must not keep others waiting."""
        self._send()
        try:
            data = self._line.recv(BODY_LIMIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in OWN_FAULTS:
                raise
            return self._broken_off(strerror(error.errno or 0))
        if not data and not self._received:
            return self._broken_off("connection closed")
        self._received += len(data)
        self._first = self._first or data
        return self._understand(data)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._line.send(self._unsent) :]
        except BlockingIOError:
            self._wires.watch(self._line.fileno(), READ | WRITE)
            return
        except ConnectionError:  # the other side does not listen any more, but may have spoken: read on
            self._unsent = b""
        self._wires.watch(self._line.fileno(), READ)

    def _understand(self, data: bytes) -> Finding | None:
        import h11

        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
                finding = self._take(event)
                if finding is not None:
                    return finding
        except h11.RemoteProtocolError as error:
            return self._gibberish(error, closed=not data)

    def _take(self, event: object) -> Finding | None:
        import h11

        if isinstance(event, h11.Response):
            self._head = head = Answer(event.status_code, _plain(event))
            fault = head_fault(self._probe, head)
            return Finding(False, fault) if fault else None
        if isinstance(event, h11.Data):
            self._body += event.data
            return self._verdict(whole=False) if len(self._body) > BODY_LIMIT else None
        if isinstance(event, h11.EndOfMessage):
            return self._verdict(whole=True)
        return None

    def _verdict(self, whole: bool) -> Finding:
        assert self._head is not None
        body = bytes(self._body[:BODY_LIMIT])
        return judge(self._probe, Answer(self._head.status, self._head.headers, body, whole))

    def _broken_off(self, what: str) -> Finding:
        if self._received:
            return Finding(False, f"{what} after {self._received} bytes, the answer is not complete")
        return Finding(False, f"{what} before an answer", answered=False)

    def _gibberish(self, error: Exception, closed: bool) -> Finding:
        if not self._first.startswith(b"HTTP/"):
            return Finding(False, f"not HTTP: {quoted(self._first.decode('latin-1'))}")
        if closed:
            return self._broken_off("connection closed")
        return Finding(False, f"broken HTTP: {error}")

    def late(self, seconds: float) -> Finding:
        """Silence, or a drip: an answer that is not complete by the deadline is no answer."""
        if not self._received:
            return Finding(False, f"no answer in {seconds:g} s", answered=False)
        words = f"dripped {self._received} bytes in {seconds:g} s, the answer is not complete"
        return Finding(False, words, answered=False)

    def close(self) -> None:
        """Hangs up; may be called again."""
        if self._line.fileno() >= 0:
            self._wires.drop(self._line.fileno())
            self._line.close()


def _plain(response: h11.Response) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers)
