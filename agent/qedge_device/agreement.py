"""The public-key part of handshakes: HPKE with X-Wing (RFC 9180, KEM 0x647a) and ML-DSA (FIPS 204, pure).

Both halves of a session's secret are 32 random bytes sealed by HPKE: the device's for the node's key, the node's for a
key that the device makes for this session alone, so that a key stolen later opens nothing that was said before. The
device signs what it says over the node's nonce; the node proves itself by opening, and says so by the MAC.

Needs `cryptography` 50 or newer. Constrained devices never load this module.
"""

from __future__ import annotations

from typing import Union

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem, x25519

from qedge_device.enrolling import KemStatement
from qedge_device.messages import Opened, Prove, fields

XWING_BYTES = 1216
XWING_SEED_BYTES = 96
HALF_BYTES = 32
SEALED_BYTES = 1120 + HALF_BYTES + 16
SIGNATURE_SEED_BYTES = 32
SESSION_CONTEXT = b"qedge/v1/device-session"
ENROL_CONTEXT = b"qedge/v1/device-enrol"
WELCOME_CONTEXT = b"qedge/v1/device-welcome"
KEM_CONTEXT = b"qedge/v1/device-kem"

_MLKEM_BYTES = 1184
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_PrivateKey = Union[mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey]
_PublicKey = Union[mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey]
_PRIVATE: dict[int, type[_PrivateKey]] = {
    44: mldsa.MLDSA44PrivateKey,
    65: mldsa.MLDSA65PrivateKey,
    87: mldsa.MLDSA87PrivateKey,
}
_PUBLIC: dict[int, type[_PublicKey]] = {
    44: mldsa.MLDSA44PublicKey,
    65: mldsa.MLDSA65PublicKey,
    87: mldsa.MLDSA87PublicKey,
}


class AgreementError(Exception):
    """A key, a signature or a sealed half is not good. `reason` is `key`, `signature` or `open`."""

    def __init__(self, reason: str) -> None:
        super().__init__("handshake refused: " + reason)
        self.reason = reason


class XWingKey:
    """A private X-Wing key from 96 bytes: the seed of ML-KEM-768 (64, `d ‖ z`) and the private key of X25519 (32)."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != XWING_SEED_BYTES:
            raise AgreementError("key")
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed[:64])
        curve = x25519.X25519PrivateKey.from_private_bytes(seed[64:])
        self._key = hpke.MLKEM768X25519PrivateKey(kem, curve)
        self.public_key = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open a sealed half; raises `AgreementError` (`open`) whatever is wrong with it."""
        if len(sealed) != SEALED_BYTES:
            raise AgreementError("open")
        try:
            return _SUITE.decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise AgreementError("open") from None


def seal_half(half: bytes, public_key: bytes, info: bytes) -> bytes:
    """Seal 32 bytes for a raw X-Wing public key; raises `AgreementError` (`key`) where it is none."""
    if len(public_key) != XWING_BYTES:
        raise AgreementError("key")
    try:
        kem = mlkem.MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_BYTES])
        curve = x25519.X25519PublicKey.from_public_bytes(public_key[_MLKEM_BYTES:])
        return _SUITE.encrypt(half, hpke.MLKEM768X25519PublicKey(kem, curve), info)
    except ValueError:
        raise AgreementError("key") from None


class DeviceKey:
    """The ML-DSA key of a device, from its 32-byte seed. `parameter` is 44 or 65."""

    def __init__(self, parameter: int, seed: bytes) -> None:
        if parameter not in (44, 65) or len(seed) != SIGNATURE_SEED_BYTES:
            raise AgreementError("key")
        self.parameter = parameter
        self._key = _PRIVATE[parameter].from_seed_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes, context: bytes) -> bytes:
        """Sign; takes a fraction of a millisecond up to several."""
        return self._key.sign(message, context)


def verify(parameter: int, public_key: bytes, signature: bytes, message: bytes, context: bytes) -> None:
    """Check a signature; raises `AgreementError` (`key` or `signature`)."""
    if parameter not in _PUBLIC:
        raise AgreementError("key")
    try:
        key = _PUBLIC[parameter].from_public_bytes(public_key)
    except ValueError:
        raise AgreementError("key") from None
    try:
        key.verify(signature, message, context)
    except (InvalidSignature, ValueError):
        raise AgreementError("signature") from None


def verify_statement(statement: KemStatement, parameter: int, node_key: bytes) -> None:
    """Check that a node's identity key signed a key statement; raises `AgreementError`."""
    verify(parameter, node_key, statement.signature, statement.body(), KEM_CONTEXT)


def prove_info(name: bytes, prove: Prove) -> bytes:
    """Return what is bound into the device's half; `name` is `schedule.who`."""
    return fields(b"qedge/v1 device prove", name, prove.bound())


def prove_message(name: bytes, prove: Prove) -> bytes:
    """Return what the device signs."""
    return fields(b"qedge/v1 device proof", name, prove.body())


def open_info(name: bytes, hello_digest: bytes) -> bytes:
    """Return what is bound into the node's half: SHA-256 of the whole PROVE or ENROL that it answers."""
    return fields(b"qedge/v1 device open", name, hello_digest)


def opened_secret(device_half: bytes, opened: Opened, key: XWingKey, info: bytes) -> bytes:
    """Return the secret of a full session at the device: both halves after each other."""
    return device_half + key.open(opened.sealed, info)
