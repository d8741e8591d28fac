"""Command lines of the benchmarks, and what becomes of one that makes no sense.

Knows: exit codes. Must not know: what is measured.
"""

from __future__ import annotations

import argparse
from typing import NoReturn


class Reading(argparse.ArgumentParser):
    """As everywhere here wrong usage ends with 1: 2, which is argparse's own, says that a bar was missed."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}\nnext: {self.prog} --help\n")


def above_zero(text: str) -> int:
    """A number above 0."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted is a number above 0")
    return int(text)
