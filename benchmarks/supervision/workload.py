"""The service that every supervisor is given, and how it is asked.

Knows: svc.c, ports, one GET at a time. Must not know: supervisors.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.supervision.processes import is_service, of_service

HERE = Path(__file__).parent
HOME = Path(os.environ.get("BENCHMARKS_HOME") or Path.home() / ".cache" / "settlepaisa-benchmarks")
SVC = HOME / "svc"
_PID = re.compile(rb"\r\nX-Pid: (\d+)\r\n")
_LOWEST_PORT = 10000
_UNDER_REAP = "BENCHMARKS_UNDER_REAP"
_POLL = 0.001  # seconds between two questions to a service that is being waited for


class Silent(RuntimeError):
    """A service that did not answer in time."""


@dataclass(frozen=True)
class Service:
    """One of them. `tag` is that of the supervisor that has it."""

    name: str
    port: int
    tag: str
    flags: tuple[str, ...] = ()

    def argv(self) -> list[str]:
        return [str(SVC), "--port", str(self.port), "--tag", of_service(self.tag), *self.flags]

    def pid(self) -> int:
        """Who answers; Silent when nobody does, or a process that is not of this run."""
        found = ask(self.port)
        if not found or not is_service(found, self.tag):
            raise Silent(f"{self.name}: no service of this run answers on port {self.port}")
        return found


def build(name: str) -> Path:
    """The compiled NAME.c; compiled when it is missing or older than its source."""
    source, target = HERE / f"{name}.c", HOME / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        HOME.mkdir(parents=True, exist_ok=True)
        if not shutil.which("cc"):
            raise SystemExit("these measurements need a C compiler, cc (Debian: gcc and libc6-dev)")
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(target), str(source)], check=True)
    return target


def under_reap(words: Sequence[str]) -> None:
    """Goes on as a child of reap.c, so that whoever dies without a parent is gone at once."""
    if _UNDER_REAP not in os.environ:
        os.environ[_UNDER_REAP] = "1"
        reap = str(build("reap"))
        os.execv(reap, [reap, sys.executable, "-m", "benchmarks", *words])


def ports() -> Iterator[int]:
    """Ports that nobody listens on, each once a round. Below those that the kernel gives to clients: a service must
    not find its port taken by a probe when it comes back."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        highest = min(int(file.read().split()[0]), 65535)
    while True:
        for port in range(_LOWEST_PORT, highest):
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind(("127.0.0.1", port))
                except OSError:
                    continue
            yield port


def get(port: int, path: str = "/health", within: float = 0.25) -> bytes:
    """The answer to one GET on a new connection; empty when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), within) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while piece := client.recv(4096):
                answer += piece
    except OSError:
        return b""
    return answer


def ask(port: int) -> int:
    """The pid that answered 200; 0 when none did."""
    answer = get(port)
    found = _PID.search(answer)
    return int(found[1]) if found and answer[:5] == b"HTTP/" and answer[8:12] == b" 200" else 0


def until_answer(port: int, within: float, *, but: int = 0) -> float:
    """Seconds from now until a process other than `but` answers. Silent after `within` seconds."""
    begun = time.perf_counter()
    while True:
        found = ask(port)
        seconds = time.perf_counter() - begun
        if found and found != but:
            return seconds
        if seconds > within:
            raise Silent(f"port {port}: no answer within {within:g} s")
        time.sleep(_POLL)


def until_all(services: Sequence[Service], within: float) -> None:
    """Waits until each has answered once. Asked one after the other: asking hundreds that are not there yet would take
    the CPU from the supervisor that starts them."""
    until = time.monotonic() + within
    for service in services:
        until_answer(service.port, max(0.0, until - time.monotonic()))


def until(look: Callable[[], bool], within: float, every: float = 0.02) -> float | None:
    """Seconds until `look()` holds; None when it does not within that time."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < within:
        if look():
            return time.perf_counter() - begun
        time.sleep(every)
    return None


def cold_start(service: Service) -> float:
    """Seconds from starting the service, without any supervisor, to its first answer."""
    begun = time.perf_counter()
    child = subprocess.Popen(service.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until_answer(service.port, 10)
        return time.perf_counter() - begun
    finally:
        child.kill()
        child.wait()
