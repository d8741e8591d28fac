"""Many inquiries side by side, in one thread: how long they take, what they leave behind, who drives them."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time

import pytest

from ops.host.probe_wires import SEATS, Errand, Wires
from ops.host.probes import Inquiry, Question, ask
from ops.model import Probe

from .probe_server import Line, answering, open_descriptors, serving, silent
from .waiting import free_port, until

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def http(target: str = "/health", timeout: float = 5.0) -> Probe:
    return Probe("http", target, every=1.0, timeout=timeout)


def test_f6_a_hundred_side_by_side_take_as_long_as_one() -> None:
    def slow(line: Line) -> None:
        line.request()
        line.wait(1.0)
        line.say(EMPTY)

    with serving(slow) as server, serving(silent) as hung:
        slow_ones = [Question(http(timeout=10.0), server.port)] * 50
        hung_ones = [Question(http(timeout=1.0), hung.port)] * 50
        began = time.monotonic()
        readings = ask([*slow_ones, *hung_ones])
        took = time.monotonic() - began
    assert [reading.ok for reading in readings] == [True] * 50 + [False] * 50
    assert 1.0 <= took < 10  # 1.1 s on an idle machine; one by one they would take 100


def test_descriptors_and_threads_stay_flat() -> None:
    with serving(answering()) as server:
        gone, threads = free_port(), threading.active_count()  # other tests of this process may have left one
        bundle = [
            Question(http(), server.port),
            Question(http(), gone),
            Question(Probe("tcp", str(server.port), 1, 2)),
            Question(Probe("command", "", 1, 5, command=("true",)), env=dict(os.environ)),
            Question(http(f"http://localhost:{server.port}/", timeout=0.0), server.port),
            Question(http(f"http://{'a' * 64}/")),  # no such name can be: found out in an errand, at once
        ]
        ask(bundle)
        until(lambda: threading.active_count() <= threads)
        before = open_descriptors()
        for _ in range(SEATS):
            assert "was not resolved" in ask(bundle)[-1].detail
        until(lambda: open_descriptors() <= before)
        until(lambda: threading.active_count() <= threads)


def test_f6_errands_that_hang_do_not_pile_up() -> None:
    over = threading.Event()
    with selectors.PollSelector() as selector:
        wires = Wires(selector, None)
        errands = [Errand(over.wait, wires) for _ in range(SEATS)]
        with pytest.raises(OSError, match="still hang"):
            Errand(over.wait, wires)
        over.set()
        until(lambda: all(errand.result() for errand in errands))
        for errand in errands:
            errand.close()
        assert len(selector.get_map()) == 0


def test_an_owner_with_a_selector_of_its_own_drives_and_cancels() -> None:
    with serving(answering(), socket.AF_INET6) as server, serving(silent) as hung:
        before = open_descriptors()
        with selectors.DefaultSelector() as selector:
            inquiry = Inquiry(Question(http(), server.port), time.monotonic(), selector, "mine")
            while inquiry.reading is None:
                for key, _ in selector.select(inquiry.due - time.monotonic()):
                    assert key.data == "mine"
                inquiry.advance(time.monotonic())
            assert inquiry.reading.ok
            given_up = Inquiry(Question(http(), hung.port), time.monotonic(), selector)
            assert len(selector.get_map()) == 1
            given_up.cancel()
            given_up.advance(given_up.deadline + 1)
            assert given_up.reading is None and len(selector.get_map()) == 0
        until(lambda: open_descriptors() <= before + 1)  # the silent server's own end


def test_an_answer_that_waits_counts_after_a_sleep() -> None:
    asked, answer = threading.Event(), threading.Event()

    def behaviour(line: Line) -> None:
        line.request()
        asked.set()
        answer.wait(5)
        line.say(EMPTY)

    with serving(behaviour) as server, selectors.DefaultSelector() as selector:
        inquiry = Inquiry(Question(http(), server.port), time.monotonic(), selector)
        while not asked.is_set():  # until it is connected and the request is sent
            selector.select(0.01)
            inquiry.advance(time.monotonic())
        answer.set()
        until(lambda: selector.select(0))
        inquiry.advance(inquiry.deadline + 3600)
        assert inquiry.reading is not None and inquiry.reading.ok
