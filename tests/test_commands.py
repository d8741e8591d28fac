"""The promise of the face, kept by the real `inv`: names, flags, documents, exit codes, chains, help, tail, watch.

People script against these: what breaks a test here breaks somebody's script.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import plistlib
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.commands import namespace
from ops.host import process
from tests.stack import PYTHON, Done, Stack
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    *("start", "stop", "restart", "restart-one", "kill-port", "reset", "status", "health"),
    *("hold", "release", "tail", "alerts", "check-inventory", "bootstrap"),
    *("monitor", "monitor-start", "monitor-stop", "report", "install-service", "uninstall-service"),
}
RECAP = re.compile(r"localhost : ok=\d+ changed=\d+ unreachable=\d+ failed=\d+ skipped=\d+")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is up, for tests that only look: api (critical) needs pg."""
    made = Stack(tmp_path_factory.mktemp("running"))
    try:
        made.tiny("api", needs=["pg"], critical=True, env={"TOKEN": "x"})
        made.tiny("pg", health=[{"http": "/"}, {"command": ["false"], "restart": False, "every": 60}])
        made.write()
        made.ok("start")  # the watching probe of pg fails, which gates no start
        yield made
    finally:
        made.end()


def documents(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def moment(text: str) -> datetime.datetime:
    """An ISO 8601 time, which must have a zone."""
    parsed = datetime.datetime.fromisoformat(text)
    assert parsed.tzinfo is not None
    return parsed


def started(stack: Stack) -> dict[str, datetime.datetime]:
    services = stack.inv("status", "--json").services
    return {name: moment(one["started_at"]) for name, one in services.items() if one["started_at"]}


# -- what there is -----------------------------------------------------------------------------------------------


def test_the_commands_are_spelled_so(running: Stack) -> None:
    listed = json.loads(running.ok("--list", "--list-format=json").out)
    assert {one["name"] for one in listed["tasks"]} == COMMANDS
    assert all(one["help"] for one in listed["tasks"])


def test_no_flag_has_a_letter_by_itself() -> None:
    flags = {flag for context in namespace().to_contexts() for flag in context.flags}
    assert flags
    assert [flag for flag in flags if not flag.startswith("--")] == []


def test_the_same_flags_everywhere_they_make_sense() -> None:
    flags = {context.name: set(context.flags) for context in namespace().to_contexts()}
    changing = {"start", "stop", "restart", "restart-one", "kill-port", "reset", "hold", "release"}
    changing |= {"monitor-start", "monitor-stop", "install-service", "uninstall-service", "bootstrap"}
    assert {name for name, known in flags.items() if {"--serial", "--max-fail-percentage"} <= known} == changing
    assert {name for name, known in flags.items() if "--limit" in known} == COMMANDS - {"monitor"}
    assert {name for name, known in flags.items() if {"--check", "--timeout"} <= known} == changing
    assert {name for name, known in flags.items() if "--json" in known} == COMMANDS
    assert {name for name, known in flags.items() if "--only" in known} == {
        *("start", "stop", "restart", "reset", "status", "health", "report")
    }
    assert {name for name, known in flags.items() if "--watch" in known} == {"status", "health"}


# -- the documents -------------------------------------------------------------------------------------------------

SERVICE = {
    "name": str,
    "critical": bool,
    "port": int,
    "wanted": str,
    "state": str,
    "pid": int,
    "started_at": str,
    "uptime": float,
    "cpu_percent": float,
    "rss": int,
    "restarts": int,
    "stale": bool,
    "checked_at": str,
    "probes": list,
}
UNKNOWN_WHEN_DOWN = {"pid", "started_at", "uptime", "cpu_percent", "rss", "checked_at"}
PROBE = {"name": str, "ok": bool, "seconds": float, "detail": str, "restart": bool}
OUTCOME = {
    **dict.fromkeys(("host", "service", "action", "state", "before", "after", "detail"), str),
    "seconds": float,
}


def check_types(value: dict[str, Any], types: dict[str, type]) -> None:
    assert list(value) == list(types)
    assert {key: type(one) for key, one in value.items()} == types


@pytest.mark.parametrize("task", ["status", "health"])
def test_the_document_of_a_report(running: Stack, task: str) -> None:
    done = running.inv(task, "--json")
    document = done.document
    assert list(document) == ["schema", "task", "healthy", "hosts"]
    assert (document["schema"], document["task"]) == (1, task)
    host = document["hosts"]["localhost"]
    assert list(host) == ["services", "monitor"]
    assert host["monitor"] == {"state": "down", "pid": None, "last_sweep": None}
    assert [one["name"] for one in host["services"]] == ["api", "pg"]
    for one in host["services"]:
        check_types(one, SERVICE)
        moment(one["started_at"])
        moment(one["checked_at"])
        assert one["uptime"] < 600
        assert one["rss"] > 2**20
        assert one["port"] == running.services[one["name"]]["port"]
    assert done.services["api"]["critical"] is True
    if task == "health":
        for probe in (probe for one in host["services"] for probe in one["probes"]):
            check_types(probe, PROBE)
        assert done.services["pg"]["state"] == "unhealthy"  # its watching probe fails, which only alerts
        assert (document["healthy"], done.code) == (False, 2)
    else:
        assert (document["healthy"], done.code) == (True, 0)


def test_unknown_is_null(stack: Stack) -> None:
    stack.tiny()
    stack.add("worker", ["sleep", "1000"], port=None)
    stack.write()
    done = stack.inv("status", "--json")
    assert done.code == 2
    for one in done.services.values():
        assert {key for key, value in one.items() if value is None and key != "port"} == UNKNOWN_WHEN_DOWN
        assert (one["state"], one["wanted"], one["probes"]) == ("down", "up", [])
    assert done.services["worker"]["port"] is None
    assert not stack.state.exists()  # looking leaves nothing behind


def test_the_document_of_a_change(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.tiny("bad", "--exit=3", start_timeout=5)
    stack.write()
    done = stack.inv("start", "--json")
    document = done.document
    assert list(document) == ["schema", "task", "check", "outcomes", "recap"]
    assert (document["schema"], document["task"], document["check"]) == (1, "start", False)
    assert document["recap"] == {"localhost": {"ok": 1, "changed": 1, "unreachable": 0, "failed": 1, "skipped": 0}}
    for outcome in document["outcomes"]:
        check_types(outcome, OUTCOME)
        assert (outcome["host"], outcome["action"]) == ("localhost", "start")
    assert done.states == {"api": "changed", "bad": "failed"}
    assert (done.outcomes["api"]["before"], done.outcomes["api"]["after"]) == ("down", "up")
    detail = done.outcomes["bad"]["detail"]
    assert re.search(r"exit code 3.*\nwanted: .*\n(log: .*\n)*next:   inv tail bad", detail)
    assert done.code == 2

    shown = stack.ok("alerts")
    (line,) = shown.out.splitlines()
    assert re.search(r"^\S+ CRITICAL \S+ bad: inv start failed: .*exit code 3", line)
    moment(line.split()[0])
    assert stack.ok("alerts", "--json").document["hosts"]["localhost"]["alerts"] == [line]

    killed = stack.ok("kill-port", str(port), "--json")
    assert killed.states == {str(port): "changed"}
    assert (killed.outcomes[str(port)]["before"], killed.outcomes[str(port)]["after"]) == ("held", "free")
    announced = stack.ok("--dry", "start", "--only", "api", "--json")
    assert announced.document["check"] is True
    assert announced.states == {"api": "changed"}
    assert not stack.running("api")


def test_hold_and_release(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    assert stack.ok("hold", "api", "--check", "--json").states == {"api": "changed"}
    assert stack.inv("status", "--json").services["api"]["wanted"] == "up"
    assert stack.ok("hold", "api", "--json").outcomes["api"]["after"] == "held"
    status = stack.ok("status", "--json")  # what nobody wants up may be down
    assert status.services["api"]["wanted"] == "held"
    again = stack.ok("hold", "api")
    assert again.out.splitlines()[-1] == "localhost : ok=1 changed=0 unreachable=0 failed=0 skipped=0"
    assert stack.ok("release", "api", "--json").outcomes["api"]["after"] == "up"


def test_check_inventory_proves_the_budget(stack: Stack) -> None:
    stack.tiny("quick", grace=2, start_time=1, health=[{"http": "/", "every": 2, "timeout": 2}])
    stack.tiny("slow", grace=20, start_time=5, health=[{"http": "/", "every": 10, "timeout": 5}])
    stack.write()
    done = stack.inv("check-inventory", "--json")
    assert done.code == 2
    assert done.states == {"quick": "ok", "slow": "failed"}
    assert done.outcomes["quick"]["detail"] == "worst case 10 s of 30 s"  # 2 + 2 + 1 x (1 + 2) + 2 + 1
    assert done.outcomes["slow"]["detail"].startswith("worst case 46 s of 30 s")
    shown = stack.inv("check-inventory")
    assert shown.code == 2
    assert shown.err == ""
    assert RECAP.fullmatch(shown.out.splitlines()[-1])


def test_check_inventory_warns_of_what_this_machine_lacks(stack: Stack) -> None:
    stack.tiny("good")
    stack.add("no-program", ["definitely-not-there"])
    stack.add("no-folder", ["sleep", "1"], cwd="not/there")
    stack.ops["alert_command"] = ["./pager"]
    stack.write()
    done = stack.ok("check-inventory", "--json")
    assert set(done.states.values()) == {"ok"}
    third, first, second = sorted(done.err.splitlines())
    assert first.startswith(f"warning: no-folder could not be started here: its folder {stack.folder}/not/there")
    assert "no-program could not be started here: its program 'definitely-not-there' was not found; next: " in second
    assert third.startswith("warning: alert_command could not be started here: its program './pager' was not found")
    assert not stack.state.exists()


# -- for people ----------------------------------------------------------------------------------------------------


def test_people_get_a_line_per_outcome_the_health_and_the_recap(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("web", needs=["api"])
    stack.write()
    first = stack.ok("start")
    lines = first.out.splitlines()
    assert re.match(r"api  changed   down -> up  +started, pid \d+, healthy after", lines[0])
    assert lines[1].startswith("web  changed")
    assert "localhost: healthy, 2 of 2 services up" in lines
    assert lines[-1] == "localhost : ok=2 changed=2 unreachable=0 failed=0 skipped=0"
    assert [line for line in first.err.splitlines() if "two supervisors fight" not in line] == []
    assert stack.ok("start").out.splitlines()[-1] == "localhost : ok=2 changed=0 unreachable=0 failed=0 skipped=0"
    assert stack.ok("stop").out.splitlines()[-1] == "localhost : ok=2 changed=2 unreachable=0 failed=0 skipped=0"


def test_progress_is_for_terminals_and_a_pipe_stays_quiet(stack: Stack) -> None:
    stack.tiny("late", "--after=2")
    stack.write()
    leader, follower = pty.openpty()
    child = stack.popen("start", stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
        while piece := os.read(leader, 4096):
            shown += piece
    os.close(leader)
    assert child.wait(30) == 0
    assert re.search(rb"waiting for late \d s", shown)
    after = shown.rpartition(b"\r\x1b[K")[2]  # and takes itself away
    assert not after or b"two supervisors fight" in after  # another test has the runbook's monitor running
    stack.ok("stop")
    quiet = stack.ok("start")
    assert "waiting" not in quiet.out + quiet.err


def test_ctrl_c_takes_the_progress_line_away(stack: Stack) -> None:
    stack.tiny("late", "--after=600", start_timeout=600)
    stack.tiny("later", "--after=600", start_timeout=600)
    stack.write()
    leader, follower = pty.openpty()
    child = stack.popen("start", stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
        while piece := os.read(leader, 4096):
            if b"waiting for" not in shown and b"waiting for" in shown + piece:
                child.send_signal(signal.SIGINT)
            shown += piece
    os.close(leader)
    assert child.wait(30) == 130
    end = shown[shown.rindex(b"waiting for") :]
    plain = end.replace(b"\x1b[31m", b"").replace(b"\x1b[0m", b"")
    assert re.fullmatch(rb"waiting for [^\r\n]*\r\x1b\[Kerror: interrupted\r\n  next:   inv start\r\n", plain)


def test_a_check_says_that_nothing_was_touched(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    for line in (["start", "--check"], ["--dry", "stop"]):
        *_, told, recap = stack.ok(*line).out.splitlines()
        assert told == "check only: nothing was touched"
        assert RECAP.fullmatch(recap)
    assert "nothing was touched" not in stack.ok("stop").out


# -- how a start ends ------------------------------------------------------------------------------------------------


def test_a_start_ends_by_showing_health_and_its_code_is_that_of_its_outcomes(stack: Stack) -> None:
    stack.tiny("watched", health=[{"http": "/"}, {"command": ["false"], "restart": False}])
    stack.write()
    shown = stack.ok("start")
    assert shown.out.splitlines()[-1] == "localhost : ok=1 changed=1 unreachable=0 failed=0 skipped=0"
    assert "localhost: NOT healthy: watched unhealthy" in shown.out
    assert "next:   inv tail watched" in shown.out
    assert stack.inv("start", "health").code == 2  # both


def test_the_closing_health_is_bounded_by_the_timeout_too(stack: Stack) -> None:
    port = stack.tiny("mute", "--answer=hang")
    stack.services["mute"]["health"] = [{"tcp": port}, {"http": "/", "restart": False, "timeout": 30}]
    stack.write()
    bounded = stack.ok("start", "--timeout", "3")
    assert "NOT healthy" in bounded.out
    assert bounded.seconds < 15


# -- chains --------------------------------------------------------------------------------------------------------


def test_a_chain_goes_on_and_stops_at_the_first_failure(stack: Stack) -> None:
    port = stack.tiny("api")
    stack.tiny("bad", "--exit=1", start_timeout=5)
    stack.write()
    stack.ok("start", "--only", "api")
    before = stack.pid("api")
    chain = stack.inv("kill-port", str(port), "--json", "restart-one", "api", "--json", "health", "--json")
    killed, restarted, health = documents(chain)
    assert [one["task"] for one in (killed, restarted, health)] == ["kill-port", "restart-one", "health"]
    assert killed["outcomes"][0]["state"] == restarted["outcomes"][0]["state"] == "changed"
    assert stack.pid("api") != before
    assert chain.code == 2  # `bad` is wanted up and down: health says so

    stopped = stack.inv("restart-one", "bad", "--json", "stop", "--json")
    assert [one["task"] for one in documents(stopped)] == ["restart-one"]
    assert stopped.code == 2
    assert stack.running("api")


def test_a_task_given_twice_runs_twice(running: Stack) -> None:
    assert len(documents(running.ok("status", "--json", "status", "--json"))) == 2
    program = Path(sys.executable).parent / "ops"
    env = {**running.env, "OPS_INVENTORY": str(running.folder / "inventory.yaml")}
    twice = subprocess.run([program, "status", "status"], cwd="/", env=env, capture_output=True, text=True, timeout=30)
    assert twice.stdout.count("localhost: 2 of 2 services run (not asked: inv health)") == 2


def test_the_project_turns_deduplication_off() -> None:
    assert json.loads((ROOT / "invoke.json").read_text())["tasks"]["dedupe"] is False


# -- --only, order ---------------------------------------------------------------------------------------------------


def test_only_takes_needs_along_on_the_way_up_and_nobody_on_the_way_down(stack: Stack) -> None:
    stack.tiny("other")
    stack.tiny("web", needs=["api"])
    stack.tiny("api", needs=["pg"])
    stack.tiny("pg", "--after=0.3")
    stack.write()
    up = stack.ok("start", "--json", "--only", "web")
    assert up.states == {"web": "changed", "api": "changed", "pg": "changed"}
    assert not stack.running("other")
    times = started(stack)
    assert times["pg"] + datetime.timedelta(seconds=0.25) < times["api"] < times["web"]
    down = stack.ok("stop", "--json", "--only", "api")
    assert down.states == {"api": "changed"}
    assert stack.running("web") and stack.running("pg") and not stack.running("api")
    several = stack.ok("stop", "--json", "--only", "web,pg", "--only", "other")
    assert several.states == {"other": "ok", "web": "changed", "pg": "changed"}
    assert not stack.running()


def test_restart_is_one_at_a_time_and_stops_at_the_first_failure(stack: Stack) -> None:
    stack.tiny("b", needs=["a"])
    stack.tiny("a", "--after=0.4", critical=True)
    stack.tiny("c")
    stack.write()
    stack.ok("start")
    old = {name: stack.running(name) for name in "abc"}
    assert list(stack.ok("restart", "--json").states) == ["a", "b", "c"]
    times = started(stack)
    assert times["a"] + datetime.timedelta(seconds=0.35) < times["b"] < times["c"]
    assert all(stack.running(name) != old[name] for name in "abc")

    stack.services["b"]["command"] = ["{python}", "-c", "raise SystemExit(7)"]
    stack.write()
    untouched = stack.running("c")
    failed = stack.inv("restart", "--json")
    assert failed.code == 2
    assert failed.states == {"a": "changed", "b": "failed", "c": "skipped"}
    assert "b failed" in failed.outcomes["c"]["detail"]
    assert stack.running("c") == untouched


def test_law_6_a_start_ends_when_its_timeout_does(stack: Stack) -> None:
    stack.tiny("never", "--after=1000", start_timeout=600)
    stack.write()
    done = stack.inv("start", "--timeout", "0.5", "--json")
    assert done.code == 2
    assert done.outcomes["never"]["seconds"] < 30
    assert "(--timeout)" in done.outcomes["never"]["detail"]


# -- help ------------------------------------------------------------------------------------------------------------


def test_help_after_any_task_name_runs_nothing(stack: Stack) -> None:
    """All at once: they only read."""
    stack.tiny()
    stack.write()
    lines = [[name, flag] for name in sorted(COMMANDS) for flag in ("--help", "-h")]
    lines += [["restart-one", "api", "--help"], ["kill-port", "5103", "-h"], ["hold", "api", "--json", "--help"]]
    lines += [["start", "restart-one", "--help"], ["start", "--only", "--help"], ["start", "stop", "--help"]]
    for batch in (lines[:12], lines[12:24], lines[24:]):
        for line, child in [(line, stack.popen(*line)) for line in batch]:
            out, err = child.communicate(timeout=60)
            asked = [word for word in line if word in COMMANDS][-1]
            assert (child.returncode, err) == (0, ""), line
            assert re.match(rf"Usage: .* {asked} ", out), line
    assert not stack.state.exists()
    assert not stack.running()
    for task, what in (("restart-one", "NAME"), ("kill-port", "PORT"), ("tail", "NAME")):
        assert f"inv {task} {what}" in stack.ok(task, "--help").out


# -- from elsewhere --------------------------------------------------------------------------------------------------


def test_from_elsewhere_the_inventory_beside_tasks_py_counts(running: Stack, tmp_path: Path) -> None:
    for extra in (["-r", str(running.folder)], ["-r", str(running.folder), "-c", "tasks"]):
        done = running.inv(*extra, "status", "--json", cwd=str(tmp_path))
        assert set(done.services) == {"api", "pg"}
    below = running.folder / "a" / "b"
    below.mkdir(parents=True, exist_ok=True)
    assert set(running.inv("status", "--json", cwd=str(below)).services) == {"api", "pg"}


def test_the_shipped_tasks_py_names_itself() -> None:
    """Else `inv -r FOLDER stop` acts on whatever inventory is found from the current folder."""
    assert "namespace(__file__)" in (ROOT / "tasks.py").read_text()


def test_the_console_script_from_another_folder(running: Stack, tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "ops"

    def ops(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        whole = {**running.env, **env}
        return subprocess.run([program, *words], cwd=tmp_path, env=whole, capture_output=True, text=True, timeout=60)

    chosen = ops("status", "--json", OPS_INVENTORY=str(running.folder / "inventory.yaml"))
    assert chosen.returncode == 0
    services = json.loads(chosen.stdout)["hosts"]["localhost"]["services"]
    assert [one["name"] for one in services] == ["api", "pg"]
    without = ops("check-inventory")  # of the checkout that the package lies in
    assert str(ROOT / "inventory.yaml") in without.stdout
    assert {context.name for context in namespace().to_contexts()} <= set(ops("--list").stdout.split())


# -- status, health, watch -------------------------------------------------------------------------------------------


def test_status_waits_for_nobody(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("mute", "--answer=hang", health=[{"http": "/", "every": 60, "timeout": 45}])
    stack.write()
    begun = stack.inv("start", "--timeout", "1")  # which bounds the health that it ends with, too
    assert begun.seconds < 40
    os.kill(stack.pid("api"), signal.SIGSTOP)
    done = stack.inv("status", "--json")
    assert done.seconds < 40
    assert done.services["api"]["state"] == "hung"
    assert done.services["mute"]["pid"]
    assert done.code == 2


@pytest.mark.parametrize("task", ["status", "health"])
def test_watching_repeats_until_interrupted(running: Stack, task: str) -> None:
    child = running.popen(task, "--only", "api", "--watch", "0.2", "--json")
    assert child.stdout
    for _ in range(3):
        document = json.loads(child.stdout.readline())
        assert (document["task"], document["healthy"]) == (task, True)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert [json.loads(line)["task"] for line in out.splitlines()] == [task] * len(out.splitlines())
    assert err == ""


# -- tail ------------------------------------------------------------------------------------------------------------


def log(stack: Stack, name: str) -> Path:
    return stack.state / "logs" / f"{name}.log"


def test_tail_follows_through_rename_and_re_creation(running: Stack) -> None:
    path = log(running, "api")
    with path.open("a") as file:
        file.write("one\ntwo\n")
    child = running.popen("tail", "api", "--lines", "2")
    assert child.stdout
    assert [child.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
    with path.open("a") as file:
        file.write("three\n")
        file.flush()
        assert child.stdout.readline() == "three\n"
        path.rename(path.with_suffix(".log.1"))
        file.write("four\n")
    path.write_text("five\n")
    assert [child.stdout.readline() for _ in range(2)] == ["four\n", "five\n"]
    path.unlink()
    path.write_text("six\n")
    assert child.stdout.readline() == "six\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20) == ("", "")
    assert child.returncode == 130


def test_tail_all_names_each_line_and_makes_it_harmless(running: Stack) -> None:
    log(running, "api").write_bytes(b"first\n\x1b[2J\x1b]0;owned\x07\xff\xe2\x80\xae\n")
    log(running, "pg").write_text("hello\nworld\n")
    plain = running.ok("tail", "all", "--no-follow", "--lines", "2").out
    assert plain.splitlines()[0] == "api | first"
    assert plain.splitlines()[2:] == ["pg  | hello", "pg  | world"]
    assert all(character.isprintable() or character == "\n" for character in plain)
    assert "owned" in plain
    lines = documents(running.ok("tail", "all", "--no-follow", "--lines", "1", "--json"))
    assert [(one["schema"], one["host"], one["service"]) for one in lines] == [
        (1, "localhost", "api"),
        (1, "localhost", "pg"),
    ]
    assert lines[1]["line"] == "world"
    assert running.ok("tail", "pg", "--no-follow", "--lines", "0").out == ""
    assert running.ok("tail", "pg", "--no-follow", "--lines", "1").out == "world\n"


def test_tail_says_why_nothing_comes(stack: Stack) -> None:
    stack.tiny("api")
    stack.tiny("pg")
    stack.write()
    assert stack.ok("tail", "monitor", "--no-follow").err.startswith("monitor: no monitor has run yet")
    assert stack.ok("tail", "alerts", "--no-follow").err == "alerts: no alerts so far\n"
    log(stack, "api").parent.mkdir(parents=True)
    log(stack, "api").write_text("hello\n")
    log(stack, "pg").mkdir()
    child = stack.popen("tail", "all")
    assert child.stdout and child.stderr
    assert child.stdout.readline() == "api | hello\n"
    assert child.stderr.readline() == f"pg: {log(stack, 'pg')}: not a regular file\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20) == ("", "")
    log(stack, "pg").rmdir()
    child = stack.popen("tail", "pg", "--json")
    assert child.stdout and child.stderr
    assert child.stderr.readline() == f"pg: no log yet, {log(stack, 'pg')} does not exist; waiting for it\n"
    log(stack, "pg").write_text("comes\n")
    assert json.loads(child.stdout.readline())["line"] == "comes"


# -- alerts ----------------------------------------------------------------------------------------------------------


def test_an_alert_is_found_at_the_public_path(stack: Stack) -> None:
    public = stack.public / "critical-alerts.log"
    stack.ops["alerts_log"] = str(public)
    stack.tiny("bad", "--exit=1", start_timeout=5)
    stack.write()
    assert "alerts log" not in stack.inv("health").out  # there are none, so nothing is missing
    assert not os.path.lexists(public)
    assert stack.inv("start", "--json").code == 2
    assert "bad: inv start failed" in public.read_text()
    assert public.is_symlink()
    public.unlink()
    assert f"warning: alerts log {public}: missing" in stack.inv("health").out
    public.mkdir()
    told = stack.inv("start", "--json")
    assert f"note: alerts log {public}: a directory: left alone; the log itself is {log(stack, 'alerts')}" in told.err
    assert len(stack.ok("alerts").out.splitlines()) == 2


@pytest.mark.parametrize("lines", [1, 1000])
def test_tail_into_head_ends_quietly(running: Stack, lines: int) -> None:
    """Also when no further line comes that could tell that the reader is gone."""
    for name in ("api", "pg"):
        Path(f"{log(running, name)}.1").unlink(missing_ok=True)  # a generation of another test
        log(running, name).write_text("".join(f"line {number}\n" for number in range(lines)))
    piped = subprocess.run(
        ["bash", "-c", f"'{PYTHON}' -m invoke tail all --lines 1000 | head -1; echo ended ${{PIPESTATUS[0]}}"],
        cwd=running.folder,
        env=running.env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert piped.stdout.splitlines() == ["api | line 0", "ended 0"]
    assert piped.stderr == ""


# -- the runbook's own monitor -----------------------------------------------------------------------------------------


def test_the_runbooks_own_monitor_is_noticed_and_named(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    script = stack.folder / "service-monitor.sh"
    script.write_text("while true; do read -t 600 _ <> <(:); done\n")
    rival = stack.spawn(["bash", str(script)])
    editor = stack.spawn(["tail", "-f", str(script)])
    until(lambda: "service-monitor.sh" in " ".join(process.command_line(rival.pid)))
    changed = stack.ok("start", "--json")
    assert f"end it: kill {rival.pid}" in changed.err
    assert f"kill {editor.pid}" not in changed.err
    shown = stack.ok("health")
    assert f"end it: kill {rival.pid}" in shown.out
    assert f"kill {editor.pid}" not in shown.out
    announced = stack.ok("start")
    assert f"end it: kill {rival.pid}" in announced.out + announced.err
    assert rival.poll() is None  # a stranger: named, not ended


def test_the_runbooks_launch_agent_is_noticed_and_named(stack: Stack) -> None:
    stack.tiny()
    stack.write()
    folder = stack.home / "Library" / "LaunchAgents"
    folder.mkdir(parents=True)
    script = "/Users/ops/settlepaisa/scripts/service-monitor.sh"

    def write(name: str, said: dict[str, Any]) -> None:
        (folder / name).write_bytes(plistlib.dumps(said))

    label = "com.settlepaisa.monitor"
    write(f"{label}.plist", {"Label": label, "ProgramArguments": ["sh", script]})
    write("other.plist", {"Label": "com.example.other", "ProgramArguments": ["/usr/bin/true", "service-monitor"]})
    write("unlabelled.plist", {"ProgramArguments": ["sh", "-c", "cd /opt && ./start-with-monitoring.sh"]})
    write("odd.plist", {"Label": 7, "ProgramArguments": "service", "Program": 3})
    (folder / "torn.plist").write_text("<plist><dict><key>Label")
    (folder / "binary.plist").write_bytes(b"bplist00" + bytes(40))
    (folder / "list.plist").write_bytes(plistlib.dumps([1]))
    (folder / "gone.plist").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe.plist")
    done = stack.ok("start", "--json")
    named = [line for line in done.err.splitlines() if "LaunchAgent" in line]
    assert len(named) == 2
    ending = "two supervisors fight; end it: launchctl bootout gui/$(id -u)"
    own = "runs the runbook's own"
    assert named == [
        f"note: the LaunchAgent {folder}/{label}.plist {own} service-monitor.sh; {ending}/{label}",
        f"note: the LaunchAgent {folder}/unlabelled.plist {own} start-with-monitoring.sh; {ending}/unlabelled",
    ]
    assert f"{ending}/{label}" in stack.ok("health").out
