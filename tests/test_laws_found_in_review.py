"""Laws that a review saw broken once: each test is the way in which it was."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

from tests.scene import freed
from tests.stack import PYTHON, TINY, Stack
from tests.waiting import free_port, until

# Listens, hands its socket down to a child that runs the declared command, and never looks at it again.
PARENT = """
import os, socket, subprocess, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
os.set_inheritable(listener.fileno(), True)
subprocess.Popen([sys.argv[2], sys.argv[3], sys.argv[1], str(listener.fileno())], pass_fds=[listener.fileno()],
                 cwd=sys.argv[4])
while True:
    time.sleep(60)
"""
HEIR = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[2]) if len(sys.argv) > 2 else int(3))
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""


def test_law_2_who_handed_its_socket_to_the_service_is_a_stranger(stack: Stack, tmp_path: Path) -> None:
    heir = tmp_path / "heir.py"
    heir.write_text(HEIR)
    port = free_port()
    # The descriptor's number is part of the command line; the lowest free one of a fresh process is 3.
    command = [PYTHON, str(heir), str(port), "3"]
    stack.add("api", command, port=port, health=[{"http": "/", "every": 1, "timeout": 1}])
    stack.write()
    parent = stack.spawn([PYTHON, "-c", PARENT, str(port), PYTHON, str(heir), str(stack.folder)])
    until(lambda: _connects(port))
    adopted = stack.ok("start", "--json")
    assert "started by hand" in adopted.outcomes["api"]["detail"]
    child = stack.pid("api")
    assert child != parent.pid
    stopped = stack.inv("stop", "--json")  # its port is still held, by the parent: that is said, not fought
    assert str(parent.pid) in stopped.outcomes["api"]["detail"], str(stopped)
    assert parent.poll() is None


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_law_2_one_state_folder_serves_one_stack(stack: Stack, tmp_path: Path) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    first = stack.pid("api")
    other = Stack(tmp_path / "second")
    other.state = stack.state
    other.env["OPS_STATE"] = str(stack.state)
    other.tiny("other")
    other.write()
    try:
        for task in ("stop", "start", "reset"):
            done = other.inv(task)
            assert done.code == 1, str(done)
            assert f"belongs to the stack '{stack.name}'" in done.err
    finally:
        other.end()
    assert stack.pid("api") == first


def test_law_1_a_worker_is_not_started_a_second_time_from_another_home(stack: Stack, tmp_path: Path) -> None:
    stack.add("worker", [PYTHON, "-S", "-c", "import time\nwhile True: time.sleep(60)"], port=None)
    stack.write()
    env = {name: value for name, value in stack.env.items() if name != "OPS_STATE"}
    for home, code in (("one", 0), ("two", 2)):
        (tmp_path / home).mkdir()
        stack.env = {**env, "HOME": str(tmp_path / home)}
        done = stack.inv("start", "--json")
        assert done.code == code, str(done)
        assert len(stack.running("worker")) == 1
    assert "another state folder" in done.outcomes["worker"]["detail"]
    assert str(stack.running("worker")[0].pid) in done.outcomes["worker"]["detail"]


def test_law_4_holding_does_not_outrun_a_restart(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=100)
    stack.write()
    stack.ok("start")
    first = stack.pid("api")
    command = stack.popen("restart-one", "api", "--json")
    until(lambda: json.loads((stack.state / "wanted.json").read_text())["services"]["api"]["by"] == "inv restart-one")
    stack.ok("hold", "api")
    os.kill(first, signal.SIGKILL)  # its grace is over
    out, _ = command.communicate(timeout=60)
    assert json.loads(out)["outcomes"][0]["state"] == "changed", out
    assert stack.pid("api") != first
    assert stack.ok("status", "--json").services["api"]["wanted"] == "held"


def test_law_6_stop_gives_up_at_its_timeout_and_the_next_one_carries_on(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=30)
    stack.write()
    stack.ok("start")
    done = stack.inv("stop", "--timeout", "1", "--json")
    assert done.code == 2
    assert done.seconds < 12
    assert "--timeout" in done.outcomes["api"]["detail"]
    assert "inv stop --only api" in done.outcomes["api"]["detail"]
    assert stack.running("api")  # its grace is not over: no KILL yet
    stack.services["api"]["grace"] = 0.2
    stack.write()
    assert stack.ok("stop", "--json").states == {"api": "changed"}
    assert not stack.running("api")


def test_law_6_ctrl_c_ends_the_wait_for_a_lock(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=100)
    stack.write()
    stack.ok("start")
    holder = stack.popen("restart-one", "api")
    until(lambda: json.loads((stack.state / "services" / "api.json").read_text())["stopping"])
    waiting = stack.popen("start", "--json", start_new_session=True)
    until(lambda: _in_flock_pause(waiting.pid), 20)
    begun = time.monotonic()
    os.killpg(waiting.pid, signal.SIGINT)
    waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert time.monotonic() - begun < 10
    holder.kill()


def _in_flock_pause(pid: int) -> bool:
    """Whether it has the lock file of the service open, as somebody has who waits for it."""
    try:
        names = [os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(name.endswith("locks/api") for name in names)


def test_a_killed_restart_leaves_no_service_stopping_for_ever(stack: Stack) -> None:
    stack.tiny("api", "--deaf", grace=100)
    stack.write()
    stack.ok("start")
    command = stack.popen("restart-one", "api")
    until(lambda: json.loads((stack.state / "services" / "api.json").read_text())["stopping"])
    assert stack.inv("status", "--json").services["api"]["state"] == "stopping"
    command.kill()
    command.communicate(timeout=20)
    assert stack.inv("status", "--json").services["api"]["state"] == "up"
    done = stack.ok("start", "--json")
    assert done.states == {"api": "ok"}, str(done)


def test_a_stranger_on_the_other_family_is_no_reason_for_stop_to_fail(stack: Stack) -> None:
    """Even when the stranger's processes come and go: it is its socket that is known."""
    port = stack.tiny("api")
    stack.write()
    stack.ok("start")
    with freed(port):  # the child is in a session of its own
        stack.spawn([PYTHON, "-S", str(TINY), str(port), "--host=::1", "--child=holds"])
        until(lambda: _connects_v6(port))
        done = stack.ok("stop", "--json")
        assert done.states == {"api": "changed"}, str(done)
        assert not stack.running("api")


def _connects_v6(port: int) -> bool:
    try:
        socket.create_connection(("::1", port), 1).close()
    except OSError:
        return False
    return True
