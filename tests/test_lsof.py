"""What lsof says on a Mac, as recorded text; how far that text is a Mac's own: data/lsof/README.md.

The same command is compared with the kernel's tables on real sockets in test_listeners.py.
"""

from __future__ import annotations

from pathlib import Path

from ops.host.listeners import Listener, lsof_complaint, parse_lsof

LSOF_OUTPUT = Path(__file__).parent / "data" / "lsof"


def recorded(name: str) -> list[Listener]:
    return parse_lsof((LSOF_OUTPUT / name).read_text())


def test_node_listens_on_all_interfaces() -> None:
    assert recorded("node_wildcard.txt") == [Listener(5103, "::", "IPv6", 501, None, (48213,))]


def test_loopback_of_either_family_is_told_and_a_connection_is_not() -> None:
    assert recorded("vite_and_loopback.txt") == [
        Listener(5174, "::1", "IPv6", 501, None, (48330,)),
        Listener(5101, "127.0.0.1", "IPv4", 501, None, (48391,)),
        Listener(5102, "fe80:1::1", "IPv6", 501, None, (48391,)),
    ]


def test_a_forked_pair_is_one_listener_and_a_second_socket_is_another() -> None:
    assert recorded("forked_pair.txt") == [
        Listener(5105, "127.0.0.1", "IPv4", 501, None, (51002, 51007)),
        Listener(5105, "127.0.0.1", "IPv4", 501, None, (51020,)),
    ]


def test_two_users_are_told_by_the_first_holder() -> None:
    assert recorded("two_users.txt") == [
        Listener(8080, "::", "IPv6", 0, None, (312, 355)),
        Listener(5103, "0.0.0.0", "IPv4", 501, None, (48213,)),
    ]


def test_an_ipv4_address_on_an_ipv6_socket_is_told_alike_whether_lsof_maps_it_or_not() -> None:
    for name in ("127.0.0.1:5105", "[::ffff:127.0.0.1]:5105"):
        (found,) = parse_lsof(f"p7\nu501\nf3\ntIPv6\nd0x1\nPTCP\nn{name}\nTST=LISTEN\n")
        assert (found.address, found.family) == ("::ffff:127.0.0.1", "IPv6")


def test_lsof_that_found_nothing_is_no_failure() -> None:
    assert lsof_complaint(1, b"", b"") is None
    assert parse_lsof("") == []


def test_a_warning_of_lsof_is_no_failure_and_an_error_is() -> None:
    warning = (LSOF_OUTPUT / "warning_stderr.txt").read_bytes()
    error = (LSOF_OUTPUT / "refused_stderr.txt").read_bytes()
    assert lsof_complaint(1, b"", warning) is None
    assert lsof_complaint(1, b"p1\n", error) is None
    assert lsof_complaint(1, b"", warning + error) == "lsof: unknown protocol name (FOO) in: -i FOO"
    assert lsof_complaint(-9, b"", b"") == "lsof was ended by signal 9"
