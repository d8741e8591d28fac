"""Ssh text: all that ssh(1) would read of its configuration, as one text without `Include`.

Knows: which files there are, what they include, and that what is included in a block counts only there. Must not
know: what an option means, which host is asked for.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shlex
from collections.abc import Iterator

from ops.errors import InventoryError

SYSTEM_FOLDER = "/etc/ssh"
MOST_INCLUDES = 16  # deep, as in ssh(1)

_HEADER = re.compile(r"\s*(host|match|include)(?:\s*=\s*|\s+)(.+?)\s*$", re.IGNORECASE)


@functools.lru_cache(maxsize=16)
def read(home: str, config: str | None) -> str:
    """What ssh(1) would read, in one text."""
    own = os.path.join(home, ".ssh")
    if config is None:
        places = [(os.path.join(own, "config"), own), (os.path.join(SYSTEM_FOLDER, "ssh_config"), SYSTEM_FOLDER)]
    elif os.path.basename(config) == "none":
        places = []
    else:
        places = [(config, own)]
        if not os.path.exists(config):
            raise InventoryError(f"no such ssh_config: {config}")
    lines: list[str] = []
    for path, folder in places:
        lines += ["Host *", *_lines(path, folder, "", 0)]
    return "\n".join(lines) + "\n"


def _lines(path: str, folder: str, around: str, depth: int) -> Iterator[str]:
    """The lines of a file and of all that it includes. `around` are the criteria of the block that includes it: a
    block of its own counts only where those hold too."""
    if depth > MOST_INCLUDES:
        raise InventoryError(f"{path}: included more than {MOST_INCLUDES} deep", next="does it include itself?")
    here, header = around, f"Match {around}" if around else "Host *"
    for line in _content(path):
        found = _HEADER.match(line)
        if not found:
            yield line
        elif found[1].lower() == "include":
            for included in _included(path, found[2], folder):
                yield from _lines(included, folder, here, depth + 1)
                yield header
        else:
            own = _criteria(found[1], found[2])
            here = f"{around} {own}".strip()
            header = f"Match {here}" if around and here else line.strip()
            yield header


def _criteria(keyword: str, text: str) -> str:
    """The line of a block as criteria of `Match`; "" when it holds for all."""
    if keyword.lower() == "host":
        patterns = ",".join(text.replace('"', "").split())
        return "" if patterns == "*" else f"originalhost {patterns}"
    return "" if text.lower() == "all" else text


def _included(path: str, text: str, folder: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InventoryError(f"{path}: Include {text} cannot be read: {error}") from None
    places = [os.path.join(folder, os.path.expanduser(word)) for word in words]
    return [found for place in places for found in sorted(glob.glob(place)) if os.path.isfile(found)]


def _content(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InventoryError(f"{path} cannot be read: {error.strerror}") from None
