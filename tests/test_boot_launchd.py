"""install-service on launchd, with a stand-in for launchctl: see the first lines of fakes/launchctl.py. Not a Mac."""

from __future__ import annotations

import json
import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.memory.watchpost import Watchpost
from ops.model import Process
from tests.scene import NOBODY, recorded
from tests.stack import PYTHON, TINY, Done, Stack
from tests.waiting import until

FAKE = Path(__file__).parent / "fakes" / "launchctl.py"
PATIENCE = 40.0
pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root becomes another user here with setpriv"
)

# Every key that the property list has, and its type, as launchd.plist(5) has them.
SCHEMA: dict[str, type | tuple[type, ...]] = {
    "Label": str,
    "ProgramArguments": list,
    "WorkingDirectory": str,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": (bool, dict),
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "AbandonProcessGroup": bool,
    "ProcessType": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "LimitLoadToSessionType": str,
    "UserName": str,
}


class Mac(Stack):
    """A stack of somebody who is not root, on a machine with (a model of) launchd."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = folder / "launchd"
        self.bin = folder / "bin"
        self.uid = os.geteuid() or NOBODY
        self.label = f"com.{self.name}.servicemonitor"
        for made in (self.model, self.bin):
            made.mkdir()
        program = self.bin / "launchctl"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(PYTHON)} -S {shlex.quote(str(FAKE))} "$@"\n')
        program.chmod(0o755)
        self.env |= {"LAUNCHCTL_MODEL": str(self.model), "PATH": f"{self.bin}:/usr/bin:/bin"}
        self.domains()
        if os.geteuid() == 0:  # to read all files is allowed: this Python may lie in a folder of root
            reading = [f"--{which}-caps=-all,+dac_read_search" for which in ("inh", "ambient")]
            self.become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading]

    def server(self, name: str, **keys: Any) -> None:
        """As `tiny`, by a Python that everybody may run."""
        program = PYTHON if os.geteuid() else str(shutil.which("python3", path="/usr/bin:/bin"))
        health = [{"http": "/", "every": 1, "timeout": 1}]
        self.add(name, [program, "-S", str(TINY), "{port}"], health=health, **keys)

    def domains(self, *names: str, manager: str = "Aqua", drain: float = 0.4) -> None:
        names = names or (f"gui/{self.uid}", f"user/{self.uid}", "system")
        said = {"domains": names, "manager": manager, "drain": drain}
        (self.model / "domains.json").write_text(json.dumps(said))

    def write(self) -> None:
        super().write()
        if os.geteuid() == 0:
            for path in [self.folder.parent, *self.folder.parent.rglob("*")]:
                if not path.is_symlink():
                    os.chown(path, NOBODY, NOBODY)

    def launchctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self.become, str(self.bin / "launchctl"), *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30)

    @property
    def agents(self) -> Path:
        return self.home / "Library" / "LaunchAgents"

    @property
    def file(self) -> Path:
        return self.agents / f"{self.label}.plist"

    @property
    def plist(self) -> dict[str, Any]:
        return plistlib.loads(self.file.read_bytes())

    def loaded(self, kind: str = "gui") -> int:
        """The pid that launchd runs the monitor as; 0 when it is not loaded or does not run."""
        printed = self.launchctl("print", f"{kind}/{self.uid}/{self.label}").stdout
        found = [line for line in printed.splitlines() if line.startswith("\tpid = ")]
        return int(found[0].removeprefix("\tpid = ")) if found else 0

    def calls(self, verb: str) -> list[str]:
        path = self.model / "calls"
        told = path.read_text().splitlines() if path.exists() else []
        return [line for line in told if line.split()[0] == verb]

    def one(self, done: Done) -> dict[str, Any]:
        (outcome,) = done.document["outcomes"]
        return outcome

    def services_of(self) -> dict[str, Process]:
        return {name: Process(**recorded(self, name)["process"]) for name in self.services}

    def running(self, name: str | None = None) -> list[Process]:
        """As any stack's, though they are another user's."""
        if os.geteuid() != 0:
            return super().running(name)
        prefix = f"OPS_RUN={self.name}/{name}/" if name else f"OPS_RUN={self.name}/"
        found = [pid for pid in process.pids() if f"\0{prefix}".encode() in b"\0" + _environment(pid)]
        return [one for one in map(process.identify, found) if one is not None]

    def end(self) -> None:
        self.launchctl("__end")
        super().end()
        assert not self.running(), "a service was left behind"
        for path in Path("/tmp").glob(f"{self.label}-std*.log"):
            path.unlink()


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def mac() -> Iterator[Mac]:
    folder = Path(tempfile.mkdtemp(prefix="ops-mac-"))  # pytest's own folders are closed to others
    made = Mac(folder)
    try:
        made.server("api", critical=True)
        made.server("ui", needs=["api"])
        made.ops["monitor"] = True
        made.write()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


def monitor(mac: Mac) -> int:
    """The pid of the monitor that has signed on and lives; 0 when there is none."""
    signed = Watchpost(str(mac.state)).post()
    return signed.process.pid if signed and process.alive(signed.process) else 0


def test_a_new_agent_is_verified_and_a_second_time_changes_nothing(mac: Mac) -> None:
    mac.ok("start")
    before, alone = mac.services_of(), monitor(mac)
    first = mac.one(mac.ok("install-service", "--json"))
    assert (first["service"], first["state"], first["before"]) == (mac.label, "changed", "not installed")
    pid = mac.loaded()
    assert pid not in (0, alone) and monitor(mac) == pid and f"pid {pid}" in first["detail"]
    assert mac.services_of() == before and all(map(process.alive, before.values()))
    written = mac.file.read_bytes()
    second = mac.one(mac.ok("install-service", "--json"))
    assert (second["state"], second["before"]) == ("ok", "installed")
    assert mac.file.read_bytes() == written and monitor(mac) == pid
    said = mac.ok("status").out
    assert "kept by launchd, guard" in said and f"boot:    started by LaunchAgent {mac.label}" in said
    assert mac.file.stat().st_mode & 0o777 == 0o644 and not mac.file.is_symlink()


def test_the_property_list_has_what_launchd_knows_and_nothing_secret(mac: Mac) -> None:
    secret = mac.folder / "api.env"
    secret.write_text("TOKEN=do-not-tell\n")
    secret.chmod(0o600)
    mac.services["api"]["env_file"] = "api.env"
    mac.write()
    mac.ok("install-service")
    plist = mac.plist
    assert {key: type(value) for key, value in plist.items() if not isinstance(value, SCHEMA[key])} == {}
    assert plist["Label"] == mac.label and mac.file.name == f"{plist['Label']}.plist"
    words = plist["ProgramArguments"]
    assert words[0] == PYTHON and all(isinstance(word, str) for word in words)
    assert not any(word in ("sh", "/bin/sh", "-c") for word in words)
    assert plist["RunAtLoad"] is True and plist["AbandonProcessGroup"] is True
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["EnvironmentVariables"]["PATH"] == mac.env["PATH"]
    assert all(isinstance(value, str) for value in plist["EnvironmentVariables"].values())
    assert plist["WorkingDirectory"] == str(mac.folder)
    assert "LimitLoadToSessionType" not in plist
    assert b"do-not-tell" not in mac.file.read_bytes()


def test_check_shows_the_difference_and_touches_nothing(mac: Mac) -> None:
    done = mac.ok("install-service", "--check")
    assert "--- /dev/null" in done.out and f"+++ {mac.file}" in done.out and "+\t<key>Label</key>" in done.out
    assert not mac.file.exists() and not mac.calls("bootstrap") and not mac.watchers()
    mac.ok("install-service")
    mac.services["api"]["grace"] = 9  # which the monitor has to be given time for when it ends
    mac.write()
    before = mac.file.read_bytes()
    told = mac.one(mac.ok("install-service", "--check", "--json"))
    assert told["state"] == "changed"
    assert any(line.strip().startswith("+\t<integer>36") for line in told["detail"].splitlines())
    assert mac.file.read_bytes() == before


def test_f40_out_and_in_again_and_again_it_is_loaded_and_lives_each_time(mac: Mac) -> None:
    """bootout returns before the job is gone, and until then bootstrap fails with 5 or 37. Twenty times: the matrix."""
    mac.domains(drain=0.05)
    mac.ok("start")
    mac.ok("install-service")
    before = mac.services_of()
    for number in range(6):
        mac.services["ui"]["grace"] = 3 + number % 2
        mac.write()
        old = mac.loaded()
        assert mac.one(mac.ok("install-service", "--json"))["state"] == "changed"
        pid = mac.loaded()
        assert pid not in (0, old) and Path(f"/proc/{pid}").exists() and monitor(mac) == pid
    assert mac.services_of() == before
    assert len(mac.calls("bootout")) == 6


def test_f40_a_label_that_is_long_in_use_still_is_handed_over(mac: Mac) -> None:
    """Long enough for the guard to bring back a monitor by itself: it makes way for launchd's."""
    mac.ok("start")
    mac.ok("install-service")
    until(lambda: len(mac.watchers()) == 2, PATIENCE)
    before = mac.services_of()
    mac.domains(drain=7)
    mac.services["ui"]["grace"] = 9
    mac.write()
    told = mac.one(mac.ok("install-service", "--json"))
    assert told["state"] == "changed" and monitor(mac) == mac.loaded() > 0
    mac.domains()
    assert mac.services_of() == before
    until(lambda: len(mac.watchers()) == 2, PATIENCE)
    assert mac.one(mac.ok("install-service", "--json"))["state"] == "ok"


