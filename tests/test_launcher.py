"""`./inv` for real: real venvs, real pip, real kills, in temporary copies whose path has a space in it.

The project around the launcher is a small one without dependencies, built by a backend that lies beside it,
so that nothing here needs the network. The whole project is set up by `.ci/run`, from a fresh clone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import until

LAUNCHER = Path(__file__).resolve().parent.parent / "inv"
PYTHON = getattr(sys, "_base_executable", sys.executable)
LIMIT = 100  # seconds; a set-up takes 4 of them on an idle machine

pytestmark = pytest.mark.timeout(3 * LIMIT)  # of a test with its fixtures: two set-ups and more

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "settlepaisa-ops"
version = "1.0"
"""

# Builds the editable wheel of the small project: an `inv` that tells how it was started, and a .pth that names the
# folder, as a real one has. While a file named
# `hold` lies in the folder it waits, so that a test can interfere in the middle of pip's work.
BACKEND = '''
import pathlib, re, time, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    here = pathlib.Path.cwd()
    (here / "building").touch()
    deadline = time.monotonic() + 30
    while (here / "hold").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    version = re.search('version = "(.*)"', (here / "pyproject.toml").read_text()).group(1)
    info = f"settlepaisa_ops-{version}.dist-info"
    files = {
        "stub.py": STUB.replace("VERSION", version),
        "_settlepaisa_ops.pth": f"{here}\\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: settlepaisa-ops\\nVersion: {version}\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\ninv = stub:main\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"])
    wheel = f"settlepaisa_ops-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel

STUB = """
import json, os, sys

def main():
    told = {"version": "VERSION", "arguments": sys.argv[1:], "cwd": os.getcwd(), "prefix": sys.prefix}
    told["on_path"] = os.getcwd() in sys.path
    print(json.dumps(told))
    sys.exit(7 if sys.argv[1:] == ["fail"] else 0)
"""
'''

RUNS = 'exec "$REAL" "$@"'
# A real Python that says that it is an older one.
OLD = """
while [ "$1" != -c ]; do shift; done
exec "$REAL" -c 'import sys; sys.version_info = (3, 9, 6, "final", 0); exec(sys.argv.pop(1))' "$2" "$3"
"""
# Debian's Python without its python3-venv package; the text is Debian 12's.
WITHOUT_VENV = """
case " $* " in *" -m venv "*)
    echo 'The virtual environment was not created successfully because ensurepip is not'
    echo 'available.  On Debian/Ubuntu systems, you need to install the python3-venv'
    echo 'package using the following command.'
    exit 1 ;;
esac
exec "$REAL" "$@"
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the launcher in a small project, and the programs that it may find besides the system's."""

    folder: Path
    programs: Path

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(self.programs),
            "PIP_NO_INDEX": "1",
            "LC_ALL": "C.UTF-8",
        }

    def offer(self, name: str, body: str) -> None:
        """Put a program of this name first on the PATH."""
        program = self.programs / name
        program.write_text(f"#!/bin/sh\nREAL='{PYTHON}'\n{body}\n")
        program.chmod(0o755)

    def declare(self, old: str, new: str) -> None:
        file = self.folder / "pyproject.toml"
        file.write_text(file.read_text().replace(old, new))

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "inv"), *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The launcher in a session of its own, which is ended whole."""
        process = subprocess.Popen(
            [str(self.folder / "inv")],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                end_group(process.pid)

    @contextmanager
    def held_in_pip(self) -> Iterator[subprocess.Popen[str]]:
        """The launcher stopped in the middle of pip's work, until the `hold` file goes."""
        (self.folder / "building").unlink(missing_ok=True)
        (self.folder / "hold").touch()
        with self.running() as process:
            until((self.folder / "building").exists, within=LIMIT)
            yield process


def end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def copy_launcher(parent: Path) -> Copy:
    folder = parent / "our prøject"
    folder.mkdir()
    shutil.copy2(LAUNCHER, folder / "inv")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "ops").mkdir()
    (folder / "ops" / "good.py").write_text("1")
    (folder / "ops" / "not yet.py").write_text("1 +")
    (parent / "bin").mkdir()
    copy = Copy(folder, parent / "bin")
    copy.offer("python3", RUNS)
    return copy


