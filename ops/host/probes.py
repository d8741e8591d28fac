"""Probes: asking services how they are, many at a time in one thread.

Knows: which kind of probe is asked how, deadlines, the selector. Must not know: restarting, what a bad
reading leads to, the inventory.

An Inquiry is one asking under way, a state machine that never blocks. `ask` drives many to their end; a
loop with a selector of its own drives the very same objects:

    inquiry = Inquiry(question, time.monotonic(), selector, key)
    for key, _ in selector.select(timeout up to the least `due`): the inquiry behind key.data .advance(now)
    whichever is past its `due`: .advance(now) too; done as soon as `reading` is there.
"""

from __future__ import annotations

import re
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ops.frozen import frozen
from ops.host.probe_command import CommandTalk
from ops.host.probe_dial import TcpTalk
from ops.host.probe_http import HttpTalk
from ops.host.probe_verdict import Finding, could_not_ask, printable
from ops.host.probe_wires import Talk, Wires
from ops.model import Probe, Reading


@frozen
class Question:
    """One probe to ask, now.

    `port` is the service's, for targets that are a path. `cwd` (absolute) and `env` (the whole
    environment) are those of the service, for commands.
    """

    probe: Probe
    port: int | None = None
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)


class Inquiry:
    """One question being asked.

    It registers what it waits on in `selector` with `key` (by default itself) as the data, and takes it
    out again; the owner registers nothing. `reading` is there when it is done; nothing is open or
    running from then on. What the world does wrong becomes a reading, never an exception. Times are
    those of time.monotonic().
    """

    def __init__(self, question: Question, now: float, selector: selectors.BaseSelector, key: Any = None) -> None:
        self.question = question
        self.started = now
        self._begun = time.monotonic()  # the asker's `now` may be the beginning of a turn in which it asks many
        self.deadline = now + question.probe.timeout
        self.reading: Reading | None = None
        self._seen = now
        self._talk: Talk | None = None
        wires = Wires(selector, self if key is None else key)
        self._go_on(lambda: self._begin(wires))

    def _begin(self, wires: Wires) -> Finding | None:
        self._talk = _talk(self.question, wires)
        # Spawning takes its time, and the command may have ended since `now`: the first `advance` says when.
        return None if self.question.probe.kind == "command" else self._talk.advance()

    @property
    def due(self) -> float:
        """When `advance` is to be called even though no descriptor was ready: the deadline, or sooner."""
        tick = self._talk.tick if self._talk else None
        return self.deadline if tick is None else min(self.deadline, self._seen + tick)

    def advance(self, now: float) -> None:
        """Goes on as far as possible without blocking; past the deadline, ends.

        An answer that lies there already counts even then: the asker itself may have been held up
        (suspended). May be called at any time, also when done.
        """
        self._seen = now
        if self._talk is not None:
            self._go_on(self._talk.advance)
        if self._talk is not None and now >= self.deadline:
            self.expire(now)

    def expire(self, now: float) -> None:
        """Ends it as one that was not answered in time."""
        self._seen = now
        if self._talk is not None:
            self._settle(self._talk.late(self.question.probe.timeout))

    def cancel(self) -> None:
        """Gives it up without a reading."""
        if self._talk is not None:
            talk, self._talk = self._talk, None
            talk.close()

    def _go_on(self, step: Callable[[], Finding | None]) -> None:
        try:
            finding = step()
        except OSError as error:
            finding = could_not_ask(_words(error))
        except (ValueError, re.error, ImportError) as error:  # a bad target or pattern; a library is missing
            finding = could_not_ask(str(error))
        if finding is not None:
            self._settle(finding)

    def _settle(self, finding: Finding) -> None:
        probe = self.question.probe
        self.cancel()
        self.reading = Reading(
            name=probe.name,
            ok=finding.ok,
            seconds=time.monotonic() - self._begun,
            detail=printable(finding.detail),
            restart=probe.restart,
            answered=finding.answered,
        )


def _words(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename}" if error.filename else error.strerror or str(error)


def _talk(question: Question, wires: Wires) -> Talk:
    probe = question.probe
    if probe.kind == "command":
        return CommandTalk(probe.command, question.cwd, question.env, wires)
    if probe.kind == "tcp":
        return TcpTalk(_port(probe.target), wires)
    url = _url(probe.target, question.port)
    if url.lower().startswith("https:"):
        from ops.host.probe_https import HttpsTalk  # it takes ssl along, which the monitor's memory would feel

        return HttpsTalk(probe, url, wires)
    return HttpTalk(probe, url, wires)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port")
    return port


def _url(target: str, port: int | None) -> str:
    if not target.startswith("/"):
        return target
    if port is None:
        raise ValueError(f"{target} is a path, and the service has no port")
    return f"http://localhost:{port}{target}"


def ask(questions: Sequence[Question], *, clock: Callable[[], float] = time.monotonic) -> list[Reading]:
    """Asks all at once and waits for all; the readings in the order of the questions.

    Each is bounded by its own timeout, so all together by the longest. Interrupted, it leaves nothing
    running.
    """
    # Unlike epoll and kqueue, poll needs no descriptor of its own: even with none left, this says so in
    # readings.
    with selectors.PollSelector() as selector:
        inquiries: list[Inquiry] = []
        try:
            for question in questions:
                inquiries.append(Inquiry(question, clock(), selector))
            _drive(inquiries, selector, clock)
        finally:
            for inquiry in inquiries:
                inquiry.cancel()
    return [inquiry.reading for inquiry in inquiries if inquiry.reading is not None]


def _drive(inquiries: Sequence[Inquiry], selector: selectors.BaseSelector, clock: Callable[[], float]) -> None:
    while waiting := [inquiry for inquiry in inquiries if inquiry.reading is None]:
        patience = min(inquiry.due for inquiry in waiting) - clock()
        ready = selector.select(max(0.0, patience))
        for key, _ in ready:
            key.data.advance(clock())
        for inquiry in waiting:
            if inquiry.due <= clock():
                inquiry.advance(clock())
