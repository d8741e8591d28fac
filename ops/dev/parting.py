"""How a command ends before it is done (Ctrl-C, SIGTERM, a terminal that is closed), and a program that it runs.

Knows: which signals say so, the exit code that each stands for, the file that sends signals. Must not know: what the
command does.
"""

from __future__ import annotations

import signal
import subprocess
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


def ends(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether it ends within that time."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def send(child: subprocess.Popen[bytes], number: int) -> None:
    """Signals the child, unless it has ended meanwhile."""
    from ops.host import process  # not on the way of every command

    one = process.identify(child.pid)
    if one:
        process.send(one, number)
