"""Rotation under real writers at full speed: nothing lost, doubled or torn, whoever is killed when."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.host import log_writers, process
from ops.host.generations import Generation, generations, locked, make_room, tidy
from ops.host.log_writers import FamilyPause, Pause
from ops.host.rotation import Rotated, recover, rotate, rotate_by_rename
from ops.model import Process
from tests.scene import identified
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
MANY = 1000  # generations: none is dropped

# The way of Linux, and that of a Mac, which can be gone here as well.
either_way = pytest.mark.parametrize("pausing", [Pause, FamilyPause])

# Numbered lines as fast as it can, in the name of argv[2], through a descriptor inherited as 1; on TERM it says in
# argv[1].count how many there were.
WRITER = """
import os, signal, sys
told, name, finished, number = sys.argv[1], sys.argv[2].encode(), [], 0
signal.signal(signal.SIGTERM, lambda *_: finished.append(1))
while not finished:
    os.write(1, b"%s %d is a line\\n" % (name, number))
    number += 1
    if len(sys.argv) > 3 and number % 500 == 0:
        pid = os.fork()  # one that writes a little itself
        if pid == 0:
            for each in range(500):
                os.write(1, b"%s-%d %d is a line\\n" % (name, number, each))
            os._exit(0)
        os.waitpid(pid, 0)
with open(told, "w") as file:
    file.write(str(number))
"""

# Forks rotations and kills each before its n-th step, or at a random moment; recovers; says what it met, a line each.
ROTATOR = """
import contextlib, gzip, json, os, random, signal, sys, time
from ops.host import process
from ops.host.generations import generations, tidy
from ops.host.rotation import recover, rotate

log, pid, journal, job = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
MARKS = ("open", "os.listdir", "os.rename", "os.remove", "os.truncate", "os.utime", "os.chmod", "fcntl.flock")

def work():
    rotate(log, 1000, shut=lambda: contextlib.nullcontext([process.identify(pid)]), journal=journal)
    if job == "tidy":
        tidy(log, 1000)

def child(step):
    left = [step]
    def hook(event, arguments):
        mine = any(isinstance(one, str) and one.startswith(os.path.dirname(log)) for one in arguments)
        if event in MARKS and (mine or event not in ("open", "os.listdir")):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    if step:
        sys.addaudithook(hook)
    work()
    os._exit(0)

def turn(step, seconds):
    while os.stat(log).st_size < 20000:
        time.sleep(0.001)
    rotator = os.fork()
    if rotator == 0:
        child(step)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(rotator, signal.SIGKILL)
    _, status = os.waitpid(rotator, 0)
    said = recover(journal)
    if job == "tidy":
        tidy(log, 1000)
    state = process.entry(pid).state
    print(json.dumps([said, state]), flush=True)
    archive()
    return status == 0

def archive():
    # so that the number of steps stays as it is: all but the newest go to one file
    with open(os.path.join(os.path.dirname(journal), "archive"), "ab") as file:
        done = set()
        for each in sorted(generations(log), key=lambda each: (-each.number, each.packed)):
            if each.number > 1:
                if each.number not in done:
                    with (gzip.open if each.packed else open)(each.path, "rb") as source:
                        file.write(source.read())
                done.add(each.number)
                os.unlink(each.path)

if job == "random":
    job = "tidy"
    began = time.monotonic()
    work()
    usual = time.monotonic() - began
    for _ in range(40):
        turn(0, random.random() * usual * 1.5)
elif job == "hang":
    once = [1]
    def hook(event, arguments):
        if event == "os.listdir" and os.path.exists(log + ".1") and os.path.exists(journal) and once:
            once.pop()
            os.kill(os.getpid(), signal.SIGSTOP)
    sys.addaudithook(hook)
    work()
else:
    step = 1
    while not turn(step, None):
        step += 1
