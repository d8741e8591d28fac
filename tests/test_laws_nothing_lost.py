"""Law 10: nothing lost. The end is graceful first, what was acknowledged is there afterwards, and so is every line."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import Stack
from tests.waiting import until

# Answers / at once. Answers /slow when the file GO is there: in between it can be told to end, drains, and says so.
DRAINING = """
import os, signal, socket, sys, threading, time
port, go = int(sys.argv[1]), sys.argv[2]
over = threading.Event()
def told(number, frame):
    print("told", signal.Signals(number).name, flush=True)
    over.set()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, told)
listener = socket.create_server(("127.0.0.1", port))
listener.settimeout(0.05)
threads = []
def answer(link):
    request = link.recv(65536)
    if b"/slow" in request:
        print("slow request", flush=True)
        while not os.path.exists(go):
            time.sleep(0.01)
    body = str(os.getpid()).encode()
    link.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    link.close()
print("begun", os.getpid(), flush=True)
while not over.is_set():
    try:
        threads.append(threading.Thread(target=answer, args=(listener.accept()[0],)))
        threads[-1].start()
    except TimeoutError:
        pass
listener.close()
for thread in threads:
    thread.join()
print("drained", os.getpid(), flush=True)
"""


def lines(stack: Stack, name: str = "api") -> list[str]:
    return (stack.state / "logs" / f"{name}.log").read_text().splitlines()


def test_law_10_a_request_in_flight_is_answered(stack: Stack) -> None:
    go = stack.folder / "go"
    program = stack.folder / "draining.py"
    program.write_text(DRAINING)
    health = [{"http": "/", "every": 1, "timeout": 2}]
    stack.add("api", [sys.executable, "-S", str(program), "{port}", str(go)], grace=30, health=health)
    stack.write()
    stack.ok("start")
    for turn, args in enumerate((["restart-one", "api"], ["stop"], ["reset"])):
        if not stack.running():
            stack.ok("start")
        go.unlink(missing_ok=True)
        old = stack.running()[0].pid
        with socket.create_connection(("127.0.0.1", stack.services["api"]["port"])) as client:
            client.settimeout(60)
            client.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            until(lambda turn=turn: lines(stack).count("slow request") == turn + 1)
            command = stack.popen(*args, "--json")
            until(lambda turn=turn: lines(stack).count("told SIGTERM") == turn + 1, 30)
            assert [one.pid for one in stack.running()] == [old]  # waited for, and nobody new beside it
            go.touch()
            answer = b"".join(iter(lambda client=client: client.recv(65536), b""))
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0, out + err
        assert answer.endswith(b"\r\n\r\n%d" % old)
        assert "KILL" not in out
        assert f"drained {old}" in lines(stack)
        assert lines(stack).count("told SIGTERM") == turn + 1  # once, and no other signal
    assert not [line for line in lines(stack) if line.startswith("told") and line != "told SIGTERM"]


def test_law_10_the_declared_stop_signal_and_the_whole_grace(stack: Stack) -> None:
    program = stack.folder / "draining.py"
    program.write_text(DRAINING)
    health = [{"http": "/", "every": 1, "timeout": 2}]
    command = [sys.executable, "-S", str(program), "{port}", "go"]
    stack.add("api", command, grace=20, stop_signal="INT", health=health)
    stack.write()
    stack.ok("start", "restart-one", "api", "stop")
    assert lines(stack).count("told SIGINT") == 2
    assert "told SIGTERM" not in lines(stack)


class Poster(threading.Thread):
    """Posts jobs, one after the other, and remembers those that were acknowledged."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.over = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        while not self.over.wait(0.005):
            request = urllib.request.Request(f"{self._url}/recon/jobs/demo", method="POST")
            try:
                with self._opener.open(request, timeout=10) as answer:
                    said = json.loads(answer.read())
                    if answer.status == 201:
                        self.acknowledged.append(said["id"])
            except (OSError, ValueError):
                pass  # down just now, or cut off before the answer: not acknowledged


@contextmanager
def posting(stack: Stack) -> Iterator[Poster]:
    poster = Poster(f"http://127.0.0.1:{stack.services['recon-api']['port']}")
    poster.start()
    try:
        yield poster
    finally:
        poster.over.set()
        poster.join(30)


