"""One request to one host: the agent there is greeted, brought up to date if need be, asked, and asked again for the
answer when the connection broke on the way.

Knows: what both ends say, which release each has. Must not know: sockets, what a verb does, other hosts.

A request that changes things is never repeated: it has an id, under which the agent carries it out once, and tells
again what was said to whoever asks with the same id.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import secrets
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ops.errors import Interrupted, OpsError
from ops.fleet import bootstrap, groundwork, pointers, release, remote, ssh
from ops.fleet.exchange import SILENCE, Broken, Exchange, one_line
from ops.fleet.frames import Noise
from ops.fleet.here import LOOKING, Answer, Lines, Tell
from ops.fleet.here import changes as is_changing
from ops.inventory import sent
from ops.model import Host, Outcome
from ops.operations.verbs import Request
from ops.wire import Garbled, pack, unpack

if TYPE_CHECKING:
    from ops.fleet.remote import Connection

_PAUSES = (0.0, 0.5, 1.0, 2.0)  # seconds before a broken connection is made again
_ASKED_AGAIN = 30.0  # seconds for which the answer to what changes something is asked for
_LOOKED_AGAIN = 5.0  # the same of who only looks
_MARGIN = 1.0  # seconds that an agent has beyond --timeout to say so
# Where the home can take nothing, the release may have been put into memory, in a folder of this user alone.
_AGENT = one_line("""
for d in "$HOME/{place}/{stack}" "{spare}/settlepaisa-ops-$(id -u)/{stack}"; do
    if [ -O "$d" ] && [ ! -L "$d" ] && [ -x "$d/releases/{release}/bin/python" ]; then
        exec "$d/releases/{release}/bin/python" -I -X utf8 -m ops.fleet.agent;
    fi;
