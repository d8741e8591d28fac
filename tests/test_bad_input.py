"""Bad input and bad surroundings: a clear message, the right exit code, and nothing changed.

What was seen and what to do next stand on standard error; with --json standard output still is one document.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.face.afterwards import carrying_on
from ops.host import process
from ops.operations.verbs import Request
from tests.stack import Done, Stack
from tests.waiting import until

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is up, and that no line in this file may change."""
    made = Stack(tmp_path_factory.mktemp("up"))
    try:
        made.tiny("recon-api", critical=True)
        made.tiny("pg-api")
        made.write()
        made.ok("start")
        yield made
    finally:
        made.end()


def snapshot(stack: Stack) -> dict[str, Any]:
    """Every file of the stack with its content and time, and every process of it."""
    found: dict[str, Any] = {"processes": sorted(one.pid for one in stack.running())}
    for top in (stack.state, stack.public):
        for path in sorted(top.rglob("*")):
            info = path.lstat()
            readable = path.is_file() and not path.is_symlink()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if readable else ""
            found[str(path)] = (info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


def refused(stack: Stack, *args: str, **more: Any) -> Done:
    """Runs what must be refused with exit code 1, without a traceback and without any change."""
    before = snapshot(stack)
    done = stack.inv(*args, **more)
    assert done.code == 1, str(done)
    assert "Traceback" not in done.out + done.err
    assert done.err.strip()
    assert snapshot(stack) == before
    return done


# -- the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("restart-one recon-apu", "unknown service 'recon-apu'; did you mean 'recon-api'?"),
        ("start --only pg-api,recon_api", "unknown service 'recon_api'; did you mean 'recon-api'?"),
        ("stop --only zzz", "wanted: one of recon-api, pg-api"),
        ("hold pg", "unknown service 'pg'"),
        ("tail recon --no-follow", "did you mean 'recon-api'?"),
        ("health --only nope", "unknown service 'nope'"),
        ("restart-one --bogus", "next:   inv restart-one --help"),
        ("kill-port --force", "kill-port needs the number of a port"),
        ("start --bogus", "--bogus"),
        ("restart-one pg-api --bogus", "--bogus"),
        ("start --onli pg-api", "did you mean '--only'?"),
        ("start pg-api", "next:   inv start --only pg-api"),
        ("restart-one pg-api recon-api", "next:   inv restart-one recon-api"),
        ("pg-api", "'pg-api' is a service, not a task"),
        ("nosuch", "there is no task 'nosuch'"),
        ("stop helth", "did you mean 'health'?"),
        ("restart-one", "wanted: one of recon-api, pg-api\n  next:   inv restart-one NAME"),
        ("kill-port", "next:   inv kill-port PORT"),
        ("start --timeout", "start: --timeout needs a value"),
        ("start --only", "--only needs the name of a service"),
        ("stop --only --check", "--only needs the name of a service"),
        ("stop --only=", "--only needs the name of a service"),
        ("stop --only pg-api --only", "--only needs the name of a service"),
        ("stop --only pg-api,", "--only has an empty name"),
        ("kill-port 5103x", "'5103x' is not a number from 1 to 65535"),
        ("kill-port 0", "'0' is not a number from 1 to 65535"),
        ("kill-port 65536", "'65536' is not a number from 1 to 65535"),
        ("kill-port -5103", "kill-port: unknown flag"),  # Invoke takes it for flags
        ("kill-port -5", "inv kill-port --help"),
        ("kill-port --port=-5103", "inv kill-port --help"),
        ("kill-port ５１０３", "is not a number from 1 to 65535"),
        ("kill-port 5103.0", "is not a number"),
        ("start --timeout soon", "--timeout 'soon' is not a number of seconds"),
        ("start --timeout 0", "wanted: a number above 0"),
        ("stop --timeout -1", "wanted: a number above 0"),
        ("health --timeout nan", "--timeout 'nan' is not a number of seconds"),
        ("status --watch inf", "--watch 'inf' is not a number of seconds"),
        ("health --watch x", "--watch 'x' is not a number of seconds"),
        ("tail pg-api --lines many", "--lines 'many' is not a number from 0"),
        ("tail pg-api --lines -1", "--lines '-1' is not a number from 0"),
        ("alerts --lines 0", "--lines '0' is not a number from 1"),
        (f"kill-port {'1' * 5000}", "port '1111111111111111111111111111111111111...' is not a number from 1 to 65535"),
        (f"start --timeout {'1' * 5000}", "111...' is not a number of seconds"),
    ],
)
def test_a_line_that_makes_no_sense(up: Stack, line: str, words: str) -> None:
    assert words in refused(up, *line.split()).err


