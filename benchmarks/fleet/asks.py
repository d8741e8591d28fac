"""`python -m benchmarks.fleet.asks INVENTORY HOST TIMES`: how long requests over one open connection take, as JSON.

Knows: the dialogue with a host. Must not know: what is asked of it.

A process of its own, so that whoever measures stays small: the memory of a child is never counted as less than that of
the one who started it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ops import inventory
from ops.fleet.dialogue import Dialogue
from ops.fleet.here import Tell
from ops.operations.verbs import Request


def main(path: str, name: str, times: int) -> None:
    host = next(one for one in inventory.load(Path(path)).hosts if one.name == name)
    dialogue = Dialogue(host)
    try:
        seconds = []
        for _ in range(times + 1):
            begun = time.perf_counter()
            dialogue.ask(Request("status"), Tell())
            seconds.append(time.perf_counter() - begun)
    finally:
        dialogue.close()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
