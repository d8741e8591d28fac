"""The inventory while the monitor runs: taken up when it has changed, is right and can be carried out.

Knows: the file, when it has settled, which services a change touches. Must not know: YAML (a child process reads it,
so that the monitor stays small), how a service is restarted.

A broken file changes nothing: the last good one holds, is said to hold, and is kept for a monitor that starts while the
file is broken.
"""

from __future__ import annotations

import functools
import os
import pickle
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace

from ops.errors import OpsError
from ops.host import program, spawn
from ops.memory.last_good import LastGood
from ops.memory.state import State
from ops.model import Host, Service, fingerprint
from ops.operations import environment
from ops.watch.charge import Charge, Round
from ops.watch.loop import Loop
from ops.watch.policy import Watch, rules_of
from ops.watch.readings import Redefined

SETTLED = 5.0  # seconds without a change
_LOOK_EVERY = 3.0
_READING_TIME = 10.0  # seconds that reading it may take
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # where `ops` is
# What the child does; it answers with a pickled Host and the fingerprint of the file, or with the lines of the mistake.
_READ = """
import pathlib, pickle, sys
sys.path.insert(0, sys.argv[2])
from ops import inventory
from ops.errors import OpsError
try:
    loaded = inventory.load(pathlib.Path(sys.argv[1]))
    found = next((host for host in loaded.hosts if host.connection == "local"), None)
    answer = (found, loaded.text) if found else [f"{loaded.path}: no host has `ansible_connection: local`"]
except OpsError as error:
    answer = error.lines()
sys.stdout.buffer.write(pickle.dumps(answer))
"""


def read(path: str) -> tuple[Host, str]:
    """This machine's part of the inventory, and the fingerprint of what was read. OpsError says what is wrong."""
    argv = [sys.executable, "-I", "-c", _READ, path, _HOME]
    try:
        answer = pickle.loads(program.answer(argv, timeout=_READING_TIME))
    except (OpsError, pickle.UnpicklingError, EOFError) as error:
        raise Unread(f"{path} could not be read this time ({error}); it is tried again") from error
    if not isinstance(answer, tuple):
        raise OpsError("; ".join(line.strip() for line in answer))
    return answer


class Unread(OpsError):
    """It could not be read this time: that says nothing of what stands there."""


