"""Line: bytes to and from the SSH server of a host, and whether one speaks there at all.

Knows: names and addresses, TCP, the first words of SSH, what a refusal means. Must not know: keys, users, what is said
in SSH.

The first words are read here and not in paramiko: only so can be told who says nothing, who hangs up at once (which
is what an sshd does that has too many callers) and who speaks another language.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ops.errors import OpsError
from ops.fleet.ssh import Route
from ops.host import probe_dial

_MOST_GREETING = 8 * 1024
# What sshd says, if anything, to one caller too many.
_TOO_MANY = (b"Exceeded MaxStartups", b"Not allowed at this time")
# A host that was switched off does not say so: what it was sent stays without an answer.
_UNANSWERED = 30_000  # milliseconds


class Unreachable(OpsError):
    """No connection to a host: `seen` names the host, and what happened instead."""

    exit_code = 4


class TurnedAway(Unreachable):
    """Whoever accepted the call hung up before the first word: another try may be taken."""


class Line:
    """What paramiko takes for a socket: one, or a channel through another host, or a program.

    What was read of the greeting is handed out again; `hung_up` is called once, when it is closed by whomever.
    """

    def __init__(self, inner: Any, hung_up: Callable[[], None] = lambda: None) -> None:
        self._inner = inner
        self._first = b""
        self._hung_up = hung_up
        self._closing = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def _closed(self) -> bool:  # paramiko asks for it, as sockets have it
        return self._closing.locked()

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; none when it has ended."""
        if self._first:
            given, self._first = self._first[:size], self._first[size:]
            return given
        data: bytes = self._inner.recv(size)
        return data

    def close(self) -> None:
        """May be called again."""
        if not self._closing.acquire(blocking=False):
            return  # paramiko closes from two threads
        self._inner.close()
        self._hung_up()

    def greet(self, route: Route, end: float) -> None:
        """Waits for the first words of SSH until `end` (monotonic); Unreachable when they do not come."""
        while not _speaks_ssh(self._first):
            data = self._heard(route, end)
            self._first += data
            if not data or len(self._first) > _MOST_GREETING:
                raise self._explained(_hung_up(route, self._first, ended=not data))

    def _explained(self, error: Unreachable) -> Unreachable:
        """A program that should lead to the host may have said why it does not."""
        self.close()
        said = self._inner.last_words() if isinstance(self._inner, Program) else ""
        if not said:
            return error
        return Unreachable(
            f"{error.seen.partition(':')[0]}: its ProxyCommand leads nowhere: {said}",
            wanted=error.wanted,
            next="run it by hand: it is in the ssh_config, or in ansible_ssh_common_args",
        )

    def _heard(self, route: Route, end: float) -> bytes:
        left = end - time.monotonic()
        try:
            if left > 0:
                self._inner.settimeout(left)
                data: bytes = self._inner.recv(4096)
                return data
        except TimeoutError:
            pass
        except OSError:  # a reset is the same as an end
            return b""
        if self._first:
            raise _hung_up(route, self._first, ended=False)
        raise Unreachable(
            f"{route.name}: {route.place} accepts, but does not speak SSH within {route.connect_timeout:g} s",
            wanted="the greeting of an SSH server",
            next=f"look at its sshd from another way in: it hangs, or {route.place} is not its port",
        )


def _speaks_ssh(text: bytes) -> bool:
    """Other lines may come before the one that counts (RFC 4253, 4.2)."""
    return any(line.startswith(b"SSH-") for line in text.split(b"\n")[:-1])


def _hung_up(route: Route, text: bytes, *, ended: bool) -> Unreachable:
    if ended and (not text or text.startswith(_TOO_MANY)):
        return TurnedAway(
            f"{route.name}: {route.place} accepts, and hangs up before it says a word",
            wanted="the greeting of an SSH server",
            next="too many callers at once (MaxStartups in its sshd_config): try again, or with fewer --forks",
        )
    said = text[:60].decode(errors="replace").splitlines()[0].strip()
    return Unreachable(
        f"{route.name}: {route.place} does not speak SSH, it says {said!r}",
        wanted="the greeting of an SSH server",
        next=f"give the port of its sshd: ansible_port, or Port in ~/.ssh/config for {route.name}",
    )


