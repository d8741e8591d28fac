"""Remote: from a Route to an open connection whose host key was verified, or to plain words why there is none.

Knows: paramiko and Fabric, jump hosts that several hosts share, the order in which keys are offered. Must not know:
the inventory, what is asked over the connection.

Fabric by itself verifies no host key, ignores UserKnownHostsFile, and waits without an end; so it is given a line that
is open already, and the two objects through which paramiko asks: `HostKey` for the host's key, `_Login` for ours.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.fleet import identities
from ops.fleet.jumps import Jump
from ops.fleet.line import Line, Program, TurnedAway, Unreachable, dial
from ops.fleet.ssh import Route
from ops.fleet.verify import HostKey

if TYPE_CHECKING:
    from fabric import Connection

__all__ = ["Connection", "Unreachable", "close", "connect", "failures", "for_fab"]

LOGIN = 10.0  # seconds for all keys together
_PAUSES = (0.2, 0.6)  # before the second and the third try; as many callers as are turned away come again spread out
_AGENT_LISTS = 3.0  # seconds


def connect(route: Route) -> Connection:
    """An open connection; the host's key was verified. Unreachable within about `connect_timeout` + LOGIN, and as much
    again for each jump host. One thread opens a connection; once open, several may use it."""
    from fabric import Config, Connection
    from paramiko import SSHConfig

    # An empty ssh_config: what the user's says is in the route, and Fabric would read it anew for each host.
    config = Config(ssh_config=SSHConfig(), lazy=True, overrides={"run": {"in_stream": False}})
    return _opened(Connection(route.address, route.user, route.port, config=config, gateway=False), route)


def for_fab(connection: Connection, route: Route) -> Connection:
    """Opens a connection that the `fab` program has made, as `connect` would; an open one is used as it is."""
    if connection.is_connected:
        return connection
    from paramiko import SSHClient

    connection.client = SSHClient()  # Fabric's own accepts any key
    connection.host, connection.user, connection.port = route.address, route.user, route.port
    connection.gateway, connection.connect_timeout = False, None
    return _opened(connection, route)


def close(connection: Connection) -> None:
    """Ends the connection; a jump host is let go with the last that went through it. May be called again."""
    with contextlib.suppress(OSError, EOFError):
        connection.close()
    connection.client.close()


def failures() -> tuple[type[Exception], ...]:
    """What an open connection that breaks raises, wherever that is noticed."""
    from paramiko import SSHException

    return (SSHException, OSError, EOFError)


def _opened(connection: Connection, route: Route) -> Connection:
    logger = logging.getLogger("paramiko")
    logger.propagate = False  # its threads tell of every failure with a traceback; all of it is told here
    logger.addHandler(logging.NullHandler())
    host_key, login = HostKey(route), _Login(route, dict(connection.connect_kwargs))
    line = _speaking(route)
    try:
        connection.connect_kwargs = _arguments(line, route, host_key, login)
        connection.client.set_missing_host_key_policy(host_key)
        connection.open()
        connection.transport.set_keepalive(route.keepalive)
    except OpsError:
        raise
    except Exception as error:  # noqa: BLE001 - a host may send anything, and paramiko raises what it stumbles over
        raise login.refused() if host_key.accepted else _not_agreed(route, error) from None
    finally:
        if not connection.is_connected:
            _drop(connection, line)
    return connection


def _drop(connection: Connection, line: Line) -> None:
    transport = connection.client.get_transport()
    if transport is not None:
        transport.packetizer.complete_handshake()  # else its timer lives on for 15 s
    connection.client.close()
    line.close()


def _arguments(line: Line, route: Route, host_key: HostKey, login: _Login) -> dict[str, Any]:
    times = {"timeout": route.connect_timeout, "banner_timeout": route.connect_timeout, "auth_timeout": LOGIN}
    ways = {"sock": line, "transport_factory": _transports(host_key), "auth_strategy": login}
    return {**times, "channel_timeout": LOGIN, **ways, "allow_agent": False, "look_for_keys": False}


def _transports(host_key: HostKey) -> Callable[..., Any]:
    """What makes a transport that asks first for a key of the kinds that are known."""
    from paramiko import Transport

    def made(sock: Any, **more: Any) -> Any:
        transport = Transport(sock, **more)
        options = transport.get_security_options()
        options.key_types = host_key.ordered(options.key_types)
        return transport

    return made


def _not_agreed(route: Route, error: Exception) -> Unreachable:
    """What a person is told of a failure after the greeting and before the host key."""
    seen = "hung up during the handshake" if isinstance(error, (EOFError, OSError)) else f"no handshake: {error}"
    if "No existing session" in str(error):  # which is how paramiko says that the time is over
        seen = f"did not finish the SSH handshake within {route.connect_timeout:g} s"
    return Unreachable(
        f"{route.name}: {route.place} greets, but {seen}",
        wanted="an SSH server that agrees on a way to speak",
        next=f"compare: ssh -v -p {route.port} {route.user}@{route.address}",
    )


# -- the line ----------------------------------------------------------------------------------------------------


def _speaking(route: Route) -> Line:
    """A line on which an SSH server has greeted. Only who is turned away before a word, as by MaxStartups, tries
    again."""
    with contextlib.ExitStack() as held:
        if route.jumps:  # first, and held: the time of the jump hosts is their own
            held.callback(_jump(route).release)
        end = time.monotonic() + route.connect_timeout
        for pause in _PAUSES:
            line = _line(route, end)
            try:
                return _greeted(line, route, end)
            except TurnedAway:
                if time.monotonic() + pause > end:
                    raise
            threading.Event().wait(pause * random.uniform(0.5, 1.5))
        return _greeted(_line(route, end), route, end)


def _greeted(line: Line, route: Route, end: float) -> Line:
    try:
        line.greet(route, end)
    except BaseException:
        line.close()
        raise
    return line


def _line(route: Route, end: float) -> Line:
    if route.jumps:
        jump = _jump(route)
        return Line(_channel(jump, route, end), jump.release)
    if route.proxy_command:
        from paramiko import ProxyCommand

        return Line(Program(ProxyCommand(shlex.join(["/bin/sh", "-c", f"exec {route.proxy_command}"]))))
    return Line(dial(route, end))


def _jump(route: Route) -> Jump:
    """The last of its jump hosts, open. Unreachable says which one is not."""
    return Jump.taken(route, connect, close)


def _channel(jump: Jump, route: Route, end: float) -> Any:
    """A way on to the host; Unreachable says which jump host has none."""
    from paramiko import SSHException

    there, timeout = (route.address, route.port), max(end - time.monotonic(), 0.01)
    try:
        return jump.connection.transport.open_channel("direct-tcpip", there, ("", 0), timeout=timeout)
    except (SSHException, OSError, EOFError) as error:
        jump.release()
        why = getattr(error, "text", "") or str(error) or "it hung up"
        raise Unreachable(
            f"{route.name}: jump host {jump.name} cannot reach {route.place}: {why}",
            wanted=f"an SSH server at {route.place}, as seen from {jump.name}",
            next=f"is the host up, and does {jump.name} allow it (AllowTcpForwarding)?",
        ) from None


# -- logging in --------------------------------------------------------------------------------------------------


class _Login:
    """Asked by paramiko to log in: with the keys that the route names, then with the others of the agent."""

    def __init__(self, route: Route, given: dict[str, Any]) -> None:
        self._route = route
        self._secrets = {key: given[key] for key in ("password", "passphrase") if given.get(key)}
        more = given.get("key_filename") or ()
        self._named = tuple(dict.fromkeys([*([more] if isinstance(more, str) else more), *route.identities]))
        self._tried: list[str] = []
        self._locked: list[str] = []
        self._troubles: list[str] = []
        self._end = 0.0

    def authenticate(self, transport: Any) -> list[str]:
        from paramiko import AuthenticationException

        self._end = time.monotonic() + LOGIN
        with contextlib.closing(_Agent(self._route.agent)) as agent:
            self._troubles += agent.troubles
            for ask in self._ways(transport, agent):
                if self._is_accepted(transport, ask):
                    return []
                if not transport.is_active() or time.monotonic() >= self._end:
                    break
        if not transport.is_active():
            self._troubles.append(f"it hung up after {len(self._tried)} keys (MaxAuthTries)")
        elif time.monotonic() >= self._end:
            self._troubles.append(f"no answer to that within {LOGIN:g} s")
        raise AuthenticationException

    def _ways(self, transport: Any, agent: _Agent) -> Iterator[Callable[[], Any]]:
        user = self._route.user
        for words, key in self._keys(agent):
            self._tried.append(words)
            yield functools.partial(transport.auth_publickey, user, key)
        if "password" in self._secrets:
            self._tried.append("a password")
            yield functools.partial(transport.auth_password, user, self._secrets["password"])
        yield functools.partial(transport.auth_none, user)  # some know by other means who calls

    def _is_accepted(self, transport: Any, ask: Callable[[], Any]) -> bool:
        from paramiko import AuthenticationException

        transport.auth_timeout = max(self._end - time.monotonic(), 0.01)
        try:
            further = ask()
        except AuthenticationException:
            return False
        if further:
            self._troubles.append(f"{self._tried[-1]} is accepted, but {' and '.join(further)} is wanted as well")
        return not further

    def _keys(self, agent: _Agent) -> Iterator[tuple[str, Any]]:
        """The keys to offer, with what people call them. A locked one of the agent needs no passphrase."""
        left = {key.blob: key for key in agent.keys}
        for path in self._named or identities.usual():
            key = left.pop(identities.public(path) or b"", None)
            if key is not None:
                yield f"{path} (agent)", key
                continue
            key = self._loaded(path)
            if key is not None:
                yield path, key
        if not self._route.only_identities:
            yield from ((f"{key.comment or key.get_name()} (agent)", key) for key in left.values())

    def _loaded(self, path: str) -> Any:
        from paramiko import PKey

        secret = self._secrets.get("passphrase")
        try:
            return PKey.from_path(path, secret.encode()) if secret else PKey.from_path(path)
        except OSError as error:
            self._troubles.append(f"{path}: {error.strerror}")
        except TypeError:  # which is how the library says that it needs a passphrase
            self._locked.append(path)
            self._troubles.append(f"{path} needs a passphrase")
        except Exception:  # noqa: BLE001 - whatever the library says of such a file, it is told and the next is tried
            self._troubles.append(f"{path}: no private key that can be read")
        return None

    def refused(self) -> Unreachable:
        """What to tell when it did not work."""
        route = self._route
        why = f": {'; '.join(self._troubles)}" if self._troubles else ""
        if self._locked:
            then = f"ssh-add {shlex.quote(self._locked[0])}"
        else:
            port = "" if route.port == 22 else f"-p {route.port} "
            then = f"ssh-copy-id {port}{route.user}@{route.address}, or ssh-add a key that it knows"
        return Unreachable(
            f"{route.name}: authentication failed as {route.user}{why}",
            wanted=f"a key that {route.place} accepts; tried: {', '.join(self._tried) or 'none, there is none to try'}",
            next=then,
        )


class _Agent:
    """The keys of an ssh agent, if there is one. Neither listing nor signing may take for ever."""

    def __init__(self, path: str) -> None:
        self.keys: tuple[Any, ...] = ()
        self.troubles: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        if path:
            self._list(path)

    def _list(self, path: str) -> None:
        from paramiko import SSHException
        from paramiko.agent import AgentSSH

        agent: Any = AgentSSH()
        try:
            self._socket.settimeout(_AGENT_LISTS)
            self._socket.connect(path)
            agent._connect(self._socket)  # its own way of connecting has no timeout
            self._socket.settimeout(LOGIN)
        except (OSError, SSHException) as error:
            self.troubles.append(f"the ssh agent ({path}) does not answer: {getattr(error, 'strerror', '') or error}")
        else:
            self.keys = agent.get_keys()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for a signature
        self._socket.close()
