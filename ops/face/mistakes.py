"""A line that Invoke cannot read: what was seen, what was probably meant, what to type.

Knows: Invoke's messages, the names of tasks, flags and services. Must not know: Invoke itself, what a task does.
Read only when there is a mistake.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from ops.errors import OpsError, UsageError

Known = Mapping[str, Sequence[str]]  # by task: its flags


def explain(message: str, words: Sequence[str], known: Known) -> tuple[str, UsageError]:
    """The task that the mistake was made at, and the error to show, from Invoke's message and the whole line."""
    unknown = re.match(r"""No idea what (['"])(.*)\1 is!""", message)
    if unknown:
        return _unknown(unknown[2][:80], words, known)
    missing = re.match(r"'(\S+)' did not receive required positional arguments: '(\w+)'", message)
    if missing:
        return missing[1], _missing(missing[1], missing[2])
    task = _task_before(len(words), words, known)
    empty = re.match(r"Flag <Argument: ([\w-]+).*> needed value", message)
    told = f"{task or 'inv'}: --{empty[1].replace('_', '-')} needs a value" if empty else message
    return task or "inv", UsageError(told, next=f"inv {task} --help" if task else "inv --help")


def _unknown(word: str, words: Sequence[str], known: Known) -> tuple[str, UsageError]:
    place = next((place for place, one in enumerate(words) if one.partition("=")[0] == word), len(words))
    task = _task_before(place, words, known)
    if word.startswith("-"):
        return task or "inv", _unknown_flag(word, task, known)
    if word in _services():
        return task or word, _misplaced_service(word, task, known)
    near = _near(word, known)
    takes_none = f"; {task} takes no further name" if task else ""
    return task or word, UsageError(
        f"there is no task {word!r}{f'; did you mean {near!r}?' if near else takes_none}",
        wanted="one of " + ", ".join(sorted(known)),
        next=f"inv {near}" if near and not task else f"inv {task} --help" if task else "inv --list",
    )


def _unknown_flag(flag: str, task: str, known: Known) -> UsageError:
    flags = known.get(task, ())
    near = _near(flag, flags)
    return UsageError(
        f"{task or 'inv'}: unknown flag {flag!r}" + (f"; did you mean {near!r}?" if near else ""),
        wanted="one of " + ", ".join(flags) if flags else "",
        next=f"inv {task} --help" if task else "inv --help",
    )


def _misplaced_service(name: str, task: str, known: Known) -> UsageError:
    if "--only" in known.get(task, ()):
        return UsageError(f"{task} takes no name, but {name!r} stands after it", next=f"inv {task} --only {name}")
    if "--name" in known.get(task, ()):
        return UsageError(f"{task} takes one name, but {name!r} stands after it", next=f"inv {task} {name}")
    if task:
        return UsageError(f"{task} takes no name, but {name!r} stands after it", next=f"inv {task} --help")
    return UsageError(f"{name!r} is a service, not a task", next=f"inv health --only {name}")


def _missing(task: str, what: str) -> UsageError:
    services = _services() if what == "name" else []
    return UsageError(
        f"{task} needs the {'number of a port' if what == 'port' else 'name of a service'}",
        wanted="one of " + ", ".join(services) if services else "",
        next=f"inv {task} {what.upper()}",
    )


def _task_before(place: int, words: Sequence[str], known: Known) -> str:
    return next((word for word in reversed(words[:place]) if word in known), "")


def _near(word: str, allowed: Sequence[str] | Known) -> str:
    return next(iter(difflib.get_close_matches(word, allowed, 1, 0.6)), "")


def _services() -> list[str]:
    """The names in the inventory; none when it cannot be read, which is not this mistake."""
    from ops import inventory
    from ops.fleet import reach

    try:
        return [service.name for service in reach.here(inventory.load(inventory.locate())).services]
    except OpsError:
        return []
