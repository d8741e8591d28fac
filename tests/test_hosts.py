"""The same commands on other hosts: bootstrap, verbs, reports, rolling; over real sshd on loopback."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ops.host import process
from tests.loopback import Loopback, made_ready, states
from tests.sshd import obstacle
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
    pytest.mark.fabric,
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Three hosts with the toolkit, two services each, one critical; nothing runs. For tests that leave it so."""

    def define(made: Loopback) -> None:
        made.tiny_everywhere("api", critical=True)
        made.tiny_everywhere("web")
        made.groups = {"pair": {"hosts": {"h1": None, "h2": None}}}

    with made_ready(tmp_path_factory.mktemp("ready"), define) as made:
        yield made


@pytest.fixture
def fleet(ready: Loopback) -> Iterator[Loopback]:
    yield ready
    ready.inv("stop", "--limit", "h*")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Loopback]:
    """One host without the toolkit."""
    made = Loopback(tmp_path, 1)
    try:
        made.tiny_everywhere("api")
        made.write()
        yield made
    finally:
        made.end()


# -- bootstrap ---------------------------------------------------------------------------------------------------


def test_a_host_without_the_toolkit_says_how_it_gets_it(fresh: Loopback) -> None:
    done = fresh.inv("health", "--limit", "h1")
    assert done.code == 2
    assert "the toolkit is not there" in done.out
    assert "next:   inv bootstrap --limit h1" in done.out


def test_bootstrap_twice_changes_nothing_the_second_time(fresh: Loopback) -> None:
    planned = fresh.ok("bootstrap", "--limit", "h1", "--check", "--json").document
    assert states(planned["outcomes"], "h1") == {"toolkit": "changed", "inventory": "changed"}
    assert not fresh.toolkit_of("h1").exists()
    first = fresh.ok("bootstrap", "--limit", "h1", "--json").document
    assert states(first["outcomes"], "h1") == {"toolkit": "changed", "inventory": "changed"}
    second = fresh.ok("bootstrap", "--limit", "h1", "--json").document
    assert second["recap"]["h1"]["changed"] == 0
    assert second["recap"]["h1"]["ok"] == 2
    assert [path.name for path in (fresh.toolkit_of("h1") / "releases").iterdir()] == [
        os.readlink(fresh.toolkit_of("h1") / "current").removeprefix("releases/")
    ]


def test_bootstrap_needs_no_registry(fresh: Loopback) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_INDEX": "1", "https_proxy": "http://127.0.0.1:9"}
    fresh.ok("bootstrap", "--limit", "h1", env=nowhere)
    fresh.ok("start", "--limit", "h1")


def test_bootstrap_names_a_folder_that_is_missing(fresh: Loopback) -> None:
    fresh.there["h1"]["api"]["cwd"] = "services/api"
    fresh.write()
    done = fresh.ok("bootstrap", "--limit", "h1")
    assert f"{fresh.root('h1')}/services/api does not exist" in done.err


def test_bootstrap_says_what_python_it_saw(fresh: Loopback) -> None:
    fresh.variables["h1"]["ansible_python_interpreter"] = "/usr/bin/no-such-python"
    fresh.write()
    done = fresh.inv("bootstrap", "--limit", "h1")
    assert done.code == 2
    assert "no Python that is new enough" in done.out
    assert "/usr/bin/no-such-python" in done.out
    old = fresh.folder / "old-python"
    old.write_text("#!/bin/sh\necho False 3.6.8\n")
    old.chmod(0o755)
    fresh.variables["h1"]["ansible_python_interpreter"] = str(old)
    fresh.write()
    assert f"seen: {old} 3.6.8" in fresh.inv("bootstrap", "--limit", "h1").out


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_bootstrap_says_that_the_home_cannot_be_written(fresh: Loopback, kind: str) -> None:
    home = fresh.hosts["h1"].home
    options = "size=300k" if kind == "full" else "ro"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=True)
    try:
        done = fresh.inv("bootstrap", "--limit", "h1")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert done.code == 2
    assert ("MB free" if kind == "full" else "mounted read-only") in done.out


