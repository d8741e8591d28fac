"""What travels to a host: this very toolkit, and the libraries that it needs there.

Knows: which files those are, their fingerprint, wheels for another platform. Must not know: how they travel, what is
done with them there.

A host has access to no registry. What is pure Python is taken from the libraries installed here; only psutil has a
part for each platform, and is fetched as a wheel (and kept) when the host's is not this one.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ops.errors import OpsError
from ops.fleet import groundwork
from ops.frozen import frozen

if TYPE_CHECKING:
    import zipfile
    from importlib.metadata import Distribution

PROTOCOL = 1
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What a host needs: no fabric (it reaches nobody) and no YAML (its part of the inventory is sent resolved).
_PURE = ("invoke", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "tabulate", "h11")
_NATIVE = "psutil"
_COMPILED = (".so", ".pyd", ".dylib", ".pyc")
_ONE_DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same archive


@frozen
class Platform:
    """What a wheel has to fit: `system` as sys.platform has it, `machine`, `libc` (glibc, musl, "" elsewhere), and the
    version of Python."""

    system: str
    machine: str
    libc: str
    python: tuple[int, int]


@functools.cache
def own() -> str:
    """The fingerprint of this toolkit's sources: two ends that share it understand each other."""
    return groundwork.fingerprint(_OURS)


def here() -> Platform:
    """This machine's."""
    import platform

    libc = platform.libc_ver()[0] if sys.platform == "linux" else ""
    named = libc or ("musl" if sys.platform == "linux" else "")
    return Platform(sys.platform, platform.machine(), named, sys.version_info[:2])


def requirements() -> dict[str, str]:
    """The libraries that travel, with their versions here."""
    return {name: _installed(name).version for name in (*_PURE, _NATIVE)}


def archive(there: Platform) -> bytes:
    """All that a host of that platform needs, as a zip of what site-packages is to hold."""
    import zipfile  # not on the way to an agent's first word

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as made:
        for path in sorted(groundwork.sources(_OURS)):
            with open(path, "rb") as file:
                _add(made, f"ops/{os.path.relpath(path, _OURS)}", file.read())
        for name in _PURE:
            for path, data in _pure_files(_installed(name)):
                _add(made, path, data)
        for path, data in _native_files(there):
            _add(made, path, data)
        _add(made, "launchd/servicemonitor.plist", _property_list())
    return written.getvalue()


def _add(made: zipfile.ZipFile, name: str, data: bytes) -> None:
    import zipfile

    made.writestr(zipfile.ZipInfo(name, _ONE_DATE), data, zipfile.ZIP_DEFLATED)


def _installed(name: str) -> Distribution:
    from importlib import metadata

    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        seen = f"{name} is not installed here, and a host needs it"
        raise OpsError(seen, next="./inv --list puts .venv right") from None


def _pure_files(found: Distribution) -> Iterator[tuple[str, bytes]]:
    for path, data in _files(found):
        if not path.endswith(_COMPILED):
            yield path, data


def _files(found: Distribution) -> Iterator[tuple[str, bytes]]:
    for path in found.files or ():
        name = path.as_posix()
        if name.startswith(("..", "/")) or "__pycache__" in name:
            continue  # its scripts; what is compiled is compiled there
        with open(str(path.locate()), "rb") as file:
            yield name, file.read()


def _property_list() -> bytes:
    import plistlib

    from ops.host import launchd

    return plistlib.dumps(launchd.template())


# -- psutil --------------------------------------------------------------------------------------------------------


def _native_files(there: Platform) -> Iterator[tuple[str, bytes]]:
    import zipfile

    found = _installed(_NATIVE)
    if _fits(found, there):
        yield from ((path, data) for path, data in _files(found) if not path.endswith(".pyc"))
        return
    with zipfile.ZipFile(_wheel(found.version, there)) as wheel:
        yield from ((name, wheel.read(name)) for name in wheel.namelist() if not name.endswith("/"))


def _fits(found: Distribution, there: Platform) -> bool:
    """Whether what is installed here runs there: the same platform, and built for any Python or for that very one."""
    mine = here()
    same = (mine.system, mine.machine, mine.libc) == (there.system, there.machine, there.libc)
    stable = "abi3" in (found.read_text("WHEEL") or "")
    return same and (stable or mine.python == there.python)


def _wheel(version: str, there: Platform) -> str:
    """The path of the wheel for that platform: kept from before, or fetched."""
    kept = os.path.join(_cache(), "-".join(filter(None, (there.system, there.machine, there.libc))))
    for name in sorted(os.listdir(kept) if os.path.isdir(kept) else ()):
        if name.startswith(f"{_NATIVE}-{version}-") and name.endswith(".whl"):
            return os.path.join(kept, name)
    why = _fetch(version, there, kept)
    for name in os.listdir(kept) if os.path.isdir(kept) else ():
        if name.startswith(f"{_NATIVE}-{version}-"):
            return os.path.join(kept, name)
    raise OpsError(
        f"there is no {_NATIVE} {version} here for {there.system} {there.machine} {there.libc}".rstrip() + f" ({why})",
        wanted="a wheel that pip can fetch, or one that lies there already",
        next=f"check the network, or put {_NATIVE}-{version}-*.whl for that platform into {kept}",
    )


def _cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "settlepaisa-ops", "wheels")


def _fetch(version: str, there: Platform, folder: str) -> str:
    """Has pip put the wheel into a folder; why it could not, or ""."""
    from ops.host import program

    os.makedirs(folder, exist_ok=True)
    tags = [word for tag in _tags(there) for word in ("--platform", tag)]
    wanted = [f"{_NATIVE}=={version}", "--no-deps", "--only-binary=:all:", "--python-version", "310"]
    argv = [sys.executable, "-I", "-m", "pip", "download", "-q", "--disable-pip-version-check", *wanted]
    argv += [*tags, "--implementation", "cp", "--abi", "abi3", "-d", folder]
    return program.run(argv, b"", cwd="/", env=_network(os.environ), timeout=60)


def _network(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def _tags(there: Platform) -> tuple[str, ...]:
    machine = there.machine
    if there.system == "darwin":
        return tuple(f"macosx_{version}_{machine}" for version in ("11_0", "10_13", "10_9"))
    if there.libc == "musl":
        return tuple(f"musllinux_{version}_{machine}" for version in ("1_2", "1_1"))
    return tuple(f"{kind}_{machine}" for kind in ("manylinux_2_28", "manylinux2014", "manylinux2010"))