done;
c=$(readlink "$HOME/{place}/{stack}/current" 2>/dev/null);
echo;
echo "{token} {{\\"absent\\": \\"${{c##*/}}\\"}}"
""")

_machines: dict[str, str] = {}  # by what tells machines apart: the name of the host that it has here


class Told(OpsError):
    """What went wrong on a host, in the words of its agent."""

    def __init__(self, host: str, lines: list[str], exit_code: int) -> None:
        super().__init__(f"{host}: {lines[0]}")
        self._more = lines[1:]
        self.exit_code = exit_code

    def lines(self) -> list[str]:
        return [self.seen, *self._more]


@dataclass
class _Heard:
    """What has been heard of one request (its `message`) so far, over however many connections."""

    message: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answer: Answer | None = None
    greeted: bool = False


class Dialogue:
    """With one host; its connection is kept for the next request."""

    def __init__(self, host: Host, connection: Connection | None = None) -> None:
        self.host = host
        self._connection = connection
        self._same_as = ""  # another name of the same user on the same machine

    def connection(self, until: float = math.inf) -> Connection:
        """The open one, made when there is none, before the moment `until`. Unreachable when that is not possible."""
        if self._connection is None:
            route = ssh.route(self.host)
            left = max(0.1, until - time.monotonic())
            self._connection = remote.connect(replace(route, connect_timeout=min(route.connect_timeout, left)))
        return self._connection

    def close(self) -> None:
        """Ends the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            remote.close(connection)

    def ask(self, request: Request, tell: Tell, lines: Lines | None = None) -> Answer:
        """The answer. Unreachable when the host, or its agent, cannot be reached; other OpsErrors are of the host."""
        changes = is_changing(request)
        heard = _Heard(
            {
                "protocol": release.PROTOCOL,
                "release": release.own(),
                "id": secrets.token_hex(8),
                "request": pack(request),
                "host": pack(sent.stripped(self.host)),
            }
        )
        begun = time.monotonic()
        broke: Broken | None = None
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            try:
                return self._whole(self._answered(heard, tell, lines or Lines(), changes))
            except Noise as error:
                self.close()
                raise self._garbage(error) from error
            except remote.Unreachable as error:
                if broke is None:
                    raise
                broke = Broken(f"{str(broke).partition(', and now')[0]}, and now {_short(error)}")
            except Broken as error:
                broke = error
                self.close()
            begins = changes and heard.greeted  # it may be carried out there: how it went is worth asking for
            until = min(tell.until, begun + (_ASKED_AGAIN if begins else _LOOKED_AGAIN))
            tries_on = request.task != "tail" and (begins or not broke.silent)
            if not tries_on or time.monotonic() + pause > until or tell.cancelled.wait(pause):
                raise self._lost(broke, heard, tell.cancelled, request) from broke
        raise AssertionError("there is always another pause")

    def _answered(self, heard: _Heard, tell: Tell, lines: Lines, changes: bool) -> _Heard:
        """Asks; an agent that is another's is brought up to date and asked then, once."""
        for renewed in (False, True):
            if self._once(heard, tell, lines) == "done":
                return heard
            if not renewed:
                self._renew(tell, changes)
        raise remote.Unreachable(f"{self.host.name}: its agent does not begin", next=self._bootstrap())

    def _once(self, heard: _Heard, tell: Tell, lines: Lines) -> Literal["done", "stale"]:
        """Asks over one connection."""
        token = secrets.token_hex(8)
        left = max(0.1, tell.until - time.monotonic())
        exchange = Exchange(self.connection(tell.until), self._command(token), token, min(SILENCE, left + _MARGIN))
        known = len(heard.outcomes)  # told already, over a connection that broke
        try:
            with contextlib.suppress(Broken):  # it may have ended at once, and said why
                exchange.send(json.dumps({**heard.message, "token": token}).encode() + b"\n")
            for said in exchange.said(tell.cancelled):
                if "absent" in said:
                    return self._absent(str(said["absent"]))
                if "hello" in said and not self._greets(said["hello"]):
                    return "stale"
                heard.greeted = heard.greeted or "hello" in said
                known = self._hear(said, known, heard, tell, lines)
                if heard.answer is not None:
                    return "done"
        finally:
            exchange.close()
        if tell.cancelled.is_set():
            raise Interrupted("interrupted")
        if not heard.greeted:
            return self._silent(exchange)
        raise Broken(f"its agent ended before it was done ({exchange.complaint or f'exit code {exchange.code}'})")

    def _greets(self, hello: Any) -> bool:
        """Whether the agent is of this very toolkit."""
        if not isinstance(hello, dict):
            return False
        self._claim(str(hello.get("machine")))
        return hello.get("protocol") == release.PROTOCOL and hello.get("release") == release.own()

    def _claim(self, machine: str) -> None:
        """Two names of one user on one machine have the same services, and do not stand in for one another."""
        owner = _machines.setdefault(machine, self.host.name)
        if owner != self.host.name:
            self._same_as = owner

    def _hear(self, said: dict[str, Any], known: int, heard: _Heard, tell: Tell, lines: Lines) -> int:
        """One thing that was said; how many of the known outcomes are still to be told again."""
        try:
            if "outcome" in said:
                if known > 0:
                    return known - 1
                outcome = pointers.outcome_there(unpack(Outcome, said["outcome"]), self.host.name, self._place)
                heard.outcomes.append(outcome)
                tell.done(outcome)
            elif "waiting" in said:
                tell.waiting(*map(plain, said["waiting"]))
            elif "note" in said:
                heard.notes.append(plain(said["note"]))
            elif "answer" in said:
                heard.answer = unpack(Answer, said["answer"])
            elif "error" in said:
                error = said["error"]
                raise Told(self.host.name, [self._there(line) for line in error["lines"]], int(error["exit_code"]))
            else:
                _hear_lines(said, lines)
        except (Garbled, KeyError, TypeError, ValueError, IndexError) as error:
            raise Noise(f"{str(said)[:80]} ({error})") from None
        return known

    def _whole(self, heard: _Heard) -> Answer:
        """With the hosts' names, and the notes that came before the answer."""
        answer = heard.answer or Answer()
        same = [f"is the same user on the same machine as {self._same_as}"] if self._same_as else []
        notes = tuple(f"{self.host.name}: {self._there(note)}" for note in (*same, *heard.notes, *answer.notes))
        return replace(answer, outcomes=tuple(heard.outcomes), notes=notes)

    def bootstrap(self, request: Request, tell: Tell) -> Answer:
        """Makes the host ready; what it lacks for its services is a note."""
        try:
            planned, done = self._ready(request, tell)
        except (Broken, Noise) as error:
            self.close()
            raise self._lost(error, None, tell.cancelled, request) from error
        for outcome in planned:
            tell.done(outcome)
        if not done:
            return Answer(tuple(planned))
        rest = self.ask(Request("settle", check=request.check), tell)
        return Answer((*planned, *rest.outcomes), rest.notes)

    def _ready(self, request: Request, tell: Tell) -> tuple[list[Outcome], bool]:
        """What was to be done, and whether the host is ready now (with --check: was before)."""
        connection, stop = self.connection(tell.until), tell.cancelled
        ground = bootstrap.look(connection, self.host, stop)
        self._claim(ground.machine)
        planned = bootstrap.outcomes(self.host, ground, check=request.check)
        wanting = any(one.state == "changed" for one in planned)
        if wanting and ground.lacking:
            raise bootstrap.lacking(self.host, ground.lacking)
        if not wanting or request.check:
            return planned, not wanting
        tell.waiting("", "the toolkit to be put there")
        bootstrap.install(connection, self.host, ground, stop)
        tell.waiting("", "")
        after = bootstrap.look(connection, self.host, stop)
        if not (after.whole and after.promised):
            seen = f"{self.host.name}: what was put there is not what is there now"
            raise OpsError(seen, wanted="nobody else who puts another there", next=self._bootstrap())
        return planned, True

    @property
    def _place(self) -> str:
        return f"~/{groundwork.PLACE}/{self.host.stack.name}"

    def _there(self, text: object) -> str:
        return pointers.there(plain(text), self.host.name, self._place)

    # -- an agent that is not there, or another -------------------------------------------------------------------

    def _command(self, token: str) -> str:
        stack = self.host.stack.name
        places = {"place": groundwork.PLACE, "spare": groundwork.SPARE, "stack": stack}
        script = _AGENT.format(**places, release=release.own(), token=token)
        return bootstrap.shell(script, bootstrap.become_of(self.host))

    def _absent(self, known: str) -> Literal["stale"]:
        if known:
            return "stale"
        raise OpsError(
            f"{self.host.name}: the toolkit is not there",
            wanted="the toolkit, which bootstrap brings",
            next=self._bootstrap(),
        )

    def _bootstrap(self) -> str:
        return f"inv bootstrap --limit {self.host.name}"

    def _silent(self, exchange: Exchange) -> Literal["stale"]:
        """It ended without a greeting. Where it cannot even begin, it is put there anew."""
        complaint = exchange.complaint
        if "sudo" in complaint and bootstrap.become_of(self.host):
            raise bootstrap.no_answer(self.host, exchange)
        if "No module named" not in complaint:
            why = complaint or f"exit code {exchange.code}"
            raise remote.Unreachable(f"{self.host.name}: its agent does not begin: {why}", next=self._bootstrap())
        return "stale"

    def _renew(self, tell: Tell, changes: bool) -> None:
        """Has this release there for the request. One that only looks leaves the one in use as it is."""
        connection, stop = self.connection(tell.until), tell.cancelled
        ground = bootstrap.look(connection, self.host, stop)
        bootstrap.lend(connection, self.host, ground, stop, use=changes)

    def _garbage(self, error: Noise) -> OpsError:
        seen = f"{self.host.name}: answers, but not as its agent would: {error.beginning!r}"
        return remote.Unreachable(seen, wanted="an agent", next=self._bootstrap())

    def _lost(
        self, error: Broken | Noise, heard: _Heard | None, cancelled: threading.Event, request: Request
    ) -> OpsError:
        if cancelled.is_set():
            return Interrupted("interrupted")
        if isinstance(error, Noise):
            return self._garbage(error)
        known = f"; {len(heard.outcomes)} outcomes had come" if heard and heard.outcomes else ""
        look = "" if request.task in LOOKING else f"inv status --limit {self.host.name}, then "
        return remote.Unreachable(
            f"{self.host.name}: the connection broke: {error}{known}",
            wanted="an answer",
            next=f"{look}the same again: it carries on from what is there",
        )


def _short(error: OpsError) -> str:
    return error.seen.partition(": ")[2] or error.seen


def _hear_lines(said: dict[str, Any], lines: Lines) -> None:
    if "line" in said:
        lines.line(*map(plain, said["line"]))
    elif "complaint" in said:
        lines.complaint(*map(plain, said["complaint"]))


def plain(text: object) -> str:
    """What a host says, harmless to print: whoever answers there need not be our agent."""
    said = str(text)
    return said if said.isprintable() else "".join(one if one.isprintable() or one == "\t" else "?" for one in said)
