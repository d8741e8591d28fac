"""The listening TCP sockets of a Linux machine, as its kernel tells them.

Knows: the two ways to ask (sock_diag, /proc/net) and what they say of a socket: port, address, owner, inode.
Must not know: processes; other platforms. Who holds a socket is found in listeners.py.

sock_diag is asked first because its answer holds the listeners only: 0.06 ms for both families, however
many connections there are. A /proc/net/tcp lists every connection too, and reading one costs 1.5 ms even when
it is empty (the kernel walks its whole hash table; measured with 262144 entries). It is the way where a
sandbox, or a kernel without inet_diag, refuses the other.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Literal

from ops.frozen import frozen

Family = Literal["IPv4", "IPv6"]

FAMILIES: Mapping[Family, socket.AddressFamily] = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


@frozen
class Listener:
    """One listening socket and who holds it.

    `address` is numeric: "0.0.0.0" and "::" are all interfaces. `uid` owns the socket (on macOS: its first
    holder's user) and is None when nobody tells. `inode` is the socket's number on Linux, else None. `pids`
    are the holders that this user may see, ascending; () when there are none to be seen.
    """

    port: int
    address: str
    family: Family
    uid: int | None
    inode: int | None
    pids: tuple[int, ...]


def kernel_listeners(port: int = 0) -> list[Listener]:
    """The listening sockets of this process' network namespace, of all ports or of one, their holders not yet named."""
    try:
        found = [each for family in FAMILIES for each in from_diag(family, port)]
    except OSError:
        found = from_tables()
    return [each for each in found if port in (0, each.port)]


# sock_diag(7): one request over netlink, one message per socket

_AF_NETLINK = 16  # by number: the socket module of a Mac has no such name
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_TCP_LISTEN = 10
_ANSWER_SECONDS = 1.0


def from_diag(family: Family, port: int = 0) -> list[Listener]:
    """The listening sockets of one family by sock_diag; OSError when the kernel does not answer that. With `port`, the
    kernel picks that out itself: 0.1 ms instead of 4 where a thousand listen."""
    states, wanted = 1 << _TCP_LISTEN, struct.pack("!H46s", port, b"")
    body = struct.pack("=BBBBI48s", FAMILIES[family], socket.IPPROTO_TCP, 0, 0, states, wanted)
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(_AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_SECONDS)
        kernel.send(header + body)
        return [_diag_message(message, family) for message in _messages(kernel)]


def _messages(kernel: socket.socket) -> Iterator[bytes]:
    while True:
        packet = kernel.recv(65536)
        while packet:
            length, kind, *_ = _HEADER.unpack_from(packet)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", packet, _HEADER.size)[0], "sock_diag refused")
            yield packet[_HEADER.size : length]
            packet = packet[(length + 3) & ~3 :]  # messages are aligned to 4 bytes


def _diag_message(message: bytes, family: Family) -> Listener:
    """struct inet_diag_msg of linux/inet_diag.h; port and addresses are in network order."""
    (port,) = struct.unpack_from("!H", message, 4)
    raw = message[8:12] if family == "IPv4" else message[8:24]
    uid, inode = struct.unpack_from("=II", message, 64)
    return Listener(port, socket.inet_ntop(FAMILIES[family], raw), family, uid, inode, ())


# /proc/net/tcp and tcp6 (man 5 proc): one line per socket


def from_tables() -> list[Listener]:
    """The listening sockets of both families from the tables in /proc/net."""
    return [*parse_table(_read("/proc/net/tcp")), *parse_table(_read("/proc/net/tcp6"))]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:  # a kernel without IPv6 has no tcp6
        return b""


# A remote port of 0 and the state 0A (TCP_LISTEN). Searching for it costs a tenth of splitting every line.
_LISTEN = re.compile(rb":0000 0A ")


def parse_table(table: bytes, byteorder: Literal["little", "big"] = sys.byteorder) -> list[Listener]:
    """The listening sockets in the text of a table, holders not named.

    An address is printed as 32-bit words in the order of the machine that wrote the table: `byteorder`.
    """
    found = []
    for hit in _LISTEN.finditer(table):
        start = table.rfind(b"\n", 0, hit.start()) + 1
        found.append(_table_line(table[start : table.find(b"\n", hit.end())], byteorder))
    return found


def _table_line(line: bytes, byteorder: str) -> Listener:
    fields = line.split(None, 10)
    words, _, port = fields[1].partition(b":")
    raw = bytes.fromhex(words.decode())
    if byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    family: Family = "IPv4" if len(raw) == 4 else "IPv6"
    address = socket.inet_ntop(FAMILIES[family], raw)
    return Listener(int(port, 16), address, family, int(fields[7]), int(fields[9]), ())


def met_itself(line: socket.socket) -> bool:
    """Whether a connection's two ends are one socket.

    A connect to a free port of the ephemeral range may be given that very port as its own, and then succeeds
    with nobody listening (TCP's simultaneous open).
    """
    return bool(line.getsockname() == line.getpeername())