def test_a_port_of_no_service_needs_force(up: Stack) -> None:
    port = up.services["pg-api"]["port"]
    done = refused(up, "kill-port", str(65535 if port != 65535 else 65534))
    assert "belongs to no service" in done.err
    assert "--force" in done.err


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("start --only nope --json", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("start --only nope --json --check", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("kill-port x --json", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("restart-one --bogus --json", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("start --bogus --json", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("bootstrap --limit nope --json", ["schema", "task", "check", "outcomes", "recap", "error"]),
        ("health pg-api --json", ["schema", "task", "healthy", "hosts", "error"]),
        ("status --only nope --json", ["schema", "task", "healthy", "hosts", "error"]),
        ("health --watch never --json", ["schema", "task", "healthy", "hosts", "error"]),
        ("alerts --lines x --json", ["schema", "task", "hosts", "error"]),
        ("tail nope --json", ["schema", "task", "hosts", "error"]),
    ],
)
def test_an_error_is_still_one_document(up: Stack, line: str, keys: list[str]) -> None:
    done = refused(up, *line.split())
    assert list(done.document) == keys
    assert done.document["task"] == line.split()[0]
    assert done.document.get("check", False) is ("--check" in line)
    assert done.document.get("healthy", False) is False
    assert done.document["error"].splitlines()[0] in done.err


def test_controls_in_a_name_reach_no_terminal(up: Stack) -> None:
    for line in (["restart-one", "\x1b[2Jx"], ["start", "\x1b[2Jx"], ["\x1b[2Jx"]):
        assert "\x1b" not in refused(up, *line).err


def test_what_invoke_reads_is_never_refused(up: Stack) -> None:
    """Core flags with values, a flag's value that looks like a task, and tasks that only this tasks.py has."""
    more = "\nfrom invoke.tasks import task\n\n@task\ndef mine(c):\n    print('mine ran')\n\nns.add_task(mine)\n"
    tasks = up.folder / "tasks.py"
    shipped = tasks.read_text()
    tasks.write_text(shipped + more)
    try:
        assert "mine ran" in up.ok("-c", "tasks", "mine", "status", "--only", "pg-api", "mine").out
    finally:
        tasks.write_text(shipped)
    assert "restart-one" in up.ok("--list", "--list-format=nested").out
    assert up.ok("-r", str(up.folder), "status", "alerts", "--lines", "3", cwd="/").err == ""


def test_the_console_script_explains_a_line_too(up: Stack) -> None:
    program = Path(sys.executable).parent / "ops"
    env = {**up.env, "OPS_INVENTORY": str(up.folder / "inventory.yaml")}
    done = subprocess.run([program, "start", "pg-api"], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: start takes no name, but 'pg-api' stands after it",
        "  next:   inv start --only pg-api",
    ]


# -- the inventory ------------------------------------------------------------------------------------------------

SERVICES = "all:\n  hosts: {localhost: {ansible_connection: local}}\n  vars:\n    ops: {name: x}\n    services:\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("", "nothing but white space"),
        ("# only this\n", "nothing but white space"),
        ("x" * 2**20, "an inventory may have"),
        (SERVICES + "      api: {command: [a], port: 1}\n      api: {command: [b]}\n", "given twice, on line"),
        (BOMB, "at most 100000"),
        (SERVICES + "      api: !!python/object/apply:os.system ['touch pwned']\n", "tag"),
        (SERVICES + "      api: {command: [a], port: 5103\n", "line"),
        (SERVICES + "      a: {command: [x], needs: [b]}\n      b: {command: [x], needs: [a]}\n", "a -> b -> a"),
        (SERVICES + "      a: {command: [x], port: 5103}\n      b: {command: [x], port: 5103}\n", "which a has"),
        (SERVICES + "      a: {command: [x], prot: 5103}\n", "did you mean"),
    ],
    ids=["missing", "empty", "comment", "1MB", "twice", "bomb", "tag", "torn", "cycle", "port", "typo"],
)
def test_an_inventory_that_cannot_be_used(up: Stack, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "inventory.yaml"
    if text is not None:
        path.write_text(text)
    done = refused(up, "start", "--json", env={"OPS_INVENTORY": str(path)}, within=30)
    assert words in done.err
    assert words in done.document["error"]
    assert str(path) in done.err
    assert not (up.folder / "pwned").exists()


def test_all_mistakes_are_told_at_once(up: Stack, tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(SERVICES + "      a: {command: [x], port: 70000}\n      b: {command: [x], grace: soon}\n")
    done = refused(up, "check-inventory", env={"OPS_INVENTORY": str(path)})
    assert ":6" in done.err and "a.port" in done.err
    assert ":7" in done.err and "b.grace" in done.err


# -- as another user ----------------------------------------------------------------------------------------------

AS_NOBODY = """
import codecs, difflib, importlib, os, pkgutil, psutil, pwd, sys, tabulate
import invoke.program, ops
for found in pkgutil.walk_packages(ops.__path__, "ops."):
    if not found.name.startswith("ops.sample"):
        importlib.import_module(found.name)
[codecs.lookup(name) for name in ("ascii", "latin-1", "utf-8-sig")]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
invoke.program.Program(namespace=ops.commands.namespace(), name="inv", binary="inv").run()
"""


@pytest.fixture
def open_stack() -> Iterator[Stack]:
    """A stack in a folder that every user may look into; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Stack(Path(folder))
        try:
            yield made
        finally:
            made.end()


def as_nobody(stack: Stack, *args: str) -> Done:
    """A command by a user who may not even look into root's folders, where this Python may be: it loads first."""
    child = stack.spawn(
        [sys.executable, "-c", AS_NOBODY, *args],
        cwd=stack.folder,
        env={**stack.env, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = child.communicate(timeout=60)
    return Done(list(args), child.returncode, out, err, 0.0)


@needs_root
def test_an_inventory_that_this_user_may_not_read(open_stack: Stack) -> None:
    stack = open_stack
    stack.tiny()
    stack.write()
    (stack.folder / "inventory.yaml").chmod(0o600)
    done = as_nobody(stack, "start", "--json")
    assert done.code == 1, str(done)
    assert "may not be read by this user" in done.err
    assert "may not be read by this user" in done.document["error"]
    assert not stack.state.exists()


@needs_root
def test_a_state_folder_that_belongs_to_another_user(open_stack: Stack) -> None:
    stack = open_stack
    stack.tiny()
    stack.write()
    stack.ok("start")
    before = snapshot(stack)
    done = as_nobody(stack, "stop", "--json")
    assert done.code == 1, str(done)
    assert "belongs to user root, not to you" in done.err
    assert re.search(r"next:   sudo -u root -H .*/inv stop --json$", done.document["error"])
    for line in ("status", "health", "tail api --no-follow", "alerts"):  # else each would tell an untruth
        told = as_nobody(stack, *line.split())
        assert (told.code, told.out) == (1, ""), str(told)
        assert "belongs to user root, not to you" in told.err
    assert snapshot(stack) == before


@needs_root
def test_root_is_refused_too(stack: Stack) -> None:
    """What root starts in another user's folder, that user could not stop."""
    stack.tiny()
    stack.write()
    stack.state.mkdir()
    os.chown(stack.state, NOBODY, NOBODY)
    for line in ("start", "stop", "reset", "restart-one api", "hold api", "start --check"):
        done = refused(stack, *line.split())
        assert "belongs to user nobody, not to you" in done.err
        assert re.search(rf"next:   sudo -u nobody -H .*/inv {line}$", done.err, re.MULTILINE)
    assert stack.inv("status").code == 2  # root may look
    assert list(stack.state.iterdir()) == []


def test_the_same_stack_from_another_folder_is_no_stack_that_is_down(stack: Stack, tmp_path: Path) -> None:
    stack.tiny()
    stack.write()
    at_home = {"OPS_STATE": ""}
    stack.ok("start", env=at_home)
    copy = tmp_path / "copy"
    shutil.copytree(stack.folder, copy)
    for line in ("status", "health --json", "start"):
        done = stack.inv(*line.split(), env=at_home, cwd=str(copy))
        assert done.code == 1, str(done)
        assert f"already runs from {stack.folder}" in done.err
    assert stack.ok("status", env=at_home)


# -- services that cannot be had as they are told -----------------------------------------------------------------


def test_a_command_or_folder_that_does_not_exist_fails_alone(stack: Stack) -> None:
    stack.tiny("good", needs=["no-command"])
    stack.add("no-command", ["definitely-not-there", "x"])
    stack.add("no-script", ["./not-there.sh"])
    stack.add("no-folder", ["sleep", "100"], cwd="not/there")
    stack.write()
    done = stack.inv("start", "--json")
    assert done.code == 2
    assert done.states == {"good": "changed", "no-command": "failed", "no-script": "failed", "no-folder": "failed"}
    assert "'definitely-not-there' was not found" in done.outcomes["no-command"]["detail"]
    assert "on the PATH" in done.outcomes["no-command"]["detail"]
    assert "'./not-there.sh' was not found" in done.outcomes["no-script"]["detail"]
    assert f"{stack.folder}/not/there does not exist" in done.outcomes["no-folder"]["detail"]
    assert all("next:" in one["detail"] for one in done.outcomes.values() if one["state"] == "failed")
    assert {one.pid for one in stack.running()} == {stack.pid("good")}


@needs_root
def test_a_log_path_that_is_not_ours_is_left_and_told(stack: Stack) -> None:
    theirs = stack.public / "theirs.txt"
    theirs.write_text("theirs\n")
    link = stack.public / "api.log"
    link.symlink_to(theirs)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    stack.tiny("api")
    stack.tiny("gone", log=str(stack.public / "no" / "such" / "folder.log"))
    stack.tiny("folder", log=str(stack.public))
    stack.write()
    done = stack.ok("start", "--json")
    assert set(done.states.values()) == {"changed"}
    assert f"api: log {link}: user nobody's symlink: left alone; the log itself is" in done.err
    assert "gone: log " in done.err and "does not exist" in done.err
    assert f"folder: log {stack.public}: a directory: left alone" in done.err
    assert theirs.read_text() == "theirs\n"
    assert os.readlink(link) == str(theirs)
    for name in ("api", "gone", "folder"):
        assert "listening" in (stack.state / "logs" / f"{name}.log").read_text()
    again = stack.ok("start", "--json")  # what is not ours to mend is no change, again and again
    assert set(again.states.values()) == {"ok"}


@needs_root
def test_a_log_path_that_is_not_writable_keeps_no_service_down(open_stack: Stack) -> None:
    open_stack.add("worker", ["sleep", "1000"], port=None)
    open_stack.write()
    open_stack.state.mkdir()
    os.chown(open_stack.state, NOBODY, NOBODY)
    done = as_nobody(open_stack, "start", "--json")
    stopped = as_nobody(open_stack, "stop", "--json")  # that user's processes are not ours to end
    assert done.code == 0, str(done)
    assert done.states == {"worker": "changed"}
    assert f"worker: log {open_stack.public}/worker.log: {open_stack.public} is not writable" in done.err
    assert list(open_stack.public.iterdir()) == []
    assert re.fullmatch(r"ended pid \d+", stopped.outcomes["worker"]["detail"])  # it ran


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"schema": 1, "process": {"pid": "x"}}', b"[" * 100_000],
    ids=["empty", "cut", "no pid", "deep"],
)
def test_f48_a_corrupt_record_is_rebuilt_from_what_runs(stack: Stack, content: bytes) -> None:
    stack.tiny()
    stack.write()
    stack.ok("start")
    (running,) = stack.running()
    record = stack.state / "services" / "api.json"
    (stack.state / "wanted.json").write_bytes(content)
    record.write_bytes(content)
    seen = stack.ok("status", "--json").services["api"]
    assert (seen["state"], seen["pid"]) == ("up", running.pid)
    assert record.read_bytes() == content  # looking mends nothing
    taken = stack.ok("start", "--json")
    assert taken.states == {"api": "changed"}
    assert "adopted" in taken.outcomes["api"]["detail"]
    assert stack.running() == [running]
    assert json.loads(record.read_text())["process"]["pid"] == running.pid


# -- nobody there, nowhere to write -------------------------------------------------------------------------------


def test_without_a_terminal(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    stack.ok("start", start_new_session=True, env={"TERM": "", "LANG": "C"})
    assert "\x1b" not in stack.ok("health", env={"TERM": "xterm"}).out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_is_not_utf_8(stack: Stack, encoding: str) -> None:
    stack.tiny("api")
    stack.write()
    logs = stack.state / "logs"
    logs.mkdir(parents=True)
    (logs / "api.log").write_text("snowman \u2603\n")
    done = stack.ok("tail", "api", "--no-follow", env={"PYTHONIOENCODING": encoding})
    assert done.out == "snowman \\u2603\n"
    refused = stack.inv("restart-one", "\u2603", env={"PYTHONIOENCODING": encoding})
    assert refused.code == 1
    assert refused.err.startswith("error: unknown service '\\u2603'")


def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@contextlib.contextmanager
def nowhere(kind: str) -> Iterator[int]:
    descriptor = closed_pipe() if kind == "pipe" else os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_law_7_a_start_that_cannot_print_is_carried_out(stack: Stack) -> None:
    names = ("a", "b", "c")
    for name in names:
        stack.tiny(name, needs=[other for other in names if other < name])
    stack.write()
    for kind, flags, code in (("full", (), 2), ("pipe", (), 0), ("full", ("--json",), 2), ("pipe", ("--json",), 0)):
        with nowhere(kind) as descriptor:
            done = stack.inv("start", *flags, stdout=descriptor)
        assert done.code == code, (kind, flags, str(done))
        assert {name for name in names if stack.running(name)} == set(names)
        assert "Traceback" not in done.err and "Exception ignored" not in done.err
        assert ("standard output cannot be written: No space left on device" in done.err) == (kind == "full")
        with nowhere(kind) as descriptor:
            assert stack.inv("stop", *flags, stdout=descriptor).code == code
        assert not stack.running()
    with nowhere("full") as descriptor:
        assert stack.inv("start", "--json", stderr=descriptor).states == dict.fromkeys(names, "changed")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("line", ["status", "health --json", "tail pg-api --no-follow", "check-inventory", "alerts"])
def test_a_report_that_cannot_be_written(up: Stack, line: str) -> None:
    with nowhere("pipe") as descriptor:
        gone = up.inv(*line.split(), stdout=descriptor)
    assert (gone.code, gone.err) == (0, "")
    with nowhere("full") as descriptor:
        full = up.inv(*line.split(), stdout=descriptor)
    assert full.code == 2
    assert full.err.splitlines() == ["error: standard output cannot be written: No space left on device"]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_with_closed_standard_streams(stack: Stack, closed: str) -> None:
    """What is opened next must not become standard output: a lock file, or a service's log."""
    stack.tiny()
    stack.write()
    shell = shutil.which("sh") or "/bin/sh"
    child = stack.spawn(
        [shell, "-c", f'exec "$0" -m invoke start {closed}', sys.executable], cwd=stack.folder, env=stack.env
    )
    assert child.wait(60) == 0
    (running,) = stack.running()
    status = stack.ok("status", "--json").services["api"]
    assert (status["pid"], status["state"]) == (running.pid, "up")
    assert {json.loads(path.read_text())["pid"] for path in (stack.state / "locks").iterdir()} == {child.pid}


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_law_6_ctrl_c_in_the_middle_of_a_start(stack: Stack, flags: tuple[str, ...]) -> None:
    stack.tiny("quick")
    stack.tiny("late", "--after=4", needs=["quick"], start_timeout=60)
    stack.tiny("last", needs=["late"])
    stack.write()
    child = stack.popen("start", *flags)
    (late,) = until(lambda: stack.running("late"), 30)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "interrupted" in err
    assert "  next:   inv start\n" in err
    assert "Traceback" not in err
    if flags:
        document = json.loads(out)
        assert [one["service"] for one in document["outcomes"]] == ["quick"]
        assert "interrupted" in document["error"]
    else:
        assert out.splitlines()[-1] == "localhost : ok=1 changed=1 unreachable=0 failed=0 skipped=0"
    assert not stack.running("last")
    again = stack.ok("start", "--json")
    assert again.states["quick"] == "ok"
    assert again.states["last"] == "changed"
    assert stack.running("late") == [late]  # it was waited for, not started twice


@pytest.mark.parametrize(("line", "carries_on"), [("stop --only slow", "inv stop --only slow"), ("reset", "inv start")])
def test_law_6_ctrl_c_while_services_end_names_the_line_that_carries_on(
    stack: Stack, line: str, carries_on: str
) -> None:
    stack.tiny("slow", "--deaf", grace=100)
    stack.tiny("other")
    stack.write()
    stack.ok("start")
    (slow,) = stack.running("slow")
    child = stack.popen(*line.split())
    record = stack.state / "services" / "slow.json"
    until(lambda: json.loads(record.read_text())["stopping"], 30)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-2:] == ["error: interrupted", f"  next:   {carries_on}"]
    assert stack.running("slow") == [slow]
    process.send(slow, signal.SIGKILL)  # so that it need not be waited for
    assert stack.inv(*carries_on.split()[1:], "--json").code == 0


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (Request("start", ("a", "b"), options={"refresh_env": True}), "inv start --only a,b --refresh-env"),
        (Request("start", check=True), "inv start --check"),
        (Request("stop"), "inv stop"),
        (Request("restart"), "inv start"),
        (Request("restart", ("a",)), "inv start --only a"),
        (Request("restart-one", ("a",), options={"refresh_env": True}), "inv start --only a"),
        (Request("reset", ("a",)), "inv start --only a"),
        (Request("hold", ("a",)), "inv hold a"),
        (Request("kill-port", options={"port": 5103, "force": True}), "inv kill-port 5103 --force"),
    ],
)
def test_what_carries_on_is_a_whole_line_with_the_same_scope(request_: Request, line: str) -> None:
    assert carrying_on(request_) == line


def test_ctrl_c_in_a_report_and_between_tasks(stack: Stack) -> None:
    stack.tiny("api", "--after=30", start_timeout=60)
    stack.write()
    child = stack.popen("start", "health")  # the chain ends, too
    until(lambda: stack.running("api"), 30)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "NOT healthy" not in out
    assert "Traceback" not in err


def test_the_files_here_are_what_they_say() -> None:
    """The bomb is one only when it would grow beyond all bounds; the tagged file only when YAML would run it."""
    assert len(yaml.safe_load(BOMB)["i"]) == 9
    assert len(BOMB) < 1000