def test_a_stale_agent_is_brought_up_to_date_and_asked_once(fresh: Loopback) -> None:
    fresh.ok("bootstrap", "--limit", "h1")
    release = (fresh.toolkit_of("h1") / "current").resolve()
    (agent,) = release.glob("lib/python3*/site-packages/ops/fleet/agent.py")
    agent.write_text(agent.read_text() + "# another version\n")
    done = fresh.ok("start", "--limit", "h1", "--json")
    assert states(done.document["outcomes"], "h1") == {"api": "changed"}
    assert "another version" not in agent.read_text()
    os.rename(release, release.with_name("0123456789abcdef"))  # as one of another version of this toolkit
    link = fresh.toolkit_of("h1") / "current"
    link.unlink()
    link.symlink_to("releases/0123456789abcdef")
    again = fresh.ok("restart-one", "api", "--limit", "h1", "--json").document
    assert states(again["outcomes"], "h1") == {"api": "changed"}
    assert os.readlink(link) == f"releases/{release.name}"
    (service,) = fresh.ok("status", "--limit", "h1", "--json").document["hosts"]["h1"]["services"]
    assert service["restarts"] == 1


def typed_there(fleet: Loopback, *words: str) -> subprocess.CompletedProcess[str]:
    """What somebody types who has logged in on h1."""
    inv = [str(fleet.toolkit_of("h1") / "inv"), *words]
    home = str(fleet.hosts["h1"].home)
    return subprocess.run(inv, env={"HOME": home, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)


def test_the_commands_work_on_the_host_itself(fresh: Loopback) -> None:
    fresh.ok("bootstrap", "--limit", "h1")
    fresh.ok("start", "--limit", "h1")
    done = typed_there(fresh, "health", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hosts"]["h1"]["services"][0]["state"] == "up"


# -- verbs ---------------------------------------------------------------------------------------------------------


def test_without_limit_no_host_is_touched(fleet: Loopback) -> None:
    fleet.ok("start")
    fleet.ok("reset")
    assert fleet.running() == []


def test_start_status_health_restart_and_stop(fleet: Loopback) -> None:
    first = fleet.ok("start", "--limit", "h*", "--json").document
    assert list(first["recap"]) == ["h1", "h2", "h3"]
    assert all(states(first["outcomes"], host) == {"api": "changed", "web": "changed"} for host in first["recap"])
    second = fleet.ok("start", "--limit", "h*", "--json").document
    assert [row["changed"] for row in second["recap"].values()] == [0, 0, 0]
    status = fleet.ok("status", "--limit", "pair", "--json").document
    assert list(status["hosts"]) == ["h1", "h2"]
    assert status["healthy"]
    health = fleet.ok("health", "--limit", "all:!localhost", "--json").document
    assert [one["state"] for host in health["hosts"].values() for one in host["services"]] == ["up"] * 6
    before = fleet.pids("h1")
    fleet.ok("restart-one", "web", "--limit", "h1")
    after = fleet.pids("h1")
    assert before["api"] == after["api"]
    assert before["web"] != after["web"]
    fleet.ok("stop", "--limit", "h1")
    assert fleet.pids("h1") == {"api": None, "web": None}
    assert None not in fleet.pids("h2").values()


def test_people_see_each_host_and_the_whole_first(fleet: Loopback) -> None:
    done = fleet.ok("start", "--limit", "h1,h2")
    assert re.search(r"^h1  api +changed +down -> up", done.out, re.MULTILINE)
    assert "h1 : ok=2 changed=2 unreachable=0 failed=0 skipped=0" in done.out
    assert fleet.ok("health", "--limit", "h1,h2").out.startswith("2 hosts: all healthy\n")
    fleet.ok("stop", "--limit", "h2", "--only", "api")
    process.send(fleet_process(fleet, "h1", "web"), signal.SIGKILL)
    unwell = fleet.inv("health", "--limit", "h1,h2")
    assert unwell.code == 2
    assert unwell.out.startswith("2 hosts: 1 NOT healthy: h1\n")
    assert "next:   inv start --limit h1 --only web" in unwell.out
    fleet.ok("start", "--limit", "h1", "--only", "web")  # pasted
    assert fleet.ok("health", "--limit", "h1,h2").out.startswith("2 hosts: all healthy")


def fleet_process(fleet: Loopback, host: str, name: str) -> process.Process:
    found = process.identify(fleet.pids(host)[name] or 0)
    assert found is not None
    return found


def test_check_touches_nothing(fleet: Loopback) -> None:
    done = fleet.ok("start", "--limit", "h*", "--check", "--json").document
    assert [row["changed"] for row in done["recap"].values()] == [2, 2, 2]
    assert fleet.running() == []


def test_kill_port_hold_and_alerts(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    port = fleet.there["h1"]["web"]["port"]
    done = fleet.ok("kill-port", str(port), "--limit", "h1", "--json").document
    assert [one["state"] for one in done["outcomes"]] == ["changed"]
    fleet.ok("hold", "api", "--limit", "h1")
    services = fleet.inv("status", "--limit", "h1", "--json").document["hosts"]["h1"]["services"]
    assert {one["name"]: one["wanted"] for one in services}["api"] == "held"
    fleet.ok("release", "api", "--limit", "h1")
    assert fleet.ok("alerts", "--limit", "h1,h2", "--json").document["hosts"] == {
        "h1": {"alerts": []},
        "h2": {"alerts": []},
    }


def test_an_unknown_host_is_a_mistake_that_names_a_near_one(fleet: Loopback) -> None:
    done = fleet.inv("start", "--limit", "h11")
    assert done.code == 1
    assert "h11" in done.err
    assert "h1" in done.err
    assert fleet.inv("start", "--limit").code == 1
    assert fleet.inv("start", "--limit=").code == 1


def test_the_monitor_and_the_report_of_a_host(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    fleet.ok("monitor-start", "--limit", "h1")
    try:
        victim = fleet_process(fleet, "h1", "api")
        process.send(victim, signal.SIGKILL)
        until(lambda: fleet.pids("h1")["api"] not in (None, victim.pid))
        until(lambda: fleet.inv("health", "--limit", "h1").code == 0)
        (host,) = fleet.ok("report", "--limit", "h1", "--since", "1h", "--json").document["hosts"].values()
        assert {one["name"]: one["restarts"] for one in host["services"]} == {"api": 1, "web": 0}
        assert fleet.ok("report", "--limit", "h1,h2").out.startswith("2 hosts: targets ")
    finally:
        fleet.ok("monitor-stop", "--limit", "h1")
    assert fleet.watchers() == []


def test_a_new_release_takes_the_monitor_along_and_old_ones_go(fresh: Loopback) -> None:
    fresh.ok("bootstrap", "--limit", "h1")
    releases = fresh.toolkit_of("h1") / "releases"
    (release,) = releases.iterdir()
    for number in range(4):  # as if there had been others
        (releases / f"old{number}").mkdir()
        os.utime(releases / f"old{number}", (number, number))
    os.rename(release, releases / "0123456789abcdef")
    (fresh.toolkit_of("h1") / "current").unlink()
    (fresh.toolkit_of("h1") / "current").symlink_to("releases/0123456789abcdef")
    for task in ("start", "monitor-start"):
        assert typed_there(fresh, task).returncode == 0
    monitor = fresh.watcher()
    (service,) = list(fresh.running("api"))
    done = fresh.ok("bootstrap", "--limit", "h1", "--json").document
    assert states(done["outcomes"], "h1") == {"toolkit": "changed", "inventory": "ok", "monitor": "changed"}
    now = fresh.watcher()
    assert now != monitor
    assert not process.alive(monitor)
    assert fresh.pids("h1") == {"api": service.pid}
    assert str(release) in process.command_line(now.pid)[0]
    # The service runs by the Python of the old release: that one stays.
    assert {path.name for path in releases.iterdir()} >= {release.name, "0123456789abcdef"}
    assert not (releases / "old0").exists()


# -- tail ----------------------------------------------------------------------------------------------------------


def test_tail_merges_hosts_and_closing_it_leaves_nothing_there(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1,h2")
    child = fleet.popen("tail", "api", "--limit", "h1,h2", "--json")
    assert child.stdout is not None
    seen: set[tuple[str, str]] = set()
    while len(seen) < 2:
        said = json.loads(child.stdout.readline())
        seen.add((said["host"], said["service"]))
    assert seen == {("h1", "api"), ("h2", "api")}
    assert fleet.agents("h1")
    fleet.ok("restart-one", "api", "--limit", "h2")
    pid = fleet.pids("h2")["api"]
    while (said := json.loads(child.stdout.readline()))["line"] != f"listening {pid}":
        pass
    assert said["host"] == "h2"
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 130
    until(lambda: not fleet.agents("h1") and not fleet.agents("h2"))


def test_tail_ends_with_its_reader(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    words = f"{shlex.quote(sys.executable)} -m invoke tail all --limit h1 | head -1"
    done = subprocess.run(
        ["bash", "-c", words], cwd=fleet.folder, env=fleet.env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("\n") == 1
    until(lambda: not fleet.agents("h1"))


# -- fab -----------------------------------------------------------------------------------------------------------


def fab(fleet: Loopback, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric", "-c", "tasks", *words]
    return subprocess.run(command, cwd=fleet.folder, env=fleet.env, capture_output=True, text=True, timeout=60)


def test_fab_runs_the_same_task_with_its_connection(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    done = fab(fleet, "-H", "h1", "health", "--json")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["hosts"]) == ["h1"]
    fleet.ok("stop", "--limit", "h2")
    both = fab(fleet, "-H", "h1,h2", "start")
    assert both.returncode == 0, both.stderr
    assert None not in fleet.pids("h2").values()
    strange = fab(fleet, "-H", "nobody", "health")
    assert strange.returncode == 1
    assert "nobody is not in" in strange.stderr


def test_fab_refuses_a_host_whose_key_is_not_known(fleet: Loopback) -> None:
    known = fleet.hosts.known_hosts.read_text()
    fleet.hosts.known_hosts.write_text("")
    try:
        done = fab(fleet, "-H", "h1", "health")
    finally:
        fleet.hosts.known_hosts.write_text(known)
    assert done.returncode == 4
    assert "host key" in done.stdout + done.stderr


# -- what is never told --------------------------------------------------------------------------------------------


def test_secrets_are_in_no_output_no_argument_and_no_log(fresh: Loopback) -> None:
    secret = "s3cr3t-of-the-bank"
    fresh.there["h1"]["api"]["env"] = {"TOKEN": secret}
    fresh.write()
    fresh.ok("bootstrap", "--limit", "h1")
    child = fresh.popen("tail", "api", "--limit", "h1")
    until(lambda: fresh.agents("h1"))
    everybody = [" ".join(process.command_line(pid)) for pid in process.pids()]
    child.send_signal(signal.SIGINT)
    child.wait(20)
    assert not [line for line in everybody if secret in line]
    started = fresh.ok("start", "--limit", "h1", "--json")
    assert secret not in started.out + started.err
    told = [path for path in fresh.toolkit_of("h1").glob("requests/*") if secret in path.read_text()]
    told += [path for path in fresh.state_of("h1").glob("logs/*") if secret in path.read_text()]
    assert told == []
    assert (fresh.toolkit_of("h1") / "inventory.json").stat().st_mode & 0o077 == 0


def test_a_password_in_the_inventory_is_refused(fleet: Loopback) -> None:
    said = yaml.safe_load((fleet.folder / "inventory.yaml").read_text())
    said["all"]["hosts"]["h1"]["ansible_password"] = "hunter2"
    other = fleet.folder / "other.yaml"
    other.write_text(yaml.safe_dump(said))
    done = fleet.inv("health", "--limit", "h1", env={"OPS_INVENTORY": str(other)})
    assert done.code == 1
    assert "ansible_password" in done.err
    assert "hunter2" not in done.out + done.err