"""


class Scene:
    """One log in a folder of its own, its writers, and where they say how much they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "logs"
        self.folder.mkdir()
        self.log = self.folder / "recon-api.log"
        self.journal = folder / "recon-api.rotating"
        self.writers: dict[str, subprocess.Popen[bytes]] = {}
        self.counts = folder
        self.pausing: type[Pause] = log_writers.PAUSE
        self.archive = folder / "archive"

    def write(self, name: str = "a", *more: str, flags: int = os.O_APPEND) -> subprocess.Popen[bytes]:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        command = [sys.executable, "-c", WRITER, str(self.counts / f"{name}.count"), name, *more]
        self.writers[name] = subprocess.Popen(command, stdout=descriptor)
        os.close(descriptor)
        until(lambda: self.log.stat().st_size)
        return self.writers[name]

    @property
    def ours(self) -> list[Process]:
        return [one for writer in self.writers.values() if (one := process.identify(writer.pid))]

    def rotate(self, keep: int = MANY) -> Rotated:
        def shut() -> contextlib.AbstractContextManager[list[Process]]:
            return contextlib.nullcontext(self.ours)

        return rotate(str(self.log), keep, shut=shut, journal=str(self.journal), pausing=self.pausing)

    def rotated(self, keep: int = MANY) -> Rotated:
        """Tried until it is: on a busy machine a writer may not stop in time."""
        return until(lambda: done if (done := self.rotate(keep)).state == "rotated" else None)

    def grown(self, size: int) -> None:
        until(lambda: self.log.stat().st_size > size, every=0.001)

    def stop(self) -> dict[str, int]:
        """Ends the writers; how many lines each wrote."""
        for writer in self.writers.values():
            writer.send_signal(signal.SIGTERM)
        for writer in self.writers.values():
            assert writer.wait(10) == 0
        return {name: int((self.counts / f"{name}.count").read_text()) for name in self.writers}

    def end(self) -> None:
        for writer in self.writers.values():
            writer.kill()
            writer.wait()

    def stream(self) -> bytes:
        """What was written, oldest first; a plain generation counts before its compressed copy."""
        kept: dict[int, Generation] = {}
        for each in generations(str(self.log)):
            kept.setdefault(each.number, each)
        parts = [content(kept[number]) for number in sorted(kept, reverse=True)]
        return b"".join([*parts, self.log.read_bytes()])

    def exact(self) -> bool:
        """Ends its only writer; whether all that it wrote is there, once, in order."""
        count = self.stop()["a"]
        archived = self.archive.read_bytes() if self.archive.exists() else b""
        return archived + self.stream() == lines_of("a", count)

    def state(self, name: str = "a") -> str:
        line = process.entry(self.writers[name].pid)
        assert line is not None
        return line.state

    def rotator(self, job: str) -> list[str]:
        writer = str(self.writers["a"].pid)
        return [sys.executable, "-c", ROTATOR, str(self.log), writer, str(self.journal), job]


def content(generation: Generation) -> bytes:
    data = Path(generation.path).read_bytes()
    return gzip.decompress(data) if generation.packed else data


def lines_of(name: str, count: int) -> bytes:
    return b"".join(b"%s %d is a line\n" % (name.encode(), number) for number in range(count))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.end()


# at full speed


@either_way
def test_f32_200_000_lines_at_full_speed_over_20_rotations_are_exact_while_generations_are_compressed(
    scene: Scene, pausing: type[Pause]
) -> None:
    scene.pausing = pausing
    scene.write()
    done = threading.Event()
    said = []

    def compress() -> None:
        while not done.wait(0.01):
            said.append(tidy(str(scene.log), MANY))

    compressing = threading.Thread(target=compress)
    compressing.start()
    try:
        results = []
        for _ in range(20):
            scene.grown(200_000)
            results.append(scene.rotated())
    finally:
        done.set()
        compressing.join()
    count = scene.stop()["a"]
    assert scene.stream() == lines_of("a", count)
    assert count > 200_000
    assert all(result.size > 200_000 and 0 < result.paused < 1 for result in results)
    until(lambda: tidy(str(scene.log), MANY) == "")
    kept = generations(str(scene.log))
    assert [each.number for each in kept] == list(range(1, 21))
    assert [each.packed for each in kept] == [False] + 19 * [True]
    assert scene.stream() == lines_of("a", count)
    assert "" in said  # it did compress while rotations went on
    assert not scene.journal.exists()


