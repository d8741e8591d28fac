"""F44 and F52: a process that is dead and still there, and one that lives whatever is sent to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.host import process
from tests.faults.row import Row, Since
from tests.scene import alone, can_mount, on_linux
from tests.stack import PYTHON, Stack
from tests.test_faults_service import by_hand
from tests.waiting import until
from tests.watch import PATIENCE, answerer, back, critical, lines, resolved, root, state, watched

# A server that looks at a path, and is gone until that is answered, once it gets SIGUSR1.
LOOKER = """
import os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: os.path.exists(sys.argv[2]))
print("begun", flush=True)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    body = b"%d" % os.getpid()
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""


@on_linux
def test_f44_a_zombie_counts_as_dead_and_is_replaced(row: Row, stack: Stack) -> None:
    port = stack.tiny("api", grace=20)
    stack.write()
    pid = by_hand(stack, port)  # this test is the parent that does not wait
    watched(stack)
    before = root(stack)
    assert before.pid == pid, "it was not adopted"
    since = Since()
    os.kill(pid, signal.SIGKILL)
    row.noticed(since.until(lambda: lines(stack, "monitor", " api down")))
    row.serving(since.until(lambda: answerer(stack) not in (0, pid)))
    assert (line := process.entry(pid)) is not None and line.state == "Z", "it is no zombie"
    after = back(stack, before)
    stack.ok("stop", "--json")
    assert not stack.running() and not process.alive(after)


class Frozen:
    """A file system (FUSE) whose server has answered the first question and no other: whoever asks it anything is in
    the D state from then on, which SIGKILL does not end."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._asked = threading.Event()
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0".encode()
        if ctypes.CDLL(None, use_errno=True).mount(b"frozen", bytes(place), b"fuse", 0, options):
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "cannot mount")
        self._server = threading.Thread(target=self._serve)
        self._server.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # ENODEV: it was aborted
            while True:
                request = os.read(self._device, 1 << 20)
                _, code, unique, _ = struct.unpack_from("<IIQQ", request)
                if code == 26:  # FUSE_INIT: protocol 7.31, nothing special
                    answer = struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 1, 0, *[0] * 8)
                    os.write(self._device, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)

    def thaw(self) -> None:
        """Every question fails now; those who waited go on, or end."""
        subprocess.run(["umount", "--force", "--lazy", str(self.place)], capture_output=True)
        self._server.join(10)

    def close(self) -> None:
        self.thaw()
        os.close(self._device)


@contextlib.contextmanager
def frozen(place: Path) -> Iterator[Frozen]:
    place.mkdir()
    try:
        made = Frozen(place)
    except OSError as error:
        pytest.skip(f"no file system can be made here (/dev/fuse): {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
@can_mount
@on_linux
def test_f52_one_in_the_d_state_is_reported_and_nothing_is_started_beside_it(row: Row, stack: Stack) -> None:
    with frozen(stack.folder.parent / "frozen") as disk:
        health = [{"http": "/", "every": 1, "timeout": 1}]
        command = [PYTHON, "-S", "-c", LOOKER, "{port}", str(disk.place / "file")]
        stack.add("api", command, health=health, grace=0.5, recovery_budget=7)
        watched(stack)
        before = root(stack)
        since = Since()
        process.send(before, signal.SIGUSR1)
        until(lambda: (line := process.entry(before.pid)) is not None and line.state == "D")
        row.noticed(since.until(lambda: state(stack) in ("hung", "unhealthy")))
        (alert,) = until(lambda: critical(stack), PATIENCE)
        row.figure("seconds until the alert", since.seconds())
        assert "would not end" in alert and f"pid {before.pid}" in alert, alert
        assert process.alive(before) and process.entry(before.pid).state == "D", "it has ended: this proves nothing"
        told = stack.inv("restart-one", "api", "--timeout", "3")  # neither by hand
        assert told.code == 2 and told.seconds < 30, str(told)
        log = stack.state / "logs" / "api.log"
        assert root(stack) == before and log.read_text().count("begun") == 1, "another was started beside it"
        since = Since()
        disk.thaw()
        row.serving(since.until(lambda: answerer(stack) not in (0, before.pid)), since="the thaw")
        after = back(stack, before)
        assert not process.alive(before) and alone(stack) == after
        until(lambda: resolved(stack), PATIENCE)
