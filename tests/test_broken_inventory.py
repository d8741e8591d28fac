"""A broken inventory blinds nobody: who only looks is shown the last good one, and told so; who changes is refused."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest

from ops.inventory import load
from ops.memory.last_good import LastGood
from ops.model import Host
from tests.scene import NOBODY, alone, as_root, ended
from tests.stack import Done, Stack
from tests.waiting import until

PLACE = "inventory.yaml:3: column 10: "
LOOKING = ("status", "health", "report", "alerts")
CHANGING = ("start", "stop", "restart", "restart-one api", "reset", "kill-port 1", "hold api", "monitor-stop")


def watched(stack: Stack) -> Path:
    """Up with a monitor, its state where it is by default: in a folder that only the inventory names. The inventory."""
    del stack.env["OPS_STATE"]
    above = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    stack.state = stack.home / above / stack.name
    stack.ops["monitor"] = True
    stack.tiny("api", critical=True)
    stack.tiny("other")
    stack.write()
    stack.ok("start")
    return stack.folder / "inventory.yaml"


def broken(file: Path) -> str:
    """Breaks its third line; what it was."""
    good = file.read_text()
    assert good.splitlines()[2] == "    ops:"
    file.write_text(good.replace("    ops:\n", "    ops: ]\n", 1))
    return good


def told(done: Done, file: Path, what: str = PLACE) -> None:
    """The warning came once and first: what is wrong, what is used instead, what to type."""
    lines = done.err.splitlines()
    assert lines[0].startswith("warning: ") and str(file) in lines[0], str(done)
    assert what in "\n".join(lines[:2]), str(done)
    assert "  next:   inv check-inventory" in lines[2:4], str(done)
    assert "\n  used:   the last good inventory, of 20" in done.err, str(done)
    assert (done.out + done.err).count(what) == 1, str(done)


def test_f46_who_looks_is_shown_the_last_good_inventory_and_told_so(stack: Stack) -> None:
    file = watched(stack)
    before = {name: alone(stack, name) for name in stack.services}
    broken(file)
    until(
        lambda: PLACE in (stack.state / "readings.json").read_text(), 40
    )  # the monitor says so as well: once is enough
    for task in LOOKING:
        told(stack.ok(task), file)
    tailed = stack.ok("tail", "monitor", "--no-follow", "--lines", "1000")
    told(Done(tailed.args, 0, "", tailed.err, 0), file)  # the log has the monitor's own word on it
    assert "begins to watch 2 services" in tailed.out
    for task in ("status", "health"):
        done = stack.ok(task, "--json")
        told(done, file)
        assert done.document.keys() == {"schema", "task", "healthy", "hosts"}
        assert {name: one["pid"] for name, one in done.services.items()} == {n: one.pid for n, one in before.items()}
        assert {one["state"] for one in done.services.values()} == {"up"}
    done = stack.ok("report", "--json")
    told(done, file)
    assert [one["name"] for one in done.document["hosts"]["localhost"]["services"]] == ["api", "other"]
    assert {name: alone(stack, name) for name in stack.services} == before
    kept = (stack.state / "inventory.last").stat().st_mtime_ns
    ended(stack.watcher())  # the next one has read nothing good: what is kept stays as old as it is
    until(lambda: "broken, so the last good one holds" in (stack.state / "logs" / "monitor.log").read_text(), 40)
    assert (stack.state / "inventory.last").stat().st_mtime_ns == kept


def test_the_exit_code_is_that_of_the_services(stack: Stack) -> None:
    file = watched(stack)
    stack.ok("monitor-stop")
    good = broken(file)
    stack.ok("health")
    ended(alone(stack, "api"))
    for task in ("health", "status"):
        done = stack.inv(task, "--json")
        assert done.code == 2, str(done)
        assert (done.document["healthy"], done.services["api"]["state"]) == (False, "down")
        told(done, file)
    unknown = stack.inv("health", "--only", "new")  # it may stand in the broken file
    assert (unknown.code, "unknown service 'new'" in unknown.err) == (1, True)
    told(unknown, file)
    file.unlink()
    gone = stack.inv("status")
    assert gone.code == 2
    told(gone, file, "which does not exist")
    file.write_text(good)
    assert "warning" not in stack.inv("status").err


def test_who_changes_something_is_refused(stack: Stack) -> None:
    file = watched(stack)
    before = {name: alone(stack, name) for name in stack.services}
    broken(file)
    for line in CHANGING:
        done = stack.inv(*line.split())
        assert (done.code, done.out) == (1, ""), str(done)
        assert done.err.startswith("error: ") and PLACE in done.err and "last good" not in done.err, str(done)
    assert stack.inv("check-inventory").code == 1
    assert {name: alone(stack, name) for name in stack.services} == before
    assert stack.watcher()


def test_a_watch_goes_on_over_a_broken_file_and_says_so_once(stack: Stack) -> None:
    file = watched(stack)
    out, err = stack.folder / "out", stack.folder / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        looking = stack.popen("status", "--watch", "0.1", stdout=stdout, stderr=stderr)
    until(lambda: out.read_text().count("2 of 2") > 1)
    assert err.read_text() == ""
    broken(file)
    until(lambda: "check-inventory" in err.read_text())
    seen = out.read_text().count("2 of 2")
    until(lambda: out.read_text().count("2 of 2") > seen + 3)
    looking.send_signal(signal.SIGINT)
    assert looking.wait(timeout=30) == 130
    told(Done(["status"], 130, "", err.read_text(), 0), file)


def test_without_a_last_good_one_it_is_refused(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start")  # without a monitor
    host, file = host_of(stack), stack.folder / "inventory.yaml"
    broken(file)
    for task in ("status", "health"):
        done = stack.inv(task, "--json")
        assert (done.code, done.document["hosts"], PLACE in done.document["error"]) == (1, {}, True), str(done)
        assert done.err.startswith("error: ") and PLACE in done.err and "last good" not in done.err
    last_of(stack).keep(host, "")  # as a monitor would have; here $OPS_STATE says where
    told(stack.ok("health"), file)


# -- what is believed ------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(stack: Stack) -> Path:
    """The file that a monitor of a stack has left, without one."""
    stack.tiny("api", health=[{"http": "/", "json": {"a": [1, None]}, "header": {"x": "y"}, "status": 201}])
    stack.write()
    stack.state.mkdir()
    last_of(stack).keep(host_of(stack), "")
    return stack.state / "inventory.last"


def last_of(stack: Stack) -> LastGood:
    return LastGood(str(stack.state), str(stack.folder / "inventory.yaml"))


def host_of(stack: Stack) -> Host:
    (host,) = load(stack.folder / "inventory.yaml").hosts
    return host


def believed(stack: Stack) -> bool:
    return last_of(stack).read() is not None


def test_what_is_kept_is_what_was_read(stack: Stack, kept: Path) -> None:
    found = last_of(stack).read()
    assert found and found.host == host_of(stack)
    assert found.read_at == kept.stat().st_mtime
    link = stack.folder.with_name("link")  # another way to the same file
    link.symlink_to(stack.folder)
    assert LastGood(str(stack.state), str(link / "inventory.yaml")).read() == found
    assert LastGood(str(stack.state), str(stack.folder / "other.yaml")).read() is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_can_write_is_not_believed(stack: Stack, kept: Path, mode: int) -> None:
    kept.chmod(mode)
    assert not believed(stack)
    kept.chmod(0o644)
    assert believed(stack)


@as_root
def test_what_another_user_owns_is_not_believed(stack: Stack, kept: Path) -> None:
    os.chown(kept, NOBODY, NOBODY)
    assert not believed(stack)


def test_a_link_is_not_believed(stack: Stack, kept: Path) -> None:
    kept.rename(kept.with_name("elsewhere"))
    kept.symlink_to("elsewhere")
    assert not believed(stack)


def test_what_another_version_has_written_is_not_believed(stack: Stack, kept: Path) -> None:
    head, body = kept.read_bytes().split(b"\n", 1)
    assert believed(stack)
    for said in ({"schema": 2}, {"model": "0123456789abcdef"}):
        kept.write_bytes(json.dumps({**json.loads(head), **said}).encode() + b"\n" + body)
        assert not believed(stack)
    for content in (b"", b"\n", head, head + b"\n", head + b"\n" + body[:-9], body, os.urandom(4096)):
        kept.write_bytes(content)
        assert not believed(stack)


class Deed:
    """A pickle that does something when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_reading_does_nothing_that_is_asked_for_there(stack: Stack, kept: Path, tmp_path: Path) -> None:
    head = kept.read_bytes().split(b"\n", 1)[0]
    kept.write_bytes(head + b"\n" + pickle.dumps(Deed(tmp_path / "done")))
    assert not believed(stack)
    assert not (tmp_path / "done").exists()
    pickle.loads(pickle.dumps(Deed(tmp_path / "done")))  # it would have
    assert (tmp_path / "done").exists()