@either_way
def test_f32_processes_that_share_the_file_and_fork_all_the_time(scene: Scene, pausing: type[Pause]) -> None:
    scene.pausing = pausing
    scene.write("a", "forks")
    scene.write("b", "forks")
    for _ in range(20):
        scene.grown(20_000)
        scene.rotated()
    counts = scene.stop()
    written: dict[bytes, list[int]] = {}
    for line in scene.stream().splitlines():
        name, number, rest = line.split(b" ", 2)
        assert rest == b"is a line"
        written.setdefault(name, []).append(int(number))
    for name, numbers in written.items():
        expected = 500 if b"-" in name else counts[name.decode()]
        assert numbers == list(range(expected))
    assert len(written) == 2 + sum(count // 500 for count in counts.values())


# On USR1 it forks once; on USR2 twice, and the one between ends. The new one says who its parent is.
FORKS = """
import os, signal, sys
def fork(number, _):
    if os.fork() == 0:
        between = os.getpid()
        if number == signal.SIGUSR2 and os.fork():
            os._exit(0)
        while os.getppid() == between:
            pass
        os.write(2, b"child of %d\\n" % os.getppid())  # no print: the signal may come in the middle of one
signal.signal(signal.SIGUSR1, fork)
signal.signal(signal.SIGUSR2, fork)
print("ready", file=sys.stderr, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def forking(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """Writes to the log, forks when it is told to; all of them end when the block does."""
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with scene.log.open("ab") as log:
        parent = subprocess.Popen([sys.executable, "-c", FORKS], stdout=log, **pipes)  # type: ignore[call-overload]
    with parent:
        assert parent.stderr.readline() == b"ready\n"
        try:
            yield parent
        finally:
            parent.stdin.close()


def paused(scene: Scene, pausing: type[Pause], ours: list[int]) -> Pause:
    """After its first look."""
    info = scene.log.stat()
    family = [one for one in map(process.identify, ours) if one]
    return pausing(str(scene.log), (info.st_dev, info.st_ino), family)


@either_way
def test_f32_a_child_that_came_after_the_writers_were_looked_at_is_paused_too(
    scene: Scene, pausing: type[Pause]
) -> None:
    with forking(scene) as parent:
        assert parent.stderr is not None
        pause = paused(scene, pausing, [parent.pid])
        parent.send_signal(signal.SIGUSR1)
        assert parent.stderr.readline() == b"child of %d\n" % parent.pid
        noted: list[int] = []
        pause.begin(lambda paused: noted.append(len(paused)))
        try:
            family = {line.pid: line.state for line in process.descendants([parent.pid], process.table())}
            assert set(family.values()) == {"T"}
            assert {one.pid for one in pause.paused} == set(family)
            assert noted == [1, 2]  # before each was stopped
        finally:
            log_writers.resume(pause.paused)


@either_way
def test_f32_a_writer_that_was_born_meanwhile_and_lost_its_parent_is_not_overlooked(
    scene: Scene, pausing: type[Pause]
) -> None:
    """Nobody can tell any more whose child it is: it is named, nobody stays paused, and the next look knows it."""
    with forking(scene) as parent:
        assert parent.stderr is not None
        pause = paused(scene, pausing, [parent.pid])
        parent.send_signal(signal.SIGUSR2)
        if parent.stderr.readline() != b"child of 1\n" and pausing is FamilyPause:
            pytest.skip("orphans are not given to pid 1 here")
        try:
            with pytest.raises(log_writers.LeftAlone, match=r"one of ours|no parent") as refusal:
                pause.begin(lambda _: None)
        finally:
            log_writers.resume(pause.paused)
        assert refusal.value.worth
        with pytest.raises(log_writers.LeftAlone, match="not one of ours"):
            paused(scene, pausing, [parent.pid])


def test_on_a_mac_the_whole_family_stands_still_though_not_all_of_it_write(scene: Scene) -> None:
    """What holds nothing at the first look might open the log or fork before the second, which there is none of."""
    idle = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writer = scene.write()
    with subprocess.Popen(idle, **pipes) as one, subprocess.Popen(idle, **pipes) as other:  # type: ignore[call-overload]
        one.stdout.readline()
        other.stdout.readline()
        info = scene.log.stat()
        reused = replace(identified(other.pid), birth=0.5)  # not that process: law 2
        family = [*scene.ours, identified(one.pid), reused, identified(os.getpid())]
        pause = FamilyPause(str(scene.log), (info.st_dev, info.st_ino), family)
        try:
            pause.begin(lambda _: None)
            assert {each.pid for each in pause.paused} == {writer.pid, one.pid}
            assert pause.holds() and scene.state() == "T"
            os.kill(one.pid, signal.SIGCONT)
            until(lambda: not pause.holds())
        finally:
            log_writers.resume(pause.paused)


# Rotates once; prints what was done between the first stop and the last continue that takes long on a Mac.
SLOW_IN_PAUSE = """
import contextlib, json, os, sys
from ops.host import log_writers, process
from ops.host.rotation import rotate

log, pid, journal, way = sys.argv[1], int(sys.argv[2]), sys.argv[3], getattr(log_writers, sys.argv[4])
inside, slow = [], []

def hook(event, arguments):
    if event == "os.remove" and arguments[0] == journal:
        inside.clear()
    if inside and (event in ("subprocess.Popen", "os.fork", "os.posix_spawn") or str(arguments[0]).endswith("/fd")):
        slow.append(str(arguments[0]))

class Watched(way):
    def begin(self, note):
        inside.append(1)
        super().begin(note)

def shut():  # one that does not write is among them: it could have come to do so
    return contextlib.nullcontext([process.identify(pid), process.identify(os.getppid())])

sys.addaudithook(hook)
for _ in range(100):
    done = rotate(log, 9, shut=shut, journal=journal, pausing=Watched)
    if done.state == "rotated":
        break
print(json.dumps([done.state, slow]))
"""


@pytest.mark.parametrize("way", ["Pause", "FamilyPause"])
def test_on_a_mac_nobody_looks_for_open_files_while_writers_stand_still(scene: Scene, way: str) -> None:
    writer = scene.write()
    scene.grown(20_000)
    command = [sys.executable, "-c", SLOW_IN_PAUSE, str(scene.log), str(writer.pid), str(scene.journal), way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    state, slow = json.loads(done.stdout)
    assert state == "rotated" and bool(slow) == (way == "Pause")
    assert scene.exact()


def test_f32_what_a_pipeline_of_the_shell_writes(scene: Scene) -> None:
    """The one that writes is a child of the one that is ours."""
    enough, count = scene.folder.parent / "enough", scene.folder.parent / "count"
    loop = f"i=0; while [ ! -e '{enough}' ]; do echo line $i; i=$((i+1)); done; echo $i >'{count}'"
    scene.writers["sh"] = shell = subprocess.Popen(["/bin/sh", "-c", f"{{ {loop}; }} | cat >>'{scene.log}'"])
    until(scene.log.exists)
    try:
        for _ in range(5):
            scene.grown(20_000)
            scene.rotated()
    finally:
        enough.touch()
        shell.wait(10)
    assert scene.stream() == b"".join(b"line %d\n" % number for number in range(int(count.read_text())))


def test_the_tools_own_logs_are_renamed_and_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "alerts.log"
    code = """
import os, select, sys
number = 0
while not select.select([0], [], [], 0)[0]:
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b"%s %d\\n" % (sys.argv[2].encode(), number))
    os.close(descriptor)
    number += 1
