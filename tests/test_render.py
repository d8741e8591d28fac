"""What people and scripts see, from values alone: durations, headlines, tables, colours, recaps, documents."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import struct
import termios
from collections.abc import Iterator
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import render
from ops.face.advice import advice
from ops.face.colour import coloured
from ops.face.progress import Progress
from ops.model import Outcome, Reading, tally
from ops.operations.look import HostReport, ServiceReport
from ops.operations.watched import MonitorReport


def service(name: str = "api", state: str = "up", **more: object) -> ServiceReport:
    told: dict[str, object] = {
        "name": name,
        "critical": False,
        "port": 5103,
        "wanted": "up",
        "state": state,
        "pid": 4242,
        "started_at": "2026-01-01T00:00:00.000+00:00",
        "uptime": 12.5,
        "cpu_percent": 0.25,
        "rss": 19 * 2**20,
        "restarts": 0,
        "stale": False,
        "checked_at": None,
        **more,
    }
    return ServiceReport(**told)  # type: ignore[arg-type]


def down(name: str = "api", **more: object) -> ServiceReport:
    unknown = dict.fromkeys(("pid", "started_at", "uptime", "cpu_percent", "rss"))
    return service(name, "down", **{**unknown, **more})


def report(*services: ServiceReport, warnings: tuple[str, ...] = ()) -> HostReport:
    return HostReport("localhost", services, warnings=warnings)


def outcome(name: str = "api", state: str = "changed", **more: object) -> Outcome:
    told: dict[str, object] = {"action": "start", "before": "down", "after": "up", "detail": "started", **more}
    return Outcome(name, state=state, **told)  # type: ignore[arg-type]


@pytest.fixture
def terminal() -> Iterator[IO[str]]:
    """A real terminal to write to."""
    leader, follower = os.openpty()
    with open(follower, "w") as stream:
        yield stream
    os.close(leader)


# -- small words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, None),
        (0, "0 s"),
        (0.9, "0 s"),
        (4.2, "4 s"),
        (59.99, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d 0 h"),
        (439_200, "5 d 2 h"),
    ],
)
def test_durations(seconds: float | None, words: str | None) -> None:
    assert render.duration(seconds) == words


@given(st.integers(0, 10**9))
def test_a_duration_is_never_longer_than_what_it_stands_for(seconds: int) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "d": 86400}
    parts = str(render.duration(seconds)).split()
    told = sum(int(amount) * units[unit] for amount, unit in zip(parts[::2], parts[1::2], strict=True))
    assert told <= seconds < told + max(units[parts[-1]], 1)


@pytest.mark.parametrize(
    ("amount", "words"),
    [(None, None), (0, "0.0 MB"), (2**20, "1.0 MB"), (19_293_798, "18.4 MB"), (3 * 2**30, "3072.0 MB")],
)
def test_sizes(amount: int | None, words: str | None) -> None:
    assert render.size(amount) == words


# -- colours ---------------------------------------------------------------------------------------------------------


def test_colours_are_for_terminals_only(terminal: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("up", "green", terminal) == "\033[32mup\033[0m"
    assert coloured("up", "green", io.StringIO()) == "up"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colours(
    terminal: IO[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert coloured("up", "green", terminal) == "up"


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_an_outcome_is_one_line() -> None:
    assert render.outcome_lines(outcome(), 9) == ["api        changed   down -> up        started"]


def test_what_did_not_change_is_said_once() -> None:
    (line,) = render.outcome_lines(outcome(state="ok", before="up", detail="already healthy"), 3)
    assert line == "api  ok        up                already healthy"


def test_a_failure_says_more_below_its_line() -> None:
    more = ("wanted: api healthy", "log:    no such table", "next:   inv tail api")
    lines = render.outcome_lines(outcome(state="failed", after="down", detail="ended", more=more), 3)
    assert [line.strip() for line in lines[1:]] == list(more)
    assert all(line.startswith("     ") for line in lines[1:])


def test_the_recap_is_ansibles() -> None:
    states = ["ok", "ok", "ok", "changed", "skipped", "failed"]
    outcomes = [outcome(str(number), state) for number, state in enumerate(states)]
    assert render.recap_lines(outcomes, ["localhost"]) == [
        "localhost : ok=4 changed=1 unreachable=0 failed=1 skipped=1"
    ]


def test_the_recap_names_hosts_without_outcomes_too() -> None:
    lines = render.recap_lines([outcome(host="b", state="unreachable")], ["a", "b"])
    assert lines == [
        "a : ok=0 changed=0 unreachable=0 failed=0 skipped=0",
        "b : ok=0 changed=0 unreachable=1 failed=0 skipped=0",
    ]


@given(st.lists(st.sampled_from(["ok", "changed", "failed", "skipped", "unreachable"])))
def test_the_recap_counts_every_outcome_once(states: list[str]) -> None:
    rows = tally([outcome(str(number), state) for number, state in enumerate(states)])
    row = rows.get("localhost", {"ok": 0, "unreachable": 0, "failed": 0, "skipped": 0, "changed": 0})
    assert row["ok"] + row["unreachable"] + row["failed"] + row["skipped"] == len(states)
    assert row["changed"] == states.count("changed")


def test_the_document_of_a_change() -> None:
    document = json.loads(render.outcome_document("start", True, [outcome(more=("next:   inv health",), seconds=0.25)]))
    assert document == {
        "schema": 1,
        "task": "start",
        "check": True,
        "outcomes": [
            {
                "host": "localhost",
                "service": "api",
                "action": "start",
                "state": "changed",
                "before": "down",
                "after": "up",
                "detail": "started\nnext:   inv health",
                "seconds": 0.25,
            }
        ],
        "recap": {"localhost": {"ok": 1, "changed": 1, "unreachable": 0, "failed": 0, "skipped": 0}},
    }


# -- reports ---------------------------------------------------------------------------------------------------------


def test_the_headline_of_a_healthy_host() -> None:
    found = report(service("api"), service("web"), down("old", wanted="down"))
    assert found.healthy
    assert render.headline(found) == "localhost: healthy, 2 of 3 services up, 1 stopped by command"
    assert render.headline(report(service("api"))) == "localhost: healthy, 1 of 1 services up"


def test_the_headline_does_not_claim_what_was_not_asked() -> None:
    shown = render.status_lines(report(service("api"), service("web")))[0]
    assert shown == "localhost: 2 of 2 services run (not asked: inv health)"


def test_the_headline_of_a_stack_that_was_stopped_is_not_that_of_a_healthy_one() -> None:
    stopped = report(down("api", wanted="down"), down("web", wanted="down"))
    for lines in (render.status_lines(stopped), render.health_lines(stopped)):
        assert lines[0] == "localhost: all 2 stopped by command: inv start brings them back"
    still_up = report(down("api", wanted="down"), service("web", wanted="down"))
    assert "all" not in render.headline(still_up)


def test_the_headline_names_what_is_wrong_critical_ones_first() -> None:
    found = report(service("ok"), down("web"), service("recon", "hung", critical=True))
    assert not found.healthy
    assert render.headline(found) == "localhost: NOT healthy: recon hung (critical), web down"


@pytest.mark.parametrize(
    ("seen", "well"),
    [
        (service(), True),
        (down(), False),
        (down(wanted="down"), True),
        (down(wanted="held"), True),
        (service(state="unhealthy"), False),
        (service(state="starting"), False),
        (service(state="foreign"), False),
    ],
)
def test_what_is_well(seen: ServiceReport, well: bool) -> None:
    assert seen.well is well
    assert report(seen).healthy is well


def status_of(seen: ServiceReport) -> str:
    """The line of one service in `status`, its columns a single space apart."""
    _, gap, line, *_ = render.status_lines(report(seen))
    assert gap == ""
    return " ".join(line.split())


def test_a_line_of_status() -> None:
    seen = service("recon", critical=True, restarts=3)
    assert status_of(seen) == "recon * up port 5103 pid 4242 up 12 s 19.0 MB 0.2 % cpu restarts 3"


def test_status_leaves_out_what_is_unknown() -> None:
    assert status_of(down(port=None)) == "api down"
    assert status_of(down(wanted="down")) == "api down port 5103 wanted down"


def test_the_lines_of_status_stand_below_each_other() -> None:
    shown = render.status_lines(report(service("a"), service("a-long-name", "hung", critical=True), down("b")))
    one, other, third = shown[2:5]
    assert one.index("port 5103") == other.index("port 5103") == third.index("port 5103")
    assert one.index(" % cpu") == other.index(" % cpu")


def test_a_healthy_line_of_status_fits_eighty_columns() -> None:
    """With the longest of each: the shipped names, a pid of seven digits, a busy service that was up for hours."""
    busy = {"pid": 4194304, "uptime": 86_399.0, "rss": 2**20 * 999, "cpu_percent": 100.0, "port": 5174}
    names = [("recon-api", True), ("frontend", True), ("overview-api", False)]
    lines = render.status_lines(report(*(service(name, critical=critical, **busy) for name, critical in names)))
    assert max(map(len, lines)) <= 80


SAID = {"why": "died: SIGKILL", "tries": 3, "next_try": "2026-01-01T03:04:05.678+00:00"}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (service(stale=True), "definition changed since it started"),
        (down(owner="pid 7 (nc), user root"), "port 5103 is held by pid 7 (nc), user root"),
        (down(**SAID), "died: SIGKILL, restarted 3 times, next try at 03:04:05"),
        (down(why="died: exit 1", tries=1), "died: exit 1, restarted once"),
        (down(wanted="down", listed=False), "no longer in the inventory: inv stop --only api"),
        (
            service(stale=True, refused=True),
            "what the inventory says of it now was not well: it runs as it was before",
        ),
    ],
)
def test_status_says_below_what_has_to_be_known_besides(seen: ServiceReport, words: str) -> None:
    assert f"api: {words}" in render.status_lines(report(seen))


def test_one_that_is_well_has_no_remark() -> None:
    assert not [line for line in render.status_lines(report(service(**SAID))) if line.startswith("api:")]


def test_what_is_held_and_dead_is_the_first_thing_said() -> None:
    """It counts as well, as its holder wanted; that it does not run is not to be overlooked for that."""
    seen = report(service("web"), down("recon", wanted="held", critical=True))
    assert seen.healthy
    for lines in (render.status_lines(seen), render.health_lines(seen)):
        assert lines[0] == "localhost: held and not up, by your word: recon (critical)"
        assert "next:   inv release recon" in lines
    assert "held" not in render.headline(report(service(wanted="held")))


def test_who_would_bring_the_monitor_back_is_named() -> None:
    for guard, words in ((7, "monitor: up, pid 5, guard 7"), (None, "monitor: up, pid 5, no guard")):
        seen = HostReport("localhost", (service(),), MonitorReport("up", 5, guard=guard))
        assert words in render.status_lines(seen)


GOOD = Reading("GET /", True, 0.01, "status 200")
BAD = Reading("GET /jobs", False, 0.01, "status 500, wanted 201")
WATCHED = Reading("GET /slow", False, 0.01, "status 500", restart=False)
UNKNOWN = Reading("command check", None, 0.0, "no such program")


@pytest.mark.parametrize(
    ("readings", "more", "words"),
    [
        ((GOOD, GOOD), {}, "2 of 2 ok"),
        ((GOOD, BAD), {}, "GET /jobs: status 500, wanted 201"),
        ((GOOD, UNKNOWN), {}, "1 of 2 ok; command check could not be asked: no such program"),
        ((GOOD,), {"wanted": "held"}, "1 of 1 ok; wanted held"),
        ((GOOD,), {"stale": True}, "1 of 1 ok; definition changed since it started"),
    ],
)
def test_health_says_beside_each_service_what_is_wrong(
    readings: tuple[Reading, ...], more: dict[str, object], words: str
) -> None:
    lines = render.health_lines(report(service(probes=readings, **more)))
    room = len(lines[3]) - lines[2].index("checks")
    assert lines[4].endswith(f"  {words}") or lines[4].endswith(f"  {words[: room - 3]}...")
    assert (f"api: {words}" in lines) == (len(words) > room)


def test_no_table_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Reading("GET /jobs", False, 0.01, "status 500, wanted 201 " * 9)
    found = report(service(probes=(long,)), service("web", probes=(GOOD,)), service("recon", critical=True))
    leader, follower = os.openpty()
    with open(follower, "w") as stream, contextlib.redirect_stdout(stream):
        monkeypatch.setenv("NO_COLOR", "1")
        shown = {}
        for columns in (200, 80, 64):
            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            shown[columns] = render.health_lines(found)
    os.close(leader)
    for columns, lines in shown.items():
        assert max(len(line) for line in lines[2:7]) <= columns
        assert lines[4].endswith("...")
        assert f"api: GET /jobs: {long.detail}" in lines  # in full below
    assert len(shown[200][3]) > len(shown[80][3])  # the dashes follow
    monkeypatch.undo()
    assert max(len(line) for line in render.health_lines(found)[2:7]) <= 100


@pytest.mark.parametrize(
    ("seen", "advice"),
    [
        (down(), "next:   inv start --only api"),
        (service(state="foreign", owner="pid 7"), "next:   inv kill-port 5103 start --only api"),
        (service(state="hung"), "next:   inv tail api    then: inv restart-one api"),
        (service(state="unhealthy", probes=(BAD,)), "next:   inv tail api    then: inv restart-one api"),
        (service(state="unhealthy", probes=(GOOD, WATCHED)), "next:   inv tail api"),  # a restart would heal nothing
        (service(state="unhealthy", probes=(BAD, WATCHED)), "next:   inv tail api    then: inv restart-one api"),
        (service(state="starting"), "next:   inv start --only api"),  # it waits
        (service(state="unhealthy", owner="pid 7"), "next:   inv kill-port 5103 start --only api"),
    ],
)
def test_health_ends_with_what_to_type(seen: ServiceReport, advice: str) -> None:
    assert render.health_lines(report(seen))[-1] == advice
    assert "next:" not in "\n".join(render.health_lines(report(service())))


def test_what_a_service_needs_is_mended_first_and_alone() -> None:
    web = service("web", "unhealthy", needs=("api",), probes=(BAD,))
    api = service("api", "hung", needs=("pg", "bank"))
    found = report(web, api, service("pg"), down("bank"))
    assert render.health_lines(found)[-3:] == [
        "next:   inv start --only bank",
        "next:   inv tail api    then: inv restart-one api    (needs bank, which is down)",
        "next:   inv tail web    (needs api, which is hung)",
    ]


def test_needs_in_a_circle_end() -> None:
    found = report(down("a", needs=("b",)), down("b", needs=("a",)), service("c"))
    assert [line.split("    ")[0] for line in advice(found)] == [f"next:   inv start --only {name}" for name in "ab"]


def test_status_says_what_to_type_too() -> None:
    assert render.status_lines(report(service("a"), down("b")))[-1] == "next:   inv start --only b"
    assert render.status_lines(report(service("a", "foreign", owner="pid 7")))[-1].startswith("next:   inv kill-port")
    assert "next:" not in "".join(render.status_lines(report(service())))


def test_a_machine_on_which_nothing_runs_yet_needs_one_line() -> None:
    assert advice(report(down("a"), down("b"))) == ["next:   inv start"]
    some = HostReport("localhost", (down("a"), down("b")), whole=False)  # --only: not all of them
    assert advice(some) == ["next:   inv start --only a", "next:   inv start --only b"]
    assert len(advice(report(down("a"), down("b"), down("c", wanted="down")))) == 2  # start would bring up c as well


def test_health_shows_warnings() -> None:
    lines = render.health_lines(report(service(), warnings=("api: log /tmp/api.log: missing",)))
    assert "warning: api: log /tmp/api.log: missing" in lines


def test_the_document_of_a_report() -> None:
    document = json.loads(render.report_document("health", [report(service(probes=(BAD,)), down("web"))]))
    assert list(document) == ["schema", "task", "healthy", "hosts"]
    assert (document["schema"], document["task"], document["healthy"]) == (1, "health", False)
    host = document["hosts"]["localhost"]
    assert list(host) == ["services", "monitor"]
    assert host["monitor"] == {"state": "down", "pid": None, "last_sweep": None}
    first, second = host["services"]
    assert list(first) == [
        *("name", "critical", "port", "wanted", "state", "pid", "started_at", "uptime", "cpu_percent", "rss"),
        *("restarts", "stale", "checked_at", "probes"),
    ]
    assert first["probes"] == [
        {"name": "GET /jobs", "ok": False, "seconds": 0.01, "detail": "status 500, wanted 201", "restart": True}
    ]
    assert [second[key] for key in ("pid", "started_at", "uptime", "cpu_percent", "rss")] == [None] * 5


# -- logs, progress --------------------------------------------------------------------------------------------------


def test_a_log_line_has_its_name_only_among_others() -> None:
    assert render.log_line("api", "hello", ["api"]) == "hello"
    assert render.log_line("api", "hello", ["api", "frontend"]) == "api      | hello"


def test_a_log_line_as_json() -> None:
    told = {"schema": 1, "host": "localhost", "service": "api", "line": 'a "b"\\x1b'}
    assert json.loads(render.log_document("localhost", "api", 'a "b"\\x1b')) == told


def test_errors_say_the_rest_below() -> None:
    assert render.error_lines(["seen", "wanted: x", "next:   y"]) == ["error: seen", "  wanted: x", "  next:   y"]


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(iter(range(100)).__next__)
    shown.waiting("api", "GET /: refused")
    shown.waiting("api", "GET /: refused")
    shown.clear()
    assert capsys.readouterr() == ("", "")
