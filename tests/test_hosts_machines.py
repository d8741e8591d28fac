"""Hosts with a real systemd, sshd, users and a network of their own: from nothing to a rolling restart under load.

The whole of what the toolkit promises for several hosts, as somebody would type it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import fleet as lab
from tests.fleet import Fleet, Host
from tests.loopback import states
from tests.machine import PROJECT, tiny
from tests.waiting import until

pytestmark = [pytest.mark.skipif(bool(lab.obstacle()), reason=lab.obstacle()), pytest.mark.fabric]

# Asks recon-api of every host over and over; prints, a line per round, how many answered.
LOAD = """
import socket, sys, time
hosts = sys.argv[1:]
def answers(host):
    try:
        with socket.create_connection((host, 5103), timeout=0.5) as one:
            one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            return one.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
while True:
    print(sum(map(answers, hosts)), flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "lab", 3) as made:
        made.write(inventory(made))
        for host in made:
            host.put(f"{PROJECT}/tests/tiny.py", (Path(__file__).parent / "tiny.py").read_bytes())
        yield made


def inventory(fleet: Fleet) -> dict[str, Any]:
    services = {
        "pg-api": tiny(5101),
        "recon-api": tiny(5103, "--host=0.0.0.0", critical=True, needs=["pg-api"]),
        "frontend": tiny(5174),
    }
    said = {"ops": {"name": "settlepaisa", "interval": 2}, "services": services, "services_enabled": list(services)}
    return {"all": {"vars": said, "hosts": fleet.hosts(ops_root=PROJECT)}}


def test_from_nothing_to_a_rolling_restart_under_load_with_a_host_powered_off(fleet: Fleet) -> None:
    fleet.ok("bootstrap", "--limit", "all")
    again = fleet.ok("bootstrap", "--limit", "all", "--json").document
    assert {host: row["changed"] for host, row in again["recap"].items()} == {"h1": 0, "h2": 0, "h3": 0}
    started = fleet.ok("start", "--limit", "all", "--json").document
    assert all(row["changed"] == 4 for row in started["recap"].values()), started
    assert fleet.ok("health", "--limit", "all").out.startswith("3 hosts: all healthy")

    fleet["h3"].drop_packets()  # F43: they vanish, nobody refuses anything
    lost = fleet.inv("health", "--limit", "all", "--json")
    assert lost.code == 4
    assert lost.seconds < 15
    states_of = {name: {one["state"] for one in host["services"]} for name, host in lost.document["hosts"].items()}
    assert states_of == {"h1": {"up"}, "h2": {"up"}, "h3": {"unknown"}}
    fleet["h3"].accept_packets()

    addresses = [host.address for host in fleet]
    load = fleet.popen(sys.executable, "-c", LOAD, *addresses)
    fleet.ok("restart", "--limit", "all", "--serial", "1")
    restart = fleet.popen(*words("restart", "--limit", "all", "--serial", "1", "--json"))
    fleet["h2"].power_off()
    out, err = restart.communicate(timeout=90)
    load.terminate()
    counts = [int(line) for line in load.communicate(timeout=10)[0].split()]
    assert len(counts) > 10
    assert min(counts) >= 1, counts
    assert restart.returncode == 4, out + err
    rows = json.loads(out)["recap"]
    assert rows["h2"]["unreachable"] == 1
    assert rows["h3"]["skipped"] == 1

    report = fleet.inv("report", "--limit", "all", "--since", "1h", "--json")
    assert report.code == 4
    assert [len(host["services"]) for host in report.document["hosts"].values()] == [3, 0, 3]
    fleet["h2"].power_on()
    until(lambda: fleet.inv("status", "--limit", "h2").code in (0, 2), 30)
    fleet.ok("start", "--limit", "all")
    assert fleet.ok("start", "--limit", "all", "--json").document["recap"]["h2"]["changed"] == 0


def words(*args: str) -> list[str]:
    return [sys.executable, "-m", "invoke", *args]


