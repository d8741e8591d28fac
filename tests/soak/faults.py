"""The faults, each done for real. A function is one fault; its name in FAULTS is what is printed.

Knows: the ground, the witness, signals. Must not know: when a fault comes, what it leads to in figures.

A fault that lasts has ended when its function returns; of the others the toolkit is to take care. One that hits nobody
raises Missed: a signal to a service that is down is no fault, and is not counted as one.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ops.host import process
from ops.model import Process
from tests.soak.ground import LOG_SIZE
from tests.soak.plan import Step
from tests.soak.witness import Witness
from tests.waiting import until

Fault = Callable[[Witness, Step], None]

# A server with the listening socket that it was given: answers everybody, is nobody's service.
STRANGER = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    caller = listener.accept()[0]
    try:
        caller.recv(4096)
        caller.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Type: application/json\\r\\n\\r\\n{"service": "stranger"}')
    except OSError:
        pass
    caller.close()
"""
BACK = 3.0  # seconds
_STOP, _KILL, _CONT = signal.SIGSTOP, signal.SIGKILL, signal.SIGCONT


def hold(step: Step) -> None:
    """Not a wait: how long the fault lasts."""
    time.sleep(step.hold)


class Missed(Exception):
    """There was nobody to hit, or no way to; the text says which."""


def signalled(several: list[Process], number: int) -> int:
    """How many were hit; to stop one that is stopped already is nothing."""
    awake = [one for one in several if number != _STOP or not _is_stopped(one)]
    return sum(process.send(one, number) for one in awake)


def _is_stopped(one: Process) -> bool:
    line = process.entry(one.pid)
    return line is None or line.stopped


def must_hit(many: int, whom: str) -> None:
    if not many:
        raise Missed(f"{whom} was down or frozen")


# -- services --------------------------------------------------------------------------------------------------


def kill_a_service(witness: Witness, step: Step) -> None:
    _hit_a_service(witness, step, _KILL)


def freeze_a_service(witness: Witness, step: Step) -> None:
    _hit_a_service(witness, step, _STOP)


def _hit_a_service(witness: Witness, step: Step, number: int) -> None:
    """One that is down since the fault before is given a moment to come back."""
    try:
        until(lambda: signalled(witness.ground.running(step.service), number), BACK)
    except AssertionError:
        raise Missed("the service was down or frozen") from None


def take_a_port(witness: Witness, step: Step) -> None:
    """A stranger listens on the port of a service that was killed, before the service comes back."""
    ground = witness.ground
    kill_a_service(witness, step)
    with witness.withholding(step.service):
        with _bound(ground.port(step.service)) as listener:
            number = listener.fileno()
            command = [sys.executable, "-S", "-c", STRANGER, str(number)]
            stranger = ground.spawn(command, cwd="/", pass_fds=[number])
        try:
            hold(step)
            if stranger.poll() is not None:
                witness.find(f"the stranger on the port of {step.service} was ended: {stranger.returncode}")
        finally:
            stranger.kill()
            stranger.wait(10)


def _bound(port: int) -> socket.socket:
    """Ours before anybody else can have it: whoever starts a service needs longer."""

    def trial() -> socket.socket | None:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(("127.0.0.1", port))
            made.listen(16)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return None
        return made

    made = until(trial, 20, every=0)
    assert made
    return made


# -- monitor and guard -----------------------------------------------------------------------------------------


def kill_the_monitor(witness: Witness, step: Step) -> None:
    _hit(witness, step, "monitor", _KILL)


def freeze_the_monitor(witness: Witness, step: Step) -> None:
    _hit(witness, step, "monitor", _STOP)


def kill_the_guard(witness: Witness, step: Step) -> None:
    _hit(witness, step, "guard", _KILL)


def freeze_the_guard(witness: Witness, step: Step) -> None:
    _hit(witness, step, "guard", _STOP)


def _hit(witness: Witness, step: Step, kind: str, number: int) -> None:
    """The other one may be frozen since the fault before. Then nobody is left who would bring anything back: without an
    init system that keeps the monitor, a person has to."""
    many = signalled(witness.watchers(kind), number)
    if witness.nobody_watches():
        _a_person_comes(witness, step)
    must_hit(many, f"the {kind}")


def _a_person_comes(witness: Witness, step: Step) -> None:
    hold(step)
    witness.inv("start")


def put_both_to_sleep(witness: Witness, step: Step) -> None:
    """As a machine that sleeps: nobody watches, and then they go on."""
    both = witness.ground.watchers()
    must_hit(signalled(both, _STOP), "each of the two")
    try:
        hold(step)
    finally:
        signalled(both, _CONT)


def kill_both(witness: Witness, step: Step) -> None:
    many = _until_none_is_left(witness.ground.watchers)
    _a_person_comes(witness, step)
    must_hit(many, "each of the two")


def freeze_both(witness: Witness, step: Step) -> None:
    many = signalled(witness.ground.watchers(), _STOP)
    _a_person_comes(witness, step)
    must_hit(many, "each of the two")


def _until_none_is_left(find: Callable[[], list[Process]]) -> int:
    """How many were killed."""
    killed = 0

    def none_left() -> bool:
        nonlocal killed
        killed += signalled(find(), _KILL)
        return not find()

    until(none_left, 20)
    return killed


