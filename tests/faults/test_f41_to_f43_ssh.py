"""F41 to F43: the last session ends, a connection breaks off in the middle, one host of many does not answer. Real sshd
on loopback."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from ops.fleet.ssh import CONNECT_TIMEOUT
from ops.host import process
from tests.faults.row import Row, Since
from tests.loopback import Loopback, states
from tests.sshd import Deaf, SshHosts, obstacle
from tests.stack import PYTHON, Stack
from tests.waiting import until
from tests.watch import PATIENCE, root, state

pytestmark = [pytest.mark.skipif(bool(obstacle()), reason=obstacle()), pytest.mark.fabric]

MANY = 50
ASKED_AGAIN = 30.0  # seconds for which what broke off is asked for again; the last time may take one more connection
LITTLE = 4.0  # seconds: two runs with fifty hosts on one machine differ by that


def test_f41_services_started_in_an_ssh_session_outlive_it(row: Row, stack: Stack, tmp_path: Path) -> None:
    for name in ("api", "web"):
        stack.service(name)
    stack.ops.update(monitor=True, interval=1)
    stack.write()
    with SshHosts(tmp_path / "ssh", 1) as hosts:
        said = " ".join(f"{key}={shlex.quote(value)}" for key, value in stack.env.items())
        inv = f"env {said} {shlex.quote(PYTHON)} -m invoke start"
        line = f"cd {shlex.quote(str(stack.folder))} && {inv}; echo exit $?; exec sleep 600"
        # With a terminal, as a person has it: its end sends SIGHUP to whatever belongs to it.
        with (tmp_path / "said").open("w") as said_there:
            session = stack.spawn(["ssh", "-F", str(hosts.config), "-tt", "h1", line], stdout=said_there)
        until(lambda: "exit 0" in (tmp_path / "said").read_text(), 60)
        until(lambda: all(state(stack, name) == "up" for name in stack.services), PATIENCE)
        before, watchers = {name: root(stack, name) for name in stack.services}, set(stack.watchers())
        assert hosts["h1"].cut() > 0
        session.wait(20)
        until(lambda: not hosts["h1"].sessions())
    assert {name: root(stack, name) for name in stack.services} == before and set(stack.watchers()) == watchers
    assert all(stack.get(name, "/health")[0] == 200 for name in before)
    since = Since()
    process.send(before["api"], signal.SIGKILL)  # and they are watched as before
    row.serving(since.until(lambda: root(stack) != before["api"] and state(stack) == "up"), since="a later kill")
    assert stack.ok("health", "--json").document["healthy"]


@pytest.mark.slow
def test_f42_a_start_whose_connection_breaks_off_is_finished_and_a_second_run_changes_nothing(
    row: Row, tmp_path: Path
) -> None:
    fleet = Loopback(tmp_path, 1)
    try:
        fleet.tiny_on("h1", "api")
        fleet.tiny_on("h1", "slow", "--after=2", start_timeout=30)
        fleet.write()
        fleet.ok("bootstrap", "--limit", "h1")
        child = fleet.popen("start", "--limit", "h1", "--json")
        until(lambda: fleet.running("slow"), 60)  # begun, and not up for another two seconds
        since = Since()
        fleet.hosts["h1"].process.kill()  # nobody can come again
        fleet.hosts["h1"].process.wait(10)
        until(lambda: hung_up(fleet), PATIENCE)
        out, err = child.communicate(timeout=60)
        row.noticed(since.seconds())
        assert since.seconds() < ASKED_AGAIN + CONNECT_TIMEOUT + 2, "it does not come to an end"
        assert child.returncode == 4, out + err
        assert "the same again" in json.loads(out)["outcomes"][-1]["detail"]
        fleet.hosts["h1"].start()
        until(lambda: not fleet.agents("h1"), PATIENCE)
        before = {name: [one.pid for one in fleet.running(name)] for name in ("api", "slow")}
        assert [len(pids) for pids in before.values()] == [1, 1], "not finished, or twice"
        again = fleet.ok("start", "--limit", "h1", "--json").document
        assert states(again["outcomes"], "h1") == {"api": "ok", "slow": "ok"}, again
        assert {name: [one.pid for one in fleet.running(name)] for name in before} == before
    finally:
        fleet.end()


def hung_up(fleet: Loopback) -> bool:
    """Ends the sshd that serves the agent, whose listener is gone."""
    for agent in fleet.agents("h1"):
        for one in agent.parents():
            if one.name().startswith("sshd"):
                one.kill()
                return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_f43_one_host_of_fifty_whose_packets_are_dropped_costs_the_others_nothing(row: Row, tmp_path: Path) -> None:
    fleet = Loopback(tmp_path, MANY)
    deaf = Deaf()
    try:
        fleet.tiny_everywhere("api")
        fleet.write()
        since = Since()
        fleet.ok("bootstrap", "--limit", "h*", within=300)
        row.figure("seconds to make the hosts ready", since.seconds())
        whole = fleet.ok("start", "--limit", "h*", "--json", within=120)
        assert whole.document["recap"]["h50"]["changed"] == 1
        alive = {command: asked(fleet, command, 0, set()) for command in COMMANDS}
        fleet.variables["h25"]["ansible_port"] = deaf.port  # what is sent there is dropped, as by a firewall
        fleet.write()
        row.figure("seconds to connect, at most", CONNECT_TIMEOUT)
        for command in COMMANDS:
            took = asked(fleet, command, 4, {"h25"})
            row.figure(f"seconds for {command} of {MANY} hosts, all well", alive[command])
            row.figure(f"the same, one silent ({command})", took)
            assert took - alive[command] < CONNECT_TIMEOUT + LITTLE, f"{command}: {alive[command]} s, then {took} s"
    finally:
        deaf.down()
        fleet.end()


def asked(fleet: Loopback, command: str, code: int, silent: set[str]) -> float:
    """Seconds that a command took for all hosts, of which some are silent and all others were served."""
    done = fleet.inv(command, "--limit", "h*", "--json", within=120)
    assert done.code == code, done
    everyone = {f"h{number}" for number in range(1, MANY + 1)}
    assert COMMANDS[command](done.document) == (everyone - silent, silent), done
    return done.seconds


def looked_at(document: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Which hosts were found well, and which could not be reached; `health` has no recap."""
    hosts = document["hosts"].items()
    well = {name for name, one in hosts if [service["state"] for service in one["services"]] == ["up"]}
    return well, {name for name, one in hosts if one.get("error", "").startswith("unreachable")}


def changed(document: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Which hosts were changed and nothing else, and which could not be reached."""
    recap = document["recap"].items()
    well = {name for name, one in recap if one["changed"] == 1 and not one["failed"] + one["skipped"]}
    return well, {name for name, one in recap if one["unreachable"]}


COMMANDS = {"health": looked_at, "restart": changed}
