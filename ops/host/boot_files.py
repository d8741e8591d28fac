"""Where the files lie by which systemd or launchd starts something of ours at boot.

Knows: those paths. Must not know: what stands in them, how either is told. Of its own, since `status` only asks whether
one is there.
"""

from __future__ import annotations

import os
import pwd


def unit(label: str, *, system: bool) -> str:
    """systemd's: the machine's, or this account's (not this shell's: the user's manager knows no other home)."""
    home = "" if system else pwd.getpwuid(os.geteuid()).pw_dir
    folder = "/etc/systemd/system" if system else os.path.join(home, ".config", "systemd", "user")
    return os.path.join(folder, f"{label}.service")


def property_list(label: str, *, system: bool) -> str:
    """launchd's: the machine's, or this user's."""
    folder = "/Library/LaunchDaemons" if system else os.path.expanduser("~/Library/LaunchAgents")
    return os.path.join(folder, f"{label}.plist")


def any_of(label: str) -> bool:
    """Whether one of them is there."""
    places = [find(label, system=system) for find in (unit, property_list) for system in (False, True)]
    return any(map(os.path.lexists, places))
