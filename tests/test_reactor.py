"""The turning of the monitor's thread, and threads beside it: what is urgent goes before what is much."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.watch.crew import GiveWay
from ops.watch.reactor import Reactor
from tests.waiting import until


class Turning(Reactor):
    """Deals with what is urgent by noting when; `rings` makes something urgent."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent: list[float] = []
        self.blind: list[str] = []
        self._bell, self._rope = os.pipe()
        self.listen(self._bell, lambda: None)
        self._urgently = self._selector.get_key(self._bell).data

    def rings(self) -> float:
        """When it rang."""
        os.write(self._rope, b".")
        return time.monotonic()

    def close(self) -> None:
        for descriptor in (self._bell, self._rope, self._ear, self._mouth):
            os.close(descriptor)
        self._selector.close()

    def _urgent(self, events: list[Any]) -> None:
        if self._urgently in events:
            os.read(self._bell, 1)
            self.urgent.append(time.monotonic())

    def _advance(self, now: float) -> None: ...

    def _longest(self) -> float:
        return math.inf

    def _slept(self) -> None: ...

    def _blind(self, why: str) -> None:
        self.blind.append(why)

    def _idle(self) -> bool:
        return True


@pytest.fixture
def reactor() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.close()


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _parts(reactor: Turning, call: Callable[[int], None]) -> None:
    reactor.in_parts(range(500), call)


def _timers(reactor: Turning, call: Callable[[int], None]) -> None:
    for number in range(500):
        reactor.timers.at(reactor.clock.last - 1 + number / 1000, lambda _now, number=number: call(number))


@pytest.mark.parametrize("much", [_parts, _timers])
def test_what_is_urgent_goes_between_the_parts_of_what_is_much(
    reactor: Turning, much: Callable[[Turning, Callable[[int], None]], None]
) -> None:
    """Half a second of work, and what rings after the first piece of it is heard when a few pieces are done."""
    done: list[int] = []
    heard_after: list[int] = []

    def one(number: int) -> None:
        busy(0.001)
        done.append(number)
        if number == 0:
            reactor.rings()

    much(reactor, one)
    while len(done) < 500:
        reactor.turn()
        if reactor.urgent and not heard_after:
            heard_after.append(len(done))
    assert done == list(range(500))
    assert heard_after[0] <= 2 * 10 + 10, "a part or two, and the rest of a turn"


def test_ready_descriptors_take_no_longer_than_a_turn_and_none_is_forgotten(reactor: Turning) -> None:
    heard: list[int] = []
    pipes = [os.pipe() for _ in range(50)]

    def hear(number: int) -> None:
        busy(0.001)
        os.read(pipes[number][0], 1)
        heard.append(number)

    for number, (ear, mouth) in enumerate(pipes):
        reactor.listen(ear, lambda number=number: hear(number))
        os.write(mouth, b".")
    before = len(heard)
    most = 0
    until_then = time.monotonic() + 20
    while len(heard) < 50 and time.monotonic() < until_then:
        reactor.turn()
        most, before = max(most, len(heard) - before), len(heard)
    assert sorted(heard) == list(range(50))
    assert most <= 5
    for pair in pipes:
        for end in pair:
            os.close(end)


def test_a_piece_that_could_not_look_keeps_no_other_from_it(reactor: Turning) -> None:
    done: list[int] = []

    def one(number: int) -> None:
        if number == 3:
            raise OSError(24, "Too many open files")
        done.append(number)

    reactor.in_parts(range(25), one)
    until(lambda: reactor.turn() or len(done) == 24)
    assert done == [number for number in range(25) if number != 3]
    assert reactor.blind == ["[Errno 24] Too many open files"]


def test_long_work_waits_until_it_is_calm() -> None:
    calm, steps = threading.Event(), list[int]()
    calm.set()

    def work() -> None:
        give_way = GiveWay(calm, 60.0)
        for step in range(3):
            give_way()
            steps.append(step)
            if step == 0:
                calm.clear()
                begun.set()

    begun = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(20)
    thread.join(0.2)
    assert thread.is_alive()
    assert steps == [0]
    calm.set()
    thread.join(20)
    assert steps == [0, 1, 2]


def test_long_work_does_not_wait_for_ever() -> None:
    give_way = GiveWay(threading.Event(), 0.2)
    begun = time.monotonic()
    for _ in range(1000):
        give_way()
    assert 0.2 <= time.monotonic() - begun < 10
