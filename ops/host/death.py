"""Waiting for the death of processes, whoever's children they are, by event.

Knows: pids, and how the kernel tells of an exit (Linux: pidfd, macOS: kqueue, else asking again and again).
Must not know: services; who a process is (its birth is the caller's to check); exit codes.

A pid may be given to a stranger the moment its process is reaped. So the order is: `watch` first, then
compare the birth. If it still matches, the death of exactly that process will be told; if not, `forget`.

A zombie counts as dead: it runs no code and holds no port. A dead child of this process is left for its owner
to reap.

kqueue has not been run on a Mac.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Collection
from typing import Protocol

ASK_EVERY = 0.02  # seconds between two looks at a process that no event can be had for
_LONGEST = 3600.0  # seconds: the kernel's timeouts are 32-bit milliseconds


class Deaths:
    """Watches many processes at once. To be closed, best by `with`. Not to be shared with a forked child.

    Costs one descriptor, and on Linux one more per watched process. Where none is to be had (EMFILE, an old
    kernel, a sandbox), that process is asked after every 20 ms instead: see `patience`.
    """

    def __init__(self) -> None:
        self._bell = _bell()
        self._asked: set[int] = set()  # those that no event will tell of

    def __enter__(self) -> Deaths:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all descriptors back; what was watched is forgotten."""
        self._asked.clear()
        self._bell.close()

    def fileno(self) -> int:
        """A descriptor that is readable when a death can be fetched by `poll`, for an outer selector.

        Raises OSError when this process had no descriptor left for it.
        """
        return self._bell.fileno()

    @property
    def patience(self) -> float | None:
        """The longest an outer selector may sleep before it calls `poll` all the same, in seconds.

        None when the descriptor tells of every death, which is the rule.
        """
        return ASK_EVERY if self._asked else None

    def watch(self, pid: int) -> bool:
        """Watch a process; False when it is gone already (a zombie is). Watching again starts afresh."""
        self.forget(pid)
        try:
            self._bell.add(pid)
        except ProcessLookupError:
            return False
        except OSError:
            # No descriptor, no such call, not allowed; or EINVAL from a pid reaped a moment ago whose number
            # is still that of a process group.
            if dead(pid):
                return False
            self._asked.add(pid)
        return True

    def forget(self, pid: int) -> None:
        """Watch it no longer; fine for one that was never watched."""
        self._asked.discard(pid)
        self._bell.remove(pid)

    def poll(self, timeout: float = 0.0) -> set[int]:
        """Those that died, each told once and then forgotten; waits up to `timeout` seconds for the first."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            died = self._bell.wait(min(left, ASK_EVERY if self._asked else _LONGEST))
            died |= {pid for pid in self._asked if dead(pid)}
            if died or not left:
                break
        for pid in died:
            self.forget(pid)
        return died


def gone(pids: Collection[int], timeout: float) -> set[int]:
    """Wait until all of these are dead, at most `timeout` seconds.

    Returns those that are still ALIVE: the empty set says that all are gone. A zombie is.
    """
    deadline = time.monotonic() + timeout
    with Deaths() as deaths:
        alive = {pid for pid in pids if deaths.watch(pid)}
        left = timeout
        while alive and left > 0:
            left = deadline - time.monotonic()
            alive -= deaths.poll(max(0.0, left))
        return alive


def dead(pid: int) -> bool:
    """Whether no such process runs (now; no waiting). A zombie is dead where /proc can tell.

    macOS has no /proc, and a signal can be sent to a zombie: there, one that is not reaped looks alive to
    this question (but not to kqueue).
    """
    if pid < 1:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return is_zombie(file.read())
    except OSError:  # gone, hidden (hidepid), no /proc at all, or no descriptor left to read it with
        return not _exists(pid)


def is_zombie(stat: bytes) -> bool:
    """Whether a /proc/PID/stat (man 5 proc) tells of a process that has ended.

    A process whose main thread alone has ended shows Z too while the other threads run on: they are counted.
    """
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold blanks and parentheses itself
    state, threads = fields[0], int(fields[17])
    return state in b"ZX" and threads <= 1


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Bell(Protocol):
    """What the kernel has to offer: rings when one of the added pids dies."""

    def add(self, pid: int) -> None:
        """Raises ProcessLookupError when it is gone, another OSError when it cannot be watched."""

    def remove(self, pid: int) -> None: ...

    def wait(self, timeout: float) -> set[int]: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


def _bell() -> _Bell:
    """The one place that knows which platform has which way."""
    try:
        if sys.platform == "linux":
            bell: _Bell = _Pidfds()
        else:
            bell = _Kqueue()
        return bell
    except OSError:  # no descriptor left: kill-port and stop must work all the same
        return _NoBell()


class _NoBell:
    """Nothing rings; all are asked after."""

    def add(self, pid: int) -> None:
        raise OSError(f"no event tells of the death of {pid}")

    def remove(self, pid: int) -> None:
        pass

    def wait(self, timeout: float) -> set[int]:
        time.sleep(timeout)
        return set()

    def fileno(self) -> int:
        raise OSError("no descriptor was left to watch processes with; close some, or raise `ulimit -n`")

    def close(self) -> None:
        pass


if sys.platform == "linux":

    class _Pidfds:
        """A pidfd (Linux 5.3) is readable from the exit on, reaped or not; epoll gathers them."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._pids: dict[int, int] = {}  # by descriptor
            self._descriptors: dict[int, int] = {}  # by pid

        def add(self, pid: int) -> None:
            if not hasattr(os, "pidfd_open"):  # a Python built for older kernels
                raise OSError("this Python has no pidfd_open")
            descriptor = os.pidfd_open(pid)
            try:
                self._epoll.register(descriptor, select.EPOLLIN)
            except OSError:  # the user's share of epoll entries is spent (ENOSPC), or no memory
                os.close(descriptor)
                raise
            self._pids[descriptor], self._descriptors[pid] = pid, descriptor
            if _readable(descriptor):
                self.remove(pid)
                raise ProcessLookupError(f"process {pid} is a zombie")

        def remove(self, pid: int) -> None:
            descriptor = self._descriptors.pop(pid, None)
            if descriptor is not None:
                # Closing alone would not do: a child forked meanwhile may hold a copy, and the epoll with it.
                self._epoll.unregister(descriptor)
                os.close(descriptor)
                del self._pids[descriptor]

        def wait(self, timeout: float) -> set[int]:
            return {self._pids[descriptor] for descriptor, _ in self._epoll.poll(timeout)}

        def fileno(self) -> int:
            return self._epoll.fileno()

        def close(self) -> None:
            for pid in list(self._descriptors):
                self.remove(pid)
            self._epoll.close()

    def _readable(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:

    class _Kqueue:
        """NOTE_EXIT comes at the exit, reaped or not. A process that is gone, or a zombie, gives ESRCH."""

        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self._pids: set[int] = set()

        def add(self, pid: int) -> None:
            flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
            self._kqueue.control([self._event(pid, flags)], 0, 0)
            self._pids.add(pid)

        def remove(self, pid: int) -> None:
            if pid not in self._pids:
                return
            self._pids.discard(pid)
            try:
                self._kqueue.control([self._event(pid, select.KQ_EV_DELETE)], 0, 0)
            except OSError:  # it has rung, which removed it (ONESHOT)
                return

        def wait(self, timeout: float) -> set[int]:
            events = self._kqueue.control([], max(1, len(self._pids)), timeout)
            return {event.ident for event in events}

        def fileno(self) -> int:
            return self._kqueue.fileno()

        def close(self) -> None:
            self._pids.clear()
            self._kqueue.close()

        @staticmethod
        def _event(pid: int, flags: int) -> select.kevent:
            return select.kevent(pid, select.KQ_FILTER_PROC, flags, select.KQ_NOTE_EXIT)
