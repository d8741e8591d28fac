"""install-service on a real systemd: machines of their own, which lose power and are rebooted. See machine.py."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import LABEL, PROJECT, Machine, obstacle, stack_of, tiny
from tests.waiting import until

PATIENCE = 60.0
STRANGERS = "for i in $(seq 60); do setsid sleep 1000 >/dev/null 2>&1 & done"
UNIT = f"/home/ops/.config/systemd/user/{LABEL}.service"
pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "-"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """With three services of the user `ops`, each needing the one before it."""
    folder = Path(tempfile.gettempdir(), f"ops-machine-{uuid.uuid4().hex[:8]}")  # it is the name of the host, too
    made = None
    try:
        made = Machine(folder)
        made.install(stack_of("pg-api", "bank-api", "recon-api"))
        yield made
    finally:
        if made is not None:
            made.down()
        shutil.rmtree(folder, ignore_errors=True)
    assert not folder.exists()
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]


def log(machine: Machine) -> str:
    return machine.root("cat", "/home/ops/.local/state/settlepaisa/logs/monitor.log")


def replaced(machine: Machine, pid: int) -> int:
    """The monitor that watches instead of this one."""
    return until(lambda: machine.monitor() not in (0, pid) and machine.monitor(), PATIENCE)


def verified(machine: Machine, path: str, *, system: bool = False) -> None:
    """systemd itself has nothing to say against the unit."""
    scope = [] if system else ["--user"]
    runtime = f"XDG_RUNTIME_DIR=/run/user/{machine.uid}"
    done = machine._run("as", "ops", "env", runtime, "systemd-analyze", *scope, "verify", path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lingering_user_installs_and_a_second_time_changes_nothing(machine: Machine) -> None:
    machine.root("loginctl", "disable-linger", "ops")
    told = machine.ok("install-service", "--check")
    assert f"+++ {UNIT}" in told.out and "+Restart=always" in told.out and "having the user linger" in told.out
    assert machine._run("exec", "test", "-e", UNIT).returncode == 1
    machine.ok("start")
    before, alone = machine.pids(), machine.monitor()
    first = machine.ok("install-service", "--json").outcomes[LABEL]
    assert (first["state"], first["before"], first["after"]) == ("changed", "not installed", "installed")
    pid = int(machine.shown("MainPID")["MainPID"])
    assert machine.monitor() == pid != alone and machine.pids() == before
    assert machine.shown("ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
    assert "Linger=yes" in machine.root("loginctl", "show-user", "ops", "-p", "Linger")
    verified(machine, UNIT)
    again = machine.ok("install-service", "--json")
    assert again.outcomes[LABEL]["state"] == "ok" and again.document["recap"]["localhost"]["changed"] == 0
    assert machine.monitor() == pid
    said = machine.ok("health").out
    assert "kept by systemd" in said and f"boot:    started by systemd user unit {LABEL}.service" in said
    # Whoever watches was never two, and nobody was unwatched for long.
    assert log(machine).count("begins to watch") == 2


def test_f13_f15_f16_services_keep_their_pids_whatever_becomes_of_the_monitor(machine: Machine) -> None:
    machine.ok("start", "install-service")
    killed = str(machine.pids()["pg-api"])
    machine.root("kill", "-9", killed)
    until(lambda: str(machine.pids()["pg-api"]) not in (killed, "None") and machine.healthy(), PATIENCE)
    told = machine.root("cat", f"/proc/{machine.pids()['pg-api']}/environ").replace("\0", "\n")
    assert "OPS_RUN=" in told and "INVOCATION_ID" not in told  # nobody takes itself for the unit
    assert not any(word in told for word in ("NOTIFY_", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM", "MANAGERPID"))
    before, pid = machine.pids(), machine.monitor()
    for signal in ("KILL", "TERM", "STOP"):  # the last is found out by systemd's watchdog
        machine.root("kill", f"-{signal}", str(pid))
        pid = replaced(machine, pid)
        assert machine.pids() == before, signal
    machine.systemctl("restart", LABEL)
    pid = replaced(machine, pid)
    machine.root("sed", "-i", "s/__version__ = .*/__version__ = '9.9.9'/", f"{PROJECT}/ops/__init__.py")
    told = machine.ok("install-service", "--json").outcomes[LABEL]  # an upgrade
    assert told["state"] == "changed" and "9.9.9" in machine.root("cat", UNIT)
    pid = replaced(machine, pid) if machine.monitor() == pid else machine.monitor()
    assert machine.pids() == before and machine.healthy()
    assert machine.ok("install-service", "--json").outcomes[LABEL]["state"] == "ok"


def test_whoever_watches_while_it_is_installed_makes_way(machine: Machine) -> None:
    """The guard brings back a monitor that died just then."""
    machine.ok("start")
    until(lambda: "guard" in machine.ok("status").out, PATIENCE)
    before, pid = machine.pids(), machine.monitor()
    inv = f"{PROJECT}/.venv/bin/python -m invoke"
    done = machine.shell(f"{inv} install-service & sleep 0.3; kill -9 {pid}; wait $!")
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.monitor() == int(machine.shown("MainPID")["MainPID"]) and machine.pids() == before
    pid = machine.monitor()
    machine.root("kill", "-STOP", str(pid))
    told = machine.ok("install-service", "--json").outcomes[LABEL]  # one that is silent is no monitor
    assert told["state"] == "changed" and machine.monitor() not in (0, pid) and machine.pids() == before


def test_the_unit_of_another_users_stack_is_left_alone(machine: Machine) -> None:
    sudo = {"root": True, "env": {"SUDO_UID": str(machine.uid), "SUDO_USER": "ops", "HOME": "/root"}}
    machine.ok("install-service", "--system", **sudo)
    path = f"/etc/systemd/system/{LABEL}.service"
    machine.root("sed", "-i", "s/^User=ops/User=nobody/", path)
    before = machine.root("cat", path)
    done = machine.inv("install-service", "--system", **sudo)
    assert done.code == 2 and "of a stack of user nobody" in done.out and "another `name`" in done.out
    assert machine.root("cat", path) == before and "boot:" not in machine.inv("status").out


def test_stopping_and_starting_goes_through_systemd_and_holds_over_a_boot(machine: Machine) -> None:
    machine.ok("start", "install-service")
    before = machine.pids()
    machine.ok("monitor-stop")
    assert machine.monitor() == 0
    until(lambda: machine.shown("ActiveState")["ActiveState"] == "inactive", PATIENCE)
    assert machine.pids() == before and machine.ok("status").out.count("up ") >= 3
    told = machine.ok("monitor-start", "--json").outcomes["monitor"]
    assert told["state"] == "changed" and "kept by systemd" in told["detail"]
    assert machine.monitor() == int(machine.shown("MainPID")["MainPID"])
    machine.ok("monitor-stop")
    machine.power_cut()
    until(lambda: machine.shown("ActiveState", "Result")["ActiveState"] == "inactive", PATIENCE)
    assert machine.monitor() == 0 and set(machine.pids().values()) == {None}
    machine.ok("start")
    assert machine.monitor() == int(machine.shown("MainPID")["MainPID"]) and machine.healthy()


def test_f18_after_a_power_cut_all_that_was_wanted_is_up_again_in_order(machine: Machine) -> None:
    services = stack_of("pg-api", "bank-api", "recon-api", "frontend")
    services["pg-api"] = tiny(5101, "--after=0.5", start_time=5)
    machine.write({name: {**one, "pid_file": f"/srv/{name}.pid"} for name, one in services.items()})
    machine.root("chown", "ops:", "/srv")
    machine.ok("start", "install-service")
    machine.ok("stop", "--only", "frontend")
    machine.power_cut()
    until(machine.healthy, PATIENCE)  # without a command having been typed, but for those that look
    found = machine.ok("status", "--json").services
    assert {name: one["state"] for name, one in found.items()} == {
        **dict.fromkeys(("pg-api", "bank-api", "recon-api"), "up"),
        "frontend": "down",
    }
    assert found["frontend"]["wanted"] == "down"
    started = [found[name]["started_at"] for name in ("pg-api", "bank-api", "recon-api")]
    assert started == sorted(started)
    said = log(machine).split("the machine was started anew", 1)[1]
    assert said.index("pg-api up") < said.index("bank-api starting") < said.index("recon-api starting")
    assert all(machine.answers(port) for port in (5101, 5102, 5103))


def test_f17_reused_pids_after_a_boot_are_nobody_of_ours(machine: Machine) -> None:
    """Pids begin anew with the machine, so that what was recorded names somebody else's processes."""
    machine.ok("start", "install-service")
    machine.root("sh", "-c", STRANGERS)
    recorded = set(machine.pids().values())
    machine.power_cut()
    until(machine.healthy, PATIENCE)
    machine.root("sh", "-c", STRANGERS)
    sleeping = machine.root("sh", "-c", "pgrep -x sleep | wc -l")
    machine.ok("restart")
    machine.ok("reset")
    assert machine.root("sh", "-c", "pgrep -x sleep | wc -l") == sleeping
    assert machine.healthy() and recorded


