"""What a reader and a user of the fleet found wrong, so that it stays right. Real sshd on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.loopback import Loopback, made_ready, states
from tests.sshd import obstacle
from tests.waiting import until

pytestmark = [pytest.mark.skipif(bool(obstacle()), reason=obstacle()), pytest.mark.fabric]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Three hosts with the toolkit and a critical service; only h1 has `web`."""

    def define(made: Loopback) -> None:
        made.tiny_everywhere("api", critical=True)
        made.tiny_on("h1", "web")
        made.groups = {"eu": {"hosts": {"h1": None, "h2": None}}}

    with made_ready(tmp_path_factory.mktemp("ready"), define) as made:
        yield made


@pytest.fixture
def fleet(ready: Loopback) -> Iterator[Loopback]:
    yield ready
    ready.write()
    ready.ok("stop", "--limit", "h*")


def another_release(fleet: Loopback, host: str) -> Path:
    """As if the toolkit there were of another version; its folder."""
    releases = fleet.toolkit_of(host) / "releases"
    current = fleet.toolkit_of(host) / "current"
    old = releases / "0123456789abcdef"
    if os.readlink(current) != "releases/0123456789abcdef":
        shutil.rmtree(old, ignore_errors=True)
        os.rename(releases / os.readlink(current).removeprefix("releases/"), old)
    current.unlink()
    current.symlink_to("releases/0123456789abcdef")
    return old


@pytest.mark.parametrize("words", [("status",), ("health",), ("start", "--check"), ("report",)])
def test_looking_leaves_a_stale_host_as_it_is(fleet: Loopback, words: tuple[str, ...]) -> None:
    another_release(fleet, "h1")
    inventory = (fleet.toolkit_of("h1") / "inventory.json").read_bytes()
    fleet.tiny_on("h1", "extra")
    try:
        fleet.write()
        done = fleet.inv(*words, "--limit", "h1", "--json")
        assert done.code in (0, 2), done
        assert "extra" in done.out
        assert os.readlink(fleet.toolkit_of("h1") / "current") == "releases/0123456789abcdef"
        assert (fleet.toolkit_of("h1") / "inventory.json").read_bytes() == inventory
    finally:
        del fleet.there["h1"]["extra"]
        fleet.write()
        fleet.ok("bootstrap", "--limit", "h1")


# -- a critical service is never down on all hosts of a group ----------------------------------------------------


def test_a_host_that_was_not_chosen_stands_in_only_if_it_has_it_up(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "eu", "--only", "api")  # down on h3
    before = {host: fleet.pids(host)["api"] for host in ("h1", "h2")}
    done = fleet.ok("restart", "--limit", "h1,h2", "--serial", "2", "--only", "api", "--json").document
    assert [one["host"] for one in done["outcomes"]] == ["h1", "h2"]  # one after the other: their batch was cut
    assert {host: fleet.pids(host)["api"] for host in before} != before


