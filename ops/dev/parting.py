"""How a command is told to end before it is done: Ctrl-C, SIGTERM, a terminal that is closed.

Knows: which signals say so, the exit code that each stands for. Must not know: what is to be ended.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Told(BaseException):
    """Somebody told the command to end. No Exception: what explains those is not asked."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number  # as a shell has it: 130, 143, 129


@contextmanager
def told_to_end() -> Iterator[None]:
    """Within, the first of these signals raises Told, and later ones do nothing: what tidies up is not disturbed. One
    that was ignored from the start (nohup) stays so."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise Told(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    minded = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in minded:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in minded:
            signal.signal(number, before[number])
