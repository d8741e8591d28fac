"""Host keys: what the known_hosts files say of a host, and one line more for a new one.

Knows: the format of known_hosts (names, patterns, hashed names, markers), fingerprints. Must not know: sockets, what
is done about an unknown or a changed key.

Source of the format: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import threading
from collections.abc import Iterator, Sequence

from ops.frozen import frozen

_writing = threading.Lock()


@frozen
class Known:
    """A key that a file gives a host. `blob` is the key as it travels."""

    kind: str
    blob: bytes
    path: str
    line: int
    revoked: bool = False

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def known(files: Sequence[str], name: str) -> list[Known]:
    """All keys that the files have for the name, in their order. A file that cannot be read knows none."""
    return [one for path in files for one in _in_file(path, name.lower())]


def _in_file(path: str, name: str) -> Iterator[Known]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        # A certificate authority vouches for certificates, which are not asked for here.
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        if _names(words[0], name):
            try:
                yield Known(words[1], base64.b64decode(words[2], validate=True), path, number, marker == "@revoked")
            except binascii.Error:
                continue


def _names(field: str, name: str) -> bool:
    """Whether the first field of a line means the host."""
    if field.startswith("|1|"):
        return _hashed(field, name)
    found = False
    for pattern in field.lower().split(","):
        # Brackets are part of `[address]:port`, not a set of letters.
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _hashed(field: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in field.split("|")[2:4])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def fingerprint(blob: bytes) -> str:
    """`SHA256:...`, as ssh(1) and ssh-keygen -l show it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def remember(path: str, name: str, kind: str, blob: bytes) -> None:
    """Appends the key to the file, which is made (0600) when it is missing; what it holds is left as it is. OSError
    when it cannot be written."""
    line = f"{name.lower()} {kind} {base64.b64encode(blob).decode()}\n"
    with _writing:
        if any(one.blob == blob for one in known([path], name)):
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, (_missing_end(file) + line).encode())  # one write: two programs do not mix their lines
        finally:
            os.close(file)


def _missing_end(file: int) -> str:
    size = os.fstat(file).st_size
    return "\n" if size and os.pread(file, 1, size - 1) != b"\n" else ""
