"""The soak as a command: python -m tests.soak --minutes N [--seed S] [--write FILE]

Exit codes: 0 no finding, 2 findings, 1 usage, 130 interrupted. Everything that was started is ended, however it ends.
"""

from __future__ import annotations

import argparse
import math
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.soak.faults import FAULTS
from tests.soak.figures import section
from tests.soak.ground import give_own_mounts
from tests.soak.run import Wanted, sequence, soak

HEAD = """# The soak

`inv dev.soak --minutes N [--seed S]` runs the shipped sample stack under load, does a random fault every few
seconds, and has a client of its own ask recon-api and submit jobs to it. Findings are what must never be: an
acknowledged job that is lost, a service that runs twice, a process left behind by `inv stop`, a command that fails, a
stack that does not become well again within two minutes, a gap of more than 45 s, a monitor or guard that grows. Exit
codes: 0 no finding, 2 findings. It needs Linux; as root it has a disk of its own to fill. The same seed gives the same
faults in the same order, not at the same moments. It runs in a folder and on ports of its own, and touches no other
stack. How it is built: `tests/soak/`.

What follows is written by the command.

"""


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
        Path(write).write_text(HEAD + told, encoding="utf-8")
    return 2 if result.witness.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", allow_abbrev=False)
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="how long faults come (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same faults (default: a random one)")
    parser.add_argument("--fault", action="append", dest="faults", choices=FAULTS, help="only this one (repeatable)")
    parser.add_argument("--plan", type=int, default=0, metavar="N", help="print the first N faults and end")
    parser.add_argument("--write", default="", metavar="FILE", help="write the result there, as Markdown")
    return parser.parse_args()


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: a number of minutes above 0")
    return minutes


if __name__ == "__main__":
    sys.exit(main())
