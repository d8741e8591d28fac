"""inv report: made-up histories, written as the monitor writes them, and what people and scripts are told of them."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from datetime import datetime
from pathlib import Path

import pytest

from ops.errors import UsageError
from ops.face import figures
from ops.face.given import span
from ops.memory.history import History
from tests.stack import PYTHON, Stack

HOUR = 3600.0
KEYS = {
    *("name", "uptime_percent", "watched_seconds", "unknown_seconds", "outages", "recovery_median", "recovery_worst"),
    *("restarts", "response_p50", "response_p95", "response_p99", "cpu_percent", "rss", "met"),
}
SLACK = 120  # seconds that may pass between the made history and the report


def made(stack: Stack, *names: str) -> None:
    """A project with these services, none of which is ever started."""
    for name in names:
        stack.tiny(name)
    stack.write()


def history(stack: Stack) -> History:
    stack.state.mkdir(mode=0o700, exist_ok=True)
    return History(str(stack.state / "history.db"))


def outage(past: History, service: str, begun: float, seconds: float, why: str) -> None:
    past.state(begun, service, "down", "up", why=why)
    past.event(begun, service, "restart", why)
    past.state(begun + seconds, service, "up", "up")


def a_day(stack: Stack) -> float:
    """Watched for the last 20 h: small outages, long ones, one that is not over, and a service nobody knows of."""
    made(stack, "recon-api", "frontend", "overview-api", "pg-api", "bank-api")
    now = time.time()
    past = history(stack)
    past.begin(now - 20 * HOUR)
    for name in ("recon-api", "frontend", "overview-api", "pg-api"):
        past.state(now - 20 * HOUR, name, "up", "up")
    outage(past, "recon-api", now - 10 * HOUR, 0.04, "died: exit 1")
    outage(past, "recon-api", now - 9 * HOUR, 0.06, "died: SIGKILL")
    outage(past, "overview-api", now - 8 * HOUR, 16, "died: exit 1")
    outage(past, "overview-api", now - 7 * HOUR, 300, "hung: no answer in 5 s")
    past.event(now - 6 * HOUR, "overview-api", "restart", "hung: no answer in 5 s")
    past.state(now - 40, "pg-api", "gave-up", "up", why="exit 1")
    for number in range(1, 101):
        past.sample(now - number, "recon-api", seconds=number / 1000, cpu_percent=2.0, rss=number * 2**20)
    past.watching(now + HOUR)  # what is in force goes on, however long the test takes
    past.close()
    assert past.fault == ""
    return now


def test_scripts_get_every_key_and_the_right_numbers(stack: Stack) -> None:
    now = a_day(stack)
    document = stack.ok("report", "--json").document
    assert set(document) == {"schema", "task", "since", "until", "hosts"}
    assert (document["schema"], document["task"], set(document["hosts"])) == (1, "report", {"localhost"})
    since, until = (datetime.fromisoformat(document[key]) for key in ("since", "until"))
    assert since.tzinfo is not None
    assert until.timestamp() - since.timestamp() == pytest.approx(24 * HOUR, abs=0.01)
    assert now <= until.timestamp() + 0.001
    assert set(document["hosts"]["localhost"]) == {"services"}
    services = document["hosts"]["localhost"]["services"]
    assert [one["name"] for one in services] == ["recon-api", "frontend", "overview-api", "pg-api", "bank-api"]
    assert all(set(one) == KEYS and set(one["met"]) == {"uptime", "recovery"} for one in services)
    recon, frontend, overview, pg, bank = services
    assert recon["watched_seconds"] == pytest.approx(20 * HOUR, abs=SLACK)
    assert recon["unknown_seconds"] == pytest.approx(4 * HOUR, abs=SLACK)
    assert recon["watched_seconds"] + recon["unknown_seconds"] == pytest.approx(24 * HOUR, abs=0.01)
    assert 99.9998 < recon["uptime_percent"] < 100
    assert (recon["outages"], recon["restarts"]) == (2, 2)
    assert recon["recovery_median"] == pytest.approx(0.05, abs=1e-4)
    assert recon["recovery_worst"] == pytest.approx(0.06, abs=1e-4)
    assert [recon[f"response_p{one}"] for one in (50, 95, 99)] == pytest.approx([0.05, 0.095, 0.099])
    assert (recon["cpu_percent"], recon["rss"]) == (2.0, 100 * 2**20)
    assert recon["met"] == frontend["met"] == {"uptime": True, "recovery": True}
    assert (frontend["uptime_percent"], frontend["recovery_worst"], frontend["response_p50"]) == (100.0, None, None)
    assert overview["uptime_percent"] == pytest.approx(100 * (1 - 316 / (20 * HOUR)), abs=0.01)
    assert (overview["outages"], overview["restarts"], overview["recovery_worst"]) == (2, 3, pytest.approx(300))
    assert overview["met"] == {"uptime": False, "recovery": False}
    assert (pg["outages"], pg["recovery_worst"], pg["met"]["recovery"]) == (1, None, False)
    assert bank["unknown_seconds"] == pytest.approx(24 * HOUR, abs=0.01)
    assert {
        bank[key] for key in KEYS - {"name", "watched_seconds", "unknown_seconds", "outages", "restarts", "met"}
    } == {None}
    assert bank["met"] == {"uptime": None, "recovery": None}


def on_a_terminal(stack: Stack, columns: int, *words: str) -> list[str]:
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    child = subprocess.Popen(
        [PYTHON, "-m", "invoke", *words],
        cwd=stack.folder,
        env={**stack.env, "NO_COLOR": "1", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    said = b""
    try:
        while data := os.read(leader, 65536):
            said += data
    except OSError:  # Linux: the other end is closed
        pass
    finally:
        os.close(leader)
    assert child.wait(30) == 0, said
    return said.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_people_get_the_answer_first_and_a_table_that_fits(stack: Stack, columns: int) -> None:
    a_day(stack)
    first, window, unknown, gap, *table = on_a_terminal(stack, columns, "report")
    missed = "overview-api 99.561 % and 5 min, pg-api down over 30 s"
    assert first == f"{stack.name}: 99.9 % and 30 s NOT met: {missed} (in the 20 h watched)"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d to \d{4}-\d\d-\d\d \d\d:\d\d \([+-]\d{4}\), 24 h", window)
    assert re.fullmatch(r"3 h 5\d min of it unknown: not watched", unknown)
    assert gap == ""
    assert max(map(len, table)) <= columns
    rows = [line.split() for line in table]
    (recon, *_) = [row for row in rows if row[:1] == ["recon-api"]]
    assert recon[:2] == ["recon-api", "99.999"]  # never 100 when it is less
    told = "\n".join(table)
    for fact in ("50 ms, 60 ms", "50, 95, 99", "2 (died 2)", "3 (died 1, hung 2)", "no: uptime, recovery", "100.0 MB"):
        assert fact in told, fact
    (bank, *_) = [line for line in table if line.startswith("bank-api")]
    assert bank.split() == ["bank-api", "unknown", "+", "1", "d"]
    assert sum(line.startswith("service ") for line in table) == (1 if columns == 160 else 2)
    assert ("recon-api: restarts 2 (died 2)" in table) == (columns == 80)


def test_a_good_week_of_one_service(stack: Stack) -> None:
    made(stack, "api", "other")
    past = history(stack)
    now = time.time()
    past.begin(now - 8 * 24 * HOUR)
    past.state(now - 8 * 24 * HOUR, "api", "up", "up")
    outage(past, "api", now - 3 * 24 * HOUR, 5, "died: exit 1")
    past.state(now - 8 * 24 * HOUR, "other", "down", "down", planned=True)
    past.watching(now + HOUR)
    past.close()
    first, window, _, head, _, row = stack.ok("report", "--since", "7d", "--only", "api").out.splitlines()
    assert first == f"{stack.name}: 99.9 % and 30 s met by api"
    assert window.endswith(", 7 d")
    assert "unknown" not in head
    assert row.split() == ["api", "99.999", "1", "5.0", "s,", "5.0", "s", "1", "(died", "1)", "yes"]
    both = stack.ok("report").out.splitlines()
    assert both[0] == f"{stack.name}: 99.9 % and 30 s met, but not known of other"
    assert both[-2].split() == ["api", "100.000", "0", "0", "yes"]  # within 24 h there was nothing
    assert both[-1].split()[:2] == ["other", "stopped"]
    stopped = stack.ok("report", "--only", "other").out.splitlines()
    assert stopped[0] == f"{stack.name}: 99.9 % and 30 s: not known, stopped by command all the time"
    assert len(stopped) == 2


def test_where_nothing_was_watched_it_says_what_to_type_and_makes_nothing(stack: Stack) -> None:
    made(stack, "api")
    told = stack.ok("report").out.splitlines()
    assert told[0] == f"{stack.name}: 99.9 % and 30 s: not known, nothing was watched"
    assert told[1].endswith("24 h; not watched at all")
    assert told[2:] == ["", "next:   inv monitor-start"]
    assert not stack.state.exists()


def test_a_broken_history_is_an_error_with_what_to_do(stack: Stack) -> None:
    made(stack, "api")
    stack.state.mkdir(mode=0o700)
    Path(stack.state / "history.db").write_bytes(b"garbage" * 1000)
    done = stack.inv("report", "--json")
    assert done.code == 1
    assert set(done.document) == {"schema", "task", "since", "until", "hosts", "error"}
    assert (done.document["task"], done.document["hosts"]) == ("report", {})
    assert "history.db cannot be read" in done.err
    assert "next:   " in done.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604800), ("1.5h", 5400), ("3650d", 315360000)],
)
def test_a_span_of_time(text: str, seconds: float) -> None:
    assert span(text, "--since") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0h", "-5", "24 h", "24H", "1w", "h", "1e3", "٣h", "nan", "9999d", "1h30m", "9" * 400]
)
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        span(text, "--since")
    assert "30s, 15m, 24h or 7d" in caught.value.wanted


def test_a_wrong_span_is_a_usage_error(stack: Stack) -> None:
    made(stack, "api")
    done = stack.inv("report", "--since", "yesterday")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: --since 'yesterday' is not a span of time\n  wanted: a number of seconds, or")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (100.0, "100.000"),
        (99.9999999, "99.999"),
        (99.9, "99.900"),
        (99.8999999, "99.899"),
        (0.0, "0.000"),
        (1e-7, "0.000"),
    ],
)
def test_a_percentage_is_cut_off_not_rounded(value: float, words: str) -> None:
    assert figures.percent(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "40 ms"),
        (0.0401, "41 ms"),
        (0.999, "999 ms"),
        (0.9991, "1.0 s"),
        (1.2, "1.2 s"),
        (30.0000001, "30.0 s"),
        (30.004, "30.1 s"),
        (119.99, "120.0 s"),
        (300.0, "5 min"),
    ],
)
def test_a_recovery_over_its_budget_never_looks_as_if_it_were_not(seconds: float, words: str) -> None:
    assert figures.short(seconds) == words
