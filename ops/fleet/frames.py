"""What the two ends of a request say to each other: lines of JSON, each behind a token that no noise contains.

Knows: how a line is made and found again. Must not know: what it says, which way it travels.

A shell may print before our program begins (a `.bashrc`, a banner), and print without an end of line. So each line of
ours begins on a line of its own with the token that the asking end has chosen for this one request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LARGEST = 16 << 20  # bytes of one line; the health of a thousand services has one
MOST_NOISE = 1 << 20  # bytes of what is not ours; whoever prints more than that is no agent


class Noise(Exception):
    """So much came that is not ours, or such a long line, that nobody of ours is there; `beginning` shows it."""

    def __init__(self, beginning: str) -> None:
        super().__init__(beginning)
        self.beginning = beginning


def line(token: str, said: dict[str, Any]) -> bytes:
    """One line to send."""
    return f"\n{token} {json.dumps(said)}\n".encode()


class Finder:
    """Takes bytes as they come, and gives what was said in them."""

    def __init__(self, token: str) -> None:
        self._token = token.encode() + b" "
        self._rest = bytearray()
        self._noise = 0
        self.heard = b""  # the first of what was not ours

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Every whole line of ours. Noise when what comes can be none."""
        self._rest += data
        if b"\n" in data:
            *lines, self._rest = self._rest.split(b"\n")
            found = [self._read(bytes(text)) for text in lines]
            yield from (said for said in found if said is not None)
        ours = self._token in self._rest[: 2 * len(self._token)]
        if len(self._rest) > (LARGEST if ours else MOST_NOISE):
            raise Noise(self.beginning)

    def _read(self, text: bytes) -> dict[str, Any] | None:
        place = text.find(self._token)
        if place < 0:
            self._unheard(text)
            return None
        self._unheard(text[:place])
        try:
            said = json.loads(text[place + len(self._token) :])
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise Noise(text[:200].decode(errors="replace"))
        return said

    def _unheard(self, text: bytes) -> None:
        self._noise += len(text)
        self.heard = (self.heard + text + b"\n")[:400] if text else self.heard
        if self._noise > MOST_NOISE:
            raise Noise(self.beginning)

    @property
    def beginning(self) -> str:
        """What was not ours, for people."""
        text = bytes(self.heard or self._rest)[:200].decode(errors="replace")
        return "".join(one if one.isprintable() else " " for one in text).strip()
