"""Dialling: from a host and a port to a connection, without blocking.

Knows: addresses, both loopback families, what each errno of connect(2) says about whom. Must not know: HTTP,
what is asked once the line is open.

A server that listens on one family only is up all the same, so both are tried, 127.0.0.1 first. A
machine without IPv6 refuses ::1 in its own words (EADDRNOTAVAIL, EAFNOSUPPORT): that is no failure of
the asking.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from ops.host.probe_verdict import Finding, could_not_ask
from ops.host.probe_wires import WRITE, Wires, strerror
from ops.host.sockets import met_itself

Address = tuple[socket.AddressFamily, tuple[str, int]]

# What our own machine lacks: descriptors, memory, local ports, a way out. It says nothing about the service.
OWN_FAULTS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EAGAIN,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EACCES,  # a local packet filter, as is EPERM
        errno.EPERM,
    }
)
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.ENETUNREACH})


def loopback(port: int) -> list[Address]:
    """Both loopback addresses, IPv4 first."""
    return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]


def literal(host: str, port: int) -> list[Address]:
    """The addresses of a host that needs no resolver: localhost, or an address written out; else none."""
    if host.lower() == "localhost":
        return loopback(port)
    try:
        return _looked_up(host, port, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return []


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name. Blocks as long as the resolver likes; socket.gaierror when it knows none."""
    return _looked_up(host, port, 0)


def _looked_up(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc] # scope ids ride along


class Dial:
    """Calls one address after the other until one accepts."""

    def __init__(self, addresses: Sequence[Address], wires: Wires) -> None:
        self._left = list(addresses)
        self._wires = wires
        self._failures: list[tuple[Address, int]] = []
        self._socket: socket.socket | None = None
        self._called: Address = self._left[0]

    def advance(self) -> socket.socket | Finding | None:
        """The connection, non-blocking and still watched for WRITE; or why there is none; None: not yet."""
        while True:
            if self._socket is not None:
                line = self._socket
                number = line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number == 0 and not _connected(line):
                    return None
                if number == 0 and not met_itself(line):
                    self._socket = None
                    return line
                self._hang_up(number or errno.ECONNREFUSED)
            # Over loopback a call is taken or refused by the time connect(2) returns: seen by asking once more.
            if not self._call_next():
                return unreachable(self._failures)

    def _call_next(self) -> bool:
        while self._left:
            self._called = self._left.pop(0)
            number = self._call()
            if number == errno.EINPROGRESS:
                return True
            self._hang_up(number)
        return False

    def _call(self) -> int:
        family, address = self._called
        try:
            line = self._socket = socket.socket(family, socket.SOCK_STREAM)
            line.setblocking(False)
            number = line.connect_ex(address)
            if number in (0, errno.EINPROGRESS):
                self._wires.watch(line.fileno(), WRITE)
                return errno.EINPROGRESS
            return number
        except OSError as error:
            return error.errno or errno.EIO

    def _hang_up(self, number: int) -> None:
        self._failures.append((self._called, number))
        self.close()

    def late(self, seconds: float) -> Finding:
        """What to say when nobody has accepted: a full backlog, or packets that are dropped."""
        words = f"no answer in {seconds:g} s: {shown(self._called)} does not accept"
        return Finding(False, words, answered=False)

    def close(self) -> None:
        """Gives up the call under way; may be called again."""
        if self._socket is not None:
            self._wires.drop(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _connected(line: socket.socket) -> bool:
    try:
        line.getpeername()
    except OSError:
        return False
    return True


def unreachable(failures: Sequence[tuple[Address, int]]) -> Finding:
    """The verdict when no address accepted: `failures` are the errnos of connecting, in the order tried."""
    real = [(address, number) for address, number in failures if not _absent(address, number)]
    for address, number in real or failures:
        if number in OWN_FAULTS or not real:
            return could_not_ask(f"{strerror(number)} ({shown(address)})")
    if all(number == errno.ECONNREFUSED for _, number in real):
        places = " and ".join(shown(address) for address, _ in real)
        return Finding(False, f"connection refused on {places}", answered=False)
    words = ", ".join(f"{shown(address)}: {strerror(number)}" for address, number in real)
    return Finding(False, f"cannot connect: {words}", answered=False)


def _absent(address: Address, number: int) -> bool:
    """Whether this machine simply has no such family."""
    return number in _NO_SUCH_FAMILY or (address[0] == socket.AF_INET6 and number in _NO_IPV6)


def shown(address: Address) -> str:
    """`127.0.0.1:5103` or `[::1]:5103`."""
    family, (host, port, *_) = address
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


class TcpTalk:
    """Asks whether anybody accepts connections on a port of this machine."""

    tick = None

    def __init__(self, port: int, wires: Wires) -> None:
        self._wires = wires
        self._dial = Dial(loopback(port), wires)

    def advance(self) -> Finding | None:
        """Accepted is enough: the line is hung up at once."""
        got = self._dial.advance()
        if not isinstance(got, socket.socket):
            return got
        where = shown((got.family, got.getpeername()))
        self._wires.drop(got.fileno())
        got.close()
        return Finding(True, f"accepts connections on {where}")

    def late(self, seconds: float) -> Finding:
        return self._dial.late(seconds)

    def close(self) -> None:
        self._dial.close()
