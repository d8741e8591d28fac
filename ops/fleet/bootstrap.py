"""Making a host ready, and bringing one up to date: the toolkit goes there, and its Python puts it in place.

Knows: what is asked of a host's own Python (ops/fleet/groundwork.py), what travels. Must not know: SSH, services.
"""

from __future__ import annotations

import functools
import json
import secrets
import shlex
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ops import __version__
from ops.errors import OpsError
from ops.fleet import groundwork, release
from ops.fleet.exchange import Broken, Exchange, one_line
from ops.fleet.release import Platform
from ops.frozen import frozen
from ops.inventory import sent
from ops.model import Host, Outcome, OutcomeState

if TYPE_CHECKING:
    from ops.fleet.remote import Connection

_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(16, 9, -1)), "/usr/local/bin/python3")
_PYTHONS += ("/opt/homebrew/bin/python3", "/usr/bin/python3")
_making = threading.Lock()
_INTERPRETER = "ansible_python_interpreter"
# The first Python there that is new enough is given the groundwork; one that Apple only offers to install is no Python.
# On one line, since not every login shell takes more within quotes.
_FIND = one_line("""
for p in {pythons}; do
    q=$(command -v "$p" 2>/dev/null) || continue;
    if [ "$q" = /usr/bin/python3 ] && [ -x /usr/bin/xcode-select ] && ! /usr/bin/xcode-select -p >/dev/null 2>&1; then
        continue;
    fi;
    v=$("$q" -I -c "import sys; print(sys.version_info >= (3, 10), sys.version.split()[0])" 2>/dev/null </dev/null);
    case $v in
    True*) exec "$q" -I -c "import sys; exec(eval(sys.stdin.buffer.readline()))" ;;
    esac;
    v=${{v#False }};
    seen="$seen${{seen:+, }}$q ${{v:-(does not run)}}";
done;
echo;
echo "{token} {{\\"pythons\\": \\"$seen\\"}}"
""")


@frozen
class Ground:
    """What there is on a host: its platform, which release is in use, whether that is whole and the one from here,
    whether its part of the inventory is, and what keeps a release from being put there (seen, wanted, next).
    `machine` tells hosts apart, whatever they are called."""

    platform: Platform
    release: str
    whole: bool
    promised: bool
    lacking: tuple[str, ...]
    machine: str


def shell(script: str, become: str) -> str:
    """A command line that runs the script in a POSIX shell, whatever the user's own is; as another user by sudo."""
    words = ["/bin/sh", "-c", script]
    if become:
        words = ["sudo", "-n", "-H", "-u", become, "--", *words]
    return "exec " + shlex.join(words)


def become_of(host: Host) -> str:
    """The user that commands run as there, when that is not the one who logs in."""
    return str(host.vars.get("ansible_become_user") or "root") if host.vars.get("ansible_become") is True else ""


def look(connection: Connection, host: Host, cancelled: threading.Event) -> Ground:
    """What there is. OpsError when there is no Python that would do."""
    said = _ask(connection, host, {"do": "look"}, b"", cancelled)
    try:
        major, minor, _ = said["python"]
        platform = Platform(said["system"], said["machine_type"], said["libc"], (major, minor))
        told = (said["release"], said["whole"], said["promised"], tuple(said["lacking"]), said["machine"])
        return Ground(platform, *told)
    except (KeyError, TypeError, ValueError):
        raise OpsError(f"{host.name} answers what its Python was not asked: {str(said)[:100]}") from None


def install(connection: Connection, host: Host, ground: Ground, cancelled: threading.Event) -> None:
    """Puts the release and the host's part of the inventory there. OpsError says what was missing."""
    data = b"" if ground.whole else _archive(ground.platform)
    said = _ask(connection, host, {"do": "install", "bytes": len(data)}, data, cancelled)
    if said.get("lacking"):
        raise lacking(host, said["lacking"])


