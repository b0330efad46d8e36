"""How two ends find out that a block is the same at both, and how a relayed key is kept from being altered. Pure.

Both are one-time authenticators (Poly1305, RFC 8439 §2.5) whose 32-byte keys are secret key bits that are used for
nothing else: the value that goes over the wire is masked by 128 uniform bits, so it tells a listener nothing about the
rest, however much he can compute. Two blocks that differ pass for the same with a chance of at most 8⌈L/16⌉ 2^−106.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.poly1305 import Poly1305

from qedge.wire.keys import KeyGrant

CHECK_BYTES: Final = 32
"""The last bytes of every block, which never become part of a key."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode


def commit(link: str, block: int, bits: bytes) -> tuple[bytes, bytes]:
    """Return the usable bytes of a block and its tag; the block's last 32 bytes are used up for it."""
    usable, key = bits[:-CHECK_BYTES], bits[-CHECK_BYTES:]
    name = link.encode()
    return usable, Poly1305.generate_tag(key, len(name).to_bytes(1, "big") + name + block.to_bytes(8, "big") + usable)


def authenticate(grant: KeyGrant, key: bytes) -> KeyGrant:
    """Return a relaying grant with its tag; `key` is the 32 bytes behind its one-time pad."""
    return msgspec.structs.replace(grant, mac=Poly1305.generate_tag(key, _ENCODE(_bare(grant))))


def is_authentic(grant: KeyGrant, key: bytes) -> bool:
    """Say whether a relaying grant is as its sender made it."""
    try:
        Poly1305.verify_tag(key, _ENCODE(_bare(grant)), grant.mac)
    except (InvalidSignature, ValueError):
        return False
    return True


def _bare(grant: KeyGrant) -> KeyGrant:
    return msgspec.structs.replace(grant, mac=b"")


def mask(data: bytes, pad: bytes) -> bytes:
    """XOR two byte strings of one length: the one-time pad, both ways."""
    if len(data) != len(pad):
        raise ValueError("a one-time pad is as long as what it covers")
    return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(len(data), "little")