def test_f13_a_killed_monitor_is_brought_back_by_launchd_and_services_keep_their_pids(mac: Mac) -> None:
    mac.ok("start")
    mac.ok("install-service")
    before, pid = mac.services_of(), mac.loaded()
    process.send(mac.watcher(), signal.SIGKILL)
    until(lambda: mac.loaded() not in (0, pid) and monitor(mac) == mac.loaded(), PATIENCE)
    assert mac.services_of() == before
    until(lambda: len(mac.watchers()) == 2, PATIENCE)


def test_f15_a_silent_monitor_is_ended_by_its_guard_and_brought_back_by_launchd(mac: Mac) -> None:
    mac.ok("start")
    mac.ok("install-service")
    until(lambda: len(mac.watchers()) == 2, PATIENCE)
    before, pid = mac.services_of(), mac.loaded()
    process.send(mac.watcher(), signal.SIGSTOP)
    until(lambda: mac.loaded() not in (0, pid) and monitor(mac) == mac.loaded(), PATIENCE)
    assert mac.services_of() == before


def test_what_was_stopped_by_command_stays_stopped_and_is_started_through_launchd(mac: Mac) -> None:
    mac.ok("start")
    mac.ok("install-service")
    before = mac.services_of()
    mac.ok("monitor-stop")
    until(lambda: not mac.watchers(), PATIENCE)
    assert mac.loaded() == 0 and mac.launchctl("print", f"gui/{mac.uid}/{mac.label}").returncode == 0
    told = mac.one(mac.ok("monitor-start", "--json"))
    assert told["state"] == "changed" and "kept by launchd" in told["detail"]
    assert monitor(mac) == mac.loaded() > 0 and mac.services_of() == before


