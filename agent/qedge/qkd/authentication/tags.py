"""Tags on everything one end said in a block, unforgeable without any computational assumption.

tag = (h_r(M) + s) mod 2^128, h the Poly1305 polynomial over GF(2^130 − 5) (Bernstein 2005), that is Wegman and Carter's
construction (1981) with a hash key `r` that is used again and a pad `s` that never is: as long as the pads are uniform,
tags tell nothing of `r` (Portmann 2014, arXiv:1202.1229). Whoever sees one valid tag forges another message with chance
at most 8⌈L/16⌉ · 2^−106 for L bytes. Poly1305 is taken because `cryptography` has it and hashes 9 GB/s; a tag costs
128 bits of key, where a fresh `r` for each would cost 256.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.poly1305 import Poly1305

TAG_BYTES: Final = 16
HASH_KEY_BYTES: Final = 16
PAD_BYTES: Final = 16
_LENGTH_BYTES: Final = 8


class Transcript:
    """What one end said in one block, message by message, as it stands on the wire.

    `context` binds what both ends must agree on besides: link, direction, terms, block.
    """

    def __init__(self, context: bytes) -> None:
        self._parts = [context]
        self._bytes = len(context) + _LENGTH_BYTES

    def add(self, message: bytes) -> None:
        """Note one message, sent or received."""
        self._parts.append(message)
        self._bytes += len(message) + _LENGTH_BYTES

    @property
    def num_bytes(self) -> int:
        """How many bytes a tag over all of it covers, lengths included."""
        return self._bytes + _LENGTH_BYTES

    def tag(self, key: bytes, label: bytes) -> bytes:
        """Return the tag of all messages so far under `key` = hash key ‖ pad (32 bytes); `label` names its place."""
        return compute_tag(key, (label, *self._parts))

    def agrees(self, key: bytes, label: bytes, tag: bytes) -> bool:
        """Say whether the other end heard the same."""
        return hmac.compare_digest(self.tag(key, label), tag)


def compute_tag(key: bytes, parts: Iterable[bytes]) -> bytes:
    """Hash byte strings, each with its length (u64, little-endian) in front, so that no two lists give one message."""
    sponge = Poly1305(key)
    for part in parts:
        sponge.update(len(part).to_bytes(_LENGTH_BYTES, "little"))
        sponge.update(part)
    return sponge.finalize()


def forgery_bound(num_bytes: int) -> float:
    """Return the largest chance that one forged tag over a message of `num_bytes` is taken."""
    return math.ldexp(8.0 * -(-max(num_bytes, 1) // 16), -106)
