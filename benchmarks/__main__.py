"""`python -m benchmarks`: the commands; another first word, another part: see README.md."""

from __future__ import annotations

import sys


def main(words: list[str]) -> int:
    if words[:1] == ["supervision"]:
        from benchmarks.supervision import run as supervision

        return supervision.main(words[1:])
    if words[:1] == ["fleet"]:
        from benchmarks.fleet import run as fleet

        return fleet.main(words[1:])
    if words[:1] == ["report"]:
        from benchmarks.report import run as report

        return report.main(words[1:])
    if words[:1] == ["all"]:
        from benchmarks import every

        return every.main(words[1:])
    from benchmarks import commands

    return commands.main(words)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr)
        code = 130
    sys.exit(code)
