"""systemd: the text of a unit, and the verbs that it is installed, started and taken away with.

Knows: unit files, systemctl, loginctl. Must not know: monitors, when a unit is wanted.

What is decided on is what `systemctl show` says, which is stable, and never the texts for people.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping

from ops.errors import OpsError
from ops.frozen import frozen
from ops.host import boot_files, initsystem
from ops.host.initsystem import Job, Said, Standing

_RUNS = "/run/systemd/system"  # sd_booted(3)
_SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "NeedDaemonReload", "Result")
_PATIENCE = 10.0  # seconds for one call; one whose manager hangs must hold up no emergency
_BUS_WITHIN = 10.0  # seconds after which a user's manager that was just asked for is there
WATCHDOG = 15  # seconds without a heartbeat after which it is replaced


class Unreachable(OpsError):
    """The manager does not answer."""


def booted() -> bool:
    """Whether this machine was booted by systemd."""
    return os.path.isdir(_RUNS)


def ends_sessions() -> bool:
    """Whether what was started from a login is killed with its last logout (KillUserProcesses of logind)."""
    if not booted():
        return False
    asked = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"]
    said = initsystem.ask([*asked, "org.freedesktop.login1.Manager", "KillUserProcesses"], _environment(), _PATIENCE)
    return said.code == 0 and said.words.split()[-1:] == ["true"]


def text(job: Job, *, system: bool) -> bytes:
    """The unit file. KillMode=process: what the monitor has started outlives it, however it ends."""
    path = _escaped(job.cwd)
    lines = [
        f"# Written by `inv install-service` of settlepaisa-ops {job.version}, which is also what changes it.",
        "[Unit]",
        f"Description=Service monitor {_escaped(job.label)}",
        *(["After=network.target"] if system else []),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        *([f"User={job.user}"] if job.user else []),
        f"WorkingDirectory={path}",
        f"ExecStart={' '.join([_quoted(job.argv[0]), *(_quoted(word, variables=True) for word in job.argv[1:])])}",
        *(f"Environment={_quoted(f'{key}={value}')}" for key, value in sorted(job.env.items())),
        "Restart=always",
        "RestartSec=1s",
        "# It ends with 0 only when `inv monitor-stop` was said.",
        "RestartPreventExitStatus=0",
        "SuccessExitStatus=143",
        f"WatchdogSec={WATCHDOG}",
        "WatchdogSignal=SIGKILL",
        "TimeoutStartSec=60",
        f"TimeoutStopSec={job.stop_within:.0f}",
        "KillMode=process",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if system else 'default.target'}",
        "",
    ]
    return "\n".join(lines).encode()


def _escaped(value: str) -> str:
    return value.replace("%", "%%")


def _quoted(word: str, *, variables: bool = False) -> str:
    """As a unit file takes it: specifiers are not meant, nor are variables, which there are in a program's arguments
    alone."""
    word = _escaped(word.replace("\\", "\\\\").replace('"', '\\"')).replace("\n", "\\n")
    word = word.replace("$", "$$") if variables else word
    return word if re.fullmatch(r"[\w@%+=:,./$-]+", word) else f'"{word}"'


def parse_show(said: str) -> dict[str, str]:
    """The properties that `systemctl show` printed."""
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def standing_of(shown: Mapping[str, str]) -> Standing:
    """What those properties come to."""
    pid = int(shown.get("MainPID") or 0)
    active = shown.get("ActiveState", "unknown")
    return Standing(
        loaded=shown.get("LoadState") == "loaded",
        enabled=shown.get("UnitFileState") == "enabled",
        pid=pid if pid > 0 and active in ("active", "activating", "reloading") else None,
        behind=shown.get("NeedDaemonReload") == "yes",
        detail=f"{active} ({shown.get('SubState', '?')})",
    )


@frozen
class Systemd:
    """One unit with its manager: the user's own, or (`system`) the machine's."""

    label: str
    system: bool

    name = initsystem.SYSTEMD

    @property
    def path(self) -> str:
        """Where its unit file lies."""
        return boot_files.unit(self.label, system=self.system)

    @property
    def unit(self) -> str:
        return f"{self.label}.service"

    @property
    def _link(self) -> str:
        """What `systemctl enable` makes."""
        wants = f"{'multi-user' if self.system else 'default'}.target.wants"
        return os.path.join(os.path.dirname(self.path), wants, self.unit)

    @property
    def words(self) -> str:
        """What people call it."""
        return f"systemd {'system' if self.system else 'user'} unit {self.unit}"

    @property
    def diary(self) -> str:
        """The line that shows why it does not begin."""
        return f"journalctl {'' if self.system else '--user '}-u {self.label} -n 20"

    def text(self, job: Job) -> bytes:
        return text(job, system=self.system)

    def runs_as(self, text: bytes) -> str:
        """The user that a unit names; "" when it names none."""
        found = re.search(rb"^User=(.*)$", text, re.MULTILINE)
        return found.group(1).decode("utf-8", "replace") if found else ""

    def standing(self) -> Standing:
        """How it stands. OpsError when the manager cannot be reached; that of a user who has no login and does not
        linger is not there, and knows nothing."""
        try:
            said = self._ask("show", "-p", ",".join(_SHOWN), self.unit)
            self._done(said)
            return standing_of(parse_show(said.out))
        except Unreachable:
            if self.system or self._lingers():
                raise
            return Standing(detail="its manager does not run")

    def fault(self) -> str:
        """By the files that are there: why it would not start at boot; "" when it would."""
        return self.lacking() if os.path.islink(self._link) else f"{self.words} is not enabled"

    def lacking(self) -> str:
        """What keeps it from starting at boot besides being enabled; "" for nothing."""
        if self.system or self._lingers():
            return ""
        return f"user {_user()} does not linger: it would start at login only, and end with the last logout"

    def install(self, job: Job, pause: Callable[[float], None]) -> None:
        """Has the manager know the text as it is to be, and start it at boot; nothing is started or stopped."""
        if not self.system and not self._lingers():
            self._linger(pause)
        changed = initsystem.installed(self.path) != self.text(job)
        if changed:
            initsystem.write(self.path, self.text(job), root=self.system)
        standing = self.standing()
        if changed or standing.behind or not standing.loaded:
            self._done(self._ask("daemon-reload"))
        if not standing.enabled:
            self._done(self._ask("enable", self.unit))

    def start(self) -> None:
        """Has it started, if it does not run; not waited for until it is ready."""
        self._ask("reset-failed", self.unit)
        self._done(self._ask("start", "--no-block", self.unit))

    def renew(self, *, reloaded: bool) -> None:  # noqa: ARG002 - launchd has to know
        """Has the process that runs replaced."""
        self._done(self._ask("restart", "--no-block", self.unit))

    def stop(self) -> None:
        """Ends its process though it may take itself for wanted, and waits for that; it starts again at boot."""
        self._done(self._ask("stop", self.unit, patience=120.0))

    def uninstall(self) -> None:
        """Stops it, and has the manager forget it. Lingering stays: others may need it."""
        standing = self.standing()
        if standing.loaded:
            self._done(self._ask("stop", self.unit, patience=120.0))
            self._done(self._ask("disable", self.unit))
        initsystem.remove(self._link, root=self.system)  # where nobody could be asked
        initsystem.remove(self.path, root=self.system)
        with contextlib.suppress(Unreachable):
            self._done(self._ask("daemon-reload"))
            self._ask("reset-failed", self.unit)

    def remains(self) -> str:
        """What uninstalling leaves as it is, in words."""
        return "" if self.system or not self._lingers() else f" (user {_user()} still lingers)"

    def stopping(self) -> bool:
        """Whether the whole machine (or all of this user's) is being shut down."""
        try:
            return self._ask("is-system-running", patience=5.0).out == "stopping"
        except OpsError:
            return False

    def _ask(self, *words: str, patience: float = _PATIENCE) -> Said:
        scope = [] if self.system else ["--user"]
        said = initsystem.ask(
            ["systemctl", *scope, "--no-ask-password", *words], _environment(), patience, root=self.system
        )
        if said.code != 0 and "connect to bus" in said.words:
            whose = "this machine" if self.system else f"user {_user()}"
            raise Unreachable(
                f"the systemd of {whose} cannot be reached: {said.words}",
                wanted="" if self.system else "a login of its own (ssh, not su), or lingering",
                next="" if self.system else f"sudo loginctl enable-linger {_user()}, then the same again",
            )
        return said

    def _done(self, said: Said) -> None:
        if said.code != 0:
            raise OpsError(f"{self.words}: {said.words}")

    def _lingers(self) -> bool:
        return os.path.exists(f"/var/lib/systemd/linger/{_user()}")

    def _linger(self, pause: Callable[[float], None]) -> None:
        """Has the user's manager run without a login; it is there a moment later."""
        said = initsystem.ask(["loginctl", "--no-ask-password", "enable-linger", _user()], _environment())
        until = time.monotonic() + _BUS_WITHIN
        while said.code == 0 and not os.path.exists(f"{_runtime()}/bus") and time.monotonic() < until:
            pause(0.05)


def _environment() -> dict[str, str]:
    """A shell after `su`, or none at all, has no XDG_RUNTIME_DIR, without which the user's manager is not found."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DBUS_SESSION_BUS_ADDRESS",)}
    return {**kept, "XDG_RUNTIME_DIR": _runtime(), "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}


def _runtime() -> str:
    return f"/run/user/{os.geteuid()}"


@functools.cache
def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
