"""How a task ends: errors become messages and exit codes, never a traceback.

Knows: standard streams, what is said of an error. Must not know: Invoke, what a task does.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

from ops.errors import OpsError


def ended(task: str, json: bool, body: Callable[[], int]) -> int:
    """The exit code of a task, after whatever it came to was said."""
    try:
        code = body()
        sys.stdout.flush()
        return code
    except OpsError as error:
        return told(task, json, error.lines(), error.exit_code)
    except KeyboardInterrupt:
        return told(task, json, ["interrupted"], 130)
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _unwritable(task, error)


def told(task: str, json: bool, lines: Sequence[str], code: int) -> int:
    if code == 130:  # a second Ctrl-C must not break off the message, nor the exit code
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)
    from ops import render

    if json:
        print(render.error_document(task, "--check" in sys.argv, "\n".join(lines)), flush=True)
    for line in render.error_lines(lines):
        print(line, file=sys.stderr)
    return code


def _reader_gone() -> int:
    """`inv tail all | head -1`: whoever read has seen enough. Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _unwritable(task: str, error: OSError) -> int:
    """A report that could not be written, to a full disk say: told on standard error. Any other error goes on."""
    try:
        sys.stdout.flush()
    except OSError as lost:
        _reader_gone()
        return told(task, False, [f"standard output cannot be written: {lost.strerror}"], 2)
    raise error


def open_streams() -> None:
    """Started with closed standard streams (`inv start 2>&-`): what is opened next must not become one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):  # where they are not UTF-8, what cannot be written is shown as an escape
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")
