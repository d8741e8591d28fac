"""The far end of a request: `python -I -m ops.fleet.agent`, started by sshd, carries it out and tells how it goes.

Knows: its standard input and output, the request, what it may be asked again. Must not know: SSH, what a verb does.

The first line of its input is the request; later ones may say `{"cancel": true}`. The end of the input without that
means that the connection broke: whoever only looks ends then; what changes something is finished, and remembered under
the request's id, since it will be asked for (ops/fleet/memoir.py).
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ops import __version__
from ops.errors import OpsError
from ops.fleet import frames, groundwork, here, memoir, release
from ops.fleet.asked import asked, word
from ops.inventory import sent
from ops.memory.files import now
from ops.model import Host, Outcome, fingerprint
from ops.operations.verbs import Request
from ops.wire import Garbled, pack

_ALIVE_EVERY = 2.0  # seconds; whoever hears nothing for long enough takes the connection for broken


def folder() -> str:
    """What belongs to this stack on this host: two above the release that this runs from."""
    return os.path.dirname(os.path.dirname(os.path.realpath(sys.prefix)))


class Voice:
    """Tells the asking end, from any thread. Once nobody listens any more it says nothing."""

    def __init__(self, token: str) -> None:
        self._out = os.dup(1)
        os.dup2(2, 1)  # what a library may print is not part of the conversation
        self._token = token
        self._lock = threading.Lock()
        self._silent = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether nobody listens any more."""
        return self._silent.is_set()

    def say(self, **said: Any) -> None:
        data = memoryview(frames.line(self._token, said))
        with self._lock:
            while data and not self.lost:
                try:
                    data = data[os.write(self._out, data) :]
                except OSError:
                    self._silent.set()

    def alive(self) -> None:
        while not self._silent.wait(_ALIVE_EVERY):
            self.say(alive=now())


class Ear:
    """Hears, in a thread of its own, that the request is cancelled or that the connection broke."""

    def __init__(self, lines: Iterator[bytes], changes: bool) -> None:
        self._lines = lines
        self.cancelled = threading.Event()
        self._changes = changes

    def listen(self) -> None:
        for text in self._lines:
            if _cancels(text):
                self.cancelled.set()
        if not self._changes:
            os._exit(0)


def _cancels(text: bytes) -> bool:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("cancel") is True


def heard() -> Iterator[bytes]:
    """The lines of the standard input. Not through sys.stdin: the interpreter aborts when it ends while a thread still
    waits in that."""
    rest = bytearray()
    while data := os.read(0, 65536):
        rest += data
        if b"\n" in data or len(rest) > frames.LARGEST:
            *lines, rest = rest.split(b"\n") if b"\n" in data else [rest, bytearray()]
            yield from map(bytes, lines)
    yield bytes(rest)


def main() -> int:
    """Carries out the one request of its standard input; 0 when it was answered, whatever the answer."""
    os.umask(0o077)
    lines = heard()
    try:
        said = json.loads(next(lines))
        voice = Voice(word(said["token"], "token"))
    except (ValueError, KeyError, TypeError, RecursionError):  # a Garbled is a ValueError
        print("the first line of the standard input is not a request", file=sys.stderr)
        return 1
    threading.Thread(target=voice.alive, daemon=True).start()
    voice.say(hello={"protocol": release.PROTOCOL, "version": __version__, "release": release.own(), **_mine()})
    if said.get("protocol") != release.PROTOCOL or said.get("release") != release.own():
        return 0  # the asking end has seen that from the greeting, and brings this one up to date
    try:
        _answer(voice, said, lines)
    except OpsError as error:
        voice.say(error=_told(error))
    except Garbled as error:
        voice.say(error={"lines": [f"the request is garbled: {error}"], "exit_code": 2})
    return 0


def _mine() -> dict[str, str]:
    return {"machine": groundwork.machine(folder()), "time": now()}


def _told(error: OpsError) -> dict[str, Any]:
    return {"lines": error.lines(), "exit_code": error.exit_code}


def _answer(voice: Voice, said: dict[str, Any], lines: Iterator[bytes]) -> None:
    what = asked(said)
    request, host = what.request, what.host
    sys.argv[:] = [os.path.join(folder(), "inv"), request.task, *request.only]  # what is told to be typed instead
    ear = Ear(lines, what.changes)
    threading.Thread(target=ear.listen, daemon=True).start()
    origin = here.Origin(groundwork.part_of(folder(), host.name), "")
    if request.task == "tail":
        _follow(voice, ear, host, origin, request)
    elif what.changes:
        perform = functools.partial(_change, ear=ear, host=host, origin=origin, request=request)
        memoir.once(folder(), what.id, voice.say, perform, ear.cancelled)
    else:
        _perform(voice.say, ear, host, origin, request)


def _change(say: Callable[..., None], ear: Ear, host: Host, origin: here.Origin, request: Request) -> None:
    """The host's part of the inventory is kept first: the monitor reads it there."""
    text = sent.dumps(host)
    try:
        groundwork.keep(folder(), host.name, text.decode())
    except OSError as error:  # a full disk keeps nothing from being done (law 7)
        say(note=f"{origin.path} could not be written: {error.strerror}")
    _perform(say, ear, host, here.Origin(origin.path, fingerprint(text)), request)


def _perform(say: Callable[..., None], ear: Ear, host: Host, origin: here.Origin, request: Request) -> None:
    def done(outcome: Outcome) -> None:
        say(outcome=pack(outcome))

    def waiting(service: str, what: str) -> None:
        say(waiting=[service, what])

    try:
        answer = here.carry_out(sent.at_home(host), origin, request, here.Tell(done, waiting, ear.cancelled))
        say(answer=pack(answer))
    except OpsError as error:
        say(error=_told(error))


def _follow(voice: Voice, ear: Ear, host: Host, origin: here.Origin, request: Request) -> None:
    def complain(name: str, why: str) -> None:
        voice.say(complaint=[name, why])

    def stop() -> bool:
        return voice.lost or ear.cancelled.is_set()

    _, lines = here.tail(sent.at_home(host), origin, request, stop, complain)
    for name, text in lines:
        voice.say(line=[name, text])
    voice.say(answer=pack(here.Answer()))


if __name__ == "__main__":
    sys.exit(main())