def test_a_host_of_another_group_does_not_stand_in(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1,h3", "--only", "api")  # h1 alone of eu
    pid = fleet.pids("h1")["api"]
    done = fleet.inv("restart", "--limit", "h1,h3", "--only", "api", "--json")
    assert done.code == 2
    (first, *_) = done.document["outcomes"]
    assert first["detail"].startswith("not run: api is up on no other host of eu; on purpose: --limit h1")
    assert fleet.pids("h1")["api"] == pid


def test_what_was_brought_up_before_stands_in(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h3", "--only", "api")
    done = fleet.ok("restart-one", "api", "--limit", "h*", "--json").document
    assert {one["host"]: one["state"] for one in done["outcomes"]} == dict.fromkeys(("h1", "h2", "h3"), "changed")


def test_this_machine_among_the_hosts_is_one_like_the_others(fleet: Loopback) -> None:
    said = yaml.safe_load((fleet.folder / "inventory.yaml").read_text())
    said["all"]["hosts"]["localhost"] |= {
        "services_enabled": ["nosuch-program"],
        "services": {"nosuch-program": {"command": ["/no/such/program"], "cwd": "."}},
    }
    (fleet.folder / "inventory.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    done = fleet.inv("start", "--limit", "localhost,h1,h2", "--serial", "1", "--max-fail-percentage", "100", "--json")
    assert done.code == 2
    rows = done.document["recap"]
    assert rows["localhost"]["failed"] == 1
    assert rows["h1"]["changed"] == 2
    assert rows["h2"]["changed"] == 1


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_service_that_a_host_has_not_is_skipped_there(fleet: Loopback) -> None:
    done = fleet.ok("start", "--limit", "h*", "--only", "web", "--json").document
    assert {one["host"]: one["state"] for one in done["outcomes"]} == {
        "h1": "changed",
        "h2": "skipped",
        "h3": "skipped",
    }
    health = fleet.ok("health", "--limit", "h*", "--only", "web", "--json").document
    assert list(health["hosts"]) == ["h1"]
    wrong = fleet.inv("start", "--limit", "h*", "--only", "wep")
    assert wrong.code == 1
    assert "did you mean 'web'" in wrong.err


def test_each_task_of_a_line_names_its_own_hosts(fleet: Loopback) -> None:
    done = fleet.inv("stop", "health", "--limit", "h1")
    assert done.code == 1
    assert "--limit stands at another task of this line" in done.err
    assert fleet.inv("restart", "--serial", "1").code == 1
    chain = fleet.ok("start", "--limit", "h1", "--only", "api", "health", "--limit", "h1", "--only", "api", "--json")
    assert chain.out.count('"healthy": true') == 1


def test_two_names_of_one_machine_are_told_and_do_not_disturb_each_other(fleet: Loopback) -> None:
    said = yaml.safe_load((fleet.folder / "inventory.yaml").read_text())
    said["all"]["hosts"]["h1b"] = said["all"]["hosts"]["h1"]
    (fleet.folder / "inventory.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    fleet.ok("bootstrap", "--limit", "h1,h1b")
    again = fleet.ok("bootstrap", "--limit", "h1,h1b", "--json")
    assert [row["changed"] for row in again.document["recap"].values()] == [0, 0]
    done = fleet.ok("start", "--limit", "h1,h1b", "--only", "api")
    assert "is the same user on the same machine as" in done.err
    assert len(fleet.running("api")) == 1


# -- time ------------------------------------------------------------------------------------------------------------


def test_a_tail_follows_more_hosts_than_forks(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h*", "--only", "api")
    child = fleet.popen("tail", "api", "--limit", "h*", "--forks", "1", "--json")
    assert child.stdout is not None
    seen: set[str] = set()
    while len(seen) < 3:
        seen.add(json.loads(child.stdout.readline())["host"])
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 130


def test_a_tail_tells_of_a_lost_host_at_once_and_finds_it_again(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1", "--only", "api")
    child = fleet.popen("tail", "api", "--limit", "h1", "--json")
    assert child.stdout is not None
    assert child.stderr is not None
    json.loads(child.stdout.readline())
    fleet.hosts["h1"].stop()
    told = child.stderr.readline()
    assert told.startswith("h1: ")
    assert "trying again" in told
    fleet.hosts["h1"].start()
    until(lambda: fleet.agents("h1"), 30)
    fleet.ok("restart-one", "api", "--limit", "h1")
    pid = fleet.pids("h1")["api"]
    while json.loads(child.stdout.readline())["line"] != f"listening {pid}":
        pass
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 130


def test_timeout_bounds_a_host_that_says_nothing(fleet: Loopback) -> None:
    fleet.hosts["h2"].stop()
    fleet.hosts["h2"].settings = "ForceCommand sleep 60\n"
    fleet.hosts["h2"].start()
    try:
        done = fleet.inv("health", "--limit", "h1,h2", "--timeout", "3", "--json")
    finally:
        fleet.hosts["h2"].stop()
        fleet.hosts["h2"].settings = ""
        fleet.hosts["h2"].start()
    assert done.code == 4
    assert done.seconds < 10


def test_ctrl_c_ends_a_bootstrap_that_waits_for_another(fleet: Loopback) -> None:
    with open(fleet.toolkit_of("h1") / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        another_release(fleet, "h1")
        child = fleet.popen("bootstrap", "--limit", "h1")
        until(lambda: _is_at_it(fleet))
        child.send_signal(signal.SIGINT)
        begun = time.monotonic()
        child.communicate(timeout=30)
        assert child.returncode == 130
        assert time.monotonic() - begun < 8
    fleet.ok("bootstrap", "--limit", "h1")


def _is_at_it(fleet: Loopback) -> bool:
    """Whether the groundwork waits for the lock there."""
    path = str(fleet.toolkit_of("h1") / ".lock")
    return any(_holds(pid, path) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid())


def _holds(pid: str, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_what_was_told_before_a_host_was_lost_is_in_the_result(fleet: Loopback) -> None:
    fleet.tiny_on("h2", "slow", "--after=2", start_timeout=20, needs=["api"])
    try:
        fleet.write()
        child = fleet.popen("start", "--limit", "h2", "--json")
        until(lambda: fleet.running("slow"))
        for agent in fleet.agents("h2"):
            agent.kill()
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 2
        assert states(json.loads(out)["outcomes"], "h2") == {"api": "changed", "host": "failed"}
    finally:
        del fleet.there["h2"]["slow"]
        fleet.write()
        fleet.ok("stop", "--limit", "h2")


def test_serial_gates_only_what_is_to_be_well_afterwards(fleet: Loopback) -> None:
    done = fleet.ok("bootstrap", "--limit", "h*", "--serial", "1", "--json").document
    assert list(done["recap"]) == ["h1", "h2", "h3"]  # though nothing runs there
    fleet.ok("hold", "api", "--limit", "h*", "--serial", "1")
    fleet.ok("release", "api", "--limit", "h*", "--serial", "1")


# -- law 7 -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.isdir("/dev/shm"), reason="needs mounts and memory at /dev/shm")
def test_a_full_home_and_a_newer_toolkit_here_keep_nothing_from_being_done(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1", "--only", "api")
    another_release(fleet, "h1")
    home = fleet.hosts["h1"].home
    kept = home.parent / "kept"
    os.rename(home, kept)
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", str(home)], check=True)
    spare = Path(f"/dev/shm/settlepaisa-ops-{os.geteuid()}") / fleet.name
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", str(home)], check=True)
        with contextlib.suppress(OSError), open(home / "full", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)
        before = fleet.pids("h1")["api"]
        done = fleet.inv("restart-one", "api", "--limit", "h1", "--json")
        assert done.code == 0, done
        assert fleet.pids("h1")["api"] != before
        assert spare.is_dir()
        assert spare.parent.stat().st_mode & 0o077 == 0
    finally:
        fleet.inv("stop", "--limit", "h1")
        subprocess.run(["umount", "-l", str(home)], check=True)
        home.rmdir()
        os.rename(kept, home)
        subprocess.run(["rm", "-rf", str(spare)], check=True)
        fleet.ok("bootstrap", "--limit", "h1")
