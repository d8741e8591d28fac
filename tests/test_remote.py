"""Connections to real sshd: open and verified, or refused within a bounded time and in plain words."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ops.fleet import ssh_text
from ops.fleet.remote import Unreachable, close, connect, for_fab
from ops.fleet.ssh import Route, route
from tests.sshd import USER, Deaf, Mute, SshHosts, Talker, agent, make_key, obstacle, public
from tests.test_ssh import host
from tests.waiting import free_port, until

pytest.importorskip("fabric", exc_type=ImportError)
pytestmark = [
    pytest.mark.fabric,
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "sshd can be run"),
]

STRICTLY = "-o StrictHostKeyChecking=yes"
ANEW = "-o StrictHostKeyChecking=accept-new"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    with SshHosts(tmp_path_factory.mktemp("ssh"), 4) as made:
        yield made


@pytest.fixture
def hosts(lab: SshHosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshHosts]:
    """The hosts, known to the client; what the test leaves open is an error."""
    at_home(lab, monkeypatch)
    lab.as_new()
    ssh_text.read.cache_clear()
    before = left_over()
    yield lab
    until(
        lambda: all(now <= then for now, then in zip(left_over(), before, strict=True)), within=8
    )  # less than the timers of paramiko


def at_home(hosts: SshHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(hosts.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def left_over() -> tuple[int, int]:
    """Threads of this process, and its descriptors where they can be counted."""
    places = [place for place in ("/proc/self/fd", "/dev/fd") if os.path.isdir(place)]
    return threading.active_count(), len(os.listdir(places[0])) if places else 0


def opened(way: Route) -> str:
    """Connects, asks where it is, and closes: the HOME there, which tells the hosts apart."""
    connection = connect(way)
    try:
        return str(connection.run("printf %s $HOME", hide=True, timeout=20).stdout)
    finally:
        close(connection)


def refusal(way: Route, at_most: float = 2.0) -> str:
    """What is told when there is no connection, which must not take long."""
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        connect(way)
    assert time.monotonic() - began < at_most
    assert caught.value.exit_code == 4
    assert caught.value.seen.startswith(f"{way.name}: ")
    assert caught.value.wanted and caught.value.next
    return "\n".join(caught.value.lines())


def on_port(port: int, **variables: Any) -> Route:
    return route(host("x", ansible_host="127.0.0.1", ansible_port=port, **variables))


# -- open --------------------------------------------------------------------------------------------------------


def test_it_connects_by_ssh_config_and_by_the_inventory(hosts: SshHosts) -> None:
    assert opened(route(host("h1"))) == str(hosts["h1"].home)
    by_inventory = hosts.variables("h2")
    hosts.config.unlink()
    ssh_text.read.cache_clear()
    assert opened(route(host("web", **by_inventory))) == str(hosts["h2"].home)


def test_the_line_is_quick_and_kept_alive(hosts: SshHosts) -> None:
    connection = connect(route(host("h1")))
    assert connection.is_connected
    assert connection.transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert connection.transport.packetizer._Packetizer__keepalive_interval == 15
    close(connection)
    close(connection)
    assert not connection.is_connected


def test_a_dropped_connection_is_not_opened_again_in_secret(hosts: SshHosts) -> None:
    connection = connect(route(host("h1")))
    assert hosts["h1"].cut() > 0
    until(lambda: not connection.is_connected)
    with pytest.raises((OSError, EOFError)):
        connection.run("true", hide=True)
    close(connection)


def test_many_at_once(hosts: SshHosts) -> None:
    names = [f"h{1 + number % 4}" for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        homes = list(pool.map(lambda name: opened(route(host(name))), names))
    assert homes == [str(hosts[name].home) for name in names]


def test_callers_that_sshd_turns_away_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not logged in yet counts: three silent callers fill it, and leave while the next one waits."""
    with SshHosts(tmp_path, 1, "MaxStartups 3\n") as full:
        at_home(full, monkeypatch)
        callers = [socket.create_connection(("127.0.0.1", full["h1"].port)) for _ in range(3)]
        until(lambda: len(full["h1"].sessions()) >= 3)
        with ThreadPoolExecutor(1) as pool:
            home = pool.submit(opened, route(host("h1")))
            until(lambda: "MaxStartups" in full["h1"].log or "drop connection" in full["h1"].log)
            for caller in callers:
                caller.close()
            assert home.result(20) == str(full["h1"].home)


# -- nobody there ------------------------------------------------------------------------------------------------