def test_the_runbooks_own_agent_is_replaced_and_a_copy_kept(mac: Mac) -> None:
    script = mac.folder / "service-monitor.sh"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(0o755)
    mac.agents.mkdir(parents=True)
    old = {"Label": mac.label, "ProgramArguments": [str(script)], "RunAtLoad": True, "KeepAlive": True}
    mac.file.write_bytes(plistlib.dumps(old))
    mac.write()
    assert mac.launchctl("bootstrap", f"gui/{mac.uid}", str(mac.file)).returncode == 0
    until(mac.loaded, PATIENCE)
    done = mac.ok("install-service")
    assert "runs the runbook's own service-monitor.sh" in done.err
    kept = mac.file.with_name(f"{mac.file.name}.replaced")
    assert plistlib.loads(kept.read_bytes()) == old and str(kept) in done.out
    assert mac.plist["ProgramArguments"] != [str(script)] and monitor(mac) == mac.loaded()


def test_uninstalling_takes_it_away_and_the_monitor_goes_on_alone(mac: Mac) -> None:
    mac.ok("start")
    mac.ok("install-service")
    before, pid = mac.services_of(), mac.loaded()
    told = mac.one(mac.ok("uninstall-service", "--json"))
    assert (told["state"], told["before"], told["after"]) == ("changed", "installed", "not installed")
    assert not mac.file.exists() and mac.launchctl("print", f"gui/{mac.uid}/{mac.label}").returncode == 113
    assert monitor(mac) not in (0, pid) and mac.services_of() == before
    assert mac.one(mac.ok("uninstall-service", "--json"))["state"] == "ok"
    assert "boot:" not in mac.ok("status").out


