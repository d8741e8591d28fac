"""The services of the sample stack as processes of a test, and the questions that they are asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.waiting import free_port, until

ROOT = Path(__file__).resolve().parents[1]
FAULTY = {"OPS_SAMPLE_FAULTS": "1"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """One service that a test has started."""

    def __init__(self, name: str, port: int, folder: Path, env: dict[str, str], *more: str) -> None:
        self.port = port
        self.log = folder / f"{name}-{port}.log"
        # The folder is the current one, so that nothing can be left in the checkout.
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.sample", name, "--port", str(port), *more],
                cwd=folder, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, timeout: float = 8.0) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            client.request(method, path, body)
            answer = client.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            client.close()

    def raw(self, request: bytes) -> bytes:
        """All that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            sock.sendall(request)
            return b"".join(iter(lambda: sock.recv(4096), b""))

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def ready(self) -> Running:
        until(lambda: self.accepts() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


Start = Callable[..., Running]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Starts services; whatever still runs at the end is killed, by its own handle."""
    started: list[Running] = []

    def begin(name: str, *more: str, port: int | None = None, **env: str) -> Running:
        started.append(Running(name, port or free_port(), folder, env, *more))
        return started[-1]

    try:
        yield begin
    finally:
        for service in started:
            service.process.kill()
            service.process.wait()
