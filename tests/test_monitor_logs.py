"""Logs and disks with the monitor running: rotation under the pen of a service, readers, full disks, broken histories.

Services are real ones that write numbered lines as they are told to (PEN); what is kept of these lines has to be one
run of numbers without a gap or a double.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ops.host import process
from ops.model import Process
from tests.stack import PYTHON, Stack
from tests.waiting import until

# A server that writes as told: GET /COUNT/PAUSE has it write COUNT more lines, PAUSE seconds after each; every answer
# is how many it has written and how many it could not. Lines have 60 bytes.
PEN = """
import os, signal, socket, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
told, written, lost = [], [0], [0]

def write():
    while True:
        if not told:
            time.sleep(0.005)
            continue
        many, pause = told.pop(0)
        for _ in range(many):
            line = b"line %09d of a service that has something to tell ------\\n" % written[0]
            try:
                while line:
                    line = line[os.write(1, line):]
                written[0] += 1
            except OSError:
                lost[0] += 1
            if pause:
                time.sleep(pause)

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
threading.Thread(target=write, daemon=True).start()
while True:
    connection, _ = listener.accept()
    try:
        words = connection.recv(65536).split()[1].split(b"/")
        if len(words) == 3:
            told.append((int(words[1]), float(words[2])))
        body = b"%d %d" % (written[0], lost[0])
        head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        connection.sendall(head + body)
    except (OSError, IndexError):
        pass
    connection.close()
