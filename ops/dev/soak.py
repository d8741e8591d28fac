"""The developers' face: `inv dev.soak`, which is the soak of a checkout.

Knows: Invoke, where the soak is. Must not know: what it does, services, any other room. The installed `ops` command
does not offer this.
"""

from __future__ import annotations

import os
import sys

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.dev.testing import PROJECT, clean_environment

RESULT = "docs/soak.md"
PUBLISHED = 10.0  # minutes from which on a soak says enough to stand in the place of the last one


@task(
    name="soak",
    auto_shortflags=False,
    help={
        "minutes": f"how long faults come (default: {PUBLISHED:g}, which is published: see below)",
        "seed": "the same seed gives the same faults in the same order (default: a random one, which is printed)",
        "write": f"where the page is written (default: {RESULT} for {PUBLISHED:g} minutes or more, else nowhere)",
    },
)
def run_soak(c: Context, minutes: str = "10", seed: str = "", write: str = "") -> None:
    """Do random faults to the sample stack under load, while a client of its own watches.

    Ten minutes or more, and so `inv dev.soak` alone, are published: in docs/soak.md, and in the section of
    docs/faults.md that shows the last soak. With fewer minutes or another --write these stay as they are.

    Exit codes: 0 no finding, 2 findings, 1 usage, 130 interrupted.
    """
    command = soak_command(minutes, seed, write)
    sys.stdout.flush()
    try:
        os.chdir(PROJECT)
        # It becomes the soak: Ctrl-C, TERM and the exit code are the soak's own, and nothing of it is cut short.
        os.execve(sys.executable, command, clean_environment())
    except OSError as error:
        raise Exit(f"{error}\nnext: ./inv dev.soak", code=1) from None


def soak_command(minutes: str, seed: str, write: str) -> list[str]:
    """The command line that runs the soak with this Python."""
    command = [sys.executable, "-m", "tests.soak", f"--minutes={minutes}"]
    command += [f"--seed={seed}"] if seed else []
    page = write or (RESULT if is_published(minutes) else "")
    return command + ([f"--write={PROJECT / page}"] if page else [])


def is_published(minutes: str) -> bool:
    """Whether a soak of that length is; what is no number is refused by the soak itself."""
    try:
        return float(minutes) >= PUBLISHED
    except ValueError:
        return False
