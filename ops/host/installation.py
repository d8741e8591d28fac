"""Where this toolkit lies on a host that it was sent to: a folder for each release, and a link to the one in use.

Knows: the releases beside the one that this runs from. Must not know: how one comes there, what runs from one.

    FOLDER/releases/FINGERPRINT/bin/python    of one release
    FOLDER/current -> releases/FINGERPRINT    what is started at boot goes by this name, and so takes the newest

A process that was started through the link goes on as if by the release itself: else it would import what it needs
later from another release, once the link is replaced.
"""

from __future__ import annotations

import contextlib
import os
import sys

_RELEASES, _CURRENT = "releases", "current"


def release() -> str:
    """The folder of the release that this runs from; "" where it runs from a checkout or an environment."""
    folder = os.path.realpath(sys.prefix)
    return folder if os.path.basename(os.path.dirname(folder)) == _RELEASES else ""


def lasting(path: str) -> str:
    """The same file by the name that it has in whichever release is in use."""
    mine = release()
    link = os.path.join(os.path.dirname(os.path.dirname(mine)), _CURRENT)
    if not mine or not os.path.islink(link):
        return path
    for begin in (mine, sys.prefix):
        if path.startswith(begin + os.sep):
            return link + path[len(begin) :]
    return path


def settle_in(arguments: list[str]) -> None:
    """Goes on from the release itself, with the same pid, when this was started through the link."""
    mine = release()
    if mine and sys.prefix != mine:
        program = os.path.join(mine, os.path.relpath(os.path.abspath(arguments[0]), sys.prefix))
        python = os.path.join(mine, os.path.relpath(sys.executable, sys.prefix))
        os.execv(python, [python, "-I", program, *arguments[1:]])


def others() -> list[str]:
    """The folders of all other releases, the oldest first."""
    mine = release()
    if not mine:
        return []
    above = os.path.dirname(mine)
    found = [os.path.join(above, name) for name in os.listdir(above) if not name.startswith(".")]
    return sorted((path for path in found if path != mine), key=os.path.getmtime)


def remove(folder: str) -> None:
    """Removes a release that nothing runs from."""
    import shutil

    with contextlib.suppress(OSError):
        os.rename(folder, f"{folder}.gone")  # not half a release, should this be ended
        shutil.rmtree(f"{folder}.gone", ignore_errors=True)
