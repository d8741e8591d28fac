"""Jumps: connections to jump hosts, each shared by all hosts that are reached through it at the same time.

Knows: who is first and opens it, who is last and closes it, what the others are told when it fails. Must not know: how
a connection is opened, what travels through it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ops.errors import OpsError
from ops.fleet.line import Unreachable
from ops.fleet.ssh import Route

_open: dict[tuple[Route, ...], Jump] = {}
_lock = threading.Lock()


class Jump:
    """A connection to the jump host at the end of a way, with the number of those who use it."""

    def __init__(self, way: tuple[Route, ...], shut: Callable[[Any], None]) -> None:
        self.name = way[-1].name
        self._way = way
        self._shut = shut
        self._users = 0
        self._made: Future[Any] = Future()

    @classmethod
    def taken(cls, route: Route, connect: Callable[[Route], Any], shut: Callable[[Any], None]) -> Jump:
        """The last jump host of the route, open, until `release`. Unreachable when it is not to be had."""
        way = route.jumps
        with _lock:
            jump = _open.get(way)
            first = jump is None or jump._is_lost()
            if jump is None or first:
                jump = _open[way] = cls(way, shut)
            jump._users += 1
        if first:
            jump._open_with(connect)
        failure = jump._made.exception()  # the time of who opens it is bounded, and so is this wait
        if failure is None:
            return jump
        jump.release()
        raise _of_jump(route, failure)

    @property
    def connection(self) -> Any:
        return self._made.result()

    def _is_lost(self) -> bool:
        return self._made.done() and (self._made.exception() is not None or not self.connection.is_connected)

    def _open_with(self, connect: Callable[[Route], Any]) -> None:
        *before, last = self._way
        try:
            self._made.set_result(connect(replace(last, jumps=tuple(before))))
        except OpsError as error:
            self._made.set_exception(error)
        except BaseException as error:  # Ctrl-C: nobody may go on waiting
            self._made.set_exception(error)
            self.release()
            raise

    def release(self) -> None:
        """One user less; the last one closes it."""
        with _lock:
            self._users -= 1
            last = self._users == 0
            if last and _open.get(self._way) is self:
                del _open[self._way]
        if last and self._made.exception() is None:
            self._shut(self.connection)


def _of_jump(route: Route, failure: BaseException) -> BaseException:
    """The failure as it concerns the host behind: an error of its own, as each thread raises one."""
    if not isinstance(failure, OpsError):
        return failure
    jump = route.jumps[-1].name
    seen = failure.seen.removeprefix(f"{jump}: ")
    return Unreachable(f"{route.name}: jump host {jump}: {seen}", wanted=failure.wanted, next=failure.next)
