"""Threads for what may take long: how many, who goes first, and that nobody waits who must not."""

from __future__ import annotations

import threading
from typing import Any

from ops.watch.crew import Crew
from tests.waiting import until


class Done:
    """What a crew has reported, in order."""

    def __init__(self, most: int) -> None:
        self.tickets: list[Any] = []
        self.gate = threading.Event()
        self.begun: list[Any] = []
        self.crew = Crew("test", most, lambda ticket, _result, _error: self.tickets.append(ticket))

    def slow(self, ticket: str, rank: int = 1) -> None:
        """A job that ends when the gate is opened."""

        def job() -> None:
            self.begun.append(ticket)
            self.gate.wait(30)

        self.crew.hand(ticket, job, rank)


def test_rank_0_goes_at_once_though_all_are_busy_and_others_wait() -> None:
    done = Done(2)
    for number in range(4):
        done.slow(f"slow{number}")
    until(lambda: len(done.begun) == 2)
    for number in range(3):
        done.slow(f"critical{number}", 0)
    until(lambda: set(done.begun[2:]) == {"critical0", "critical1", "critical2"})
    done.crew.hand("quick", lambda: None, 0)
    until(lambda: done.tickets == ["quick"])
    assert not done.crew.idle
    done.gate.set()
    until(lambda: done.crew.idle and len(done.tickets) == 8)


def test_threads_that_were_begun_for_rank_0_take_nothing_else_on() -> None:
    done = Done(1)
    done.slow("slow")
    until(lambda: done.begun)
    done.crew.hand("waits", lambda: None)
    for _ in range(20):
        before = len(done.tickets)
        done.crew.hand("critical", lambda: None, 0)
        until(lambda before=before: len(done.tickets) > before)
    assert "waits" not in done.tickets
    done.gate.set()
    until(lambda: "waits" in done.tickets)


def test_one_thread_does_one_thing_after_the_other() -> None:
    done = Done(1)
    for number in range(50):
        done.crew.hand(number, lambda: None)
    until(lambda: len(done.tickets) == 50)
    assert done.tickets == list(range(50))
