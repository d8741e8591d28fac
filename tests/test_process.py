"""Processes: identity, trees, and signals that cannot hit a stranger, on real processes."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.host import process, terminate
from ops.model import Process
from tests.waiting import until

HOLD = "import time\nprint('up', flush=True)\nwhile True: time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + HOLD
NOBODY = 65534
BORN = "TEST_PROCESS_RUN"  # the marker of this file's own processes

Run = Callable[..., "subprocess.Popen[str]"]

linux = pytest.mark.skipif(not process.LINUX, reason="reads /proc")
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts Python code as a process, waits for its first line, and ends its whole session afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str = HOLD, *args: str, **more: object) -> subprocess.Popen[str]:
        argv = more.pop("argv", None) or [sys.executable, "-S", "-c", code, *args]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True, **more)  # type: ignore[call-overload]
        started.append(child)
        assert child.stdout
        child.first = child.stdout.readline().strip()  # type: ignore[attr-defined]
        return child

    yield start
    for child in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
        if child.stdout:
            child.stdout.close()


@pytest.fixture
def zombie() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


def who(child: subprocess.Popen[str] | int) -> Process:
    found = process.identify(child if isinstance(child, int) else child.pid)
    assert found
    return found


def as_nobody(code: str) -> str:
    """Runs code here, in a child that is nobody; what it left in `said`. Nobody may be unable to read the standard
    library (a Python under /root), so all that is needed is imported before."""
    process.boot_id()
    terminate.end(list, clock=time.monotonic)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            names: dict[str, object] = {"process": process, "terminate": terminate, "signal": signal, "time": time}
            exec(code, names)
            said = str(names["said"])
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


# -- identity --------------------


def test_a_process_is_its_pid_birth_and_boot(run: Run) -> None:
    child = run()
    one = who(child)
    assert one == who(child)
    assert one.boot == process.boot_id() != ""
    assert process.alive(one)
    for other in (
        replace(one, birth=one.birth - 3),
        replace(one, birth=one.birth + 3),
        replace(one, boot="another boot"),
        replace(one, pid=os.getpid()),
    ):
        assert not process.alive(other)
        assert not process.same(other, process.entry(other.pid))


def test_births_follow_the_order_of_starting(run: Run) -> None:
    first = who(run())
    time.sleep(0.05)  # the kernel counts in ticks of 10 ms
    assert first.birth < who(run()).birth


def test_nobody_is_identified_where_nobody_is(run: Run) -> None:
    child = run()
    one = who(child)
    child.kill()
    child.wait(timeout=10)
    assert process.entry(child.pid) is None
    assert process.identify(child.pid) is None
    assert not process.alive(one)
    assert process.identify(-1) is None
    assert process.identify(2**40) is None


def test_f44_a_zombie_is_dead(zombie: int) -> None:
    line = process.entry(zombie)
    assert line
    assert line.dead
    assert line.state == "Z"
    assert process.identify(zombie) is None
    assert not process.alive(line.process())
    assert process.same(line.process(), line)
    assert process.descendants([zombie], {zombie: line}) == []
    assert process.send(line.process(), signal.SIGKILL) is False


@pytest.fixture
def dead_leader() -> Iterator[int]:
    """The number of a process group that has nobody in it but its leader, a zombie."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


@root
def test_a_group_of_zombies_alone_is_empty_whatever_the_kernel_says_of_it(dead_leader: int) -> None:
    """A Mac says EPERM of it; Linux does so to another user."""
    os.killpg(dead_leader, 0)
    assert process.group_is_empty(dead_leader)
    refused = "try:\n    os.killpg({0}, 0)\nexcept PermissionError:\n    said = process.group_is_empty({0})"
    assert as_nobody("import os\n" + refused.format(dead_leader)) == "True"


@root
def test_a_group_that_somebody_lives_in_is_not_empty_whoever_asks(run: Run) -> None:
    """Its leader is dead, and a child of it lives on."""
    forks = "import os, sys\nif os.fork() == 0:\n    " + HOLD.replace("\n", "\n    ") + "\nos._exit(0)"
    child = run(forks)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.group_is_empty(child.pid)
    refused = "try:\n    os.killpg({0}, 0)\nexcept PermissionError:\n    said = process.group_is_empty({0})"
    assert as_nobody("import os\n" + refused.format(child.pid)) == "False"
    os.killpg(child.pid, signal.SIGKILL)
    until(lambda: process.group_is_empty(child.pid))
    child.wait()
    assert process.group_is_empty(child.pid)


