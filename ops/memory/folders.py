"""Where the state folder of a stack lies.

Knows: the platform's user-state folder, $OPS_STATE, whose project it is. Must not know: what is in the folder.
"""

from __future__ import annotations

import os
import sys


def folder_of(stack: str, root: str) -> str:
    """The state folder of a stack that lies in a folder: this user's; but for root, who works for another user's in
    that user's project, theirs, as long as root has none of its own."""
    mine = folder_for(stack)
    if os.environ.get("OPS_STATE") or os.geteuid() != 0 or os.path.isdir(mine):
        return mine
    theirs = folder_of_owner(stack, root)
    return theirs if theirs and os.path.isdir(theirs) else mine


def folder_of_owner(stack: str, root: str) -> str:
    """Where the owner of a project keeps its state, should that not be root; "" if it is."""
    import pwd

    try:
        owner = os.stat(root).st_uid
        home = pwd.getpwuid(owner).pw_dir
    except (OSError, KeyError):
        return ""
    below = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    return os.path.join(home, below, stack) if owner else ""


def folder_for(stack: str) -> str:
    """$OPS_STATE, or the platform's user-state folder plus the stack's name."""
    chosen = os.environ.get("OPS_STATE")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    if sys.platform == "darwin":
        return os.path.expanduser(f"~/Library/Application Support/{stack}")
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), stack)
