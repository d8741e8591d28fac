"""The client: asks recon-api and submits jobs to it, and keeps a diary. It knows HTTP and a port, nothing else.

    python -m tests.soak.client RECON_PORT FRONTEND_PORT DIARY

A process of its own, so that nothing that happens to the soak or the stack stops it. Every request is sent when it is
due, whatever became of those before it: a hang of ten seconds costs every request of ten seconds. A line of the diary
is JSON: when it was due (monotonic), what was asked, how long until it was answered, how late this client was with it,
whether it was answered as it should be and in time, and of a job the id that was acknowledged. An acknowledgement is
201 with the id: recon-api says that only once the job is on the disk.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

EVERY = {"ask": 0.05, "job": 0.25, "page": 0.25, "overview": 0.5}  # seconds from one request to the next
TIMEOUT = {"ask": 2.0, "job": 5.0, "page": 5.0, "overview": 5.0}
Request = Callable[[], dict[str, Any]]


def main() -> int:
    recon, frontend, diary = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the soak ends this one
    out = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    requests: dict[str, Request] = {
        "ask": lambda: ask(recon),
        "job": lambda: _submit(recon),
        "page": lambda: _see(frontend, "/", b"SettlePaisa"),
        "overview": lambda: _see(frontend, "/api/overview/health", b"healthy"),
    }
    threads = [threading.Thread(target=repeat, args=(kind, one, out, over)) for kind, one in requests.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def repeat(kind: str, request: Request, out: int, over: threading.Event) -> None:
    """Sends one when it is due, until it is over; then waits for those that are under way."""
    due = time.monotonic()
    under_way = 2 * int(TIMEOUT[kind] / EVERY[kind])  # twice what can be: one whose answer trickles takes longer
    with ThreadPoolExecutor(under_way) as pool:
        while not over.wait(max(0.0, due - time.monotonic())):
            pool.submit(_one, kind, request, out, due)
            due += EVERY[kind]


def _one(kind: str, request: Request, out: int, due: float) -> None:
    late = time.monotonic() - due
    try:
        said = {"ok": True, **request()}
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as why:
        said = {"ok": False, "why": f"{type(why).__name__}: {why}"[:120]}
    took = time.monotonic() - due
    if said["ok"] and took > TIMEOUT[kind] + late:
        said = {**said, "ok": False, "why": f"answered after {took:.1f} s"}
    line = {"at": due, "kind": kind, "seconds": round(took, 4), "late": round(late, 4), **said}
    os.write(out, json.dumps(line).encode() + b"\n")


def ask(port: int) -> dict[str, Any]:
    """How recon-api is; ValueError unless it says that it is well."""
    said = json.loads(fetch(port, "/recon/health", TIMEOUT["ask"]))
    if (said["service"], said["status"]) != ("recon-api", "healthy"):  # degraded, or somebody else has its port
        raise ValueError(f"answered by {said['service']}, {said['status']}")
    return {}


def _submit(port: int) -> dict[str, Any]:
    return {"id": json.loads(fetch(port, "/recon/jobs/demo", TIMEOUT["job"], "POST", 201))["id"]}


def _see(port: int, path: str, words: bytes) -> dict[str, Any]:
    if words not in fetch(port, path, TIMEOUT["page"]):
        raise ValueError(f"{path}: another page")
    return {}


def fetch(port: int, path: str, timeout: float, method: str = "GET", status: int = 200) -> bytes:
    """The whole body of one answer with that status; OSError, HTTPException or ValueError when it is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != status:
            raise ValueError(f"status {answer.status}")
        return body
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