"""
NUMBER = re.compile(rb"line (\d{9}) of a service")


def pen(stack: Stack, name: str = "api", **keys: Any) -> None:
    keys.setdefault("health", [{"http": "/", "every": 1, "timeout": 5}])  # the machine is busy at times
    stack.add(name, [PYTHON, "-S", "-c", PEN, "{port}"], **{"log_size": "20 KiB", "log_keep": 100, **keys})


def monitored(stack: Stack) -> None:
    """Up, with a monitor and its guard. A restart comes at once however often it is needed."""
    stack.ops.update(monitor=True, attempts=1000, delay=0)
    stack.write()
    stack.ok("start")


def write(stack: Stack, count: int, pause: float = 0.0, name: str = "api") -> None:
    stack.get(name, f"/{count}/{pause}", within=10)


def written(stack: Stack, name: str = "api") -> int:
    return int(stack.get(name, within=10)[1].split()[0])


def log(stack: Stack, name: str = "api") -> Path:
    return stack.state / "logs" / f"{name}.log"


def kept(stack: Stack, name: str = "api") -> list[Path]:
    """The generations, oldest first; a plain one counts more than its own compressed copy, which comes to be before
    the plain one goes."""
    found: dict[int, Path] = {}
    for path in log(stack, name).parent.iterdir():
        match = re.fullmatch(rf"{name}\.log\.(\d+)(\.gz)?", path.name)
        if match and not (match[2] and int(match[1]) in found):
            found[int(match[1])] = path
    return [found[number] for number in sorted(found, reverse=True)]


def content(stack: Stack, name: str = "api") -> bytes:
    """All that is kept, oldest first. Only when nothing is rotated at the moment."""
    pieces = [gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in kept(stack, name)]
    return b"".join([*pieces, log(stack, name).read_bytes()])


def numbers(text: bytes) -> list[int]:
    """The numbers of its whole lines; a kept log may begin within one, since a generation may end so."""
    return [int(number) for number in NUMBER.findall(text)]


def quiet(stack: Stack, name: str = "api", most: int = 20 * 1024) -> bytes:
    """What is kept once nothing is left to rotate or compress."""

    def looked() -> bytes | None:
        names = {path.name for path in log(stack, name).parent.iterdir() if path.name.startswith(f"{name}.log")}
        plain = [each for each in names if re.fullmatch(rf"{name}\.log\.([2-9]|\d\d+)", each)]
        under_way = any(each.endswith((".part", ".rotating")) for each in names)
        if log(stack, name).stat().st_size > most or plain or under_way:
            return None
        with contextlib.suppress(OSError, EOFError):
            return content(stack, name)
        return None

    return until(looked, 40, every=0.1)


def recorded(stack: Stack, name: str = "api") -> Process:
    """The process of a service by its record, which is cheaper than asking `inv status`."""
    said = until(lambda: _read(stack.state / "services" / f"{name}.json").get("process"))
    return Process(**said)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def events(stack: Stack) -> str:
    return b"".join([content(stack, "monitor")]).decode()


def letter(one: Process) -> str:
    line = process.entry(one.pid)
    return line.state if line else "-"


class Reader:
    """`inv tail …` into a file."""

    def __init__(self, stack: Stack, *args: str) -> None:
        self.path = stack.folder.parent / "read.txt"
        with self.path.open("wb") as out:
            self.child = stack.popen("tail", *args, stdout=out)

    def seen(self) -> list[int]:
        return numbers(self.path.read_bytes())


def test_f32_rotated_by_the_monitor_while_it_is_written_and_followed(stack: Stack) -> None:
    """Two services, one that keeps all and one that keeps two generations; a reader follows the first all the time."""
    pen(stack)
    pen(stack, "web", log_keep=2)
    monitored(stack)
    before = {name: recorded(stack, name) for name in ("api", "web")}
    write(stack, 1)
    reader = Reader(stack, "api")
    until(lambda: reader.seen() == [0], 20)
    for name in before:
        write(stack, 12_000, 0.0003, name)  # several seconds
    until(lambda: len(kept(stack)) >= 3, 40)
    generation = os.stat(kept(stack)[-1]).st_ino
    until(lambda: os.stat(kept(stack)[-1]).st_ino != generation, 20)
    tail = stack.ok("tail", "api", "--no-follow", "--lines", "50").out.encode()  # right after a rotation
    assert len(numbers(tail)) == 50
    assert numbers(tail) == list(range(numbers(tail)[0], numbers(tail)[0] + 50))
    until(lambda: (written(stack), written(stack, "web")) == (12_001, 12_000), 60)
    write(stack, 10, 0.02)
    until(lambda: written(stack) == 12_011)
    assert numbers(quiet(stack)) == list(range(12_011))
    until(lambda: len(reader.seen()) >= 12_011, 20)
    assert reader.seen() == list(range(12_011))
    assert len(kept(stack)) >= 4
    assert [path.suffix for path in kept(stack)] == [".gz"] * (len(kept(stack)) - 1) + [".1"]
    few = numbers(quiet(stack, "web"))
    assert few == list(range(few[0], 12_000))
    assert len(kept(stack, "web")) == 2
    for name, one in before.items():
        assert recorded(stack, name) == one
        assert letter(one) == "S"
    assert "rotation: api.log, its writers paused for" in events(stack)
    assert "restart" not in events(stack)


def test_f31_a_flood_blocks_nobody_and_the_monitor_stays_small(stack: Stack) -> None:
    pen(stack, log_size="4 MiB", health=[{"http": "/", "every": 1, "timeout": 30}])
    monitored(stack)
    one, monitor = recorded(stack), stack.watcher("monitor")
    write(stack, 200_000)  # 12 MB
    until(lambda: written(stack) == 200_000, 60)
    most = rss(monitor)
    write(stack, 400_000)
    until(lambda: written(stack) == 600_000, 60)
    assert numbers(quiet(stack, most=4 << 20)) == list(range(600_000))
    assert kept(stack)
    assert (recorded(stack), stack.watcher("monitor")) == (one, monitor)
    assert rss(monitor) < most + (4 << 20), "36 MB went through, a fraction of which may be held"
    paused = [float(ms) for ms in re.findall(r"api\.log, its writers paused for ([\d.]+) ms", events(stack))]
    assert paused
    assert min(paused) < 100  # on a quiet machine all are some 3 ms


def rss(one: Process) -> int:
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{one.pid}/status").read_text())
    return int(kib) * 1024


def test_f32_a_monitor_killed_in_the_middle_of_rotations(stack: Stack) -> None:
    """It is killed as soon as a journal of a rotation is seen, again and again; the guard brings the next one."""
    pen(stack)
    monitored(stack)
    one, journal = recorded(stack), stack.state / "logs" / "api.log.rotating"
    many = 30_000
    write(stack, many, 0.0002)
    for _ in range(3):  # the guard takes its time with one that dies again and again
        monitor = until(lambda: watching(stack), 30)
        until(journal.exists, 30, every=0)
        process.send(monitor, signal.SIGKILL)
        until(lambda monitor=monitor: watching(stack) not in (None, monitor), 30)
        before = written(stack)
        until(lambda before=before: written(stack) > before or before == many, 10)
    until(lambda: written(stack) == many, 90)
    assert numbers(quiet(stack)) == list(range(many))
    assert recorded(stack) == one
    assert not journal.exists()


def watching(stack: Stack) -> Process | None:
    """The monitor that has signed on and lives."""
    said = _read(stack.state / "monitor.json").get("process")
    one = Process(**said) if said else None
    return one if one and process.alive(one) else None


def leave_paused(stack: Stack) -> Process:
    """The service as a killed rotation may have left it: stopped, and noted as such."""
    one, path = recorded(stack), log(stack)
    info = path.stat()
    nobody = Process(os.getpid(), 1.0, "another boot")
    note = {"log": str(path), "copy": [info.st_dev, 1], "paused": [asdict(one)], "by": asdict(nobody), "cut": False}
    path.with_name("api.log.rotating").write_text(json.dumps(note))
    process.send(one, signal.SIGSTOP)
    until(lambda: letter(one) == "T")
    return one


def test_f32_whom_a_killed_rotation_left_paused_is_continued_by_the_next_command_or_monitor(stack: Stack) -> None:
    pen(stack, health=[{"http": "/", "every": 60, "timeout": 60}])
    monitored(stack)
    one = leave_paused(stack)
    stack.ok("hold", "api")
    until(lambda: letter(one) == "S")
    leave_paused(stack)
    process.send(stack.watcher("monitor"), signal.SIGKILL)
    until(lambda: letter(one) == "S", 20)
    assert "a rotation was killed" in until(lambda: re.findall("rotation: .*", events(stack)))[0]
    assert not log(stack).with_name("api.log.rotating").exists()


def test_the_tools_own_logs_are_rotated_and_read(stack: Stack) -> None:
    stack.tiny("api", log_size="1 MiB")
    stack.ops.update(log_size="2 KiB", log_keep=3, alerts_log=str(stack.public / "alerts.log"))
    stack.state.mkdir(mode=0o700)
    (stack.state / "logs").mkdir(mode=0o700)
    lines = [f"line {number:09} of a service, an old alert" for number in range(100)]
    log(stack, "alerts").write_text("\n".join(lines) + "\n")
    log(stack, "monitor").write_text("x" * 3000 + "\n")
    monitored(stack)
    until(lambda: kept(stack, "monitor") and kept(stack, "alerts"))
    assert stack.ok("alerts", "--lines", "3").out.splitlines() == lines[-3:]
    assert stack.ok("tail", "alerts", "--no-follow", "--lines", "100").out.count("an old alert") == 100
    out = stack.ok("tail", "monitor", "--no-follow", "--json").out
    assert any("begins to watch 1 services" in json.loads(line)["line"] for line in out.splitlines()), out
    follower = Reader(stack, "monitor")
    until(lambda: "begins to watch" in follower.path.read_text(), 20)
    for _ in range(40):  # each is four lines
        one = recorded(stack)
        process.send(one, signal.SIGKILL)
        until(lambda one=one: recorded(stack) != one, 20)
    until(lambda: follower.path.read_text().count("api down: died") == 40, 20)
    until(lambda: len(kept(stack, "monitor")) >= 2, 20)


def test_f33_the_public_link_comes_back_and_a_deleted_log_is_reported(stack: Stack) -> None:
    pen(stack)
    stack.ops["interval"] = 1
    monitored(stack)
    public = stack.public / "api.log"
    for spoil in (public.unlink, lambda: (public.unlink(), public.symlink_to("/nowhere"))):
        spoil()
        until(lambda: public.is_symlink() and os.readlink(public) == str(log(stack)))
    write(stack, 5)
    until(lambda: numbers(public.read_bytes()) == list(range(5)))
    log(stack).unlink()
    done = stack.inv("health")
    assert done.code == 0
    assert re.search(r"api: log .*(deleted|does not exist|gone)", done.out + done.err), str(done)
    stack.ok("restart-one", "api")
    done = stack.ok("health")
    assert "api: log" not in done.out + done.err
    write(stack, 5)
    until(lambda: numbers(public.read_bytes()) == list(range(5)))


def test_f34_a_reader_that_goes_away_disturbs_nobody(stack: Stack) -> None:
    pen(stack)
    monitored(stack)
    one = recorded(stack)
    write(stack, 20_000, 0.0005)
    reader = stack.popen("tail", "api", cwd=stack.folder)
    assert reader.stdout
    assert b"of a service" in reader.stdout.buffer.readline()
    reader.stdout.close()
    assert reader.wait(20) in (0, -signal.SIGPIPE)
    before = written(stack)
    until(lambda: written(stack) > before)
    assert recorded(stack) == one
    assert "Traceback" not in (reader.stderr.read() if reader.stderr else "")


# -- disks ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(place: Path, *how: str) -> Iterator[None]:
    if not process.LINUX or os.geteuid() or subprocess.run(["mount", *how, str(place)], capture_output=True).returncode:
        pytest.skip("mounting needs root on Linux")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True)  # nothing is left, whoever holds it


@pytest.fixture
def tiny_disk(stack: Stack) -> Iterator[Stack]:
    """Its state folder has 4 MiB."""
    stack.state.mkdir(mode=0o700)
    with mounted(stack.state, "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"):
        try:
            yield stack
        finally:
            stack.end()


def fill(place: Path) -> None:
    with (place / "filler").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 512, 64, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def test_f30_on_a_full_disk_services_run_on_old_generations_go_and_it_recovers(tiny_disk: Stack) -> None:
    stack = tiny_disk
    stack.ops["interval"] = 1
    pen(stack, log_size="256 KiB", log_keep=2)
    pen(stack, "web")
    monitored(stack)
    one, monitor, guard = recorded(stack), stack.watcher("monitor"), stack.watcher("guard")
    for name in ("api.log.2.gz", "web.log.1"):
        path = log(stack).with_name(name)
        path.write_bytes(gzip.compress(os.urandom(100_000)))
        os.utime(path, (1, 1))
    write(stack, 2000)
    fill(stack.state)
    until(lambda: not kept(stack) and not kept(stack, "web"), 20)
    fill(stack.state)
    write(stack, 20_000)  # 1.2 MB that there is no room for
    until(lambda: written(stack) + int(stack.get("api")[1].split()[1]) == 22_000, 40)
    assert written(stack) < 22_000
    old = recorded(stack, "web")
    process.send(old, signal.SIGKILL)
    until(lambda: stack.get("web")[0] == 200 if answers(stack, "web") else False, 20)
    assert not process.alive(old)
    assert (recorded(stack), letter(one)) == (one, "S")
    assert (stack.watcher("monitor"), stack.watcher("guard")) == (monitor, guard)
    (stack.state / "filler").unlink()
    until(lambda: "upkeep: right again" in events(stack), 20)
    before = written(stack)
    write(stack, 100)
    until(lambda: set(range(before, before + 100)) <= set(numbers(content(stack))), 20)
    assert "the disk is full" in events(stack)
    stack.ok("health")


def answers(stack: Stack, name: str) -> bool:
    try:
        return stack.get(name)[0] == 200
    except OSError:
        return False


# -- a broken history ------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 2000)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


@pytest.mark.parametrize("how", ["garbage", "a folder", "read-only"])
def test_law_7_a_broken_history_disturbs_nobody(stack: Stack, how: str) -> None:
    """Nobody needs it: not a start, not a monitor, not what either does from then on."""
    stack.tiny("api")
    monitored(stack)
    path = stack.state / "history.db"
    until(path.exists)
    stack.ok("monitor-stop")
    with contextlib.ExitStack() as undone:
        if how == "read-only":
            undone.enter_context(mounted(path, "--bind", str(path)))
            undone.callback(stack.end)  # whoever has it open, before it is unmounted
            subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        else:
            {"garbage": garbage, "a folder": a_folder}[how](path)
        broken = stack.inv("report")
        assert "Traceback" not in broken.err
        if how == "read-only":
            assert broken.code == 0, str(broken)
        else:
            assert (broken.code, "next:" in broken.err) == (1, True), str(broken)
        stack.ok("start")
        one = recorded(stack)
        process.send(one, signal.SIGKILL)
        until(lambda: recorded(stack) != one and answers(stack, "api"), 20)
        stack.ok(*{"garbage": ["health"], "a folder": ["restart-one", "api"], "read-only": ["reset"]}[how])
        stack.ok("health")
        wrong = "history not kept: .*" + ("read-?only" if how == "read-only" else "put aside as")
        until(lambda: re.search(wrong, events(stack)), 20)
        if how != "read-only":
            assert "restarts" in stack.ok("report").out
        assert stack.watcher("monitor")


# -- alerts --------------------------------------------------------------------------------------------------------

# Keeps what it is given, a line each.
PAGER = "import sys\nwith open(sys.argv[1], 'a') as file: file.write(sys.stdin.read())"


def breakable(stack: Stack, name: str, **keys: Any) -> Path:
    """A tiny server that does not come up as long as there is the file that is returned."""
    bad, script = stack.folder / f"{name}.bad", 'if [ -e "$0" ]; then echo bad; exit 1; fi; exec "$@"'
    stack.tiny(name, f"--mode={stack.folder / name}.mode", **keys)
    stack.services[name]["command"] = ["/bin/sh", "-c", script, str(bad), *stack.services[name]["command"]]
    return bad


def told(stack: Stack) -> list[dict[str, Any]]:
    """What the alert command was given so far."""
    try:
        return [json.loads(line) for line in (stack.folder / "pages").read_text().splitlines()]
    except FileNotFoundError:
        return []


def state(stack: Stack, name: str) -> str:
    return str(_read(stack.state / "readings.json").get("services", {}).get(name, {}).get("state"))


def test_f49_an_outage_and_its_end_are_told_once_with_all_that_followed_from_it(stack: Stack) -> None:
    """The need is given up; what needs it answers 500 meanwhile, and what needs that, too."""
    bad = breakable(stack, "db")
    for name, need in (("api", "db"), ("web", "api")):
        breakable(stack, name, needs=[need])
    stack.ops.update(monitor=True, attempts=1, delay=0, interval=1, alerts_log=str(stack.public / "alerts.log"))
    stack.ops["alert_command"] = [PYTHON, "-S", "-c", PAGER, str(stack.folder / "pages")]
    stack.write()
    stack.ok("start")
    until(lambda: all(state(stack, name) == "up" for name in ("db", "api", "web")), 20)
    bad.touch()
    process.send(recorded(stack, "db"), signal.SIGKILL)
    until(lambda: state(stack, "db") == "gave-up", 20)
    for name in ("api", "web"):
        (stack.folder / f"{name}.mode").write_text("500")
    until(lambda: (state(stack, "api"), state(stack, "web")) == ("unhealthy", "unhealthy"), 30)
    (page,) = until(lambda: told(stack))
    assert page.pop("at") and page.pop("host")
    assert page == {
        "schema": 1,
        "severity": "critical",
        "stack": stack.name,
        "service": "db",
        "text": "given up after 2 restarts: died: exit 1",
        "key": "db",
        "next": "inv tail db",
    }
    for name in ("api", "web"):
        (stack.folder / f"{name}.mode").unlink()
    bad.unlink()
    stack.ok("start")
    until(lambda: len(told(stack)) == 2, 20)
    until(lambda: all(state(stack, name) == "up" for name in ("db", "api", "web")), 20)
    assert [(one["severity"], one["key"]) for one in told(stack)] == [("critical", "db"), ("resolved", "db")]
    lines = stack.ok("alerts").out.splitlines()
    assert [line.split()[1:4:2] for line in lines] == [["CRITICAL", "db:"], ["RESOLVED", "db:"]]
    assert (stack.public / "alerts.log").read_text().splitlines() == lines
    assert stack.ok("tail", "alerts", "--no-follow", "--lines", "1").out.strip().endswith(lines[-1])
