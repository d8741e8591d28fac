"""What a host's own Python is given to run before there is a toolkit: it looks around, and puts a release there.

Knows: the standard library alone, since its text is sent to the host and run there. Must not know: any other module of
this package, services.

    ~/.local/share/settlepaisa-ops/STACK/
        releases/FINGERPRINT/    a venv with the toolkit and its libraries; made under another name, then renamed
        current                  a link to the release in use, replaced atomically
        hosts/NAME.json          a host's part of the inventory, by the name that it has there
        inventory.json           a link to it; to the one sent last, where a machine has several names
        inv                      the commands, for whoever works on that host
        requests/                what was answered to requests whose connection broke

Its standard input holds one line of JSON and then the archive; it answers with one line of JSON behind the token that
it was given. Exit code 0: that line says how it went.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

PLACE = ".local/share/settlepaisa-ops"  # below the home of the user
SPARE = "/dev/shm"  # memory, on Linux
_TO_WAIT = 60.0  # seconds for somebody else who is at it
_ROOM = 40 << 20  # bytes that a release takes, unpacked and compiled, and half as much again
_CHECK = "import ops.fleet.agent, ops.commands, psutil, h11, requests, tabulate"
_INV = """#!/bin/sh
# The commands, for whoever works on this host. Written by `inv bootstrap`.
here=$(cd -P -- "$(dirname -- "$0")" && pwd) || exit 1
OPS_INVENTORY=${OPS_INVENTORY:-$here/$(readlink "$here/inventory.json")} # by the name that the monitor has it by
export OPS_INVENTORY
release=$(cd -P -- "$here/current" && pwd) || exit 1 # not by the link: it may be replaced while this runs
exec "$release/bin/python" -I -c 'from ops.commands import main; main()' "$@"
"""


class Lacking(Exception):
    """What is missing, in words: seen, wanted, next."""


def look(said: dict[str, Any]) -> dict[str, Any]:
    """What there is: Python, platform, room, and which release is in use."""
    import platform

    base = base_of(said)
    libc = platform.libc_ver()[0] if sys.platform == "linux" else ""
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "system": sys.platform,
        "machine_type": platform.machine(),
        "libc": libc or ("musl" if sys.platform == "linux" else ""),
        "release": current(base),
        "whole": is_whole(base, said),
        "promised": is_promised(base, said),
        "lacking": lacking(base),
        "machine": machine(base),
    }


def machine(base: str) -> str:
    """What tells one host from another, whatever they are called: this boot, and where this user's toolkit lies."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        import platform

        boot = platform.node()
    return f"{boot} {os.path.realpath(base)}"


def base_of(said: dict[str, Any]) -> str:
    return os.path.join(os.path.expanduser("~"), PLACE, said["stack"])


def current(base: str) -> str:
    """The fingerprint of the release in use; "" when there is none."""
    try:
        return os.path.basename(os.readlink(os.path.join(base, "current")))
    except OSError:
        return ""


def fingerprint(folder: str) -> str:
    """What tells one toolkit from another: of every source file of the package in this folder."""
    crc, adler = 0, 1
    for path in sorted(sources(folder)):
        with open(path, "rb", buffering=0) as file:  # half the time of a buffered one, and each request reads them
            data = path[len(folder) + 1 :].encode() + b"\0" + file.read() + b"\0"
        crc, adler = zlib.crc32(data, crc), zlib.adler32(data, adler)
    return f"{crc:08x}{adler:08x}"


