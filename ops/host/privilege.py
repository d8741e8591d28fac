"""Acting for a user, as root: what is theirs is done as them, and only what needs it as root.

Knows: effective and real user ids. Must not know: what is done under either, for whom. Where this process is not
root's, nothing of this changes anything.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator


def act_for(uid: int) -> None:
    """Has this process, which is root's, act as another user, with their home. OSError when there is no such user."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        raise OSError(f"there is no user {uid}") from None
    os.environ["HOME"] = user.pw_dir
    os.initgroups(user.pw_name, user.pw_gid)
    os.setegid(user.pw_gid)
    os.seteuid(uid)


def is_root() -> bool:
    """Whether this process may act as root, whoever it acts as at the moment."""
    return os.getuid() == 0


@contextlib.contextmanager
def as_root() -> Iterator[None]:
    """Acts as root in the block, where this process may; else as it is."""
    before = os.geteuid()
    if before == 0 or not is_root():
        yield
        return
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(before)
