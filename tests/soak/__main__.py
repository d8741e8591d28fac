"""The soak as a command: python -m tests.soak --minutes N [--seed S] [--write FILE]

Exit codes: 0 no finding, 2 findings, 1 usage, 130 interrupted. Everything that was started is ended, however it ends.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from tests.soak.faults import FAULTS
from tests.soak.figures import section
from tests.soak.ground import give_own_mounts
from tests.soak.page import HEAD, publish
from tests.soak.run import Wanted, sequence, soak


def main() -> int:
    given = _arguments()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    wanted = Wanted(seed, given.minutes * 60, given.faults or list(FAULTS))
    if given.plan:
        print("\n".join(map(str, sequence(wanted, given.plan))))
        return 0
    if not sys.platform.startswith("linux"):
        print("the soak needs Linux: it reads what it sees from /proc", file=sys.stderr)
        return 1
    rest = [*sys.argv[1:], *([] if given.seed is not None else [f"--seed={seed}"])]
    give_own_mounts([sys.executable, "-m", "tests.soak", *rest])
    print(f"soak: {given.minutes:g} minutes, seed {seed}", flush=True)
    return _run(wanted, given.write)


def _run(wanted: Wanted, write: str) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        try:
            result = soak(wanted, Path(folder))
        except KeyboardInterrupt:
            print("interrupted; all that was started is ended", file=sys.stderr)
            return 130
    told = section(result)
    print(f"\n{told}")
    if write:
        publish(Path(write), HEAD + told)
    return 2 if result.witness.findings else 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As everywhere here: 1, since 2 tells of findings."""
        self.exit(1, f"the soak: {message}\nnext: ./inv dev.soak --help\n")


def _arguments() -> argparse.Namespace:
    parser = _Parser(prog="python -m tests.soak", allow_abbrev=False)
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="how long faults come (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same faults (default: a random one)")
    parser.add_argument("--fault", action="append", dest="faults", choices=FAULTS, help="only this one (repeatable)")
    parser.add_argument("--plan", type=int, default=0, metavar="N", help="print the first N faults and end")
    parser.add_argument("--write", default="", metavar="FILE", help="write the page there, as Markdown")
    given = parser.parse_args()
    if given.write and (why := _obstacle(Path(given.write))):
        parser.error(f"--write {given.write}: {why}")
    return given


def _obstacle(page: Path) -> str:
    """Why the page cannot be written; "" when it can. It is asked before, since a soak takes its minutes."""
    if page.is_dir():
        return "it is a folder"
    if not page.parent.is_dir():
        return f"there is no folder {page.parent}"
    return "" if os.access(page if page.exists() else page.parent, os.W_OK) else "it cannot be written"


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: wanted is a number of minutes above 0")
    return minutes


if __name__ == "__main__":
    sys.exit(main())