def test_law_10_acknowledged_jobs_are_listed_afterwards(stack: Stack) -> None:
    env = {
        "PG_API_URL": f"http://127.0.0.1:{stack.service('pg-api')}",
        "BANK_API_URL": f"http://127.0.0.1:{stack.service('bank-api', 'bank-api')}",
        "OPS_SAMPLE_DATA": str(stack.folder / "data"),
    }
    stack.service("recon-api", "recon-api", env=env, needs=["pg-api", "bank-api"], grace=10)
    stack.write()
    stack.ok("start")
    with posting(stack) as poster:
        port = str(stack.services["recon-api"]["port"])
        for args in (["restart-one", "recon-api"], ["kill-port", port, "start"], ["stop", "start"], ["reset"]):
            count = len(poster.acknowledged)
            until(lambda count=count: len(poster.acknowledged) > count + 2, 30)  # it works when it is hit
            stack.ok(*args)
    _, text = stack.get("recon-api", "/recon/jobs", 10)
    listed = [job["id"] for job in json.loads(text)["jobs"]]
    assert len(poster.acknowledged) > 8
    assert set(poster.acknowledged) - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_law_10_every_line_of_every_run_is_in_the_log(stack: Stack) -> None:
    """A writer numbers its lines through all its runs; nothing is missing, in the log and by the public path."""
    number = stack.folder / "number"
    number.write_text("0")
    script = (
        "import os, signal, sys, time\n"
        "over = []\nsignal.signal(signal.SIGTERM, lambda *_: over.append(1))\n"
        "at = int(open(sys.argv[1]).read())\n"
        "while not over:\n"
        "    print(at, flush=True); at += 1\n"
        "    sys.stderr.write(f'{at}\\n'); sys.stderr.flush(); at += 1\n"
        "    time.sleep(0.001)\n"
        "open(sys.argv[1], 'w').write(str(at))\n"
    )
    program = stack.folder / "writer.py"
    program.write_text(script)
    stack.add("writer", [sys.executable, "-S", str(program), str(number)], port=None, grace=20)
    stack.write()
    stack.ok("start", "restart-one", "writer", "stop", "start", "restart", "reset", "stop")
    written = int(number.read_text())
    assert written > 100
    assert lines(stack, "writer") == [str(at) for at in range(written)]
    assert (stack.public / "writer.log").read_text().splitlines() == lines(stack, "writer")


def test_law_10_an_old_log_file_is_kept_aside(stack: Stack) -> None:
    """What the runbook's `> /tmp/NAME.log` left is neither overwritten nor removed."""
    stack.tiny("api", "--print=new run")
    stack.tiny("web")
    stack.write()
    old = {name: f"old lines of {name}\n" for name in ("api", "web")}
    for name, text in old.items():
        (stack.public / f"{name}.log").write_text(text)
    stack.ok("start", "restart-one", "api", "stop", "start", "reset")
    for name, text in old.items():
        kept = re.compile(rf"{name}\.log\.old-\d{{8}}T\d{{6}}")
        aside = [path for path in stack.public.iterdir() if kept.fullmatch(path.name)]
        assert [path.read_text() for path in aside] == [text]
        assert (stack.public / f"{name}.log").is_symlink()
    assert (stack.public / "api.log").read_text().count("new run") == 4


def test_law_10_who_started_by_hand_keeps_its_own_log(stack: Stack) -> None:
    """An adopted service goes on writing where it was told to; its file stays in its place."""
    port = stack.tiny("api")
    stack.write()
    public = Path(stack.services["api"]["log"])
    argv = [sys.executable, "-S", stack.services["api"]["command"][2], str(port)]
    with public.open("w") as file:
        child = stack.spawn(argv, cwd=stack.folder, env={"PATH": os.environ["PATH"]}, stdout=file)
    until(lambda: f"listening {child.pid}" in public.read_text())
    assert stack.ok("start", "--json").outcomes["api"]["before"] == "up"
    assert stack.pid("api") == child.pid
    assert not public.is_symlink()
    assert f"listening {child.pid}" in stack.ok("tail", "api", "--no-follow").out
    stack.ok("restart-one", "api")
    assert child.wait(10) is not None
    (aside,) = [path for path in stack.public.iterdir() if ".old-" in path.name]
    assert f"listening {child.pid}" in aside.read_text()
    assert public.is_symlink()
