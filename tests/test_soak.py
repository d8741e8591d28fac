"""The soak itself: it says nothing when all is well, and names what is wrong when something is.

What is wrong is done from outside, to the real thing: a job is taken out of the database, a service is given a second
copy, somebody stays behind, the client dies. What takes minutes to go wrong is judged on made-up observations.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.dev.soak import RESULT, soak_command
from ops.host import process
from tests.census import Census
from tests.soak import client, growth, judgement
from tests.soak.faults import FAULTS, calm, perform
from tests.soak.ground import Ground
from tests.soak.growth import Growth, Life
from tests.soak.page import publish
from tests.soak.plan import Step, steps
from tests.soak.run import judge_watching
from tests.soak.witness import Witness
from tests.stack import PYTHON
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.skipif(not process.LINUX, reason="the soak reads /proc"),
    pytest.mark.timeout(300),
]
QUICK = ("restart-one SERVICE", "SIGKILL of SERVICE", "SIGKILL of the monitor", "ten starts at once")


@contextmanager
def soaking(folder: Path, minutes: float) -> Iterator[subprocess.Popen[str]]:
    """The real command, with a few quick faults; whatever it leaves behind is a failure."""
    faults = [f"--fault={name}" for name in QUICK]
    command = [sys.executable, "-m", "tests.soak", f"--minutes={minutes}", "--seed=7", *faults]
    command += [f"--write={folder / 'soak.md'}"]
    pipe = subprocess.PIPE
    env = {**os.environ, "TMPDIR": str(folder)}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=60)
    left = [one for one, _ in process.carrying("HOME", str(folder))]
    assert left == [], [process.describe(one.pid) for one in left]
    assert list(folder.glob("soak-*")) == []


def heading(child: subprocess.Popen[str]) -> tuple[str, Path]:
    """The stack's name and the soak's folder, which it prints first."""
    assert child.stdout
    for line in child.stdout:
        if found := re.search(r"stack (\w+) in (\S+)/project", line):
            return found[1], Path(found[2])
    raise AssertionError("it did not say which stack it is")


def test_soak_finds_nothing_when_all_is_well(tmp_path: Path) -> None:
    with soaking(tmp_path, 0.2) as child:
        out, err = child.communicate(timeout=240)
        assert child.returncode == 0, out + err
    assert "seed 7" in out.splitlines()[0]
    written = (tmp_path / "soak.md").read_text()
    assert "seed 7, no finding" in written
    assert "| acknowledged jobs lost | 0 |" in written


LOSE = """
import glob, sqlite3, sys
(path,) = glob.glob(sys.argv[1] + "/data/recon.db") + glob.glob(sys.argv[1] + "/disk/data/recon.db")
with sqlite3.connect(path, timeout=20) as database:
    many = database.execute("DELETE FROM jobs WHERE id = ?", (sys.argv[2],)).rowcount
