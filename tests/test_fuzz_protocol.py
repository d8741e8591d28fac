"""The two ends of a request, fed with anything: frames in any chunks with noise between, nouns on their way and back,
garbage instead of them, and the agent as a real process. How long it searches is told in tests/fuzzing.py."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ops.fleet import frames, here, release
from ops.model import Host, Outcome, Probe, Process, Reading, Service, Stack
from ops.operations.verbs import Request
from ops.wire import Garbled, pack, unpack
from tests.fuzzing import examples, fuzz

pytestmark = fuzz
TOKEN = "f00dfeedf00dfeed"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SAID = st.dictionaries(st.text(max_size=8), JSON, max_size=4)
NOISE = st.binary(max_size=60).filter(lambda noise: TOKEN.encode() not in noise)


# -- frames --------------------------------------------------------------------------------------------------------


def chunks(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The data, cut at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        yield data[begin:end]


@settings(max_examples=examples(66))
@given(st.lists(st.tuples(NOISE, SAID), max_size=6), NOISE, st.lists(st.integers(0, 10_000), max_size=30))
def test_fuzz_what_was_said_is_heard_through_any_noise_in_any_chunks(
    said: list[tuple[bytes, dict[str, Any]]], last: bytes, cuts: list[int]
) -> None:
    data = b"".join(noise + frames.line(TOKEN, one) for noise, one in said) + last
    finder = frames.Finder(TOKEN)
    heard = [one for chunk in chunks(data, cuts) for one in finder.feed(chunk)]
    assert heard == [one for _, one in said]


@settings(max_examples=examples(66))
@given(st.lists(st.binary(max_size=80) | st.just(TOKEN.encode() + b" ") | st.just(b"\n"), max_size=20))
@example([TOKEN.encode() + b" " + b"[" * 100_000 + b"\n"])
def test_fuzz_anything_is_heard_or_is_noise(parts: list[bytes]) -> None:
    finder = frames.Finder(TOKEN)
    with suppress(frames.Noise):
        assert all(isinstance(one, dict) for part in parts for one in finder.feed(part))
    assert finder.beginning.isprintable()


@settings(max_examples=examples(8))
@given(st.integers(1, 1 << 17), st.sampled_from([b"x", b"x" * 99 + b"\n"]))
def test_fuzz_endless_noise_is_given_up_in_any_chunks(size: int, pattern: bytes) -> None:
    finder = frames.Finder(TOKEN)
    chunk = (pattern * (size // len(pattern) + 1))[:size]
    most = range(0, 2 * frames.MOST_NOISE + 2 * size, size)
    with pytest.raises(frames.Noise):
        all(not list(finder.feed(chunk)) for _ in most)


# -- nouns ---------------------------------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=12)
NAMES = st.lists(TEXT, max_size=3).map(tuple)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
PROBES = st.builds(
    Probe, st.sampled_from(["http", "tcp", "command"]), TEXT, FINITE, FINITE, st.booleans(), TEXT,
    st.lists(st.tuples(st.integers(), st.integers()), max_size=3).map(tuple), st.none() | TEXT, JSON, TEXTS, NAMES,
    st.integers(),
)  # fmt: skip
SERVICES = st.builds(
    Service, TEXT, NAMES, cwd=TEXT, port=st.none() | st.integers(), critical=st.booleans(), needs=NAMES, env=TEXTS,
    env_file=st.none() | TEXT, health=st.lists(PROBES, max_size=2).map(tuple), log=st.none() | TEXT, grace=FINITE,
    max_rss=st.none() | st.integers(), on_need_restart=st.sampled_from(["leave", "restart"]), attempts=st.integers(),
)  # fmt: skip
STACKS = st.builds(Stack, TEXT, TEXT, st.booleans(), st.none() | TEXT, NAMES, st.integers(), st.integers())
HOSTS = st.builds(
    Host, TEXT, TEXT, st.lists(SERVICES, max_size=2).map(tuple), STACKS, st.sampled_from(["local", "ssh"]), NAMES,
    st.dictionaries(TEXT, JSON, max_size=3),
)  # fmt: skip
OUTCOMES = st.builds(
    Outcome, TEXT, TEXT, st.sampled_from(["ok", "changed", "failed", "skipped", "unreachable"]), TEXT, TEXT, TEXT,
    FINITE, NAMES, TEXT,
)  # fmt: skip
REQUESTS = st.builds(Request, TEXT, NAMES, st.booleans(), st.none() | FINITE, st.dictionaries(TEXT, JSON, max_size=3))
NOUNS = st.one_of(
    PROBES, SERVICES, STACKS, HOSTS, OUTCOMES, REQUESTS,
    st.builds(Process, st.integers(), FINITE, TEXT),
    st.builds(Reading, TEXT, st.none() | st.booleans(), FINITE, TEXT, st.booleans(), st.booleans()),
    st.builds(here.Answer, st.lists(OUTCOMES, max_size=3).map(tuple), NAMES, JSON),
)  # fmt: skip
KINDS = (Probe, Service, Stack, Host, Outcome, Request, Process, Reading, here.Answer)
ODD = st.sampled_from([10**400, -(10**400), 1e999, -1e999, math.nan, "x" * 100, [], {}, None, True, 0, -1, ""])


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(NOUNS)
def test_fuzz_nouns_come_back_as_they_went(noun: Any) -> None:
    assert unpack(type(noun), json.loads(json.dumps(pack(noun)))) == noun


@settings(max_examples=examples(66))
@given(st.sampled_from(KINDS), JSON)
def test_fuzz_garbage_instead_of_a_noun_is_garbled(kind: type, said: Any) -> None:
    _noun_or_garbled(kind, said)


@settings(max_examples=examples(133), suppress_health_check=list(HealthCheck))
@given(NOUNS, st.data())
def test_fuzz_a_noun_with_something_else_in_it_is_garbled_or_whole(noun: Any, data: st.DataObject) -> None:
    _noun_or_garbled(type(noun), mutated(json.loads(json.dumps(pack(noun))), data))


def _noun_or_garbled(kind: type, said: Any) -> None:
    """What is believed is whole: of that kind, with numbers that are some, and the same after another journey."""
    try:
        noun: Any = unpack(kind, said)
    except Garbled:
        return
    assert type(noun) is kind
    assert unpack(kind, json.loads(json.dumps(pack(noun)))) == noun
    for name, value in vars(noun).items():
        if kind.__annotations__[name] == "float":
            assert math.isfinite(float(value))


def mutated(said: Any, data: st.DataObject) -> Any:
    """The same with one thing in it replaced, taken away, added or called otherwise."""
    if not isinstance(said, dict | list) or not said or data.draw(st.integers(0, 3)) == 0:
        return data.draw(JSON | ODD)
    if isinstance(said, list):
        place = data.draw(st.integers(0, len(said) - 1))
        return [mutated(one, data) if number == place else one for number, one in enumerate(said)]
    key = data.draw(st.sampled_from(sorted(said)))
    way = data.draw(st.sampled_from(["deeper", "deeper", "deeper", "without", "renamed", "more"]))
    if way == "deeper":
        return {**said, key: mutated(said[key], data)}
    rest = {name: value for name, value in said.items() if name != key or way == "more"}
    return rest if way == "without" else {**rest, data.draw(TEXT): said[key]}


# -- the agent as a process ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def release_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host's folder with a release of this checkout's sources, as a venv that borrows the libraries of this one."""
    home = tmp_path_factory.mktemp("host")
    venv = home / "releases" / "one"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    (packages,) = venv.glob("lib/python3*/site-packages")
    libraries = Path(pytest.__file__).parents[1]
    (packages / "borrowed.pth").write_text(f"{Path(release.__file__).parents[2]}\n{libraries}\n")
    return home


