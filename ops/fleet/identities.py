"""Identities: key files of whoever runs this, and their public halves.

Knows: where ssh(1) looks for keys, the public part of a key file, which no passphrase hides. Must not know: private
keys, the agent, who accepts a key.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct

_MAGIC = b"openssh-key-v1\0"
_ARMOUR = "-----BEGIN OPENSSH PRIVATE KEY-----"


def usual() -> tuple[str, ...]:
    """The key files that are tried when none is named: those of them that exist."""
    places = [os.path.expanduser(f"~/.ssh/id_{kind}") for kind in ("ed25519", "ecdsa", "rsa")]
    return tuple(place for place in places if os.path.exists(place))


def public(path: str) -> bytes | None:
    """The public key that belongs to the file, as it travels; the file may be the public one itself. None when there
    is nothing that tells."""
    for place in dict.fromkeys((path.removesuffix(".pub") + ".pub", path)):
        try:
            with open(place, encoding="ascii") as file:
                return _private_header(file.read(65_536)) if place == path else _one_line(file.readline())
        except (OSError, ValueError, IndexError, struct.error):
            continue
    return None


def _one_line(text: str) -> bytes:
    return base64.b64decode(text.split()[1], validate=True)


def _private_header(text: str) -> bytes:
    """The public key in front of an encrypted part. Source of the format: PROTOCOL.key of OpenSSH."""
    if not text.startswith(_ARMOUR):
        return _one_line(text)
    data = binascii.a2b_base64("".join(text.split("\n")[1:-2]))
    if not data.startswith(_MAGIC):
        raise ValueError("another format")
    at = len(_MAGIC)
    for _ in range(3):  # the cipher, the key derivation, its options
        at += 4 + struct.unpack_from(">I", data, at)[0]
    (size,) = struct.unpack_from(">I", data, at + 4)  # after the number of keys
    return data[at + 8 : at + 8 + size]
