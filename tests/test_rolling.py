"""Batches: sizes as Ansible cuts them, a critical service never gone from a whole group, when to stop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import UsageError
from ops.fleet import rolling
from ops.fleet.rolling import bearable, percentage, sizes, standing, too_many
from ops.model import Host, Service, Stack

STACK = Stack("test", "com.test")
CRITICAL = Service("recon-api", ("serve",), critical=True)
ALSO_CRITICAL = Service("frontend", ("serve",), critical=True)
PLAIN = Service("pg-api", ("serve",))


def host(name: str, *services: Service, groups: Sequence[str] = ()) -> Host:
    return Host(name, "/srv", services, STACK, groups=tuple(groups))


def fleet(count: int, *services: Service, groups: Sequence[str] = ()) -> list[Host]:
    return [host(f"h{number}", *services, groups=groups) for number in range(count)]


def lengths(found: Iterable[Sequence[Host]]) -> list[int]:
    return [len(batch) for batch in found]


@pytest.mark.parametrize(
    ("spec", "hosts", "expected"),
    [
        ("1", 3, [1, 1, 1]),
        ("2", 5, [2, 2, 1]),
        ("9", 5, [5]),
        ("1,40%", 5, [1, 2, 2]),
        ("1,25%,100%", 10, [1, 2, 7]),
        ("1, 25% ,100%", 10, [1, 2, 7]),
        ("30%", 10, [3, 3, 3, 1]),
        ("10%", 5, [1, 1, 1, 1, 1]),
        ("100%", 4, [4]),
        ("5", 0, []),
    ],
)
def test_sizes(spec: str, hosts: int, expected: list[int]) -> None:
    assert sizes(spec, hosts) == expected


def test_a_percentage_is_counted_exactly() -> None:
    """29 / 100.0 * 100 is 28.999999999999996, of which Ansible makes 28."""
    assert sizes("29%", 100)[0] == 29


@pytest.mark.parametrize(
    "spec", ["", "0", "0%", "-1", "101%", "1.5", "x", "1,", "1,,2", "%", "50%%", "1;2", "1 2", "٣"]
)
def test_what_is_no_size(spec: str) -> None:
    for hosts in (0, 5):
        with pytest.raises(UsageError) as caught:
            sizes(spec, hosts)
        assert f"--serial {spec!r}" in caught.value.seen
    with pytest.raises(UsageError):
        batches([], spec, [])


SPECS = st.lists(
    st.one_of(st.integers(1, 12).map(str), st.integers(1, 100).map("{}%".format)), min_size=1, max_size=4
).map(",".join)


def limits(spec: str, hosts: int, count: int) -> list[int]:
    """What each of `count` batches may have at most, written the slow way."""
    words = spec.split(",")
    words += words[-1:] * count
    return [max(1, hosts * int(word[:-1]) // 100) if word.endswith("%") else int(word) for word in words[:count]]


@given(SPECS, st.integers(0, 200))
def test_sizes_hold_every_host_and_never_more_than_asked_for(spec: str, hosts: int) -> None:
    found = sizes(spec, hosts)
    allowed = limits(spec, hosts, len(found))
    assert sum(found) == hosts
    assert all(0 < size <= most for size, most in zip(found, allowed, strict=True))
    assert found[:-1] == allowed[: len(found)][:-1], "only the last batch may be smaller"


@pytest.mark.parametrize(
    ("spec", "hosts"), [("1", 7), ("3", 7), ("1,25%,100%", 10), ("30%", 10), ("1,40%", 5), ("12%,2", 60), ("9", 5)]
)
def test_sizes_are_those_of_ansible(spec: str, hosts: int) -> None:
    pytest.importorskip("ansible", reason="ansible-core is not installed")
    code = f"""
