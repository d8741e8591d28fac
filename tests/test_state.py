"""The state folder: written in one step, read without trust, usable on a full disk, private."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import StateError
from ops.host import process
from ops.memory.files import append_line, read_json, write_atomically
from ops.memory.folders import folder_for
from ops.memory.state import Record, State
from ops.memory.wishes import Wish
from ops.model import Process
from ops.model import Stack as StackOptions
from tests.fuzzing import examples, searching
from tests.stack import Stack
from tests.waiting import until

ROOT = Path(__file__).parent.parent
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_tmpfs = pytest.mark.skipif(not process.LINUX or os.geteuid() != 0, reason="mounts a tmpfs: needs Linux and root")


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(StackOptions("t", "t"), str(tmp_path), str(tmp_path / "state"))
    made.prepare()
    return made


def a_record(name: str = "api", pid: int = 4242) -> Record:
    return Record(name, Process(pid, 12.34, "boot"), "run", "definition", "2026-01-01T00:00:00+00:00", log_file=(1, 2))


def snapshot(folder: str) -> dict[str, tuple[int, bytes]]:
    """Every file below, with mode and content."""
    found = {}
    for at, _, files in os.walk(folder):
        for path in [at, *(os.path.join(at, name) for name in files)]:
            content = Path(path).read_bytes() if os.path.isfile(path) else b""
            found[path] = (os.lstat(path).st_mode, content)
    return found


# -- one step --------------------


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = str(tmp_path / "file.json")
    write_atomically(path, b"old", fsync=True)
    write_atomically(path, b"new", fsync=False)
    assert Path(path).read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file.json"]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_old_one_and_no_rest(tmp_path: Path) -> None:
    (tmp_path / "file.json").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError):
        write_atomically(str(tmp_path / "file.json"), b"new", fsync=True)
    with pytest.raises(OSError):
        write_atomically(str(tmp_path / "missing" / "file.json"), b"new", fsync=False)
    assert os.listdir(tmp_path) == ["file.json"]


def test_f48_a_writer_killed_in_the_middle_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    code = (
        "import json, sys\n"
        "from ops.memory.files import write_atomically\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    said = {'n': n, 'filling': 'x' * 200_000, 'again': n}\n"
        "    write_atomically(sys.argv[1], json.dumps(said).encode(), fsync=False)\n"
    )
    seen = 0
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
        try:
            last = read_json(str(path)).get("n")
            until(lambda last=last: read_json(str(path)).get("n") not in (None, last), 30)
        finally:
            child.kill()
            child.wait(timeout=10)
        said = read_json(str(path))
        assert said["n"] == said["again"]
        assert len(said["filling"]) == 200_000
        seen += 1
    assert seen == 5


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "file.json")
    write_atomically(path, b'{"n": 0}', fsync=False)
    done = threading.Event()

    def write() -> None:
        for n in range(300):
            write_atomically(path, json.dumps({"n": n, "filling": "x" * (n * 50)}).encode(), fsync=False)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert "n" in read_json(path)
    writer.join(30)


def test_a_line_is_appended_whole_and_harmless(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    assert append_line(path, "one")
    assert append_line(path, "two\nand \x1b[31m more")
    assert Path(path).read_text() == "one\ntwo and  [31m more\n"
    assert not append_line(str(tmp_path / "missing" / "log"), "x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert not append_line(str(tmp_path / "link"), "x")


# -- garbage --------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_values = _json | st.sampled_from([10**400, -1, 0, "", "TERM", "KILLALL", float("inf"), float("nan"), "../../x", 2**64])
_records = st.fixed_dictionaries(
    {},
    optional={name: _values for name in asdict(a_record()) if name != "process"}
    | {"process": _values | st.fixed_dictionaries({}, optional={"pid": _values, "birth": _values, "boot": _values})},
).map(lambda said: {**asdict(a_record()), **said})
_wishes = st.dictionaries(
    st.text(max_size=8),
    _json | st.fixed_dictionaries({}, optional=dict.fromkeys(asdict(Wish()), _values)),
    max_size=3,
).map(lambda services: {"services": services})
_bytes = st.binary(max_size=60) | (_json | _records | _wishes).map(lambda v: json.dumps(v).encode())


@searching
@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage=_bytes, cut=st.just(0) | st.integers(1, 400))
def test_f48_no_bytes_in_any_file_raise_or_are_half_believed(garbage: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = State(StackOptions("t", "t"), folder, folder + "/state")
        state.prepare()
        for path in ("stack.json", "wanted.json", "wanted.copy", "frozen.json", "services/api.json", "locks/api"):
            Path(state.path, path).write_bytes(garbage[: max(0, len(garbage) - cut)])
        for wish in state.wishes().values():
            assert type(wish.up) is bool
            assert type(wish.held) is bool
            assert type(wish.generation) is int
            assert type(wish.by) is str
        record = state.record("api")
        assert state.corrupt("api") == (record is None)
        if record is not None:
            assert record.service == "api"
            assert type(record.process.pid) is int
            assert record.process.pid > 1
            assert f"SIG{record.stop_signal}" in signal.Signals.__members__
            assert 0 <= record.grace <= 1e6
            assert not process.same(record.process, process.entry(record.process.pid))
        assert isinstance(state.frozen(), dict)
        assert isinstance(state.turn("api"), int)
        # and everything can be written anew on top of it
        wanted = state.want(["api"], "test", lambda wish: replace(wish, up=False))
        assert state.wishes()["api"] == wanted["api"]
        state.freeze({"api": {"env": {"PATH": "/bin"}}}, "test")
        assert state.frozen()["api"] == {"env": {"PATH": "/bin"}}
        state.remember(a_record())
        assert state.record("api") == a_record()
        with state.changing("api", 5, "test"):
            pass
        assert all("wanted.json was damaged" in note for note in state.notes)


@pytest.mark.parametrize(
    "garbage",
    [
        {"stop_signal": "NONSENSE"},
        {"stop_signal": ""},
        {"grace": -1.0},
        {"grace": float("inf")},
        {"grace": float("nan")},
        {"port": 70000},
        {"port": -1},
        {"service": "../web"},
        {"process": {"pid": 1, "birth": 1.0, "boot": "b"}},
        {"process": {"pid": 0, "birth": 1.0, "boot": "b"}},
        {"process": {"pid": -42, "birth": 1.0, "boot": "b"}},
        {"process": {"pid": 42, "birth": 10**400, "boot": "b"}},
        {"process": {"pid": 42, "birth": True, "boot": "b"}},
        {"process": {"pid": 42}},
        {"restarts": "3"},
        {"stopping": 1},
    ],
)
def test_f48_a_record_that_could_not_be_acted_on_is_garbage(state: State, garbage: dict[str, object]) -> None:
    """Whoever ends a process by its record would wait for ever, or signal somebody else."""
    path = Path(state.path, "services", "api.json")
    path.write_text(json.dumps(asdict(a_record())))
    assert state.record("api") == a_record()
    path.write_text(json.dumps({**asdict(a_record()), **garbage}))
    assert state.record("api") is None
    assert state.corrupt("api")


def test_f48_a_folder_where_a_file_should_be_is_garbage_too(state: State) -> None:
    os.mkdir(os.path.join(state.path, "services", "api.json"))
    os.mkdir(os.path.join(state.path, "wanted.json"))
    assert state.record("api") is None
    assert state.corrupt("api")
    assert state.wish("api") == Wish()
    state.remember(a_record())
    (note,) = state.notes
    assert "services/api.json" in note
    state.forget("api")


# -- what is wanted --------------------


def test_nothing_said_means_up(state: State) -> None:
    assert state.wish("api").wanted == "up"
    assert Wish(up=False).wanted == "down"
    assert Wish(held=True).wanted == Wish(up=False, held=True).wanted == "held"


def test_law_4_a_wish_is_kept_with_a_growing_generation(state: State) -> None:
    one = state.want(["a", "b"], "inv stop", lambda wish: replace(wish, up=False))
    first = one["a"].generation
    assert {name: (wish.up, wish.generation, wish.by) for name, wish in one.items()} == {
        "a": (False, first, "inv stop"),
        "b": (False, first, "inv stop"),
    }
    two = state.want(["b"], "inv start", lambda wish: replace(wish, up=True))
    assert two["b"].generation > first
    again = State(state.stack, state.root, state.path)
    assert again.wishes() == {**one, **two}
    assert again.wish("a").at == one["a"].at


def test_law_4_a_lost_file_does_not_begin_the_generations_anew(state: State) -> None:
    before = state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))["a"].generation
    Path(state.path, "wanted.json").write_text("{ half")
    assert state.want(["a"], "inv start", lambda wish: replace(wish, up=True))["a"].generation >= before


@pytest.mark.parametrize("damage", [b"", b"{ half", b'{"services": []}', b'{"services": {"a": {"up": "yes"}}}', None])
def test_f48_what_was_stopped_stays_so_though_the_file_is_damaged(state: State, damage: bytes | None) -> None:
    before = state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))
    path = Path(state.path, "wanted.json")
    whole = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    after = State(state.stack, state.root, state.path)
    assert after.wish("a") == before["a"]
    assert after.wishes() == before
    assert after.want(["a"], "inv stop", lambda wish: replace(wish, up=False)) == before
    assert path.read_bytes() == whole
    assert after.notes == [f"{path} was damaged; it is written anew from its copy"]
    assert after.mend_wishes({}, "the monitor") == ""


def test_f48_with_the_copy_damaged_as_well_it_is_what_somebody_remembers(state: State) -> None:
    before = state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))
    for name in ("wanted.json", "wanted.copy"):
        Path(state.path, name).write_text("{ half")
    assert state.wishes() == {}
    assert "and so was its copy" in state.mend_wishes(before, "the monitor")
    assert state.wishes() == State(state.stack, state.root, state.path).wishes() == before


def test_f48_a_copy_that_is_damaged_or_was_never_written_is_put_right_with_the_next_wish(state: State) -> None:
    state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))
    path = Path(state.path, "wanted.copy")
    for spoil in (path.unlink, lambda: path.write_text("{ half")):
        spoil()
        state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))
        assert path.read_bytes() == Path(state.path, "wanted.json").read_bytes()
    assert state.notes == []


def test_a_wish_that_is_there_is_not_written_again(state: State) -> None:
    first = state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))["a"].generation
    path = Path(state.path, "wanted.json")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert state.want(["a"], "inv stop", lambda wish: replace(wish, up=False))["a"].generation == first
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    anew = state.want(["a"], "inv restart", lambda wish: replace(wish, up=False), anew=True)
    assert anew["a"].generation > first
    assert path.stat().st_ino != before[1]


def test_hold_and_up_do_not_overwrite_each_other(state: State) -> None:
    state.want(["a"], "x", lambda wish: replace(wish, up=False))
    state.want(["a"], "x", lambda wish: replace(wish, held=True))
    assert (state.wish("a").up, state.wish("a").held) == (False, True)


def test_wishes_for_services_that_nobody_knows_are_kept(state: State) -> None:
    state.want(["gone.from.inventory", "a"], "x", lambda wish: replace(wish, up=False))
    state.want(["a"], "x", lambda wish: replace(wish, up=True))
    assert state.wish("gone.from.inventory").up is False


def test_f21_generations_only_grow_under_many_writers(state: State) -> None:
    code = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from ops.memory.state import State\n"
        "from ops.model import Stack\n"
        "state = State(Stack('t', 't'), sys.argv[1], sys.argv[2])\n"
        "for n in range(20):\n"
        "    wished = state.want(['a', sys.argv[3]], 'x', lambda w: replace(w, up=bool(n % 2)), anew=True)\n"
        "    print(wished['a'].generation)\n"
        "assert not state.notes\n"
    )
    argv = [sys.executable, "-c", code, state.root, state.path]
    children = [subprocess.Popen([*argv, f"s{n}"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for n in range(8)]
    said = [[int(line) for line in child.communicate(timeout=90)[0].split()] for child in children]
    assert [child.returncode for child in children] == [0] * 8
    assert all(mine == sorted(mine) and len(mine) == 20 for mine in said)
    numbers = sorted(number for mine in said for number in mine)
    assert numbers == list(range(numbers[0], numbers[0] + 160))
    assert state.wish("a").generation == numbers[-1]
    assert {f"s{n}" for n in range(8)} <= state.wishes().keys()  # nobody's wish was lost


# -- records --------------------


def test_a_record_comes_back_as_it_was(state: State) -> None:
    for name in ("api", "with.dots.json", "a-b_c.2"):
        record = replace(a_record(name), ready_at="x", port=5101, stopping=True, restarts=3)
        state.remember(record)
        assert state.record(name) == record
        assert not state.corrupt(name)
    assert state.recorded() == ["a-b_c.2", "api", "with.dots.json"]
    state.forget("with.dots.json")
    state.forget("with.dots.json")
    assert state.record("with.dots.json") is None
    assert not state.corrupt("with.dots.json")
    assert state.recorded() == ["a-b_c.2", "api"]


def test_a_record_of_another_service_is_not_believed(state: State) -> None:
    state.remember(a_record("api"))
    os.rename(os.path.join(state.path, "services", "api.json"), os.path.join(state.path, "services", "web.json"))
    assert state.record("web") is None
    assert state.corrupt("web")


def test_an_unknown_field_of_a_later_version_is_no_garbage(state: State) -> None:
    state.remember(a_record())
    path = Path(state.path, "services", "api.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "from_the_future": [1]}))
    assert state.record("api") == a_record()


def test_what_is_frozen_is_kept_per_service_and_written_only_when_it_changed(state: State) -> None:
    state.freeze({"a": {"env": {"PATH": "/a"}}}, "x")
    state.freeze({"b": {"env": {"PATH": "/b"}}}, "x")
    path = Path(state.path, "frozen.json")
    before = path.stat().st_ino, path.stat().st_mtime_ns
    state.freeze({"b": {"env": {"PATH": "/b"}}}, "x")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert state.frozen() == {"a": {"env": {"PATH": "/a"}}, "b": {"env": {"PATH": "/b"}}}
    state.forget("a")
    assert "a" in state.frozen()


def test_the_turn_tells_whether_somebody_changed_a_service_in_between(state: State) -> None:
    seen = state.turn("api")
    with state.changing("api", 5, "x") as turn:
        assert turn == seen
    with state.changing("other", 5, "x"):
        pass
    assert state.turn("api") != seen
    with state.changing("api", 5, "x") as turn:
        assert turn != seen


# -- whose folder it is --------------------


def test_law_5_looking_makes_nothing(tmp_path: Path) -> None:
    state = State(StackOptions("t", "t"), str(tmp_path), str(tmp_path / "state"))
    state.check()
    state.wishes(), state.frozen(), state.record("api"), state.recorded(), state.turn("api"), state.corrupt("api")
    assert os.listdir(tmp_path) == []


def test_law_5_preparing_twice_changes_nothing(state: State) -> None:
    before = snapshot(state.path)
    state.prepare()
    assert snapshot(state.path) == before


def test_the_folder_is_private_and_made_so(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    state = State(StackOptions("t", "t"), str(tmp_path), str(path))
    state.prepare()
    for folder in (path, path / "logs", path / "locks", path / "services"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    path.chmod(0o755)
    state.prepare()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert read_json(str(path / "stack.json")) == {"schema": 1, "name": "t", "root": str(tmp_path)}


@needs_root
def test_another_users_folder_is_refused_with_the_line_to_type(state: State) -> None:
    before = snapshot(state.path)
    os.chown(state.path, NOBODY, NOBODY)
    for act in (state.check, state.prepare):
        with pytest.raises(StateError) as told:
            act()
        assert "belongs to user nobody, not to you" in told.value.seen
        assert re.match(r"sudo -u nobody -H (env OPS_STATE=\S+ )?/\S+/(inv|pytest)( |$)", told.value.next)
    os.chown(state.path, 4_000_000, 0)
    with pytest.raises(StateError, match="#4000000"):
        state.check()
    assert snapshot(state.path) == before


@needs_root
def test_a_link_to_another_users_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "state").symlink_to(tmp_path / "theirs")
    with pytest.raises(StateError, match="belongs to user"):
        State(StackOptions("t", "t"), str(tmp_path), str(tmp_path / "state")).prepare()
    assert os.listdir(tmp_path / "theirs") == []


def test_a_file_or_a_dangling_link_in_its_place_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "loop"):
        with pytest.raises(StateError) as told:
            State(StackOptions("t", "t"), str(tmp_path), str(path)).prepare()
        assert str(path) in told.value.seen


def test_the_same_stack_from_another_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPS_STATE", raising=False)
    path = str(tmp_path / "state")
    State(StackOptions("t", "t"), str(tmp_path / "one"), path).prepare()
    with pytest.raises(StateError) as told:
        State(StackOptions("t", "t"), str(tmp_path / "two"), path).prepare()
    assert str(tmp_path / "one") in told.value.seen
    assert "OPS_STATE" in told.value.next
    monkeypatch.setenv("OPS_STATE", path)
    State(StackOptions("t", "t"), str(tmp_path / "two"), path).prepare()


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("OPS_STATE", raising=False)
    assert folder_for("settlepaisa").startswith(str(tmp_path))
    assert folder_for("settlepaisa").endswith("settlepaisa")
    monkeypatch.setenv("OPS_STATE", "~/mine")
    assert folder_for("settlepaisa") == str(tmp_path / "mine")
    monkeypatch.setenv("OPS_STATE", "relative")
    assert folder_for("settlepaisa") == os.path.abspath("relative")


# -- a full disk --------------------


@contextlib.contextmanager
def tmpfs(path: Path) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(folder: Path) -> None:
    """Takes every last byte, and every last inode with it."""
    with contextlib.suppress(OSError), open(folder / "filling", "wb", buffering=0) as file:
        while file.write(b"x" * 512):
            pass
    with contextlib.suppress(OSError):
        for number in range(100_000):
            (folder / f"inode{number}").touch()


@needs_tmpfs
def test_law_7_a_full_disk_is_noted_not_raised(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        state = State(StackOptions("t", "t"), str(tmp_path), str(disk / "state"))
        state.prepare()
        state.want(["api"], "x", lambda wish: replace(wish, up=False))
        state.remember(a_record())
        fill(disk)
        before = snapshot(state.path)
        state.prepare()
        assert state.want(["api"], "x", lambda wish: replace(wish, up=True))["api"].up is True
        state.remember(replace(a_record(), restarts=9))
        state.freeze({"api": {}}, "x")
        with state.changing("api", 5, "x"), state.changing("other", 5, "x"):
            pass
        assert len(state.notes) == 3
        assert all("No space left" in note for note in state.notes)
        after = snapshot(state.path)
        unlocked = {path for path in before if "lock" not in os.path.basename(path)}
        assert {path: after[path] for path in unlocked} == {path: before[path] for path in unlocked}  # the old, whole
        state.forget("api")
        assert state.record("api") is None


@needs_tmpfs
@pytest.mark.parametrize("when", ["before the first start", "between"])
def test_law_7_services_are_started_and_stopped_with_a_full_state_folder(stack: Stack, when: str) -> None:
    """The folder cannot even be made, or no file in it can: everything is found again by its marker, nothing runs
    twice, and people are told."""
    for name in "ab":
        stack.tiny(name)
    stack.write()
    with tmpfs(stack.folder.parent / "disk") as disk:
        stack.env["OPS_STATE"] = str(disk / "state")
        if when == "between":
            stack.ok("start")
            stack.ok("stop")
        fill(disk)
        try:
            done = stack.ok("start", "--json")
            assert done.states == {"a": "changed", "b": "changed"}
            assert "note" in done.err
            pids = {one.pid for one in stack.running()}
            assert len(pids) == 2
            assert stack.ok("start", "--json").states in ({"a": "ok", "b": "ok"}, {"a": "changed", "b": "changed"})
            assert {one.pid for one in stack.running()} == pids
            crowd = [stack.popen("start") for _ in range(4)]
            assert [child.wait(timeout=60) for child in crowd] == [0] * 4
            assert {one.pid for one in stack.running()} == pids
            assert stack.ok("restart-one", "a", "--json").states == {"a": "changed"}
            assert len({one.pid for one in stack.running()} - pids) == 1
            stopped = stack.inv("stop", "--json")
            kept = {name: one["wanted"] for name, one in stack.inv("status", "--json").services.items()}
            for name, outcome in stopped.outcomes.items():  # changed only if that it should stay down could be kept
                lost = outcome["state"] == "failed" and "could not be recorded" in outcome["detail"]
                assert lost or (outcome["state"], kept[name]) == ("changed", "down"), str(stopped)
            assert stack.running() == []
        finally:
            stack.end()


@needs_tmpfs
def test_law_1_a_crowd_of_starts_on_a_full_disk_starts_one(stack: Stack) -> None:
    """No turn can be counted and no record written: who comes second must look again under the lock. The service is
    slow to listen, so that its port gives no hint."""
    stack.tiny("api", "--after=1.5")
    stack.write()
    with tmpfs(stack.folder.parent / "disk") as disk:
        stack.env["OPS_STATE"] = str(disk / "state")
        fill(disk)
        try:
            crowd = [stack.popen("start") for _ in range(5)]
            ended = [child.communicate(timeout=60) for child in crowd]
            assert [child.returncode for child in crowd] == [0] * 5, ended
            assert len(stack.running()) == 1
        finally:
            stack.end()
