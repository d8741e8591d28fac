"""Alerts: real programs, real files and a disk that is really full."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.host import process
from ops.memory.files import now
from ops.memory.state import State
from ops.model import Host, Outcome, Service, Stack
from ops.operations import logbook
from ops.operations.site import Site
from ops.watch.alerts import CHANNELS, Alert, Channel, Settings, deliver, logged, settings_of
from tests.waiting import until

ALERT = Alert(
    at="2026-11-23T21:10:11.123+00:00",
    severity="critical",
    stack="settlepaisa",
    service="recon-api",
    text="down: exit 1; gave up after 3 attempts",
    key="recon-api:down",
    next="inv tail recon-api",
)
linux = pytest.mark.skipif(not process.LINUX, reason="looks into /proc")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "logs" / "alerts.log"), folder=str(tmp_path))


def script(folder: Path, text: str, name: str = "page.sh") -> tuple[str, ...]:
    """A program that is started as people name it: from the folder it lies in."""
    path = folder / name
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (f"./{name}",)


def python(text: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text, *words)


def lines(settings: Settings) -> list[str]:
    return Path(settings.alerts_log).read_text().splitlines()


def gone(pid_file: Path) -> bool:
    """Whether the process whose number stands in the file is no longer there."""
    return process.identify(int(pid_file.read_text())) is None


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# -- the log ----------------------------------------------------------------------------------------------------


def test_the_log_has_one_line_for_an_alert_and_one_when_it_is_resolved(settings: Settings) -> None:
    assert deliver(ALERT, settings) == []
    assert deliver(replace(ALERT, severity="resolved", text="up\nagain\x1b[31m"), settings) == []
    assert deliver(replace(ALERT, service="", text="2 of 5 services down"), settings) == []
    assert lines(settings) == [
        "2026-11-23T21:10:11.123+00:00 CRITICAL settlepaisa recon-api: down: exit 1; gave up after 3 attempts",
        "2026-11-23T21:10:11.123+00:00 RESOLVED settlepaisa recon-api: up again [31m",
        "2026-11-23T21:10:11.123+00:00 CRITICAL settlepaisa: 2 of 5 services down",
    ]
    assert os.stat(settings.alerts_log).st_mode & 0o777 == 0o600


def test_f13_what_a_monitor_said_last_is_read_out_of_the_log(settings: Settings) -> None:
    path = settings.alerts_log
    assert logged(path, "settlepaisa", ALERT.at, 30) == {}
    for alert in (
        replace(ALERT, at="2026-11-23T21:09:00.000+00:00", service="old"),
        replace(ALERT, at="2026-11-23T22:10:00.000+01:00", service="bank-api"),
        replace(ALERT, service="", text="3 services failed at once: a, b, c"),
        replace(ALERT, stack="another"),
        replace(ALERT, service="pg-api", text="inv start failed: exit 1"),
        replace(ALERT, severity="resolved", service="bank-api", text="well again: after 3 s"),
        ALERT,
    ):
        assert deliver(alert, settings) == []
    with open(path, "ab") as file:
        file.write(b"\xff not a line of ours\n2026-11-23 CRITICAL settlepaisa when: ?\n")
    seen = {"bank-api": "resolved", "": "critical", "recon-api": "critical"}
    assert logged(path, "settlepaisa", ALERT.at, 30) == seen
    assert logged(path, "settlepaisa", ALERT.at, 300) == {"old": "critical", **seen}
    assert logged(path, "settlepaisa", "", 30) == {}


def test_alerts_of_the_monitor_and_of_commands_look_alike_and_are_found_at_the_public_path(tmp_path: Path) -> None:
    public = tmp_path / "critical-alerts.log"
    stack = Stack("pay", "com.pay", alerts_log=str(public))
    host = Host("localhost", str(tmp_path), (Service("api", ("x",)),), stack)
    state = State(stack, host.root, str(tmp_path / "state"))
    state.prepare()
    assert deliver(replace(ALERT, at=now(), stack="pay", service="api"), settings_of(host, state)) == []
    assert public.is_symlink()
    logbook.alert(Site(host, state, "start"), Outcome("api", "start", "failed", "down", "down", "exit 1"))
    first, second = public.read_text().splitlines()
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d CRITICAL pay api: \S.*"
    assert re.fullmatch(shape, first)
    assert re.fullmatch(shape, second)
    public.unlink()
    public.mkdir()  # somebody else's
    (fault,) = deliver(ALERT, settings_of(host, state))
    assert fault == f"log: alerts log {public}: a directory: left alone; the log itself is {state.log('alerts')}"
    assert len(Path(state.log("alerts")).read_text().splitlines()) == 3


def test_the_inventory_says_where_alerts_go(tmp_path: Path) -> None:
    stack = Stack("pay", "com.pay", alert_command=("./page.sh", "on call"))
    host = Host("web1", str(tmp_path), (), stack)
    state = State(stack, host.root, str(tmp_path / "state"))
    found = settings_of(host, state)
    assert (found.command, found.folder, found.host) == (("./page.sh", "on call"), str(tmp_path), "web1")
    assert (found.alerts_log, found.timeout) == (state.log("alerts"), 10)
    assert settings_of(replace(host, name="localhost"), state).host == os.uname().nodename


def test_a_log_that_cannot_be_written_is_told_and_the_program_is_run(settings: Settings, tmp_path: Path) -> None:
    Path(settings.alerts_log).mkdir(parents=True)
    told = deliver(ALERT, replace(settings, command=script(tmp_path, "cat > heard")))
    assert told == [f"log: {settings.alerts_log}: Is a directory"]
    assert json.loads((tmp_path / "heard").read_text())["key"] == "recon-api:down"


@contextlib.contextmanager
def tmpfs(path: Path) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.skipif(not process.LINUX or os.geteuid() != 0, reason="mounts a tmpfs: needs Linux and root")
def test_f30_a_full_disk_is_told_and_the_line_it_cut_off_spoils_no_other(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        settings = Settings(str(disk / "logs" / "alerts.log"), command=("cat",), folder=str(tmp_path))
        assert deliver(ALERT, settings) == []
        whole = os.path.getsize(settings.alerts_log)
        room = 4096 - whole % 4096  # what its last page still takes
        deliver(replace(ALERT, text="x" * (room - whole + len(ALERT.text) - 40)), settings)
        assert os.path.getsize(settings.alerts_log) == 4096 - 40
        with contextlib.suppress(OSError), open(disk / "filling", "wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass
        assert deliver(ALERT, settings) == [f"log: {settings.alerts_log}: No space left on device"]
        assert deliver(ALERT, settings) == [f"log: {settings.alerts_log}: No space left on device"]
        (disk / "filling").unlink()
        assert deliver(ALERT, settings) == []
        assert (len(lines(settings)[2]), lines(settings)[3]) == (40, lines(settings)[0])
        assert len(lines(settings)) == 4


# -- the program ------------------------------------------------------------------------------------------------


def test_the_program_gets_the_alert_as_one_document(settings: Settings, tmp_path: Path) -> None:
    alert = replace(ALERT, text="answered \udcff\n\x1b[31m\u00e9")
    assert deliver(alert, replace(settings, command=script(tmp_path, "cat > heard"), host="web1")) == []
    assert json.loads((tmp_path / "heard").read_text()) == {
        "schema": 1,
        "at": "2026-11-23T21:10:11.123+00:00",
        "severity": "critical",
        "stack": "settlepaisa",
        "service": "recon-api",
        "text": "answered    [31m\u00e9",
        "key": "recon-api:down",
        "next": "inv tail recon-api",
        "host": "web1",
    }


SURROUNDINGS = """
import json, os, sys
names = [pair.partition("=")[0] for pair in open("/proc/self/environ").read().split("\\0") if pair]
json.dump(
    {"argv": sys.argv[1:], "names": names, "leader": os.getsid(0) == os.getpid(), "cwd": os.getcwd(),
     "files": [fd for fd in range(3, 256) if os.path.exists(f"/proc/self/fd/{fd}")],
     "output": os.readlink("/proc/self/fd/1")},
    open("seen", "w"),
)
"""


@linux
def test_the_program_gets_nothing_else_of_ours(settings: Settings, tmp_path: Path) -> None:
    """No descriptors, no variables of the service manager or of a shell, no words of the alert, no terminal."""
    os.environ.update(NOTIFY_SOCKET="/run/none", PAGER_TOKEN="hunter2")
    kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        settings = Settings(settings.alerts_log, folder=settings.folder, command=python(SURROUNDINGS, "on call"))
        assert deliver(ALERT, settings) == []
    finally:
        os.close(kept)
        del os.environ["NOTIFY_SOCKET"], os.environ["PAGER_TOKEN"]
    seen = json.loads((tmp_path / "seen").read_text())
    assert set(seen["names"]) <= {"PATH", "HOME", "LANG", "TZ", "TMPDIR"}
    assert "PATH" in seen["names"]
    assert (seen["argv"], seen["leader"], seen["files"]) == (["on call"], True, [])
    assert (seen["cwd"], seen["output"]) == (str(tmp_path), "/dev/null")


HANGING = {
    "sleeps": "echo $$ > {pid}; echo asking >&2; echo calling >&2; sleep 600",
    "is stopped": "echo $$ > {pid}; kill -STOP $$",
    "ignores": "trap '' TERM; echo $$ > {pid}; while :; do sleep 600; done",
    "forks": "sleep 600 & echo $! > {pid}; wait",
    "forks into another group": "set -m; sleep 600 & echo $! > {pid}; wait",
}


def test_whatever_hangs_is_ended_in_time(settings: Settings, tmp_path: Path) -> None:
    """Several alerts at once, each with a program that hangs in its own way."""

    texts = {name: "#!/bin/bash\n" + text.format(pid=f"'{name}.pid'") for name, text in HANGING.items()}
    commands = {name: script(tmp_path, text, name) for name, text in texts.items()}

    def told(name: str) -> list[str]:
        return deliver(ALERT, replace(settings, command=commands[name], timeout=2))

    begun = time.monotonic()
    with ThreadPoolExecutor(len(HANGING)) as pool:
        found = dict(zip(HANGING, pool.map(told, HANGING), strict=True))
    assert 2 <= time.monotonic() - begun < 30
    said = "not done within 2 s, ended by SIGKILL"
    assert found.pop("sleeps") == [f'command: ./sleeps: {said}: "calling"']
    assert found == {name: [f"command: ./{name}: {said}"] for name in found}
    for name in HANGING:
        until(partial(gone, tmp_path / f"{name}.pid"))
    assert len(lines(settings)) == len(HANGING)


def test_what_it_leaves_in_the_background_is_ended_with_it(settings: Settings, tmp_path: Path) -> None:
    """And nobody waits for that, though it still holds the program's output."""
    begun = time.monotonic()
    command = script(tmp_path, "sleep 600 & echo $! > pid")
    assert deliver(ALERT, replace(settings, command=command, timeout=60)) == []
    assert time.monotonic() - begun < 30
    until(lambda: gone(tmp_path / "pid"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit 3", ["command: ./page.sh: exit 3"]),
        ("echo asking >&2; echo 'no route to pager' >&2; exit 3", ['command: ./page.sh: exit 3: "no route to pager"']),
        ("kill -9 $$", ["command: ./page.sh: ended by SIGKILL"]),
        ("exec <&-", []),
        ("exec <&-; sleep 0.2; exit 4", ["command: ./page.sh: exit 4"]),
        ("exec 2>&-; cat > heard", []),
    ],
)
def test_how_a_program_ends(settings: Settings, tmp_path: Path, text: str, told: list[str]) -> None:
    """One that does not read what it is told is not at fault: only its exit code counts. The text here is more
    than a pipe holds."""
    alert = replace(ALERT, text="x" * 300_000)
    assert deliver(alert, replace(settings, command=script(tmp_path, text))) == told


