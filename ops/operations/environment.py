"""What a service is started with: program, folder, environment, the same for every spawner.

Knows: what is frozen at the first start and what comes from the inventory. Must not know: processes, when to start.

A shell at noon, the monitor at night and launchd at boot have different environments; a service must not notice.
So PATH, HOME, LANG, TZ, TMPDIR and the resolved program are frozen when it is first started. The values of an
`env_file` are read at each start and go nowhere else.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ops.errors import OpsError, SpawnError
from ops.host import process
from ops.host.spawn import Launch
from ops.memory.state import State
from ops.model import Host, Service

MARKER = "OPS_RUN"
PYTHON = "{python}"
_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def marker(stack: str, service: str, run: str = "") -> str:
    """The value of OPS_RUN: `stack/service/run`; without a run, the prefix that all runs of it share."""
    return f"{stack}/{service}/{run}"


def new_run(state: State) -> str:
    """A name for one run of one service; it begins with what tells this state folder from others."""
    return f"{state.tag}-{os.urandom(4).hex()}"


def folder(host: Host, service: Service) -> str:
    """The absolute folder that a service runs in."""
    return os.path.normpath(os.path.join(host.root, os.path.expanduser(service.cwd)))


def capture(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is frozen of an environment (by default this process's own), with what must not be missing filled in."""
    environ = os.environ if environ is None else environ
    kept = {name: environ[name] for name in _KEPT if environ.get(name)}
    kept.setdefault("PATH", _DEFAULT_PATH)
    kept.setdefault("HOME", os.path.expanduser("~"))
    return kept


def frozen(state: State, service: Service, *, refresh: bool = False) -> dict[str, Any]:
    """The frozen environment and programs of a service; what is captured now where nothing was frozen yet."""
    kept = {} if refresh else state.frozen().get(service.name, {})
    kept = kept if isinstance(kept, dict) else {}
    env = kept.get("env")
    programs = kept.get("programs")
    if not isinstance(env, dict) or "PATH" not in env or not all(isinstance(v, str) for v in env.values()):
        env = capture()
    return {"env": env, "programs": programs if isinstance(programs, dict) else {}}


def prepare(host: Host, state: State, service: Service, *, refresh: bool = False) -> tuple[Launch, dict[str, Any]]:
    """What to launch (without the run marker), and what of it is to be frozen. Changes nothing.

    SpawnError says what is missing."""
    kept = frozen(state, service, refresh=refresh)
    cwd = folder(host, service)
    if not os.path.isdir(cwd):
        raise SpawnError(f"its folder {cwd} does not exist", next=f"make it, or correct `cwd` of {service.name}")
    interpreter = python(kept)
    argv = service.argv(interpreter)
    path = _resolve(argv[0], cwd, kept, service)
    used = {PYTHON: interpreter} if any(PYTHON in word for word in service.command) else {}
    kept = {**kept, "programs": {service.command[0]: path, **used}}
    env = variables(host, service, kept["env"])
    launch = Launch((path, *argv[1:]), cwd, env, state.log(service.name), state.quiet)
    return launch, kept


def python(kept: Mapping[str, Any]) -> str:
    """What {python} stands for: the Python that it was when the service was frozen, while that is there."""
    known = kept["programs"].get(PYTHON)
    return known if isinstance(known, str) and _executable(known) else sys.executable


def variables(host: Host, service: Service, base: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a service, without the run marker."""
    env = {**base, **service.env}
    if service.env_file:
        env.update(_env_file(os.path.join(host.root, os.path.expanduser(service.env_file))))
    return env


def _resolve(word: str, cwd: str, kept: Mapping[str, Any], service: Service) -> str:
    """The absolute path of the program: as frozen, else found anew on the frozen PATH."""
    if "/" in word:
        path = os.path.normpath(os.path.join(cwd, os.path.expanduser(word)))
        found = path if _executable(path) else None
    else:
        known = kept["programs"].get(word)
        found = known if isinstance(known, str) and _executable(known) else None
        found = found or _which(word, kept["env"]["PATH"])
    if found is None:
        raise SpawnError(
            f"its program {word!r} was not found",
            wanted="" if "/" in word else f"it on the PATH frozen for {service.name}: {kept['env']['PATH']}",
            next=f"install it, or from a shell that finds it: inv start --only {service.name} --refresh-env",
        )
    return os.path.join(cwd, found)


def missing_program(host: Host, command: Sequence[str]) -> OpsError | None:
    """Why a program that the monitor is to run beside the services could not be run; None when it could, or is none."""
    if not command:
        return None
    path = os.path.join(host.root, os.path.expanduser(command[0]))
    if _executable(path) if "/" in command[0] else _which(command[0], capture()["PATH"]):
        return None
    return OpsError(f"its program {command[0]!r} was not found", next="install it, or correct `ops.alert_command`")


def _which(word: str, path: str) -> str | None:
    import shutil

    return shutil.which(word, path=path)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _env_file(path: str) -> dict[str, str]:
    """KEY=VALUE lines of a private file. Errors name the file and the line, never a value."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a FIFO would wait for whoever writes to it
            raise SpawnError(f"its env_file {path} is not a regular file")
        with open(path, encoding="utf-8-sig") as file:  # an editor may have put a byte order mark in front
            found = os.fstat(file.fileno())
            lines = file.read().split("\n")  # splitlines() would split a value at a form feed, too
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SpawnError(f"its env_file {path}: {why}") from error
    if found.st_uid != os.geteuid():
        raise SpawnError(
            f"its env_file {path} belongs to user {process.user_name(found.st_uid)}",
            wanted="a file of your own with mode 0600",
        )
    if found.st_mode & 0o077:
        raise SpawnError(
            f"its env_file {path} may be read by others",
            wanted="a file of your own with mode 0600",
            next=f"chmod 600 {path}",
        )
    return dict(_pair(path, number, line) for number, line in enumerate(lines, 1) if _meant(line))


def _meant(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _pair(path: str, number: int, line: str) -> tuple[str, str]:
    key, equals, value = line.strip().removeprefix("export ").partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key.isidentifier():
        raise SpawnError(f"its env_file {path}, line {number}: wanted KEY=VALUE")
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return key, value
