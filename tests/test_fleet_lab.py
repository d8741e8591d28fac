"""The lab of several remote hosts itself: what fleet.py promises, seen with OpenSSH's own client."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import CLIENT, PYTHON_THERE, Fleet, obstacle
from tests.machine import PROJECT, ROOT
from tests.waiting import until

CGROUPS = next(path for path in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if path.is_dir())
TINY = ROOT / "tests" / "tiny.py"
pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "-"),
    pytest.mark.timeout(180),
]


class Traces:
    """What a fleet has on this machine, by kind."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
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
            inside = self.fleet.name in Path(f"/proc/{pid}/cgroup").read_text()
            return inside or os.readlink(f"/proc/{pid}/ns/net") in self.namespaces
        except OSError:  # it has ended, or is one that not even root may look at
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
    assert traces.seen() == {} and links() == before


def hang_on(fleet: Fleet, name: str, words: str) -> subprocess.Popen[str]:
    """A command over ssh that has begun: its first line was read."""
    config = f"{fleet.home}/.ssh/config"
    child = fleet.popen("ssh", "-F", config, name, f"echo begun; {words}", stdin=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    return child


def told_at_last(child: subprocess.Popen[str]) -> None:
    """What an ssh says whose connection was reset; which of the two it says depends on whether it was just sending."""
    assert child.wait(timeout=60) == 255 and child.stderr is not None
    said = child.stderr.read()
    assert "reset" in said or "Broken pipe" in said
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


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


def test_a_host_has_a_python_but_nothing_of_this_checkout(fleet: Fleet) -> None:
    host = fleet["h1"]
    host.put(f"{PROJECT}/tests/tiny.py", TINY.read_bytes())
    assert fleet.ssh("h1", f"cat {PROJECT}/tests/tiny.py").out == TINY.read_text()
    assert set(host.root("sh", "-c", f"stat -c %U {PROJECT} {PROJECT}/tests {PROJECT}/tests/*").split()) == {"ops"}
    assert host.root("stat", "-c", "%U", "/srv").strip() == "root"
    made = fleet.ssh(
        "h1", f"{PYTHON_THERE} -m venv --without-pip ~/v && ~/v/bin/python -c 'import sys; print(sys.prefix)'"
    )
    assert made.out == "/home/ops/v\n", made
    for python in (PYTHON_THERE, "~/v/bin/python"):
        alone = fleet.ssh("h1", f"cd {ROOT} && {python} -c 'import ops'")
        assert alone.code == 1 and "No module named 'ops'" in alone.err
    assert host.root("ls", "-A", str(ROOT)) == "" and (ROOT / "ops").is_dir()
    assert "PYTHON" not in fleet.ssh("h1", "env").out + host.root("env")


def test_a_host_without_power_leaves_the_others_and_comes_back_as_it_was(fleet: Fleet) -> None:
    gone = hang_on(fleet, "h2", "cat")
    fleet["h2"].put("/home/ops/note", b"kept")
    fleet["h2"].power_off()
    silent = fleet.ssh("-o", "ConnectTimeout=2", "h2", "true")
    assert silent.code == 255 and silent.err.startswith("ssh: connect to host 10.77.0.12 port 22:"), silent
    assert "refused" not in silent.err
    assert gone.poll() is None  # nobody told it
    assert [fleet.ssh(name, "hostname").out for name in ("h1", "h3")] == ["h1\n", "h3\n"]
    fleet["h2"].power_on()
    assert fleet.ssh("h2", "cat note").out == "kept"
    assert gone.stdin is not None
    gone.stdin.write("are you there?\n")
    gone.stdin.flush()
    told_at_last(gone)


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


def test_a_connection_that_is_cut_ends_at_both_ends_and_the_next_one_is_fine(fleet: Fleet) -> None:
    child = hang_on(fleet, "h1", "exec sleep 1000")
    assert fleet["h1"].connections() == 1 and fleet["h1"].cut_connections() == 1
    told_at_last(child)
    until(lambda: fleet["h1"].connections() == 0)
    until(lambda: fleet["h1"]._run("exec", "pgrep", "-f", "^sshd: ops").returncode == 1)
    assert fleet.ssh("h1", "true").code == 0


def test_the_client_runs_inv_in_a_home_of_its_own(fleet: Fleet) -> None:
    local = {"localhost": {"ansible_connection": "local"}}
    service = {"command": ["{python}", "-S", "tests/tiny.py", "{port}"], "cwd": ".", "port": 5101}
    known = {"ops": {"name": "fleet"}, "services": {"pg-api": service}, "services_enabled": ["pg-api"]}
    fleet.write({"all": {"vars": known, "hosts": {**local, **fleet.hosts(ops_root=PROJECT)}}})
    done = fleet.inv("status", "--json")
    assert done.services["pg-api"]["state"] == "down", done
    assert fleet.run("sh", "-c", "echo $HOME; pwd").out.split() == [str(fleet.home), str(fleet.project)]


def test_without_lingering_a_session_and_its_manager_end_with_the_logout(tmp_path: Path) -> None:
    with Fleet(tmp_path, 1, linger=False, root_login=True) as fleet:
        host = fleet["h1"]
        child = hang_on(fleet, "h1", "test -d $XDG_RUNTIME_DIR && cat")
        assert "ops" in host.root("loginctl", "list-sessions", "--no-legend")
        assert child.communicate(timeout=30)[1] == "" and child.returncode == 0
        until(lambda: "ops" not in host.root("loginctl", "list-sessions", "--no-legend"))
        until(lambda: host._run("exec", "test", "-e", f"/run/user/{host.uid}").returncode == 1, 40)
        assert fleet.ssh("root@h1", "whoami").out == "root\n"


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
