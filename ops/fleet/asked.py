"""What was asked, read before anything is done: a request that this end can carry out, or the word that it is none.

Knows: what a token, an id, a verb and its options look like. Must not know: how a request comes, what a verb does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ops.fleet import here
from ops.frozen import frozen
from ops.inventory import sent
from ops.inventory.names import LABEL, NAME
from ops.model import Host
from ops.operations.verbs import VERBS, Request
from ops.wire import Garbled, unpack

_WORD = re.compile(r"[A-Za-z0-9-]{1,64}")
_ONE_SERVICE = ("restart-one", "hold", "release", "tail")
_MOST_LINES = 1_000_000
_LONGEST = 1e9  # seconds


@frozen
class Asked:
    """One request. `id` names it for ever."""

    request: Request
    host: Host
    id: str

    @property
    def changes(self) -> bool:
        """Whether it is carried out to its end, and remembered, though nobody may be left to hear of it."""
        return here.changes(self.request)


def word(said: Any, what: str) -> str:
    """A token or an id: it may stand in a line, and be the name of a file. Garbled when it may not."""
    if not isinstance(said, str) or not _WORD.fullmatch(said):
        raise Garbled(f"{what}: no word of letters and digits")
    return said


def asked(said: Mapping[str, Any]) -> Asked:
    """What the first line asks for. Garbled, saying where, when it cannot be carried out as it stands."""
    made = Asked(unpack(Request, said.get("request")), unpack(Host, said.get("host")), word(said.get("id"), "id"))
    _check_request(made.request)
    _check_host(made.host)
    return made


def _check_request(request: Request) -> None:
    task = request.task
    if task not in (*VERBS, *here.LOOKING, "tail"):
        raise Garbled(f"Request.task: {task[:40]!r} is nothing that can be done here")
    if task in _ONE_SERVICE and len(request.only) != 1:
        raise Garbled(f"Request.only: {len(request.only)} names where {task} takes one")
    if request.timeout is not None and not 0 <= request.timeout <= _LONGEST:
        raise Garbled("Request.timeout: no span of time")
    for name, fits in _OPTIONS.get(task, {}).items():
        if not fits(request.options.get(name)):
            raise Garbled(f"Request.options.{name}: not what {task} takes")


def _is_whole(said: Any, least: int, most: int) -> bool:
    return isinstance(said, int) and not isinstance(said, bool) and least <= said <= most


def _are_lines(said: Any) -> bool:
    return _is_whole(said, 0, _MOST_LINES)


def _is_span(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool) and 0 < said <= _LONGEST


# The options that a verb cannot do without.
_OPTIONS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "report": {"since": _is_span},
    "alerts": {"lines": _are_lines},
    "tail": {"lines": _are_lines, "follow": lambda said: isinstance(said, bool)},
    "kill-port": {"port": lambda said: _is_whole(said, 1, 65535)},
}


def _check_host(host: Host) -> None:
    """Its names become names of files, its root a folder."""
    for name in (host.stack.name, *(service.name for service in host.services)):
        if not NAME.fullmatch(name):
            raise Garbled(f"Host: {name[:40]!r} is no name of a stack or service")
    if not LABEL.fullmatch(host.stack.label):
        raise Garbled(f"Host.stack.label: {host.stack.label[:40]!r} is no label")
    try:
        sent.at_home(host)
    except ValueError:  # a NUL, half a surrogate pair
        raise Garbled("Host.root: no path") from None
