"""What is seen during a soak: findings, each with the fault before it; copies of services; what is not well or is left.

Knows: the ground, moments (monotonic), what must never be. Must not know: how faults are done, how figures are shown.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ops.host import process
from ops.model import Process
from tests.soak.ground import Ground
from tests.soak.plan import Step
from tests.stack import Done
from tests.waiting import until

WELL_WITHIN = 120.0  # seconds after which all must be well when it is left alone
COMMAND_WITHIN = 180.0
GONE_WITHIN = 5.0


@dataclass(frozen=True)
class Finding:
    """Something that must not be. `at`: seconds since the soak began; `after`: the fault before it."""

    at: float
    what: str
    after: str

    def __str__(self) -> str:
        return f"{self.at:.1f} s, after {self.after}: {self.what}"


@dataclass
class Witness:
    """Sees and notes. Safe from any thread."""

    ground: Ground
    begun: float = field(default_factory=time.monotonic)
    findings: list[Finding] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)  # when each began
    counted: Counter[str] = field(default_factory=Counter)  # faults that hit
    missed: Counter[str] = field(default_factory=Counter)  # those that hit nobody, and why
    withheld: list[tuple[float, float]] = field(default_factory=list)  # when recon-api was not to be had on purpose
    twice: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen_twice: set[tuple[str, str]] = field(default_factory=set)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:7.1f} s  {text}", flush=True)

    def fault(self, step: Step) -> None:
        """From now on this fault is the one before."""
        self.faults.append((time.monotonic(), f"fault {step.number}, {step}"))
        self.say(str(step))

    def find(self, what: str, at: float | None = None) -> None:
        moment = time.monotonic() if at is None else at
        before = [text for begun, text in self.faults if begun <= moment]
        with self._lock:
            self.findings.append(Finding(moment - self.begun, what, before[-1] if before else "no fault yet"))
        self.say(f"FINDING: {self.findings[-1]}")

    def lives_twice(self, name: str) -> None:
        """Told by the census at every look; a finding once for each fault."""
        self.twice += 1
        key = (name, self.faults[-1][1] if self.faults else "")
        if key not in self._seen_twice:
            self._seen_twice.add(key)
            self.find(f"{name} ran twice")

    @contextlib.contextmanager
    def withholding(self, name: str) -> Iterator[None]:
        """What the client misses of recon-api meanwhile is meant."""
        begun = time.monotonic()
        try:
            yield
        finally:
            if name == "recon-api":
                self.withheld.append((begun, time.monotonic()))

    # -- commands ---------------------------------------------------------------------------------------------

    def inv(self, *args: str, code: int = 0) -> Done | None:
        """One command, which must end with that code; None when it did not end at all."""
        return self.all_at_once(args, 1, code)[0]

    def all_at_once(self, args: tuple[str, ...], many: int, code: int = 0) -> list[Done | None]:
        """The same command so many times at once."""
        begun = time.monotonic()
        commands = [self.ground.popen(*args) for _ in range(many)]
        done: list[Done | None] = []
        for command in commands:
            try:
                out, err = command.communicate(timeout=max(1.0, begun + COMMAND_WITHIN - time.monotonic()))
            except subprocess.TimeoutExpired:
                command.kill()
                command.communicate()
                self.find(f"inv {' '.join(args)} did not end within {COMMAND_WITHIN:g} s", begun)
                done.append(None)
                continue
            done.append(Done(list(args), command.returncode, out, err, time.monotonic() - begun))
            self._judge(done[-1], code)
        return done

    def _judge(self, done: Done | None, code: int) -> None:
        if done and (done.code != code or "Traceback" in done.err):
            self.find(f"expected exit {code}; {done}")

    # -- looks ------------------------------------------------------------------------------------------------

    def settle(self, within: float = WELL_WITHIN) -> None:
        """All becomes well when it is left alone; if not, that is a finding, and it is started anew."""
        last: list[Done] = []

        def well() -> bool:
            last[:] = [self.ground.inv("health", "--json")]
            return last[0].code == 0

        begun = time.monotonic()
        try:
            until(well, within, every=0.5)
        except (AssertionError, subprocess.TimeoutExpired) as why:
            said = last[0].out or last[0].err if last else why
            self.find(f"not well {within:g} s after it was left alone: {said}", begun)
            self.inv("start")
        for kind in ("monitor", "guard"):
            self._is_alone(kind)

    def _is_alone(self, kind: str) -> None:
        try:  # one that gives way to another is there for a moment
            until(lambda: len(self.watchers(kind)) == 1, 30)
        except AssertionError:
            self.find(f"{len(self.watchers(kind))} processes that are a {kind}")

    def watchers(self, kind: str) -> list[Process]:
        """The living monitors or guards."""
        return [one for one in self.ground.watchers() if kind in process.command_line(one.pid)]

    def nobody_watches(self) -> bool:
        """Whether neither a monitor nor a guard is awake."""
        lines = [process.entry(one.pid) for one in self.ground.watchers()]
        return all(line is None or line.stopped for line in lines)

    def stopped(self) -> None:
        """After `inv stop` nobody may be left. What was told to end may need a moment to be gone."""
        try:
            until(lambda: not self.left_behind(), GONE_WITHIN)
        except AssertionError:
            for one in self.left_behind():
                self.find(f"left behind after `inv stop`: {one}")

    def left_behind(self) -> list[str]:
        """What of the stack lives: by its run marker, its inventory, or its HOME."""
        ground = self.ground
        return [process.describe(one.pid) for one in {*ground.running(), *ground.watchers(), *ground.at_home()}]
