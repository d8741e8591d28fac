"""launchd: the property list of a job, and the verbs that it is installed, started and taken away with.

Knows: property lists, launchctl, its exit codes and its races. Must not know: monitors, when a job is wanted.

Nothing of this was run on a Mac: it is written from Apple's man pages and reports of others (docs/macos.md). Verbs are
judged by exit codes. `bootout` returns before the job is gone, and until then `bootstrap` fails with 5 or 37.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import field
from typing import Any

from ops.errors import OpsError
from ops.frozen import frozen
from ops.host import boot_files, initsystem
from ops.host.initsystem import Job, Said, Standing

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# In a checkout at its top; where the package is installed, among what it shares.
_TEMPLATES = (os.path.join(_TOP, "launchd"), os.path.join(sys.prefix, "share", "settlepaisa-ops", "launchd"))
_TEMPLATE = "servicemonitor.plist"
_RUNBOOKS = "com.settlepaisa.servicemonitor"  # the label whose output is where the runbook has it
_EXTRA = 15.0  # seconds beyond ExitTimeOut that a label may take to be free again
_AGAIN = 0.25  # seconds between two attempts
_PID = re.compile(r"^\s*pid = (\d+)\s*$", re.MULTILINE)

# Exit codes of launchctl; 113 is no fault, and handled where it comes.
GONE, ABSENT, NO_DOMAIN, IO_ERROR, IN_PROGRESS, STARTING = 3, 113, 112, 5, 36, 37
_WORDS = {
    NO_DOMAIN: "this user has no session of that kind (112): log in, or install it with --system",
    119: "it is disabled (119): launchctl enable it, or switch it on under Login Items in System Settings",
    122: "the owner or the mode of its file is not what launchd wants (122)",
    125: "that session cannot load it (125): over ssh it needs a user domain, or --system",
    134: "it may not run in a session of this kind (134)",
    155: "its program is quarantined (155): xattr -d com.apple.quarantine",
    78: "its program, folder or log cannot be used (78)",
}


def output(label: str) -> tuple[str, str]:
    """Where launchd puts what a job writes: the monitor, only its last words in a crash."""
    name = "service-monitor" if label == _RUNBOOKS else label
    return f"/tmp/{name}-stdout.log", f"/tmp/{name}-stderr.log"


def present() -> bool:
    """Whether this machine has launchctl."""
    return _launchctl() is not None


@functools.cache
def _launchctl() -> str | None:
    """Where it is. Asked by every `status`, for which shutil is too much to import."""
    places = (os.path.join(folder, "launchctl") for folder in os.environ.get("PATH", "").split(":") if folder)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def template() -> dict[str, Any]:
    """What holds for every stack. OpsError when this installation lacks it."""
    import plistlib

    for folder in _TEMPLATES:
        text = initsystem.installed(os.path.join(folder, _TEMPLATE))
        if text is not None:
            return dict(plistlib.loads(text))
    raise OpsError(f"the template {_TEMPLATE} is in none of {', '.join(_TEMPLATES)}", next="install the toolkit anew")


def text(job: Job, *, background: bool) -> bytes:
    """The property list. `background`: for a session without a desktop, as over ssh."""
    import plistlib

    said = {
        **template(),
        "Label": job.label,
        "ProgramArguments": list(job.argv),
        "WorkingDirectory": job.cwd,
        "EnvironmentVariables": dict(job.env),
        "ExitTimeOut": round(job.stop_within),
        "StandardOutPath": output(job.label)[0],
        "StandardErrorPath": output(job.label)[1],
    }
    if background:
        said["LimitLoadToSessionType"] = "Background"
    if job.user:
        said["UserName"] = job.user
    head, _, rest = plistlib.dumps(said, sort_keys=True).partition(b"<plist")
    note = (
        f"<!-- Written by `inv install-service` of settlepaisa-ops {job.version}, which is also what changes it. -->\n"
    )
    return head + note.encode() + b"<plist" + rest


def parse_print(said: str) -> int | None:
    """The pid that `launchctl print` names; None when nothing runs."""
    found = _PID.search(said)
    return int(found.group(1)) if found else None


def parse_disabled(said: str) -> dict[str, bool]:
    """By label, whether `launchctl print-disabled` calls it disabled (older systems say true and false)."""
    found = re.findall(r'"([^"]+)" => (disabled|enabled|true|false)', said)
    return {label: word in ("disabled", "true") for label, word in found}


@frozen
class Launchd:
    """One job with its manager: the user's own (an agent), or (`system`) the machine's (a daemon)."""

    label: str
    system: bool
    _seen: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    name = initsystem.LAUNCHD

    @property
    def path(self) -> str:
        """Where its property list lies."""
        return boot_files.property_list(self.label, system=self.system)

    @property
    def words(self) -> str:
        """What people call it."""
        return f"{'LaunchDaemon' if self.system else 'LaunchAgent'} {self.label}"

    @property
    def target(self) -> str:
        """As launchctl wants it: domain and label."""
        return f"{self._domain}/{self.label}"

    @property
    def _domain(self) -> str:
        if self.system:
            return "system"
        return f"{'user' if self._background else 'gui'}/{os.geteuid()}"

    @property
    def _background(self) -> bool:
        """Whether its session is one without a desktop: as it was installed, else as the session that asks is."""
        if self.system:
            return False
        if "session" not in self._seen:
            old = initsystem.installed(self.path)
            if old is not None and initsystem.OURS in old:
                self._seen["session"] = "Background" if b"LimitLoadToSessionType" in old else "Aqua"
            else:
                self._seen["session"] = self._ask("managername").out
        return self._seen["session"] != "Aqua"

    @property
    def diary(self) -> str:
        """The line that shows why it does not begin."""
        return f"tail {output(self.label)[1]}"

    def text(self, job: Job) -> bytes:
        return text(job, background=self._background)

    def runs_as(self, text: bytes) -> str:
        """The user that a property list names; "" when it names none."""
        import plistlib

        try:
            return str(plistlib.loads(text).get("UserName", ""))
        except (ValueError, AttributeError, plistlib.InvalidFileException):
            return ""

    def standing(self) -> Standing:
        """How it stands."""
        printed = self._ask("print", self.target)
        if printed.code not in (0, ABSENT):
            raise self._fault("print", printed)
        disabled = parse_disabled(self._ask("print-disabled", self._domain).out).get(self.label, False)
        loaded, there = printed.code == 0, initsystem.installed(self.path) is not None
        detail = "loaded" if loaded else "installed, not loaded" if there else "not installed"
        pid = parse_print(printed.out) if loaded else None
        return Standing(loaded, there and not disabled, pid, False, "disabled" if disabled else detail)

    def fault(self) -> str:
        """By the files that are there, which do not tell what launchd was told besides: nothing."""
        return ""

    def lacking(self) -> str:
        """What keeps it from starting at boot besides being enabled; "" for nothing."""
        return ""

    def install(self, job: Job, pause: Callable[[float], None]) -> None:
        """Has launchd know the text as it is to be, which starts it: a loaded job of another text is taken out
        first, since loading over it keeps the old one."""
        self._check_output(job)
        standing = self.standing()
        changed = initsystem.installed(self.path) != self.text(job)
        if changed:
            initsystem.write(self.path, self.text(job), root=self.system)
        if not standing.enabled:
            self._done("enable", self._ask("enable", self.target))
        if standing.loaded and changed:
            self._bootout(job.stop_within, pause)
        if changed or not standing.loaded:
            self._bootstrap(job.stop_within, pause)

    def _check_output(self, job: Job) -> None:
        """Where launchd cannot open the output of a job it never starts it, and says so nowhere."""
        for path in output(job.label):
            if not self.system and os.path.lexists(path) and not os.access(path, os.W_OK):
                raise OpsError(f"{path} is another user's, and launchd could not write it", next=f"sudo rm {path}")

    def start(self) -> None:
        """Has it started, if it does not run."""
        if self._ask("print", self.target).code == ABSENT:
            self._bootstrap(0.0, time.sleep)
        said = self._ask("kickstart", self.target)
        if said.code not in (IN_PROGRESS, STARTING):  # it runs already
            self._done("kickstart", said)

    def renew(self, *, reloaded: bool) -> None:
        """Has the process that runs replaced; a new text was loaded by taking the old one out, and its process with
        it."""
        if not reloaded:
            self._done("kickstart", self._ask("kickstart", "-k", self.target))

    def stop(self) -> None:
        """Ends its process though it may take itself for wanted, by unloading it; it starts again at login."""
        self._bootout(_EXTRA, time.sleep)

    def uninstall(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Stops it, and has launchd forget it; the label stays enabled for whoever installs it again."""
        import plistlib

        old = initsystem.installed(self.path)
        within = plistlib.loads(old).get("ExitTimeOut", 20) if old else 20
        self._bootout(float(within), pause)
        initsystem.remove(self.path, root=self.system)

    def remains(self) -> str:
        """What uninstalling leaves as it is, in words: nothing."""
        return ""

    def stopping(self) -> bool:
        """Nobody tells that here."""
        return False

    def _bootout(self, within: float, pause: Callable[[float], None]) -> None:
        """Returns when the label is free."""
        said = self._ask("bootout", self.target)
        if said.code not in (0, GONE, ABSENT, IN_PROGRESS, IO_ERROR):
            raise self._fault("bootout", said)
        until = time.monotonic() + within + _EXTRA
        while self._ask("print", self.target).code != ABSENT:
            if time.monotonic() >= until:
                raise OpsError(f"{self.words} is still loaded {within + _EXTRA:.0f} s after its bootout")
            pause(_AGAIN)

    def _bootstrap(self, within: float, pause: Callable[[float], None]) -> None:
        """Loads it: again while the label of one that was just taken out is not free yet."""
        until = time.monotonic() + within + _EXTRA
        while True:
            said = self._ask("bootstrap", self._domain, self.path)
            if said.code == 0 or self._ask("print", self.target).code == 0:
                return
            if said.code not in (IO_ERROR, STARTING) or time.monotonic() >= until:
                raise self._fault("bootstrap", said)
            pause(_AGAIN)

    def _done(self, verb: str, said: Said) -> None:
        if said.code != 0:
            raise self._fault(verb, said)

    def _fault(self, verb: str, said: Said) -> OpsError:
        return OpsError(f"launchctl {verb} {self.target}: {_WORDS.get(said.code, f'{said.words} ({said.code})')}")

    def _ask(self, *words: str) -> Said:
        return initsystem.ask([_launchctl() or "launchctl", *words], os.environ, root=self.system)