print(number)
"""
    commands = [[sys.executable, "-c", code, str(log), str(name)] for name in range(3)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(subprocess.Popen(command, **pipes)) for command in commands]  # type: ignore[call-overload]
        for _ in range(10):
            until(lambda: log.exists() and log.stat().st_size > 5000, every=0.001)
            assert rotate_by_rename(str(log), MANY).state == "rotated"
        counts = [int(writer.communicate(timeout=10)[0]) for writer in writers]
    assert tidy(str(log), MANY) == ""
    parts = [content(each) for each in reversed(generations(str(log)))]
    lines = b"".join([*parts, log.read_bytes()]).splitlines()
    assert Counter(lines) == Counter(b"%d %d" % (name, number) for name in range(3) for number in range(counts[name]))
    assert [each.packed for each in generations(str(log))] == [False] + 9 * [True]


def test_as_many_generations_as_are_to_be_kept_and_the_newest_of_them(scene: Scene) -> None:
    scene.write()
    for _ in range(6):
        scene.grown(20_000)
        scene.rotated(keep=3)
        tidy(str(scene.log), 3)
    names = ["recon-api.log", "recon-api.log.1", "recon-api.log.2.gz", "recon-api.log.3.gz"]
    assert sorted(os.listdir(scene.folder)) == names
    scene.grown(20_000)
    everything = lines_of("a", scene.stop()["a"])
    kept = scene.stream()
    assert everything.endswith(kept)
    assert 80_000 < len(kept) < len(everything)
    scene.rotated(keep=0)
    assert os.listdir(scene.folder) == ["recon-api.log"]
    assert scene.log.read_bytes() == b""


# killed


@pytest.mark.parametrize("job", ["rotate", "tidy"])
def test_law_10_killed_at_each_step_a_rotation_loses_nothing_and_nobody_stays_paused(scene: Scene, job: str) -> None:
    """Each kill -9 comes right before a step that opens, lists or changes something in the folder of the log."""
    scene.write()
    done = subprocess.run(scene.rotator(job), cwd=ROOT, capture_output=True, text=True, timeout=60)
    met = check_recovered(scene, done)
    assert any("had been cut" in said for said in met)
    assert any("had not been cut" in said for said in met)
    assert len(met) > 10


def test_law_10_killed_at_random_moments(scene: Scene) -> None:
    scene.write()
    done = subprocess.run(scene.rotator("random"), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert len(check_recovered(scene, done)) == 40


def check_recovered(scene: Scene, done: subprocess.CompletedProcess[str]) -> list[str]:
    """Each kill was recovered from, and the stream is exact; what the recoveries said."""
    assert done.returncode == 0, done.stderr
    met = [json.loads(line) for line in done.stdout.splitlines()]
    assert {state for _, state in met} <= {"R", "S", "D"}
    assert not scene.journal.exists()
    scene.grown(10_000)
    scene.rotated()  # what a kill left lying before the journal was written
    assert tidy(str(scene.log), MANY) == ""
    assert not [name for name in os.listdir(scene.folder) if name.endswith(".part")]
    assert scene.exact()
    return [said for said, _ in met]


def test_a_rotation_that_hangs_itself_keeps_nobody_paused(scene: Scene) -> None:
    """Stopped between the copy and the cut: whoever comes lets the writers go on, and it takes its copy back when it
    goes on itself."""
    scene.write()
    scene.grown(20_000)
    with subprocess.Popen(scene.rotator("hang"), cwd=ROOT) as rotator:
        try:
            _, status = os.waitpid(rotator.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            assert scene.state() == "T"
            size = scene.log.stat().st_size
            assert "hangs" in recover(str(scene.journal))
            until(lambda: scene.state() != "T")
            scene.grown(size + 10_000)
        finally:
            rotator.send_signal(signal.SIGCONT)
        assert rotator.wait(10) == 0
    assert recover(str(scene.journal)) == ""
    assert len(generations(str(scene.log))) == 1  # of its second attempt
    assert scene.exact()


def test_a_journal_of_nobody_is_cheap_and_a_broken_one_goes(scene: Scene) -> None:
    assert recover(str(scene.journal)) == ""
    scene.journal.write_text('{"log": "x", "co')
    assert recover(str(scene.journal)) == ""
    assert not scene.journal.exists()


def test_law_2_nobody_is_continued_whose_birth_is_another(scene: Scene) -> None:
    writer = scene.write()
    writer.send_signal(signal.SIGSTOP)
    until(lambda: scene.state() == "T")
    found = process.identify(writer.pid)
    assert found is not None
    told = {"pid": found.pid, "birth": found.birth - 1, "boot": found.boot}
    note = {"log": str(scene.log), "copy": [1, 1], "paused": [told], "by": told, "cut": False}
    scene.journal.write_text(json.dumps(note))
    recover(str(scene.journal))
    assert not scene.journal.exists()
    assert scene.state() == "T"
    scene.journal.write_text(json.dumps({**note, "paused": [{**told, "birth": found.birth}]}))
    recover(str(scene.journal))
    until(lambda: scene.state() != "T")


def test_a_log_that_was_deleted_during_a_killed_rotation(scene: Scene) -> None:
    writer = scene.write()
    writer.send_signal(signal.SIGSTOP)
    found = process.identify(writer.pid)
    assert found is not None
    told = {"pid": found.pid, "birth": found.birth, "boot": found.boot}
    note = {"log": str(scene.log), "copy": [1, 1], "paused": [told], "by": told, "cut": False}
    scene.journal.write_text(json.dumps(note))
    scene.log.rename(f"{scene.log}.part")
    assert "No such file" in recover(str(scene.journal))
    until(lambda: scene.state() != "T")
    assert [each.number for each in generations(str(scene.log))] == [1]
    assert not scene.journal.exists()


def test_what_was_written_during_a_long_first_look_is_copied_before_the_pause(scene: Scene) -> None:
    """As long as an lsof takes, under a flood: copied while all stand still, it would be too much to try."""
    looks = []

    class Slow(FamilyPause):
        def __init__(self, path: str, identity: log_writers.FileId, ours: Collection[Process]) -> None:
            super().__init__(path, identity, ours)
            looks.append(scene.log.stat().st_size)
            scene.grown(looks[-1] + (3 << 20))

    scene.pausing = Slow
    scene.write()
    scene.grown(20_000)

    def at_the_first_attempt() -> bool:  # of a rotation; on a busy machine a writer may not stop in time
        looks.clear()
        return scene.rotate().state == "rotated" and len(looks) == 1

    until(at_the_first_attempt)
    assert os.stat(f"{scene.log}.1").st_size > looks[0] + (3 << 20)
    assert scene.exact()


# left alone


def test_law_2_a_writer_that_is_none_of_ours_is_left_alone_and_named(scene: Scene) -> None:
    writer = scene.write()
    done = rotate(str(scene.log), MANY, shut=lambda: contextlib.nullcontext([]), journal=str(scene.journal))
    assert done.state == "skipped"
    assert f"pid {writer.pid} " in done.why
    assert "not one of ours" in done.why
    assert only_the_log_is_there(scene)


def test_law_2_nobody_above_this_process_is_paused(scene: Scene) -> None:
    with scene.log.open("ab") as mine:
        mine.write(b"a line\n")
        mine.flush()
        done = rotate(
            str(scene.log),
            MANY,
            shut=lambda: contextlib.nullcontext([identified(os.getpid()), identified(os.getppid())]),
            journal=str(scene.journal),
        )
    assert done.state == "skipped"
    assert "runs this very command" in done.why
    assert only_the_log_is_there(scene)


def test_a_writer_without_append_is_left_alone_and_named(scene: Scene) -> None:
    writer = scene.write(flags=0)
    done = scene.rotate()
    assert done.state == "skipped"
    assert f"pid {writer.pid} " in done.why
    assert "O_APPEND" in done.why
    assert only_the_log_is_there(scene)


def only_the_log_is_there(scene: Scene) -> bool:
    return os.listdir(scene.folder) == ["recon-api.log"] and not scene.journal.exists()


def test_who_was_stopped_before_stays_stopped(scene: Scene) -> None:
    writer = scene.write()
    scene.grown(20_000)
    writer.send_signal(signal.SIGSTOP)
    until(lambda: scene.state() == "T")
    scene.rotated()
    assert scene.state() == "T"
    writer.send_signal(signal.SIGCONT)
    scene.grown(20_000)
    assert scene.exact()


# Takes hold of a process as a debugger does, and never looks after it again.
TRACER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
print(libc.ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not process.LINUX, reason="ptrace as on Linux")
def test_f52_who_cannot_be_stopped_is_left_alone_and_named(scene: Scene) -> None:
    """Held by a debugger that does not care: it stands, but not by our signal, and may go on at any time."""
    writer = scene.write()
    scene.write("b")
    command = [sys.executable, "-c", TRACER, str(writer.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdin is not None
        if tracer.stdout.readline().strip() != "0":
            tracer.kill()
            pytest.skip("ptrace is not allowed here")
        done = scene.rotate()
        assert done.state == "skipped"
        assert f"pid {writer.pid} " in done.why
        assert "does not stop" in done.why
        assert only_the_log_is_there(scene)
        scene.grown(scene.log.stat().st_size)  # the other one was continued
        tracer.stdin.close()
    writer.send_signal(signal.SIGCONT)
    scene.grown(scene.log.stat().st_size + 1000)
    scene.rotated()
    counts = scene.stop()
    assert Counter(line.split()[0].decode() for line in scene.stream().splitlines()) == counts


def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    log, journal = tmp_path / "x.log", str(tmp_path / "journal")
    other = tmp_path / "other"
    other.write_bytes(b"not ours\n")

    def said() -> tuple[str, str]:
        by_copy = rotate(str(log), 5, shut=lambda: contextlib.nullcontext([]), journal=journal)
        by_name = rotate_by_rename(str(log), 5)
        assert (by_copy.state, by_name.state) == ("skipped", "skipped")
        return by_copy.why, by_name.why

    assert all("No such file" in why for why in said())
    log.symlink_to(other)
    assert all("symlink" in why for why in said())
    log.unlink()
    log.mkdir()
    assert all("not a regular file" in why for why in said())
    log.rmdir()
    os.mkfifo(log)
    assert all("not a regular file" in why for why in said())
    log.unlink()
    log.touch()
    assert all("empty" in why for why in said())
    assert other.read_bytes() == b"not ours\n"
    assert sorted(os.listdir(tmp_path)) == ["other", "x.log"]


def test_one_rotation_at_a_time(scene: Scene) -> None:
    scene.write()
    with locked(str(scene.log)):
        assert "under way" in scene.rotate().why
        assert "under way" in rotate_by_rename(str(scene.log), 5).why
        assert "in use" in tidy(str(scene.log), 5)
        assert make_room([str(scene.log)], 1) == 0
    assert scene.rotated()


# the disk is full


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """2 MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not process.LINUX or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root on Linux")
    try:
        yield place
    finally:
        until(lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0)


