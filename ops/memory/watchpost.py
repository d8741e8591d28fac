"""What monitor, guard and commands leave for one another in the state folder.

Knows: who watches, its heartbeat, its bell, its last readings, whether there should be a monitor at all. Must not
know: processes beyond their identity, what the readings lead to.

    STATE/monitor.json      who watches (not fsynced: no process outlives a boot)
    STATE/guard.json        who watches the monitor, where it stands alone
    STATE/monitor.next          who waits for it to end, to watch in its place
    STATE/monitor.wish      whether a monitor is wanted (fsynced: it holds over a boot)
    STATE/monitor.lock      flocked as long as a monitor runs; its time of change is the heartbeat
    STATE/guard.lock        the same for the guard
    STATE/bell              a FIFO: any byte says that something changed; losing it costs a second
    STATE/readings.json     the monitor's last readings

Heartbeats are times of files that exist already, so that a full disk silences nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from ops.errors import OpsError
from ops.frozen import frozen
from ops.memory import locks
from ops.memory.files import Unchanged, now, read_json, write_atomically
from ops.memory.trust import parse
from ops.model import Process

_A_LOOK = 0.2  # seconds; whoever only looks whether it is held holds it for an instant

_SIZE = 256  # bytes that a file has at least, so that one can be overwritten by another

Watcher = Literal["monitor", "guard"]


@frozen
class MonitorWish:
    """Whether a monitor is wanted. `up` None: nothing was ever said, which means yes."""

    up: bool | None = None
    by: str = ""
    at: str = ""


@frozen
class Post:
    """Who watches: the process of the monitor or of its guard. `under`: the init system that keeps it, if any."""

    process: Process
    started_at: str = ""
    under: str = ""


class Watchpost:
    """These files of one state folder. Reading never raises; writing says whether it was possible."""

    def __init__(self, path: str, root: str = "/") -> None:
        self.path = path
        self._instead = (path, root)
        self._read: dict[str, Unchanged] = {}

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    # -- whether there should be one --------------------------------------------------------------------------

    def wish(self) -> MonitorWish:
        said = self._said("monitor.wish")
        up = said.get("up")
        return MonitorWish(up if isinstance(up, bool) else None, str(said.get("by", "")), str(said.get("at", "")))

    def want(self, up: bool, by: str) -> bool:
        """Records it, unless it is said already; whether it is recorded."""
        if self.wish().up is up:
            return True
        said = asdict(MonitorWish(up, by[:80], now()))
        if self._write("monitor.wish", said, fsync=True) or self._overwrite("monitor.wish", said):
            return True
        if up:  # on a full disk: nothing said means the same
            with contextlib.suppress(OSError):
                os.unlink(self._file("monitor.wish"))
        return up and self.wish().up is None

    # -- who watches ------------------------------------------------------------------------------------------

    def post(self, watcher: Watcher = "monitor") -> Post | None:
        """Who signed on last, whether or not it still lives."""
        said = self._said(f"{watcher}.json")
        process = parse(Process, said.get("process"))
        if process is None or process.pid <= 1:
            return None
        return Post(process, str(said.get("started_at", "")), str(said.get("under", "")))

    def sign_on(self, watcher: Watcher, process: Process, under: str = "") -> bool:
        """Records who watches."""
        return self._write(f"{watcher}.json", asdict(Post(process, now(), under)))

    def queue(self, process: Process) -> None:
        """Records who waits for the monitor to end, to watch in its place."""
        self._write("monitor.next", asdict(Post(process, now())))

    def queued(self) -> Process | None:
        """Who was the last to wait for that."""
        found: Process | None = parse(Process, self._said("monitor.next").get("process"))
        return found

    def lock(self, watcher: Watcher, by: str) -> contextlib.AbstractContextManager[int]:
        """Held by the one that watches, for life. LockHeld soon, naming the holder, when there is one."""
        return locks.held(self._file(f"{watcher}.lock"), self._instead, _A_LOOK, by)

    def place(self, watcher: Watcher = "monitor") -> tuple[int, int] | None:
        """Which file its lock is (device, inode): another one once the folder was put anew. None when there is none."""
        try:
            found = os.stat(self._file(f"{watcher}.lock"))
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_displaced(self, watcher: Watcher, place: tuple[int, int] | None) -> bool:
        """Whether the lock that this process holds, which was in that `place` when it began, is not the lock any more.
        It had none on a full disk, or when the folder was removed just then: so whose name is in it counts, too."""
        if place is None:
            return self.holder(watcher) not in (0, os.getpid())
        return self.place(watcher) != place

    def manned(self, watcher: Watcher = "monitor") -> bool:
        """Whether one holds its lock now."""
        return locks.is_held(self._file(f"{watcher}.lock"))

    def holder(self, watcher: Watcher = "monitor") -> int:
        """The pid that signed the lock; that takes no room on a full disk. 0 when nobody did."""
        return locks.holder(self._file(f"{watcher}.lock"))

    # -- heartbeat and bell -----------------------------------------------------------------------------------

    def beat(self, watcher: Watcher = "monitor") -> bool:
        """Shows that it is not stuck; False when not even the time of a file can be changed."""
        try:
            os.utime(self._file(f"{watcher}.lock"))
        except OSError:
            return False
        return True

    def beaten(self, watcher: Watcher = "monitor") -> int | None:
        """The last heartbeat, nanoseconds since the epoch; only good for seeing that it changes."""
        try:
            return os.stat(self._file(f"{watcher}.lock")).st_mtime_ns
        except OSError:
            return None

    def ring(self) -> None:
        """Tells a running monitor that something changed."""
        with contextlib.suppress(OSError):
            bell = os.open(self._file("bell"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.write(bell, b".")
            finally:
                os.close(bell)

    def bell(self) -> int | None:
        """The monitor's end of the bell, readable when it was rung; None when it cannot be had."""
        path = self._file("bell")
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISFIFO(os.lstat(path).st_mode):
                    os.unlink(path)  # whatever has come into its place cannot be waited for
            with contextlib.suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Open for writing too, else every command that hangs up would leave an end of file behind.
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        return None

    # -- readings ---------------------------------------------------------------------------------------------

    def publish(self, readings: Mapping[str, Any]) -> bool:
        """What the monitor knows, for `status` and `health`."""
        return self._write("readings.json", readings)

    def readings(self) -> dict[str, Any]:
        """What the monitor published last; {} when there is nothing, or nonsense."""
        return read_json(self._file("readings.json"))

    def _said(self, name: str) -> dict[str, Any]:
        try:
            return self._read.setdefault(name, Unchanged(self._file(name))).read()
        except OpsError:  # no descriptor left to look
            return {}

    def _write(self, name: str, value: Mapping[str, Any], *, fsync: bool = False) -> bool:
        try:
            write_atomically(self._file(name), _text(value), fsync=fsync)
        except OSError:
            return False
        return True

    def _overwrite(self, name: str, value: Mapping[str, Any]) -> bool:
        """In its place, which a full disk still allows: it fits into one sector, so no power cut tears it."""
        try:
            with open(self._file(name), "r+b", buffering=0) as file:
                file.write(_text(value))
                file.truncate()
                os.fsync(file.fileno())
        except OSError:
            return False
        return True


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps({"schema": 1, **value}).ljust(_SIZE).encode()
