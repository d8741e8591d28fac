"""A service is stopped: what is left of its processes, and does it start again.

`left`: the service has two children in its process group, each with a child of its own, and one child in a session of
its own; nobody tells them anything when it ends. Counted once the service is gone (40 s at most) and two seconds have
passed. `port`: its children hold the listening socket too, as forked workers do; it is stopped and started, and must
answer within 15 s. `deaf`: it ignores SIGTERM; seconds until it is gone, 45 at most (ours waits the `grace` of its
settings, 4 s). Where there is a switch for stopping the whole group there is a row with it. One supervisor at a time,
one stop each: what is asked is whether, not how fast.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

from benchmarks.supervision import processes
from benchmarks.supervision.figures import Row, held, row, wanted
from benchmarks.supervision.peers.base import Peer, Setting
from benchmarks.supervision.run import Run
from benchmarks.supervision.workload import Silent, until, until_answer

TITLE = "what a stop leaves behind"
_GONE, _DEAF, _BACK = 40.0, 45.0, 15.0
_AFTERWARDS = 2.0


@dataclass(frozen=True)
class Left:
    """Processes that were still there."""

    group: int
    apart: int


def measure(run: Run) -> list[Row]:
    rows: list[Row] = []
    for kind in run.peers:
        for group in (False, True) if kind.groups else (False,):
            name = f"{kind.name}{' (group)' if group else ''}"
            setting = Setting(group=group)
            left, back = _left(run, kind, setting), _back(run, kind, setting)
            deaf = _deaf(run, kind, setting)
            run.say(name, left, back, deaf)
            rows += table(name, left, back, deaf)
    return rows


def table(name: str, left: Left, back: bool, deaf: float | None) -> list[Row]:
    rows = [
        row(f"{name}: left, of 5", "processes", [left.group + left.apart]),
        row(f"{name}: left in its group, of 4", "processes", [left.group]),
        row(f"{name}: left in a session of its own, of 1", "processes", [left.apart]),
        row(f"{name}: starts again, of 1", "", [int(back)]),
        row(f"{name}: deaf to TERM, gone after", "s", [] if deaf is None else [deaf]),
    ]
    return rows + (_bars(left, back, deaf) if name == "ours" else [])


def _bars(left: Left, back: bool, deaf: float | None) -> list[Row]:
    return [
        held("ours, left in all", "processes", left.group + left.apart, 0),
        wanted("ours, starts again though its children held the port", "yes", back),
        wanted("ours, ends a deaf one", "yes", deaf is not None),
    ]


def _left(run: Run, kind: type[Peer], setting: Setting) -> Left:
    with run.made(kind, 1, ("--fork", "2", "--setsid-child"), setting) as peer:
        service, main = peer.services[0], peer.services[0].pid()
        if until(lambda: len(_members(peer)) == 6, 10) is None:
            raise RuntimeError(f"{kind.name}: six processes wanted, seen: {_members(peer)}")
        members = _members(peer)
        apart = {pid for pid in members if os.getsid(pid) == pid != main}
        peer.run(peer.verb_argv("stop", service))
        until(lambda: main not in _members(peer), _GONE)
        time.sleep(_AFTERWARDS)
        left = set(_members(peer)) & set(members)
        return Left(len(left - apart), len(left & apart))


def _members(peer: Peer) -> list[int]:
    return [pid for pid in processes.tagged(peer.tag) if processes.is_service(pid, peer.tag)]


def _back(run: Run, kind: type[Peer], setting: Setting) -> bool:
    with run.made(kind, 1, ("--fork", "1", "--keep-port"), setting) as peer:
        service = peer.services[0]
        old = service.pid()
        time.sleep(_AFTERWARDS)
        peer.run(peer.verb_argv("stop", service))
        until(lambda: old not in _members(peer), _GONE)
        peer.run(peer.verb_argv("start", service))
        try:
            until_answer(service.port, _BACK, but=old)
        except Silent:
            return False
        return True


def _deaf(run: Run, kind: type[Peer], setting: Setting) -> float | None:
    with run.made(kind, 1, ("--ignore-term",), setting) as peer:
        service = peer.services[0]
        old = service.pid()
        time.sleep(_AFTERWARDS)
        null = subprocess.DEVNULL
        words = peer.verb_argv("stop", service)
        said = subprocess.Popen(words, env=peer.env, cwd=peer.folder(), stdin=null, stdout=null, stderr=null)
        try:
            return until(lambda: old not in _members(peer), _DEAF)
        finally:
            said.kill()
            said.wait(timeout=processes.ENDING)
