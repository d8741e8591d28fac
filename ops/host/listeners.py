"""Who listens on TCP ports, on IPv4 and IPv6.

Knows: which pids hold a listening socket: from their descriptors (Linux), from lsof (macOS).
Must not know: services; what a process is beyond its pid; what will be done to it.

Only sockets in the state LISTEN are told: a client of a port is not its listener, and a connection in
TIME_WAIT is nobody's. A socket has as many holders as processes that inherited its descriptor.

The lsof way has been run on Linux (against the tables of the kernel) and its parser on recorded macOS output;
it has not been run on a Mac. One lsof takes 100 ms and more, so what must be quick (`listening`) does without it: on
macOS it asks by connecting, which sees less.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from ops.errors import OpsError
from ops.host import process
from ops.host.sockets import FAMILIES, Family, Listener, kernel_listeners, met_itself

__all__ = ["Listener", "listeners", "listening", "open_ports"]

LSOF = "/usr/sbin/lsof"  # where macOS keeps it; a launchd job has no /usr/sbin in its PATH
LSOF_SECONDS = 10.0
ANSWER_SECONDS = 0.2  # loopback answers or refuses within microseconds; silence means a full backlog
_CANNOT_ASK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
A_MOMENT = 0.005  # seconds that it may take where nobody may be kept waiting


def listeners(
    ports: Collection[int] | None = None,
    pids: Collection[int] | None = None,
    between: Callable[[], object] = process.no_pause,
) -> dict[int, tuple[Listener, ...]]:
    """The listeners of these ports (None: of all), in one pass; a port without listener is absent.

    With `pids`, only those processes are looked at, and only sockets that one of them holds are returned: the
    cheap way to ask "is it mine?". Without it, a socket whose holders are hidden from this user is returned
    too; on macOS only for ports that were named, because lsof is silent about other users' processes. Where this
    process looks at others itself (Linux), `between` is called before each.
    Raises OpsError when lsof is needed and missing, fails, or is silent for 10 s.
    """
    return _by_port(_look(ports, pids, between))


def open_ports(pids: Collection[int]) -> dict[int, tuple[int, ...]]:
    """The ports that each of these processes listens on, ascending; a process without any is absent.

    Raises OpsError as `listeners` does.
    """
    ports: dict[int, set[int]] = {}
    for listener in _look(None, pids):
        for pid in listener.pids:
            ports.setdefault(pid, set()).add(listener.port)
    return {pid: tuple(sorted(found)) for pid, found in sorted(ports.items())}


def listening(port: int) -> bool:
    """Whether anybody listens on the port, on either family; within milliseconds, and says nothing about who.

    Linux' kernel knows them all. macOS has nobody to be asked that quickly: there a listener on a loopback or
    wildcard address gets one bare connection, and who says nothing for 5 ms is taken for one whose backlog is full.
    A listener on another address alone is not seen there; `listeners` sees it.
    """
    if sys.platform == "linux":
        found = kernel_listeners(port)
    else:
        found = answering(port, A_MOMENT)
    return bool(found)


def _look(
    ports: Collection[int] | None, pids: Collection[int] | None, between: Callable[[], object] = process.no_pause
) -> list[Listener]:
    """The one place that knows which platform has which way."""
    if (ports is not None and not ports) or (pids is not None and not pids):
        return []
    if sys.platform == "linux":
        found = from_proc(ports, pids, between)
    else:
        found = from_lsof(ports, pids)
    return found


def _by_port(found: Iterable[Listener]) -> dict[int, tuple[Listener, ...]]:
    groups: dict[int, list[Listener]] = {}
    for listener in sorted(found, key=lambda each: (each.port, each.family, each.address, each.inode or 0)):
        groups.setdefault(listener.port, []).append(listener)
    return {port: tuple(group) for port, group in groups.items()}


# Linux: the kernel names the sockets, the descriptors of the processes name their holders


def from_proc(
    ports: Collection[int] | None, pids: Collection[int] | None, between: Callable[[], object] = process.no_pause
) -> list[Listener]:
    """`listeners` by way of /proc, unordered. The network namespace is that of this process."""
    found = [each for each in kernel_listeners() if ports is None or each.port in ports]
    if not found:
        return []  # nobody to be looked for: the walk over all descriptors is the expensive half
    inodes = {each.inode for each in found if each.inode}
    holders = _holders(inodes, process.pids() if pids is None else pids, between)
    named = [replace(each, pids=tuple(holders.get(each.inode or 0, ()))) for each in found]
    return named if pids is None else [each for each in named if each.pids]


def _holders(inodes: Collection[int], pids: Iterable[int], between: Callable[[], object]) -> dict[int, list[int]]:
    """The pids, ascending, that hold each of these sockets."""
    links = {b"socket:[%d]" % inode: inode for inode in inodes}
    holders: dict[int, list[int]] = {}
    for pid in sorted(set(pids)):
        between()
        for link in links.keys() & _open_files(pid):
            holders.setdefault(links[link], []).append(pid)
    return holders


def _open_files(pid: int) -> set[bytes]:
    """What the descriptors of a process point to; nothing when it is gone or hidden from this user."""
    folder = b"/proc/%d/fd/" % pid
    try:
        descriptors = os.listdir(folder)
    except OSError:
        return set()
    return {_link(folder + descriptor) for descriptor in descriptors}


def _link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:  # closed since it was listed
        return b""


# macOS: lsof tells both, for the processes of this user (of all users for root)


def from_lsof(ports: Collection[int] | None, pids: Collection[int] | None) -> list[Listener]:
    """`listeners` by way of lsof, unordered. A port of which lsof knows nothing is tried by connecting."""
    found = parse_lsof(run_lsof(_lsof_arguments(ports, pids)))
    if pids is not None or ports is None:
        return found
    seen = {each.port for each in found}
    return found + [hidden for port in ports if port not in seen for hidden in answering(port)]


def _lsof_arguments(ports: Collection[int] | None, pids: Collection[int] | None) -> list[str]:
    """Numbers instead of names (-nP), no warnings (-w), and -a so that -p narrows what -i selects."""
    which = "-iTCP" if ports is None else "-iTCP:" + ",".join(map(str, sorted(ports)))
    narrow = [] if pids is None else ["-a", "-p", ",".join(map(str, sorted(pids)))]
    return ["-nPw", which, "-sTCP:LISTEN", *narrow, "-F", "pufdtPnT"]


def run_lsof(arguments: list[str]) -> str:
    """What lsof prints. Raises OpsError when it is missing, fails, or is silent for 10 s."""
    import subprocess

    command = [_lsof_path(), *arguments]
    retry = "run it by hand and see what it says: " + " ".join(command)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LSOF_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        seen = f"lsof did not answer within {LSOF_SECONDS:.0f} s"
        raise OpsError(seen, wanted="who listens on the port", next=retry) from None
    except OSError as error:  # no process or descriptor left for it
        seen = f"lsof cannot be run: {error.strerror}"
        raise OpsError(seen, wanted="who listens on the port", next=retry) from error
    complaint = lsof_complaint(done.returncode, done.stdout, done.stderr)
    if complaint:
        raise OpsError(complaint, wanted="who listens on the port", next=retry)
    return done.stdout.decode(errors="replace")


def _lsof_path() -> str:
    if os.access(LSOF, os.X_OK):
        return LSOF
    from shutil import which

    found = which("lsof")
    if found is None:
        seen = f"lsof is neither {LSOF} nor in PATH"
        raise OpsError(seen, wanted="who listens on the port", next="install lsof")
    return found


def lsof_complaint(returncode: int, stdout: bytes, stderr: bytes) -> str | None:
    """What kept lsof from answering; None when it answered.

    lsof ends with 1 both when it found nothing and when it failed, and warns of file systems that it could
    not look at even when all is well: only output, or the lack of an error line, tells.
    """
    if returncode == 0 or stdout:
        return None
    if returncode < 0:
        return f"lsof was ended by signal {-returncode}"
    errors = [line for line in stderr.decode(errors="replace").splitlines() if line.startswith("lsof: ")]
    return next((line for line in errors if not line.startswith("lsof: WARNING")), None)


def parse_lsof(text: str) -> list[Listener]:
    """The listening sockets in the output of `lsof -F pufdtPnT`, with their holders.

    Processes that share a socket show the same device (macOS: the address of its control block).
    """
    holders: dict[tuple[str, int, str, Family], dict[int, int]] = {}
    for record in _lsof_records(text):
        host, _, port = record.get("n", "").rpartition(":")
        if record.get("P") != "TCP" or record.get("TST") != "LISTEN" or not port.isdigit():
            continue
        pid, family = int(record["p"]), _lsof_family(record)
        device = record.get("d") or f"{pid}/{record['f']}"
        uids = holders.setdefault((device, int(port), _lsof_address(host, family), family), {})
        uids[pid] = int(record["u"])
    return [
        Listener(port, address, family, uids[min(uids)], None, tuple(sorted(uids)))
        for (_, port, address, family), uids in holders.items()
    ]


def _lsof_records(text: str) -> Iterator[dict[str, str]]:
    """One record per open file: its own fields and those of its process, by their letter (T: by the word)."""
    process: dict[str, str] = {}
    current = process
    for line in filter(None, text.splitlines()):
        if line[0] in "pf":
            if current is not process:
                yield current
            current = {} if line[0] == "p" else dict(process)
            process = current if line[0] == "p" else process
        key, value = (line[0], line[1:]) if line[0] != "T" else line.split("=", 1)
        current[key] = value
    if current is not process:
        yield current


def _lsof_family(record: Mapping[str, str]) -> Family:
    return "IPv6" if record.get("t") == "IPv6" else "IPv4"


def _lsof_address(host: str, family: Family) -> str:
    if host == "*":
        return "::" if family == "IPv6" else "0.0.0.0"
    bare = host.strip("[]")
    return f"::ffff:{bare}" if family == "IPv6" and ":" not in bare else bare


_LOOPBACK: tuple[tuple[str, Family], ...] = (("127.0.0.1", "IPv4"), ("::1", "IPv6"))
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: closing leaves no TIME_WAIT behind


def answering(port: int, within: float = ANSWER_SECONDS) -> list[Listener]:
    """Where a listener that we may not see answers, of the two loopback addresses. Both are called at once; one that
    does not refuse `within` that many seconds has a full backlog, and counts.

    Connecting, not binding: a trial bind counts TIME_WAIT as taken or, with SO_REUSEADDR on macOS, overlooks
    a listener on another address; and it would take the port from a service that binds at this moment.
    """
    until = time.monotonic() + within
    calls = [(_call(port, at, family), at, family) for at, family in _LOOPBACK]
    try:
        taken = [(at, family) for line, at, family in calls if line and not _refused(line, until)]
    finally:
        for line in filter(None, (call[0] for call in calls)):
            line.close()
    return [Listener(port, at, family, None, None, ()) for at, family in taken]


def _call(port: int, address: str, family: Family) -> socket.socket | None:
    """The connection, made or under way; None when it was refused at once, or there is no such family here."""
    try:
        line = socket.socket(FAMILIES[family], socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in _CANNOT_ASK:  # not known is not nobody
            raise OpsError(f"port {port} cannot be asked: {error.strerror}") from error
        return None
    line.setblocking(False)
    if line.connect_ex((address, port)) in (0, errno.EINPROGRESS):
        return line
    line.close()
    return None


def _refused(line: socket.socket, until: float) -> bool:
    """Whether nobody took the call; what is not decided by then is no refusal."""
    poll = select.poll()
    poll.register(line, select.POLLOUT)
    if not poll.poll(1000 * max(0.0, until - time.monotonic())):
        return False
    if line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return True
    with contextlib.suppress(OSError):  # taken, and hung up since
        if met_itself(line):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)  # the port is free, and is to be so again
            return True
    return False
