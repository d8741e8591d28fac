"""What is wrong with an inventory, collected, so that all of it is told at once.

Knows: how a mistake is worded and ordered. Must not know: what is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST = 200  # told in one go; the rest of a file that is wrong throughout is only counted
LONGEST_TYPO = 64


class Mistakes:
    """Collects mistakes; true when there are any. `file` is what each line begins with."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: dict[tuple[int, str], None] = {}
        self._untold = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(
        self,
        line: int,
        where: str,
        found: str,
        allowed: str,
        word: object = None,
        choices: Iterable[str] = (),
    ) -> None:
        """One mistake: what was found, and what is wanted, a noun; a near one of `choices` is offered for `word`."""
        if len(self._lines) >= MOST:
            self._untold += 1
            return
        parts = [found, allowed and f"wanted {allowed}", _offer(word, choices)]
        told = "; ".join(part for part in parts if part)
        self._lines[line, f"{where}: {told}" if where else told] = None

    def lines(self) -> list[str]:
        """Every mistake as people read it, in the order of the file."""
        told = [f"{self._file}:{line}: {message}" for line, message in sorted(self._lines)]
        return [*told, f"... and {self._untold} more"] if self._untold else told

    def summary(self) -> str:
        """How many there are."""
        count = len(self._lines) + self._untold
        return "1 mistake" if count == 1 else f"{count} mistakes"


def _offer(word: object, choices: Iterable[str]) -> str:
    if not isinstance(word, str) or len(word) > LONGEST_TYPO:
        return ""
    from difflib import get_close_matches  # only a file with mistakes pays for it

    spelt = {choice.lower(): choice for choice in choices}
    near = get_close_matches(word.lower(), spelt, n=1)
    return f"did you mean '{spelt[near[0]]}'?" if near else ""
