"""One request to one host: the agent there is greeted, brought up to date if need be, asked, and asked again for the
answer when the connection broke on the way.

Knows: what both ends say, which release each has. Must not know: SSH, what a verb does, other hosts.

A request that changes things is never repeated: it has an id, under which the agent carries it out once, and tells
again what was said to whoever asks with the same id.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ops.errors import Interrupted, OpsError
from ops.fleet import bootstrap, groundwork, pointers, release, remote, ssh
from ops.fleet.exchange import Broken, Exchange
from ops.fleet.frames import Noise
from ops.fleet.here import Answer, Lines, Tell
from ops.inventory import sent
from ops.model import Host, Outcome
from ops.operations.verbs import Request
from ops.wire import Garbled, pack, unpack

if TYPE_CHECKING:
    from ops.fleet.remote import Connection

_TRIES = 3  # of asking, when connections break
_PAUSE = 1.0  # seconds between them
_AGENT = """
d=$HOME/{place}/{stack}
if [ -x "$d/releases/{release}/bin/python" ]; then
    exec "$d/releases/{release}/bin/python" -I -X utf8 -m ops.fleet.agent
fi
c=$(readlink "$d/current" 2>/dev/null)
echo
echo "{token} {{\\"absent\\": \\"${{c##*/}}\\"}}"
"""


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
    """What has been heard of one request so far, over however many connections."""

    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answer: Answer | None = None
    greeted: bool = False


class Dialogue:
    """With one host; its connection is kept for the next request."""

    def __init__(self, host: Host, connection: Connection | None = None) -> None:
        self.host = host
        self._connection = connection

    def connection(self) -> Connection:
        """The open one, made when there is none. Unreachable when that is not possible."""
        if self._connection is None:
            self._connection = remote.connect(ssh.route(self.host))
        return self._connection

    def close(self) -> None:
        """Ends the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            remote.close(connection)

    def ask(self, request: Request, tell: Tell, lines: Lines | None = None) -> Answer:
        """The answer. Unreachable when the host, or its agent, cannot be reached; other OpsErrors are of the host."""
        message = {
            "protocol": release.PROTOCOL,
            "release": release.own(),
            "id": secrets.token_hex(8),
            "request": pack(request),
            "host": pack(sent.stripped(self.host)),
        }
        heard = _Heard()
        renewed, broke = False, None
        for turn in range(_TRIES):
            try:
                came_to = self._once(message, heard, tell, lines or Lines())
            except remote.Unreachable as error:
                if broke is None:
                    raise
                raise self._lost(Broken(f"{broke}, and now {_short(error)}"), heard, tell.cancelled) from error
            except (Broken, Noise) as error:
                broke = error
                self.close()
                if turn == _TRIES - 1 or tell.cancelled.wait(_PAUSE * turn):
                    raise self._lost(error, heard, tell.cancelled) from error
                continue
            if came_to == "done" and heard.answer is not None:
                return self._whole(heard.answer, heard)
            if renewed:
                break
            self._renew()
            renewed = True
        raise remote.Unreachable(f"{self.host.name}: its agent does not begin", next=self._bootstrap())

    def _once(self, message: dict[str, Any], heard: _Heard, tell: Tell, lines: Lines) -> Literal["done", "stale"]:
        """Asks over one connection."""
        token = secrets.token_hex(8)
        exchange = Exchange(self.connection(), self._command(token), token)
        known = len(heard.outcomes)  # told already, over a connection that broke
        try:
            exchange.send(json.dumps({**message, "token": token}).encode() + b"\n")
            for said in exchange.said(tell.cancelled):
                if "absent" in said:
                    return self._absent(str(said["absent"]))
                if "hello" in said and not _is_same(said["hello"]):
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
                tell.waiting(*map(str, said["waiting"]))
            elif "note" in said:
                heard.notes.append(str(said["note"]))
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

    def _whole(self, answer: Answer, heard: _Heard) -> Answer:
        """With the hosts' names, and the notes that came before the answer."""
        notes = tuple(f"{self.host.name}: {self._there(note)}" for note in (*heard.notes, *answer.notes))
        return replace(answer, outcomes=tuple(heard.outcomes), notes=notes)

    def bootstrap(self, request: Request, tell: Tell) -> Answer:
        """Makes the host ready; what it lacks for its services is a note."""
        try:
            ground = bootstrap.look(self.connection(), self.host)
            planned = bootstrap.outcomes(self.host, ground)
            wanting = any(one.state == "changed" for one in planned)
            if wanting and ground.lacking:
                raise bootstrap.lacking(self.host, ground.lacking)
            if wanting and not request.check:
                tell.waiting("", "the toolkit to be put there")
                bootstrap.install(self.connection(), self.host, ground)
                after = bootstrap.look(self.connection(), self.host)
                if not (after.whole and after.promised):
                    raise OpsError(f"{self.host.name}: what was put there is not what is there now", next="again")
        except (Broken, Noise) as error:
            raise self._lost(error, _Heard(), tell.cancelled) from error
        for outcome in planned:
            tell.done(outcome)
        if request.check and wanting:
            return Answer(tuple(planned))
        rest = self.ask(Request("settle", check=request.check), tell)
        return Answer((*planned, *rest.outcomes), rest.notes)

    @property
    def _place(self) -> str:
        return f"~/{groundwork.PLACE}/{self.host.stack.name}"

    def _there(self, text: object) -> str:
        return pointers.there(str(text), self.host.name, self._place)

    # -- an agent that is not there, or another -------------------------------------------------------------------

    def _command(self, token: str) -> str:
        stack = self.host.stack.name
        script = _AGENT.format(place=groundwork.PLACE, stack=stack, release=release.own(), token=token)
        return bootstrap.shell(script, bootstrap.become_of(self.host))

    def _absent(self, known: str) -> Literal["stale"]:
        if known:
            return "stale"
        raise OpsError(
            f"{self.host.name}: the toolkit is not there",
            wanted="this very release of it",
            next=self._bootstrap(),
        )

    def _bootstrap(self) -> str:
        return f"inv bootstrap --limit {self.host.name}"

    def _silent(self, exchange: Exchange) -> Literal["stale"]:
        """It ended without a greeting. Where it cannot even begin, it is put there anew."""
        complaint = exchange.complaint
        if complaint.startswith("sudo") or "No module named" not in complaint:
            why = complaint or f"exit code {exchange.code}"
            raise remote.Unreachable(f"{self.host.name}: its agent does not begin: {why}", next=self._bootstrap())
        return "stale"

    def _renew(self) -> None:
        """Brings the toolkit there up to date."""
        try:
            ground = bootstrap.look(self.connection(), self.host)
            bootstrap.install(self.connection(), self.host, replace(ground, whole=False))
        except (Broken, Noise) as error:
            raise self._lost(error, _Heard(), threading.Event()) from error

    def _lost(self, error: Broken | Noise, heard: _Heard, cancelled: threading.Event) -> OpsError:
        if cancelled.is_set():
            return Interrupted("interrupted")
        name = self.host.name
        if isinstance(error, Noise):
            seen = f"{name}: answers, but not as its agent would: {error.beginning!r}"
            return remote.Unreachable(seen, wanted="an agent", next=self._bootstrap())
        done = f"; {len(heard.outcomes)} outcomes had come" if heard.outcomes else ""
        return remote.Unreachable(
            f"{name}: the connection broke: {error}{done}",
            wanted="an answer",
            next="the same again: it carries on from what is there",
        )


def _short(error: OpsError) -> str:
    return error.seen.partition(": ")[2] or error.seen


def _is_same(hello: Any) -> bool:
    known = isinstance(hello, dict)
    return known and hello.get("protocol") == release.PROTOCOL and hello.get("release") == release.own()


def _hear_lines(said: dict[str, Any], lines: Lines) -> None:
    if "line" in said:
        lines.line(*map(str, said["line"]))
    elif "complaint" in said:
        lines.complaint(*map(str, said["complaint"]))
