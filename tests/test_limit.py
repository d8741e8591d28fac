"""`--limit` against the real Ansible: the same hosts in the same order, and an error where Ansible has one.

One Ansible is started and asked for many patterns, since a start costs a second: its own `get_host_list`, which is what
`ansible all --list-hosts --limit` prints. Some patterns go through that command line as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import UsageError
from ops.inventory import load, loads
from ops.inventory.limit import choose, split
from ops.model import Inventory

DATA = Path(__file__).parent / "data" / "inventory"
FILES = ["fleet.yaml", "deep.yaml", "depth.yaml", "diamond.yaml", "ranges.yaml", "rank.yaml", "ungrouped.yaml"]
BIN = os.path.dirname(sys.executable)
ansible = shutil.which("ansible", path=BIN) or shutil.which("ansible")
needs_ansible = pytest.mark.skipif(not ansible, reason="ansible-core is not installed (no ansible)")

CHILD = """
import json, sys
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
known = {}
for line in sys.stdin:
    path, pattern = json.loads(line)
    try:
        if path is None:
            answer = split_host_pattern(pattern)
        else:
            if path not in known:
                known[path] = InventoryManager(DataLoader(), [path])
            known[path].subset(None)  # of the question before
            answer = [host if isinstance(host, str) else host.name for host in CLI.get_host_list(known[path], pattern)]
    except AnsibleError as error:
        answer = {"error": str(error)}
    except IndexError as error:
        answer = {"error": f"not foreseen: {error}"}
    print("answer: " + json.dumps(answer), flush=True)
"""


class Ansible:
    """An Ansible that answers for as long as the test runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said = folder / "said"  # a pipe that nobody empties would hold it up
        with self._said.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=folder,
                env=environment(),
            )

    def ask(self, path: Path | None, pattern: str) -> list[str] | None:
        """The hosts (of no file: the parts of the pattern) in its order; None when it says that this is wrong."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([path and str(path), pattern]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer: "):  # it warns on the same stream
                found = json.loads(line.removeprefix("answer: "))
                return None if isinstance(found, dict) else list(found)
        raise AssertionError(self._said.read_text())

    def end(self) -> None:
        self._process.communicate(timeout=30)


def environment() -> dict[str, str]:
    """As for the command of a person who wants to be told of each name that is none."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    settings = {"ANSIBLE_CONFIG": str(DATA / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    return environ | settings | {"ANSIBLE_HOST_PATTERN_MISMATCH": "error", "ANSIBLE_DUPLICATE_YAML_DICT_KEY": "ignore"}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    started = Ansible(tmp_path_factory.mktemp("limits"))
    for name, lines in LIMIT_FILES.items():
        (started.folder / name).write_text(lines)
    yield started
    started.end()