def test_refused(hosts: SshHosts) -> None:
    hosts["h2"].stop()
    told = refusal(route(host("h2")), 1)
    hosts["h2"].start()
    assert f"h2: connection refused at 127.0.0.1:{hosts['h2'].port}" in told
    assert opened(route(host("h2"))) == str(hosts["h2"].home)


def test_a_host_that_accepts_and_is_mute(hosts: SshHosts) -> None:
    mute = Mute()
    told = refusal(on_port(mute.port, ansible_ssh_timeout=1))
    mute.down()
    assert f"127.0.0.1:{mute.port} accepts, but does not speak SSH within 1 s" in told


def test_a_frozen_sshd(hosts: SshHosts) -> None:
    hosts["h3"].freeze()
    told = refusal(route(host("h3", ansible_ssh_timeout=1)))
    hosts["h3"].thaw()
    assert "accepts, but does not speak SSH within 1 s" in told
    assert opened(route(host("h3"))) == str(hosts["h3"].home)


def test_a_host_that_drops_every_packet(hosts: SshHosts) -> None:
    deaf = Deaf()
    told = refusal(on_port(deaf.port, ansible_ssh_timeout=1))
    deaf.down()
    assert f"no answer from 127.0.0.1:{deaf.port} within 1 s" in told


def test_a_name_that_nobody_knows(hosts: SshHosts) -> None:
    told = refusal(route(host("web", ansible_host="no-such-host.invalid")), 7)
    assert "the name no-such-host.invalid cannot be resolved" in told


@pytest.mark.parametrize(
    ("text", "told", "callers"),
    [
        (b"", "hangs up before it says a word", 3),
        (b"Exceeded MaxStartups\r\n", "hangs up before it says a word", 3),
        (b"220 mail ESMTP\r\n", "does not speak SSH, it says '220 mail ESMTP'", 1),
        (b"x" * 100_000, "does not speak SSH, it says 'xxxxx", 1),
        (b"SSH-2.0-x\r\n", "greets, but hung up during the handshake", 1),
        (b"SSH-1.0-old\r\n", "greets, but no handshake", 1),
        (b"SSH-2.0-x\r\n" + bytes(range(256)) * 100, "greets, but", 1),
    ],
)
def test_what_is_not_sshd(hosts: SshHosts, text: bytes, told: str, callers: int) -> None:
    """Only what may be a full sshd is tried again."""
    talker = Talker(text)
    assert told in refusal(on_port(talker.port), 4)
    talker.down()
    assert talker.callers == callers


