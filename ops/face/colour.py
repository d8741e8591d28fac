"""Colours, for a terminal that wants them.

Knows: escapes, who wants none. Must not know: what is coloured.
"""

from __future__ import annotations

import os
import sys
from typing import IO

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold": "1"}


def coloured(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """The text in a colour when the stream (standard output by default) is a terminal that wants colours."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_COLOURS.get(colour, colour)}m{text}\033[0m"