def fill(place: Path) -> None:
    with (place / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_f30_on_a_full_disk_the_oldest_generation_makes_room(tiny_disk: Path, tmp_path: Path) -> None:
    scene = Scene(tiny_disk)
    scene.counts = tmp_path
    try:
        lines = lines_of("a", 30_000)
        scene.log.write_bytes(lines)
        for number in (3, 2, 1):
            Path(f"{scene.log}.{number}").write_bytes(b"x" * 300_000)
            os.utime(f"{scene.log}.{number}", (1000 - number, 1000 - number))
        fill(tiny_disk)
        done = scene.rotate()
        assert (done.state, done.full) == ("skipped", True)
        assert scene.log.read_bytes() == lines
        assert sorted(os.listdir(scene.folder)) == [f"recon-api.log{end}" for end in ("", ".1", ".2", ".3")]
        assert tidy(str(scene.log), 5)  # says that it could not
        freed = make_room([str(scene.log)], len(lines))
        assert len(lines) <= freed <= 2 * 304 * 1024
        assert not Path(f"{scene.log}.3").exists()
        assert scene.rotate().state == "rotated"
        assert Path(f"{scene.log}.1").read_bytes() == lines
        assert scene.log.read_bytes() == b""
    finally:
        scene.end()


def test_f30_a_disk_that_fills_up_in_the_pause_keeps_nobody_paused(tiny_disk: Path, tmp_path: Path) -> None:
    """The journal has no room, at any size of what is free."""
    scene = Scene(tiny_disk)
    scene.counts = tmp_path
    scene.log = tmp_path / "recon-api.log"
    scene.folder = tmp_path / "here"
    try:
        scene.write()
        fill(tiny_disk)
        scene.grown(20_000)
        done = scene.rotate()
        assert (done.state, done.full) == ("skipped", True)
        assert not scene.journal.exists()
        until(lambda: scene.state() != "T")
        scene.grown(scene.log.stat().st_size + 1000)
        assert scene.exact()
    finally:
        scene.end()


def test_f30_room_is_made_from_the_oldest_first_and_never_from_the_log(tmp_path: Path) -> None:
    logs = [str(tmp_path / name) for name in ("a.log", "b.log")]
    ages = {"a.log.1": 90, "a.log.2.gz": 60, "b.log.1": 80, "b.log.2.gz": 70, "b.log.3.gz": 40, "a.log": 1, "b.log": 1}
    for name, age in ages.items():
        (tmp_path / name).write_bytes(b"x" * 5000)
        os.utime(tmp_path / name, (age, age))
    each = (tmp_path / "a.log").stat().st_blocks * 512
    assert make_room(logs, 1) == each
    assert not (tmp_path / "b.log.3.gz").exists()
    assert make_room(logs, each + 1) == 2 * each
    assert not (tmp_path / "a.log.2.gz").exists()
    assert not (tmp_path / "b.log.2.gz").exists()
    assert make_room(logs, 1 << 40) == 2 * each
    assert sorted(os.listdir(tmp_path)) == ["a.log", "b.log"]
    assert make_room(logs, 1) == 0


# who holds it


def test_the_flags_that_lsof_tells() -> None:
    linux = (
        "p10\nf5\naw\nG0x8401;0x0\nf7\nar\nG0x8000;0x0\n"
        "p11\nf5\naw\nG0x8401;0x0\nf8\nau\nG0x8002;0x0\np12\nf3\nar\nG0x8000;0x0\n"
    )
    assert log_writers.parse_lsof_flags(linux, 0x400) == {10: True, 11: False}
    darwin = "p501\nf1\naw\nG0xa;0x0\nf2\naw\nG0xa;0x0\np502\nf1\naw\nG0x2;0x0\n"  # made up: FWRITE 2, FAPPEND 8
    assert log_writers.parse_lsof_flags(darwin, 0x8) == {501: True, 502: False}


@pytest.mark.skipif(not process.LINUX or not shutil.which("lsof"), reason="needs /proc and lsof")
def test_both_ways_of_finding_the_writers_agree(scene: Scene) -> None:
    scene.write("a")
    scene.write("b", flags=0)
    info = scene.log.stat()
    with scene.log.open("rb"):  # a reader is no writer
        from_proc = log_writers.writers(str(scene.log), (info.st_dev, info.st_ino))
        from_lsof = log_writers._from_lsof(str(scene.log), set(process.pids()))
    a, b = scene.writers["a"].pid, scene.writers["b"].pid
    assert {one.process.pid: one.append for one in from_proc} == from_lsof == {a: True, b: False}


def test_a_file_with_two_names_is_found_under_both(scene: Scene) -> None:
    scene.write()
    other = scene.folder.parent / "other-name"
    os.link(scene.log, other)
    info = other.stat()
    assert [one.process for one in log_writers.writers(str(other), (info.st_dev, info.st_ino))] == scene.ours
