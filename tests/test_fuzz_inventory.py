"""The inventory loader, given valid documents with something else in them: an inventory, or InventoryError and nothing
else, in bounded time; and what was accepted can be used, and be sent to a host. Arbitrary bytes and anything like YAML
are given to it in test_inventory_document.py. How long it searches is told in tests/fuzzing.py."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import InventoryError
from ops.inventory import loads, sent
from ops.model import Host, Inventory
from ops.wire import pack
from tests.fuzzing import examples, fuzz

pytestmark = fuzz
ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {
    name: yaml.safe_load((ROOT / name).read_text()) for name in ("inventory.yaml", "examples/node/inventory.yaml")
}
MOST = 5.0  # seconds of this process; the shipped file takes some milliseconds
RUNS = settings(max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck))

ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 65536, 1e308, 10**30, float("nan"), float("inf"), [], {}, [[]], {"": ""}),
        *("", " ", "\0", "a\nb", "~", "~(", "{port}", "*", "all", "localhost", "!vault", "<<", "/", "..", "0777"),
        *("22:30", "200-99", "x" * 5000),
    ]
)
SMALL = ODD | st.text(max_size=6) | st.integers() | st.floats()


def places(tree: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in the tree but its root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, child in inner for found in ((*way, key), *places(child, (*way, key)))]


def changed(tree: Any, data: st.DataObject) -> Any:
    """The same with one value replaced, taken away, doubled, moved or called otherwise."""
    tree = copy.deepcopy(tree)
    every = places(tree)
    if not every:
        return tree
    *way, key = data.draw(st.sampled_from(every))
    holder = tree
    for step in way:
        holder = holder[step]
    deed = data.draw(st.sampled_from(["replace", "replace", "remove", "rename", "move", "wrap"]))
    if deed == "replace":
        holder[key] = data.draw(SMALL)
    elif deed == "wrap":
        holder[key] = data.draw(st.sampled_from([[holder[key]], {"all": holder[key]}, [holder[key]] * 3]))
    elif deed == "move":
        *there, name = data.draw(st.sampled_from(every))
        other = tree
        for step in there:
            other = other[step]
        holder[key] = copy.deepcopy(other[name])
    else:
        value = holder.pop(key)
        if deed == "rename" and isinstance(holder, dict):
            holder[data.draw(st.text(max_size=6) | st.sampled_from(["port", "command", "tcp", "http", "needs"]))] = (
                value
            )
    return tree


def judged(content: bytes, path: Path) -> Inventory | None:
    """The inventory, or None for InventoryError."""
    begun = time.process_time()
    try:
        return loads(content, path)
    except InventoryError:
        return None
    finally:
        assert time.process_time() - begun < MOST


@RUNS
@given(st.sampled_from(sorted(SHIPPED)), st.integers(1, 3), st.data())
def test_fuzz_a_shipped_inventory_with_something_else_in_it(name: str, times: int, data: st.DataObject) -> None:
    tree = SHIPPED[name]
    for _ in range(times):
        tree = changed(tree, data)
    content = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    found = judged(content, Path("/etc/ops/inventory.yaml"))
    for host in found.hosts if found else ():
        _is_usable(host)


def _is_usable(host: Host) -> None:
    for service in host.services:
        assert service.argv("python")[0]
        assert service.definition()
        worst = service.worst_case()
        assert worst is None or 0 <= worst < float("inf")
    arrived = loads(sent.dumps(host), Path("/etc/ops/host.json"))
    assert arrived.hosts == (sent.at_home(sent.stripped(host)),)


@pytest.fixture(scope="module")
def as_sent() -> Any:
    host = loads((ROOT / "inventory.yaml").read_bytes(), ROOT / "inventory.yaml").hosts[0]
    said = json.loads(sent.dumps(host))
    assert said["host"] == pack(sent.stripped(host))
    return said


@RUNS
@given(st.integers(1, 3), st.data())
def test_fuzz_a_sent_inventory_with_something_else_in_it(as_sent: Any, times: int, data: st.DataObject) -> None:
    tree = as_sent
    for _ in range(times):
        tree = changed(tree, data)
    judged(json.dumps(tree).encode(), Path("/etc/ops/host.json"))


@RUNS
@given(st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"schema": 1, "host": ' + b'{"a":' * 50_000))
def test_fuzz_any_bytes_instead_of_a_sent_inventory(content: bytes) -> None:
    judged(content, Path("/etc/ops/host.json"))
