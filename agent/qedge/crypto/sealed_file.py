"""Secrets of the operator at rest: scrypt (RFC 7914) makes a key of the passphrase, AES-256-GCM seals. Pure.

`"QS" | version (1) | log2 N (1) | r (1) | p (1) | salt (16) | nonce (12) | ciphertext | tag (16)`; everything before
the ciphertext is bound into the tag, so that nobody can make the passphrase cheaper to guess.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes

_HEAD: Final = struct.Struct(">2sBBBB16s12s")
_MAGIC: Final = b"QS"
_VERSION: Final = 1
_MAX_LOG_N: Final = 20
_MAX_BYTES: Final = 64 * 1024
MIN_PASSPHRASE: Final = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What a guess at the passphrase costs: about 128 · r · 2^log_n bytes of memory, p times."""

    log_n: int = 17
    r: int = 8
    p: int = 1


DEFAULT_COST: Final = Cost()


def seal_secret(secret: bytes, passphrase: str, random_bytes: RandomBytes, cost: Cost = DEFAULT_COST) -> bytes:
    """Seal `secret`; raises `fleet.weak_passphrase` for one of fewer than 8 characters."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise QedgeError(
            "fleet.weak_passphrase",
            f"The passphrase is shorter than {MIN_PASSPHRASE} characters.",
            fix="Choose several random words.",
        )
    salt, nonce = random_bytes(16), random_bytes(12)
    head = _HEAD.pack(_MAGIC, _VERSION, cost.log_n, cost.r, cost.p, salt, nonce)
    return head + AESGCM(_stretch(passphrase, salt, cost)).encrypt(nonce, secret, head)


def open_secret(data: bytes, passphrase: str) -> bytes:
    """Open what `seal_secret` made; raises `fleet.bad_passphrase` whatever is wrong, also with the file."""
    try:
        magic, version, log_n, r, p, salt, nonce = _HEAD.unpack_from(data)
        if magic != _MAGIC or version != _VERSION or log_n > _MAX_LOG_N or len(data) > _MAX_BYTES:
            raise ValueError("no sealed file")
        key = _stretch(passphrase, salt, Cost(log_n, r, p))
        return AESGCM(key).decrypt(nonce, data[_HEAD.size :], data[: _HEAD.size])
    except (ValueError, struct.error, InvalidTag, MemoryError):
        raise QedgeError(
            "fleet.bad_passphrase",
            "The passphrase is wrong, or the file of the authority was altered.",
            fix="Try again; without the passphrase the fleet has to be founded anew.",
        ) from None


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    memory = 256 * cost.r * 2**cost.log_n + 2**20
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=2**cost.log_n, r=cost.r, p=cost.p, maxmem=memory, dklen=32)
