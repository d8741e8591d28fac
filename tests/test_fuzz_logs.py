"""The log follower against a naive reference: lines written whole or in parts, rotated, renamed, deleted and truncated
in any order, looked at in between or not. How long it searches is told in tests/fuzzing.py.

The reference knows what was written and nothing of files: whatever was written comes, once and in order. Only what
somebody else truncated or deleted before it was looked at may be missing. The two times of a follower are either so
long that they never come, and then what they lead to must never be seen; or so short that they come at once: then an
unfinished line must be given and a replaced file let go by a deadline, and never before its time.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ops.host.generations import tidy
from ops.host.log_ends import split
from ops.host.logs import LONGEST, Follower, last_lines, plain
from ops.host.rotation import rotate, rotate_by_rename
from tests.fuzzing import examples, fuzz
from tests.waiting import until

pytestmark = fuzz
LOOKS = 200
KEEP = 1000  # generations: none is dropped before it was read
NEVER = 1e9  # seconds: longer than any test
SOON = 0.03  # seconds: a rule can wait for it
TIMES = st.sampled_from([NEVER, SOON])


class Log:
    """A log that is written and rotated, and what should be seen of it. Whatever is written is full of a number of its
    own: a file that was cut and has the same bytes at the same place again cannot be told from one that was not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.tail = b""  # the unfinished line, as it was written so far
        self.cut = False  # it was given as it was: of what comes now a newline is only its end
        self.begun = False  # whether there is an unfinished line, given or not
        self.fed = 0.0  # just before something was written last
        self.due: list[bytes] = []  # complete lines that were not seen yet

    def write(self, data: bytes) -> None:
        self.fed = time.monotonic()
        with self.path.open("ab") as file:
            file.write(data)
        self.begun = not data.endswith(b"\n")
        if self.cut:
            data, self.cut = data.removeprefix(b"\n"), False
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

    def give(self) -> bytes:
        """The unfinished line, as far as it was written; what follows is another."""
        given, self.tail, self.cut = self.tail, b"", True
        return given

    def tear(self) -> None:
        """What there is of the unfinished line is all that comes of it."""
        self.due += [self.tail] if self.tail else []
        self.tail, self.cut, self.begun = b"", False, False

    def rotate(self) -> None:
        journal = f"{self.path}.rotating"
        done = rotate(str(self.path), KEEP, shut=lambda: contextlib.nullcontext([]), journal=journal)
        assert done.state in ("rotated", "empty", "small"), done

    def rename(self) -> None:
        rotate_by_rename(str(self.path), KEEP)

    def has_something(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0


class Old:
    """A file just before it is replaced, held open by a writer of its own."""

    def __init__(self, log: Log) -> None:
        self._file = log.path.open("ab", buffering=0)
        self._log = log
        self._fed = log.fed
        self.gone = False  # whether it was let go, and is watched no more

    def write(self) -> bytes:
        """A line; it is numbered as the log's are. Without its newline it is given back."""
        self._log.number += 1
        late = b"%d late" % self._log.number
        self._silent, self._fed = self._fed, time.monotonic()
        self._file.write(late + b"\n")
        return late

    def silence(self) -> float:
        """Seconds for which nothing had been written, at the most, when somebody just looked."""
        return time.monotonic() - self._silent

    def is_watched(self) -> bool:
        """Whether this process holds it open elsewhere too."""
        held = os.fstat(self._file.fileno())
        return sum(os.path.samestat(held, each) for each in _open_files()) > 1

    def close(self) -> None:
        self._file.close()


def _open_files() -> Iterator[os.stat_result]:
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            yield os.fstat(int(name))


class Followed(RuleBasedStateMachine):
    """One log and one follower."""

    @initialize(
        there=st.booleans(),
        before=st.integers(0, 3),
        known=st.none() | st.integers(0, 3),
        copied=st.booleans(),
        quiet=TIMES,
        linger=TIMES,
    )
    def begin(self, there: bool, before: int, known: int | None, copied: bool, quiet: float, linger: float) -> None:
        self.quiet, self.linger = quiet, linger
        self.old: Old | None = None  # what was replaced last, and is written to by somebody who did not notice
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
        self.follower = Follower(str(self.log.path), lines=known, quiet=quiet, linger=linger)

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

    @precondition(lambda self: self.log.begun)
    @rule()
    def end_the_line(self) -> None:
        self.log.write(b"\n")

    @precondition(lambda self: self.quiet == SOON and self.log.begun)
    @rule()
    def wait_for_the_unfinished_line(self) -> None:
        self._look_at_all()
        self._looks_until(lambda: not self.log.tail)

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
        self._leave()  # a renamed file is known by being open, or as a generation
        self.log.rename()

    @rule()
    def tidy(self) -> None:
        assert tidy(str(self.log.path), KEEP) == ""

    @precondition(lambda self: self.log.has_something())
    @rule()
    def truncate(self) -> None:
        """By somebody else. What was not looked at is lost; the torn line is given as far as it was read."""
        self._look_at_all()
        self.log.tear()
        os.truncate(self.log.path, 0)
        self._look_at_all()

    @precondition(lambda self: self.log.path.exists())
    @rule(noticed=st.booleans())
    def delete(self, noticed: bool) -> None:
        """Empty or not."""
        self._leave()
        self.log.path.unlink()
        self.met = False
        if noticed:
            self.look()

    @precondition(lambda self: self.old is not None)
    @rule()
    def write_late(self) -> None:
        """To what was replaced, by a writer who has it open: seen as long as it is watched."""
        assert self.old is not None
        self._look_at_all()
        late = self.old.write()
        seen = self._poll()
        if seen != [late]:
            assert not seen, f"late was {late!r}, and came {seen[:2]}"
            assert self.old.gone or self.old.silence() > self.linger, "a replaced file was let go before its time"
            self.old.gone = True

    @precondition(lambda self: self.old is not None and self.linger == SOON)
    @rule()
    def wait_until_the_old_file_is_let_go(self) -> None:
        """Once there is another in its place: until then there is nothing else to be watched."""
        assert self.old is not None
        old = self.old
        self.log.part(0)
        self._looks_until(lambda: not old.is_watched())
        old.gone = True

    @rule()
    def look(self) -> None:
        """Whatever comes is what comes next, and an unfinished line at its end when it was quiet long enough."""
        seen = self._poll()
        if self.log.tail and len(seen) > len(self.log.due) and self.log.fed + self.quiet < time.monotonic():
            self.log.due.append(self.log.give())
        wrong = [
            (one[:20], due[:20]) for one, due in zip(seen, [*self.log.due, b"nothing"], strict=False) if one != due
        ]
        assert not wrong and len(seen) <= len(self.log.due), f"came, and was due: {wrong[:2]}"
        del self.log.due[: len(seen)]

    def _poll(self) -> list[bytes]:
        self.met = self.met or self.log.path.exists()
        return self.follower.poll()

    def _looks_until(self, enough: Callable[[], bool]) -> None:
        def enough_after_a_look() -> bool:
            self.look()
            return enough()

        until(enough_after_a_look)

    def _leave(self) -> None:
        """Before the log's file is replaced: all of it was seen, and whoever holds it may write to it late."""
        self._look_at_all()
        self._is_whole_line()
        self._forget_the_old()
        self.old = Old(self.log)

    def _forget_the_old(self) -> None:
        if self.old:
            self.old.close()
            self.old = None

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
        if self.log.begun:
            self.finish_the_line()
            self._look_at_all()

    def teardown(self) -> None:
        if hasattr(self, "follower"):
            try:
                self._look_at_all()
            finally:
                self._forget_the_old()
                self.follower.close()
                self.folder.cleanup()


def test_fuzz_all_that_was_written_is_followed_once_and_in_order() -> None:
    run_state_machine_as_test(Followed, settings=settings(max_examples=examples(60), stateful_step_count=25))


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
