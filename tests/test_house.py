"""The house as the design draws it, held by reading the sources.

Imports go down only, one library has one door, every file says what it knows and what it must not know, and
`inv --list` stays light. What breaks one of these is put right in the source, not here.
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "tasks.py", *sorted((ROOT / "ops").rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
LARGEST_FILE = 16 * 1024


def name_of(path: Path) -> str:
    """The module that a file is: `ops.host.process`, `ops.inventory`, `tasks`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
TOOLKIT = {name: path for name, path in MODULES.items() if not name.startswith("ops.sample")}
SAMPLE = {name: path for name, path in MODULES.items() if name.startswith("ops.sample")}

# The room of a module is the longest of these names that it begins with; imports go from a higher floor to a lower.
FLOORS = {
    "tasks": 5,
    "ops.commands": 4,
    "ops.render": 4,
    "ops.face": 4,
    "ops.dev": 4,
    "ops.fleet": 3,
    "ops.watch": 3,
    "ops.operations": 2,
    "ops.memory": 1,
    "ops.host": 1,
    "ops.inventory": 1,
    "ops.wire": 0,
    "ops.model": 0,
    "ops.errors": 0,
    "ops.frozen": -1,
}

DOORS = {
    "invoke": {"ops.commands", "ops.dev.testing", "ops.dev.faults", "ops.dev.soak", "ops.dev.benchmarks"},
    "psutil": {"ops.host.process"},
    "requests": {"ops.host.probe_https"},
    "h11": {"ops.host.probe_http"},
    "tabulate": {"ops.render"},
    "yaml": {"ops.inventory.document"},
    "fabric": {"ops.fleet.remote"},
    "paramiko": {"ops.fleet.ssh", "ops.fleet.remote"},
    "typing_extensions": {"ops.frozen"},  # for the type checker alone
}


def room(module: str) -> str:
    for name in sorted(FLOORS, key=len, reverse=True):
        if module == name or module.startswith(f"{name}."):
            return name
    raise AssertionError(f"{module} is in no room: add it to FLOORS, and to the map of the house")


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in it, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in MODULES else str(node.module)


