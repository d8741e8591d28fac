"""monitor: the watch in this terminal.

Knows: that it is a process of its own, which this one becomes. Must not know: how it watches.
"""

from __future__ import annotations

import os
import sys

from ops import inventory
from ops.fleet import reach
from ops.fleet.here import watcher


def monitor(json: bool) -> int:
    """Becomes the monitor; returns only when that was not possible."""
    chosen = reach.chosen(inventory.load(inventory.locate()))
    argv = watcher(chosen.hosts[0], chosen.origin)
    sys.stdout.flush()
    os.execv(argv[0], [*argv, "--foreground", *(["--json"] if json else [])])
