"""Lines to type that a host names, made right for who is not on it: `inv start` there is `inv start --limit h1` here.

Knows: the names of tasks, how a line to type stands in a text. Must not know: what a task does, who says the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ops.model import Outcome

_NAMED = frozenset({"restart-one", "hold", "release", "tail", "kill-port"})  # tasks that take one word
_TASKS = _NAMED | {
    *("start", "stop", "restart", "reset", "status", "health", "alerts", "report", "check-inventory"),
    *("monitor-start", "monitor-stop", "install-service", "uninstall-service"),
}
_AS_ROOT = re.compile(r"\bsudo \./inv\b")
_WORD = re.compile(r"(\S+)(\s*)")


def there(text: str, host: str, place: str) -> str:
    """The text with each `inv TASK` meant for that host. What only root may do is typed on the host, where `place` has
    the commands."""
    text = _AS_ROOT.sub(f"on {host}: sudo {place}/inv", text)
    begin = len(text) - len(text.lstrip())
    return text[:begin] + "".join(_limited(text[begin:], f" --limit {host}"))


def _limited(text: str, limit: str) -> Iterator[str]:
    """Word by word; `due`: how many words are still to come before the limit."""
    in_line, due = False, 0
    for word, gap in _WORD.findall(text):
        bare = word.rstrip(",;:.)'")
        if due:
            due -= 1
        elif in_line and bare in _TASKS:
            due = 2 if bare in _NAMED else 1
        yield (bare + limit + word[len(bare) :] if due == 1 else word) + gap
        due = 0 if due == 1 else due
        in_line = (in_line or bare == "inv") and bare == word and len(gap) < 2


def outcome_there(outcome: Outcome, host: str, place: str) -> Outcome:
    """The same of what an outcome says."""
    more = tuple(there(line, host, place) for line in outcome.more)
    return replace(outcome, host=host, detail=there(outcome.detail, host, place), more=more)
