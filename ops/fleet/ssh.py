"""Ssh: how a host is reached, by the inventory and by the ssh_config of whoever runs this.

Knows: ssh_config with what it includes, Ansible's variables for SSH, and which of them wins. Must not know: sockets,
whether anybody answers, what is said once the line is open.

paramiko matches blocks and fills tokens in, but ignores `Include`, so it is given one text in which that is done.
Precedence: variables of the inventory, then the words of `ansible_ssh_*_args`, then ~/.ssh/config, then
/etc/ssh/ssh_config; of each option the first one counts, and identity files add up, as ssh(1) has it.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from ops.errors import InventoryError
from ops.fleet import ssh_text
from ops.frozen import frozen
from ops.model import Host

CONNECT_TIMEOUT = 5.0
KEEPALIVE = 15  # seconds; shorter than the memory of any NAT that is still in use

Option = tuple[str, str]

# By the option of ssh_config that it sets; the first variable that is given counts.
_VARIABLES = {
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "identityfile": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
    "connecttimeout": ("ansible_ssh_timeout", "ansible_timeout"),
    "stricthostkeychecking": ("ansible_ssh_host_key_checking", "ansible_host_key_checking"),
}
_ADDRESS = ("ansible_host", "ansible_ssh_host")
_ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")

_FOLLOWED = (
    *("hostname", "port", "user", "identityfile", "identitiesonly", "identityagent", "proxyjump", "proxycommand"),
    *("connecttimeout", "userknownhostsfile", "globalknownhostsfile", "stricthostkeychecking", "hostkeyalias"),
    "serveraliveinterval",
)
# They change neither who is asked nor how the host is known: sharing connections is done here in another way, nothing
# is forwarded, and both ends agree on the algorithms by themselves.
_WITHOUT_EFFECT = (
    *("batchmode", "loglevel", "controlmaster", "controlpath", "controlpersist", "tcpkeepalive", "compression"),
    *("serveralivecountmax", "connectionattempts", "forwardagent", "forwardx11", "addressfamily", "requesttty"),
    *("preferredauthentications", "passwordauthentication", "kbdinteractiveauthentication", "pubkeyauthentication"),
    *(
        "challengeresponseauthentication",
        "gssapiauthentication",
        "gssapidelegatecredentials",
        "numberofpasswordprompts",
    ),
    *("hostkeyalgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "kexalgorithms", "ciphers", "macs"),
    *("updatehostkeys", "checkhostip", "ipqos", "visualhostkey", "addkeystoagent"),
)
_SWITCHES = {"-J": "proxyjump", "-p": "port", "-i": "identityfile", "-l": "user"}
_IDLE_SWITCHES = re.compile(r"-[qvCTxaAtn46]+")

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@frozen
class Route:
    """How one host is reached. Paths are absolute; durations are seconds."""

    name: str  # as the inventory, or a ProxyJump, calls it
    address: str
    port: int = 22
    user: str = ""
    identities: tuple[str, ...] = ()  # the default ones of ~/.ssh are tried when there are none
    agent: str = ""  # the socket of the ssh agent, or none
    only_identities: bool = False  # of the agent's keys, only those of `identities` are offered
    known_hosts: tuple[str, ...] = ()  # new keys go to the first
    system_known_hosts: tuple[str, ...] = ()
    checking: Literal["strict", "accept-new"] = "strict"
    alias: str = ""  # HostKeyAlias
    connect_timeout: float = CONNECT_TIMEOUT
    jumps: tuple[Route, ...] = ()  # nearest first
    proxy_command: str = ""
    keepalive: int = KEEPALIVE

    @property
    def place(self) -> str:
        """`10.0.0.1:22`, for people."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def known_as(self) -> str:
        """What known_hosts calls it: the alias, `address`, or `[address]:port`."""
        if self.alias:
            return self.alias
        address = self.address.lower()
        return address if self.port == 22 else f"[{address}]:{self.port}"


def route(host: Host) -> Route:
    """How the host is reached. InventoryError for a variable or an ssh_config that cannot be followed."""
    options: list[Option] = []
    for option, names in _VARIABLES.items():
        value = _first(host, names)
        if value is not None:
            options.append((option, _plain(host.name, names[0], _words_of(option, value))))
    config = None
    for name in _ARGS:
        for option, value in _arguments(host, name):
            if option == "config":
                config = os.path.abspath(os.path.expanduser(value))
            else:
                options.append((option, _plain(host.name, name, value)))
    target = _first(host, _ADDRESS)
    return _Reader(config).route(host.name, host.name if target is None else str(target), tuple(options), ())


