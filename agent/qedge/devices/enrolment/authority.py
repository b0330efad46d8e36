"""The node as the authority of its own devices. Pure.

A fleet's issuing key is with the operator, and a fleet of one has none, so a node certifies its devices with a key of
its own: an ML-DSA-65 authority for which its identity key vouches by a signed delegation (decision 0051). What the
node says to devices (key statements, answers to enrolments) its identity key signs itself; devices know that by pin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.certificates import make_device_authority, make_leaf
from qedge.crypto.keys import PublicKey, SigningKey, generate
from qedge.crypto.model import Role, Subject
from qedge.crypto.signed import ShowsChain, chain_now
from qedge.wire.gateway import DeviceDelegation, SignedByNode
from qedge_device.agreement import XWING_SEED_BYTES, XWingKey
from qedge_device.enrolling import KemStatement, kem_id_of, pin_of

DELEGATION_PURPOSE: Final = "device-delegation"
WELCOME_PURPOSE: Final = "device-welcome"
KEM_PURPOSE: Final = "device-kem"
AUTHORITY_DAYS: Final = 3650
KEM_KEYS_KEPT: Final = 2
_SECOND_NS: Final = 1_000_000_000
_DAY_S: Final = 86_400
_ENCODE: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class NodeKey:
    """One of the node's keys for its devices. `document`: the certificate of an `authority`, the statement of a `kem`.

    `signer` is the id of the identity key that stands behind it: with another identity it counts no more.
    """

    kind: str
    serial: int
    fleet: str
    node: str
    signer: str
    seed: bytes
    document: bytes
    until_utc_ns: int

    def __repr__(self) -> str:
        return f"<key {self.kind} {self.serial}>"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who the node is: names, identity key and the chain that certifies it."""

    fleet: str
    node: str
    key: SigningKey
    chain: ShowsChain


def make_authority(identity: NodeIdentity, utc_ns: int, random_bytes: RandomBytes) -> NodeKey:
    """Make the key that certifies devices."""
    key = generate("ml-dsa-65", random_bytes)
    der = make_device_authority(identity.fleet, identity.node, key, utc_ns, random_bytes, AUTHORITY_DAYS)
    until = utc_ns + AUTHORITY_DAYS * _DAY_S * _SECOND_NS
    return _node_key("authority", 1, identity, key.seed, der, until)


def make_kem(identity: NodeIdentity, serial: int, utc_ns: int, life_s: float, random_bytes: RandomBytes) -> NodeKey:
    """Make a key to which devices seal, and the statement that the identity key signs."""
    seed = random_bytes(XWING_SEED_BYTES)
    until = utc_ns + round(life_s * _SECOND_NS)
    bare = KemStatement(identity.fleet, identity.node, serial, until // _SECOND_NS, XWingKey(seed).public_key)
    body = bare.body()
    signature = identity.key.sign(body, KEM_PURPOSE)
    return _node_key("kem", serial, identity, seed, body + len(signature).to_bytes(2, "big") + signature, until)


def _node_key(
    kind: str, serial: int, identity: NodeIdentity, seed: bytes, document: bytes, until_utc_ns: int
) -> NodeKey:
    return NodeKey(kind, serial, identity.fleet, identity.node, identity.key.key_id, seed, document, until_utc_ns)


def still_good(key: NodeKey, identity: NodeIdentity) -> bool:
    """Say whether a key that was kept is of this identity."""
    return (key.fleet, key.node, key.signer) == (identity.fleet, identity.node, identity.key.key_id)


def raw_public_key(key: SigningKey) -> tuple[int, bytes]:
    """Return the parameter (44, 65, 87) and the raw bytes of a key's public half."""
    return int(key.algorithm.rsplit("-", 1)[1]), key.public_key.library.public_bytes_raw()


def device_public_key(parameter: int, raw: bytes) -> PublicKey:
    """Read the raw key of a device; raises `auth.bad_key` for anything but ML-DSA-44 and ML-DSA-65."""
    try:
        if parameter == 44:
            return PublicKey(mldsa.MLDSA44PublicKey.from_public_bytes(raw))
        if parameter == 65:
            return PublicKey(mldsa.MLDSA65PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise QedgeError("auth.bad_key", "The key of a device cannot be read.") from error
    raise QedgeError("auth.bad_key", "The key of a device is of ML-DSA-44 or ML-DSA-65.")


class DeviceAuthority:
    """Certifies devices, and has the keys to which they seal: the newest and the one before."""

    def __init__(self, identity: NodeIdentity, authority: NodeKey, kem_keys: Sequence[NodeKey]) -> None:
        """Take the keys, `kem_keys` with the newest first; at least one."""
        self.identity = identity
        self.parameter, self.public_key = raw_public_key(identity.key)
        self.pin = pin_of(self.public_key)
        self.der = authority.document
        self._key = SigningKey("ml-dsa-65", authority.seed)
        self._kem: dict[bytes, XWingKey] = {}
        self._kem_keys: list[NodeKey] = []
        for key in reversed(kem_keys[:KEM_KEYS_KEPT]):
            self.take_kem(key)

    def __repr__(self) -> str:
        return f"<device authority of {self.identity.node}>"

    @property
    def newest(self) -> NodeKey:
        """The key to which devices shall seal."""
        return self._kem_keys[0]

    @property
    def statement(self) -> bytes:
        """The statement of the newest key."""
        return self._kem_keys[0].document

    def is_newest(self, kem_id: bytes) -> bool:
        """Say whether a device knows the newest key."""
        return next(reversed(self._kem)) == kem_id

    def kem(self, kem_id: bytes) -> XWingKey | None:
        """Return a key by its id, or None where it is not kept any more."""
        return self._kem.get(kem_id)

    def take_kem(self, key: NodeKey) -> None:
        """Make a key the newest; of older ones one stays."""
        made = XWingKey(key.seed)
        self._kem_keys = [key, *self._kem_keys][:KEM_KEYS_KEPT]
        self._kem[kem_id_of(made.public_key)] = made
        while len(self._kem) > KEM_KEYS_KEPT:
            del self._kem[next(iter(self._kem))]

    def certify(
        self, device: str, public_key: PublicKey, utc_ns: int, life_s: float, random_bytes: RandomBytes
    ) -> bytes:
        """Make the certificate of a device; DER. Takes milliseconds."""
        subject = Subject(self.identity.fleet, Role.DEVICE, device)
        days = max(1, round(life_s / _DAY_S))
        return make_leaf(subject, public_key, self.der, self._key, utc_ns, days, random_bytes)

    def sign(self, message: bytes, purpose: str) -> bytes:
        """Sign with the identity key. Takes milliseconds."""
        return self.identity.key.sign(message, purpose)

    def delegation(self, utc_ns: int) -> SignedByNode:
        """Say to peers that the authority certifies this node's devices."""
        said = DeviceDelegation(self.identity.fleet, self.identity.node, self.der, utc_ns)
        return signed_by(self.identity, _ENCODE(said), DELEGATION_PURPOSE)


def signed_by(identity: NodeIdentity, body: bytes, purpose: str) -> SignedByNode:
    """Sign an encoded struct with the identity key."""
    return SignedByNode(body, identity.key.sign(body, purpose), chain_now(identity.chain))


def is_own_certificate(der: bytes, authority_der: bytes) -> bool:
    """Say whether a certificate was made by an authority; time and revocation are not looked at."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(authority_der))
    except (ValueError, TypeError, x509.InvalidVersion, InvalidSignature):
        return False
    return certificate.public_bytes(serialization.Encoding.DER) == der
