"""One run: hosts, tools, rounds, and the bars that the figures are held to.

Knows: the command line, clocks, the memory of a child. Must not know: what a tool is typed like, sshd.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.fleet import lab as labs
from benchmarks.fleet import tools
from benchmarks.fleet.lab import INV, SERVICES, Lab
from benchmarks.reading import Reading, above_zero
from benchmarks.supervision import figures
from benchmarks.supervision.figures import Row, at_least, held, row
from benchmarks.supervision.workload import build, ports, under_reap

_OURS = "inv health"
TITLES = {
    "fan-out": f"health of {SERVICES} services on each of many hosts",
    "request": "one request over an open connection",
    "whole": "a whole command on one host",
}
_ANSIBLES = ("ansible -m uri, 5 times", "ansible playbook, a loop")  # as it is configured by itself
_TIMES_ANSIBLE = 10.0
_MORE_HOSTS = 3.0  # seconds
_MEMORY = 120.0  # MB
_ONE_REQUEST = 150.0  # milliseconds
_WHOLE = 1.5
# Fabric by itself verifies no host key; a script of people who care does this.
_BARE = """\
import sys
from fabric import Config, Connection
from paramiko import RejectPolicy
from paramiko.config import SSHConfig
ssh = sys.argv[1]
with Connection("h1", config=Config(ssh_config=SSHConfig.from_path(ssh + "/config"))) as connection:
    connection.client.load_host_keys(ssh + "/known_hosts")
    connection.client.set_missing_host_key_policy(RejectPolicy())
    connection.run("true", hide=True, in_stream=False)
