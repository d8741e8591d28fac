"""How a host is reached, by the inventory and by ssh_config; compared with what the real `ssh -G` answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.errors import InventoryError
from ops.fleet import hostkeys, identities
from ops.fleet.ssh import Route, route
from ops.model import Host, Stack
from tests.sshd import USER, make_key, public

needs_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


def host(name: str, **variables: Any) -> Host:
    return Host(name, "/srv", (), Stack("s", "l"), "ssh", (), variables)


class Client:
    """A HOME with an ~/.ssh."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ssh = home / ".ssh"
        self.ssh.mkdir(mode=0o700)

    def file(self, name: str, text: str) -> Path:
        path = self.ssh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def openssh(self, name: str, *more: str) -> dict[str, list[str]]:
        """What the real client makes of the same file."""
        command = ["ssh", "-G", "-F", str(self.ssh / "config"), *more, name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        found: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
        return found


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Client(tmp_path)


def agrees(client: Client, name: str, **variables: Any) -> Route:
    """The route; address, port, user, timeout and alias are those of the real client."""
    found, real = route(host(name, **variables)), client.openssh(name)
    assert [found.address] == real["hostname"]
    assert [str(found.port)] == real["port"]
    assert [found.user] == real["user"]
    return found


# -- what is there when nothing is said --------------------------------------------------------------------------


def test_a_name_alone_is_enough(client: Client) -> None:
    found = route(host("web-1.example.com"))
    assert (found.address, found.port, found.user) == ("web-1.example.com", 22, USER)
    assert (found.checking, found.connect_timeout, found.jumps, found.proxy_command) == ("strict", 5.0, (), "")
    assert found.known_hosts == tuple(f"{client.ssh}/known_hosts{two}" for two in ("", "2"))
    assert found.system_known_hosts == ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    assert found.known_as == "web-1.example.com"
    assert not found.only_identities
    assert found.identities == ()


def test_importing_it_loads_no_library() -> None:
    code = "import sys, ops.fleet.remote, ops.fleet.ssh; print({'fabric', 'paramiko', 'invoke'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


# -- ssh_config --------------------------------------------------------------------------------------------------


def test_ssh_config_is_followed(client: Client) -> None:
    client.file(
        "config",
        """
Host web
    HostName %h.example.com
    Port 2222
    User deploy
    IdentityFile ~/.ssh/%r_key
    IdentityFile "/keys/a b"
    IdentitiesOnly yes
    ConnectTimeout 9
    UserKnownHostsFile ~/.ssh/kh_%h "/k h/%p"
    GlobalKnownHostsFile none
    StrictHostKeyChecking accept-new
    HostKeyAlias the-web
    ServerAliveInterval 7
Host *
    Port 99
    User nobody
""",
    )
    found = agrees(client, "web")
    assert found.address == "web.example.com"
    assert found.identities == (f"{client.ssh}/deploy_key", "/keys/a b")
    assert found.only_identities
    assert (found.connect_timeout, found.keepalive, found.checking) == (9, 7, "accept-new")
    assert found.known_hosts == (f"{client.ssh}/kh_web.example.com", "/k h/2222")
    assert found.system_known_hosts == ()
    assert found.known_as == found.alias == "the-web"
    assert agrees(client, "other").port == 99


@pytest.mark.parametrize(
    ("said", "checking"),
    [("yes", "strict"), ("ask", "strict"), ("accept-new", "accept-new"), ("no", "accept-new"), ("off", "accept-new")],
)
def test_nothing_ever_turns_verification_off(client: Client, said: str, checking: str) -> None:
    client.file("config", f"Host web\n  StrictHostKeyChecking {said}\n")
    assert route(host("web")).checking == checking


def test_what_is_included_counts_where_it_is_included(client: Client) -> None:
    inner, more = client.ssh / "inner.conf", client.ssh / "more.conf"
    client.file(
        "config",
        f"""
Include {client.ssh}/conf.d/*.conf {client.ssh}/no-such-file
Host a* !ax
    Include {inner}
    Port 1001
Match user deploy
    Port 1003
Host *
    Port 1002
""",
    )
    client.file("conf.d/10.conf", f"Host b\n  User ten\nInclude {more}\n")
    client.file("conf.d/20.conf", "Host b\n  User twenty\n  HostName b.example.com\n")
    more.write_text("User fromb\nHost c\n  User deep\n")
    inner.write_text("User inner\nHost a1 b ax\n  HostName only-a1\nMatch host only-a1\n  ConnectTimeout 3\n")
    assert agrees(client, "a1").connect_timeout == 3
    assert agrees(client, "a2").user == "inner"
    assert (agrees(client, "b").user, agrees(client, "b").address) == ("ten", "b.example.com")
    assert agrees(client, "c").user == USER  # its block stands inside that of b
    assert agrees(client, "ax").address == "ax"
    assert agrees(client, "d").port == 1002


def test_include_is_sought_in_the_users_folder(client: Client) -> None:
    client.file("config", "Include own.conf ~/.ssh/second.conf\n")
    client.file("own.conf", "Host web\n  Port 1001\n")
    client.file("second.conf", "Host web\n  User second\n")
    found = route(host("web"))
    assert (found.port, found.user) == (1001, "second")


def test_a_file_that_includes_itself_is_told(client: Client) -> None:
    client.file("config", "Include config\n")
    with pytest.raises(InventoryError, match="more than 16 deep"):
        route(host("web"))


def test_a_broken_config_is_told(client: Client) -> None:
    client.file("config", "Host web\n  Port twelve\n")
    with pytest.raises(InventoryError, match="web: no port: twelve"):
        route(host("web"))
    with pytest.raises(InventoryError, match="ssh_config cannot be used"):
        route(host("web", ansible_ssh_args=f"-F {client.file('other', 'nonsense')}"))


# -- the inventory -----------------------------------------------------------------------------------------------


def test_the_inventory_wins_over_ssh_config(client: Client) -> None:
    client.file(
        "config",
        "Host web.example.com\n  HostName 10.0.0.1\n  Port 99\n  User config\n  IdentityFile /config_key\n"
        "  ProxyCommand proxy %h %p %r %n\nHost web\n  Port 98\n",
    )
    variables = {"ansible_port": 2201, "ansible_user": "ops", "ansible_ssh_private_key_file": "~/.ssh/inventory_key"}
    found = route(host("web", ansible_host="web.example.com", **variables))
    assert (found.address, found.port, found.user) == ("10.0.0.1", 2201, "ops")  # sought by ansible_host, as ssh does
    assert found.identities == (f"{client.ssh}/inventory_key", "/config_key")
    assert found.proxy_command == "proxy 10.0.0.1 2201 ops web.example.com"
    assert found.name == "web"


def test_the_other_names_of_the_variables(client: Client) -> None:
    found = route(host("web", ansible_ssh_host="10.0.0.9", ansible_ssh_port="2202", ansible_ssh_user="u"))
    assert (found.address, found.port, found.user) == ("10.0.0.9", 2202, "u")
    assert route(host("web", ansible_host_key_checking=False)).checking == "accept-new"


def test_words_for_ssh_are_followed(client: Client) -> None:
    words = (
        "-o StrictHostKeyChecking=no -oConnectTimeout=3 -o 'User = cfg' -p 2203 -i /a -l late -o ControlMaster=auto -q"
    )
    found = route(host("web", ansible_ssh_common_args=words, ansible_ssh_extra_args="-J me@jump:2204 -i /b"))
    assert (found.checking, found.connect_timeout, found.user, found.port) == ("accept-new", 3, "cfg", 2203)
    assert found.identities == ("/a", "/b")
    assert [(jump.name, jump.user, jump.port) for jump in found.jumps] == [("jump", "me", 2204)]
    assert route(host("web", ansible_port=1, ansible_ssh_common_args="-p 2")).port == 1


def test_another_config_file(client: Client) -> None:
    client.file("config", "Host web\n  Port 99\n")
    other = client.file("other", "Host web\n  User other\n")
    found = route(host("web", ansible_ssh_common_args=f"-F {other}"))
    assert (found.user, found.port) == ("other", 22)
    assert route(host("web", ansible_ssh_common_args="-F none")).port == 22
    with pytest.raises(InventoryError, match="no such ssh_config"):
        route(host("web", ansible_ssh_common_args="-F /no/such"))


@pytest.mark.parametrize("words", ["-R 1:2:3", "--help", "-o NoSuch=1", "-D 1080", "-L 1:2:3", "-o RemoteCommand=true"])
def test_what_is_not_followed_is_named(client: Client, words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        route(host("web", ansible_ssh_common_args=f"-q {words}"))
    told = "\n".join(caught.value.lines())
    assert f"web: ansible_ssh_common_args has {words.partition(' ')[0]}" in told
    assert "next:" in told


@pytest.mark.parametrize("value", ["a\nProxyCommand evil", "", " "])
def test_a_variable_stays_one_value(client: Client, value: str) -> None:
    with pytest.raises(InventoryError, match="web: ansible_user cannot be used"):
        route(host("web", ansible_user=value))


# -- jump hosts --------------------------------------------------------------------------------------------------


def test_jump_hosts_are_looked_up_too(client: Client) -> None:
    client.file(
        "config",
        "Host web\n  ProxyJump b1,me@b2:2222\nHost b1\n  HostName 10.0.0.1\n  User one\n  ProxyJump b0\n"
        "Host b0\n  Port 2200\n  ProxyCommand nc %h %p\nHost b2\n  User config\n  ProxyJump nowhere\n",
    )
    jumps = route(host("web")).jumps
    assert [jump.name for jump in jumps] == ["b0", "b1", "b2"]  # the way of the first hop is gone too, as ssh does
    assert [jump.place for jump in jumps] == ["b0:2200", "10.0.0.1:22", "b2:2222"]
    assert [jump.user for jump in jumps] == [USER, "one", "me"]
    assert [jump.jumps for jump in jumps] == [(), (), ()]
    assert jumps[0].proxy_command == "nc b0 2200"


def test_a_jump_host_is_not_reached_through_itself(client: Client) -> None:
    client.file("config", "Host *\n  ProxyJump bastion\n")
    assert [jump.name for jump in route(host("web")).jumps] == ["bastion"]
    assert route(host("bastion")).jumps == ()
    other = host("x", ansible_host="bastion", ansible_port=2222)
    assert route(other).jumps == ()


def test_a_jump_host_by_another_name_or_port(client: Client) -> None:
    client.file("config", "Host alias\n  HostName 10.0.0.1\nHost *\n  ProxyJump 10.0.0.1\n")
    assert route(host("alias")).jumps == ()
    (jump,) = route(host("alias", ansible_port=2222)).jumps  # another server of the same machine
    assert jump.place == "10.0.0.1:22"


def test_jumps_in_a_circle_are_told(client: Client) -> None:
    client.file("config", "Host a\n  ProxyJump b\nHost b\n  ProxyJump c\nHost c\n  ProxyJump a\n")
    with pytest.raises(InventoryError, match="circle: a -> b -> c -> a"):
        route(host("a"))


def test_the_first_of_jump_and_command_counts(client: Client) -> None:
    client.file("config", "Host a\n  ProxyCommand none\nHost b\n  ProxyCommand nc x\nHost *\n  ProxyJump j\n")
    assert route(host("a")).jumps == () and route(host("a")).proxy_command == ""
    assert route(host("b")).jumps == () and route(host("b")).proxy_command == "nc x"
    assert route(host("c")).jumps[0].name == "j"
    assert route(host("c", ansible_ssh_common_args="-o ProxyJump=none")).jumps == ()


@pytest.mark.parametrize(
    ("hop", "address", "port"), [("[fe80::1]:2222", "fe80::1", 2222), ("::1", "::1", 22), ("ssh://u@j:5", "j", 5)]
)
def test_the_ways_to_write_a_hop(client: Client, hop: str, address: str, port: int) -> None:
    (jump,) = route(host("web", ansible_ssh_common_args=f"-J {hop}")).jumps
    assert (jump.address, jump.port) == (address, port)


# -- known_hosts -------------------------------------------------------------------------------------------------


@needs_keygen
def test_known_hosts_is_read_as_ssh_does(client: Client) -> None:
    one, two = make_key(client.ssh / "one"), make_key(client.ssh / "two", kind="ecdsa")
    path = client.file(
        "known_hosts",
        f"# a comment\n\nweb,10.0.0.1 {public(one)} me@here\n[web]:2222 {public(two)}\n"
        f"*.example.com,!bad.example.com {public(one)}\n@revoked old {public(two)}\n"
        f"@cert-authority ca {public(two)}\nbroken ssh-rsa !!!\nshort\n",
    )
    files = (str(client.ssh / "missing"), str(path))

    def found(name: str) -> list[tuple[str, int, bool]]:
        return [(known.kind, known.line, known.revoked) for known in hostkeys.known(files, name)]

    assert found("web") == found("10.0.0.1") == found("WEB") == [("ssh-ed25519", 3, False)]
    assert found("[web]:2222") == [("ecdsa-sha2-nistp256", 4, False)]
    assert found("a.example.com") == [("ssh-ed25519", 5, False)]
    assert found("old") == [("ecdsa-sha2-nistp256", 6, True)]
    assert found("bad.example.com") == found("ca") == found("broken") == found("w") == []


@needs_keygen
def test_hashed_names_are_found(client: Client) -> None:
    key = make_key(client.ssh / "one")
    path = client.file("known_hosts", f"web {public(key)}\n[10.0.0.1]:2222 {public(key)}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "web" not in path.read_text()
    assert len(hostkeys.known([str(path)], "[10.0.0.1]:2222")) == len(hostkeys.known([str(path)], "web")) == 1
    assert hostkeys.known([str(path)], "10.0.0.1") == []


@needs_keygen
def test_a_new_key_is_one_line_more(client: Client) -> None:
    key = make_key(client.ssh / "one")
    kind, blob = "ssh-ed25519", identities.public(str(key))
    assert blob is not None
    path = client.ssh / "deep" / "known_hosts"
    hostkeys.remember(str(path), "web", kind, blob)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"web {public(key)}\n"
    path.write_text("# no end of line")
    hostkeys.remember(str(path), "[web]:2222", kind, blob)
    hostkeys.remember(str(path), "[web]:2222", kind, blob)
    assert path.read_text() == f"# no end of line\n[web]:2222 {public(key)}\n"
    listed = subprocess.run(["ssh-keygen", "-l", "-f", f"{key}.pub"], capture_output=True, text=True, check=True)
    assert hostkeys.fingerprint(blob) in listed.stdout


# -- key files ---------------------------------------------------------------------------------------------------


@needs_keygen
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_public_half_is_found_without_the_passphrase(client: Client, kind: str) -> None:
    key = make_key(client.ssh / f"id_{kind}", kind=kind, passphrase="secret")
    half = identities.public(f"{key}.pub")
    assert half is not None
    assert identities.public(str(key)) == half
    os.unlink(f"{key}.pub")
    assert identities.public(str(key)) == half  # from the private file itself, which does not hide it
    assert identities.usual() == (str(key),)
    assert identities.public("/no/such") is None