def test_a_clean_reboot_tells_services_to_end_and_gives_them_their_time(machine: Machine) -> None:
    code = "import signal, sys, time\n"
    code += "def end(*_):\n    time.sleep(1)\n    print('ended well', flush=True)\n    sys.exit(0)\n"
    code += "signal.signal(15, end)\nwhile True: time.sleep(10)\n"
    services = stack_of("pg-api", "recon-api")
    services["ledger"] = {"command": ["{python}", "-S", "-c", code], "cwd": ".", "grace": 5, "start_time": 1}
    machine.write(services)
    machine.ok("start", "install-service")
    machine.reboot()
    assert "services were ended with it" in log(machine)
    assert "ended well" in machine.root("cat", "/home/ops/.local/state/settlepaisa/logs/ledger.log")
    until(machine.healthy, PATIENCE)
    assert set(machine.ok("status", "--json").services) == {"pg-api", "recon-api", "ledger"}


def test_the_machines_own_unit_runs_the_stack_of_whoever_typed_sudo(machine: Machine) -> None:
    machine.ok("start")
    before = machine.pids()
    refused = machine.inv("install-service", "--system")
    assert refused.code == 2 and "only root" in refused.out
    sudo = {"SUDO_UID": str(machine.uid), "SUDO_USER": "ops", "HOME": "/root"}
    told = machine.ok("install-service", "--system", "--json", root=True, env=sudo).outcomes[LABEL]
    assert told["state"] == "changed" and "system unit" in told["detail"]
    path = f"/etc/systemd/system/{LABEL}.service"
    assert "\nUser=ops\n" in machine.root("cat", path)
    verified(machine, path, system=True)
    assert machine.pids() == before
    pid = int(machine.shown("MainPID", system=True)["MainPID"])
    assert machine.monitor() == pid and machine.root("stat", "-c", "%U", f"/proc/{pid}").strip() == "ops"
    again = machine.ok("install-service", "--system", "--json", root=True, env=sudo)
    assert again.outcomes[LABEL]["state"] == "ok"
    assert "system unit" in machine.ok("status").out
    assert machine.inv("install-service").code == 2  # twice would be two
    machine.power_cut()
    until(machine.healthy, PATIENCE)
    gone = machine.ok("uninstall-service", "--json", root=True, env=sudo).outcomes[LABEL]
    assert gone["state"] == "changed" and machine._run("exec", "test", "-e", path).returncode == 1
    assert machine.monitor() and machine.healthy()
    owners = machine.root("find", "/home/ops/.local/state/settlepaisa", "!", "-user", "ops")
    assert owners == ""