from types import SimpleNamespace
from ansible.executor.playbook_executor import PlaybookExecutor
inventory = SimpleNamespace(get_hosts=lambda pattern, order: list(range({hosts})))
play = SimpleNamespace(hosts="all", order=None, serial={spec.split(",")!r})
executor = SimpleNamespace(_inventory=inventory)
print([len(batch) for batch in PlaybookExecutor._get_serialized_batches(executor, play)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{sizes(spec, hosts)}\n", done.stderr


# Critical services


def critical(one: Host) -> list[str]:
    return [service.name for service in one.services if service.critical]


def batches(hosts: Sequence[Host], spec: str, everywhere: Sequence[Host]) -> list[list[Host]]:
    """As a rollout cuts them while all that is critical is up everywhere."""
    up = standing(everywhere, critical, {one.name: critical(one) for one in everywhere})
    found, rest, most = [], list(hosts), rolling.limits(spec, len(hosts))
    while rest:
        count, _ = bearable(rest[: next(most)], critical, up)
        assert count
        found.append(rest[:count])
        rest = rest[count:]
    return found


def test_the_last_that_has_it_up_is_not_taken_down() -> None:
    three = fleet(3, CRITICAL)
    up = standing(three, critical, {"h0": ["recon-api"], "h1": [], "h2": []})
    assert bearable(three, critical, up) == (0, ("", "recon-api"))
    assert bearable(three[1:], critical, up) == (2, None)  # it is down there: nothing to lose


def test_another_group_does_not_stand_in() -> None:
    east, west = fleet(2, CRITICAL, groups=["east"]), [host("w", CRITICAL, groups=["west"])]
    up = standing([*east, *west], critical, {"h0": ["recon-api"], "w": ["recon-api"]})
    assert bearable(east, critical, up) == (0, ("east", "recon-api"))


def test_a_critical_service_stays_up_somewhere() -> None:
    three = fleet(3, CRITICAL)
    assert lengths(batches(three, "100%", three)) == [2, 1]
    assert lengths(batches(three, "1", three)) == [1, 1, 1]
    two = fleet(2, CRITICAL, PLAIN)
    assert lengths(batches(two, "5", two)) == [1, 1]


def test_what_is_not_critical_goes_down_together() -> None:
    three = fleet(3, PLAIN)
    assert lengths(batches(three, "100%", three)) == [3]


def test_the_only_host_of_a_critical_service_is_not_spared() -> None:
    hosts = [host("a", CRITICAL), host("b", ALSO_CRITICAL), host("c", PLAIN)]
    assert lengths(batches(hosts, "3", hosts)) == [3]


def test_a_host_that_was_not_chosen_keeps_the_service_up() -> None:
    four = fleet(4, CRITICAL)
    assert lengths(batches(four[:3], "100%", four)) == [3]


def test_each_group_counts_for_itself() -> None:
    east, west = fleet(2, CRITICAL, groups=["east"]), [host("w", CRITICAL, groups=["west"]), host("x", CRITICAL)]
    everywhere = [*east, *west]
    assert [[one.name for one in batch] for batch in batches(everywhere, "4", everywhere)] == [["h0"], ["h1", "w", "x"]]
    assert lengths(batches(west, "4", everywhere)) == [2]


def test_the_surplus_begins_the_next_batch_which_is_no_larger_for_it() -> None:
    hosts = [*fleet(2, CRITICAL, groups=["g"]), *[host(f"p{number}", PLAIN) for number in range(4)]]
    assert lengths(batches(hosts, "2,3", hosts)) == [1, 3, 2]


GROUPS = st.lists(st.sampled_from(["east", "west", "web"]), unique=True, max_size=3)
SERVICES = st.lists(st.sampled_from([CRITICAL, ALSO_CRITICAL, PLAIN]), unique_by=lambda one: one.name, max_size=3)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Host], list[Host]]:
    """The hosts of an inventory, and some of them."""
    drawn = draw(st.lists(st.tuples(SERVICES, GROUPS), max_size=12))
    everywhere = [host(f"h{n}", *services, groups=groups) for n, (services, groups) in enumerate(drawn)]
    chosen = draw(st.permutations(everywhere))
    return everywhere, list(chosen[: draw(st.integers(0, len(chosen)))])


@given(fleets(), SPECS)
def test_batches_in_any_fleet(hosts: tuple[list[Host], list[Host]], spec: str) -> None:
    everywhere, chosen = hosts
    found = batches(chosen, spec, everywhere)
    assert [one.name for batch in found for one in batch] == [one.name for one in chosen]
    allowed = limits(spec, len(chosen), len(found))
    assert all(0 < len(batch) <= most for batch, most in zip(found, allowed, strict=True))
    for group in (None, "east", "west", "web"):
        for service in ("recon-api", "frontend"):
            within = [one for one in everywhere if group is None or group in one.groups]
            having = {one.name for one in within if service in {each.name for each in one.services}}
            for batch in found:
                assert len(having) < 2 or not having <= {one.name for one in batch}


@given(fleets(), SPECS)
def test_a_batch_is_only_cut_where_it_must_be(hosts: tuple[list[Host], list[Host]], spec: str) -> None:
    everywhere, chosen = hosts
    harmless = [host(one.name, PLAIN, groups=one.groups) for one in everywhere]
    picked = [harmless[int(one.name[1:])] for one in chosen]
    assert lengths(batches(picked, spec, harmless)) == sizes(spec, len(chosen))


# When to stop


@pytest.mark.parametrize(
    ("failed", "hosts", "most", "stop"),
    [
        (0, 3, None, False),
        (2, 3, None, False),
        (3, 3, None, True),
        (1, 4, 25.0, False),  # has to be exceeded
        (2, 4, 25.0, True),
        (1, 4, 24.9, True),
        (1, 3, 0.0, True),
        (0, 3, 0.0, False),
        (9, 10, 100.0, False),
        (10, 10, 100.0, False),  # Ansible would go no further; who says 100 means it
        (0, 0, None, False),
        (0, 0, 0.0, False),
    ],
)
def test_too_many(failed: int, hosts: int, most: float | None, stop: bool) -> None:
    assert too_many(failed, hosts, most) is stop


@given(st.integers(1, 50), st.floats(0, 100), st.data())
def test_one_more_failure_never_makes_it_better(hosts: int, most: float, data: st.DataObject) -> None:
    failed = data.draw(st.integers(0, hosts - 1))
    assert too_many(failed, hosts, most) <= too_many(failed + 1, hosts, most)
    assert too_many(hosts, hosts, most) == (most < 100)


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("0", 0), ("30", 30), ("30%", 30), (" 12.5 ", 12.5), ("100", 100), ("099", 99)]
)
def test_percentages(text: str, value: float | None) -> None:
    assert percentage(text) == value


@pytest.mark.parametrize("text", ["-1", "101", "100.1", "nan", "inf", "1e1", "x", "%", " ", "30%%", "1,5", "٣"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        percentage(text)
    assert f"--max-fail-percentage {text!r}" in caught.value.seen
