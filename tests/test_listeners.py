"""Who listens: real sockets of real processes; the lsof way and the kernel's are compared on them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.errors import OpsError
from ops.host import listeners as subject
from ops.host.listeners import Listener, listeners, listening, open_ports
from tests.waiting import free_port, until

ME = os.getpid()

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tables are Linux'")
with_lsof = pytest.mark.skipif(
    not (os.access(subject.LSOF, os.X_OK) or shutil.which("lsof")), reason="lsof is not installed"
)
with_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

HOLD = "import sys; print('ready', flush=True); sys.stdin.read()"


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def listen(address: str = "127.0.0.1", *, dual: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, dualstack_ipv6=dual)


@contextmanager
def holder(*descriptors: int, code: str = HOLD) -> Iterator[subprocess.Popen[bytes]]:
    """A process with these descriptors, that ends when the block does."""
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, pass_fds=descriptors) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def raises(kind: type[Exception], act: Callable[[], object]) -> bool:
    try:
        act()
    except kind:
        return True
    return False


def as_nobody(look: Callable[[], Any], server: socket.socket) -> Any:
    """What `look` returns (as JSON knows it) in a child of user 65534 that does not hold `server`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            server.close()
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return json.loads(answer)


# Families and holders


@pytest.mark.parametrize(
    ("address", "family"),
    [
        ("127.0.0.1", "IPv4"),
        ("0.0.0.0", "IPv4"),
        pytest.param("::1", "IPv6", marks=with_ipv6),
        pytest.param("::", "IPv6", marks=with_ipv6),
    ],
)
def test_a_listener_is_told_with_family_owner_and_holder(address: str, family: str) -> None:
    with listen(address) as server:
        port = port_of(server)
        (found,) = listeners([port])[port]
        assert listening(port)
    assert (found.port, found.address, found.family) == (port, address, family)
    assert (found.uid, found.pids) == (os.geteuid(), (ME,))


@with_ipv6
def test_a_dual_socket_is_one_listener_and_a_socket_per_family_are_two() -> None:
    with listen("::", dual=True) as dual, listen() as v4, socket.socket(socket.AF_INET6) as v6:
        v6.bind(("::1", port_of(v4)))
        v6.listen()
        one, two = port_of(dual), port_of(v4)
        found = listeners([one, two])
    assert [each.address for each in found[one]] == ["::"]
    assert [each.address for each in found[two]] == ["127.0.0.1", "::1"]


@with_ipv6
def test_an_ipv4_address_on_an_ipv6_socket_is_told_as_such() -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::ffff:127.0.0.1", 0))
        server.listen()
        (found,) = listeners([port_of(server)])[port_of(server)]
    assert (found.address, found.family) == ("::ffff:127.0.0.1", "IPv6")


def test_every_process_that_shares_the_socket_is_a_holder() -> None:
    with listen() as server, holder(server.fileno()) as one, holder(server.fileno()) as two:
        (found,) = listeners([port_of(server)])[port_of(server)]
        mine = listeners([port_of(server)], pids=[two.pid])[port_of(server)]
    assert found.pids == tuple(sorted((ME, one.pid, two.pid)))
    assert [each.pids for each in mine] == [(two.pid,)]


def test_a_socket_outlives_the_process_that_opened_it_and_its_heir_is_named() -> None:
    """F24: the parent is dead, the port is kept by a child that inherited the descriptor."""
    parent = (
        "import socket, subprocess, sys\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "heir = [sys.executable, '-c', 'import sys; sys.stdin.read()']\n"
        "child = subprocess.Popen(heir, pass_fds=[server.fileno()])\n"
        "print(server.getsockname()[1], child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", parent], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        port, child = map(int, process.stdout.readline().split())
        process.kill()
        process.wait()
        (found,) = until(lambda: listeners([port]).get(port))
        assert found.pids == (child,)
    until(lambda: not listening(port))  # the pipe is closed, and with it the child's reason to live


def test_sockets_that_share_a_port_are_told_apart() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.socket()) for _ in range(2)]
        for server in servers:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        servers[0].bind(("127.0.0.1", 0))
        servers[1].bind(servers[0].getsockname())
        for server in servers:
            server.listen()
        found = listeners([port_of(servers[0])])[port_of(servers[0])]
    assert [each.pids for each in found] == [(ME,), (ME,)]


# What is not a listener


def test_a_client_of_the_port_is_not_its_listener() -> None:
    """F28: the one that kill-port must never hit."""
    with listen() as server, socket.create_connection(server.getsockname()) as client:
        port = port_of(server)
        code = f"import socket; kept = socket.create_connection(('127.0.0.1', {port}))\n{HOLD}"
        with holder(code=code) as other:
            found = listeners([port, port_of(client)])
            assert open_ports([other.pid]) == {}
    assert found.keys() == {port}
    assert [each.pids for each in found[port]] == [(ME,)]


def test_a_connection_in_time_wait_is_not_a_listener() -> None:
    server = listen()
    port = port_of(server)
    with socket.create_connection(server.getsockname()) as client:
        server.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
        assert client.recv(1) == b""
    server.close()
    with socket.socket() as taken:
        until(lambda: raises(OSError, lambda: taken.bind(("127.0.0.1", port))))
    assert not listening(port)
    assert listeners([port]) == {}


