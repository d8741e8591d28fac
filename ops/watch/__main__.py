"""The monitor and its guard as processes: `python -I ops/watch/__main__.py monitor --state FOLDER --inventory FILE`.

Knows: what a command line may say, where `ops` is. Must not know: what either does; the guard must not even import the
monitor.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace

WAITING = "waiting"  # alone, once the one before it has ended
KEPT = ("systemd", "launchd")  # kept by these
_PAUSE = 5.0  # seconds until one that cannot begin is to be brought back


def main() -> int:
    """What the process ends with: 0, 1 for a mistake, 2 when another monitor watches, 130 after Ctrl-C."""
    if not __package__:  # run by its path, as commands do: `ops` may be installed nowhere
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from ops.errors import OpsError
    from ops.host import installation

    installation.settle_in(sys.argv)
    given = _arguments()
    try:
        if given.kind == "guard":
            from ops.watch.guard import guard

            return guard(given.state, given.inventory, given.under)
        from ops.watch.monitor import Way, monitor

        way = Way(given.under, given.foreground, given.json)
        return monitor(given.state, given.inventory, way)
    except OpsError as error:
        print("\n".join(error.lines()), file=sys.stderr, flush=True)
        if given.under in KEPT:  # it is brought back at once, over and over
            threading.Event().wait(_PAUSE)
        return error.exit_code


def _arguments() -> Namespace:
    import argparse

    parser = argparse.ArgumentParser(prog="ops.watch", allow_abbrev=False)
    parser.add_argument("kind", choices=["monitor", "guard"])
    parser.add_argument("--state", required=True)
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--under", choices=["", WAITING, *KEPT], default="")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