def test_a_handshake_that_never_ends(hosts: SshHosts) -> None:
    """It greets, and then says nothing more."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        calls: list[socket.socket] = []

        def greet() -> None:
            call, _ = listener.accept()
            call.sendall(b"SSH-2.0-slow\r\n")
            calls.append(call)

        thread = threading.Thread(target=greet)
        thread.start()
        told = refusal(on_port(listener.getsockname()[1], ansible_ssh_timeout=1), 3)
        thread.join(10)
        calls[0].close()
    assert "did not finish the SSH handshake within 1 s" in told


# -- host keys ---------------------------------------------------------------------------------------------------


def print_of(key: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def test_an_unknown_key_is_refused_and_shown(hosts: SshHosts) -> None:
    hosts.known_hosts.write_text("")
    told = refusal(route(host("h1")))
    assert f"the host key of {hosts['h1'].known_as} is not known" in told
    assert print_of(hosts["h1"].key) in told
    assert f"ssh -p {hosts['h1'].port} {USER}@127.0.0.1" in told
    assert hosts.known_hosts.read_text() == ""


@pytest.mark.parametrize("checking", [STRICTLY, ANEW, "-o StrictHostKeyChecking=no"])
def test_a_changed_key_is_always_refused(hosts: SshHosts, checking: str) -> None:
    old = print_of(hosts["h4"].key)
    hosts["h4"].change_key()
    before = hosts.known_hosts.read_text()
    told = refusal(route(host("h4", ansible_ssh_common_args=checking)))
    assert f"the host key of {hosts['h4'].known_as} has CHANGED" in told
    assert old in told and print_of(hosts["h4"].key) in told
    assert f"{hosts.known_hosts}:4" in told
    assert f'ssh-keygen -R "{hosts["h4"].known_as}"' in told
    assert hosts.known_hosts.read_text() == before


def test_a_new_key_is_accepted_once(hosts: SshHosts) -> None:
    hosts.known_hosts.unlink()
    anew = route(host("h4", ansible_ssh_common_args=ANEW))
    assert opened(anew) == str(hosts["h4"].home)
    assert hosts.known_hosts.read_text() == f"{hosts['h4'].known_as} {public(hosts['h4'].key)}\n"
    assert hosts.known_hosts.stat().st_mode & 0o777 == 0o600
    assert opened(route(host("h4"))) == str(hosts["h4"].home)
    hosts["h4"].change_key()
    assert "has CHANGED" in refusal(anew)


def test_many_new_ones_at_once_are_a_line_each(hosts: SshHosts) -> None:
    hosts.known_hosts.write_text("# mine, without an end of line")
    names = ["h1", "h2", "h3"] * 3
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda name: opened(route(host(name, ansible_ssh_common_args=ANEW))), names))
    comment, *lines = hosts.known_hosts.read_text().splitlines()
    assert comment == "# mine, without an end of line"
    assert sorted(lines) == sorted(f"{hosts[one].known_as} {public(hosts[one].key)}" for one in ("h1", "h2", "h3"))


def test_a_new_key_that_cannot_be_remembered(hosts: SshHosts) -> None:
    words = f"{ANEW} -o UserKnownHostsFile={hosts.key}/known_hosts"
    assert "its host key is new and cannot be remembered" in refusal(route(host("h1", ansible_ssh_common_args=words)))


def test_hashed_names_and_an_alias(hosts: SshHosts) -> None:
    subprocess.run(["ssh-keygen", "-H", "-f", str(hosts.known_hosts)], check=True, capture_output=True)
    assert opened(route(host("h1"))) == str(hosts["h1"].home)
    alias = route(host("h1", ansible_ssh_common_args="-o HostKeyAlias=the-one"))
    assert "the host key of the-one is not known" in refusal(alias)
    hosts.known_hosts.write_text(f"the-one {public(hosts['h1'].key)}\n")
    assert opened(alias) == str(hosts["h1"].home)


def test_revoked_and_several_keys(hosts: SshHosts) -> None:
    known_as, key = hosts["h1"].known_as, public(hosts["h1"].key)
    other = public(make_key(hosts.folder / "other"))
    hosts.known_hosts.write_text(f"{known_as} {other}\n{known_as} {key}\n")
    assert opened(route(host("h1"))) == str(hosts["h1"].home)  # any of those that are known
    hosts.known_hosts.write_text(f"{known_as} {key}\n@revoked * {key}\n")
    assert "is marked @revoked" in refusal(route(host("h1", ansible_ssh_common_args=ANEW)))


def test_a_host_with_keys_of_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by the one that would be asked for last."""
    key = make_key(tmp_path / "rsa_host_key", kind="rsa")
    with SshHosts(tmp_path / "hosts", 1, f"HostKey {key}\n") as hosts:
        at_home(hosts, monkeypatch)
        hosts.known_hosts.write_text(f"{hosts['h1'].known_as} {public(key)}\n")
        assert opened(route(host("h1"))) == str(hosts["h1"].home)


# -- logging in --------------------------------------------------------------------------------------------------


def with_key(hosts: SshHosts, path: object, more: str = "") -> Route:
    variables = {**hosts.variables("h1"), "ansible_ssh_private_key_file": str(path)}
    return route(host("h1", ansible_ssh_common_args=f"-o IdentitiesOnly=yes {more}", **variables))


def test_a_key_that_is_not_accepted(hosts: SshHosts) -> None:
    other = make_key(hosts.folder / "other")
    told = refusal(with_key(hosts, other))
    assert f"h1: authentication failed as {USER}" in told
    assert f"tried: {other}" in told
    assert f"ssh-copy-id -p {hosts['h1'].port} {USER}@127.0.0.1" in told


def test_key_files_that_are_of_no_use(hosts: SshHosts) -> None:
    garbage = hosts.folder / "garbage"
    garbage.write_text("no key\n")
    assert "/no/such/key: No such file or directory" in refusal(with_key(hosts, "/no/such/key"))
    assert f"{garbage}: no private key that can be read" in refusal(with_key(hosts, garbage))
    assert "none, there is none to try" in refusal(with_key(hosts, garbage))
    ways = with_key(hosts, "/no/such/key", f"-i {hosts.key}")  # the others are tried all the same
    assert opened(ways) == str(hosts["h1"].home)


