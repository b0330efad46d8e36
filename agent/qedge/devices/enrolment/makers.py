"""Makers of devices: X.509 chains (IEEE 802.1AR IDevID) that lead to a configured authority.

A maker's chain only vouches: who made the device, and its serial number, which becomes its name, so that one maker's
certificate makes one device. Identity at the node is always the device's own ML-DSA key. The chain may be classical
(ECDSA, Ed25519, RSA), as makers have them today: whoever breaks it can add a device that policy then knows as one of
that maker, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from qedge.base.errors import QedgeError
from qedge.base.ids import is_name

VOUCH_CONTEXT: Final = b"qedge/v1/device-vouch"
MAX_CHAIN: Final = 4
_MIN_RSA_BITS: Final = 2048

_UNREADABLE: Final = (
    VerificationError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    ValueError,
    TypeError,
)


class Makers:
    """The authorities of makers whose devices are believed; empty believes none."""

    def __init__(self, authorities: Sequence[x509.Certificate] = ()) -> None:
        self._store = Store(list(authorities)) if authorities else None

    @classmethod
    def from_pem(cls, texts: Sequence[bytes]) -> Makers:
        """Read files of certificates; raises `device.bad_maker` for one that cannot be read."""
        try:
            return cls([each for text in texts for each in x509.load_pem_x509_certificates(text)])
        except ValueError as error:
            raise QedgeError(
                "device.bad_maker",
                "A file with the authority of a maker cannot be read.",
                fix="It has to hold certificates in PEM; see devices.enrolment.manufacturer_files.",
            ) from error

    def check(self, chain: Sequence[bytes], signature: bytes, message: bytes, utc_ns: int) -> str:
        """Return the name of the device that a chain (DER, leaf first) vouches for; raises `device.refused`."""
        if self._store is None or not 1 <= len(chain) <= MAX_CHAIN:
            raise _refused("no maker of this node is behind it")
        try:
            leaf, *between = (x509.load_der_x509_certificate(each) for each in chain)
            policy = PolicyBuilder().store(self._store).time(datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC))
            policy = policy.max_chain_depth(MAX_CHAIN - 1).extension_policies(
                ee_policy=ExtensionPolicy.permit_all(), ca_policy=ExtensionPolicy.webpki_defaults_ca()
            )
            policy.build_client_verifier().verify(leaf, between)
            _verify(leaf.public_key(), signature, message)
        except _UNREADABLE as error:
            raise _refused("its maker's certificate is not good") from error
        return _serial_number(leaf)


def _verify(key: object, signature: bytes, message: bytes) -> None:
    """Check a signature by whatever key a maker uses; raises `InvalidSignature`, `TypeError` for other keys."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hashes.SHA384() if key.key_size > 256 else hashes.SHA256()))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)):
        key.verify(signature, message, VOUCH_CONTEXT)
    else:
        raise TypeError("a key that makers do not use")


def _serial_number(leaf: x509.Certificate) -> str:
    """Return the serial number of the product, else the common name; raises `device.refused` where it is no name."""
    for kind in (NameOID.SERIAL_NUMBER, NameOID.COMMON_NAME):
        for attribute in leaf.subject.get_attributes_for_oid(kind):
            text = str(attribute.value)
            if is_name(text) and not text.startswith("_"):
                return text
    raise _refused("its maker's certificate has no serial number that can be a name")


def _refused(why: str) -> QedgeError:
    return QedgeError("device.refused", f"A device is not let in: {why}.")
