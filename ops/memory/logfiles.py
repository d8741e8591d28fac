"""Where people look for a service's log and pid: public names, such as /tmp/recon-api.log, that lead to our
files.

Knows: links, plain files, who owns them, what may be done in a folder that everybody can write to. Must not
know: services, processes, what is in a log.

The real log lies in the state folder. Its public name is a symlink of ours, re-created when it is gone. The
rule for all that lies at a public name: what belongs to another user, or is neither file nor symlink, is
left alone, for root too (so owners are compared; no reliance on EPERM). Nothing is ever written through a
link, and nothing of ours is deleted to make room. Every function returns what is wrong in plain words
instead of raising it.

The calls relative to an open folder (dir_fd) exist on macOS too; nothing here was run there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
import time
from collections.abc import Iterator

from ops.frozen import frozen

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SAME_SECOND = 100  # names tried for files put aside within one second


@frozen
class Link:
    """A public name and the real log that it leads to, both absolute paths."""

    public: str
    real: str


@frozen
class _Sight:
    """What was seen at a public name: what is wrong (None: nothing), what lies there (None: nothing), and
    whether it is ours to put right."""

    words: str | None
    info: os.stat_result | None = None
    mendable: bool = False


def link_fault(link: Link) -> str | None:
    """None when the public name is a symlink of ours to the real log; else what is there instead. Only
    looks."""
    return _look(link).words


def mendable(link: Link) -> bool:
    """Whether something is wrong and `mend` would put it right."""
    return _look(link).mendable


def mend(link: Link) -> str | None:
    """Puts right what is ours to put right; returns what is still wrong afterwards, or None.

    A missing or wrong link of ours is replaced atomically. A regular file of ours is kept beside it as
    NAME.old-YYYYmmddTHHMMSS (local time). All else stays as it is.
    """
    sight = _look(link)
    if not sight.mendable:
        return sight.words
    try:
        with _folder_of(link.public) as folder:
            _put_link(folder, os.path.basename(link.public), link.real, sight.info)
    except OSError as error:
        words = link_fault(link)  # another command may have mended it meanwhile
        return words and f"{words} ({error.strerror})"
    return link_fault(link)


def real_fault(real: str, opened: tuple[int, int] | None = None) -> str | None:
    """None when the real log is there and is the file (device, inode) that the running service opened. One
    that was deleted or replaced cannot be given back to its writer: only a restart opens a new one."""
    try:
        info = os.lstat(real)
    except FileNotFoundError:
        return f"{real} was deleted: new output is lost until the service is restarted"
    except OSError as error:
        return f"{real}: {error.strerror}"
    if opened is None or opened == (info.st_dev, info.st_ino):
        return None
    return f"{real} is not the file that the service writes to: new output is lost until it is restarted"


def public_fault(path: str) -> str | None:
    """What would keep `write_public` from writing there, or None. Only looks."""
    try:
        info = _lstat(path)
        return (info and _refusal(info)) or _folder_fault(path)
    except OSError as error:
        return error.strerror


def write_public(path: str, text: str) -> str | None:
    """Puts a small file of ours there, atomically, for people to read (/tmp/NAME.pid). A file or symlink of
    ours is replaced, never written through. Returns what went wrong, or None."""
    try:
        refusal = public_fault(path)
        if refusal:
            return f"{path}: {refusal}"
        info = _lstat(path)
        with _folder_of(path) as folder:
            _put_file(folder, os.path.basename(path), text, info)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def remove_public(path: str) -> str | None:
    """Removes a regular file or symlink of ours. Returns what went wrong; None also when nothing was
    there."""
    try:
        info = _lstat(path)
        if info is None:
            return None
        refusal = _refusal(info)
        if refusal:
            return f"{path}: {refusal}"
        with _folder_of(path) as folder:
            _still(folder, os.path.basename(path), info)
            os.unlink(os.path.basename(path), dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _look(link: Link) -> _Sight:
    if _place(link.public) == _place(link.real):
        return _Sight(None)  # the inventory names the real log itself: there is nothing to link
    try:
        info = _lstat(link.public)
        words, ours = _verdict(link, info)
        hindrance = _folder_fault(link.public) if ours else None
    except OSError as error:
        return _Sight(f"{link.public}: {error.strerror}")
    if hindrance is None:
        return _Sight(words, info, ours)
    return _Sight(hindrance if info is None else f"{words}; {hindrance}", info)


def _verdict(link: Link, info: os.stat_result | None) -> tuple[str | None, bool]:
    """What is wrong, and whether it is ours to put right."""
    if info is None:
        return "missing", True
    refusal = _refusal(info)
    if refusal:
        return refusal, False
    if stat.S_ISREG(info.st_mode):
        return "a regular file of ours", True
    target = os.readlink(link.public)
    return (None, False) if target == link.real else (f"points elsewhere: {target}", True)


def _refusal(info: os.stat_result) -> str | None:
    """Why what lies there is not ours to touch."""
    kind = _kind(info.st_mode)
    if info.st_uid != os.geteuid():
        return f"{_owner(info.st_uid)}'s {kind}: left alone"
    return None if kind in ("file", "symlink") else f"a {kind}: left alone"


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISREG(mode):
        return "file"
    return "directory" if stat.S_ISDIR(mode) else "special file"


def _owner(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _place(path: str) -> str:
    """The path with its folder's links resolved, but not its own."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _folder_fault(path: str) -> str | None:
    """Why nothing can or may be made in the folder of a public name."""
    folder = os.path.dirname(os.path.abspath(path))
    stranger = _stranger_on_the_way(folder)
    if stranger:
        return stranger
    try:
        info = os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return f"folder {folder} does not exist"
    if not stat.S_ISDIR(info.st_mode):
        return f"{folder} is not a folder"
    effective = os.access in os.supports_effective_ids
    writable = os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)
    return None if writable else f"{folder} is not writable"