@pytest.mark.parametrize("form", [(), ("-m", "PEM")])
def test_a_key_that_is_locked(hosts: SshHosts, form: tuple[str, ...]) -> None:
    locked = make_key(hosts.folder / "locked", *form, kind="rsa", passphrase="secret")
    told = refusal(with_key(hosts, locked))
    assert f"{locked} needs a passphrase" in told
    assert f"next:   ssh-add {locked}" in told


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_keys_of_the_user_are_tried_when_none_is_named(hosts: SshHosts, kind: str) -> None:
    key = make_key(hosts.ssh / f"id_{kind}", kind=kind)
    hosts["h2"].authorized_keys.write_text(f"{public(key)}\n")
    variables = hosts.variables("h2")
    del variables["ansible_ssh_private_key_file"]
    hosts.config.unlink()
    ssh_text.read.cache_clear()
    assert opened(route(host("x", **variables))) == str(hosts["h2"].home)
    key.unlink()


def test_the_agent_signs_for_a_locked_key(hosts: SshHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """With IdentitiesOnly, as people have it who name the key and keep it in the agent; and without."""
    locked = make_key(hosts.folder / "locked", passphrase="secret")
    hosts["h1"].authorized_keys.write_text(f"{public(locked)}\n")
    anonymous = {**hosts.variables("h1"), "ansible_ssh_private_key_file": str(hosts.key)}
    with agent(hosts.folder) as keys:
        keys.add(locked, "secret")
        monkeypatch.setenv("SSH_AUTH_SOCK", keys.socket)
        assert opened(with_key(hosts, locked)) == str(hosts["h1"].home)
        assert opened(with_key(hosts, f"{locked}.pub")) == str(hosts["h1"].home)
        assert opened(route(host("x", **anonymous))) == str(hosts["h1"].home)
        assert "authentication failed" in refusal(with_key(hosts, hosts.key))  # not offered: it is not named
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert opened(with_key(hosts, locked, f"-o IdentityAgent={keys.socket}")) == str(hosts["h1"].home)


def test_an_agent_that_does_not_answer(hosts: SshHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_key(hosts.folder / "other")
    with agent(hosts.folder) as keys:
        monkeypatch.setenv("SSH_AUTH_SOCK", keys.socket)
        keys.freeze()
        assert "the ssh agent" in refusal(with_key(hosts, other), 6)
    assert "the ssh agent" in refusal(with_key(hosts, other), 2)  # gone, its socket still named


def test_an_agent_with_more_keys_than_a_host_listens_to(hosts: SshHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent(hosts.folder) as keys:
        for number in range(8):
            keys.add(make_key(hosts.folder / f"other{number}"))
        monkeypatch.setenv("SSH_AUTH_SOCK", keys.socket)
        variables = {**hosts.variables("h1"), "ansible_ssh_private_key_file": str(hosts.folder / "other0")}
        assert "it hung up after" in refusal(route(host("x", **variables)))
        assert opened(route(host("x", **hosts.variables("h1")))) == str(hosts["h1"].home)  # the named one comes first


def test_a_host_that_hangs_while_logging_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd asks a program for the keys of the user, and that does not end."""
    hanging = f"AuthorizedKeysFile none\nAuthorizedKeysCommand /bin/sleep 60\nAuthorizedKeysCommandUser {USER}\n"
    with SshHosts(tmp_path, 1, hanging) as hosts:
        monkeypatch.setenv("HOME", str(hosts.home))
        ssh_text.read.cache_clear()
        assert "no answer to that within 10 s" in refusal(route(host("h1")), 15)


# -- jump hosts --------------------------------------------------------------------------------------------------


def test_hosts_behind_one_jump_host_share_one_connection_to_it(hosts: SshHosts) -> None:
    for name in ("h2", "h3", "h4"):
        hosts.behind(name, "h1")
    ssh_text.read.cache_clear()
    ways = [route(host(f"h{2 + number % 3}")) for number in range(12)]
    before = hosts["h1"].log.count("Accepted publickey")
    with ThreadPoolExecutor(12) as pool:
        open_ones = list(pool.map(connect, ways))
    assert hosts["h1"].log.count("Accepted publickey") - before == 1
    assert open_ones[0].run("printf %s $HOME", hide=True).stdout == str(hosts["h2"].home)
    jump_sessions = hosts["h1"].sessions()
    for connection in open_ones[1:]:
        close(connection)
    assert open_ones[0].run("true", hide=True).ok  # whoever is left still has it
    assert jump_sessions
    close(open_ones[0])
    until(lambda: not hosts["h1"].sessions())


def test_a_chain_of_jump_hosts(hosts: SshHosts) -> None:
    hosts.behind("h3", "h1,h2")
    ssh_text.read.cache_clear()
    assert opened(route(host("h3"))) == str(hosts["h3"].home)


def test_what_goes_wrong_with_a_jump_host_names_it(hosts: SshHosts) -> None:
    hosts.behind("h2", "h1")
    hosts.behind("h3", "h2")
    ssh_text.read.cache_clear()
    way, far = route(host("h2")), route(host("h3"))
    hosts["h2"].stop()
    assert "h2: jump host h1 cannot reach 127.0.0.1:" in refusal(way)
    assert "h3: jump host h2: jump host h1 cannot reach" in refusal(far)
    hosts["h2"].start()
    hosts["h1"].stop()
    assert "h2: jump host h1: connection refused" in refusal(way)
    assert "h3: jump host h2: jump host h1: connection refused" in refusal(far)
    hosts["h1"].change_key()
    assert "h2: jump host h1: the host key of" in refusal(way)
    hosts.trust()
    assert opened(far) == str(hosts["h3"].home)


def test_a_jump_host_that_hangs_is_waited_for_once(hosts: SshHosts) -> None:
    mute = Mute()
    words = f"-J 127.0.0.1:{mute.port}"
    way = route(host("h1", ansible_ssh_common_args=words))
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda _: refusal(way, 8), range(6)))
    mute.down()
    assert all("h1: jump host 127.0.0.1: " in one and "does not speak SSH within 5 s" in one for one in told)


def test_a_lost_jump_host_is_opened_anew(hosts: SshHosts) -> None:
    hosts.behind("h2", "h1")
    ssh_text.read.cache_clear()
    first = connect(route(host("h2")))
    hosts["h1"].cut()
    until(lambda: not first.is_connected)
    assert opened(route(host("h2"))) == str(hosts["h2"].home)
    close(first)


def test_a_command_as_the_way(hosts: SshHosts) -> None:
    way = f"-o ProxyCommand='ssh -F {hosts.config} -W %h:%p h2'"
    assert opened(route(host("h1", ansible_ssh_common_args=way))) == str(hosts["h1"].home)
    gone = free_port()
    nowhere = f"-o ProxyCommand='ssh -F {hosts.config} -W 127.0.0.1:{gone} h2'"
    assert "h1: its ProxyCommand leads nowhere" in refusal(route(host("h1", ansible_ssh_common_args=nowhere)))
    missing = "-o ProxyCommand='no-such-program %h'"
    assert "no-such-program" in refusal(route(host("h1", ansible_ssh_common_args=missing)))
    mute = "-o ProxyCommand='sleep 60' -o ConnectTimeout=1"
    assert "does not speak SSH within 1 s" in refusal(route(host("h1", ansible_ssh_common_args=mute)))


# -- the rest ----------------------------------------------------------------------------------------------------


def test_a_connection_that_fab_has_made(hosts: SshHosts) -> None:
    from fabric import Config, Connection

    made = Connection("h1", config=Config(user_ssh_path=str(hosts.config)), connect_timeout=3)
    assert for_fab(made, route(host("h1"))) is made
    assert made.run("printf %s $HOME", hide=True, in_stream=False).stdout == str(hosts["h1"].home)
    transport = made.transport
    assert for_fab(made, route(host("h1"))).transport is transport
    close(made)
    hosts.known_hosts.write_text("")
    other = Connection("h1", config=Config(user_ssh_path=str(hosts.config)))
    with pytest.raises(Unreachable, match="is not known"):
        for_fab(other, route(host("h1")))


def test_nothing_is_said_by_the_libraries(hosts: SshHosts, capfd: pytest.CaptureFixture[str]) -> None:
    talker = Talker(b"SSH-2.0-x\r\ngarbage" * 100)
    refusal(on_port(talker.port))
    talker.down()
    hosts.known_hosts.write_text("")
    refusal(route(host("h1")))
    assert tuple(capfd.readouterr()) == ("", "")
    assert not logging.getLogger("paramiko").propagate


def test_failures_leave_nothing_behind(hosts: SshHosts) -> None:
    """The fixture counts threads and descriptors; here of many failures of every stage."""
    mute, talker = Mute(), Talker(b"SSH-2.0-x\r\n")
    other = make_key(hosts.folder / "other")
    ways = [on_port(mute.port, ansible_ssh_timeout=1), on_port(talker.port), on_port(free_port())]
    ways += [with_key(hosts, other), route(host("h1", ansible_ssh_common_args="-o HostKeyAlias=x"))]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda way: refusal(way, 8), ways * 4))
    mute.down()
    talker.down()