def test_root_is_a_user_too(machine: Machine) -> None:
    machine.write(stack_of("pg-api", "recon-api"), owner="root")
    as_root = {"root": True, "env": {"HOME": "/root"}}
    machine.ok("start", "install-service", **as_root)
    assert machine._run("exec", "test", "-e", f"/root/.config/systemd/user/{LABEL}.service").returncode == 0
    machine.power_cut()
    until(lambda: machine.inv("health", "--json", **as_root).code == 0, PATIENCE)
    machine.ok("uninstall-service", "stop", **as_root)


def test_uninstalling_stops_nothing(machine: Machine) -> None:
    machine.ok("start", "install-service")
    before, pid = machine.pids(), machine.monitor()
    told = machine.ok("uninstall-service", "--json").outcomes[LABEL]
    assert (told["state"], told["after"]) == ("changed", "not installed")
    assert machine.pids() == before and machine.monitor() not in (0, pid) and machine.healthy()
    assert machine.shown("LoadState")["LoadState"] == "not-found"
    assert machine.ok("uninstall-service", "--json").outcomes[LABEL]["state"] == "ok"
    machine.power_cut()
    assert set(machine.pids().values()) == {None}


def test_a_user_who_may_not_linger_is_told_so(machine: Machine) -> None:
    machine.root("loginctl", "disable-linger", "ops")
    machine.root("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/var/lib/systemd/linger")
    machine.root("systemctl", "start", f"user@{machine.uid}.service")  # as a login of theirs would
    done = machine.inv("install-service")
    assert done.code == 2 and "does not linger" in done.out and "sudo loginctl enable-linger ops" in done.out
    assert machine.monitor() == int(machine.shown("MainPID")["MainPID"]) > 0
    assert "does not linger" in machine.inv("health").out


