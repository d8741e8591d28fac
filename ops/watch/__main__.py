"""The monitor and its guard as processes: `python -I -m ops.watch monitor --state FOLDER --inventory FILE`.

Knows: what a command line may say. Must not know: what either does; the guard must not even import the monitor.
"""

from __future__ import annotations

import argparse
import sys

from ops.errors import OpsError


def main() -> int:
    """What the process ends with: 0, 1 for a mistake, 2 when another monitor watches, 130 after Ctrl-C."""
    given = _arguments()
    try:
        if given.kind == "guard":
            from ops.watch.guard import guard

            return guard(given.state, given.inventory)
        from ops.watch.monitor import monitor

        return monitor(given.state, given.inventory, foreground=given.foreground, json=given.json)
    except OpsError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return error.exit_code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops.watch", allow_abbrev=False)
    parser.add_argument("kind", choices=["monitor", "guard"])
    parser.add_argument("--state", required=True)
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
