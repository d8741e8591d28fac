"""Who is still being waited for, on one line of a terminal.

Knows: that line. Must not know: what is waited for, or why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class Progress:
    """Who is still being waited for, on one line of a terminal (standard error); silent anywhere else."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits: dict[str, tuple[float, str]] = {}
        self._shown = False
        self.enabled = sys.stderr.isatty()

    def waiting(self, service: str, what: str) -> None:
        """Somebody waits for `what`; "" when that is over."""
        if not self.enabled:
            return
        if what:
            since, _ = self._waits.get(service, (self._clock(), ""))
            self._waits[service] = (since, what)
        else:
            self._waits.pop(service, None)
        self._show()

    def clear(self) -> None:
        """Takes the line away, before something else is printed."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._shown = False

    def end(self) -> None:
        """Takes the line away for good: after Ctrl-C, threads may still tell what they wait for."""
        self.enabled = False
        self.clear()

    def _show(self) -> None:
        now = self._clock()
        late = [(name, now - since, what) for name, (since, what) in self._waits.items() if now - since > 0.3]
        self.clear()
        if late:
            text = ", ".join(f"{name} {age:.0f} s" for name, age, _ in late)
            text += f" ({late[0][2]})" if len(late) == 1 else ""
            self._shown = True  # before it is: Ctrl-C may come in between
            sys.stderr.write(f"waiting for {text}"[: _columns() - 1])
            sys.stderr.flush()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80