def ask(home: Path, *lines: bytes, patient: bool = False) -> subprocess.CompletedProcess[bytes]:
    """The agent with this on its standard input; it ends within the time. `patient`: the connection holds until it has
    answered; else it breaks at once."""
    command = [str(home / "releases/one/bin/python"), "-I", "-X", "utf8", "-m", "ops.fleet.agent"]
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "OPS_STATE": str(home / "state"), "LANG": "C.UTF-8"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=home, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin
        with suppress(BrokenPipeError):
            child.stdin.write(b"".join(lines))
            child.stdin.flush()
        try:
            if patient:
                child.wait(60)
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def spoken(done: subprocess.CompletedProcess[bytes], token: str = TOKEN) -> list[dict[str, Any]]:
    return list(frames.Finder(token).feed(done.stdout))


def ends_without_a_traceback(done: subprocess.CompletedProcess[bytes]) -> None:
    assert done.returncode in (0, 1), done
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")


HERE = Host("h1", "/nonexistent", (), Stack("fuzz", "fuzz", monitor=False))
SOUND: dict[str, Any] = {
    "token": TOKEN,
    "protocol": release.PROTOCOL,
    "release": release.own(),
    "id": "a1",
    "request": pack(Request("status")),
    "host": pack(HERE),
}
PROCESSES = settings(max_examples=examples(12), suppress_health_check=list(HealthCheck))
DEEP = b"[" * 100_000