class Program:
    """A ProxyCommand as a line. paramiko's own reading spins when the program ends, and holds back what has come."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy
        self._process: subprocess.Popen[bytes] = proxy.process
        self._timeout: float | None = None
        self._words = ""

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def recv(self, size: int) -> bytes:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(None if self._timeout is None else self._timeout * 1000):
            raise TimeoutError
        return os.read(self._process.stdout.fileno(), size)

    def send(self, data: bytes) -> int:
        return int(self._proxy.send(data))

    def close(self) -> None:
        if self._process.poll() is None:
            self._proxy.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._words = self._read_words()
        for end in (self._process.stdin, self._process.stdout, self._process.stderr):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()

    def last_words(self) -> str:
        return self._words

    def _read_words(self) -> str:
        file = self._process.stderr
        if file is None or not select.select([file], [], [], 0)[0]:
            return ""
        words = os.read(file.fileno(), 4096).decode(errors="replace").splitlines()
        return "; ".join([line.strip() for line in words if line.strip()][-2:])


# -- dialling ----------------------------------------------------------------------------------------------------


def dial(route: Route, end: float) -> socket.socket:
    """A TCP connection to the route's own address, until `end` (monotonic)."""
    failures: list[OSError] = []
    places = _addresses(route, end)
    for number, (family, address) in enumerate(places):
        # A family whose packets vanish must not eat the time of the other.
        share = max((end - time.monotonic()) / (len(places) - number), 0.01)
        try:
            return _called(family, address, share)
        except OSError as error:
            failures.append(error)
    raise _not_dialled(route, failures)


def _called(family: socket.AddressFamily, address: tuple[str, int], within: float) -> socket.socket:
    line = socket.socket(family, socket.SOCK_STREAM)
    try:
        _prepare(line)
        line.settimeout(within)
        line.connect(address)
    except BaseException:
        line.close()
        raise
    return line


def _prepare(line: socket.socket) -> None:
    # paramiko leaves Nagle's algorithm on, which costs 40 ms for each request.
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)


def _addresses(route: Route, end: float) -> list[probe_dial.Address]:
    found = probe_dial.literal(route.address, route.port)
    if found:
        return found
    # The resolver has no deadline; a thread that waits for it can be left behind.
    answer: queue.SimpleQueue[list[probe_dial.Address] | Exception] = queue.SimpleQueue()
    threading.Thread(target=_resolve, args=(route, answer), name="ops-resolver", daemon=True).start()
    try:
        heard = answer.get(timeout=max(end - time.monotonic(), 0.01))
    except queue.Empty:
        heard = TimeoutError(f"no answer from the resolver within {route.connect_timeout:g} s")
    if isinstance(heard, Exception):
        why = getattr(heard, "strerror", None) or heard
        raise Unreachable(
            f"{route.name}: the name {route.address} cannot be resolved: {why}",
            wanted="a name that the resolver or ~/.ssh/config knows, or an address",
            next=f"correct the name, or add ansible_host: ADDRESS to {route.name}",
        )
    return heard


def _resolve(route: Route, answer: queue.SimpleQueue[list[probe_dial.Address] | Exception]) -> None:
    try:
        answer.put(probe_dial.resolve(route.address, route.port))
    except (OSError, UnicodeError) as error:
        answer.put(error)


def _not_dialled(route: Route, failures: list[OSError]) -> Unreachable:
    wanted = "an SSH server that accepts connections"
    if all(isinstance(error, ConnectionRefusedError) for error in failures):
        return Unreachable(
            f"{route.name}: connection refused at {route.place}",
            wanted=wanted,
            next=f"is sshd running there, and on port {route.port}? Else: ansible_port, or Port in ~/.ssh/config",
        )
    late = next((error for error in failures if isinstance(error, TimeoutError)), None)
    if late:
        seen = f"no answer from {route.place} within {route.connect_timeout:g} s"
    else:
        real = next(error for error in failures if not isinstance(error, ConnectionRefusedError))
        seen = f"{route.place} cannot be reached: {real.strerror or real}"
    return Unreachable(
        f"{route.name}: {seen}",
        wanted=wanted,
        next="is the host up, and the network (VPN, firewall) between here and it?",
    )
