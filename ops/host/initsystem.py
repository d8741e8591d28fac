"""What launchd and systemd have in common: what a job is, how one stands, and running their tools.

Knows: the two shapes of a job, a tool's exit code and words. Must not know: either tool's verbs, what a job is for.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ops.errors import OpsError
from ops.frozen import frozen
from ops.host import privilege

SYSTEMD, LAUNCHD = "systemd", "launchd"
OURS = b"`inv install-service`"  # what stands in every file that we have written
_TIMEOUT = 30.0  # seconds for one call
_MODE = 0o644


@frozen
class Job:
    """What an init system is to keep running. `argv[0]`, `cwd` and the paths are absolute; `user` "" is whoever the
    manager runs as; `stop_within` seconds it has to end after TERM; `version` of what wrote it."""

    label: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    stop_within: float = 45.0
    version: str = ""


@frozen
class Standing:
    """How a job stands with its manager. `loaded`: the manager knows it; `enabled`: it starts at boot (or login);
    `pid` of what runs, None when nothing does; `behind`: the manager has read another text than the file's."""

    loaded: bool = False
    enabled: bool = False
    pid: int | None = None
    behind: bool = False
    detail: str = ""


@frozen
class Said:
    """How one call of a tool ended, and what it said, on one line."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        return " ".join((self.err or self.out).split())[:300] or f"exit {self.code}"


def ask(words: Sequence[str], env: Mapping[str, str], timeout: float = _TIMEOUT, *, root: bool = False) -> Said:
    """Runs a tool without a shell, never through a pipe that hides its exit code; with `root` as root, where this
    process may. OpsError when that is not possible, or takes longer than `timeout` seconds."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "env": dict(env), "text": True}
    if privilege.is_root():
        # The group as well: who has two of them, real and effective, is kept from most of its environment.
        given["user"], given["group"] = (0, 0) if root else (os.geteuid(), os.getegid())
    try:
        done = subprocess.run(list(words), timeout=timeout, **given)
    except subprocess.TimeoutExpired:
        raise OpsError(f"{' '.join(words)}: not done within {timeout:g} s") from None
    except OSError as error:
        raise OpsError(f"{words[0]} cannot be run: {error.strerror}") from error
    return Said(done.returncode, done.stdout.strip(), done.stderr.strip())


def installed(path: str) -> bytes | None:
    """What the file of a job says; None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OpsError(f"{path} cannot be read: {error.strerror}") from error


def write(path: str, text: bytes, *, root: bool = False) -> None:
    """Replaces the file in one step (with `root` as root, where this process may), readable by all and written by its
    owner alone, as both managers want it. It is on the disk when this returns: it is what brings everything back after
    a power cut."""
    with privilege.as_root() if root else contextlib.nullcontext():
        _write(path, text)


def _write(path: str, text: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with open(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, _MODE)
            file.write(text)
            os.fsync(descriptor)
        os.replace(temporary, path)
        _fsync_folder(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OpsError(f"{path} cannot be written: {error.strerror}") from error


def remove(path: str, *, root: bool = False) -> None:
    """Has the file gone, on the disk too; OpsError when it would not."""
    try:
        with privilege.as_root() if root else contextlib.nullcontext():
            os.unlink(path)
            _fsync_folder(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OpsError(f"{path} cannot be removed: {error.strerror}") from error


def keep_copy(path: str, text: bytes, *, root: bool = False) -> str:
    """Keeps what stood in a file that is to be replaced, beside it, where no manager looks; its path."""
    number, kept = 1, f"{path}.replaced"
    while os.path.lexists(kept) and installed(kept) != text:
        number, kept = number + 1, f"{path}.replaced.{number + 1}"
    write(kept, text, root=root)
    return kept


def _fsync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