@pytest.fixture
def fresh(tmp_path: Path) -> Copy:
    return copy_launcher(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A copy whose .venv is made; its first run was in an environment that wants to mislead it."""
    copy = copy_launcher(tmp_path_factory.mktemp("made"))
    environment = {**copy.environment, **MISLEADING}
    del environment["HOME"]
    link = copy.programs / "linked inv"
    link.symlink_to("../our prøject/inv")
    first = subprocess.run(
        [str(link), "a b", "*", "ü", "--json"],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert first.returncode == 0, first.stderr
    (copy.programs / "first.json").write_text(first.stdout)
    (copy.programs / "first.log").write_text(first.stderr)
    return copy


MISLEADING = {
    "PIP_USER": "1",
    "PIP_TARGET": "/nonexistent",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": "/nonexistent",
    "PYTHONHOME": "/nonexistent",
    "VIRTUAL_ENV": "/nonexistent",
    "CONDA_PREFIX": "/nonexistent",
    "CDPATH": "/usr",
}


def test_the_first_run_makes_the_venv_and_hands_every_argument_on(made: Copy) -> None:
    told = json.loads((made.programs / "first.json").read_text())  # nothing else on stdout
    assert told["arguments"] == ["a b", "*", "ü", "--json"]
    assert Path(told["cwd"]) == made.folder.resolve()
    assert Path(told["prefix"]) == made.venv.resolve()
    said = (made.programs / "first.log").read_text()
    assert "making .venv" in said
    assert f". '{made.venv.resolve()}/bin/activate'" in said


def test_the_package_is_compiled_whatever_the_environment_says(made: Copy) -> None:
    (compiled,) = (made.folder / "ops" / "__pycache__").iterdir()
    assert compiled.name.startswith("good.")


@pytest.mark.parametrize("locale", ["C", "POSIX", "xx_YY.UTF-8"])
def test_a_folder_that_the_locale_cannot_spell_is_found(made: Copy, locale: str) -> None:
    result = made.run("ü", LC_ALL=locale)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["arguments"], told["on_path"]) == (["ü"], True)


def test_a_set_up_in_a_locale_that_cannot_spell_the_folder(fresh: Copy) -> None:
    assert json.loads(fresh.run(LC_ALL="C").stdout)["on_path"]
    kept = fresh.venv / "used by a running service"
    kept.touch()
    fresh.declare('version = "1.0"', 'version = "1.1"')
    assert json.loads(fresh.run(LC_ALL="C").stdout)["version"] == "1.1"
    assert kept.exists()


def test_with_nothing_to_do_it_needs_no_python_of_the_system_and_says_nothing(made: Copy) -> None:
    made.run()
    tools = made.programs / "cmp only"
    tools.mkdir()
    (tools / "cmp").symlink_to(shutil.which("cmp") or "cmp")
    again = made.run("x", PATH=str(tools))
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["arguments"] == ["x"]


def test_the_exit_code_is_that_of_the_command(made: Copy) -> None:
    assert made.run("fail").returncode == 7


def test_a_changed_pyproject_is_installed_into_the_venv_that_is_there(made: Copy) -> None:
    kept = made.venv / "used by a running service"
    kept.touch()
    made.declare('version = "1.0"', 'version = "1.1"')
    changed = made.run()
    assert json.loads(changed.stdout)["version"] == "1.1"
    assert "up to date" in changed.stderr
    assert kept.exists()
    assert made.run().stderr == ""


def test_an_update_that_cannot_be_had_does_not_stop_the_command(made: Copy) -> None:
    made.declare("requires = []", 'requires = ["no-such-package-anywhere"]')
    try:
        result = made.run()
    finally:
        made.declare('requires = ["no-such-package-anywhere"]', "requires = []")
    assert result.returncode == 0
    assert json.loads(result.stdout)["arguments"] == []
    assert "going on with .venv as it is" in result.stderr


def test_a_folder_that_was_moved_or_copied_gets_a_venv_of_its_own(made: Copy, tmp_path: Path) -> None:
    copied = Copy(tmp_path / "elsewhere", made.programs)
    shutil.copytree(made.folder, copied.folder, symlinks=True)
    result = copied.run()
    assert "making .venv" in result.stderr
    assert Path(json.loads(result.stdout)["prefix"]) == copied.venv.resolve()


def test_a_venv_whose_python_is_gone_is_made_again(fresh: Copy) -> None:
    links = fresh.venv / "bin"
    links.mkdir(parents=True)
    (links / "python").symlink_to("/nonexistent/python3")
    (links / "inv").touch()
    result = fresh.run()
    assert result.returncode == 0, result.stderr
    assert Path(json.loads(result.stdout)["prefix"]) == fresh.venv.resolve()


def test_a_failing_pip_is_told_and_leaves_nothing_half_made(fresh: Copy) -> None:
    fresh.declare("requires = []", 'requires = ["no-such-package-anywhere"]')
    result = fresh.run()
    assert (result.returncode, result.stdout) == (1, "")
    assert "no-such-package-anywhere" in result.stderr
    assert "next: check the network" in result.stderr
    assert not fresh.venv.exists()


def test_pythons_that_are_too_old_or_do_not_run_are_named(fresh: Copy) -> None:
    fresh.offer("python3", OLD)
    fresh.offer("python3.12", "exit 127")
    result = fresh.run(PATH=only(fresh, "uname", "readlink"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "needs Python 3.10 or newer; seen: python3 3.9.6, python3.12 (does not run)" in result.stderr
    assert "next:" in result.stderr


def test_the_first_python_that_is_new_enough_is_taken(fresh: Copy) -> None:
    fresh.offer("python3", OLD)
    fresh.offer("python3.11", WITHOUT_VENV)
    result = fresh.run(PATH=only(fresh, "uname", "readlink"))
    assert "making .venv with Python" in result.stderr


def test_a_python_named_by_the_user_is_not_replaced_by_another(fresh: Copy) -> None:
    fresh.offer("old", OLD)
    result = fresh.run(OPS_PYTHON=str(fresh.programs / "old"))
    assert result.returncode == 1
    assert f"OPS_PYTHON names {fresh.programs}/old 3.9.6" in result.stderr


def test_a_debian_without_its_venv_package_gets_the_line_to_type(fresh: Copy) -> None:
    fresh.offer("python3", WITHOUT_VENV)
    fresh.offer("apt-get", "exit 1")
    result = fresh.run()
    assert (result.returncode, result.stdout) == (1, "")
    major, minor = sys.version_info[:2]
    assert f"next: sudo apt-get install python{major}.{minor}-venv" in result.stderr
    assert not fresh.venv.exists()


def test_of_eight_at_once_one_makes_the_venv(fresh: Copy) -> None:
    running = [
        subprocess.Popen(
            [str(fresh.folder / "inv"), str(number)],
            env=fresh.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    said = [process.communicate(timeout=LIMIT) for process in running]
    assert [process.returncode for process in running] == [0] * 8, said
    assert [json.loads(out)["arguments"] for out, _ in said] == [[str(number)] for number in range(8)]
    assert sum("making .venv with" in log for _, log in said) == 1
    assert sum("waiting for" in log for _, log in said) <= 7


def test_who_waits_names_the_one_who_makes_it_and_repairs_when_that_is_killed(fresh: Copy) -> None:
    with fresh.held_in_pip() as first, fresh.running() as second:
        assert second.stderr is not None
        assert second.stderr.readline() == f"./inv: waiting for pid {first.pid}, which is making .venv\n"
        end_group(first.pid)
        (fresh.folder / "hold").unlink()
        first.wait(LIMIT)
        assert second.wait(LIMIT) == 0
        assert "making .venv" in second.stderr.read()
    assert fresh.run().stderr == ""


def test_an_update_killed_in_the_middle_is_repaired_without_deleting_the_venv(made: Copy) -> None:
    kept = made.venv / "used by another running service"
    kept.touch()
    made.declare('version = "1', 'version = "2')
    with made.held_in_pip() as process:
        end_group(process.pid)
        process.wait(LIMIT)
    assert (made.folder / ".venv.lock").read_text() == f"{process.pid} update"
    (made.folder / "hold").unlink()
    result = made.run()
    assert json.loads(result.stdout)["version"].startswith("2")
    assert kept.exists()
    assert (made.folder / ".venv.lock").read_text() == ""


def test_ctrl_c_ends_with_130_and_leaves_nothing_half_made(fresh: Copy) -> None:
    with fresh.held_in_pip() as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(LIMIT) == 130
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert not fresh.venv.exists()


def only(copy: Copy, *tools: str) -> str:
    """A PATH of the offered programs and these tools of the system: no real Python is on it."""
    for tool in tools:
        link = copy.programs / tool
        if not link.exists():
            link.symlink_to(shutil.which(tool) or tool)
    return str(copy.programs)


def test_the_script_is_plain_sh() -> None:
    assert LAUNCHER.read_text().startswith("#!/bin/sh\n")
    for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]):
        if shutil.which(shell[0]):
            subprocess.run([*shell, "-n", str(LAUNCHER)], check=True)