def own_imports(module: str) -> set[str]:
    return {name for name in imported(TREES[MODULES[module]]) if name.partition(".")[0] in ("ops", "tasks")}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def calls(tree: ast.AST) -> Iterator[str]:
    """What is called, as it is written: `os.kill`, `print`. Asking with signal 0 sends nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node) != "os.kill(pid, 0)":
            yield ast.unparse(node.func)


# -- imports -------------------------------------------------------------------------------------------------


def test_imports_go_down_only_and_never_sideways() -> None:
    wrong = []
    for module in TOOLKIT:
        for target in own_imports(module) - {"ops"}:
            here, there = room(module), room(target)
            same_floor_of_the_face = FLOORS[here] == FLOORS[there] == 4
            if here != there and FLOORS[there] >= FLOORS[here] and not same_floor_of_the_face:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_the_words_import_nothing_of_ours() -> None:
    assert own_imports("ops.model") == {"ops.frozen"}
    assert own_imports("ops.errors") == set()


def test_there_is_no_circle_of_imports() -> None:
    graph = {module: own_imports(module) - {module} for module in TOOLKIT}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_one_library_has_one_door() -> None:
    doors: dict[str, set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for name in imported(TREES[path]):
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in ("ops", "tasks"):
                doors[top].add(module)
    assert dict(doors) == DOORS


def test_the_sample_and_the_toolkit_do_not_know_each_other() -> None:
    outside = {name for module in SAMPLE for name in own_imports(module) if name not in SAMPLE}
    assert outside == set()
    assert [module for module in TOOLKIT if own_imports(module) & set(SAMPLE)] == []


def test_listing_the_commands_imports_nothing_heavy(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    (stack.folder / "tasks.py").write_text(
        "import atexit, json, sys\nfrom ops.commands import namespace\n\nns = namespace()\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
    )
    done = stack.ok("--list")
    loaded = {name.partition(".")[0] for name in json.loads(done.err.splitlines()[-1])}
    assert "invoke" in loaded
    heavy = {"fabric", "paramiko", "cryptography", "requests", "urllib3", "psutil", "tabulate", "h11"}
    assert loaded & heavy == set()


# -- deeds that have one place ----------------------------------------------------------------------------------


def places(pattern: str) -> set[str]:
    return {module for module, path in TOOLKIT.items() for name in calls(TREES[path]) if re.fullmatch(pattern, name)}


def test_law_2_signals_leave_through_one_file() -> None:
    sending = r"os\.kill|os\.killpg|signal\.pidfd_send_signal|.*\.(send_signal|terminate|kill)"
    # A probe ends the very command that it started itself.
    assert places(sending) <= {"ops.host.process", "ops.host.probe_command"}
    assert "ops.host.process" in places(sending)


def test_only_the_face_prints() -> None:
    talking = places(r"print|sys\.(stdout|stderr)\.write")
    # A process of its own has a face of its own.
    processes = {"ops.watch.__main__", "ops.watch.monitor", "ops.fleet.agent", "ops.fleet.groundwork"}
    assert {room(module) for module in talking - processes} <= {"ops.face", "ops.commands", "ops.render", "ops.dev"}


def test_only_the_hands_start_processes() -> None:
    starting = places(r"subprocess\.\w+|os\.(fork|system|posix_spawn|exec\w+|spawn\w+)")
    # `inv monitor` becomes the monitor, `inv dev.soak` the soak; the groundwork is sent to a host where there are no
    # hands yet.
    becoming = {"ops.face.watching", "ops.fleet.groundwork"}
    assert {room(module) for module in starting - becoming} <= {"ops.host", "ops.dev"}


def test_no_fixed_sleep_but_between_looks() -> None:
    """A verb waits for something with a deadline; only a poll of a file, a lock or the screen may sleep."""
    sleeping = places(r"time\.sleep")
    polls = {"ops.memory.locks", "ops.host.logs", "ops.host.death", "ops.fleet.memoir", "ops.fleet.groundwork"}
    assert sleeping <= {*polls, "ops.face.reading", "ops.watch.guard"}


def test_nothing_is_swallowed_blindly() -> None:
    blind = []
    for module, path in MODULES.items():
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node.type) and _does_nothing(node.body):
                blind.append(f"{module}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                blind += [f"{module}:{node.lineno}" for argument in node.args if _catches_all(argument)]
    assert blind == []


def _catches_all(kind: ast.expr | None) -> bool:
    names = [ast.unparse(one) for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind] if kind else [])]
    return kind is None or bool({"Exception", "BaseException"} & set(names))


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(isinstance(one, (ast.Pass, ast.Continue)) or ast.unparse(one) == "..." for one in body)


# -- how it reads ------------------------------------------------------------------------------------------------


ROOMS = [name for name, path in TOOLKIT.items() if path.name not in ("tasks.py", "__init__.py")]


@pytest.mark.parametrize("module", ROOMS)
def test_every_file_says_what_it_knows_and_must_not_know(module: str) -> None:
    said = " ".join((ast.get_docstring(TREES[TOOLKIT[module]]) or "").split())
    assert "Knows" in said
    assert "ust not know" in said


def test_files_are_small() -> None:
    assert {m: p.stat().st_size for m, p in MODULES.items() if p.stat().st_size > LARGEST_FILE} == {}


def test_functions_are_short() -> None:
    lengths = [int(one.end_lineno or 0) - one.lineno + 1 for path in TOOLKIT.values() for one in functions(TREES[path])]
    assert statistics.median(lengths) < 10


def test_names_say_what_a_thing_is() -> None:
    empty = re.compile(r"(^|_)(utils?|helpers?|managers?|misc)($|_)|(Utils?|Helpers?|Manager)$|^_?(handle|process)_")
    names = {part for module in MODULES for part in module.split(".")}
    for tree in TREES.values():
        names |= {one.name for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    assert {name for name in names if empty.search(name)} == set()


def test_annotations_are_not_evaluated() -> None:
    assert [one for one in ROOMS if "from __future__ import annotations" not in TOOLKIT[one].read_text()] == []


def test_no_emoji() -> None:
    told = [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert [path.name for path in told if re.search("[\U0001f300-\U0001faff\u2600-\u27bf]", path.read_text())] == []


def test_the_shipped_sources_compile_on_the_oldest_python() -> None:
    """The grammar of 3.10, whichever Python runs the tests."""
    for path in FILES:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_every_file_can_be_imported_alone_and_says_nothing() -> None:
    """No circle hides behind the order of imports, and importing does nothing."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for known in [one for one in sys.modules if one.partition('.')[0] == 'ops']:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    names = [name for name in TOOLKIT if name != "tasks"]
    command = [sys.executable, "-W", "error", "-c", code, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