@linux
def test_a_process_whose_main_thread_has_ended_lives(run: Run) -> None:
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=lambda: [time.sleep(0.1) for _ in iter(int, 1)]).start()\n"
        "print('up', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = run(code)

    until(lambda: (line := process.entry(child.pid)) and line.state == "Z")
    line = process.entry(child.pid)
    assert line
    assert line.threads > 1
    assert not line.dead
    one = who(child)
    assert process.alive(one)
    assert process.send(one, signal.SIGKILL)
    child.wait(timeout=10)
    assert not process.alive(one)


@linux
def test_a_name_with_parentheses_and_spaces_does_not_shift_the_fields(run: Run, tmp_path: Path) -> None:
    odd = tmp_path / ") S 1 (x) Z 2"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        # Between fork and exec the child still has our name: only then may ppid and state be compared.
        until(lambda: process.command_line(child.pid)[:1] == [str(odd)])
        line = process.entry(child.pid)
        assert line
        assert line.ppid == os.getpid()
        assert line.session == os.getsid(child.pid)
        assert not line.dead
    finally:
        child.kill()
        child.wait(timeout=10)


# -- the table and trees --------------------


def test_the_table_has_everybody_with_parents(run: Run) -> None:
    child = run()
    table = process.table()
    assert table[child.pid].ppid == os.getpid()
    assert table[child.pid].session == child.pid
    assert table[os.getpid()].rss > 1_000_000
    assert 1 in table
    assert all(pid == line.pid for pid, line in table.items())


def test_descendants_include_children_in_sessions_of_their_own_parents_first(run: Run) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print('up', os.getppid(), os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "time.sleep(600)\n"
    )
    child = run(code)
    _, middle, last = child.first.split()  # type: ignore[attr-defined]
    try:
        found = [line.pid for line in process.descendants([child.pid], process.table())]
        assert found == [child.pid, int(middle), int(last)]
        assert [line.pid for line in process.descendants([int(middle)], process.table())] == [int(middle), int(last)]
        assert process.descendants([2**22 + 1], process.table()) == []
    finally:
        for pid in (int(last), int(middle)):
            os.kill(pid, signal.SIGKILL)


def test_ancestors_are_this_process_and_all_above_it_and_never_pid_1() -> None:
    above = process.ancestors()
    assert {0, 1, os.getpid(), os.getppid()} <= above
    assert process.ancestors(process.table()) == above


# -- what can be read of a process --------------------


def test_command_lines_of_odd_processes(run: Run) -> None:
    code = "import sys\n" + HOLD
    words = ["with space", "", "naïve", os.fsdecode(b"\xff\xfe"), "line\nbreak", "last"]
    child = run(code, *words)
    assert process.command_line(child.pid)[-len(words) :] == words
    assert process.command_line(2**22 + 1) == []


def test_describe_is_harmless_to_terminals_and_short(run: Run) -> None:
    child = run(HOLD, "\x1b[2J\x1b]0;owned\x07\u202e" + os.fsdecode(b"\xff") + "\n" + "x" * 500)
    text = process.describe(child.pid)
    assert text.isprintable()
    text.encode()
    assert text.startswith(f"pid {child.pid} (")
    assert len(text) < 200
    assert text.endswith(f", user {process.user_name(os.geteuid())}")


@linux
def test_a_kernel_thread_or_emptied_command_line_is_described(run: Run, zombie: int) -> None:
    assert process.command_line(zombie) == []
    assert "command not readable" in process.describe(zombie)
    assert process.variable(zombie, "PATH") is None
    assert "user unknown" in process.describe(2**22 + 1)


def test_variable_is_that_of_the_start_and_the_exact_name(run: Run) -> None:
    env = {"PATH": os.environ["PATH"], "ONE_MORE": "no", "ONE": "a=b c", "EMPTY": ""}
    child = run("import os; os.environ['ONE'] = 'later'\n" + HOLD, env=env)
    assert process.variable(child.pid, "ONE") == "a=b c"
    assert process.variable(child.pid, "EMPTY") == ""
    assert process.variable(child.pid, "ON") is None
    assert process.variable(2**22 + 1, "ONE") is None


def test_folder_program_and_owner(run: Run, tmp_path: Path) -> None:
    child = run(cwd=tmp_path)
    assert process.working_folder(child.pid) == str(tmp_path)
    assert os.path.realpath(str(process.program(child.pid))) == os.path.realpath(sys.executable)
    assert process.owner(child.pid) == os.geteuid()
    gone = 2**22 + 1
    assert (process.working_folder(gone), process.program(gone), process.owner(gone)) == (None, None, None)


def test_user_names() -> None:
    assert process.user_name(0) == "root"
    assert process.user_name(4_000_000_000) == "4000000000"
    assert process.user_name(None) == "unknown"


