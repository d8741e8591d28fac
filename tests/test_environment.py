"""What a service is started with: the same for every spawner, and no secret of it anywhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ops.errors import SpawnError
from ops.memory.state import State
from ops.model import Host, Service
from ops.model import Stack as StackOptions
from ops.operations import environment
from tests.stack import Stack

SECRET = "hunter2-do-not-tell"


class Place:
    """A host in a folder of its own, with programs on a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        options = StackOptions("t", "t")
        self.host = Host("localhost", str(self.root), (), options)
        self.state = State(options, str(self.root), str(folder / "state"))
        self.state.prepare()

    def program(self, *parts: str) -> str:
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return str(path)

    def freeze(self, name: str, **values: Any) -> None:
        self.state.freeze({name: values}, "test")

    def prepare(self, service: Service, **more: Any) -> Any:
        return environment.prepare(self.host, self.state, service, **more)

    def env_file(self, text: str | bytes, mode: int = 0o600) -> Service:
        path = self.root / "secret.env"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return Service("api", ("/bin/sh",), env_file="secret.env")

    def variables(self, service: Service) -> Mapping[str, str]:
        return environment.variables(self.host, service, {})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# -- what is frozen --------------------


def test_capture_takes_five_variables_and_no_other() -> None:
    five = {"PATH": "/bin", "HOME": "/h", "LANG": "C", "TZ": "UTC", "TMPDIR": "/t"}
    assert environment.capture({**five, "SECRET": SECRET, "PWD": "/", "VIRTUAL_ENV": "/v"}) == five


def test_f38_capture_fills_in_what_must_not_be_missing() -> None:
    kept = environment.capture({})
    assert kept == {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.path.expanduser("~")}
    assert environment.capture({"PATH": "", "TZ": "", "HOME": "/h"}) == {**kept, "HOME": "/h"}


def test_what_is_frozen_wins_over_the_shell_until_it_is_refreshed(place: Place) -> None:
    service = Service("api", ("/bin/sh",))
    assert environment.frozen(place.state, service)["env"] == environment.capture()
    place.freeze("api", env={"PATH": "/frozen", "HOME": "/h"}, programs={})
    launch, kept = place.prepare(service)
    assert launch.env == kept["env"] == {"PATH": "/frozen", "HOME": "/h"}
    launch, kept = place.prepare(service, refresh=True)
    assert launch.env == kept["env"] == environment.capture()
    other, _ = place.prepare(Service("web", ("/bin/sh",)))
    assert other.env == environment.capture()


@pytest.mark.parametrize(
    "garbage", [None, [], "x", {"env": [], "programs": 3}, {"env": {"PATH": 3}}, {"env": None}, {"env": {"PATH": None}}]
)
def test_f48_garbage_is_captured_anew(place: Place, garbage: Any) -> None:
    place.state.freeze({"api": garbage}, "test")
    launch, kept = place.prepare(Service("api", ("sh",)))
    assert launch.env == environment.capture()
    assert kept["programs"] == {"sh": launch.argv[0]}


def test_f48_a_frozen_environment_without_a_path_still_finds_programs(place: Place) -> None:
    place.state.freeze({"api": {"env": {"HOME": "/h"}, "programs": {"sh": 5}}}, "test")
    launch, _ = place.prepare(Service("api", ("sh",)))
    assert os.path.isabs(launch.argv[0])


# -- the program --------------------


def test_the_frozen_program_wins_and_when_it_is_gone_it_is_found_on_the_frozen_path(place: Place) -> None:
    old, new = place.program("one", "node"), place.program("two", "node")
    path = f"{place.root}/two:{place.root}/one"
    place.freeze("api", env={"PATH": path, "HOME": "/h"}, programs={"node": old})
    service = Service("api", ("node", "index.js"))
    assert place.prepare(service)[0].argv == (old, "index.js")
    os.unlink(old)
    launch, kept = place.prepare(service)
    assert launch.argv == (new, "index.js")
    assert kept["programs"] == {"node": new}