def test_a_host_starts_its_services_at_boot_and_a_new_release_takes_its_monitor_along(fleet: Fleet) -> None:
    host = fleet["h1"]
    fleet.ok("bootstrap", "--limit", "h1")
    fleet.ok("start", "--limit", "h1")
    installed = fleet.ok("install-service", "--limit", "h1", "--json").document
    assert installed["recap"]["h1"]["changed"] == 1
    assert fleet.ok("install-service", "--limit", "h1", "--json").document["recap"]["h1"]["changed"] == 0
    host.power_off()
    host.power_on()
    until(lambda: fleet.inv("health", "--limit", "h1").code == 0, 40)
    services = {one["name"]: one["pid"] for one in services_of(fleet)}
    make_older(host)
    until(lambda: OLD in command_line(host, monitor_of(fleet)))
    done = fleet.ok("bootstrap", "--limit", "h1", "--json").document
    assert states(done["outcomes"], "h1") == {"toolkit": "ok", "inventory": "ok", "monitor": "changed"}
    assert OLD not in command_line(host, monitor_of(fleet))
    assert {one["name"]: one["pid"] for one in services_of(fleet)} == services
    assert fleet.ok("health", "--limit", "h1", "--json").document["healthy"]
    assert fleet.ok("install-service", "--limit", "h1", "--json").document["recap"]["h1"]["changed"] == 0


def monitor_of(fleet: Fleet) -> int:
    return int(fleet.ok("status", "--limit", "h1", "--json").document["hosts"]["h1"]["monitor"]["pid"])


OLD = "0123456789abcdef"


def make_older(host: Host) -> None:
    """As if another version of the toolkit had been there, and the monitor still ran from it."""
    folder = "/home/ops/.local/share/settlepaisa-ops/settlepaisa"
    new = host.root("readlink", f"{folder}/current").strip()
    host.shell(f"cd {folder} && cp -r {new} releases/{OLD} && ln -sfn releases/{OLD} current")
    host.systemctl("restart", "com.settlepaisa.servicemonitor.service")
    until(lambda: OLD in host.root("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"), 30)
    host.shell(f"cd {folder} && ln -sfn {new} current")


def command_line(host: Host, pid: int) -> str:
    return host.root("cat", f"/proc/{pid}/cmdline").replace("\0", " ")


def test_f41_services_outlive_the_last_session(tmp_path: Path) -> None:
    with Fleet(tmp_path / "lab", 1, linger=False) as fleet:
        fleet.write(inventory(fleet))
        host = fleet["h1"]
        host.put(f"{PROJECT}/tests/tiny.py", (Path(__file__).parent / "tiny.py").read_bytes())
        fleet.ok("bootstrap", "--limit", "h1")
        fleet.ok("start", "--limit", "h1")
        pids = {one["name"]: one["pid"] for one in services_of(fleet)}
        until(lambda: host.root("loginctl", "show-user", "ops", "-p", "State").strip() != "State=active", 30)
        assert {one["name"]: one["pid"] for one in services_of(fleet)} == pids
        assert fleet.ok("health", "--limit", "h1").code == 0


def services_of(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.inv("status", "--limit", "h1", "--json").document["hosts"]["h1"]["services"]
    return found


def test_f41_where_a_logout_ends_everything_that_is_said_and_the_monitor_brings_it_back(tmp_path: Path) -> None:
    with Fleet(tmp_path / "lab", 1) as fleet:
        fleet.write(inventory(fleet))
        host = fleet["h1"]
        host.put(f"{PROJECT}/tests/tiny.py", (Path(__file__).parent / "tiny.py").read_bytes())
        host.root("mkdir", "-p", "/etc/systemd/logind.conf.d")
        host.root("sh", "-c", "printf '[Login]\\nKillUserProcesses=yes\\n' > /etc/systemd/logind.conf.d/kill.conf")
        host.root("systemctl", "restart", "systemd-logind")
        assert "ends with the last logout" in fleet.ok("bootstrap", "--limit", "h1").err
        fleet.ok("install-service", "--limit", "h1")
        fleet.ok("start", "--limit", "h1")
        until(lambda: fleet.inv("health", "--limit", "h1").code == 0)
        pids = {one["name"]: one["pid"] for one in services_of(fleet)}
        until(lambda: {one["name"]: one["pid"] for one in services_of(fleet)} == pids)
        assert fleet.ok("health", "--limit", "h1").code == 0