def lend(connection: Connection, host: Host, ground: Ground, cancelled: threading.Event, *, use: bool) -> str:
    """Puts the release there for one request, and (`use`) for those to come; where it is. Nothing else is changed."""
    data = _archive(ground.platform)
    said = _ask(connection, host, {"do": "lend", "bytes": len(data), "use": use}, data, cancelled)
    if said.get("lacking"):
        raise lacking(host, said["lacking"])
    return str(said.get("place", ""))


def _archive(platform: Platform) -> bytes:
    """Made once for each platform, however many hosts ask for it at the same time."""
    with _making:
        return _archive_for(platform)


@functools.cache
def _archive_for(platform: Platform) -> bytes:
    return release.archive(platform)


def lacking(host: Host, told: Any) -> OpsError:
    seen, wanted, next_line = (*map(str, told), "", "", "")[:3]
    return OpsError(f"{host.name}: {seen}", wanted=wanted, next=next_line)


def _ask(
    connection: Connection, host: Host, said: dict[str, Any], data: bytes, cancelled: threading.Event
) -> dict[str, Any]:
    """Has the groundwork run there; its answer."""
    token = secrets.token_hex(8)
    head = {
        **said,
        "token": token,
        "stack": host.stack.name,
        "release": release.own(),
        "version": __version__,
        "libraries": release.requirements(),
        "host": host.name,
        "inventory": sent.dumps(host).decode(),
    }
    pythons = _pythons(host)
    script = _FIND.format(pythons=shlex.join(pythons), token=token)
    exchange = Exchange(connection, shell(script, become_of(host)), token)
    message = repr(_groundwork()).encode() + b"\n" + json.dumps(head).encode() + b"\n" + data
    try:
        answer = _heard(exchange, message, cancelled)
    finally:
        exchange.close()
    if answer is None:
        raise no_answer(host, exchange)
    if "pythons" in answer:
        raise _no_python(host, str(answer["pythons"]), pythons)
    return answer


def _heard(exchange: Exchange, message: bytes, cancelled: threading.Event) -> dict[str, Any] | None:
    """The one answer; None when it ended without one. A host without Python reads nothing of what it is sent."""
    broken = None
    try:
        exchange.send(message)
    except Broken as error:
        broken = error
    for said in exchange.said(cancelled, grace=0.0):  # nothing is half-done there, whenever it ends
        if "alive" not in said:
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


def no_answer(host: Host, exchange: Exchange) -> OpsError:
    """Why its shell, or sudo, ran nothing."""
    why = exchange.complaint or f"exit code {exchange.code}"
    if "sudo" in why and "not found" in why:
        return OpsError(
            f"{host.name}: there is no sudo: {why}", next=f"install it on {host.name}, or no ansible_become"
        )
    if "password" in why and "sudo" in why:
        return OpsError(
            f"{host.name}: sudo wants a password: {why}",
            wanted="sudo without one for who logs in there (NOPASSWD), or no ansible_become",
            next=f"sudo visudo on {host.name}, or remove ansible_become",
        )
    return OpsError(f"{host.name}: its shell did not run Python: {why}", wanted="a login shell that runs /bin/sh")


# -- the verb -------------------------------------------------------------------------------------------------------


def outcomes(host: Host, ground: Ground, *, check: bool) -> list[Outcome]:
    """What there is to be done, as outcomes: the release, and the host's part of the inventory."""
    wanted = f"release {release.own()[:8]}"
    before = f"release {ground.release[:8]}" if ground.release else "absent"
    before = f"{wanted}, not whole" if before == wanted and not ground.whole else before
    there, sent_there = ("to be put there", "to be sent") if check else ("put there", "sent")
    state: OutcomeState = "ok" if ground.whole else "changed"
    toolkit = Outcome("toolkit", "bootstrap", state, before, wanted, "in place" if ground.whole else there)
    known = "as here" if ground.promised else "another" if ground.release else "absent"
    part_state: OutcomeState = "ok" if ground.promised else "changed"
    why = f"its part of the inventory{'' if ground.promised else f', {sent_there}'}"
    part = Outcome("inventory", "bootstrap", part_state, known, "as here", why)
    return [replace(one, host=host.name) for one in (toolkit, part)]