def _steps(folder: str) -> list[str]:
    """The folders on the way to it, the root first, and itself."""
    steps = [folder]
    while (above := os.path.dirname(steps[0])) != steps[0]:
        steps.insert(0, above)
    return steps


def _stranger_on_the_way(folder: str) -> str | None:
    """Another user's symlink among the folders would make us work in a folder of that user's choice:
    O_NOFOLLOW and the like only guard the last name of a path. Links of root (macOS: /tmp) are the
    system's."""
    for step in _steps(folder):
        info = _lstat(str(step))
        if info and stat.S_ISLNK(info.st_mode) and info.st_uid not in (0, os.geteuid()):
            return f"{step} is {_owner(info.st_uid)}'s symlink: left alone"
    return None


@contextlib.contextmanager
def _folder_of(path: str) -> Iterator[int]:
    """The folder opened once: what follows happens in this one, though its name be moved meanwhile."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put_link(folder: int, name: str, real: str, seen: os.stat_result | None) -> None:
    if seen is None:
        os.symlink(real, name, dir_fd=folder)  # fails if somebody was quicker; a rename would replace theirs
        return
    with _temporary(folder, name) as temporary:
        os.symlink(real, temporary, dir_fd=folder)
        _still(folder, name, seen)
        if stat.S_ISREG(seen.st_mode):
            _keep_aside(folder, name, seen)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _put_file(folder: int, name: str, text: str, seen: os.stat_result | None) -> None:
    with _temporary(folder, name) as temporary:
        descriptor = os.open(temporary, _NEW_FILE, 0o644, dir_fd=folder)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if seen is None:  # as above: a link never replaces anything
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        else:
            _still(folder, name, seen)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


@contextlib.contextmanager
def _temporary(folder: int, name: str) -> Iterator[str]:
    """A name nobody can foresee, and nothing left under it in the end."""
    temporary = f".{name}.{os.urandom(8).hex()}"
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def _still(folder: int, name: str, seen: os.stat_result) -> None:
    """OSError unless what lies there is what was judged."""
    now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if (now.st_dev, now.st_ino, now.st_uid) != (seen.st_dev, seen.st_ino, seen.st_uid):
        raise OSError(errno.EAGAIN, "it changed while it was looked at", name)


def _keep_aside(folder: int, name: str, seen: os.stat_result) -> None:
    """A second name for the file, before the rename takes the first: a link never replaces anything, so of
    two that mend at once neither can lose the file."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for attempt in range(_SAME_SECOND):
        aside = f"{name}.old-{stamp}" + (f"-{attempt}" if attempt else "")
        with contextlib.suppress(FileExistsError):
            os.link(name, aside, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            break
    else:
        raise OSError(errno.EEXIST, "no free name to keep the old file under", name)
    try:
        _still(folder, aside, seen)
    except OSError:
        os.unlink(aside, dir_fd=folder)  # the other one's new link, which has its own name already
        raise
