"""monitor: the watch in this terminal.

Knows: that it is a process of its own, which this one becomes. Must not know: how it watches.
"""

from __future__ import annotations

import os
import sys

from ops import inventory
from ops.fleet import reach


def monitor(json: bool) -> int:
    """Becomes the monitor; returns only when that was not possible."""
    argv = reach.watcher(inventory.load(inventory.locate()))
    sys.stdout.flush()
    os.execv(argv[0], [*argv, "--foreground", *(["--json"] if json else [])])
