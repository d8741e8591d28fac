"""Hosts that are down, hang, lie, or lose the connection: the others are unaffected, time is bounded, the exit code and
the recap are right, the next run carries on. Real sshd on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops import inventory
from ops.fleet import release
from ops.host import process
from ops.inventory import sent
from ops.operations.verbs import Request
from ops.wire import pack
from tests.loopback import Loopback, made_ready, states
from tests.sshd import Mute, obstacle
from tests.waiting import until

pytestmark = [pytest.mark.skipif(bool(obstacle()), reason=obstacle()), pytest.mark.fabric]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Three hosts with the toolkit and a service each."""

    def define(made: Loopback) -> None:
        made.tiny_everywhere("api", critical=True)
        made.tiny_everywhere("slow", start_timeout=20)
        for services in made.there.values():
            services["slow"]["command"].append("--after=1.5")

    with made_ready(tmp_path_factory.mktemp("ready"), define) as made:
        yield made


@pytest.fixture
def fleet(ready: Loopback) -> Iterator[Loopback]:
    """All hosts up, their services down; what a test has done to a host is undone."""
    yield ready
    for host in ready.hosts.hosts.values():
        host.stop()
        host.settings = ""
        host.start()
    ready.hosts.write()
    ready.variables = {name: {} for name in ready.hosts.hosts}
    ready.write()
    ready.ok("stop", "--limit", "h*")


def recap(document: dict[str, Any]) -> dict[str, str]:
    """By host: what its recap says besides `ok`."""
    rows = document["recap"].items()
    return {host: ",".join(word for word in ("unreachable", "failed", "skipped") if row[word]) for host, row in rows}


def restart_sshd(fleet: Loopback, host: str, settings: str) -> None:
    fleet.hosts[host].stop()
    fleet.hosts[host].settings = settings + "\n"
    fleet.hosts[host].start()


# -- F43: unreachable or slow ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["down", "frozen", "mute", "changed key"])
def test_f43_one_host_that_cannot_be_reached_leaves_the_others_unaffected(fleet: Loopback, fault: str) -> None:
    mute = Mute()
    if fault == "down":
        fleet.hosts["h2"].stop()
    elif fault == "frozen":
        fleet.hosts["h2"].freeze()
    elif fault == "mute":
        fleet.variables["h2"]["ansible_port"] = mute.port
        fleet.write()
    else:
        fleet.hosts["h2"].change_key()
    try:
        done = fleet.inv("start", "--limit", "h*", "--only", "api", "--json", within=60)
        assert done.code == 4, done
        assert done.seconds < 25
        assert recap(done.document) == {"h1": "", "h2": "unreachable", "h3": ""}
        assert states(done.document["outcomes"], "h1") == {"api": "changed"}
        health = fleet.inv("health", "--limit", "h*", "--only", "api", "--json", within=60)
        assert health.code == 4
        hosts = health.document["hosts"]
        assert {name: [one["state"] for one in host["services"]] for name, host in hosts.items()} == {
            "h1": ["up"],
            "h2": ["unknown", "unknown"],
            "h3": ["up"],
        }
        assert not health.document["healthy"]
        assert "h2" in health.err
    finally:
        mute.down()
        if fault == "frozen":
            fleet.hosts["h2"].thaw()


def test_people_get_the_line_for_the_hosts_that_failed(fleet: Loopback) -> None:
    fleet.hosts["h2"].stop()
    done = fleet.inv("start", "--limit", "h*", "--only", "api")
    assert done.code == 4
    assert "unreachable" in done.out
    assert "refused" in done.out
    assert "h2 : ok=0 changed=0 unreachable=1 failed=0 skipped=0" in done.out
    assert done.out.rstrip().endswith("next:   inv start --only api --limit h2")
    assert "Traceback" not in done.out + done.err


def test_f43_a_host_whose_packets_vanish_costs_a_bounded_time(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1,h3", "--only", "api")
    fleet.variables["h2"] = {"ansible_host": "192.0.2.1"}  # TEST-NET-1: routed to nobody
    fleet.write()
    done = fleet.inv("health", "--limit", "h*", "--json", within=60)
    assert done.code == 4
    assert done.seconds < 15


# -- hosts that are not as they should be ------------------------------------------------------------------------


def test_noise_of_a_shell_is_not_part_of_the_answer(fleet: Loopback) -> None:
    restart_sshd(fleet, "h1", f"SetEnv HOME={fleet.hosts['h1'].home} SHLVL=0")
    noise = "echo Welcome; printf 'no end of line'; echo to the errors >&2; head -c 100000 /dev/zero | tr '\\0' x\n"
    (fleet.hosts["h1"].home / ".bashrc").write_text(noise)
    try:
        assert fleet.ok("start", "--limit", "h1", "--only", "api", "--json").document["recap"]["h1"]["changed"] == 1
        fleet.ok("bootstrap", "--limit", "h1")
    finally:
        (fleet.hosts["h1"].home / ".bashrc").unlink()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("yes garbage", "answers, but not as its agent would: 'garbage"),
        ("head -c 104857600 /dev/zero", "answers, but not as its agent would"),
        ("echo this account is closed >&2; exit 1", "this account is closed"),
        ("true", "its agent does not begin"),
        ("sleep 60", "said nothing for"),
    ],
)
def test_a_host_that_answers_garbage(fleet: Loopback, command: str, words: str) -> None:
    restart_sshd(fleet, "h2", f"ForceCommand {command}")
    done = fleet.inv("start", "--limit", "h*", "--only", "api", "--json", within=90)
    assert done.code == 4, done
    assert recap(done.document) == {"h1": "", "h2": "unreachable", "h3": ""}
    (told,) = [one["detail"] for one in done.document["outcomes"] if one["host"] == "h2"]
    assert words in told
    assert done.seconds < 50


