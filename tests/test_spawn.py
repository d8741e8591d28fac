"""Spawning: what a service inherits, and above all what it does not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ops.errors import SpawnError
from ops.host import process, spawn
from ops.host.spawn import Launch, Spawned
from tests.stack import Stack
from tests.waiting import until

ROOT = Path(__file__).parent.parent
HOLD = "import time\nwhile True: time.sleep(60)"
# Writes what it finds itself to be as one JSON file, then goes on living.
TELL = """
import json, os, signal, sys, time
told = {
    "session": os.getsid(0), "pid": os.getpid(), "group": os.getpgid(0), "cwd": os.getcwd(),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
    "env": dict(os.environ), "umask": os.umask(0),
    "ignored": [n for n in range(1, 32) if n not in (9, 19) and signal.getsignal(n) is signal.SIG_IGN],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "argv": sys.argv,
}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(told, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
print("out", flush=True)
os.write(2, b"err\\n")
time.sleep(600)
"""

Start = Callable[..., Spawned]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Spawns Python code (or `argv`); whatever was spawned is ended afterwards."""
    started: list[Spawned] = []

    def run(code: str = HOLD, *words: str, **more: Any) -> Spawned:
        argv = more.pop("argv", (sys.executable, "-S", "-c", code, *words))
        more = {"cwd": str(tmp_path), "env": {"PATH": os.environ["PATH"]}, **more}
        started.append(spawn.spawn(Launch(argv, **more)))
        return started[-1]

    yield run
    for one in started:
        process.send(one.process, signal.SIGKILL)
        until(lambda one=one: spawn.exit_code(one.process.pid) is not None)


def told(start: Start, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """What a spawned process found itself to be."""
    path = tmp_path / "told.json"
    start(TELL, str(path), **more)
    until(path.exists)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def within_child(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs code that spawns, in a process of its own whose signals and descriptors may be spoilt."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, done.stderr
    return done


# -- what it is --------------------


def test_it_leads_a_session_of_its_own_in_its_folder(start: Start, tmp_path: Path) -> None:
    found = told(start, tmp_path)
    assert found["session"] == found["group"] == found["pid"]
    assert found["session"] != os.getsid(0)
    assert found["cwd"] == str(tmp_path)
    assert found["umask"] == 0o022


def test_spawned_names_the_living_process(start: Start) -> None:
    one = start()
    assert process.alive(one.process)
    assert process.entry(one.process.pid).ppid == os.getpid()  # type: ignore[union-attr]
    assert one.notes == ()


def test_the_environment_is_exactly_what_was_given(start: Start, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "ODD": "a=b \n'\"", "EMPTY": ""}
    one = start(env=env)
    until(lambda: process.command_line(one.process.pid)[:1] == [sys.executable])
    with open(f"/proc/{one.process.pid}/environ", "rb") as file:
        pairs = file.read().split(b"\0")[:-1]
    assert dict(pair.decode().split("=", 1) for pair in pairs) == env


# -- descriptors --------------------


def test_f24_no_descriptor_is_inherited_not_even_an_inheritable_one(start: Start, tmp_path: Path) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(3):
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.set_inheritable(True)
            os.set_inheritable(opened.enter_context(open(tmp_path / "file", "w")).fileno(), True)
        found = told(start, tmp_path, log=str(tmp_path / "log"), quiet=str(tmp_path / "quiet"))
    # The fourth is the descriptor that listed the folder.
    assert found["descriptors"] == [0, 1, 2, 3]


def test_listening_sockets_are_handed_over_under_their_numbers(start: Start, tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "served = [socket.socket(fileno=int(number)) for number in sys.argv[2:]]\n"
        "told = [one.getsockname()[1] for one in served]\n"
        "open(sys.argv[1] + '.new', 'w').write(repr(told))\n"
        "import os; os.rename(sys.argv[1] + '.new', sys.argv[1])\n" + HOLD
    )
    path = tmp_path / "told"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        given = (two.fileno(), one.fileno())
        start(code, str(path), *map(str, given), descriptors=given)
        ports = [two.getsockname()[1], one.getsockname()[1]]
        until(path.exists)
        assert not os.get_inheritable(one.fileno())
    assert path.read_text() == repr(ports)


# -- output --------------------


def test_output_and_errors_are_appended_to_the_log(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "api.log"
    log.parent.mkdir()
    log.write_text("before\n")
    found = start(TELL, str(tmp_path / "told"), log=str(log))
    until(lambda: log.read_text() == "before\nout\nerr\n")
    assert found.log_file == (log.stat().st_dev, log.stat().st_ino)


def test_two_writers_share_a_log_without_losing_a_line(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import os, sys\nfor n in range(2000): os.write(1, b'%s %d\\n' % (sys.argv[1].encode(), n))\n"
    one, two = (start(code, name, log=str(log)) for name in "ab")
    until(lambda: all(spawn.exit_code(each.process.pid) == 0 for each in (one, two)), 30)
    lines = log.read_text().splitlines()
    for name in "ab":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(2000)]
    assert len(lines) == 4000


def test_the_folder_of_the_log_is_made_and_both_are_private(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    start(log=str(log))
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_law_7_a_log_that_cannot_be_opened_keeps_no_service_down(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path, why in (
        (tmp_path / "a file" / "log", "Not a directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "link", "Too many levels of symbolic links"),
    ):
        one = start(log=str(path))
        assert process.alive(one.process)
        assert one.log_file is None
        (note,) = one.notes
        assert note == f"its output is not kept: {path}: {why}" or "File exists" in note
        until(lambda one=one: process.command_line(one.process.pid)[:1] == [sys.executable])
        assert os.readlink(f"/proc/{one.process.pid}/fd/1") == os.devnull
    assert not (tmp_path / "elsewhere").exists()


# -- input --------------------


def test_f39_input_is_open_and_silent(start: Start, tmp_path: Path) -> None:
    """A dev server that ends when its input ends goes on; one that reads waits."""
    code = "import os\nprint('reads', flush=True)\nos.read(0, 1)\nprint('ended', flush=True)"
    for _ in range(2):  # the second finds the FIFO there
        log = tmp_path / "log"
        one = start(code, quiet=str(tmp_path / "quiet"), log=str(log))
        until(lambda log=log: "reads" in log.read_text())
        until(lambda one=one: (line := process.entry(one.process.pid)) and line.state == "S")
        assert spawn.exit_code(one.process.pid) is None
        assert "ended" not in log.read_text()


def test_without_a_fifo_input_is_empty(start: Start, tmp_path: Path) -> None:
    for quiet in (None, str(tmp_path / "missing" / "quiet")):
        one = start("import os, sys\nsys.exit(0 if os.read(0, 1) == b'' else 1)", quiet=quiet)
        assert until(lambda one=one: (code := spawn.exit_code(one.process.pid)) is not None and code + 1) == 1


def test_f34_the_death_of_log_readers_is_no_signal_to_the_service(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import time\nwhile True:\n    print('line', flush=True)\n    time.sleep(0.005)"
    one = start(code, log=str(log))
    until(log.exists)
    reader = subprocess.Popen(["tail", "-f", str(log)], stdout=subprocess.PIPE)
    assert reader.stdout
    assert reader.stdout.readline() == b"line\n"
    reader.kill()
    reader.wait(timeout=10)
    reader.stdout.close()
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size + 50)
    assert process.alive(one.process)


# -- signals --------------------


SPOILT = """
import os, signal, sys, threading
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""
# As commands do it: the signals are seen to in the main thread, services are spawned by another.
SPAWNS = """
import sys, threading
from ops.host import spawn
spawn.take_no_ignored_signals()
launch = spawn.Launch(sys.argv[1:], cwd="/", env={})
found = []
thread = threading.Thread(target=lambda: found.append(spawn.spawn(launch)))
thread.start(); thread.join()
print(found[0].process.pid, flush=True)
"""


def signals_of(pid: int) -> Mapping[str, int]:
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":\t", 1) for line in file if line.startswith("Sig"))
    return {name: int(lines[name], 16) for name in ("SigIgn", "SigBlk")}


def test_f41_ignored_signals_and_blocked_ones_are_not_inherited() -> None:
    """`nohup inv start`, or `inv start &` in a script: a service that ignores TERM or INT for ever could only be
    killed, and one that has them blocked too."""
    argv = [sys.executable, "-c", SPOILT, SPAWNS, "/bin/sleep", "60"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    try:
        until(lambda: process.command_line(pid)[:1] == ["/bin/sleep"])
        assert signals_of(pid) == {"SigIgn": 0, "SigBlk": 0}
    finally:
        os.kill(pid, signal.SIGKILL)


def test_f41_services_of_a_start_under_nohup_ignore_nothing(stack: Stack) -> None:
    """The same through the real command, which spawns from threads."""
    stack.tiny("api")
    stack.write()
    ignoring = "import os, signal, sys\nsignal.signal(1, signal.SIG_IGN); signal.signal(2, signal.SIG_IGN)\n"
    ignoring += "signal.pthread_sigmask(signal.SIG_BLOCK, [15])\nos.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-c", ignoring, sys.executable, "-m", "invoke", "start"]
    done = subprocess.run(argv, cwd=stack.folder, env=stack.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = stack.running("api")
    seen = signals_of(one.pid)
    assert seen["SigBlk"] == 0
    assert seen["SigIgn"] & 0b11 == 0  # INT and HUP; a Python itself ignores PIPE and XFSZ


def test_other_threads_leave_the_signals_alone() -> None:
    """Handlers belong to the main thread: from any other the call does nothing, and does not fail."""
    failed: list[BaseException] = []

    def call() -> None:
        try:
            spawn.take_no_ignored_signals()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert failed == []


# -- what cannot be started --------------------


def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo hello\n")
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x7fELF nothing of the kind")
    garbage.chmod(0o755)
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    orphan.chmod(0o755)
    for argv, cwd, said in (
        (["/no/such/program"], tmp_path, "/no/such/program does not exist"),
        ([str(plain)], tmp_path, f"{plain} cannot be started: Permission denied"),
        ([str(tmp_path)], tmp_path, f"{tmp_path} cannot be started: Permission denied"),
        ([str(garbage)], tmp_path, f"{garbage} cannot be started: Exec format error"),
        ([str(orphan)], tmp_path, f"{orphan} cannot be started: the interpreter on its first line does not exist"),
        (["/bin/sleep", "60"], tmp_path / "gone", f"{tmp_path / 'gone'} does not exist"),
        (["/bin/sleep", "60"], plain, f"{plain} is not a folder"),
        (["/bin/sleep", "60\0"], tmp_path, "/bin/sleep cannot be started: embedded null byte"),
    ):
        with pytest.raises(SpawnError) as told:
            spawn.spawn(Launch(argv, str(cwd), {}))
        assert told.value.seen == said


def test_f35_a_failed_start_leaks_no_descriptor(tmp_path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    launch = Launch(["/no/such/program"], str(tmp_path), {}, str(tmp_path / "log"), str(tmp_path / "quiet"))
    before = opened()
    for _ in range(20):
        with pytest.raises(SpawnError):
            spawn.spawn(launch)
    assert opened() == before


def test_f45_no_process_left_to_be_had_is_an_error_of_ours() -> None:
    """fork fails with EAGAIN where a user has too many processes (root has no such limit: run as nobody)."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user with a limit")
    pid = os.fork()
    if pid == 0:
        import resource

        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            os.setgid(65534)
            os.setuid(65534)
            spawn.spawn(Launch(["/bin/sleep", "60"], "/", {}))
        except SpawnError as error:
            code = 0 if "Resource temporarily unavailable" in error.seen else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- how it ended --------------------


def test_exit_codes_of_children(start: Start) -> None:
    one = start("import sys; sys.exit(7)")
    assert until(lambda: spawn.exit_code(one.process.pid)) == 7
    two = start()
    assert spawn.exit_code(two.process.pid) is None
    process.send(two.process, signal.SIGKILL)
    assert until(lambda: spawn.exit_code(two.process.pid)) == -signal.SIGKILL
    assert spawn.exit_code(1) is None
