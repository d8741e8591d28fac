"""Verify: whether a host is the one it says it is.

Knows: the known host keys, what a route wants of an unknown or a changed one, what to tell. Must not know: sockets,
how the key travels.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from ops.fleet import hostkeys
from ops.fleet.line import Unreachable
from ops.fleet.ssh import Route


class HostKey:
    """Asked by paramiko about the key of the host; it has no known keys of its own, so it asks about every one."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._files = (*route.known_hosts, *route.system_known_hosts)
        self._known = hostkeys.known(self._files, route.known_as)
        self.accepted = False

    def ordered(self, kinds: Sequence[str]) -> list[str]:
        """The kinds of keys, those that are known first: the host may have others as well."""
        known = {one.kind for one in self._known}
        known |= {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in known else set()
        return sorted(kinds, key=lambda kind: kind not in known)

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002 - paramiko's signature
        """Returns when the key is the host's; Unreachable else."""
        blob = key.asbytes()
        same = [one for one in self._known if one.blob == blob]
        if any(one.revoked for one in same):
            raise self._revoked(blob)
        if not same and not self._is_known_without_port(blob):
            trusted = [one for one in self._known if not one.revoked]
            if trusted:
                raise self._changed(key.get_name(), blob, trusted)
            if self._route.checking == "strict":
                raise self._unknown(key.get_name(), blob)
            self._remember(key.get_name(), blob)
        self.accepted = True

    def _is_known_without_port(self, blob: bytes) -> bool:
        """ssh(1) too takes a key that the plain address has for that of its other ports."""
        if self._route.alias or self._known:
            return False
        plain = hostkeys.known(self._files, self._route.address)
        return any(one.blob == blob for one in plain) and not any(one.revoked and one.blob == blob for one in plain)

    def _remember(self, kind: str, blob: bytes) -> None:
        if not self._route.known_hosts:
            return  # UserKnownHostsFile none: nothing is to be remembered
        path = self._route.known_hosts[0]
        try:
            hostkeys.remember(path, self._route.known_as, kind, blob)
        except OSError as error:
            raise Unreachable(
                f"{self._route.name}: its host key is new and cannot be remembered: {path}: {error.strerror}",
                wanted=f"a {path} that can be written",
                next="make it writable, or add the key by hand",
            ) from None

    def _unknown(self, kind: str, blob: bytes) -> Unreachable:
        route, offered = self._route, f"{kind} {hostkeys.fingerprint(blob)}"
        return Unreachable(
            f"{route.name}: the host key of {route.known_as} is not known; it offers {offered}",
            wanted=f"its key in {' or '.join(self._files) or 'a known_hosts file'}",
            next=f"compare the fingerprint with the host's own, then once: {_ssh(route)}"
            f"    or: ssh-keyscan -p {route.port} {route.address} >> ~/.ssh/known_hosts",
        )

    def _changed(self, kind: str, blob: bytes, known: list[hostkeys.Known]) -> Unreachable:
        one = next((one for one in known if one.kind == kind), known[0])
        route, offered = self._route, f"{kind} {hostkeys.fingerprint(blob)}"
        return Unreachable(
            f"{route.name}: the host key of {route.known_as} has CHANGED: it offers {offered}",
            wanted=f"{one.kind} {hostkeys.fingerprint(one.blob)}, as in {one.place}",
            next="somebody may be in between; if the change is right: "
            f'ssh-keygen -R "{route.known_as}" -f {shlex.quote(one.path)}, then once: {_ssh(route)}',
        )

    def _revoked(self, blob: bytes) -> Unreachable:
        return Unreachable(
            f"{self._route.name}: the host key {hostkeys.fingerprint(blob)} is marked @revoked in known_hosts",
            wanted="a key that is not revoked",
            next="find out why it was revoked, and give the host a new key",
        )


def _ssh(route: Route) -> str:
    """What to type to come to the host by hand, as the same ssh_config allows."""
    port = "" if route.port == 22 else f"-p {route.port} "
    jumps = f"-J {','.join(jump.name for jump in route.jumps)} " if route.jumps else ""
    return f"ssh {jumps}{port}{route.user}@{route.address}"