def test_f38_a_program_that_is_nowhere_is_named_with_the_path_and_what_to_do(place: Place) -> None:
    place.freeze("api", env={"PATH": "/no/such/folder", "HOME": "/h"}, programs={})
    with pytest.raises(SpawnError) as told:
        place.prepare(Service("api", ("node",)))
    text = "\n".join(told.value.lines())
    assert "'node' was not found" in text
    assert "/no/such/folder" in text
    assert "inv start --only api --refresh-env" in text


def test_a_relative_program_is_one_in_the_services_folder(place: Place) -> None:
    path = place.program("services", "api", "bin", "serve")
    service = Service("api", ("./bin/serve", "x"), cwd="services/api")
    launch, _ = place.prepare(service)
    assert (launch.argv, launch.cwd) == ((path, "x"), str(place.root / "services" / "api"))
    with pytest.raises(SpawnError, match=re.escape("'./bin/gone' was not found")):
        place.prepare(Service("api", ("./bin/gone",), cwd="services/api"))


def test_home_is_expanded_in_program_folder_and_env_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place.root))
    path = place.program("bin", "serve")
    place.env_file("KEY=value")
    service = Service("api", ("~/bin/serve",), cwd="~/bin", env_file="~/secret.env")
    launch, _ = place.prepare(service)
    assert (launch.argv, launch.cwd) == ((path,), str(place.root / "bin"))
    assert launch.env["KEY"] == "value"


def test_neither_a_folder_nor_a_plain_file_is_a_program(place: Place) -> None:
    (place.root / "plain").write_text("x")
    for word in ("./plain", "./", str(place.root)):
        with pytest.raises(SpawnError, match="was not found"):
            place.prepare(Service("api", (word,)))


def test_placeholders_are_filled_in(place: Place) -> None:
    service = Service("api", ("{python}", "-m", "x", "--port={port}", "{name}", "{other}"), port=5101)
    launch, kept = place.prepare(service)
    assert launch.argv[1:] == ("-m", "x", "--port=5101", "api", "{other}")
    assert launch.argv[0] == sys.executable
    assert kept["programs"] == {"{python}": sys.executable}


def test_a_folder_that_does_not_exist_is_named_with_the_service(place: Place) -> None:
    with pytest.raises(SpawnError) as told:
        place.prepare(Service("api", ("sh",), cwd="gone"))
    assert str(place.root / "gone") in told.value.seen
    assert "`cwd` of api" in told.value.next


def test_law_5_preparing_writes_nothing(place: Place) -> None:
    before = sorted(os.listdir(place.state.path))
    place.prepare(Service("api", ("sh",)))
    assert sorted(os.listdir(place.state.path)) == before
    assert place.state.frozen() == {}


# -- the env_file --------------------


def test_an_env_file_is_read_line_by_line(place: Place) -> None:
    service = place.env_file(
        "# a comment\n\n  # another\nPLAIN=value\n  SPACED = in and out  \nexport EXPORTED=yes\n"
        'DOUBLE="a b"\nSINGLE=\'a "b"\'\nEMPTY=\nEQUALS=a=b=c\nHASH=a#b\nHALF="a\nTWICE=1\nTWICE=2\nWINDOWS=x\r\n'
        "UNICODE=naïve\u2028still the same line\x0cand still\nLAST=no newline"
    )
    assert place.variables(service) == {
        "PLAIN": "value",
        "SPACED": "in and out",
        "EXPORTED": "yes",
        "DOUBLE": "a b",
        "SINGLE": 'a "b"',
        "EMPTY": "",
        "EQUALS": "a=b=c",
        "HASH": "a#b",
        "HALF": '"a',
        "TWICE": "2",
        "WINDOWS": "x",
        "UNICODE": "naïve\u2028still the same line\x0cand still",
        "LAST": "no newline",
    }


def test_a_byte_order_mark_belongs_to_no_name(place: Place) -> None:
    assert place.variables(place.env_file(b"\xef\xbb\xbfKEY=value\n")) == {"KEY": "value"}