"""

Found = dict[tuple[str, int], list[float]]


def main(words: Sequence[str]) -> int:
    """`python -m benchmarks fleet WORDS`; 0 when all bars were met, 2 when one was missed."""
    given = _given(words)
    if not labs.daemon() or not sys.platform.startswith("linux"):
        print("these measurements need Linux and OpenSSH's sshd (Debian: openssh-server)", file=sys.stderr)
        return 1
    build("svc")
    under_reap(["fleet", *words])
    signal.signal(signal.SIGTERM, _terminated)
    before, versions = machine.told(), tools.versions()
    for name, version in versions.items():
        print(f"{name}: {version or 'not installed, left out'}", file=sys.stderr)
    print(f"process tables: {'one for each host' if labs.apart() else 'one for all hosts'}", file=sys.stderr)
    counts = (1, 3) if given.quick else (1, 10, 50)
    with tempfile.TemporaryDirectory(prefix="benchmarks.") as folder:
        _say(f"{max(counts)} hosts with {SERVICES} services each")
        tag = f"bt{uuid.uuid4().hex[:10]}.fleet."
        with labs.made(Path(folder) / "lab", counts, tag, ports()) as lab:
            rows = _measured(lab, 1 if given.quick else given.rounds, given.quick)
    found = {name: {"title": title, "rows": figures.document(made)} for name, (title, made) in rows.items()}
    if given.json:
        told = {"versions": versions, "own_process_tables": bool(labs.apart())}
        machine.keep(given.json, before, {**told, "quick": given.quick, "metrics": found})
    return 2 if any(one.met is False for _, made in rows.values() for one in made) else 0


def _given(words: Sequence[str]) -> argparse.Namespace:
    said = "Many hosts at once, beside ansible, pyinfra and plain OpenSSH."
    reading = Reading(prog="python -m benchmarks fleet", description=said)
    reading.add_argument("--rounds", type=above_zero, default=5, help="after one that only warms up (5)")
    reading.add_argument("--quick", action="store_true", help="three hosts, one round, no bars: is the harness sound?")
    reading.add_argument("--json", metavar="FILE", help="write the figures there too")
    return reading.parse_args(words)


def _measured(lab: Lab, rounds: int, quick: bool) -> dict[str, tuple[str, list[Row]]]:
    metrics: dict[str, Callable[[Lab, int], list[Row]]] = {
        "fan-out": fan_out,
        "request": request,
        "whole": whole,
    }
    found = {}
    for name, measure in metrics.items():
        title = TITLES[name]
        _say(title)
        try:
            found[name] = (title, measure(lab, rounds))
        except (RuntimeError, OSError) as error:  # one that broke off must not lose the others
            found[name] = (title, [figures.broken_off(title, error)])
        if quick:
            found[name] = (title, figures.without_bars(found[name][1]))
        print(figures.show(*found[name]), flush=True)
    return found


def _say(*words: object) -> None:
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(143)


# -- many hosts ----------------------------------------------------------------------------------------------------


def fan_out(lab: Lab, rounds: int) -> list[Row]:
    """Every tool on every number of hosts in each round; the first round only warms up, and opens what stays open."""
    contestants = tools.all_of(lab)
    found: Found = {}
    memory: dict[int, float] = {}
    try:
        for turn in range(rounds + 1):
            for count in lab.counts:
                for tool in contestants:
                    if tool.slow and count != lab.counts[1]:
                        continue
                    seconds = _answered(tool, lab, count)
                    if seconds is None:
                        contestants = [one for one in contestants if one is not tool]
                        continue
                    _say(f"{tool.name}, {_hosts(count)}: {seconds:.2f} s")
                    if turn:
                        found.setdefault((tool.name, count), []).append(seconds)
                memory[count] = max(memory.get(count, 0), _peak(lab, count))
    finally:
        tools.close_masters(lab)
    return table(lab.counts, found, memory)


def table(counts: Sequence[int], found: Found, memory: dict[int, float]) -> list[Row]:
    rows = [row(f"{name}, {_hosts(count)}", "s", seconds) for (name, count), seconds in _by_count(found)]
    rows += [row(f"{_OURS}, {_hosts(count)}: most memory", "MB", [memory[count] / 1e6]) for count in counts]
    return [*rows, *_bars(counts, found, memory)]


def _answered(tool: tools.Tool, lab: Lab, count: int) -> float | None:
    """Seconds; None when a peer failed, which takes no part from then on."""
    try:
        return _timed(functools.partial(tool.ask, lab.hosts[:count]))
    except tools.Failed as failed:
        if tool.name == _OURS:
            raise
        _say(f"{tool.name}, {_hosts(count)}: left out from now on: {failed}")
        return None


def _by_count(found: Found) -> list[tuple[tuple[str, int], list[float]]]:
    return sorted(found.items(), key=lambda one: (one[0][1], statistics.median(one[1])))


def _hosts(count: int) -> str:
    return f"{count} host{'s' * (count > 1)}"


def _bars(counts: Sequence[int], found: Found, memory: dict[int, float]) -> list[Row]:
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    few, some, many = counts[0], counts[1], counts[-1]
    mine = medians[_OURS, some]
    rows = []
    if slow := [medians[name, some] for name in _ANSIBLES if (name, some) in medians]:
        rows.append(
            at_least(f"quickest of ansible against ours, {_hosts(some)}", "times", min(slow) / mine, _TIMES_ANSIBLE)
        )
    for (name, count), seconds in medians.items():
        if count == some and name != _OURS and name not in _ANSIBLES:
            rows.append(row(f"{name} against ours, {_hosts(some)}", "times", [seconds / mine]))
    more = medians[_OURS, many] - medians[_OURS, few]
    rows.append(held(f"ours, {_hosts(many)} more than {_hosts(few)}", "s", more, _MORE_HOSTS, strictly=True))
    most = max(memory.values()) / 1e6
    rows.append(held(f"ours, most memory, {_hosts(many)}", "MB", most, _MEMORY, strictly=True))
    return rows


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _peak(lab: Lab, count: int) -> float:
    """The most memory that a controller has, in bytes. Never less than that of this process, from which it came."""
    argv = [INV, "health", "--limit", "h*", "--forks", str(tools.FORKS)]
    env = {**lab.env, "OPS_INVENTORY": str(lab.inventory(count))}
    null = subprocess.DEVNULL
    child = subprocess.Popen(argv, cwd=lab.project, env=env, stdin=null, stdout=null, stderr=null)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise tools.Failed(f"inv health on {_hosts(count)}: exit {child.returncode}")
    return used.ru_maxrss * 1024.0


# -- one host ------------------------------------------------------------------------------------------------------


def request(lab: Lab, rounds: int) -> list[Row]:
    """`status` of five services, asked again and again over one connection; the first opens it."""
    first: list[float] = []
    again: list[float] = []
    for _ in range(max(1, rounds // 2)):
        argv: list[str | Path] = [sys.executable, "-m", "benchmarks.fleet.asks", lab.inventory(1), "h1", "20"]
        opening, *others = json.loads(tools.run(lab, argv, Path(__file__).parents[2]))
        first.append(opening)
        again += others
    return request_table(first, again)


def request_table(first: list[float], again: list[float]) -> list[Row]:
    return [
        row("the first, which connects", "ms", first, 1000),
        row("those after it", "ms", again, 1000),
        held("those after it, median", "ms", statistics.median(again) * 1000, _ONE_REQUEST, strictly=True),
    ]


def whole(lab: Lab, rounds: int) -> list[Row]:
    """`inv status --limit h1` against what it cannot do without: a connection, and the start of `inv`."""
    (lab.folder / "bare.py").write_text(_BARE)
    empty, inventory = lab.folder / "empty", {"OPS_INVENTORY": str(lab.inventory(1))}
    (empty / "nothing.py").write_text("from invoke import task\n\n\n@task\ndef nothing(c):\n    pass\n")
    runs: dict[str, Callable[[], object]] = {
        "a bare Fabric script": lambda: tools.run(lab, [sys.executable, lab.folder / "bare.py", lab.ssh]),
        "inv --list": lambda: tools.run(lab, [INV, "-c", "nothing", "--list"], empty),
        "inv status --limit h1": lambda: tools.run(lab, [INV, "status", "--limit", "h1"], lab.project, **inventory),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(2 * rounds + 1):
        for name, work in runs.items():
            seconds = _timed(work)
            if turn:
                found[name].append(seconds)
    return whole_table(found)


def whole_table(found: dict[str, list[float]]) -> list[Row]:
    """`found` in this order: the script, `inv --list`, ours."""
    bare, start, ours = (statistics.median(seconds) for seconds in found.values())
    rows = [row(name, "ms", seconds, 1000) for name, seconds in found.items()]
    return [*rows, held("inv status against the other two together", "times", ours / (bare + start), _WHOLE)]
