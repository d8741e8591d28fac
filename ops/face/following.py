"""tail: log lines as they come, from here or from several hosts at once.

Knows: when what is printed, that closing it ends the reading everywhere. Must not know: how logs are read.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import select
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

from ops import render
from ops.errors import Interrupted, OpsError
from ops.face import hosts, loading
from ops.face.given import Way
from ops.fleet import reach
from ops.fleet.here import Lines, Tell
from ops.fleet.here import tail as tail_here
from ops.fleet.reach import Selection
from ops.model import Host
from ops.operations.verbs import Request

_LISTEN_EVERY = 0.2  # seconds
_MOST_WAITING = 10_000  # lines; a host that writes faster than they can be shown waits


def tail(name: str, lines: int, follow: bool, json: bool, way: Way) -> int:
    """Prints log lines until Ctrl-C, which is how following ends, or until the reader is gone."""
    selection = hosts.selected(loading.loaded_and_warned(here=not way.limit), way)
    request = Request("tail", (name,), options={"lines": lines, "follow": follow})
    if selection.alone:
        return _tail_here(selection, request, json)
    return _Merged(selection, request, json).show()


def _tail_here(selection: Selection, request: Request, json: bool) -> int:
    (host,) = selection.hosts
    names, found = tail_here(host, selection.origin, request, _reader_gone, _complain)
    try:
        for key, text in found:
            line = render.log_document(host.name, key, text) if json else render.log_line(key, text, names)
            print(line, flush=bool(request.options["follow"]))
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(name: str, why: str) -> None:
    print(f"{name}: {why}", file=sys.stderr, flush=True)


def _reader_gone() -> bool:
    """Whether nobody reads standard output any more; without asking, `inv tail all | head -1` would end only when
    the next line comes. (macOS; not run on a Mac.)"""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Merged:
    """The lines of several hosts in the order in which they arrive, each with its host."""

    def __init__(self, selection: Selection, request: Request, json: bool) -> None:
        self._selection = selection
        self._request = request
        self._json = json
        self._cancelled = threading.Event()
        self._lines: queue.Queue[tuple[str, str, str]] = queue.Queue(_MOST_WAITING)
        self._single = request.only[0] != "all"
        self._labels = [self._label(host.name, one.name) for host in selection.hosts for one in host.services]
        self._code = 0

    def show(self) -> int:
        """The exit code; every host's reading has ended by then, or its connection is closed."""
        reading = threading.Thread(target=self._read, daemon=True)
        reading.start()
        try:
            for host, name, text in self._come(reading):
                self._print(host, name, text)
        except (KeyboardInterrupt, BrokenPipeError):
            self._cancelled.set()
            reading.join(_LISTEN_EVERY * 10)
            reach.close_all()
            if isinstance(sys.exc_info()[1], BrokenPipeError):
                raise
            return 130
        return self._code

    def _come(self, reading: threading.Thread) -> Iterator[tuple[str, str, str]]:
        while reading.is_alive() or not self._lines.empty():
            if _reader_gone():
                raise BrokenPipeError
            try:
                yield self._lines.get(timeout=_LISTEN_EVERY)
            except queue.Empty:
                continue

    def _print(self, host: str, name: str, text: str) -> None:
        if self._json:
            print(render.log_document(host, name, text), flush=True)
            return
        label = self._label(host, name)
        print(render.log_line(label, text, [*dict.fromkeys(self._labels), label, ""]), flush=True)

    def _label(self, host: str, name: str) -> str:
        return host if self._single else f"{host} {name}"

    def _read(self) -> None:
        try:
            # Each host is followed for ever: one that waited for its turn would never have it.
            everybody = replace(self._selection, forks=len(self._selection.hosts))
            came = reach.each(everybody, self._cancelled, self._one)
        except (Interrupted, OpsError):
            return
        for one in came:
            if one.error is not None:
                _complain(one.host.name, hosts.report_of(one).error)
        self._code = hosts.exit_code(came)

    def _one(self, host: Host) -> reach.Came:
        def complain(name: str, why: str) -> None:
            _complain(host.name, why if self._single or name == host.name else f"{name}: {why}")

        lines = Lines(functools.partial(self._put, host), complain)
        return reach.follow(self._selection, host, self._request, Tell(cancelled=self._cancelled), lines)

    def _put(self, host: Host, name: str, text: str) -> None:
        while not self._cancelled.is_set():
            with contextlib.suppress(queue.Full):
                self._lines.put((host.name, name, text), timeout=_LISTEN_EVERY)
                return
