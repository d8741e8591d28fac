"""The nouns of the toolkit, frozen.

Knows: what a Service, Probe, Process, Reading, Outcome … consists of, and what follows from that alone.
Must not know: files, processes, the network, the clock, any other room.

Durations are seconds, sizes are bytes, times are ISO 8601 with a zone, unknown is None.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from ops.frozen import frozen

ServiceState = Literal["up", "down", "starting", "stopping", "unhealthy", "hung", "foreign", "gave-up", "unknown"]
Wanted = Literal["up", "down", "held"]
OutcomeState = Literal["ok", "changed", "failed", "skipped", "unreachable"]

LOCALHOST = "localhost"
SCHEMA = 1


@frozen
class Probe:
    """One way of asking a service how it is.

    `kind` is http, tcp or command. `target` is a path beginning with "/" or a whole URL (http), a port as
    text (tcp) or "" (command, which has `command` instead).
    """

    kind: Literal["http", "tcp", "command"]
    target: str
    every: float
    timeout: float
    restart: bool = True
    method: str = "GET"
    status: tuple[tuple[int, int], ...] = ((200, 399),)  # inclusive ranges
    body: str | None = None  # a text that must occur, or "~regex" that must match somewhere
    json: Any = None  # a subset the answer must contain
    header: Mapping[str, str] = field(default_factory=dict)  # headers the answer must carry
    command: tuple[str, ...] = ()
    nth: int = 1  # of those of its service that are called the same; all else goes by the name

    @property
    def name(self) -> str:
        """What people call it: `GET /recon/health`, `tcp 5103`, `command check.sh`, `GET / (2)`."""
        nth = f" ({self.nth})" if self.nth > 1 else ""
        if self.kind == "http":
            return f"{self.method} {self.target}{nth}"
        if self.kind == "tcp":
            return f"tcp {self.target}{nth}"
        return "command " + " ".join(self.command) + nth


@frozen
class Service:
    """What should run. Paths may be relative to the root of the host that it runs on."""

    name: str
    command: tuple[str, ...]  # as written: {python}, {port} and {name} are not expanded yet
    cwd: str = "."
    port: int | None = None
    critical: bool = False
    needs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None
    health: tuple[Probe, ...] = ()
    log: str | None = None  # the public path; the real log lives in the state folder
    pid_file: str | None = None
    start_timeout: float = 60.0
    start_time: float = 5.0
    grace: float = 10.0
    stop_signal: str = "TERM"
    max_rss: int | None = None
    on_need_restart: Literal["leave", "restart"] = "leave"
    interval: float = 30.0
    timeout: float = 5.0
    attempts: int = 3
    delay: float = 10.0
    confirm: int = 1
    calm: float = 300.0
    retry_max: float = 60.0
    recovery_budget: float = 30.0
    log_size: int = 10 * 1024 * 1024
    log_keep: int = 5

    def argv(self, python: str) -> tuple[str, ...]:
        """The command with {python}, {port} and {name} filled in; other braces are left as they are."""
        values = {"{python}": python, "{port}": str(self.port), "{name}": self.name}
        return tuple(_replace_all(word, values) for word in self.command)

    def probes(self) -> tuple[Probe, ...]:
        """The declared probes; a service that only has a port is asked whether it accepts connections."""
        if self.health or self.port is None:
            return self.health
        return (Probe("tcp", str(self.port), self.interval, self.timeout),)

    def gating(self) -> tuple[Probe, ...]:
        """The probes that gate `start` and may restart the service."""
        return tuple(probe for probe in self.probes() if probe.restart)

    def worst_case(self) -> float | None:
        """Seconds from the moment it hangs to serving again (law 8); None when no probe would see a hang.

        Least over the restart probes of every + timeout + confirm x (1 + timeout), plus grace + start_time.
        """
        notice = [p.every + p.timeout + self.confirm * (1 + p.timeout) for p in self.gating()]
        return min(notice) + self.grace + self.start_time if notice else None

    def definition(self) -> str:
        """A fingerprint of what a running process was started from: command, folder, environment, port."""
        parts = [self.command, self.cwd, sorted(self.env.items()), self.env_file, self.port]
        return fingerprint(json.dumps(parts).encode())


def fingerprint(data: bytes) -> str:
    """16 digits that tell one text from another. No secret hangs on it: hashlib would load all of OpenSSL, which is a
    fifth of the monitor's memory."""
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def _replace_all(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word


@frozen
class Stack:
    """What holds for all services together: the `ops` block of the inventory."""

    name: str
    label: str
    monitor: bool = True  # whether `start` leaves one running; False where something else watches
    alerts_log: str | None = None
    alert_command: tuple[str, ...] = ()
    log_size: int = 10 * 1024 * 1024
    log_keep: int = 5


@frozen
class Host:
    """Where services run. `root` is absolute; `services` are the enabled ones, in the order they were listed."""

    name: str
    root: str
    services: tuple[Service, ...]
    stack: Stack
    connection: Literal["local", "ssh"] = "local"
    groups: tuple[str, ...] = ()
    vars: Mapping[str, Any] = field(default_factory=dict)

    def service(self, name: str) -> Service:
        """The enabled service of that name; KeyError when there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)


@frozen
class Inventory:
    """Services and hosts as promised by one file. `hosts` is in the order of the file, `text` the fingerprint of its
    bytes. `groups` has the names of the hosts of each group, `all` and `ungrouped` too, in Ansible's order."""

    path: str
    stack: Stack
    hosts: tuple[Host, ...]
    text: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        """The host of that name; KeyError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)


@frozen
class Process:
    """A pid with its birth: the only thing that is ever signalled.

    `birth` is the start time in seconds as the kernel counts it (Linux: since boot, in clock ticks of 10 ms;
    macOS: since the epoch). `boot` names the boot of the machine, so that a record from before it never matches.
    """

    pid: int
    birth: float
    boot: str


@frozen
class Reading:
    """What one probe found. `ok` None: the asking itself failed (no such tool, no resolver), which says
    nothing about the service. `answered` False: nobody answered within the time, which is what a hang looks like."""

    name: str
    ok: bool | None
    seconds: float
    detail: str = ""
    restart: bool = True
    answered: bool = True


@frozen
class Outcome:
    """What one operation came to for one service (or port): said only after looking again.

    `detail` is one line; `more` holds what a failure needs besides: what was wanted, the last lines of the log,
    the command to run next.
    """

    service: str
    action: str
    state: OutcomeState
    before: str
    after: str
    detail: str = ""
    seconds: float = 0.0
    more: tuple[str, ...] = ()
    host: str = LOCALHOST


def tally(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Ansible's recap per host; `ok` counts `changed` too."""
    recap: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        row = recap.setdefault(outcome.host, {"ok": 0, "changed": 0, "unreachable": 0, "failed": 0, "skipped": 0})
        row[outcome.state] += 1
        if outcome.state == "changed":
            row["ok"] += 1
    return recap