def sources(folder: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.endswith(".py"):
            yield entry.path
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from sources(entry.path)


def is_whole(base: str, said: dict[str, Any]) -> bool:
    """Whether the release that is asked for is there and in use."""
    return is_there(base, said) and current(base) == said["release"]


def is_there(base: str, said: dict[str, Any]) -> bool:
    """Whether the release that is asked for is there, with the libraries that are asked for, and nobody changed it."""
    release = os.path.join(base, "releases", said["release"])
    try:
        with open(os.path.join(release, "release.json")) as file:
            kept = json.load(file)
        if fingerprint(os.path.join(packages_of(release), "ops")) != said["release"]:
            return False
    except (OSError, ValueError):
        return False
    runs = os.access(os.path.join(release, "bin", "python"), os.X_OK)
    return runs and bool(kept.get("libraries") == said["libraries"])


def part_of(base: str, host: str) -> str:
    """The file of a host's part of the inventory."""
    name = "".join(one if one.isalnum() or one in "._-" else "_" for one in host)
    return os.path.join(base, "hosts", f"{name}.json")


def keep(base: str, host: str, text: str) -> bool:
    """Keeps a host's part of the inventory; whether that changed anything."""
    path = part_of(base, host)
    link = os.path.join(base, "inventory.json")
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text and os.path.lexists(link):
                return False
    except (OSError, ValueError):
        pass
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write(path, text, 0o600)
    point(link, os.path.relpath(path, base))
    return True


def point(link: str, target: str) -> None:
    """Has a link lead elsewhere, in one step."""
    fresh = os.path.join(os.path.dirname(link), f".{os.path.basename(link)}.{os.getpid()}")
    os.symlink(target, fresh)
    os.replace(fresh, link)


def is_promised(base: str, said: dict[str, Any]) -> bool:
    """Whether the host's part of the inventory is what stands there."""
    try:
        with open(part_of(base, said["host"]), encoding="utf-8") as file:
            return file.read() == str(said["inventory"])
    except (OSError, ValueError):
        return False


def lacking(base: str) -> list[str]:
    """Why a release could not be put there: [seen, wanted, next]; empty when it could."""
    try:
        import venv  # noqa: F401 - Debian and others leave it out
    except ImportError:
        wanted = "the module venv of its standard library"
        return [f"{sys.executable} has no module venv", wanted, "on Debian: apt-get install python3-venv"]
    above = base
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if not os.access(above, os.W_OK | os.X_OK):
        why = "is on a file system that is mounted read-only" if is_read_only(above) else "may not be written"
        return [f"{above} {why}", "a home folder that its user may write", f"ls -ld {above}"]
    room = os.statvfs(above)
    free = room.f_bavail * room.f_frsize
    if free < _ROOM:
        seen = f"{above} has {free / 1e6:.0f} MB free"
        return [seen, f"{_ROOM / 1e6:.0f} MB", f"free some space there: df -h {above}"]
    return []


def is_read_only(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def install(said: dict[str, Any], archive: bytes) -> dict[str, Any]:
    """Puts the release and the host's part of the inventory there, to be used from now on."""
    base = base_of(said)
    missing = lacking(base)
    if missing:
        raise Lacking(*missing)
    with locked(base):
        if not is_whole(base, said):
            put(base, said, archive)
        use(base, said["release"])
        keep(base, said["host"], said["inventory"])
    return {}


def lend(said: dict[str, Any], archive: bytes) -> dict[str, Any]:
    """Puts the release beside the others, for one request; with `use` it is the one in use, too. Where the home cannot
    take it, it comes into memory: a full disk must not keep a service down."""
    base = base_of(said)
    if lacking(base):
        base = spare(said)
    with locked(base):
        if not is_there(base, said):
            put(base, said, archive)
        if said["use"]:
            use(base, said["release"])
    return {"place": base}


def spare(said: dict[str, Any]) -> str:
    """A folder in memory that is this user's alone (Linux)."""
    missing = lacking(base_of(said))
    base = os.path.join(SPARE, f"settlepaisa-ops-{os.geteuid()}")
    if not os.path.isdir(SPARE):
        raise Lacking(*missing)
    with contextlib.suppress(FileExistsError):
        os.mkdir(base, 0o700)
    found = os.lstat(base)
    if found.st_uid != os.geteuid() or found.st_mode & 0o177077 != 0o040000:
        raise Lacking(f"{base} is not a folder of this user alone", "", f"ls -ld {base}")
    return os.path.join(base, said["stack"])


@contextlib.contextmanager
def locked(base: str) -> Iterator[None]:
    """Nobody else puts a release there meanwhile. What a killed one has left half-made is removed."""
    os.makedirs(os.path.join(base, "releases"), mode=0o700, exist_ok=True)
    with open(os.path.join(base, ".lock"), "a+") as lock:
        until = time.monotonic() + _TO_WAIT
        while not is_taken(lock):
            if time.monotonic() > until:
                lock.seek(0)
                raise Lacking(f"pid {lock.read()} there is putting a release there", "its end", "the same again")
            time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        sweep(base)
        yield


def is_taken(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(base: str) -> None:
    import shutil

    for folder, begin in ((base, ".current."), (base, ".inventory.json."), (os.path.join(base, "releases"), ".")):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith(begin) and os.path.islink(path):
                os.unlink(path)
            elif name.startswith(begin) and os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)


def put(base: str, said: dict[str, Any], archive: bytes) -> None:
    """Makes the release under another name, tries it, and gives it its name."""
    import io
    import shutil
    import venv
    import zipfile

    final = os.path.join(base, "releases", said["release"])
    making = os.path.join(base, "releases", f".{said['release']}.{os.getpid()}")
    try:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(making)
        site = packages_of(making)
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(site)
        compile_all(site, making, final)
        attempt(making)
        kept = {"release": said["release"], "libraries": said["libraries"], "version": said["version"]}
        write(os.path.join(making, "release.json"), json.dumps(kept), 0o644)
        os.sync()  # a power cut must not leave a release with empty files
        if os.path.lexists(final):  # not whole: somebody changed it, or its libraries are older
            os.rename(final, f"{making}.old")
        os.rename(making, final)
    finally:
        for left in (making, f"{making}.old"):
            shutil.rmtree(left, ignore_errors=True)


def packages_of(release: str) -> str:
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return os.path.join(release, "lib", python, "site-packages")


def compile_all(site: str, making: str, final: str) -> None:
    """Every command would compile them anew where they may not be written."""
    import compileall

    compileall.compile_dir(site, quiet=2, stripdir=making, prependdir=final)


def attempt(release: str) -> None:
    """Whether it runs here: a library for another platform is found now, not at three in the morning."""
    import subprocess

    python = os.path.join(release, "bin", "python")
    done = subprocess.run([python, "-I", "-c", _CHECK], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Lacking(f"the toolkit does not run with its Python: {last}", "", "")


def use(base: str, release: str) -> None:
    """What is started at boot, and whoever types `inv` there, goes by this release from now on."""
    if current(base) != release:
        point(os.path.join(base, "current"), os.path.join("releases", release))
    write(os.path.join(base, "inv"), _INV, 0o755)


def write(path: str, text: str, mode: int) -> None:
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(fresh, mode)
    os.replace(fresh, path)


def explained(error: OSError) -> list[str]:
    """An error of the system as [seen, wanted, next]."""
    where = error.filename or "its home folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return [f"its disk is full: {where}", f"{_ROOM / 1e6:.0f} MB", "free some space there, then the same again"]
    if error.errno == errno.EROFS:
        return [f"{where} is on a file system that is mounted read-only", "a home folder that can be written", ""]
    return [f"{where}: {error.strerror}", "", f"ls -ld {where}"]


def say(token: str, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(1, f"\n{token} {json.dumps(answer)}\n".encode())


def live(token: str, done: threading.Event) -> None:
    """A small machine compiles for a while: whoever waits hears that it is at it."""
    while not done.wait(2.0):
        say(token, {"alive": True})


def main() -> None:
    os.umask(0o077)
    said = json.loads(sys.stdin.buffer.readline())
    done = threading.Event()
    threading.Thread(target=live, args=(said["token"], done), daemon=True).start()
    try:
        archive = sys.stdin.buffer.read(said.get("bytes", 0))
        if len(archive) != said.get("bytes", 0):
            raise Lacking(f"only {len(archive)} of {said['bytes']} bytes arrived", "", "the same again")
        answer = look(said) if said["do"] == "look" else {"install": install, "lend": lend}[said["do"]](said, archive)
    except Lacking as error:
        answer = {"lacking": list(error.args)}
    except OSError as error:
        answer = {"lacking": explained(error)}
    done.set()
    say(said["token"], answer)


if __name__ == "__main__":
    main()
