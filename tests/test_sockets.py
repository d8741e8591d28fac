"""The kernel's listening sockets: its tables as recorded text, and both ways of asking compared live."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from ops.host.sockets import Listener, from_diag, from_tables, parse_table

linux = sys.platform == "linux"


def recorded(name: str) -> bytes:
    return (Path(__file__).parent / "data" / "proc_net" / name).read_bytes()


def listen(address: str, *, dual: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, dualstack_ipv6=dual)


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_the_table_of_ipv4_is_read_without_its_connections() -> None:
    assert parse_table(recorded("tcp"), "little") == [
        Listener(5103, "127.0.0.1", "IPv4", 1000, 21406, ()),
        Listener(5101, "0.0.0.0", "IPv4", 0, 21399, ()),
    ]


def test_the_table_of_ipv6_is_read_with_mapped_addresses() -> None:
    assert [(each.address, each.port, each.inode) for each in parse_table(recorded("tcp6"), "little")] == [
        ("::1", 5174, 31001),
        ("::ffff:127.0.0.1", 5173, 31002),
        ("2001:db8::123:4567:89ab:cdef", 5173, 31003),
    ]


def test_a_big_endian_machine_prints_its_own_words() -> None:
    (v4,) = parse_table(recorded("tcp_big_endian"), "big")
    (v6,) = parse_table(recorded("tcp6_big_endian"), "big")
    assert (v4.address, v6.address) == ("127.0.0.1", "2001:db8::123:4567:89ab:cdef")


def test_an_empty_table_has_no_listeners() -> None:
    assert parse_table(recorded("tcp").splitlines(keepends=True)[0]) == []
    assert parse_table(b"") == []


@pytest.mark.skipif(not linux or not socket.has_dualstack_ipv6(), reason="Linux with IPv6 is asked")
def test_both_ways_of_asking_the_kernel_agree() -> None:
    with listen("127.0.0.1") as v4, listen("::1") as v6, listen("::", dual=True) as dual:
        mine = {port_of(v4), port_of(v6), port_of(dual)}
        diag = {*from_diag("IPv4"), *from_diag("IPv6")}
        tables = set(from_tables())
    assert {each for each in diag if each.port in mine} == {each for each in tables if each.port in mine}
    assert {each.port for each in diag} >= mine
