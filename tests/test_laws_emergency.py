"""Law 7: emergencies need little. With a full disk, a read-only one, nothing readable left or no log folder, the
commands of an emergency still work, say what they could not keep, and nothing is started twice afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ops.host import process
from tests.stack import PYTHON, Stack
from tests.waiting import until

LINUX_ROOT = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting a tmpfs needs root on Linux"
)
NOBODY = 65534


class Disk:
    """A tiny disk of its own, with the state folder on it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64,mode=755", "tmpfs", folder], check=True)
        stack.state = folder / "state"
        stack.env["OPS_STATE"] = str(stack.state)

    def fill(self) -> None:
        """Until neither a byte nor a file fits any more."""
        for number in range(64):  # as many files as there may be
            fill_up(self.folder / f"filler{number}")
        with pytest.raises(OSError, match="No space left"):
            (self.folder / "more").touch()

    def free(self) -> None:
        for path in self.folder.glob("filler*"):
            path.unlink()

    def make(self, mode: str) -> None:
        """Read-only (ro) or writable again (rw)."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True)


def fill_up(path: Path) -> None:
    """Makes the file as large as it can be, if it can be made at all."""
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def disk(stack: Stack, tmp_path: Path) -> Iterator[Disk]:
    made = Disk(stack, tmp_path / "disk")
    try:
        yield made
    finally:
        stack.end()
        subprocess.run(["umount", "-l", made.folder], check=True)


def two(stack: Stack) -> None:
    stack.tiny("api", "--print=begun")
    stack.tiny("web", needs=["api"])
    stack.write()


def copies(stack: Stack) -> dict[str, list[int]]:
    """The pids of each service."""
    return {name: [one.pid for one in stack.running(name)] for name in stack.services}


def emergency(stack: Stack, note: str, harm: Callable[[Stack], None] = lambda stack: None) -> None:
    """Everything that one types in an emergency; each meets the harm, does its work, and says `note`. All up then."""
    port = str(stack.services["api"]["port"])
    for one in stack.running("web"):
        process.send(one, signal.SIGKILL)
    until(lambda: not stack.running("web"))
    for args, running in (
        (["start"], {"api", "web"}),
        (["restart-one", "api"], {"api", "web"}),
        (["kill-port", port], {"web"}),
        (["reset"], {"api", "web"}),
    ):
        harm(stack)
        before = copies(stack)
        done = stack.ok(*args, "--json")
        after = copies(stack)
        assert {name for name, pids in after.items() if pids} == running, str(done)
        assert all(len(pids) <= 1 for pids in after.values()), str(done)
        assert note in done.err or args[0] == "kill-port", str(done)
        if args[0] in ("restart-one", "reset"):
            assert before["api"] != after["api"]
        for name in running:
            assert stack.get(name)[0] == 200


def adopted(stack: Stack) -> None:
    """With the trouble over, what runs is taken as it is."""
    before = copies(stack)
    done = stack.ok("start", "start", "--json", "status", "--json")
    assert copies(stack) == before
    again, status = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    assert again["recap"]["localhost"]["changed"] == 0
    assert {one["name"]: [one["pid"]] for one in status["hosts"]["localhost"]["services"]} == before
    assert json.loads((stack.state / "services" / "api.json").read_text())["process"]["pid"] == before["api"][0]
    stack.ok("stop")
    assert not stack.running()


def down_but_not_recorded(stack: Stack) -> None:
    """`stop` ends them all the same, and says that it cannot keep them down."""
    done = stack.inv("stop", "--json")
    assert done.code == 2, str(done)
    assert {one["after"] for one in done.outcomes.values()} == {"down"}
    assert all("could not be recorded" in one["detail"] for one in done.outcomes.values())
    assert not stack.running()


@LINUX_ROOT
def test_law_7_a_full_disk_that_never_had_a_state_folder(stack: Stack, disk: Disk) -> None:
    two(stack)
    disk.fill()
    emergency(stack, "No space left on device")
    assert not stack.state.exists()
    down_but_not_recorded(stack)
    stack.ok("start")
    disk.free()
    adopted(stack)


@LINUX_ROOT
def test_law_7_a_disk_that_filled_up(stack: Stack, disk: Disk) -> None:
    two(stack)
    stack.ok("start")
    disk.fill()
    emergency(stack, "No space left on device")
    disk.free()
    adopted(stack)


@LINUX_ROOT
def test_law_7_a_disk_that_became_read_only(stack: Stack, disk: Disk) -> None:
    two(stack)
    disk.make("ro")
    stack.ok("start")  # without even a folder
    down_but_not_recorded(stack)
    disk.make("rw")
    stack.ok("start")
    for one in stack.running():
        process.send(one, signal.SIGKILL)  # its open log would keep the disk writable
    until(lambda: not stack.running())
    disk.make("ro")
    emergency(stack, "Read-only file system")
    disk.make("rw")
    adopted(stack)


def garbage(stack: Stack) -> None:
    """Every file of the state folder but the logs holds garbage, some are folders, the FIFO is a file."""
    for path in stack.state.rglob("*"):
        if path.is_file() and path.parent.name != "logs":
            path.write_bytes(b'{"services": [1, {"process": \xff\x00')
    (stack.state / "quiet").unlink(missing_ok=True)
    (stack.state / "quiet").write_text("no pipe")
    if not (stack.state / "frozen.json").is_dir():
        (stack.state / "frozen.json").unlink()
        (stack.state / "frozen.json").mkdir()


def no_folders(stack: Stack) -> None:
    """The folders for logs, records and locks are gone, and so is the public one."""
    for name in ("logs", "services", "locks"):
        shutil.rmtree(stack.state / name)
    shutil.rmtree(stack.public, ignore_errors=True)


def file_for_logs(stack: Stack) -> None:
    """A file stands where the folder for logs should be."""
    shutil.rmtree(stack.state / "logs", ignore_errors=True)
    (stack.state / "logs").write_text("no folder")


def half_written(stack: Stack) -> None:
    """Every file was cut off in its middle."""
    for path in stack.state.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("harm", "note"), [(garbage, ""), (no_folders, "public"), (file_for_logs, "logs"), (half_written, "")]
)
def test_law_7_a_broken_state_folder(stack: Stack, harm: Callable[[Stack], None], note: str) -> None:
    two(stack)
    stack.ok("start")
    emergency(stack, note, harm)
    if harm is file_for_logs:
        (stack.state / "logs").unlink()
    stack.public.mkdir(exist_ok=True)
    adopted(stack)


@LINUX_ROOT
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux)")
def test_law_7_a_state_folder_of_ours_that_we_may_not_write() -> None:
    """As somebody who is not root, for whom modes mean something. A mode that is wrong is put right."""
    folder = Path(tempfile.mkdtemp(prefix="ops-law-"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    stack = Stack(folder)
    # To read all files is allowed: this Python may lie in a folder of root.
    reading = [f"--{which}-caps=-all,+dac_read_search" for which in ("inh", "ambient")]
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading]
    try:
        stack.add("api", ["sleep", "1000"], port=None)
        stack.write()
        stack.state.mkdir()
        for path in (stack.state, stack.home, stack.public, stack.folder):
            os.chown(path, NOBODY, NOBODY)
        for args in (["start"], ["restart-one", "api"], ["reset"], ["stop"]):
            for path in [stack.state, *(path for path in stack.state.iterdir() if path.is_dir())]:
                path.chmod(0o500)
            done = subprocess.run(
                [*become, PYTHON, "-m", "invoke", *args],
                cwd=stack.folder,
                env=stack.env,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert (stack.state.stat().st_mode & 0o777, stack.state.stat().st_uid) == (0o700, NOBODY)
        assert json.loads((stack.state / "wanted.json").read_text())["services"]["api"]["up"] is False
    finally:
        for one in filter(None, map(process.identify, process.pids())):
            if (process.variable(one.pid, "OPS_RUN") or "").startswith(f"{stack.name}/"):
                process.send(one, signal.SIGKILL)
        stack.end()
        shutil.rmtree(folder)
