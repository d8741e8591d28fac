"""Waiting with a deadline: the only way a test here may wait. And ports that nobody else takes meanwhile."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

# Below what a kernel hands out by itself (to bind(0), to a client): from 32768 on Linux, from 49152 on a Mac. Above
# what people choose by hand, and what the benchmarks take.
PORTS = range(20_000, 32_768)
BLOCK = 400


def until(look: Callable[[], T], within: float = 20.0, every: float = 0.01) -> T:
    """The first truthy value of `look()`; AssertionError naming the last one after `within` seconds. A file that is not
    there yet, or not at this moment of a rotation, is nothing seen."""
    deadline = time.monotonic() + within
    seen: object = None
    while True:
        try:
            seen = found = look()
        except FileNotFoundError as missing:
            seen = missing
        else:
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s; last seen: {seen!r}")
        time.sleep(every)


def free_port() -> int:
    """A port that nobody is bound to, on any address of either family, and that no other test will be given."""
    return next(port for port in _own_ports() if _is_free(port))


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of a block that is this process's alone, for ever around.

    Tests run side by side. The claim is a UDP socket on the block's first port: it ends with the process however
    that ends, leaves no file, and is seen by nobody who looks at TCP.
    """
    blocks = [PORTS[at : at + BLOCK] for at in range(0, len(PORTS) - BLOCK + 1, BLOCK)]
    turn = os.getpid() % len(blocks)  # not where the run before left its connections in TIME_WAIT
    for block in blocks[turn:] + blocks[:turn]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim:
            try:
                claim.bind(("127.0.0.1", block[0]))
            except OSError:
                continue
            claim.detach()  # kept open, by nobody
            return itertools.cycle(block)
    raise AssertionError(f"all {len(blocks)} blocks of ports are claimed: that many test processes run here")


def _is_free(port: int) -> bool:
    for family, everywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            with socket.socket(family) as trial:
                trial.bind((everywhere, port))
        except OSError as error:  # a machine without IPv6 says so otherwise
            if error.errno == errno.EADDRINUSE:
                return False
    return True
