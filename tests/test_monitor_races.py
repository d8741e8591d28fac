"""Commands against commands against a running monitor, and whoever is killed meanwhile: never two, the last wish wins.

The census (test_laws_never_two) looks at the process table all the time: two living copies of a service at one moment
are a failure, however short that moment was. What is being ended counts as living until it is gone.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ops.host import process
from ops.model import Process
from tests.scene import recorded
from tests.stack import Stack
from tests.test_laws_never_two import WORKER, begun, copies, never_two
from tests.waiting import until

PATIENCE = 40.0  # seconds; the machine may be busy


def three(stack: Stack) -> None:
    """Two servers and a worker without a port, of which the kernel would not refuse a second one; and a monitor."""
    stack.tiny("api", "--print=begun", grace=10)
    stack.tiny("web", "--print=begun", needs=["api"], grace=10)
    stack.add("worker", [sys.executable, "-S", "-c", WORKER], port=None, grace=10)
    stack.ops.update(monitor=True, attempts=100_000, delay=0, calm=0, interval=1)
    stack.write()
    stack.ok("start")


def root(stack: Stack, name: str) -> Process | None:
    """The recorded process, if it lives."""
    try:
        one = Process(**recorded(stack, name)["process"])
    except (OSError, ValueError, KeyError):
        return None
    return one if process.alive(one) else None


@contextmanager
def killing(stack: Stack, seed: int, pause: float) -> Iterator[list[str]]:
    """Kills a service now and then within; whose processes they were."""
    dice, over, killed = random.Random(seed), threading.Event(), []

    def work() -> None:
        while not over.wait(dice.uniform(0, 2 * pause)):
            name = dice.choice(list(stack.services))
            one = root(stack, name)
            if one and process.send(one, signal.SIGKILL):
                killed.append(name)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join(10)


def wanted_runs(stack: Stack) -> bool:
    """Whether there is one each of what wanted.json says, and nothing else. What is held may be either."""
    said: dict[str, Any] = json.loads((stack.state / "wanted.json").read_text())["services"]
    there = copies(stack)
    return all(there[name] == wish["up"] or (wish["held"] and there[name] == 0) for name, wish in said.items())


def steady(stack: Stack, seconds: float) -> None:
    """Nobody is started or ended for so long: whoever still fought would do so."""

    def look() -> set[Process]:
        return set(stack.running())

    before, until_then = look(), time.monotonic() + seconds
    while time.monotonic() < until_then:
        time.sleep(0.1)  # not a wait: what is looked for is that nothing happens
        assert look() == before


def test_f20_ten_starts_at_once_while_services_are_killed_under_the_monitor(stack: Stack) -> None:
    three(stack)
    monitor = stack.watcher("monitor")
    with never_two(stack):
        with killing(stack, 1, 0.15) as killed:
            commands = [stack.popen("start", "--json") for _ in range(10)]
            answers = [command.communicate(timeout=100) for command in commands]
        until(lambda: copies(stack) == {"api": 1, "web": 1, "worker": 1}, PATIENCE)
    assert len(killed) > 5
    for command, (out, err) in zip(commands, answers, strict=True):
        assert command.returncode in (0, 2), out + err  # it may have seen one that was just killed
        assert "Traceback" not in err
    stack.ok("start")
    assert copies(stack) == {"api": 1, "web": 1, "worker": 1}
    assert stack.watcher("monitor") == monitor


def interleave(stack: Stack, seed: int, seconds: float) -> None:
    """Commands drawn by the seed, three at a time, each begun at a random moment of the others."""
    dice = random.Random(seed)
    names = list(stack.services)
    draw: list[Callable[[], list[str]]] = [
        lambda: ["start"],
        lambda: ["start", "--only", dice.choice(names)],
        lambda: ["stop", "--only", dice.choice(names)],
        lambda: ["stop", "--only", ",".join(names)],
        lambda: ["restart-one", dice.choice(names)],
        lambda: ["hold", dice.choice(names)],
        lambda: ["release", dice.choice(names)],
        lambda: ["release", dice.choice(names)],
    ]
    running: list[subprocess.Popen[str]] = []
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        running.append(stack.popen(*dice.choice(draw)(), "--json"))
        time.sleep(dice.random() * 0.3)  # not a wait: the random moment itself
        while len(running) >= 3:
            finished(running.pop(dice.randrange(len(running))), seed)
    for command in running:
        finished(command, seed)


def finished(command: subprocess.Popen[str], seed: int) -> None:
    out, err = command.communicate(timeout=100)
    assert command.returncode in (0, 2), f"seed {seed}, {command.args}\n{out}\n{err}"
    assert "Traceback" not in err


def test_f21_the_last_wish_wins_against_the_monitor_and_everybody_else(stack: Stack) -> None:
    three(stack)
    monitor, guard = stack.watcher("monitor"), stack.watcher("guard")
    for seed in (1, 2):
        with never_two(stack):
            with killing(stack, seed, 0.3):
                interleave(stack, seed, 6)
            until(lambda: wanted_runs(stack), PATIENCE)
            steady(stack, 2)
    assert (stack.watcher("monitor"), stack.watcher("guard")) == (monitor, guard)
    for name in stack.services:
        stack.ok("release", name)
    stack.ok("stop", "--only", ",".join(stack.services))
    steady(stack, 2)
    assert not stack.running()
    stack.ok("start")
    assert copies(stack) == {"api": 1, "web": 1, "worker": 1}
    before = {name: begun(stack, name) for name in stack.services}
    steady(stack, 1.5)
    assert before == {name: begun(stack, name) for name in stack.services}


def test_f21_a_stop_beats_a_death_of_the_same_moment(stack: Stack) -> None:
    """The service dies just before, while and after the stop says what it wants."""
    three(stack)
    with never_two(stack):
        for turn in range(2):
            command = stack.popen("stop", "--only", "worker", "--json")
            with killing(stack, turn, 0.05):
                out, err = command.communicate(timeout=60)
            assert command.returncode == 0, out + err
            until(lambda: copies(stack) == {"api": 1, "web": 1}, PATIENCE)
            known = begun(stack, "worker")
            stack.ok("start", "--only", "worker")
            assert begun(stack, "worker") == known + 1


def test_f13_f21_the_monitor_is_killed_again_and_again_while_services_die(stack: Stack) -> None:
    three(stack)
    with never_two(stack), killing(stack, 3, 0.1):
        for _ in range(3):  # the guard takes its time with one that dies again and again
            before = until(lambda: signed_on(stack), PATIENCE)
            process.send(before, signal.SIGKILL)
            until(lambda before=before: signed_on(stack) not in (None, before), PATIENCE)
    until(lambda: copies(stack) == {"api": 1, "web": 1, "worker": 1}, PATIENCE)
    assert stack.watcher("monitor")
    assert stack.watcher("guard")
    steady(stack, 1.5)
    stack.ok("health")


def signed_on(stack: Stack) -> Process | None:
    """The monitor, once it watches."""
    try:
        one = Process(**json.loads((stack.state / "monitor.json").read_bytes())["process"])
    except (OSError, ValueError, KeyError):
        return None
    return one if process.alive(one) else None
