"""Unit files, property lists, and what systemctl and launchctl print: pure functions on samples."""

from __future__ import annotations

import os
import plistlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.host import initsystem, launchd, systemd
from ops.host.initsystem import Job, Standing
from ops.host.notify import Notifier
from ops.model import Host, Service
from ops.model import Stack as Stack_
from ops.operations import keepers
from tests.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
ODD = ("/opt/our ops/100%/$python", "-I", 'a "word"', "/opt/our ops/$HOME/main.py", "back\\slash")
JOB = Job("com.pay.servicemonitor", ODD, "/opt/our ops", {"PATH": "/a b:/usr/bin", "TZ": "50%"}, version="1.2.3")


def lines(text: bytes, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.decode().splitlines() if line.startswith(f"{key}=")]


def test_a_unit_says_what_systemd_is_to_do_and_quotes_what_it_would_read_otherwise() -> None:
    text = systemd.text(JOB, system=False)
    (command,) = lines(text, "ExecStart")
    assert command == r'"/opt/our ops/100%%/$python" -I "a \"word\"" "/opt/our ops/$$HOME/main.py" "back\\slash"'
    assert lines(text, "Environment") == ['"PATH=/a b:/usr/bin"', "TZ=50%%"]
    assert lines(text, "WorkingDirectory") == ["/opt/our ops"]
    for key, value in {
        "Type": "notify",
        "Restart": "always",
        "RestartPreventExitStatus": "0",
        "StartLimitIntervalSec": "0",
        "KillMode": "process",
        "WatchdogSec": "15",
        "WantedBy": "default.target",
    }.items():
        assert lines(text, key) == [value], key
    assert initsystem.OURS in text
    system = systemd.text(Job(**{**vars(JOB), "user": "ops"}), system=True)
    assert (lines(system, "User"), lines(system, "WantedBy")) == (["ops"], ["multi-user.target"])


def test_the_time_to_end_is_that_of_the_longest_chain() -> None:
    chain = [Service(name, ("x",), grace=9, needs=tuple(needs)) for name, needs in (("a", ""), ("b", "a"), ("c", "ab"))]
    host = Host("localhost", "/", (*chain, Service("d", ("x",), grace=20)), Stack_("pay", "com.pay"))
    assert keepers._longest_ending(host) == 27


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("scope", ["--user", "--system"])
def test_systemd_has_nothing_to_say_against_it(tmp_path: Path, scope: str) -> None:
    """Any word on standard error is one against it: unknown keys and bad values are only warned of."""
    program = tmp_path / "our 100% $HOME program"  # a quote in the name of a program it takes in no way
    program.symlink_to(sys.executable)
    job = Job(**{**vars(JOB), "argv": (str(program), *ODD[1:]), "cwd": str(tmp_path), "user": "root"})
    unit = tmp_path / "com.pay.servicemonitor.service"
    unit.write_bytes(systemd.text(job, system=scope == "--system"))
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)}
    command = ["systemd-analyze", scope, "verify", str(unit)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("shown", "standing"),
    [
        (
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=169\nResult=success",
            Standing(True, True, 169, False, "active (running)"),
        ),
        (
            "LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nMainPID=0\nNeedDaemonReload=no",
            Standing(False, False, None, False, "inactive (dead)"),
        ),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=start\nMainPID=7\nNeedDaemonReload=yes",
            Standing(True, False, 7, True, "activating (start)"),
        ),
        ("", Standing(False, False, None, False, "unknown (?)")),
    ],
)
def test_what_systemctl_show_says(shown: str, standing: Standing) -> None:
    assert systemd.standing_of(systemd.parse_show(shown)) == standing


def test_a_property_list_is_the_template_and_what_differs() -> None:
    text = launchd.text(JOB, background=True)
    said = plistlib.loads(text)
    assert said["Label"] == "com.pay.servicemonitor" and said["ProgramArguments"] == list(ODD)
    assert said["LimitLoadToSessionType"] == "Background" and "UserName" not in said
    assert said["EnvironmentVariables"] == dict(JOB.env) and said["ExitTimeOut"] == 45
    assert initsystem.OURS in text and text == launchd.text(JOB, background=True)
    assert {**launchd.template(), **said} == said | {"ThrottleInterval": 1}
    daemon = plistlib.loads(launchd.text(Job(**{**vars(JOB), "user": "ops"}), background=False))
    assert daemon["UserName"] == "ops" and "LimitLoadToSessionType" not in daemon


def test_the_runbooks_label_writes_where_the_runbook_says() -> None:
    assert launchd.output("com.settlepaisa.servicemonitor") == (
        "/tmp/service-monitor-stdout.log",
        "/tmp/service-monitor-stderr.log",
    )
    assert "com.other" in launchd.output("com.other")[0]