def test_the_env_file_wins_over_env_which_wins_over_what_is_frozen(place: Place) -> None:
    place.env_file("A=file\n")
    service = Service("api", ("sh",), env={"A": "env", "B": "env"}, env_file="secret.env")
    assert environment.variables(place.host, service, {"A": "frozen", "B": "frozen", "C": "frozen"}) == {
        "A": "file",
        "B": "env",
        "C": "frozen",
    }


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601, 0o666])
def test_an_env_file_that_others_may_read_is_refused(place: Place, mode: int) -> None:
    with pytest.raises(SpawnError) as told:
        place.variables(place.env_file(f"KEY={SECRET}\n", mode))
    assert "may be read by others" in told.value.seen
    assert told.value.next == f"chmod 600 {place.root / 'secret.env'}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_env_file_of_another_user_is_refused(place: Place) -> None:
    service = place.env_file(f"KEY={SECRET}\n")
    os.chown(place.root / "secret.env", 65534, 65534)
    with pytest.raises(SpawnError) as told:
        place.variables(service)
    assert "belongs to user nobody" in told.value.seen


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (f"{SECRET}\n", 1),
        (f"A=1\n\n# x\n{SECRET}\n", 4),
        (f"A=1\n2KEY={SECRET}\n", 2),
        (f"A B={SECRET}\n", 1),
        (f"={SECRET}\n", 1),
        (f"A=1\nKEY-X={SECRET}", 2),
        (f"A=\u2028\nnot a pair {SECRET}", 2),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_never_shown(place: Place, line: str, number: int) -> None:
    with pytest.raises(SpawnError) as told:
        place.variables(place.env_file(line))
    assert f"secret.env, line {number}: wanted KEY=VALUE" in told.value.seen
    assert SECRET not in "\n".join(told.value.lines())


def test_an_env_file_that_cannot_be_read_is_named(place: Place) -> None:
    for make, why in (
        (lambda: place.env_file(b"KEY=\xff\xfe" + SECRET.encode()), "is not UTF-8 text"),
        (lambda: Service("api", ("sh",), env_file="gone.env"), "No such file or directory"),
        (lambda: Service("api", ("sh",), env_file="."), "is not a regular file"),
    ):
        with pytest.raises(SpawnError) as told:
            place.variables(make())
        assert why in told.value.seen
        assert SECRET not in "\n".join(told.value.lines())


# -- markers --------------------


def test_the_run_marker_names_stack_service_and_run() -> None:
    assert environment.MARKER == "OPS_RUN"
    assert environment.marker("stack", "api", "123") == "stack/api/123"
    assert environment.marker("stack", "api", "123").startswith(environment.marker("stack", "api"))
    assert not environment.marker("stack", "api2", "1").startswith(environment.marker("stack", "api"))


# -- all of it, by the real command --------------------


def test_f38_a_service_has_the_environment_of_its_first_start_and_no_secret_is_kept(stack: Stack) -> None:
    path = stack.folder / "secret.env"
    path.write_text(f"TOKEN={SECRET}\n")
    path.chmod(0o600)
    stack.tiny("api", env={"MODE": "test"}, env_file="secret.env")
    stack.write()
    spoilt = {"SHELL_ONLY": "1", "TZ": "Asia/Kolkata"}
    shown = stack.ok("start", "--json", env=spoilt)

    def of_the_service() -> dict[str, str]:
        (one,) = stack.running("api")
        with open(f"/proc/{one.pid}/environ", "rb") as file:
            pairs = file.read().decode().rstrip("\0").split("\0")
        return dict(pair.split("=", 1) for pair in pairs)

    first = of_the_service()
    assert first.keys() == {"PATH", "HOME", "LANG", "TZ", "MODE", "TOKEN", "OPS_RUN"}
    assert (first["TOKEN"], first["TZ"], first["MODE"]) == (SECRET, "Asia/Kolkata", "test")
    again = stack.ok("restart-one", "api", env={"TZ": "UTC", "LANG": "C", "PATH": "/usr/bin:/bin"})
    assert {**of_the_service(), "OPS_RUN": ""} == {**first, "OPS_RUN": ""}
    stack.ok("restart-one", "api", "--refresh-env", env={"TZ": "UTC"})
    assert of_the_service()["TZ"] == "UTC"
    kept = [file.read_bytes() for file in stack.state.rglob("*") if file.is_file()]
    assert kept
    assert not any(SECRET.encode() in content for content in kept)
    assert SECRET not in shown.out + shown.err + again.out + again.err