sys.exit(many != 1)
"""


def lose(child: subprocess.Popen[str], folder: Path, job: str) -> None:
    """Takes a job away where the soak has it: as root on a disk that only its own processes see."""
    mounts = [os.readlink(f"/proc/{pid}/ns/mnt") for pid in ("self", child.pid)]
    there = ["nsenter", f"--target={child.pid}", "--mount"] if len(set(mounts)) > 1 else []
    subprocess.run([*there, PYTHON, "-c", LOSE, str(folder), job], check=True, timeout=60)


def kill_the_client(folder: Path) -> None:
    (one,) = [pid for pid in process.pids() if process.command_line(pid)[-1:] == [str(folder / "diary")]]
    os.kill(one, signal.SIGKILL)


def test_soak_finds_what_must_never_be(tmp_path: Path) -> None:
    with soaking(tmp_path, 0.2) as child:
        name, folder = heading(child)
        until(lambda: judgement.read(folder / "diary").acknowledged, 60)
        (_, job), *_ = judgement.read(folder / "diary").acknowledged
        lose(child, folder, job)
        path = {"PATH": os.environ["PATH"]}
        second = subprocess.Popen(["sleep", "300"], env={"OPS_RUN": f"{name}/pg-api/second", **path})
        left = subprocess.Popen(["sleep", "299"], env={"HOME": str(folder / "home"), **path}, start_new_session=True)
        kill_the_client(folder)
        try:
            out, err = child.communicate(timeout=240)
            assert left.wait(10) == -signal.SIGKILL, "the soak ends what is left behind"
        finally:
            for one in (second, left):
                one.kill()
                one.wait(10)
    assert child.returncode == 2, out + err
    assert re.search(rf"FINDING: [\d.]+ s, after .*: {job} was acknowledged and is lost", out)
    assert re.search(r"FINDING: [\d.]+ s, after .*: pg-api ran twice", out)
    assert re.search(r"FINDING: [\d.]+ s, after .*: left behind after `inv stop`: .*sleep 299", out)
    assert re.search(r"FINDING: [\d.]+ s, after .*: the client itself has ended before its time: exit -9", out)
    assert "| acknowledged jobs lost | 1 |" in out


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    ground = Ground(tmp_path)
    try:
        yield Witness(ground)
    finally:
        ground.end()


def told(witness: Witness) -> list[str]:
    return [one.what for one in witness.findings]


def test_soak_finds_a_stack_that_is_not_well_and_starts_it_anew(witness: Witness) -> None:
    witness.settle(within=1.0)  # nobody has started it
    assert len(told(witness)) == 1 and told(witness)[0].startswith("not well 1 s after it was left alone")
    assert len(witness.ground.watchers()) == 2
    step = Step(1, 0.0, "SIGSTOP of SERVICE", "pg-api", 0.0)
    perform(witness, step)
    assert witness.counted == {step.fault: 1} and not witness.missed


def test_soak_counts_no_fault_that_hit_nobody(witness: Witness) -> None:
    perform(witness, Step(1, 0.0, "SIGKILL of SERVICE", "pg-api", 0.0))
    perform(witness, Step(2, 0.0, "SIGSTOP of monitor and guard for SECONDS", "pg-api", 0.0))
    assert not witness.counted and not witness.findings
    assert witness.missed.total() == 2


def test_soak_finds_that_those_who_watch_have_failed(witness: Witness) -> None:
    def refuse(_: str) -> list[process.Process]:
        raise RuntimeError("no more descriptors")

    def told_of(name: str) -> None:
        raise RuntimeError(f"{name}, and nobody to tell")

    two = [witness.ground.spawn(["sleep", "60"], env={"OPS_RUN": f"{witness.ground.name}/api/{n}"}) for n in "12"]
    with Census(witness.ground, tell=told_of) as census, Growth(refuse) as looking:
        until(lambda: census.failure and looking.failure)
    judge_watching(witness, {"census": census, "look at memory": looking})
    assert told(witness) == [
        "the census itself has failed: RuntimeError: api, and nobody to tell",
        "the look at memory itself has failed: RuntimeError: no more descriptors",
    ]
    assert all(one.poll() is None for one in two)


def life(kind: str, seconds: int, leak: int = 0, peak: int = 0, descriptors: int = 0, loads: int = 0) -> Life:
    """Looked at every second; `leak` bytes a second, a `peak` for one look, `descriptors` over the whole life, what it
    `loads` when it is first needed."""
    looks = []
    for age in range(5, 5 + seconds):
        had = {"memory": (20 << 20) + leak * age + peak * (age == 90) + loads * (age > 30), "descriptors": 9}
        looks.append((float(age), {**had, "descriptors": 9 + descriptors * age // seconds}))
    return Life(kind, looks)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (life("monitor", 150, leak=30 << 10), "a monitor has grown"),
        (life("monitor", 150, descriptors=20), "a monitor has grown"),
        (life("monitor", 60, leak=1 << 20), "no monitor lived the 120 s that show growth"),
    ],
)
def test_soak_finds_growth_and_that_it_could_not_be_seen(wrong: Life, words: str) -> None:
    well = [life("guard", 150, leak=1 << 10), life("monitor", 150, peak=9 << 20, loads=3 << 20)]
    assert growth.faulted(well, needed=True) == []
    (finding,) = growth.faulted([well[0], wrong], needed=True)
    assert finding.startswith(words)
    assert growth.faulted([life("guard", 30)], needed=False) == []


def test_soak_looks_at_what_a_process_has(witness: Witness) -> None:
    child = witness.ground.spawn(["sleep", "60"])
    one = process.identify(child.pid)
    assert one
    with Growth(lambda kind: [one] if kind == "guard" else [], young=0.1) as looking:
        until(lambda: looking.lives and looking.lives[one].looks, 20)
    assert not looking.failure
    seen = looking.lives[one]
    assert seen.kind == "guard" and seen.seconds >= 0.1
    assert seen.most("memory") > 0 and seen.most("descriptors") == 3
    assert not seen.judged


def test_soak_that_is_interrupted_ends_all_it_started(tmp_path: Path) -> None:
    with soaking(tmp_path, 5) as child:
        _, folder = heading(child)
        until((folder / "diary").exists, 60)
        assert list(process.carrying("HOME", str(folder / "home")))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        assert "Traceback" not in err
        assert not list(process.carrying("HOME", str(folder / "home")))


def test_soak_draws_the_same_faults_from_the_same_seed() -> None:
    def first(seed: int) -> list[str]:
        source = steps(seed, list(FAULTS), calm())
        return [str(next(source)) for _ in range(100)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_soak_leaves_monitor_and_guard_alone_after_every_fault_has_come() -> None:
    source = steps(3, list(FAULTS), calm())
    assert {next(source).fault for _ in FAULTS} == set(FAULTS)
    spared = [next(source).fault for _ in range(3 * len(calm()))]
    assert set(spared) == set(calm()) and len(calm()) >= 10
    assert not [name for name in calm() if "monitor" in name or "guard" in name or "everything" in name]
    assert {next(source).fault for _ in FAULTS} == set(FAULTS)


def diary_of(path: Path, asked: list[float], *more: dict[str, object]) -> judgement.Diary:
    """The diary of a client that was answered at those moments; its last line is not finished."""
    lines = [{"at": at, "kind": "ask", "seconds": 0.0, "late": 0.0, "ok": True} for at in asked]
    lines += [{"late": 0.0, **line} for line in more]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"at": 7')
    return judgement.read(path)


def job(at: float, seconds: float = 0.1, **more: object) -> dict[str, object]:
    return {"at": at, "kind": "job", "seconds": seconds, "ok": True, **more}


def test_soak_sees_gaps_and_lost_jobs_in_a_diary(tmp_path: Path) -> None:
    jobs = [job(5.3, id="a"), job(5.3, id="b"), job(6.0, ok=False, why="status 502")]
    late = job(6.1, 9.0, ok=False, id="c", why="answered after 9.0 s", late=0.2)
    diary = diary_of(tmp_path / "diary", [1.0, 1.15, 5.1, 5.29, 60.2], *jobs, late)
    assert judgement.gaps(diary) == [(1.15, 5.1), (5.29, 60.2)]
    assert judgement.without((0.0, 10.0), [(2.0, 4.0), (9.0, 20.0)]) == 7.0
    assert [job for _, job in judgement.lost(diary, {"a"})] == ["b", "c"]
    assert (diary.sent["job"], diary.good["job"], diary.late) == (4, 2, 1)


def test_soak_finds_a_gap_that_is_too_long_and_was_not_meant(tmp_path: Path) -> None:
    diary = diary_of(tmp_path / "diary", [1.0, 1.1, 51.1, 51.2], job(1.0, id="a"))
    assert list(judgement.faulted(diary, {"a"}, [])) == [(1.1, "recon-api did not answer for 50.0 s")]
    assert list(judgement.faulted(diary, {"a"}, [(10.0, 20.0)])) == []
    unheard = diary_of(tmp_path / "diary", [], job(1.0, ok=False, why="refused"))
    assert [what for _, what in judgement.faulted(unheard, set(), [])] == [
        "the client was never answered: nothing is proven"
    ]


SERVER = textwrap.dedent("""
    import socket, sys
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    kept = []
    while True:
        caller = listener.accept()[0]
        caller.recv(4096)
        if sys.argv[1]:
            caller.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + sys.argv[1].encode())
            caller.close()
        else:
            kept.append(caller)
