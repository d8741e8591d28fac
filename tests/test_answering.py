"""Whether anybody listens, told by connecting: the way of a Mac, where no kernel can be asked quickly. Run here against
real sockets; what it does not see is held as well."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.host.listeners import A_MOMENT, answering, listening
from tests.waiting import free_port, until

linux = sys.platform == "linux"
with_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def listen(address: str, port: int = 0, **more: Any) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, **more)


def told(port: int) -> list[str]:
    return [each.address for each in answering(port, A_MOMENT)]


def quickest(act: Callable[[], object]) -> float:
    """Seconds of the quickest of several: what it costs where nobody else wants the processor."""

    def once() -> float:
        begun = time.perf_counter()
        act()
        return time.perf_counter() - begun

    return min(once() for _ in range(20))


@contextmanager
def full(address: str) -> Iterator[int]:
    """The port of a listener whose backlog is full: nobody accepts, and the next call is left without an answer."""
    with ExitStack() as held:
        server = held.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        server.bind((address, 0))
        server.listen(0)

        def fill() -> bool:
            waiting = held.enter_context(socket.socket(server.family))
            waiting.settimeout(0.1)
            return waiting.connect_ex(server.getsockname()[:2]) in (errno.EAGAIN, errno.ETIMEDOUT)

        until(fill)
        yield port_of(server)


def test_nobody_is_told_at_once() -> None:
    port = free_port()
    assert told(port) == []
    assert quickest(lambda: answering(port, 60.0)) < A_MOMENT, "a refusal was not taken for one"


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def test_one_family_is_enough(address: str) -> None:
    with listen(address) as server:
        assert told(port_of(server)) == [address]


@pytest.mark.parametrize(
    ("address", "seen"),
    [("0.0.0.0", ["127.0.0.1"]), pytest.param("::", ["127.0.0.1", "::1"], marks=with_ipv6)],
)
def test_a_wildcard_answers_on_loopback(address: str, seen: list[str]) -> None:
    with listen(address, dualstack_ipv6=address == "::") as server:
        assert told(port_of(server)) == seen


@with_ipv6
def test_both_families_are_told_when_both_listen() -> None:
    with listen("127.0.0.1") as four, listen("::1", port_of(four)):
        assert told(port_of(four)) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def test_a_full_backlog_counts_and_is_waited_for_a_moment_only(address: str) -> None:
    with full(address) as port:
        assert told(port) == [address]
        assert A_MOMENT / 2 < quickest(lambda: answering(port, A_MOMENT)) < 10 * A_MOMENT
        assert listening(port)


@with_ipv6
def test_a_full_backlog_of_one_family_does_not_hide_who_listens_on_the_other() -> None:
    with full("127.0.0.1") as port:
        assert told(port) == ["127.0.0.1"]
        with listen("::1", port):
            assert told(port) == ["127.0.0.1", "::1"]


@pytest.mark.skipif(not linux, reason="127/8 is all loopback on Linux only")
def test_a_listener_on_another_address_alone_is_not_seen_by_calling() -> None:
    """What a Mac does not see quickly; the kernel of Linux does."""
    with listen("127.0.0.2") as server:
        assert told(port_of(server)) == []
        assert listening(port_of(server))


def test_a_connection_that_was_closed_leaves_the_port_alone() -> None:
    """Nor does asking keep it taken: whoever asks comes from another port, and TIME_WAIT is his."""
    with listen("127.0.0.1") as server:
        port = port_of(server)
        assert told(port) == ["127.0.0.1"]
    with socket.socket() as after:  # without SO_REUSEADDR
        until(lambda: after.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))


# In a network of its own where every client is given this one port, which nobody listens on.
MEETS_ITSELF = """
import fcntl, json, socket, struct
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40000")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running

from ops.host.listeners import answering

with socket.socket() as alone:
    alone.connect(("127.0.0.1", 40000))
    met = alone.getsockname() == alone.getpeername()
    alone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
told = [answering(40000, 0.005) for _ in range(3)]
with socket.socket() as service:
    service.bind(("127.0.0.1", 40000))  # without SO_REUSEADDR: no TIME_WAIT of ours may be in its way
    service.listen()
print(json.dumps([met, told]))
"""


@pytest.mark.skipif(not linux or os.geteuid() or not shutil.which("unshare"), reason="a network needs root on Linux")
def test_a_call_that_meets_itself_finds_nobody_and_leaves_the_port_free() -> None:
    """A port of the range that clients are given: nobody listens, and yet the connection comes about (TCP's
    simultaneous open)."""
    command = ["unshare", "--net", sys.executable, "-c", MEETS_ITSELF]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=30)
    if done.stderr.startswith("unshare"):
        pytest.skip("no network namespace may be had here")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, [[], [], []]]


def test_asking_leaks_no_descriptor() -> None:
    port = free_port()
    with listen("127.0.0.1") as server, full("127.0.0.1") as silent:
        before = len(os.listdir("/dev/fd"))
        for one in (port, port_of(server), silent) * 3:
            told(one)
        assert len(os.listdir("/dev/fd")) == before