def _first(host: Host, names: tuple[str, ...]) -> Any:
    return next((host.vars[name] for name in names if host.vars.get(name) is not None), None)


def _words_of(option: str, value: Any) -> str:
    if option == "stricthostkeychecking":
        return "no" if str(value).lower() in ("false", "no", "0", "off") else "yes"
    return str(value)


def _plain(host: str, variable: str, value: str) -> str:
    """The value, which goes into a line of a text that is parsed."""
    if not value.strip() or not value.isprintable():
        raise InventoryError(f"{host}: {variable} cannot be used: {value!r}")
    return value


def _arguments(host: Host, name: str) -> Iterator[Option]:
    """The options in a variable that holds words for ssh(1). `config` is the file of -F."""
    try:
        words = iter(shlex.split(str(host.vars.get(name) or "")))
    except ValueError as error:
        raise InventoryError(f"{host.name}: {name} cannot be read: {error}") from None
    for word in words:
        switch, value = word[:2], word[2:]
        if switch not in ("-o", "-F", *_SWITCHES):
            if not _IDLE_SWITCHES.fullmatch(word):
                raise _not_followed(host.name, name, word)
            continue
        value = value or next(words, "")
        if switch == "-o":
            yield from _option(host.name, name, value)
        else:
            yield _SWITCHES.get(switch, "config"), value


def _option(host: str, variable: str, text: str) -> Iterator[Option]:
    key, _, value = re.sub(r"\s*=\s*|\s+", "=", text.strip(), count=1).partition("=")
    if key.lower() in _FOLLOWED:
        yield key.lower(), value
    elif key.lower() not in _WITHOUT_EFFECT:
        raise _not_followed(host, variable, f"-o {text}")


def _not_followed(host: str, variable: str, word: str) -> InventoryError:
    known = ", ".join(sorted(_FOLLOWED))
    return InventoryError(
        f"{host}: {variable} has {word}, which is not followed here",
        next=f"take it out; followed are -J, -p, -i, -l, -F and -o with {known}",
    )


# -- one route ---------------------------------------------------------------------------------------------------


class _Reader:
    """Routes by one ssh_config: that of the user and of the system, or the file that is named instead."""

    def __init__(self, config: str | None) -> None:
        self._home = os.path.expanduser("~")
        self._text = ssh_text.read(self._home, config)

    def route(self, name: str, target: str, options: tuple[Option, ...], before: tuple[str, ...]) -> Route:
        """The route to `target`. `before` are the hosts that are reached through it."""
        if target in before:
            raise InventoryError(f"{name}: its jump hosts go around in a circle: {' -> '.join((*before, target))}")
        found = self._look_up(name, target, options)
        value = _Values(name, found, target, self._home)
        made = Route(
            name=name,
            address=found["hostname"],
            port=value.port(),
            user=value.user,
            identities=value.identities(),
            agent=value.agent(),
            only_identities=found.get("identitiesonly", "").lower() == "yes",
            known_hosts=value.files("userknownhostsfile", f"{self._home}/.ssh/known_hosts"),
            system_known_hosts=value.files("globalknownhostsfile", f"{ssh_text.SYSTEM_FOLDER}/ssh_known_hosts"),
            checking=value.checking(),
            alias=found.get("hostkeyalias", ""),
            connect_timeout=value.seconds("connecttimeout") or CONNECT_TIMEOUT,
            keepalive=int(value.seconds("serveraliveinterval", KEEPALIVE)),
        )
        # Of the two, the one that is written first counts.
        ways = [key for key in found if key in ("proxyjump", "proxycommand")]
        if ways[:1] == ["proxycommand"] and found["proxycommand"]:
            return replace(made, proxy_command=value.filled(found["proxycommand"]))
        if ways[:1] == ["proxyjump"]:
            return replace(made, jumps=self._jumps(made, found["proxyjump"], (*before, target)))
        return made

    def _look_up(self, name: str, target: str, options: tuple[Option, ...]) -> dict[str, Any]:
        from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

        head = "".join(f"{option} {value}\n" for option, value in options)
        try:
            return dict(_parsed(head + self._text).lookup(target))
        except (ConfigParseError, CouldNotCanonicalize, ValueError) as error:
            raise InventoryError(f"{name}: the ssh_config cannot be used: {error}") from None

    def _jumps(self, made: Route, text: str, before: tuple[str, ...]) -> tuple[Route, ...]:
        hops = [hop for hop in (one.strip() for one in text.split(",")) if hop and hop.lower() != "none"]
        routes: list[Route] = []
        for hop in hops:
            host, options = _spec(made.name, hop)
            if host.lower() == before[-1].lower():
                return ()  # `Host *` with a ProxyJump: the jump host itself is reached directly
            reached = self.route(host, host, options, before)
            if (reached.address, reached.port, reached.user) == (made.address, made.port, made.user):
                return ()  # the same by another name
            # What is said on the way counts for the first hop only: the others are reached through the one before.
            routes += (*reached.jumps, replace(reached, jumps=())) if not routes else (_bare(reached),)
        return tuple(routes)