def test_over_ssh_it_is_an_agent_of_the_users_domain_wherever_it_is_asked_from_later(mac: Mac) -> None:
    mac.domains(f"user/{mac.uid}", manager="Background")
    mac.ok("start")
    mac.ok("install-service")
    assert mac.plist["LimitLoadToSessionType"] == "Background"
    pid = mac.loaded("user")
    assert monitor(mac) == pid > 0
    mac.domains()  # at the desk
    assert mac.one(mac.ok("install-service", "--json"))["state"] == "ok"
    assert mac.loaded("user") == pid


def test_output_that_launchd_could_not_write_is_found_before(mac: Mac) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    output = Path(f"/tmp/{mac.label}-stdout.log")
    output.write_text("")
    output.chmod(0o600)
    done = mac.inv("install-service")
    assert done.code == 2 and f"sudo rm {output}" in done.out


def test_only_root_installs_for_the_whole_machine(mac: Mac) -> None:
    done = mac.inv("install-service", "--system")
    assert done.code == 2, str(done)
    assert "only root" in done.out and "sudo" in done.out
    assert not mac.calls("bootstrap")


@pytest.mark.parametrize(("how", "words"), [("no session", "112"), ("disabled", "ok"), ("foreign file", "is none of")])
def test_what_launchd_says_is_told_in_plain_words(mac: Mac, how: str, words: str) -> None:
    if how == "no session":
        mac.domains("system", manager="Aqua")
        done = mac.inv("install-service")
        assert done.code == 2 and words in done.out and "log in" in done.out
    elif how == "disabled":
        mac.launchctl("disable", f"gui/{mac.uid}/{mac.label}")
        mac.ok("install-service")
        assert mac.loaded() > 0
    else:
        mac.ok("install-service")
        mac.launchctl("bootout", f"gui/{mac.uid}/{mac.label}")  # as when it was switched off under Login Items
        until(lambda: mac.launchctl("print", f"gui/{mac.uid}/{mac.label}").returncode == 113, PATIENCE)
        done = mac.inv("health")
        assert done.code == 2 and "not loaded" in done.out and "Login Items" in done.out
        mac.ok("install-service")
        assert mac.loaded() > 0


def test_boot_brings_up_what_was_wanted(mac: Mac) -> None:
    """The machine goes, and launchd loads the agent at the next login."""
    mac.ok("start")
    mac.ok("stop", "--only", "ui")
    mac.ok("install-service")
    mac.launchctl("__end")
    for one in [*mac.watchers(), *mac.running()]:
        process.send(one, signal.SIGKILL)
    until(lambda: not mac.running() and not mac.watchers(), PATIENCE)
    shutil.rmtree(mac.model / "jobs")
    assert mac.launchctl("bootstrap", f"gui/{mac.uid}", str(mac.file)).returncode == 0
    until(lambda: mac.inv("status", "--json").services["api"]["state"] == "up", PATIENCE)
    services = mac.ok("status", "--json").services
    assert (services["ui"]["state"], services["ui"]["wanted"]) == ("down", "down")