""")


@pytest.mark.parametrize(("answer", "good"), [("healthy", True), ("degraded", False), ("", False)])
def test_the_client_asks_on_time_and_takes_only_healthy_for_an_answer(tmp_path: Path, answer: str, good: bool) -> None:
    said = json.dumps({"service": "recon-api", "status": answer}) if answer else ""
    server = subprocess.Popen([PYTHON, "-S", "-c", SERVER, said], stdout=subprocess.PIPE, text=True)
    diary, over = tmp_path / "diary", threading.Event()
    try:
        assert server.stdout
        port = int(server.stdout.readline())
        with diary.open("ab", buffering=0) as out:
            asking = threading.Thread(target=client.repeat, args=("ask", lambda: client.ask(port), out.fileno(), over))
            asking.start()
            try:
                until(lambda: judgement.read(diary).sent.get("ask", 0) >= 20)
            finally:
                over.set()
                asking.join()
    finally:
        server.kill()
        server.communicate()
    noted = judgement.read(diary)
    assert noted.good.get("ask", 0) == (noted.sent["ask"] if good else 0)
    # Each that hangs does so for two seconds, and none waits for another.
    assert noted.sent["ask"] == pytest.approx((noted.ended - noted.begun) / client.EVERY["ask"] + 1)


def test_soak_writes_its_page_and_its_section_of_the_matrix(tmp_path: Path) -> None:
    page, matrix = tmp_path / "soak.md", tmp_path / "faults.md"
    text = "# The soak\n\nWhat follows is written by the command.\n\n## 2026-01-01: 10.0 minutes\n\n{}\n"
    publish(page, text.format("old"))
    assert not matrix.exists()
    matrix.write_text("# What it survives\n\nrows\n")
    for said in ("older", "newer"):
        publish(page, text.format(said))
    assert page.read_text() == text.format("newer")
    shown = matrix.read_text()
    assert shown.startswith("# What it survives\n\nrows\n") and shown.count("## The soak") == 1
    assert "### 2026-01-01: 10.0 minutes" in shown and "newer" in shown and "older" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        *("--minutes=x", "--minutes=nan", "--minutes=0", "--seed=x", "--nonsense"),
        *("--write=/nonexistent/folder/soak.md", "--write=/"),
    ],
)
def test_soak_that_is_asked_wrongly_does_not_look_like_one_with_findings(wrong: str) -> None:
    done = subprocess.run([PYTHON, "-m", "tests.soak", wrong], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "next: ./inv dev.soak --help" in done.stderr
    assert done.stdout == "", "it has begun"


@pytest.mark.parametrize(
    ("minutes", "write", "page"),
    [("10", "", RESULT), ("60", "", RESULT), ("9.9", "", ""), ("x", "", ""), ("3", "here.md", "here.md")],
)
def test_a_short_soak_does_not_take_the_place_of_the_last_one(minutes: str, write: str, page: str) -> None:
    told = [word for word in soak_command(minutes, "7", write) if word.startswith("--write")]
    assert told == ([f"--write={ROOT / page}"] if page else [])