def test_fuzz_a_sound_request_is_answered(release_here: Path) -> None:
    """Else the tests below would prove nothing."""
    done = ask(release_here, json.dumps(SOUND).encode() + b"\n", patient=True)
    ends_without_a_traceback(done)
    assert [next(iter(one)) for one in spoken(done) if "alive" not in one] == ["hello", "answer"], done


@PROCESSES
@given(st.lists(st.binary(max_size=80), max_size=4))
@example([DEEP])
@example([b'{"token": ["a"], "protocol": 1}\n'])
@example([b'{"token": "\\ud800"}\n'])
def test_fuzz_the_agent_is_fed_garbage(release_here: Path, lines: list[bytes]) -> None:
    ends_without_a_traceback(ask(release_here, *lines))


@PROCESSES
@given(st.data())
def test_fuzz_the_agent_is_asked_something_else(release_here: Path, data: st.DataObject) -> None:
    ends_without_a_traceback(ask(release_here, json.dumps(mutated(SOUND, data)).encode() + b"\n", patient=True))


@pytest.mark.parametrize(
    "change",
    [
        {"request": pack(Request("no such verb"))},
        {"request": pack(Request("start"))},
        {"request": pack(Request("start")), "id": None},
        {"request": pack(Request("start")), "id": ""},
        {"request": pack(Request("start")), "id": ".."},
        {"request": pack(Request("start")), "id": "a\0b"},
        {"request": pack(Request("start")), "id": "\ud800"},
        {"host": pack(replace(HERE, root="\0"))},
        {"host": pack(replace(HERE, root="\ud800"))},
        {"host": pack(replace(HERE, stack=Stack("../x", "\0")))},
        {"request": pack(Request("alerts", options={"lines": []}))},
        {"request": pack(Request("report"))},
        {"request": pack(Request("tail", options={"lines": "x"}))},
    ],
    ids=repr,
)
def test_fuzz_the_agent_is_asked_what_cannot_be(release_here: Path, change: dict[str, Any]) -> None:
    said = {**SOUND, **change}
    if said["id"] is None:
        del said["id"]
    done = ask(release_here, json.dumps(said).encode() + b"\n", patient=True)
    ends_without_a_traceback(done)
    assert any("error" in one or "answer" in one for one in spoken(done)), done


@pytest.mark.parametrize("line", [DEEP, b'{"cancel": [', b"\xff\xfe\0", b'"cancel"'])
def test_fuzz_what_follows_a_request_is_a_cancellation_or_nothing(release_here: Path, line: bytes) -> None:
    request = json.dumps(
        {**SOUND, "request": pack(Request("tail", ("monitor",), options={"lines": 3, "follow": True}))}
    ).encode()
    ends_without_a_traceback(ask(release_here, request + b"\n", line + b"\n"))