# As reports have them (macOS 14 and 15); not recorded by us.
PRINTED = """gui/501/com.settlepaisa.servicemonitor = {
\tactive count = 1
\tpath = /Users/ops/Library/LaunchAgents/com.settlepaisa.servicemonitor.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /Users/ops/ops-dashboard/.venv/bin/python
\tdomain = gui/501 [100009]
\tminimum runtime = 1
\texit timeout = 30
\truns = 1
\tpid = 4242
\timmediate reason = speculative
}
"""


def test_what_launchctl_prints() -> None:
    assert launchd.parse_print(PRINTED) == 4242
    assert launchd.parse_print(PRINTED.replace("\tpid = 4242\n", "")) is None
    new = 'disabled services = {\n\t"com.a" => disabled\n\t"com.b" => enabled\n}'
    old = '\t"com.a" => true\n\t"com.b" => false\n'
    assert launchd.parse_disabled(new) == launchd.parse_disabled(old) == {"com.a": True, "com.b": False}


def test_files_are_replaced_in_one_step_and_what_was_there_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "LaunchAgents" / "x.plist")
    initsystem.write(path, b"one")
    assert initsystem.installed(path) == b"one" and os.stat(path).st_mode & 0o777 == 0o644
    kept = initsystem.keep_copy(path, b"one")
    assert kept == initsystem.keep_copy(path, b"one") == f"{path}.replaced"
    assert initsystem.keep_copy(path, b"two") == f"{path}.replaced.2"
    initsystem.remove(path)
    initsystem.remove(path)
    assert initsystem.installed(path) is None
    assert sorted(os.listdir(tmp_path / "LaunchAgents")) == ["x.plist.replaced", "x.plist.replaced.2"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_what_is_to_bring_everything_back_is_on_the_disk_before_it_counts(tmp_path: Path) -> None:
    """The order of writes and fsyncs, which is what a power cut would show."""
    path, trace = tmp_path / "units" / "x.service", tmp_path / "trace"
    code = f"from ops.host import initsystem; initsystem.write({str(path)!r}, b'text')"
    calls = "trace=write,fsync,rename,renameat,renameat2"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode != 0 and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in trace.read_text().splitlines() if str(path.parent) in line]
    seen = [line.split()[1].partition("(")[0] if line[0].isdigit() else line.partition("(")[0] for line in lines]
    assert [name.removesuffix("at2").removesuffix("at") for name in seen] == ["write", "fsync", "rename", "fsync"]
    assert f"{path.parent}>" in lines[-1]  # the folder, without which the name is not


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (112, "log in"),
        (119, "disabled"),
        (122, "owner"),
        (125, "ssh"),
        (134, "session"),
        (155, "quarantine"),
        (78, "log"),
    ],
)
def test_codes_of_launchctl_are_told_in_plain_words(code: int, words: str) -> None:
    told = launchd.Launchd("com.pay.servicemonitor", True)._fault("bootstrap", initsystem.Said(code, "", ""))
    assert told.seen.startswith("launchctl bootstrap system/com.pay.servicemonitor: ")
    assert words in told.seen and f"({code})" in told.seen


def test_a_tool_that_is_missing_or_hangs_is_told() -> None:
    with pytest.raises(OpsError, match="cannot be run: No such file"):
        initsystem.ask(["/nowhere/launchctl"], {})
    with pytest.raises(OpsError, match="not done within"):
        initsystem.ask([sys.executable, "-S", "-c", "import time; time.sleep(60)"], {}, timeout=0.2)
    said = initsystem.ask([sys.executable, "-S", "-c", "import sys; sys.exit('so\\nwhat')"], {})
    assert (said.code, said.words) == (1, "so what")


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_over_its_socket_and_nothing_of_it_is_handed_on(tmp_path: Path, abstract: bool) -> None:
    if abstract and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    name = f"@ops-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        listener.settimeout(5)
        code = (
            "import os\nfrom ops.host.notify import Notifier\n"
            "notifier = Notifier()\nnotifier.tell('READY=1', 'STATUS=well')\nnotifier.tell('WATCHDOG=1')\n"
            "print(sorted(os.environ))"
        )
        env = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "15", "LISTEN_FDS": "1", "INVOCATION_ID": "x", "KEPT": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30)
        assert done.stderr == "" and "'KEPT'" in done.stdout and "NOTIFY" not in done.stdout
        assert not any(word in done.stdout for word in ("WATCHDOG", "LISTEN", "INVOCATION"))
        assert [listener.recv(4096), listener.recv(4096)] == [b"READY=1\nSTATUS=well", b"WATCHDOG=1"]


def test_without_systemd_nothing_is_told() -> None:
    assert "NOTIFY_SOCKET" not in os.environ
    Notifier().tell("READY=1")


@pytest.mark.skipif(systemd.booted() or launchd.present(), reason="an init system is in charge here")
def test_where_no_init_system_is_in_charge_that_is_said(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    done = stack.inv("install-service")
    assert done.code == 2 and "neither launchd nor systemd" in done.out and "inv monitor-start" in done.out
    assert stack.ok("uninstall-service", "--json").document["outcomes"][0]["state"] == "ok"
    assert not stack.watchers()
