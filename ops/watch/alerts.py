"""Alerts: what goes wrong and what is resolved, handed to whoever is to hear of it.

Knows: the channels, which of them failed. Must not know: when there is something to say, who decides that.

A channel is a function in CHANNELS: it says what kept it, or "". `log` appends a line to the alerts log; `command`
runs any program with the alert as a JSON document on its standard input.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import Literal

from ops.frozen import frozen
from ops.host import program
from ops.memory import files
from ops.memory.state import State
from ops.model import LOCALHOST, SCHEMA, Host
from ops.operations import environment, public

Severity = Literal["critical", "resolved"]

# As `log` writes it, but for `inv start failed: ...`, which is logbook's.
_WHOM = r"(?P<stack>[^\s:]+)(?: (?P<service>[^\s:]+))?"
_LINE = re.compile(rf"(?P<at>\S+) (?P<severity>CRITICAL|RESOLVED) {_WHOM}: (?!inv )")
_LINES = 500  # of the log that are looked through
_NEVER = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
_SPARE = 1.0  # seconds that a channel gets beyond its timeout, to end what it had to break off


@frozen
class Alert:
    """What is told. `at` is ISO 8601 with its zone; `service` "" means the whole stack; `text` is one line: what was
    seen; `key` names the root cause, so that `resolved` has the key of what it resolves; `next` is "" or what to
    type."""

    at: str
    severity: Severity
    stack: str
    service: str
    text: str
    key: str
    next: str = ""


@frozen
class Settings:
    """Where alerts go. `mend` makes the public path of the alerts log right and says what it could not; `command` ()
    is none, and runs in `folder` with `env` alone; `host` is what it is told; `timeout` bounds each channel."""

    alerts_log: str
    mend: Callable[[], Sequence[str]] = tuple
    command: tuple[str, ...] = ()
    host: str = LOCALHOST
    folder: str = "/"
    env: Mapping[str, str] = field(default_factory=environment.capture)
    timeout: float = 10.0
    written: Callable[[], object] = lambda: None  # called once a line is in the alerts log


Channel = Callable[[Alert, Settings], str]
CHANNELS: dict[str, Channel] = {}


def settings_of(host: Host, state: State) -> Settings:
    """As the inventory has it. A pager is not helped by `localhost`: it is told the machine's own name instead."""
    return Settings(
        alerts_log=state.log("alerts"),
        mend=lambda: public.mend_alerts(host, state),
        command=host.stack.alert_command,
        host=os.uname().nodename if host.name == LOCALHOST else host.name,
        folder=host.root,
    )


def deliver(alert: Alert, settings: Settings, names: Collection[str] | None = None) -> list[str]:
    """Hands it to every channel (or to those of these names), side by side: what kept one (never an exception), a line
    each, and no channel keeps another from its turn. Returns within `timeout` and a second, whatever hangs: a disk, a
    program."""
    faults: dict[str, str] = {}

    def hand(name: str, channel: Channel) -> None:
        try:
            faults[name] = channel(alert, settings)
        except Exception as error:  # noqa: BLE001 - the rim: one broken channel must not take the others along
            faults[name] = f"{type(error).__name__}: {error}"

    threads = []
    channels = {name: channel for name, channel in CHANNELS.items() if names is None or name in names}
    for name, channel in channels.items():
        thread = threading.Thread(target=hand, args=(name, channel), name=f"alert {name}", daemon=True)
        try:
            thread.start()
            threads.append(thread)
        except RuntimeError:  # the machine has no thread left: then one after another
            hand(name, channel)
    until = time.monotonic() + settings.timeout + _SPARE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"not done within {settings.timeout:g} s"
    told = {name: faults.get(name, late) for name in channels}
    return [f"{name}: {fault}" for name, fault in told.items() if fault]


def channel(function: Channel) -> Channel:
    """Makes a function a channel of its name."""
    CHANNELS[function.__name__] = function
    return function


@channel
def log(alert: Alert, settings: Settings) -> str:
    """One fsynced line in the alerts log, which people find at its public path."""
    whom = f"{alert.stack} {alert.service}" if alert.service else alert.stack
    try:
        os.makedirs(os.path.dirname(settings.alerts_log), mode=0o700, exist_ok=True)
        files.append(settings.alerts_log, f"{alert.at} {alert.severity.upper()} {whom}: {alert.text}")
    except OSError as error:
        return f"{settings.alerts_log}: {error.strerror}"
    settings.written()
    return "; ".join(settings.mend())


def logged(path: str, stack: str, at: str, before: float) -> dict[str, Severity]:
    """By service ("" is the whole stack): what a monitor has last said of it in the alerts log since some seconds
    before a moment (ISO 8601; nothing when it is none). A command's own lines, of what it could not do, are no part
    of that."""
    from ops.host import logs

    begin = _moment(at)
    lines = [] if begin == _NEVER else logs.last_lines(path, _LINES)[0]
    found: dict[str, Severity] = {}
    for line in lines:
        fields = _LINE.match(logs.plain(line))
        if fields and fields["stack"] == stack and (begin - _moment(fields["at"])).total_seconds() <= before:
            found[fields["service"] or ""] = "critical" if fields["severity"] == "CRITICAL" else "resolved"
    return found


def _moment(text: str) -> datetime.datetime:
    with contextlib.suppress(ValueError):
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    return _NEVER


@channel
def command(alert: Alert, settings: Settings) -> str:
    """The inventory's `alert_command`, if there is one; nothing of the alert is in its arguments."""
    if not settings.command:
        return ""
    text = json.dumps(_document(alert, settings)).encode() + b"\n"
    return program.run(settings.command, text, cwd=settings.folder, env=settings.env, timeout=settings.timeout)


def _document(alert: Alert, settings: Settings) -> dict[str, str | int]:
    return {
        "schema": SCHEMA,
        "at": alert.at,
        "severity": alert.severity,
        "stack": alert.stack,
        "service": alert.service,
        "text": _one_line(alert.text),
        "key": alert.key,
        "next": _one_line(alert.next),
        "host": settings.host,
    }


def _one_line(text: str) -> str:
    """As in the log: a quoted answer may hold anything, a lone surrogate too, at which other JSON readers stumble."""
    return "".join(character if character.isprintable() else " " for character in text)