def test_an_agent_ends_well_though_the_asking_end_still_listens(fleet: Loopback) -> None:
    """Python's own way out aborts there, which leaves a core dump on the host for each request."""
    (host,) = (one for one in inventory.load(fleet.folder / "inventory.yaml").hosts if one.name == "h1")
    asked = {"request": pack(Request("status")), "host": pack(sent.stripped(host)), "id": "1", "token": "t"}
    message = {"protocol": release.PROTOCOL, "release": release.own(), **asked}
    command = [str(fleet.toolkit_of("h1") / "current/bin/python"), "-I", "-m", "ops.fleet.agent"]
    home = {"HOME": str(fleet.hosts["h1"].home), "PATH": os.environ["PATH"]}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=home, stdin=pipe, stdout=pipe, stderr=pipe) as agent:
        assert agent.stdin and agent.stdout and agent.stderr
        agent.stdin.write(json.dumps(message).encode() + b"\n")
        agent.stdin.flush()
        until(lambda: agent.poll() is not None)
        assert b'"answer"' in agent.stdout.read()
        assert (agent.returncode, agent.stderr.read()) == (0, b"")


def test_an_agent_that_dies_midway_is_told_of_and_never_asked_to_do_it_again(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    before = {"pid": fleet.pids("h1")["slow"]}
    child = fleet.popen("restart", "--limit", "h1", "--json")
    record = fleet.state_of("h1") / "services" / "slow.json"  # `inv status` may take longer than the service to start
    until(lambda: (json.loads(record.read_text()).get("process") or before)["pid"] != before["pid"])
    for agent in fleet.agents("h1"):
        agent.kill()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 2, out + err
    document = json.loads(out)
    assert "was ended before it was done" in document["outcomes"][-1]["detail"]
    restarts = [
        one["restarts"] for one in fleet.inv("status", "--limit", "h1", "--json").document["hosts"]["h1"]["services"]
    ]
    assert max(restarts) == 1
    fleet.ok("start", "--limit", "h1")


def test_f42_a_connection_that_drops_in_the_middle_of_a_restart(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1")
    before = fleet.pids("h1")
    child = fleet.popen("restart-one", "slow", "--limit", "h1", "--json")
    until(lambda: not _lives(before["slow"]))
    assert fleet.hosts["h1"].cut() > 0
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, out + err
    assert states(json.loads(out)["outcomes"], "h1") == {"slow": "changed"}
    after = fleet.inv("status", "--limit", "h1", "--json").document["hosts"]["h1"]["services"]
    assert {one["name"]: one["restarts"] for one in after} == {"api": 0, "slow": 1}


def _lives(pid: int | None) -> bool:
    return process.identify(pid or 0) is not None


def test_f42_a_host_that_is_gone_in_the_middle_finishes_and_the_next_run_changes_nothing(fleet: Loopback) -> None:
    child = fleet.popen("start", "--limit", "h1", "--timeout", "12", "--json")
    until(lambda: fleet.running("slow"))
    fleet.hosts["h1"].process.kill()  # the listener: nobody can come again
    fleet.hosts["h1"].process.wait(10)
    until(lambda: _cut_orphans(fleet))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 4, out + err
    assert "the same again" in json.loads(out)["outcomes"][-1]["detail"]
    fleet.hosts["h1"].start()
    until(lambda: not fleet.agents("h1"), 30)
    again = fleet.ok("start", "--limit", "h1", "--json").document
    assert again["recap"]["h1"]["changed"] == 0


def _cut_orphans(fleet: Loopback) -> bool:
    """Ends the sshd that serves the agent of h1, whose listener is gone."""
    for agent in fleet.agents("h1"):
        for one in agent.parents():
            if one.name().startswith("sshd"):
                one.kill()
                return True
    return False


# -- Ctrl-C --------------------------------------------------------------------------------------------------------


def test_ctrl_c_with_ten_hosts_in_flight_of_which_some_hang(tmp_path: Path) -> None:
    fleet = Loopback(tmp_path, 10)
    try:
        for name in fleet.there:
            fleet.tiny_on(name, "slow", "--after=30", start_timeout=60)
        fleet.write()
        fleet.ok("bootstrap", "--limit", "h1")
        for name in list(fleet.there)[1:]:
            shutil.copytree(fleet.toolkit_of("h1"), fleet.toolkit_of(name), symlinks=True)
        fleet.hosts["h9"].freeze()
        child = fleet.popen("start", "--limit", "h*", start_new_session=True)
        until(lambda: len(fleet.running("slow")) == 9, 40)
        os.killpg(child.pid, signal.SIGINT)
        begun = time.monotonic()
        out, err = child.communicate(timeout=30)
        assert child.returncode == 130, out + err
        assert time.monotonic() - begun < 10
        assert "Traceback" not in err
        assert "next:   inv start --limit h1,h2,h3,h4,h5,h6,h7,h8,h9,h10" in err
        until(lambda: not any(fleet.agents(name) for name in fleet.there if name != "h9"))
        assert len(fleet.running("slow")) == 9  # started and recorded: the next start waits for them
    finally:
        fleet.hosts["h9"].thaw()
        fleet.end()


def test_ctrl_c_with_hosts_in_flight_gives_a_partial_recap_and_the_line_that_carries_on(fleet: Loopback) -> None:
    child = fleet.popen("start", "--limit", "h*", start_new_session=True)
    until(lambda: len(fleet.running("slow")) == 3)
    os.killpg(child.pid, signal.SIGINT)
    begun = time.monotonic()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, out + err
    assert time.monotonic() - begun < 10
    assert "next:   inv start --limit h1,h2,h3" in err
    assert "Traceback" not in err
    until(lambda: not any(fleet.agents(host) for host in ("h1", "h2", "h3")))
    done = fleet.ok("start", "--limit", "h*", "--json").document
    assert all(states(done["outcomes"], host) for host in ("h1", "h2", "h3"))
    assert {len(fleet.running(name)) for name in ("api", "slow")} == {3}


# -- rolling -------------------------------------------------------------------------------------------------------


def test_a_rolling_restart_never_takes_the_critical_service_down_everywhere(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h*", "--only", "api")
    ports = [services["api"]["port"] for services in fleet.there.values()]
    child = fleet.popen("restart-one", "api", "--limit", "h*", "--serial", "100%", "--json")
    seen = []
    while child.poll() is None:
        begun = time.monotonic()
        count = sum(_listens(port) for port in ports)
        if time.monotonic() - begun < 0.02:  # one moment; a look that had to wait for a core saw several of them
            seen.append(count)
    out, _ = child.communicate()
    assert child.returncode == 0
    assert [one["host"] for one in json.loads(out)["outcomes"]] == ["h1", "h2", "h3"]
    assert min(seen) >= 1
    assert len(seen) > 0


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_host_that_fails_ends_a_rolling_restart_and_the_rest_is_not_run(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h*", "--only", "api")
    before = {host: fleet.pids(host)["api"] for host in ("h1", "h3")}
    fleet.hosts["h2"].stop()
    done = fleet.inv("restart", "--limit", "h*", "--serial", "1", "--only", "api", "--json", within=60)
    assert done.code == 4
    assert recap(done.document) == {"h1": "", "h2": "unreachable", "h3": "skipped"}
    (last,) = [one for one in done.document["outcomes"] if one["host"] == "h3"]
    assert last["detail"].startswith("not run: h2 failed")
    assert fleet.pids("h1")["api"] != before["h1"]
    assert fleet.pids("h3")["api"] == before["h3"]
    shown = fleet.inv("restart", "--limit", "h*", "--serial", "1", "--only", "api", within=60)
    assert "next:   inv restart --only api --limit h2,h3" in shown.out


def test_max_fail_percentage_lets_a_rolling_restart_go_on(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h*", "--only", "api")
    fleet.hosts["h1"].stop()
    words = ("restart", "--limit", "h*", "--only", "api", "--serial", "2", "--max-fail-percentage", "50", "--json")
    done = fleet.inv(*words, within=60)
    assert done.code == 4
    assert recap(done.document) == {"h1": "unreachable", "h2": "", "h3": ""}


def test_the_last_host_that_has_a_critical_service_up_is_left_alone(fleet: Loopback) -> None:
    fleet.ok("start", "--limit", "h1", "--only", "api")
    pid = fleet.pids("h1")["api"]
    done = fleet.inv("restart", "--limit", "h*", "--only", "api", "--json")
    assert done.code == 2, done
    details = {one["host"]: one["detail"] for one in done.document["outcomes"]}
    assert details["h1"].startswith("not run: api is up on no other host")
    assert fleet.pids("h1")["api"] == pid
    fleet.ok("restart", "--limit", "h1", "--only", "api")
    assert fleet.pids("h1")["api"] != pid