def _bare(jump: Route) -> Route:
    return replace(jump, jumps=(), proxy_command="")


def _spec(name: str, hop: str) -> tuple[str, tuple[Option, ...]]:
    """`user@host:port`, `[::1]:22` or `ssh://...` as a host and its options."""
    user, _, place = hop.removeprefix("ssh://").rpartition("@")
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]+|.*:.*:.*))(?::(?P<port>\d+))?/?", place)
    if not found:
        raise InventoryError(f"{name}: ProxyJump {hop} cannot be read", next="write it as user@host:port")
    options = [("user", user)] if user else []
    options += [("port", found["port"])] if found["port"] else []
    return found["v6"] or found["host"], tuple(options)


class _Values:
    """The values that ssh_config has for one host, read."""

    def __init__(self, name: str, found: dict[str, Any], target: str, home: str) -> None:
        self._name = name
        self._found = found
        self._home = home
        try:
            local = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container may run as a uid without a name
            local = str(os.getuid())
        self.user = str(found.get("user") or local)
        known = {"h": found["hostname"], "p": str(found.get("port", 22)), "r": self.user, "n": target}
        self._tokens = {**known, "d": home, "u": local, "%": "%"}

    def filled(self, text: str) -> str:
        """The text with the tokens that paramiko leaves alone filled in."""
        return re.sub(r"%([hprndu%])", lambda match: self._tokens[match[1]], text)

    def path(self, text: str) -> str:
        return os.path.abspath(os.path.expanduser(self.filled(text)))

    def port(self) -> int:
        text = str(self._found.get("port", 22))
        if not text.isdecimal() or not 0 < int(text) < 65_536:
            raise InventoryError(f"{self._name}: no port: {text}")
        return int(text)

    def identities(self) -> tuple[str, ...]:
        named = [one for one in self._found.get("identityfile", ()) if one.lower() != "none"]
        return tuple(dict.fromkeys(self.path(one) for one in named))

    def agent(self) -> str:
        text = self._found.get("identityagent", "SSH_AUTH_SOCK")
        if text.lower() == "none":
            return ""
        if text == "SSH_AUTH_SOCK" or text.startswith("$"):
            return os.environ.get(text.strip("${}"), "")
        return self.path(text)

    def files(self, key: str, usual: str) -> tuple[str, ...]:
        text = self._found.get(key)
        if text is None:
            return (usual, f"{usual}2")
        words = shlex.split(text) if '"' in text else text.split()
        return tuple(self.path(word) for word in words if word.lower() != "none")

    def checking(self) -> Literal["strict", "accept-new"]:
        said = self._found.get("stricthostkeychecking", "ask").lower()
        return "accept-new" if said in ("no", "off", "false", "accept-new") else "strict"

    def seconds(self, key: str, usual: float = 0) -> float:
        text = str(self._found.get(key, usual)).lower()
        if text == "none":
            return 0
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
        if not found:
            raise InventoryError(f"{self._name}: {key} is no time: {text}")
        return float(found[1]) * _SECONDS[found[2]]


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Any:  # an SSHConfig
    from paramiko import SSHConfig

    return SSHConfig.from_text(text)
