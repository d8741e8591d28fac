"""The lab of several remote hosts itself: what fleet.py promises, seen with OpenSSH's own client."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fleet import CLIENT, Fleet, obstacle

CGROUPS = next(path for path in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if path.is_dir())
pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "-"),
    pytest.mark.timeout(180),
]


class Traces:
    """What a fleet has on this machine, by kind."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.until = math.inf  # the number of a namespace that is gone may be that of another test's by now
        self.namespaces = {f"net:[{os.stat(f'/run/netns/{fleet.name}').st_ino}]"}
        for host in fleet:
            leader = (host.folder / "leader").read_text().strip()
            self.namespaces.add(os.readlink(f"/proc/{leader}/ns/net"))

    def seen(self) -> dict[str, list[str]]:
        name = self.fleet.name
        found = {
            "mount": [one for one in Path("/proc/self/mounts").read_text().splitlines() if name in one],
            "cgroup": [str(one) for one in CGROUPS.glob(f"*{name}*")],
            "namespace": [str(one) for one in Path("/run/netns").glob(name)],
            "folder": [str(one) for one in self.fleet.folder.glob(f"{name}*")],
            "process": [pid for pid in os.listdir("/proc") if pid.isdigit() and self._belongs(pid)],
        }
        return {kind: ones for kind, ones in found.items() if ones}

    def _belongs(self, pid: str) -> bool:
        try:
            if self.fleet.name in Path(f"/proc/{pid}/cgroup").read_text():
                return True
            born = psutil.Process(int(pid)).create_time()
            return born < self.until and os.readlink(f"/proc/{pid}/ns/net") in self.namespaces
        except (OSError, psutil.Error):  # it has ended, or is one that not even root may look at
            return False


KINDS = {"mount", "cgroup", "namespace", "folder", "process"}


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three hosts, of which nothing is left afterwards."""
    before = links()
    with Fleet(tmp_path, 3) as made:
        traces = Traces(made)
        yield made
        traces.until = time.time()
    assert traces.seen() == {} and links() == before


def hang_on(fleet: Fleet, name: str, words: str) -> subprocess.Popen[str]:
    """A command over ssh that has begun: its first line was read."""
    config = f"{fleet.home}/.ssh/config"
    child = fleet.popen("ssh", "-F", config, name, f"echo begun; {words}", stdin=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    return child


def test_each_host_is_a_machine_that_ssh_reaches_and_whose_key_it_knows(fleet: Fleet) -> None:
    for host in fleet:
        done = fleet.ssh(
            host.name, "hostname; whoami; stat -c %U $XDG_RUNTIME_DIR/systemd; systemctl is-system-running"
        )
        assert (done.code, done.err) == (0, ""), done
        assert done.out.split() == [host.name, "ops", "ops", "running"]
        assert fleet.ssh(host.name, "systemctl --user is-system-running").out == "running\n"
    assert len({host.root("cat", "/proc/sys/kernel/random/boot_id") for host in fleet}) == 3
    assert fleet.ssh("-J", "h1", "h2", "echo $SSH_CLIENT").out.split()[0] == fleet["h1"].address
    assert fleet.ssh("h2", "echo $SSH_CLIENT").out.split()[0] == CLIENT
    refused = fleet.ssh("root@h1", "true")
    assert refused.code == 255 and "Permission denied" in refused.err
    known = fleet.home / ".ssh/known_hosts"
    known.write_text(known.read_text().replace(fleet["h2"].host_key, fleet["h1"].host_key))
    refused = fleet.ssh("h2", "true")
    assert refused.code == 255 and "IDENTIFICATION HAS CHANGED" in refused.err
    assert fleet.ssh("h1", "true").code == 0


def test_packets_that_are_dropped_vanish_and_arrive_after_that(fleet: Fleet) -> None:
    child = hang_on(fleet, "h3", "cat")
    fleet["h3"].drop_packets()
    done = fleet.ssh("-o", "ConnectTimeout=4", "h3", "true")  # an ARP that nobody answers would be told after 3 s
    assert done.code == 255 and "timed out" in done.err and done.seconds >= 3.9, done
    assert fleet.ssh("h2", f"ssh-keyscan -T 2 {fleet['h3'].address} 2>&1 | grep -c ed25519").out == "0\n"
    assert fleet.ssh("h1", "true").code == 0 and child.poll() is None
    fleet["h3"].accept_packets()
    assert fleet.ssh("h3", "true").code == 0
    assert child.communicate("still here\n", timeout=60) == ("still here\n", "") and child.returncode == 0


def test_nothing_is_left_of_a_fleet_whose_test_fails_in_the_middle(tmp_path: Path) -> None:
    before = links()
    children: list[subprocess.Popen[str]] = []
    traces: list[Traces] = []

    def a_test() -> None:
        with Fleet(tmp_path, 2) as fleet:
            traces.append(Traces(fleet))
            children.extend(hang_on(fleet, host.name, "setsid sleep 1000 & cat") for host in fleet)
            assert set(traces[0].seen()) == KINDS
            fleet["h1"].power_off()
            fleet["h2"].drop_packets()
            traces[0].until = time.time()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        a_test()
    for child in children:
        child.communicate(timeout=10)
    assert traces[0].seen() == {} and links() == before


def test_nothing_is_left_of_a_fleet_of_which_one_host_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "ops-fleet-broken-h2").write_text("in the way of a folder")
    with pytest.raises(NotADirectoryError):
        Fleet(tmp_path, 2, name="ops-fleet-broken")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home", "project"]
    assert not os.path.exists("/run/netns/ops-fleet-broken") and not list(CGROUPS.glob("ops-fleet-broken*"))
    assert "ops-fleet-broken" not in Path("/proc/mounts").read_text()
