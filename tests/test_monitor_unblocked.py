"""The loop's own thread never looks at the machine: on a Mac each look at sockets is an lsof, and nobody would be
restarted meanwhile. Held by the interpreter's audit events, which tell what a thread opens and lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.scene import alone, ended, record_path, recorded, stranger
from tests.stack import PYTHON, Stack
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, lines, restarts, root, state, sweeps

ROOT = Path(__file__).resolve().parent.parent

# The monitor, which notes in a file each look at processes or sockets: by which thread, and whether its loop turned.
NOTING = f"""
import sys, threading
sys.path.insert(0, {str(ROOT)!r})
from ops.watch.monitor import Way, monitor

state, inventory, notes = sys.argv[3], sys.argv[5], open(sys.argv[6], "a")
LOOKS = {{("socket.__new__", 16): "sockets", ("os.listdir", "/proc"): "processes"}}

def turning(frame):
    while frame is not None:
        if frame.f_code.co_name == "turn" and frame.f_code.co_filename.endswith("reactor.py"):
            return True
        frame = frame.f_back
    return False

def hook(event, arguments):
    if event == "socket.__new__":
        what = LOOKS.get((event, int(arguments[1])))
    else:
        what = LOOKS.get((event, arguments[0])) if event == "os.listdir" else None
    if what:
        print(threading.current_thread().name, turning(sys._getframe()), what, file=notes, flush=True)

sys.addaudithook(hook)
sys.exit(monitor(state, inventory, Way(foreground=True)))
"""


def noting(stack: Stack) -> Path:
    """Starts that monitor; where it notes."""
    notes = stack.folder / "looks"
    where = ["--state", str(stack.state), "--inventory", str(stack.folder / "inventory.yaml")]
    stack.spawn([PYTHON, "-I", "-c", NOTING, "monitor", *where, str(notes)], env=stack.env)
    return notes


def looks(notes: Path) -> set[tuple[str, ...]]:
    return {tuple(line.split()) for line in notes.read_text().splitlines()} if notes.exists() else set()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' ways of looking are noted")
def test_adoption_and_foreign_ports_are_looked_at_in_a_thread_and_not_by_the_loop(stack: Stack) -> None:
    stack.tiny("api")
    port = stack.tiny("web")
    stack.ops.update(interval=1)
    stack.write()
    stack.ok("start", "--only", "api")
    other = stranger(stack, port)
    pid = alone(stack).pid
    record_path(stack).unlink()  # it runs, and nobody knows
    notes = noting(stack)
    until(lambda: state(stack) == "up" and state(stack, "web") == "foreign", PATIENCE)
    assert recorded(stack)["process"]["pid"] == answerer(stack) == pid
    assert len(lines(stack, "monitor", " api adopted: ", str(pid))) == 1 and restarts(stack) == 0
    sweeps(stack)
    assert state(stack, "web") == "foreign" and restarts(stack, "web") <= 1
    other.kill()
    other.wait()
    until(lambda: state(stack, "web") == "up", PATIENCE)
    before = root(stack)
    ended(before)
    back(stack, before)
    sweeps(stack)
    seen = looks(notes)
    assert {("patrol", "False", what) for what in ("sockets", "processes")} <= seen, "nothing was noted"
    assert not {one for one in seen if one[1] == "True"}, "the loop has looked itself"


def test_what_runs_unrecorded_is_adopted_only_when_its_lock_is_free(stack: Stack) -> None:
    """A command may be ending it, or about to record it."""
    stack.tiny("api")
    stack.ops.update(interval=1)
    stack.write()
    stack.ok("start")
    pid = alone(stack).pid
    record_path(stack).unlink()
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom ops.memory import locks\n"
        "with locks.held(sys.argv[2], [], 5, 'a test'):\n    print(flush=True)\n    sys.stdin.read()\n"
    )
    lock = str(stack.state / "locks" / "api")
    holder = stack.spawn([PYTHON, "-I", "-c", code, str(ROOT), lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    notes = noting(stack)
    sweeps(stack, 2)
    assert not record_path(stack).exists() and not lines(stack, "monitor", " api adopted")
    holder.stdin.close()
    until(lambda: state(stack) == "up", PATIENCE)
    assert recorded(stack)["process"]["pid"] == alone(stack).pid == pid
    assert len(lines(stack, "monitor", " api adopted: ")) == 1 and restarts(stack) == 0
    assert not {one for one in looks(notes) if one[1] == "True"}, "the loop has looked itself"