def kill_everything(witness: Witness, step: Step) -> None:
    ground = witness.ground
    with witness.withholding("recon-api"):
        many = _until_none_is_left(lambda: [*ground.watchers(), *ground.running()])
        hold(step)
    witness.inv("start")
    must_hit(many, "everything")


# -- commands --------------------------------------------------------------------------------------------------


def restart_one(witness: Witness, step: Step) -> None:
    witness.inv("restart-one", step.service)


def restart(witness: Witness, step: Step) -> None:
    witness.inv("restart")


def stop_and_start(witness: Witness, step: Step) -> None:
    """What was stopped stays down, until it is started."""
    with witness.withholding(step.service):
        witness.inv("stop", "--only", step.service)
        hold(step)
        if witness.ground.running(step.service):
            witness.find(f"{step.service} runs though it was stopped")
    witness.inv("start")


def kill_port(witness: Witness, step: Step) -> None:
    witness.inv("kill-port", str(witness.ground.port(step.service)))


def ten_starts_at_once(witness: Witness, step: Step) -> None:
    witness.all_at_once(("start",), 10)


# -- files and the disk ----------------------------------------------------------------------------------------


def grow_a_log(witness: Witness, step: Step) -> None:
    """More than is kept in one file: the monitor rotates it under its writer."""
    line = f"{'x' * 120}\n".encode()
    log = os.open(witness.ground.state / "logs" / f"{step.service}.log", os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(2 * LOG_SIZE // len(line)):
            os.write(log, line)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(log)


def fill_the_disk(witness: Witness, step: Step) -> None:
    """That of the state folder and of recon-api's jobs. A service dies meanwhile, and a person restarts one. recon-api
    rightly calls itself degraded, and takes no job."""
    if witness.ground.disk is None:
        raise Missed("no disk of its own can be mounted: needs root and unshare")
    ballast = witness.ground.disk / "ballast"
    with witness.withholding("recon-api"):
        try:
            _fill(ballast)
            kill_a_service(witness, step)
            hold(step)
            witness.inv("restart-one", "bank-api")
        finally:
            ballast.unlink()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def break_the_inventory(witness: Witness, step: Step) -> None:
    """An edit that is wrong, and its correction. A service dies meanwhile; a command says what is wrong."""
    inventory = witness.ground.inventory
    good = inventory.read_text()
    try:
        inventory.write_text(good.replace("services_enabled:", "services_enabled: ["))
        kill_a_service(witness, step)
        witness.inv("start", code=1)
        hold(step)
    finally:
        inventory.write_text(good)


def spoil_the_history(witness: Witness, step: Step) -> None:
    noise = random.Random(step.number).randbytes(32 << 10)
    with (witness.ground.state / "history.db").open("r+b") as file:
        file.write(noise)


def calm() -> list[str]:
    """Names of the faults that leave monitor and guard alone."""
    return [name for name, fault in FAULTS.items() if fault not in HIT_WATCHERS]


HIT_WATCHERS = (
    kill_the_monitor,
    freeze_the_monitor,
    kill_the_guard,
    freeze_the_guard,
    put_both_to_sleep,
    kill_both,
    freeze_both,
    kill_everything,
)
FAULTS: dict[str, Fault] = {
    "SIGKILL of SERVICE": kill_a_service,
    "SIGSTOP of SERVICE": freeze_a_service,
    "SIGKILL of SERVICE, a stranger on its port for SECONDS": take_a_port,
    "SIGKILL of the monitor": kill_the_monitor,
    "SIGSTOP of the monitor": freeze_the_monitor,
    "SIGKILL of the guard": kill_the_guard,
    "SIGSTOP of the guard": freeze_the_guard,
    "SIGSTOP of monitor and guard for SECONDS": put_both_to_sleep,
    "SIGKILL of monitor and guard, start after SECONDS": kill_both,
    "SIGSTOP of monitor and guard, start after SECONDS": freeze_both,
    "SIGKILL of everything of ours, start after SECONDS": kill_everything,
    "restart-one SERVICE": restart_one,
    "restart": restart,
    "stop --only SERVICE, start after SECONDS": stop_and_start,
    "kill-port of SERVICE": kill_port,
    "ten starts at once": ten_starts_at_once,
    "the log of SERVICE grows until it is rotated": grow_a_log,
    "a full disk for SECONDS, and SIGKILL of SERVICE": fill_the_disk,
    "a broken inventory for SECONDS, and SIGKILL of SERVICE": break_the_inventory,
    "a history of garbage": spoil_the_history,
}


def perform(witness: Witness, step: Step) -> None:
    """Does the fault, and counts it if it was one."""
    witness.fault(step)
    try:
        FAULTS[step.fault](witness, step)
        witness.counted[step.fault] += 1
    except Missed as why:
        witness.missed[f"{step.fault}: {why}"] += 1
        witness.say(f"missed: {why}")
    except (subprocess.SubprocessError, AssertionError, OSError) as why:
        witness.find(f"the fault could not be done: {type(why).__name__}: {why}")