def test_terminal_is_told_only_when_the_output_is_one() -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-S", "-c", HOLD], stdout=theirs)
    plain = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    try:
        assert process.terminal(child.pid) == os.ttyname(theirs)
        assert process.terminal(plain.pid) is None
    finally:
        for one in (child, plain):
            one.kill()
            one.wait(timeout=10)
        os.close(ours)
        os.close(theirs)


# -- markers --------------------


def test_carrying_finds_marked_processes_by_prefix(run: Run) -> None:
    mine = f"{os.getpid()}-{time.monotonic_ns()}"
    one = run(env={**os.environ, BORN: f"{mine}/api/1"})
    run(env={**os.environ, BORN: f"{mine}x/api/1"})
    run(env={**os.environ, BORN + "2": f"{mine}/api/1"})
    run(HOLD, f"{BORN}={mine}/api/1")
    assert list(process.carrying(BORN, f"{mine}/")) == [(who(one), f"{mine}/api/1")]
    one.kill()
    until(lambda: process.identify(one.pid) is None)
    assert list(process.carrying(BORN, f"{mine}/")) == []  # a zombie carries nothing


@root
@linux
def test_carrying_leaves_other_users_processes_out(run: Run) -> None:
    mine = f"{os.getpid()}-{time.monotonic_ns()}"
    argv = ["/bin/sh", "-c", "echo up; exec sleep 600"]
    run(argv=argv, env={"PATH": "/usr/bin:/bin", BORN: f"{mine}/api/1"}, user=NOBODY, group=NOBODY, cwd="/")
    assert list(process.carrying(BORN, f"{mine}/")) == []
    code = f"said = [value for _, value in process.carrying({BORN!r}, {mine + '/'!r})]"
    assert as_nobody(code) == str([f"{mine}/api/1"])


# -- signals --------------------


def test_send_reaches_the_process_and_says_so(run: Run) -> None:
    child = run()
    assert process.send(who(child), signal.SIGTERM) is True
    assert child.wait(timeout=10) == -signal.SIGTERM


def test_f17_law_2_a_reused_pid_is_never_signalled(run: Run) -> None:
    child = run()
    one = who(child)
    for stale in (replace(one, birth=one.birth - 10), replace(one, boot="before")):
        assert process.send(stale, signal.SIGKILL) is False
    assert process.send(replace(one, pid=2**22 + 1), signal.SIGKILL) is False
    assert process.send(replace(one, pid=-child.pid), signal.SIGKILL) is False  # a negative pid means a whole group
    assert child.poll() is None
    assert process.alive(one)


def test_law_2_ancestors_and_pid_1_are_refused() -> None:
    for pid in {os.getpid(), os.getppid(), 1}:
        line = process.entry(pid)
        assert line
        with pytest.raises(PermissionError, match=f"pid {pid} "):
            process.send(line.process(), 0)
    with pytest.raises(PermissionError):
        process.send(Process(0, 0.0, process.boot_id()), 0)


@root
def test_f29_another_users_process_is_refused_by_the_system(run: Run) -> None:
    child = run()
    code = f"process.send(process.identify({child.pid}), signal.SIGKILL)\nsaid = 'sent'"
    assert as_nobody(code).startswith("PermissionError")
    assert child.poll() is None


@linux
def test_f45_without_a_descriptor_nobody_is_taken_for_dead(run: Run) -> None:
    """What cannot be known is an error: "it is gone" would let a second copy be started."""
    one = who(run())
    pid = os.fork()
    if pid == 0:
        import resource

        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            with contextlib.suppress(OSError):
                while True:
                    os.open("/dev/null", os.O_RDONLY)
            for look in (process.alive, process.identify, lambda p: process.send(p, signal.SIGTERM)):
                try:
                    look(one if look is not process.identify else one.pid)
                    code = 2
                    break
                except OpsError:
                    code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert process.alive(one)


# -- ending trees --------------------


def end(*roots: Process, grace: float = 10.0, **more: float) -> terminate.Ending:
    def find() -> list[Process]:
        table = process.table()
        pids = [one.pid for one in roots if process.same(one, table.get(one.pid))]
        return [line.process() for line in process.descendants(pids, table)]

    return terminate.end(find, grace=grace, clock=time.monotonic, **more)  # type: ignore[arg-type]


