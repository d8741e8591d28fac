"""A file that is no inventory at all: YAML that is wrong or hostile, and whatever else may lie there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import InventoryError
from ops.inventory import loads
from ops.model import Inventory
from tests.fuzzing import examples, searching
from tests.test_inventory_mistakes import SERVICE, mistakes, the_mistake

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "inventory.yaml:1: nothing but white space"),
        ("# only this\n", "inventory.yaml:1: nothing but"),
        ("- a\n", "inventory.yaml:1: a list; wanted a mapping with `all`"),
        ("all\n", "inventory.yaml:1: the text 'all'; wanted a mapping with `all`"),
        ("a: 1\na: 2\n", "inventory.yaml:2: a: given twice, on line 1 and on line 2"),
        ("a: {<<: 5}\n", "<<: the number 5; wanted a mapping"),
        ("a:\n  b: !vault |\n    3132\n", "inventory.yaml:2: the tag !vault; wanted plain values only: a secret"),
        ("a: !!python/object:os.system {}\n", "inventory.yaml:1: the tag !!python/object:os.system"),
        ("a: !!int five\n", "not a int that can be read"),
        ("a: *nobody\n", "*nobody, which nothing before it is called"),
        ("a: &a [*a]\n", "*a inside of &a itself"),
        ("? [a]\n: b\n", "a list as a key"),
        ("a: 1\n---\nb: 2\n", "inventory.yaml:2: a second document"),
        ("a:\n\tb: 1\n", "inventory.yaml:2: column 1: "),
        ("a: b: c\n", "inventory.yaml:1: column 5: a ':' where none can be"),
        ("a: [1, 2\n", "a '[' or '{' that is not closed"),
        ('a: "b\n', "a quote that is never closed"),
        ("a: \x07\n", "inventory.yaml:1: the control character U+0007"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a:\n" + "- " * 5000, "nested too deeply"),
        ("a: &b {c: 1}\nd: &d {x: " + "{x: " * 58 + "*b" + "}" * 59 + "\ne: {x: {x: {x: {x: {x: *d}}}}}", "too deeply"),
        (BOMB, "too many values, aliases expanded"),
        # Told before the end is reached, where a bracket is missing.
        ("a: [" + "x," * 110_000, "too many values"),
        (f"a: &a {{{', '.join(f'k{i}: ' for i in range(999))}}}\nb: [" + "{<<: *a}," * 120, "too many values"),
        (f"a: &a {{{', '.join(f'k{i}: ' for i in range(999))}}}\nb: {{<<: [{', '.join(['*a'] * 999)}]}}", "too many"),
    ],
)  # fmt: skip
def test_a_document_that_is_none(text: str, said: str) -> None:
    assert any(said in told for told in mistakes(text)), mistakes(text)


def test_bytes_that_are_not_text() -> None:
    assert "inventory.yaml:2: the byte 0xff, which is not UTF-8" in the_mistake(b"all:\n \xff\n")
    assert "0xff" in the_mistake("all: {}".encode("utf-16"))


def test_a_file_that_is_too_large() -> None:
    assert "an inventory may have 786432" in the_mistake(b"#" * (768 * 1024 + 1))


def test_a_file_that_is_wrong_throughout_is_told_in_part() -> None:
    text = SERVICE + "".join(f"    k{i}: 1\n" for i in range(1000))
    found = mistakes(text)
    assert (len(found), found[-1]) == (201, "... and 800 more")


def test_the_parser_in_python_says_the_same() -> None:
    """PyYAML may be built without libyaml; in a process where it is, the same files make the same mistakes."""
    code = """
import sys, pathlib, yaml
del yaml.CSafeLoader
import ops.inventory, ops.errors
try: ops.inventory.loads(sys.stdin.buffer.read(), pathlib.Path("/etc/ops/inventory.yaml"))
except ops.errors.InventoryError as error: print(*error.mistakes, sep="\\n", end="")
"""
    wrong = [f"{SERVICE}    prt: 5\n", "a: 1\na: 2\n", "a: b: c\n", "a: \x07\n", "a: " + "[" * 5000, BOMB]
    for text in [SERVICE, *wrong]:
        run = subprocess.run([sys.executable, "-c", code], input=text.encode(), capture_output=True, timeout=60)
        assert run.stderr == b""
        assert run.stdout.decode() == ("" if text == SERVICE else "\n".join(mistakes(text)))


# Anything at all


SHIPPED = (Path(__file__).resolve().parents[1] / "inventory.yaml").read_text(encoding="utf-8")


def judged(content: bytes) -> Inventory | InventoryError:
    try:
        return loads(content, Path("/etc/ops/inventory.yaml"))
    except InventoryError as error:
        return error


KEYS = st.sampled_from(
    ["all", "vars", "hosts", "children", "ungrouped", "services", "services_enabled", "ops", "ops_root", "web", "db",
     "command", "port", "needs", "env", "health", "http", "tcp", "json", "status", "body", "every", "timeout", "name",
     "label", "log", "grace", "critical", "max_rss", "ansible_connection", "<<", "5", "on"]
)  # fmt: skip
WORDS = ["web", "db", "/", "~(", "5", "-1", ".nan", "on", "22:30", "0777", "", "{port}", "200-299", "h[1:9]"]
SCALARS = st.one_of(st.sampled_from(WORDS), st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none())
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=30,
)


def flow(tree: object) -> str:
    """The tree as YAML in one line, its texts unquoted as often as not: so they may mean anything."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    return f'"{tree}"' if isinstance(tree, str) and len(tree) % 2 else str(tree)


RUNS = settings(max_examples=examples(150), deadline=5000, suppress_health_check=[HealthCheck.too_slow])


@searching
@RUNS
@given(
    st.integers(0, len(SHIPPED)),
    st.integers(0, 12),
    st.sampled_from([*WORDS, "\n", "  ", ":", "{", "]", "- ", "&a", "*a"]),
)
def test_the_shipped_file_with_something_else_in_it(at: int, length: int, instead: str) -> None:
    judged(f"{SHIPPED[:at]}{instead}{SHIPPED[at + length :]}".encode())


@searching
@RUNS
@given(st.binary(max_size=200))
def test_any_bytes_are_an_inventory_or_a_mistake(content: bytes) -> None:
    judged(content)


@searching
@RUNS
@given(st.text(alphabet="ab:- \n\t[]{}&*!|>'\"#%@`?,<0.~\\", max_size=60))
def test_anything_like_yaml_is_an_inventory_or_a_mistake(text: str) -> None:
    judged(text.encode())


@searching
@RUNS
@given(TREES, TREES, TREES)
def test_anything_like_an_inventory_is_an_inventory_or_a_mistake(ours: object, one: object, hosts: object) -> None:
    variables = f"  ops: {flow(ours)}\n  services: {{web: {flow(one)}, db: {{command: x}}}}"
    judged(f"all:\n vars:\n{variables}\n hosts: {flow(hosts)}".encode("utf-8", "replace"))
    judged(flow(ours).encode("utf-8", "replace"))