class Promise:
    """Follows the inventory file for a loop. `fault` says why what stands there does not hold, or is ""."""

    def __init__(self, loop: Loop, path: str, kept: LastGood, seen: str, fault: str = "") -> None:
        self.fault = fault
        self._loop = loop
        self._path = path
        self._kept = kept
        self._thread = loop.background("inventory")
        self._seen = "" if fault else seen
        self._taken = self._seen  # what was read last, whatever came of it
        self._since = loop.clock.last
        self._reading = False
        self._looking = False
        self._next_look = 0.0
        loop.each_second.append(self._each_second)
        loop.turned.append(self._turned)

    def _each_second(self, now: float) -> None:
        for charge in self._loop.charges.values():
            if charge.watch.attempts > 0 and not charge.watch.acting:  # its program could not even be launched
                self._go_back(charge)
        if now >= self._next_look and not self._looking and not self._reading:
            self._looking, self._next_look = True, now + _LOOK_EVERY - 0.5  # in the thread: a network's file may hang
            self._thread(lambda: fingerprint_of(self._path), self._looked)

    def _looked(self, found: str | None, _error: BaseException | None) -> None:
        self._looking, now = False, self._loop.clock.last
        if found is None:
            return
        if found != self._seen:
            self._seen, self._since = found, now
        if found == self._taken or self._reading or now - self._since < SETTLED:
            return
        self._reading, self._taken = True, found
        known = {name: charge.service.definition() for name, charge in self._loop.charges.items()}
        self._thread(functools.partial(_read_and_try, self._path, self._loop.site.state, known), self._read)

    def _read(self, found: tuple[Host, str, str] | None, error: BaseException | None) -> None:
        self._reading = False
        host, text, fault = found or (None, "", str(error))
        if fault != self.fault:
            self._loop.scribe.event("", "inventory", f"not taken up: {fault}" if fault else "right again")
            self._loop.news.changed = True
        self.fault = fault
        if isinstance(error, Unread):
            self._taken = ""
            self._since = self._loop.clock.last + SETTLED  # not at once: the machine has too much to do
        elif host is not None and fault:
            self._taken = ""  # its commands and folders may come: it is looked at again
            self._since = self._loop.clock.last
        elif host is not None:
            self._take_up(host, text)

    def _take_up(self, host: Host, text: str) -> None:
        loop = self._loop
        before = loop.site.host
        self._kept.keep(host, text)
        if host == before:
            return
        loop.site.host = host
        loop.scribe.settle(host)
        gone = sorted(set(loop.charges) - {service.name for service in host.services})
        new = [service.name for service in host.services if service.name not in loop.charges]
        spawn.allow_files(4 * len(host.services) + 256)
        loop.take_charge(host.services)
        touched = [service.name for service in host.services if self._redefine(loop.charges[service.name], service)]
        for name in new:
            loop.died(loop.charges[name], "new in the inventory")
        words = [f"{word} {', '.join(names)}" for word, names in (("new:", new), ("gone:", gone)) if names]
        words += [f"restarted with its new definition: {', '.join(touched)}"] if touched else []
        loop.scribe.event("", "inventory", "; ".join(["taken up", *words]))
        loop.news.changed = True

    def _redefine(self, charge: Charge, service: Service) -> bool:
        """Has it watched as it is defined now; whether it has to be restarted for that."""
        if service == charge.refused:
            return False
        charge.refused = None
        proven = charge.previous or charge.service
        if not self._watch_as(charge, service):
            return False
        # Until the new one is well the last that was stays known, however many edits come in between.
        charge.previous = proven if proven.definition() != service.definition() else None
        self._loop.tell(charge, Redefined("its definition has changed"))
        return True

    def _watch_as(self, charge: Charge, service: Service) -> bool:
        """Whether its process has to be another one for that."""
        old, charge.service = charge.service, service
        rules, names = rules_of(service), {probe.name for probe in service.probes()}
        doubts = {name: count for name, count in charge.watch.doubts.items() if name in names}
        unproven = rules.gating if charge.watch.unproven else frozenset[str]()
        charge.watch = replace(charge.watch, rules=rules, doubts=doubts, unproven=unproven)
        if service.probes() != old.probes():
            charge.rest_rounds(tuple(Round(probe) for probe in service.probes()))
            self._loop.ask_soon(charge)
        return service.definition() != old.definition()

    def _turned(self, charge: Charge, before: Watch) -> None:
        """A new definition that is not well by its deadline: the one before it is started again. What ends while a
        restart is under way (`before.acting`) is ended by that."""
        state = charge.watch.state
        if charge.previous is None or state == before.state:
            return
        if state == "up" and not charge.watch.redefined:
            charge.previous = None
        elif state == "foreign" or (before.state == "starting" and not before.acting):
            self._go_back(charge)

    def _go_back(self, charge: Charge) -> None:
        """Unless it may yet come up."""
        if charge.previous is not None and charge.watch.state in ("down", "unhealthy", "hung", "gave-up", "foreign"):
            previous, charge.previous, charge.refused = charge.previous, None, charge.service
            name, why = charge.service.name, charge.watch.why
            self._loop.news.alert(name, f"its new definition is not well ({why}); started again as it was before")
            self._watch_as(charge, previous)
            if not charge.watch.acting:  # else what is about to be started is that
                self._loop.tell(charge, Redefined("its definition before is started again"))


def _read_and_try(path: str, state: State, known: Mapping[str, str]) -> tuple[Host, str, str]:
    """In the thread: as `read` does, and why a service that the change touches could not be started, or "". `known`:
    the definitions by name."""
    host, text = read(path)
    for service in host.services:
        if known.get(service.name) != service.definition():
            try:
                environment.prepare(host, state, service)
            except OpsError as error:
                return host, text, f"{service.name}: {error.seen}"
    return host, text, ""


def fingerprint_of(path: str) -> str:
    """Of its bytes; "" when it cannot be read, which may be an editor's doing."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return fingerprint(file.read(1 << 22)) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    except OSError:
        return ""
