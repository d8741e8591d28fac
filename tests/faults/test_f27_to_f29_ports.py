"""F27 to F29: a port has two families, its listeners have clients, and whoever has it may be another user."""

from __future__ import annotations

import socket

from ops.host import process
from tests.faults.row import Row, Since
from tests.faults.theirs import theirs, two_users
from tests.scene import NOBODY, alone, ended, listening, recorded, stranger
from tests.stack import PYTHON, Stack
from tests.test_faults_ports import CLIENT, with_ipv6
from tests.waiting import until
from tests.watch import PATIENCE, answerer, root, state, watched


@with_ipv6
def test_f27_either_address_family_is_probed_and_watched_for_strangers(row: Row, stack: Stack) -> None:
    ports = {"six": stack.tiny("six", "--host=::1"), "four": stack.tiny("four")}
    watched(stack)
    before = {name: root(stack, name) for name in ports}
    assert stack.ok("health", "--json").document["healthy"], "one that has a single family is well"
    others = {"six": stranger(stack, ports["six"]), "four": stranger(stack, ports["four"], "--host=::1")}
    told = stack.inv("health", "--json")
    assert told.code == 2, "whoever asks for localhost may reach the stranger"
    for name, other in others.items():
        (port_reading, *_) = told.services[name]["probes"]
        assert port_reading["ok"] is False and f"pid {other.pid}" in port_reading["detail"], port_reading
    assert {name: root(stack, name) for name in ports} == before, "nobody is ended for it"

    since = Since()
    for one in before.values():
        ended(one)
    row.noticed(since.until(lambda: all(state(stack, name) == "foreign" for name in ports)), since="both were killed")
    assert not stack.running() and all(other.poll() is None for other in others.values())
    since = Since()
    for other in others.values():
        other.kill()
        other.wait()
    row.serving(since.until(lambda: all(state(stack, n) == "up" for n in ports)), since="the ports were free")
    assert {name: listening(port) for name, port in ports.items()} == {name: {alone(stack, name).pid} for name in ports}


def test_f28_kill_port_ends_listeners_and_leaves_the_clients_of_the_port_alone(row: Row, stack: Stack) -> None:
    port = stack.tiny("api")
    watched(stack)
    before = root(stack)
    with socket.create_server(("127.0.0.1", 0)) as home:
        home.settimeout(10)
        echo = f"127.0.0.1:{home.getsockname()[1]}"
        clients = []
        # One is connected to the service; of the other it is its own end that has this port.
        for place in (f"127.0.0.1:{port}", f"127.0.0.3:{port}>{echo}"):
            child = stack.spawn([PYTHON, "-S", "-c", CLIENT, place, echo])
            clients.append((child, [home.accept()[0] for _ in range(1 + place.endswith(echo))]))
        begun = Since()
        command = stack.popen("kill-port", str(port), "--json")
        row.figure("seconds until the listener was gone", begun.until(lambda: not process.alive(before)))
        since = Since()
        row.serving(since.until(lambda: answerer(stack) not in (0, before.pid)), since="the listener was gone")
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0, out + err
        assert f"ended pid {before.pid}" in out
        for child, ends in clients:
            ends[-1].sendall(b"there?")
            assert ends[-1].recv(99) == b"there?" and child.poll() is None, "a client was ended"
            for end in ends:
                end.close()
    until(lambda: state(stack) == "up", PATIENCE)
    assert root(stack) != before and len(stack.running()) == 1


@two_users
def test_f29_a_listener_of_another_user_is_refused_named_and_never_signalled(row: Row) -> None:
    with theirs() as stack:
        port = stack.tiny("api")
        other = stranger(stack, port)  # root's
        stack.ops.update(monitor=True, interval=1)
        stack.write()
        since = Since()
        started = stack.inv("start", "--json")
        row.noticed(since.seconds(), since="the start")
        assert (started.code, started.outcomes["api"]["after"]) == (2, "foreign"), str(started)
        assert "user root" in started.outcomes["api"]["detail"]
        for words in (["kill-port", str(port)], ["kill-port", str(port), "--force"], ["reset"]):
            refused = stack.inv(*words)
            assert refused.code == 2 and "another user" in refused.out, str(refused)
            assert "Traceback" not in refused.out + refused.err
        assert other.poll() is None, "it was signalled"
        until(lambda: state(stack) == "foreign", PATIENCE)
        since = Since()
        other.kill()
        other.wait()
        row.serving(since.until(lambda: answerer(stack)), since="the port was free")
        assert process.owner(recorded(stack)["process"]["pid"]) == NOBODY
        stack.ok("stop")
