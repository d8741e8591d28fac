"""The log follower against a naive reference: lines written whole or in parts, rotated, renamed, deleted and truncated
in any order, looked at in between or not. How long it searches is told in tests/fuzzing.py.

The reference knows what was written and nothing of files: whatever was written comes, once and in order. Only what
somebody else truncated or deleted before it was looked at may be missing. The clock stands still (a lingering file is
never let go, an unfinished line never given up): those two are told in test_logs.py.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ops.host import logs
from ops.host.generations import tidy
from ops.host.log_ends import split
from ops.host.logs import LONGEST, Follower, last_lines, plain
from ops.host.rotation import rotate, rotate_by_rename
from tests.fuzzing import examples, fuzz

pytestmark = fuzz
LOOKS = 200
KEEP = 1000  # generations: none is dropped before it was read


class Log:
    """A log that is written and rotated, and what should be seen of it. Whatever is written is full of a number of its
    own: a file that was cut and has the same bytes at the same place again cannot be told from one that was not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.tail = b""  # the unfinished line, as it was written so far
        self.due: list[bytes] = []  # complete lines that were not seen yet

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        *whole, self.tail = (self.tail + data).split(b"\n")
        self.due += whole

    def lines(self, count: int, size: int) -> None:
        for _ in range(count):
            self.part(size)
            self.write(b"\n")

    def part(self, size: int) -> None:
        self.number += 1
        word = b"%d " % self.number
        self.write(word * (1 + size // len(word)))

    def rotate(self) -> None:
        journal = f"{self.path}.rotating"
        done = rotate(str(self.path), KEEP, shut=lambda: contextlib.nullcontext([]), journal=journal)
        assert done.state in ("rotated", "empty", "small"), done

    def rename(self) -> None:
        rotate_by_rename(str(self.path), KEEP)

    def has_something(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0


class Followed(RuleBasedStateMachine):
    """One log and one follower."""

    @initialize(
        there=st.booleans(), before=st.integers(0, 3), known=st.none() | st.integers(0, 3), copied=st.booleans()
    )
    def begin(self, there: bool, before: int, known: int | None, copied: bool) -> None:
        self.copied = copied  # a log is rotated by copy and cut, or else by being renamed and deleted; not both
        self.folder = tempfile.TemporaryDirectory()
        self.log = Log(Path(self.folder.name) / "api.log")
        if there:
            self.log.path.touch()
            self.log.lines(before, 3)
            if known is not None:
                self.log.due = self.log.due[len(self.log.due) - min(known, before) :]
        else:
            known = None  # of a file that comes later all is given
        self.met = there
        self.follower = Follower(str(self.log.path), lines=known)

    @rule(count=st.integers(1, 4), size=st.sampled_from([0, 1, 5, 70, 5000]))
    def write(self, count: int, size: int) -> None:
        self.log.lines(count, size)

    @rule(size=st.sampled_from([0, 5, 70, 300]))
    def write_a_part(self, size: int) -> None:
        self.log.part(size)

    @rule()
    def finish_the_line(self) -> None:
        self.log.part(0)
        self.log.write(b"\n")

    @rule()
    def write_much(self) -> None:
        self.log.lines(40, 15_000)  # more than one look takes

    @precondition(lambda self: self.copied and self.log.has_something())
    @rule()
    def rotate(self) -> None:
        if not self.met:  # a file that came and was rotated before it was ever met is not known to be this log's
            self.look()
        self.log.rotate()

    @precondition(lambda self: not self.copied and self.log.has_something())
    @rule()
    def rotate_by_rename(self) -> None:
        self._look_at_all()  # a renamed file is known by being open, or as a generation
        self._is_whole_line()
        self.log.rename()

    @rule()
    def tidy(self) -> None:
        assert tidy(str(self.log.path), KEEP) == ""

    @precondition(lambda self: self.log.has_something())
    @rule()
    def truncate(self) -> None:
        """By somebody else. What was not looked at is lost; the torn line is given as far as it was read."""
        self._look_at_all()
        if self.log.tail:
            self.log.due.append(self.log.tail)
            self.log.tail = b""
        os.truncate(self.log.path, 0)
        self._look_at_all()

    @precondition(lambda self: not self.copied and self.log.has_something())
    @rule()
    def delete(self) -> None:
        self._look_at_all()
        self._is_whole_line()
        self.log.path.unlink()
        self.met = False

    @rule()
    def look(self) -> None:
        """Whatever comes is what comes next."""
        self.met = self.met or self.log.path.exists()
        seen = self.follower.poll()
        wrong = [
            (one[:20], due[:20]) for one, due in zip(seen, [*self.log.due, b"nothing"], strict=False) if one != due
        ]
        assert not wrong and len(seen) <= len(self.log.due), f"came, and was due: {wrong[:2]}"
        del self.log.due[: len(seen)]

    def _look_at_all(self) -> None:
        """A look waits for nothing, so their number is the limit."""
        for _ in range(LOOKS):
            if not self.log.due:
                break
            self.look()
        assert not self.log.due, f"never seen: {len(self.log.due)} lines, the first {self.log.due[0][:20]!r}"
        self.look()

    def _is_whole_line(self) -> None:
        """A line whose rest is written to another file is two lines."""
        if self.log.tail:
            self.finish_the_line()
            self._look_at_all()

    def teardown(self) -> None:
        if hasattr(self, "follower"):
            try:
                self._look_at_all()
            finally:
                self.follower.close()
                self.folder.cleanup()


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUIET", 1e9)
    monkeypatch.setattr(logs, "LINGER", 1e9)


def test_fuzz_all_that_was_written_is_followed_once_and_in_order(standing_clock: None) -> None:
    run_state_machine_as_test(
        Followed,
        settings=settings(
            max_examples=examples(8), stateful_step_count=15, deadline=None, phases=[Phase.reuse, Phase.generate]
        ),
    )


# -- ends and lines ------------------------------------------------------------------------------------------------

DATA = st.lists(
    st.binary(max_size=20) | st.just(b"\n") | st.sampled_from([b"z" * LONGEST, b"z" * (LONGEST + 1), b"\n\n"]),
    max_size=12,
).map(b"".join)


# None is longer than LONGEST: where such a one is cut depends on where reading begins.
LINES = st.lists(
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")) | st.just(b"z" * LONGEST), max_size=12
).map(b"\n".join)


@settings(max_examples=examples(100))
@given(data=LINES, count=st.integers(0, 12), whole=st.booleans())
def test_fuzz_the_last_lines_are_the_last_of_all(data: bytes, count: int, whole: bool) -> None:
    with _file(data) as path:
        found, offset = last_lines(path, count, whole=whole)
    lines, rest = split(data)
    if rest and not whole:
        lines, rest = [*lines, rest], b""
    assert found == (lines[-count:] if count > 0 else [])
    assert offset == len(data) - len(rest)


@settings(max_examples=examples(100))
@given(DATA)
def test_fuzz_no_byte_is_lost_between_lines(data: bytes) -> None:
    lines, rest = split(data)
    assert all(len(line) <= LONGEST for line in (*lines, rest))
    assert b"".join((*lines, rest)) == data.replace(b"\n", b"")


@settings(max_examples=examples(200))
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_fuzz_no_terminal_obeys_a_line(line: bytes) -> None:
    shown = plain(line)
    assert {unicodedata.category(mark) for mark in shown if mark != "\t"} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    assert bool(shown) == bool(line)


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api.log"
        path.write_bytes(data)
        yield str(path)
