"""What the monitor writes down while its disk hangs: nothing waits for it, and what had to go never counts as up.

What stands for a disk that hangs: a FIFO in the place of the log, which keeps its writer until somebody reads.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from ops.memory import history
from ops.memory.state import State
from ops.model import Host
from ops.model import Stack as StackNoun
from ops.watch.scribe import Scribe
from tests.waiting import until

NAMED = StackNoun("shop", "com.example.shop")
PAST_ALL = 11_000  # more than waits at most


class Disk:
    """A state folder whose log hangs."""

    def __init__(self, folder: Path) -> None:
        self.state = State(NAMED, str(folder), str(folder / "state"))
        self.state.prepare()
        self.begun = time.time()
        self.scribe = Scribe(Host("localhost", str(folder), (), NAMED), self.state)
        self.scribe.watching(anew=True)
        for name in ("api", "db"):
            self.scribe.state(name, "up", "up", planned=False, why="")
        until(lambda: len(self.states()) == 2)
        os.mkfifo(self.state.log("monitor"))
        self.pipe = os.open(self.state.log("monitor"), os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.pipe, b"x" * 4096)  # until it is full, and keeps whoever writes
        self.scribe.event("", "note", "kept back")

    def states(self) -> dict[str, list[str]]:
        past = history.read(f"{self.state.path}/history.db", self.begun - 5, time.time() + 5)
        return {name: [change.state for change in changes] for name, changes in past.states.items()}

    def come_back(self) -> None:
        """The disk works again: all that waits is written."""
        ended = threading.Thread(target=self.scribe.close, args=[30])
        ended.start()
        while ended.is_alive():
            with contextlib.suppress(BlockingIOError):
                os.read(self.pipe, 65536)
            ended.join(0.001)
        os.close(self.pipe)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_law_7_samples_push_no_change_of_state_out(disk: Disk) -> None:
    disk.scribe.state("api", "down", "up", planned=False, why="died")
    for _ in range(PAST_ALL):
        disk.scribe.sample("db", seconds=0.01)
    disk.come_back()
    assert disk.states() == {"api": ["up", "down"], "db": ["up"]}


def test_law_7_where_changes_had_to_go_the_state_is_unknown(disk: Disk) -> None:
    disk.scribe.state("api", "down", "up", planned=False, why="died")
    for number in range(PAST_ALL):
        disk.scribe.event("", "note", str(number))
    disk.scribe.state("db", "hung", "up", planned=False, why="silent")
    disk.come_back()
    assert disk.states() == {"api": ["up", "unknown"], "db": ["up", "hung"]}
