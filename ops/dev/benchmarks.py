"""The developers' face: `inv dev.benchmarks`, which is the benchmarks of a checkout.

Knows: Invoke, where the benchmarks are, that they need what the tests need. Must not know: what they measure, services,
any other room. The installed `ops` command does not offer this.
"""

from __future__ import annotations

import os
import sys

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.dev.testing import PROJECT, clean_environment, install_test_extra


@task(
    name="benchmarks",
    auto_shortflags=False,
    help={
        "quick": "only whether the harness is sound: shows no bar, keeps nothing; some twenty minutes with all peers",
        "only": "only these parts: commands,fleet,supervision",
        "rounds": "rounds of the commands and of the hosts (default: theirs)",
    },
)
def run_benchmarks(c: Context, quick: bool = False, only: str | None = None, rounds: str | None = None) -> None:
    """Measure commands, many hosts and the monitor beside its peers; keeps the figures and writes docs/benchmarks.md.

    Takes about an hour on a quiet machine. Exit codes: 0 every bar was met, 2 one was missed, 1 usage, or something
    could not be measured, 130 interrupted; before it ends it ends what it has started.
    """
    command = [sys.executable, "-m", "benchmarks", "all"]
    command += ["--quick"] if quick else []
    command += [f"--only={only}"] if only is not None else []
    command += [f"--rounds={rounds}"] if rounds is not None else []
    try:
        install_test_extra(PROJECT)
        sys.stdout.flush()
        os.chdir(PROJECT)
        # It becomes the benchmarks: Ctrl-C, TERM and the exit code are theirs, and nothing of them is cut short.
        os.execve(sys.executable, command, clean_environment())
    except KeyboardInterrupt:
        raise Exit("interrupted; nothing was begun", code=130) from None
    except OSError as error:
        raise Exit(f"{error}\nnext: make {PROJECT} writable for this user, then ./inv dev.benchmarks", code=1) from None
