"""Readings sealed for the one who reads upstream, and signed by the node; no broker or bridge can open them. Pure.

HPKE (RFC 9180) with X-Wing, HKDF-SHA-256 and AES-256-GCM, one encapsulation for each message, so that each can be
opened by itself whatever became of the others; it costs some tenths of a millisecond for hundreds of readings. `info`
is `"qedge/v1 onward" ‖ fleet ‖ node ‖ recipient`, each after its length in two bytes. HPKE with X-Wing authenticates
nobody: the signature around it does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.signed import open_signed
from qedge.crypto.trust import Trust
from qedge.wire.envelope import bad_message
from qedge.wire.segments import OnwardReadings, OnwardSealed

_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_PUBLIC: Final = "qedge-upstream-public/1"
_SECRET: Final = "qedge-upstream-secret/1"  # noqa: S105 - the name of a file format
_MLKEM_PUBLIC_BYTES: Final = 1184
_MLKEM_SEED_BYTES: Final = 64
_X25519_BYTES: Final = 32
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(OnwardReadings)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who reads: the public key, and its id (the first 16 bytes of its SHA3-256, in hex)."""

    id: str
    mlkem: bytes
    x25519: bytes


def new_recipient(random_bytes: RandomBytes) -> tuple[str, str]:
    """Make a pair of keys; returns the text of the secret file and that of the public one."""
    seed, scalar = random_bytes(_MLKEM_SEED_BYTES), random_bytes(_X25519_BYTES)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()
    return _write(_SECRET, seed + scalar), _write(_PUBLIC, mlkem + x25519)


def read_recipient(text: str) -> Recipient:
    """Read a public file; raises `config.unreadable`."""
    data = _read(_PUBLIC, text, _MLKEM_PUBLIC_BYTES + _X25519_BYTES)
    mlkem, x25519 = data[:_MLKEM_PUBLIC_BYTES], data[_MLKEM_PUBLIC_BYTES:]
    try:
        MLKEM768PublicKey.from_public_bytes(mlkem)
    except ValueError as error:
        raise QedgeError("config.unreadable", f"The key of the upstream is none ({error}).") from None
    return Recipient(_key_id(data), mlkem, x25519)


class OnwardSealer:
    """Seals for one recipient."""

    def __init__(self, fleet: str, node: str, recipient: Recipient) -> None:
        self._recipient = recipient.id
        self._key = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(recipient.mlkem), X25519PublicKey.from_public_bytes(recipient.x25519)
        )
        self._info = _info(fleet, node, recipient.id)

    def seal(self, readings: OnwardReadings) -> OnwardSealed:
        """Seal readings."""
        return OnwardSealed(self._recipient, _SUITE.encrypt(_ENCODE(readings), self._key, self._info))


class OnwardOpener:
    """The other side: opens what nodes of a fleet send; `secret` is the text of the secret file."""

    def __init__(self, secret: str) -> None:
        data = _read(_SECRET, secret, _MLKEM_SEED_BYTES + _X25519_BYTES)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(data[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(data[_MLKEM_SEED_BYTES:])
        self._key = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.id = _key_id(mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw())

    def open(self, data: bytes, topic: str, trust: Trust, utc_ns: int) -> tuple[str, OnwardReadings]:
        """Check and open a message that came on `topic`; returns the node and its readings.

        Raises what `open_signed` raises, and `bus.bad_message` for one that is not for this recipient.
        """
        header, sealed, member = open_signed(data, topic, OnwardSealed, trust, utc_ns)
        return header.sender, self.open_sealed(sealed, member.subject.fleet, header.sender)

    def open_sealed(self, sealed: OnwardSealed, fleet: str, node: str) -> OnwardReadings:
        """Open what `node` sealed; raises `bus.bad_message`."""
        if sealed.recipient != self.id:
            raise bad_message("it is for another recipient")
        try:
            return _DECODER.decode(_SUITE.decrypt(sealed.sealed, self._key, _info(fleet, node, self.id)))
        except (InvalidTag, ValueError, msgspec.DecodeError, RecursionError):
            raise bad_message("it does not open") from None


def _info(*names: str) -> bytes:
    parts = (b"qedge/v1 onward", *(name.encode() for name in names))
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _key_id(public: bytes) -> str:
    return hashlib.sha3_256(public).digest()[:16].hex()


def _write(kind: str, data: bytes) -> str:
    return f"{kind} {base64.b64encode(data).decode()}\n"


def _read(kind: str, text: str, size: int) -> bytes:
    word, _, rest = text.strip().partition(" ")
    try:
        data = base64.b64decode(rest, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if word != kind or len(data) != size:
        raise QedgeError("config.unreadable", f"A key of the upstream is not a file of {kind}.", fix="Make a new pair.")
    return data
