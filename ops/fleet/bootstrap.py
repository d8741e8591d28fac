"""Making a host ready, and bringing one up to date: the toolkit goes there, and its Python puts it in place.

Knows: what is asked of a host's own Python (ops/fleet/groundwork.py), what travels. Must not know: SSH, services.
"""

from __future__ import annotations

import functools
import json
import secrets
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops import __version__
from ops.errors import OpsError
from ops.fleet import groundwork, release
from ops.fleet.exchange import Broken, Exchange
from ops.fleet.release import Platform
from ops.inventory import sent
from ops.model import Host, Outcome

if TYPE_CHECKING:
    from ops.fleet.remote import Connection

_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(16, 9, -1)), "/usr/local/bin/python3")
_PYTHONS += ("/opt/homebrew/bin/python3", "/usr/bin/python3")
_TO_INSTALL = 180.0  # seconds without a word: a small machine compiles for a while
_INTERPRETER = "ansible_python_interpreter"
# The first Python there that is new enough is given the groundwork; one that Apple only offers to install is no Python.
_FIND = """
for p in {pythons}; do
    q=$(command -v "$p" 2>/dev/null) || continue
    if [ "$q" = /usr/bin/python3 ] && [ -x /usr/bin/xcode-select ] && ! /usr/bin/xcode-select -p >/dev/null 2>&1; then
        continue
    fi
    v=$("$q" -I -c "import sys; print(sys.version_info >= (3, 10), sys.version.split()[0])" 2>/dev/null </dev/null)
    case $v in
    True*) exec "$q" -I -c "import sys; exec(eval(sys.stdin.buffer.readline()))" ;;
    esac
    v=${{v#False }}
    seen="$seen${{seen:+, }}$q ${{v:-(does not run)}}"
done
echo
echo "{token} {{\\"pythons\\": \\"$seen\\"}}"
"""


@dataclass(frozen=True)
class Ground:
    """What there is on a host: its platform, which release is in use, whether that is whole and the one from here,
    whether its part of the inventory is, and what keeps a release from being put there (seen, wanted, next)."""

    platform: Platform
    release: str
    whole: bool
    promised: bool
    lacking: tuple[str, ...]


def shell(script: str, become: str) -> str:
    """A command line that runs the script in a POSIX shell, whatever the user's own is; as another user by sudo."""
    words = ["/bin/sh", "-c", script]
    if become:
        words = ["sudo", "-n", "-H", "-u", become, "--", *words]
    return "exec " + shlex.join(words)


def become_of(host: Host) -> str:
    """The user that commands run as there, when that is not the one who logs in."""
    return str(host.vars.get("ansible_become_user") or "root") if host.vars.get("ansible_become") is True else ""


def look(connection: Connection, host: Host) -> Ground:
    """What there is. OpsError when there is no Python that would do."""
    said = _ask(connection, host, {"do": "look"}, b"", 20.0)
    try:
        major, minor, _ = said["python"]
        platform = Platform(said["system"], said["machine"], said["libc"], (major, minor))
        return Ground(platform, said["release"], said["whole"], said["promised"], tuple(said["lacking"]))
    except (KeyError, TypeError, ValueError):
        raise OpsError(f"{host.name} answers what its Python was not asked: {str(said)[:100]}") from None


def install(connection: Connection, host: Host, ground: Ground) -> None:
    """Puts the release and the host's part of the inventory there. OpsError says what was missing."""
    if ground.lacking:
        raise lacking(host, ground.lacking)
    data = b"" if ground.whole else _archive(ground.platform)
    said = _ask(connection, host, {"do": "install", "bytes": len(data)}, data, _TO_INSTALL)
    if said.get("lacking"):
        raise lacking(host, said["lacking"])


@functools.cache
def _archive(platform: Platform) -> bytes:
    return release.archive(platform)


def lacking(host: Host, told: Any) -> OpsError:
    seen, wanted, next_line = (*map(str, told), "", "", "")[:3]
    return OpsError(f"{host.name}: {seen}", wanted=wanted, next=next_line)


def _ask(connection: Connection, host: Host, said: dict[str, Any], data: bytes, within: float) -> dict[str, Any]:
    """Has the groundwork run there; its answer."""
    token = secrets.token_hex(8)
    head = {
        **said,
        "token": token,
        "stack": host.stack.name,
        "release": release.own(),
        "version": __version__,
        "libraries": release.requirements(),
        "inventory": sent.dumps(host).decode(),
    }
    pythons = _pythons(host)
    script = _FIND.format(pythons=shlex.join(pythons), token=token)
    exchange = Exchange(connection, shell(script, become_of(host)), token, within)
    try:
        answer = _heard(exchange, repr(_groundwork()).encode() + b"\n" + json.dumps(head).encode() + b"\n" + data)
    finally:
        exchange.close()
    if answer is None:
        raise _no_answer(host, exchange)
    if "pythons" in answer:
        raise _no_python(host, str(answer["pythons"]), pythons)
    return answer


def _heard(exchange: Exchange, message: bytes) -> dict[str, Any] | None:
    """The one answer; None when it ended without one. A host without Python reads nothing of what it is sent."""
    broken = None
    try:
        exchange.send(message)
    except Broken as error:
        broken = error
    for said in exchange.said():
        return said
    if broken:
        raise broken
    return None


def _pythons(host: Host) -> tuple[str, ...]:
    named = host.vars.get(_INTERPRETER)
    automatic = not isinstance(named, str) or named.startswith("auto")
    return _PYTHONS if automatic else (str(named),)


@functools.cache
def _groundwork() -> str:
    with open(groundwork.__file__, encoding="utf-8") as file:
        return file.read()


def _no_python(host: Host, seen: str, wanted: tuple[str, ...]) -> OpsError:
    named = f" ({_INTERPRETER})" if len(wanted) == 1 else ""
    return OpsError(
        f"{host.name}: no Python that is new enough; seen: {seen or 'none'}",
        wanted=f"Python 3.10 or newer{f' as {wanted[0]}{named}' if named else ''}",
        next=f"install one there, or name it in the inventory: {_INTERPRETER}: /path/to/python3",
    )


def _no_answer(host: Host, exchange: Exchange) -> OpsError:
    why = exchange.complaint or f"exit code {exchange.code}"
    if "password" in why and "sudo" in why:
        return OpsError(
            f"{host.name}: sudo wants a password: {why}",
            wanted="sudo without one for who logs in there (NOPASSWD), or no ansible_become",
            next=f"sudo visudo on {host.name}, or remove ansible_become",
        )
    return OpsError(f"{host.name}: its shell did not run Python: {why}", wanted="a login shell that runs /bin/sh")


# -- the verb -------------------------------------------------------------------------------------------------------


def outcomes(host: Host, ground: Ground) -> list[Outcome]:
    """What there is to be done, as outcomes: the release, and the host's part of the inventory."""
    stale = "absent" if not ground.release else f"release {ground.release[:8]}"
    wanted = f"release {release.own()[:8]}"
    toolkit = Outcome("toolkit", "bootstrap", "ok", wanted, wanted, "in place", host=host.name)
    if not ground.whole:
        before = f"{wanted}, not whole" if stale == wanted else stale
        toolkit = Outcome("toolkit", "bootstrap", "changed", before, wanted, "put there", host=host.name)
    part = Outcome("inventory", "bootstrap", "ok", "as here", "as here", "its part", host=host.name)
    if not ground.promised:
        part = Outcome("inventory", "bootstrap", "changed", "another", "as here", "its part was sent", host=host.name)
    return [toolkit, part]