def test_f38_a_service_finds_at_boot_what_its_first_shell_found(machine: Machine) -> None:
    """A PATH that only a login shell has, and a boot has none of."""
    machine.root("mkdir", "-p", "/home/ops/.nvm/bin")
    machine.root("cp", "/bin/sleep", "/home/ops/.nvm/bin/only-here")
    services = stack_of("pg-api")
    services["worker"] = {"command": ["only-here", "1000"], "cwd": ".", "grace": 1, "start_time": 1}
    machine.write(services)
    done = machine.shell(f"PATH=/home/ops/.nvm/bin:$PATH {PROJECT}/.venv/bin/python -m invoke start install-service")
    assert done.returncode == 0, done.stdout + done.stderr
    machine.power_cut()
    until(machine.healthy, PATIENCE)
    assert machine.ok("status", "--json").services["worker"]["state"] == "up"
    machine.root("rm", "-r", "/home/ops/.nvm")
    machine.power_cut()
    until(lambda: machine.inv("status", "--json").services["pg-api"]["state"] == "up", PATIENCE)
    until(lambda: "only-here" in machine.inv("health").out, PATIENCE)


@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="openssh-server is not installed")
def test_f41_what_was_started_over_ssh_lives_on_after_the_logout(machine: Machine) -> None:
    machine.root("sh", "-c", "ssh-keygen -A && mkdir -p /run/sshd && systemctl start ssh")
    machine.root("sh", "-c", "mkdir -p /home/ops/.ssh && ssh-keygen -q -t ed25519 -N '' -f /home/ops/key")
    machine.root("sh", "-c", "cp /home/ops/key.pub /home/ops/.ssh/authorized_keys; chown -R ops: /home/ops")
    options = "-i /home/ops/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    line = f"cd {PROJECT} && .venv/bin/python -m invoke start install-service"
    done = machine.shell(f"ssh {options} ops@127.0.0.1 '{line}'")
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: machine._run("exec", "pgrep", "-f", "^sshd: ops").returncode == 1, PATIENCE)
    assert machine.healthy() and all(machine.answers(port) for port in (5101, 5102, 5103))


def test_root_works_on_the_stack_of_whose_project_it_is_and_makes_no_second_one(machine: Machine) -> None:
    """As with `sudo ./inv health`, or in a shell of root's."""
    as_root = {"root": True, "env": {"HOME": "/root"}}
    machine.ok("start")
    before = machine.pids()
    assert machine.inv("health", **as_root).code == 0
    for words in (["start"], ["kill-port", "5101"], ["stop"]):
        done = machine.inv(*words, **as_root)
        assert done.code == 1 and "belongs to user ops" in done.err and "sudo -u ops -H" in done.err
    sudo = {"root": True, "env": {"HOME": "/root", "SUDO_UID": str(machine.uid), "SUDO_USER": "ops"}}
    machine.ok("install-service", **sudo)  # the user's own unit, without --system
    assert machine.shown("UnitFileState")["UnitFileState"] == "enabled"
    machine.ok("monitor-stop", **sudo)
    assert machine.monitor() == 0
    assert "nothing is started at boot" in machine.ok("status").out
    machine.ok("monitor-start", **sudo)
    assert machine.monitor() == int(machine.shown("MainPID")["MainPID"])
    machine.ok("uninstall-service", **as_root)
    machine.ok("install-service", "--system", **as_root)  # for the owner of the project
    assert "\nUser=ops\n" in machine.root("cat", f"/etc/systemd/system/{LABEL}.service")
    assert machine.pids() == before
    assert machine._run("exec", "test", "-e", "/root/.local/state/settlepaisa").returncode == 1
    machine.systemctl("disable", LABEL, system=True)
    assert "NOT started" in machine.ok("status").out and "is not enabled" in machine.ok("health").out