def test_end_is_graceful_first(run: Run) -> None:
    child = run("import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + HOLD)
    ending = end(who(child), grace=30)
    assert ending.left == ()
    assert not ending.killed
    assert [one.pid for one in ending.ended] == [child.pid]
    assert child.wait(timeout=10) == 7


def test_end_sends_the_stop_signal_that_was_asked_for(run: Run) -> None:
    # Said to it, since the tests may run with it ignored, which is inherited.
    child = run("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + HOLD)
    assert not end(who(child), grace=30, stop_signal=signal.SIGINT).killed
    assert child.wait(timeout=10) in (-signal.SIGINT, 130, 1)


def test_f10_a_term_deaf_process_is_killed_after_the_grace(run: Run) -> None:
    child = run(DEAF)
    begun = time.monotonic()
    ending = end(who(child), grace=0.3)
    assert ending.killed
    assert ending.left == ()
    assert time.monotonic() - begun >= 0.3
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_f5_a_stopped_process_is_continued_so_that_the_stop_signal_arrives(run: Run) -> None:
    child = run("import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + HOLD)
    one = who(child)
    os.kill(child.pid, signal.SIGSTOP)
    until(lambda: (line := process.entry(child.pid)) and line.stopped)
    ending = end(one, grace=30)
    assert not ending.killed
    assert child.wait(timeout=10) == 7


def test_f11_a_tree_that_grows_while_it_dies_is_ended_whole(run: Run, tmp_path: Path) -> None:
    """On TERM it leaves another TERM-deaf child behind, in a session of its own, and dies."""
    code = (
        "import os, signal, sys, time\n"
        "def grow(*_):\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        os.setsid()\n"
        "        open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "    time.sleep(0.7)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, grow)\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    note = tmp_path / "grown"
    child = run(code, str(note))
    try:
        ending = end(who(child), grace=2.0)
        grown = int(note.read_text())
        assert process.identify(grown) is None
        assert grown in [one.pid for one in ending.ended]
        assert ending.left == ()
        assert ending.killed
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(note.read_text()), signal.SIGKILL)


def test_end_of_nobody_is_nothing() -> None:
    assert terminate.end(list, clock=time.monotonic) == terminate.Ending((), (), False)


def test_end_says_who_refused_and_ends_the_others(run: Run) -> None:
    child = run()
    me = who(os.getpid())
    ending = terminate.end(lambda: [me, who(child)] if child.poll() is None else [me], grace=20, clock=time.monotonic)
    assert ending.left == (me,)
    assert "runs this very command" in ending.refused
    assert [one.pid for one in ending.ended] == [child.pid]
    assert not ending.killed


@root
def test_f29_end_does_not_wait_for_another_users_process(run: Run) -> None:
    child = run()
    code = (
        f"one = process.identify({child.pid})\n"
        "begun = time.monotonic()\n"
        "ending = terminate.end(lambda: [one], grace=60, clock=time.monotonic)\n"
        "said = (ending.left == (one,), ending.refused, time.monotonic() - begun < 30)\n"
    )
    assert as_nobody(code) == "(True, 'Operation not permitted', True)"
    assert child.poll() is None


def test_law_6_end_is_bounded_even_when_there_is_always_another(run: Run) -> None:
    """A process that cannot be killed is not to be had everywhere. A tree with a new member each time it is looked
    at stands for it: `end` comes back all the same, after the grace and the time for the KILL."""
    children = []

    def find() -> list[Process]:
        children.append(run())  # whatever became of the last one: it may be dying just now
        one = process.identify(children[-1].pid)
        return [one] if one else []

    ending = terminate.end(find, grace=0.2, kill_time=0.5, clock=time.monotonic)
    assert ending.killed
    assert ending.ended
    assert len(ending.ended) + len(ending.left) <= len(children)


# -- the two ways of reading the table --------------------


@linux
def test_psutil_and_proc_tell_the_same(run: Run, zombie: int) -> None:
    """The way that a Mac takes, held against /proc for everything that runs here and does not change meanwhile."""
    stopped = run()
    os.kill(stopped.pid, signal.SIGSTOP)
    until(lambda: (line := process.entry(stopped.pid)) and line.stopped)

    def agree(pid: int) -> bool:
        """Or it is gone. One that changes just now is looked at again: strace stops and continues all the time."""
        before, other, after = one_way(pid), other_way(pid), one_way(pid)
        if before is None or after is None or other is None or before.birth != after.birth:
            return one_way(pid) is None
        same = other_way(pid)
        return (
            (other.pid, other.ppid, other.session) in [(b.pid, b.ppid, b.session) for b in (before, after)]
            and other.dead in (before.dead, after.dead)
            and other.stopped in (before.stopped, after.stopped)
            and (same is None or same.birth == other.birth)  # the same unit each time is all that `same` needs
        )

    one_way, other_way = process._entry_from_proc, process._entry_from_psutil
    for pid in [*process.pids(), stopped.pid, zombie, os.getpid()]:
        until(lambda pid=pid: agree(pid))
    assert all(other_way(pid) for pid in (stopped.pid, zombie, os.getpid()))
    assert process._entry_from_psutil(2**22 + 1) is None
