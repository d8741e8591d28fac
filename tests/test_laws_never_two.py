"""Law 1: never two. However many commands run at once, and wherever one is killed, a service lives at most once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ops.host import process
from tests.census import Census
from tests.scene import recorded
from tests.stack import TINY, Stack
from tests.waiting import until

WORKER = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(60)"


@contextmanager
def never_two(stack: Stack) -> Iterator[Census]:
    """Fails when two copies of a service were alive at one moment within."""
    with Census(stack) as census:
        yield census
    assert census.failure is None
    assert census.looks > 10
    assert census.twice == []


def begun(stack: Stack, name: str) -> int:
    """How often a service was started so far, by its log."""
    try:
        return (stack.state / "logs" / f"{name}.log").read_text().splitlines().count("begun")
    except FileNotFoundError:
        return 0


def copies(stack: Stack) -> Counter[str]:
    """How many processes of each service there are."""
    return Counter(value.split("/")[1] for _, value in process.carrying("OPS_RUN", f"{stack.name}/"))


def three(stack: Stack) -> None:
    """Two servers and a worker without a port, of which the kernel would not refuse a second one."""
    stack.tiny("api", "--print=begun")
    stack.tiny("web", "--print=begun", needs=["api"])
    stack.add("worker", [sys.executable, "-S", "-c", WORKER], port=None)
    stack.write()


def test_law_1_the_census_sees_two(stack: Stack) -> None:
    marked = {"OPS_RUN": f"{stack.name}/api/a"}
    census = Census(stack)
    with census:
        stack.spawn(["sleep", "60"], env=marked)
        stack.spawn(["sleep", "60"], env=marked)
        until(lambda: census.twice)
    assert {name for name, _ in census.twice} == {"api"}


def test_law_1_twenty_starts_at_once(stack: Stack) -> None:
    three(stack)
    with never_two(stack):
        commands = [stack.popen("start") for _ in range(20)]
        for command in commands:
            out, err = command.communicate(timeout=100)
            assert command.returncode == 0, out + err
    assert copies(stack) == {"api": 1, "web": 1, "worker": 1}
    assert {name: begun(stack, name) for name in stack.services} == {"api": 1, "web": 1, "worker": 1}


LATE = """
import os, sys, time
print('begun', flush=True)
while not os.path.exists('go'): time.sleep(0.01)
os.execv(sys.executable, [sys.executable, '-S', *sys.argv[1:]])
"""
# The probe of the second command fails, having waited for what the first one says meanwhile: healthy, and recorded so.
PROBE = """
import json, os, sys, time
asks = open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')
if '--timeout' in asks and not os.path.exists('asked'):
    open('asked', 'w').close()
    open('go', 'w').close()
    while not json.load(open(sys.argv[1]))['ready_at']: time.sleep(0.01)
    sys.exit(1)