@pytest.fixture
def there(theirs: Ansible, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(theirs.folder)


def names(pattern: str, inventory: Inventory) -> list[str]:
    return [host.name for host in choose(pattern, inventory)]


def ours(pattern: str, inventory: Inventory) -> list[str] | None:
    try:
        return names(pattern, inventory)
    except UsageError:
        return None


def told(pattern: str, inventory: Inventory) -> str:
    with pytest.raises(UsageError) as caught:
        choose(pattern, inventory)
    assert f"--limit {pattern!r}" in caught.value.seen
    return "\n".join(caught.value.lines())


LIMIT_FILES = {
    "retry": "db-b\n\n  alpha  \nzeta\n",
    "groups": "web\n!alpha\n",
    "only_less": "!web\n",
    "not_split": "db-a,db-b\n",
    "nested": "@retry\n",
    "unknown": "db-b\nnosuch\n",
    "windows": "db-b\r\nalpha\r\n",
}
PATTERNS = """
all|*|ungrouped|web|db|prod|mail|canary|nobody|top|middle|bottom|side|left|right|zebra|ant|alpha|beta|zeta|h1|h3|lone
web:db|db,web|db:web:canary|web,db , lone|web db|zeta:alpha:lone|lone,web-01.example.net|alpha,alpha|all:web
all:!web|!web|!web:!db|web:!canary|web,!web-03.example.net|all,!*.example.net|!prod:!mail|!h1|all:!all|web:!web
web:&canary|&canary|all:&web:&canary|web:&db|prod:&canary:!db|&web,&db|all,&h1|web:&nobody|&nobody
web*|*-01*|db-?|db-[ab]|db-[!ab]|*.example.net|w*:!web1|*e*|????|[a-d]*|un*|al*|h?|web?|web[12]|web[1-2]|prod*:&web*
~web|~(web|db)-.*|~.*\\.net$|~^h[13]$|~db-[a-c]|~w:!~.*\\.net|~.*a|~ung|~all|!~.*e.*|all:&~db|~|~x{2}y
web[0]|web[-1]|web[-3]|web[1:2]|web[1:]|web[0:0]|web[2:0]|web[0:-1]|web[9]|web[-9]|web[9:12]|web[1:99]|lone[0]|lone[1]
web[0]:db[0]|web[0],db[1:2]|web[0]:!alpha|all[0]|all[-1]|all[2:4]|*[0]|*[3]|*[10:14]|w*[3]|w*[5]|ungrouped[0]|db*[6]
web[0:1]:db|!web[0]|all:!web[1:2]|prod:&web[0:1]|web[]|web[x]|web[|web]|web[0|[0]|[0:1]|web[0][0]|top[0]|top[2]|top[-2]
nobody[0]|nobody[3]|nobody[0:1]|left[0]|middle[1:3]|web-01.example.net[0]|db-a[0]|db-[a:c]|web-[01:02].example.net
2001:db8::1|2001:db8::2|[2001:db8::1]:22|[2001:db8::1]|2001:db8::1,web|web,2001:db8::1|web:2001:db8::1|!2001:db8::1
192.0.2.7|192.0.2.7:22|192.0.2.[6:7]|192.0.2.7:web|h1:2222|h1:web|h1,2222|*::1|~2001|192.*|2001:*
nosuch|web:nosuch|nosuch:web|all:!nosuch|all:&nosuch|nosuch*|~nosuch|WEB|Web|we|web:|:web|web::db|web,,db|,web,
~[|~(|web:~*|~a{99999999999}|~[[a]|!|&|web:!|web,&|!!web|&!web|!&web|web:!!db|-web|a|-|.|~.|?|[]|[!]|[a
127.0.0.1|::1|localhost|all:!localhost|!localhost|localhost[0]|localhost*|all:!127.0.0.1|&localhost
@retry|@groups|@only_less|@not_split|@nested|@unknown|@windows|@missing|@.|web,@retry|@retry:!alpha|!@retry|@retry,&db|@
@retry[0]|zeta, @retry|web:@groups|@~/x
""".replace("\n", "|").split("|")
KINDS = sorted({pattern for pattern in PATTERNS if pattern})


@needs_ansible
@pytest.mark.parametrize("name", FILES)
def test_the_same_hosts_in_the_same_order(name: str, theirs: Ansible, there: None) -> None:
    inventory = load(DATA / name)
    expected = {pattern: theirs.ask(DATA / name, pattern) for pattern in KINDS}
    assert sum(found is not None for found in expected.values()) > 20, "Ansible refuses nearly everything"
    assert {pattern: ours(pattern, inventory) for pattern in KINDS} == expected


ATOMS = st.sampled_from(
    ["web", "db", "prod", "canary", "mail", "web_east", "nobody", "ungrouped", "all", "*", "alpha", "zeta", "lone",
     "h1", "db-?", "w*", "*e*", "~db", "~.*a$", "~w|m", "web-0*", "db-[bc]", "web[12]", "*.net", "nosuch", "192.0.2.7",
     "@retry"]
)  # fmt: skip
SUBSCRIPTS = st.sampled_from(["", "", "", "[0]", "[-1]", "[1:]", "[1:2]", "[0:0]", "[4]", "[2-3]", "[3:1]"])
PARTS = st.builds("{}{}{}".format, st.sampled_from(["", "", "!", "&"]), ATOMS, SUBSCRIPTS)


@needs_ansible
@given(st.lists(PARTS, min_size=1, max_size=4), st.sampled_from([":", ",", ", ", " "]))
def test_any_parts_in_any_order(theirs: Ansible, parts: list[str], between: str) -> None:
    pattern = between.join(parts).replace("@retry", f"@{theirs.folder}/retry")
    assert ours(pattern, load_once("fleet.yaml")) == theirs.ask(DATA / "fleet.yaml", pattern)


ADDRESS = st.text(st.sampled_from("01af:::[].-_g"), max_size=24)
PIECES = [
    "a",
    "web",
    "1",
    "ff",
    "::",
    ":",
    ",",
    " ",
    "[",
    "]",
    "[1:2]",
    "[a:c]",
    "[1:9:2]",
    "0:",
    "ffff",
    ".",
    "-",
    "_",
]


@needs_ansible
@given(st.one_of(ADDRESS, st.text(max_size=8), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
@example("1:2:3:4:5:6:7:8")
@example("a:b:c:d:e:f:a:b:c")
@example("::ffff:192.0.2.3")
@example("0:0:0:0:0:ffff:192.0.2.3")
@example("[x:22]:33")
@example("1:2::[3:4]")
def test_patterns_are_split_as_ansible_splits_them(theirs: Ansible, pattern: str) -> None:
    assert split(pattern) == theirs.ask(None, pattern)


@needs_ansible
@pytest.mark.parametrize(
    ("name", "pattern"),
    [("fleet.yaml", "db:web[1:]:!canary"), ("fleet.yaml", "@retry,lone"), ("deep.yaml", "all"), ("deep.yaml", "top[2]"),
     ("fleet.yaml", "nosuch"), ("ranges.yaml", "2001:db8::2")],
)  # fmt: skip
def test_the_command_line_says_so_too(name: str, pattern: str, theirs: Ansible, there: None) -> None:
    command = [str(ansible), "all", "-i", str(DATA / name), "--list-hosts", "--limit", pattern]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    head, *listed = done.stdout.splitlines() or [""]
    found = ours(pattern, load(DATA / name))
    assert (done.returncode == 0) == (found is not None), done.stderr
    if found is not None:
        assert head == f"  hosts ({len(found)}):"
        assert [line.strip() for line in listed] == found


# Where we differ, and what is said


FLEET: dict[str, Inventory] = {}


def load_once(name: str) -> Inventory:
    if name not in FLEET:
        FLEET[name] = load(DATA / name)
    return FLEET[name]


@pytest.mark.parametrize("pattern", ["", " ", ",", ":", "[", "]", "@empty"])
def test_a_limit_that_names_nothing_is_not_all(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n  \n")
    found = told(pattern, load_once("fleet.yaml"))
    assert "names no host" in found
    assert "--limit all" in found


def test_localhost_has_to_be_in_the_inventory() -> None:
    fleet = load_once("fleet.yaml")
    assert "add under `hosts`: localhost: {ansible_connection: local}" in told("localhost", fleet)
    assert "127.0.0.1" in told("web,127.0.0.1", fleet)
    assert len(names("all:!localhost", fleet)) == len(fleet.hosts)
    assert names("localhost", load_once("deep.yaml")) == names("::1", load_once("deep.yaml")) == ["localhost"]
    here = loads(b"all: {vars: {services: {a: {command: x}}}, hosts: {mini: {ansible_connection: local}}}", Path("/i"))
    assert "--limit mini, which is this machine" in told("localhost", here)


def test_a_file_without_hosts_is_about_this_machine() -> None:
    inventory = loads(b"all: {vars: {services: {a: {command: x}}}}", Path("/etc/ops/inventory.yaml"))
    for pattern in ("all", "localhost", "*", "ungrouped", "local*"):
        assert names(pattern, inventory) == ["localhost"]


def test_an_inventory_that_knows_no_groups_asks_its_hosts() -> None:
    """As one host has it, or one that is put together from what was kept."""
    fleet = load_once("fleet.yaml")
    bare = Inventory(fleet.path, fleet.stack, fleet.hosts)
    for pattern in ("canary", "web:!canary", "db:lone", "ungrouped", "*"):
        assert set(names(pattern, bare)) == set(names(pattern, fleet))


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("wbe", ["matches no host or group", "did you mean 'web'?", "such as all, prod, web, db", ", ..."]),
        ("web:db-z", ["has 'db-z', which matches no host or group", "did you mean 'db-"]),
        ("all:!canari", ["has '!canari'", "did you mean 'canary'?"]),
        ("web:db,lone", ["has 'web:db', which matches", "next:   commas between all parts"]),
        ("!", ["has a '!' with nothing after it"]),
        ("~(", ["'~(', which is no regular expression: missing )"]),
        ("web[7]", ["asks for 'web[7]', but has 4 to take it from", "[0] to [3], or [-1] for the last"]),
        ("web[7:9]", ["leaves no host", "such as all"]),
        ("web:!prod", ["leaves no host"]),
        ("@nowhere", ["names 'nowhere', which does not exist"]),
        ("@/", ["names '/', which is no file"]),
        ("@\0", ["names '\\x00', which"]),
    ],
)
def test_what_is_wrong_is_told(pattern: str, parts: Sequence[str]) -> None:
    found = told(pattern, load_once("fleet.yaml"))
    assert [part for part in parts if part not in found] == []


def test_files_that_are_no_lists_of_hosts(tmp_path: Path) -> None:
    fleet = load_once("fleet.yaml")
    odd = tmp_path / "odd"
    odd.write_bytes(b"\xff\xfe")
    assert "cannot be read" in told(f"@{odd}", fleet)
    odd.write_bytes(b"alpha\n" * 200_000)
    assert "has more than 1048576 bytes" in told(f"@{odd}", fleet)
    odd.write_bytes(b"\xef\xbb\xbfalpha\n")
    assert names(f"@{odd}", fleet) == ["alpha"]
    odd.unlink()
    os.mkfifo(odd)
    assert "which is no file" in told(f"@{odd}", fleet)


def test_groups_know_their_hosts_in_ansibles_order() -> None:
    groups = load_once("deep.yaml").groups
    assert groups["top"] == ("t2", "t1", "m2", "m1", "s1", "e1", "e2")
    assert groups["ungrouped"] == ("u2", "u1", "localhost")
    assert groups["all"][:3] == ("u1", "t2", "localhost")
    assert load_once("fleet.yaml").groups["nobody"] == ()
