"""`python -m benchmarks`: the commands; `python -m benchmarks supervision`: the monitor. From the checkout."""

from __future__ import annotations

import sys


def main(words: list[str]) -> int:
    if words[:1] == ["supervision"]:
        from benchmarks.supervision import run

        return run.main(words[1:])
    from benchmarks import commands

    return commands.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