def test_a_bound_port_that_nobody_listens_on_is_free_of_listeners() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not listening(port_of(bound))
        assert listeners([port_of(bound)]) == {}


def test_a_port_without_listener_is_absent() -> None:
    port = free_port()
    with listen() as server:
        assert list(listeners([port, port_of(server)])) == [port_of(server)]
    assert not listening(port)
    assert listeners([]) == {}
    assert listeners(None, pids=[]) == {}


# All ports, and ports by process


def test_all_ports_are_told_when_none_is_named() -> None:
    with listen() as one, listen() as two:
        assert {port_of(one), port_of(two)} <= listeners().keys()


def test_open_ports_tells_where_a_process_listens_instead() -> None:
    with listen() as one, listen() as two:
        ports = tuple(sorted((port_of(one), port_of(two))))
        with holder(one.fileno()) as heir, holder() as other:
            found = open_ports([ME, heir.pid, other.pid])
            assert set(ports) <= set(found[ME])
            assert found[heir.pid] == (port_of(one),)
            assert other.pid not in found


@linux
def test_without_a_listener_no_process_is_looked_at() -> None:
    """The walk over all descriptors is what costs; the interpreter's own audit events tell of it."""
    script = (
        "import sys\n"
        "from ops.host.listeners import listeners, listening\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(args[0]) if event == 'os.listdir' else None)\n"
        f"assert listeners([{free_port()}]) == {{}} and not listening({free_port()}), 'taken meanwhile'\n"
        "assert seen == [], seen\n"
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "assert listeners([server.getsockname()[1]])\n"
        "assert '/proc' in seen, seen\n"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Other users


@as_root
@linux
def test_the_owner_is_told_where_the_holders_are_hidden() -> None:
    with listen() as server:
        port = port_of(server)
        seen = as_nobody(lambda: [(each.uid, each.pids) for each in listeners([port])[port]], server)
        hidden = as_nobody(lambda: [len(listeners([port], pids=[ME])), len(open_ports([ME]))], server)
    assert seen == [[0, []]]
    assert hidden == [0, 0]


@as_root
@with_lsof
def test_lsof_of_another_user_is_silent_and_the_connection_tells() -> None:
    """As on macOS, where lsof shows an ordinary user nothing of the others."""

    def look() -> list[tuple[object, ...]]:
        with listen() as own, subprocess.Popen(["sleep", "600"], pass_fds=[own.fileno()]) as heir:
            found = subject.from_lsof([port_of(own), hidden, free_port()], None)
            heir.kill()
        return [(each.port == hidden, each.uid, each.pids == (heir.pid,)) for each in found]

    with listen() as server:
        hidden = port_of(server)
        assert as_nobody(look, server) == [[False, 65534, True], [True, None, False]]


# lsof


@with_lsof
def test_an_error_of_the_real_lsof_is_told_with_the_command_to_try() -> None:
    with pytest.raises(OpsError, match="lsof: unknown protocol name") as caught:
        subject.run_lsof(["-nPw", "-iFOO", "-F", "p"])
    assert caught.value.next.endswith("lsof -nPw -iFOO -F p")


@linux
@with_lsof
@with_ipv6
def test_lsof_and_the_kernel_agree_on_real_sockets() -> None:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(server)
            for server in (listen(), listen("0.0.0.0"), listen("::1"), listen("::", dual=True))
        ]
        heir = stack.enter_context(holder(servers[0].fileno(), servers[3].fileno()))
        ports = [port_of(server) for server in servers]
        for pids in (None, [ME, heir.pid], [heir.pid]):
            assert facts(subject.from_lsof(ports, pids)) == facts(subject.from_proc(ports, pids))
        assert facts(subject.from_lsof(None, [heir.pid])) == facts(subject.from_proc(None, [heir.pid]))
        assert subject.from_lsof([free_port()], None) == []


def facts(found: list[Listener]) -> set[tuple[object, ...]]:
    """All that both ways tell."""
    return {(each.port, each.address, each.family, each.uid, each.pids) for each in found}


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def test_a_connection_tells_of_a_listener_even_when_its_backlog_is_full(address: str) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
        server.bind((address, 0))
        server.listen(0)
        port = port_of(server)
        for _ in range(4):  # nobody accepts: after one or two the next is left without an answer
            found = [each.address for each in subject.answering(port)]
            assert found == [address]
            waiting = stack.enter_context(socket.socket(server.family))
            waiting.setblocking(False)
            assert waiting.connect_ex(server.getsockname()[:2]) in (0, errno.EINPROGRESS)
    assert subject.answering(port) == []


def test_a_client_that_meets_itself_is_no_listener() -> None:
    with socket.socket() as alone, listen() as server:
        alone.bind(("127.0.0.1", 0))
        alone.connect(alone.getsockname())
        assert subject.met_itself(alone)
        with socket.create_connection(server.getsockname()) as client:
            assert not subject.met_itself(client)