sys.exit(not os.path.exists('go'))
"""


def test_law_1_what_became_healthy_while_it_was_asked_is_not_restarted(stack: Stack) -> None:
    (stack.folder / "probe.py").write_text(PROBE)
    record = str(stack.state / "services" / "api.json")
    probe = {"command": [sys.executable, "-S", "probe.py", record], "every": 1, "timeout": 9}
    command = ["{python}", "-S", "-c", LATE, str(TINY), "{port}"]
    stack.add("api", command, start_timeout=60, health=[probe])
    stack.write()
    first = stack.popen("start")
    until(lambda: begun(stack, "api") == 1)
    second = stack.inv("start", "--timeout", "50")
    assert first.wait(60) == 0
    assert (stack.folder / "asked").exists()
    assert second.code == 0, second
    assert begun(stack, "api") == 1


def test_law_1_a_start_whose_service_an_earlier_reset_ends_has_not_failed(stack: Stack) -> None:
    """It found the wish of that reset, so nobody wished anything after it; the reset is to start the service again."""
    unwell = stack.folder / "unwell"
    stack.tiny("api", f"--mode={unwell}", start_timeout=60)
    stack.tiny("web", "--deaf", needs=["api"], grace=3)
    stack.tiny("slow", "--deaf", grace=6)
    stack.write()
    stack.ok("start")
    stack.ok("stop", "--only", "api")
    unwell.write_text("500")
    reset = stack.popen("reset", "--json")
    until(lambda: recorded(stack, "web")["stopping"])
    start = stack.popen("start", "--only", "api", "--json")
    until(lambda: stack.running("api"))
    out, err = start.communicate(timeout=60)
    assert reset.poll() is None, "the start was to end while the reset had yet to begin with that half"
    (outcome,) = json.loads(out)["outcomes"]
    assert outcome["state"] == "skipped", out + err
    assert "superseded by inv reset" in outcome["detail"]
    unwell.unlink()
    out, err = reset.communicate(timeout=60)
    assert reset.returncode == 0, out + err


def interleave(stack: Stack, seed: int, many: int) -> None:
    """`many` commands, drawn by the seed, three at a time, each begun at a random moment of the others."""
    dice = random.Random(seed)
    names = list(stack.services)
    draw = [
        lambda: ["start"],
        lambda: ["start", "--only", dice.choice(names)],
        lambda: ["stop"],
        lambda: ["stop", "--only", dice.choice(names)],
        lambda: ["restart"],
        lambda: ["restart-one", dice.choice(names)],
        lambda: ["reset", "--only", dice.choice(names)],
        lambda: ["reset"],
    ]
    running: list[subprocess.Popen[str]] = []
    for _ in range(many):
        running.append(stack.popen(*dice.choice(draw)(), "--json"))
        time.sleep(dice.random() * 0.2)  # not a wait: the random moment itself
        while len(running) >= 3:
            done_or_superseded(running.pop(dice.randrange(len(running))), seed)
    for command in running:
        done_or_superseded(command, seed)


def done_or_superseded(command: subprocess.Popen[str], seed: int) -> None:
    """Waits for it: nothing of it has failed. (Its exit code may tell of what another one is just ending.)"""
    out, err = command.communicate(timeout=60)
    assert command.returncode in (0, 2), f"seed {seed}, {command.args}\n{out}\n{err}"
    states = {outcome["state"] for outcome in json.loads(out)["outcomes"]}
    assert states <= {"ok", "changed", "skipped"}, f"seed {seed}, {command.args}\n{out}\n{err}"


def test_law_1_random_interleavings(stack: Stack) -> None:
    three(stack)
    for name in stack.services:
        stack.services[name].update(grace=10)
    stack.write()
    for seed in (1, 2):
        with never_two(stack):
            interleave(stack, seed, 10)
        stack.ok("start")
        assert copies(stack) == {"api": 1, "web": 1, "worker": 1}, seed
    before = {name: begun(stack, name) for name in stack.services}
    stack.ok("start")  # nobody is left who still wants something else
    assert before == {name: begun(stack, name) for name in stack.services}


def test_law_1_a_start_killed_at_any_moment(stack: Stack) -> None:
    three(stack)
    dice = random.Random(7)
    with never_two(stack):
        for turn in range(4):
            command = stack.popen("start")
            time.sleep(dice.uniform(0.05, 0.45))  # not a wait: the random moment itself
            command.kill()
            command.wait(10)
            stack.ok("start")
            assert copies(stack) == {"api": 1, "web": 1, "worker": 1}, turn
            if turn % 2:
                stack.ok("stop")
                assert not stack.running()


def test_law_1_a_start_killed_between_spawn_and_record(stack: Stack) -> None:
    """The service itself kills who starts it, as its first deed: mostly before that could write a record."""
    murder = stack.folder / "murder"
    script = f'echo begun; if [ -e {murder} ]; then kill -9 $PPID; fi; exec "$@"'
    stack.tiny("api")
    stack.services["api"]["command"] = ["/bin/sh", "-c", script, "sh", sys.executable, "-S", str(TINY), "{port}"]
    stack.add("worker", ["/bin/sh", "-c", script, "sh", sys.executable, "-S", "-c", "import time\ntime.sleep(1e6)"])
    stack.services["worker"].pop("port")
    stack.write()
    unrecorded = 0
    with never_two(stack):
        for turn in range(1, 5):
            murder.touch()
            assert stack.inv("start").code == -9
            murder.unlink()
            left = copies(stack)
            recorded = {path.stem for path in (stack.state / "services").glob("*.json")}
            unrecorded += len(set(left) - recorded)
            assert left
            done = stack.ok("start", "--json")
            assert copies(stack) == {"api": 1, "worker": 1}, str(done)
            assert [begun(stack, name) for name in ("api", "worker")] == [turn, turn]
            for name in left:
                assert done.outcomes[name]["before"] in ("up", "starting"), str(done)
            stack.ok("stop")
            assert not stack.running()
    assert unrecorded, "never hit the moment it is about"


def test_law_1_lost_records_of_everything_that_runs(stack: Stack) -> None:
    """The same moment without luck: what a kill between spawn and record leaves behind is a run without record."""
    three(stack)
    stack.ok("start")
    pids = {one.pid for one in stack.running()}
    for path in (stack.state / "services").iterdir():
        path.unlink()
    with never_two(stack):
        done = stack.ok("start", "--json")
    assert {one.pid for one in stack.running()} == pids
    assert set(done.states.values()) == {"changed"}
    assert all("adopted" in outcome["detail"] for outcome in done.outcomes.values())
    for path in (stack.state / "services").iterdir():
        path.unlink()
    stack.ok("stop")
    assert not stack.running()
