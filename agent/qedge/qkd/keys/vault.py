"""Key material at rest: AES-256-GCM, every piece under a key of its own, all under one wrapping key. Pure.

    K(label, context) = HMAC-SHA256(wrapping key, 00000001 ‖ label ‖ 00 ‖ context ‖ 00000100)    SP 800-108r1 §4.1
    page of a block:  a random data key seals it; the data key is sealed under K("page", 16 random bytes)
    copy of a key:    sealed under K("copy", grant id ‖ key id); a pair that occurs once in a node

As no key seals twice, all nonces are zero. Destroying the 48 bytes of a sealed data key destroys its page.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes

PAGE_BYTES: Final = 16 * 1024
KEY_BYTES: Final = 32
_NONCE: Final = bytes(12)
_SALT_BYTES: Final = 16


class Vault:
    """Seals and opens with one wrapping key of 32 bytes."""

    def __init__(self, wrapping_key: bytes) -> None:
        if len(wrapping_key) != KEY_BYTES:
            raise ValueError("a wrapping key has 32 bytes")
        self._key = wrapping_key

    def __repr__(self) -> str:
        return "<vault>"

    def fingerprint(self) -> str:
        """Return what shows that a database belongs to this wrapping key, and nothing else of it."""
        return self._derive(b"qedge key store, fingerprint", b"").hex()[:32]

    def seal_page(self, page: bytes, place: bytes, random_bytes: RandomBytes) -> tuple[bytes, bytes]:
        """Return the sealed data key and the sealed page; `place` says where the page belongs."""
        data_key, salt = random_bytes(KEY_BYTES), random_bytes(_SALT_BYTES)
        wrapped = AESGCM(self._derive(b"qedge key store, page", salt)).encrypt(_NONCE, data_key, place)
        return salt + wrapped, AESGCM(data_key).encrypt(_NONCE, page, place)

    def open_page(self, wrapped: bytes, sealed: bytes, place: bytes) -> bytes:
        """Open a page; raises `qkd.store_damaged`."""
        salt = wrapped[:_SALT_BYTES]
        try:
            data_key = AESGCM(self._derive(b"qedge key store, page", salt)).decrypt(
                _NONCE, wrapped[_SALT_BYTES:], place
            )
            return AESGCM(data_key).decrypt(_NONCE, sealed, place)
        except InvalidTag:
            raise _damaged() from None

    def seal_copy(self, key: bytes, grant_id: bytes, key_id: bytes) -> bytes:
        """Seal the copy of a key that waits to be collected."""
        return AESGCM(self._derive(b"qedge key store, copy", grant_id + key_id)).encrypt(_NONCE, key, None)

    def open_copy(self, sealed: bytes, grant_id: bytes, key_id: bytes) -> bytes:
        """Open a copy; raises `qkd.store_damaged`."""
        try:
            return AESGCM(self._derive(b"qedge key store, copy", grant_id + key_id)).decrypt(_NONCE, sealed, None)
        except InvalidTag:
            raise _damaged() from None

    def _derive(self, label: bytes, context: bytes) -> bytes:
        return hmac.digest(self._key, b"\0\0\0\1" + label + b"\0" + context + b"\0\0\1\0", "sha256")


def _damaged() -> QedgeError:
    return QedgeError(
        "qkd.store_damaged",
        "Stored key material does not open: it was altered.",
        fix="Discard the link's keys at both ends and look at the disk.",
    )
