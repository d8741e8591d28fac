"""The state folder: what is wanted, a record per service, and locks. The one truth on disk.

Knows: files, their atomicity, what survives a power cut and a full disk. Must not know: processes beyond their
identity, what the records are used for.

    STATE/stack.json            whose folder this is: the stack's name and its root
    STATE/wanted.json           per service: up or down, held, a generation that only grows (fsynced)
    STATE/wanted.copy           the same once more, for when that is damaged
    STATE/services/NAME.json    the process that was started or adopted (not fsynced: no process outlives a boot)
    STATE/frozen.json           per service: the environment and program frozen at its first start (fsynced)
    STATE/locks/NAME            flocked while a service is changed; never removed
    STATE/logs/NAME.log         the real logs

Reading never raises for a file that is missing, half-written or garbage: it is as if it were not there, and the
caller rebuilds it from the processes. Writing never raises for a full disk: it says what could not be kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ops.errors import StateError
from ops.frozen import frozen
from ops.memory import locks
from ops.memory.files import FULL, Unchanged, now, read_json, write_atomically
from ops.memory.folders import folder_of
from ops.memory.trust import parse
from ops.memory.wishes import COPY, FILE, Damage, Wish, Wishes
from ops.model import Process, Stack, fingerprint

OVERDUE = 5.0  # seconds; an honest holder may need longer, a stopped monitor never ends
_WANTED_LOCK_TIME = 10.0  # seconds; it is held for milliseconds
_MENDED = {
    "": "",
    "healed": "{} was damaged; it is written anew from its copy",
    "lost": "{} was damaged, and so was its copy; what was not remembered otherwise counts as wanted up",
    "gone": "{} was removed, and so was its copy; it is written anew from what was remembered",
}


@frozen
class Record:
    """The process of one service as it was started or adopted, and what is needed to end it should the
    inventory no longer name it. `ready_at` is when its probes first passed; times are ISO 8601."""

    service: str
    process: Process
    run: str  # the run part of its marker; "" for one that was adopted without a marker
    definition: str
    started_at: str
    by: str = "start"
    port: int | None = None
    critical: bool = False
    stop_signal: str = "TERM"
    grace: float = 10.0
    ready_at: str | None = None
    restarts: int = 0
    stopping: bool = False
    log_file: tuple[int, int] | None = None
    log_start: int = 0  # how long the log was when this process was given it, bytes


class State:
    """The state folder of one stack. Made by `prepare()`, which every changing command calls first."""

    def __init__(self, stack: Stack, root: str, path: str | None = None) -> None:
        self.stack = stack
        self.root = os.path.realpath(root)
        self.path = path or folder_of(stack.name, self.root)
        self.notes: list[str] = []  # what could not be kept, for people
        self.pause: Callable[[float], None] = time.sleep  # how a lock is waited for
        self.overdue: Callable[[int], None] = lambda pid: None  # hears who holds one for longer than OVERDUE
        self._wishes = Wishes(self.path)
        self._frozen = Unchanged(os.path.join(self.path, "frozen.json"))

    # -- paths ---------------------------------------------------------------------------------------------

    def log(self, name: str) -> str:
        """Where the real log of a service (or `monitor`, `alerts`) lies."""
        return os.path.join(self.path, "logs", f"{name}.log")

    @property
    def tag(self) -> str:
        """Tells this folder's runs from those of another folder for a stack of the same name."""
        return fingerprint(os.path.realpath(self.path).encode())[:8]

    @property
    def quiet(self) -> str:
        """The FIFO that services have as their input."""
        return os.path.join(self.path, "quiet")

    def _record_path(self, name: str) -> str:
        return os.path.join(self.path, "services", f"{name}.json")

    # -- whose it is -----------------------------------------------------------------------------------------

    def check(self, *, reading: bool = False) -> None:
        """StateError when this folder is another user's or another project's. Changes nothing.

        For `reading` alone another user's will do, if it may be read (root's eyes)."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f"state folder {self.path}: {error.strerror}") from error
        if found.st_uid != os.geteuid() and not (reading and os.access(self.path, os.R_OK | os.X_OK)):
            raise self._another_user(found.st_uid)
        known = read_json(os.path.join(self.path, "stack.json"))
        name, remembered = known.get("name"), known.get("root")
        if isinstance(name, str) and name != self.stack.name:
            raise StateError(
                f"state folder {self.path} belongs to the stack {name!r}; this is {self.stack.name!r}",
                wanted="one folder per stack",
                next="set OPS_STATE to another folder, or unset it",
            )
        if isinstance(remembered, str) and remembered != self.root and not os.environ.get("OPS_STATE"):
            raise StateError(
                f"the stack {self.stack.name!r} already runs from {remembered}; this is {self.root}",
                wanted="one folder per stack name and user",
                next=f"cd {remembered}, or give this one another `name` under `ops`, or set OPS_STATE=FOLDER",
            )

    def _another_user(self, uid: int) -> StateError:
        import pwd
        import shlex

        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"#{uid}"
        chosen = os.environ.get("OPS_STATE")
        told = ["env", f"OPS_STATE={chosen}"] if chosen else []
        typed = os.path.abspath(sys.argv[0])
        program = typed if os.access(typed, os.X_OK) else os.path.join(os.path.dirname(sys.executable), "inv")
        words = shlex.join(["sudo", "-u", name, "-H", *told, program, *sys.argv[1:]])
        return StateError(
            f"state folder {self.path} belongs to user {name}, not to you",
            wanted="commands by the user whose services these are",
            next=words,
        )

    def prepare(self) -> None:
        """Checks and makes the folder. A disk too full to make it, or a part of it that cannot be made, is noted, not
        raised (law 7)."""
        self.check()
        for folder in ("", "services", "locks", "logs"):
            path = os.path.join(self.path, folder)
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
                if os.stat(path).st_mode & 0o777 != 0o700:
                    os.chmod(path, 0o700)
            except OSError as error:
                if error.errno not in FULL and not folder:
                    raise StateError(
                        f"state folder {self.path} cannot be made: {error.strerror}",
                        next="make its parent writable, or set OPS_STATE to a folder of yours",
                    ) from error
                self._note(f"the state folder {path} cannot be written: {error.strerror}")
                if not folder:
                    break
        if read_json(os.path.join(self.path, "stack.json")).get("root") != self.root:
            self._write("stack.json", {"name": self.stack.name, "root": self.root})

    # -- what is wanted ----------------------------------------------------------------------------------------

    def wishes(self) -> dict[str, Wish]:
        """What is wanted of each service that anything was ever said about."""
        return self._wishes.all()

    def wish(self, name: str) -> Wish:
        """What is wanted of one service now; nothing said means up."""
        return self._wishes.of(name) or Wish()

    @property
    def wishes_damage(self) -> Damage:
        """Whether what was wanted cannot be read any more, or only from its copy."""
        return self._wishes.damage

    def mend_wishes(self, known: Mapping[str, Wish], by: str) -> str:
        """Writes what is wanted anew where it was damaged: as its copy has it, or else whoever remembers (`known`).
        What was done, for people; "" when nothing is damaged (any more)."""
        with self._lock("wanted.lock", _WANTED_LOCK_TIME, by):
            self._wishes.forget()
            damage, wishes = self._wishes.damage, {**known, **self._wishes.all()}
            if damage:
                self._write_wishes(wishes)
        return _MENDED[damage].format(os.path.join(self.path, FILE))

    def _write_wishes(self, wishes: Mapping[str, Wish]) -> None:
        said = {"services": {name: vars(wish) for name, wish in wishes.items()}}
        if self._write(FILE, said, fsync=True):
            self._write(COPY, said)

    def want(
        self, names: Sequence[str], by: str, change: Callable[[Wish], Wish], *, anew: bool = False
    ) -> dict[str, Wish]:
        """Records a changed wish for each name and returns what is wanted now, with its generation.

        A wish that is already there is not written again, unless `anew` (a restart is a new wish each time). Holding
        is no new wish: it does not outrun a restart that is under way. On a full disk the wish counts for this
        command alone, and that is noted.
        """
        with self._lock("wanted.lock", _WANTED_LOCK_TIME, by):
            self._wishes.forget()
            wishes = self.wishes()
            damage = self._wishes.damage
            if damage not in ("", "gone"):
                self._note(_MENDED[damage].format(os.path.join(self.path, FILE)))
            # Not below the seconds since 1970: should this file ever be lost, newer wishes still have higher numbers.
            newest = max([int(time.time()), *(wish.generation + 1 for wish in wishes.values())])
            changed = not self._wishes.are_twice
            for name in names:
                old = wishes.get(name)
                new = change(old or Wish())
                if old is None or anew or new.up != old.up:
                    new = replace(new, generation=newest, by=by, at=now(), pid=os.getpid())
                changed = changed or new != old
                wishes[name] = new
            if changed:
                self._write_wishes(wishes)
            return {name: wishes[name] for name in names}

    # -- records -----------------------------------------------------------------------------------------------

    def record(self, name: str) -> Record | None:
        """The recorded process of a service; None when there is none or the file is unreadable."""
        said = read_json(self._record_path(name))
        process = parse(Process, said.get("process"))
        if process is None:
            return None
        log_file = said.get("log_file")
        pair = tuple(log_file) if isinstance(log_file, list) and len(log_file) == 2 else None
        record: Record | None = parse(Record, {**said, "process": process, "log_file": pair})
        return record if record and record.service == name and _sane(record) else None

    def recorded(self) -> list[str]:
        """The names of all services that have a record, whether or not the inventory still names them."""
        try:
            files = os.listdir(os.path.join(self.path, "services"))
        except OSError:
            return []
        return sorted(name[: -len(".json")] for name in files if name.endswith(".json"))

    def corrupt(self, name: str) -> bool:
        """Whether there is a record file that cannot be made sense of."""
        return os.path.exists(self._record_path(name)) and self.record(name) is None

    def remember(self, record: Record) -> None:
        """Writes the record; on a full disk the process is found again by its run marker."""
        self._write(f"services/{record.service}.json", {**vars(record), "process": vars(record.process)})

    def forget(self, name: str) -> None:
        """Removes the record (the frozen environment stays)."""
        with contextlib.suppress(OSError):
            os.unlink(self._record_path(name))

    def frozen(self) -> dict[str, Any]:
        """Per service what was frozen at its first start: {"env": {…}, "programs": {word: path}}."""
        services = self._frozen.read().get("services")
        return services if isinstance(services, dict) else {}

    def freeze(self, values: Mapping[str, Any], by: str) -> None:
        """Keeps environment and program of some services for every later spawner; writes only what changed."""
        old = self.frozen()
        if {**old, **values} == old:
            return  # as it is at every start but the first: nobody has to wait for the lock
        with self._lock("wanted.lock", _WANTED_LOCK_TIME, by):
            self._frozen.forget()
            old = self.frozen()
            new = {**old, **values}
            if new != old:
                self._write("frozen.json", {"services": new}, fsync=True)

    # -- locks -------------------------------------------------------------------------------------------------

    def changing(self, name: str, timeout: float, by: str) -> contextlib.AbstractContextManager[int]:
        """The lock of one service, held from look to spawned-and-recorded and from TERM to gone.

        Gives the turn that was written when it was last held: the same as `turn()` said before means that nobody
        has changed the service in between; locks.UNCOUNTED, on a full disk, that somebody may have.
        LockHeld after `timeout` seconds, naming the holder."""
        return self._lock(f"locks/{name}", timeout, by)

    def is_changing(self, name: str) -> bool:
        """Whether somebody holds the lock of a service now."""
        return locks.is_held(os.path.join(self.path, "locks", name))

    def changer(self, name: str, within: float) -> str:
        """Who has held the lock of a service in the last so many seconds, as they signed; "" when nobody has."""
        return locks.signature(os.path.join(self.path, "locks", name), within)

    def turn(self, name: str) -> int:
        """How often the lock of a service was taken so far."""
        return locks.turn(os.path.join(self.path, "locks", name))

    def _lock(self, relative: str, timeout: float, by: str) -> contextlib.AbstractContextManager[int]:
        path = os.path.join(self.path, relative)
        waited = 0.0

        def pause(seconds: float) -> None:
            nonlocal waited
            self.pause(seconds)
            if waited < OVERDUE <= waited + seconds:
                self.overdue(locks.holder(path))
            waited += seconds

        return locks.held(path, (self.path, self.root), timeout, by, pause)

    # -- writing -----------------------------------------------------------------------------------------------

    def _write(self, relative: str, value: Mapping[str, Any], *, fsync: bool = False) -> bool:
        path = os.path.join(self.path, relative)
        try:
            write_atomically(path, json.dumps({"schema": 1, **value}).encode(), fsync=fsync)
        except OSError as error:
            self._note(f"not recorded: {path}: {error.strerror}")
            return False
        return True

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _sane(record: Record) -> bool:
    """Whether its values can be used to end it: garbage that happens to have the right types is garbage too."""
    port = 0 if record.port is None else record.port
    known = f"SIG{record.stop_signal}" in signal.Signals.__members__
    return known and 0 <= record.grace <= 1e6 and 0 <= port <= 65535 and record.process.pid > 1