def test_a_long_text_arrives_whole_at_a_slow_reader(settings: Settings, tmp_path: Path) -> None:
    alert = replace(ALERT, text="x" * 300_000)
    slow = "sleep 0.2; dd bs=1000 count=1 2>/dev/null > heard; sleep 0.2; cat >> heard"
    assert deliver(alert, replace(settings, command=script(tmp_path, slow))) == []
    assert len(json.loads((tmp_path / "heard").read_text())["text"]) == 300_000


@pytest.mark.parametrize("stream", [1, 2])
def test_output_without_end_is_neither_kept_nor_in_the_way(settings: Settings, stream: int) -> None:
    write = f"import os\nfor _ in range(400): os.write({stream}, b'x' * 50_000 + b'\\n')\n"
    told = deliver(ALERT, replace(settings, command=python(write + "os.write(2, b'no route\\n'); os._exit(3)")))
    assert told == [f'command: {sys.executable}: exit 3: "no route"']


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("no-such-pager",), "no-such-pager cannot be started: No such file or directory"),
        (("./not-executable",), "./not-executable cannot be started: Permission denied"),
        (("./no-interpreter",), "./no-interpreter cannot be started: Exec format error"),
        (("a\0b",), r"'a\x00b' cannot be started: embedded null byte"),
    ],
)
def test_a_program_that_cannot_be_started(settings: Settings, tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "no-interpreter").write_text("echo hello\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    assert deliver(ALERT, replace(settings, command=words)) == [f"command: {why}"]
    assert len(lines(settings)) == 1


def test_a_folder_that_is_gone_is_named(settings: Settings, tmp_path: Path) -> None:
    told = deliver(ALERT, replace(settings, command=("cat",), folder=str(tmp_path / "gone")))
    assert told == [f"command: {tmp_path}/gone cannot be started: No such file or directory"]


@linux
def test_nothing_is_left_open_or_running(settings: Settings, tmp_path: Path) -> None:
    commands = [
        ("cat",),
        ("no-such-pager",),
        script(tmp_path, "sleep 600"),
        script(tmp_path, "exec <&- 2>&-; exit 1", "b"),
    ]
    before = (open_files(), threading.active_count())
    for command in commands * 3:
        deliver(ALERT, replace(settings, command=command, timeout=0.3 if command == ("./page.sh",) else 20))
    assert (open_files(), threading.active_count()) == before
    with pytest.raises(ChildProcessError):  # all were reaped
        os.waitpid(-1, os.WNOHANG)


# -- channels --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def channels(**more: Channel) -> Iterator[None]:
    """Channels of somebody who adds to the registry, in front of those that are there."""
    known = dict(CHANNELS)
    CHANNELS.clear()
    CHANNELS.update({**more, **known})
    try:
        yield
    finally:
        CHANNELS.clear()
        CHANNELS.update(known)


def test_no_channel_keeps_another_from_its_turn(settings: Settings, tmp_path: Path) -> None:
    """Neither by failing nor by raising nor by hanging."""
    over = threading.Event()

    def raises(alert: Alert, settings: Settings) -> str:
        raise OpsError("no route")

    def hangs(alert: Alert, settings: Settings) -> str:
        return str(over.wait(60))

    def refuses(alert: Alert, settings: Settings) -> str:
        return f"{alert.key} refused"

    settings = replace(settings, command=script(tmp_path, "cat > heard"), timeout=2)
    with channels(raises=raises, hangs=hangs, refuses=refuses):
        begun = time.monotonic()
        told = deliver(ALERT, settings)
        assert time.monotonic() - begun < 30
    over.set()
    assert told == [
        "raises: OpsError: no route",
        "hangs: not done within 2 s",
        "refuses: recon-api:down refused",
    ]
    assert len(lines(settings)) == 1
    assert (tmp_path / "heard").read_text()


def test_alerts_import_little(tmp_path: Path) -> None:
    """The monitor is small because it reads little."""
    code = "import sys, ops.watch.alerts; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (
        set(done.stdout.split())
        & {
            *("invoke", "tabulate", "requests", "urllib3", "yaml", "psutil", "concurrent", "fabric", "ssl", "asyncio"),
        }
        == set()
    )
