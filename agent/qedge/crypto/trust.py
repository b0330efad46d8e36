"""Whom a node believes: chains that lead to its fleet's anchor, and are not revoked."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from qedge.base.errors import QedgeError
from qedge.crypto.certificates import MAX_DER_BYTES, roles_of, subject_of
from qedge.crypto.config import WhenOld
from qedge.crypto.keys import PublicKey, SigningKey
from qedge.crypto.model import Member, Role, Subject
from qedge.wire.policy import PolicyBundle, SignedPolicy
from qedge.wire.trust import AUTHORITY, Anchor, Der, Revocations

MAX_CHAIN: Final = 2
REVOCATIONS_PURPOSE: Final = "revocations"
POLICY_PURPOSE: Final = "policy"
_CACHE_SIZE: Final = 4096
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_UNREADABLE: Final = (
    x509.InvalidVersion,  # which is no ValueError
    ValueError,
    TypeError,
    OverflowError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
)


class SignedRevocations(msgspec.Struct, frozen=True, tag_field="type", tag="signed-revocations/1"):
    """A list of revoked keys as its authority signed it: `body` is an encoded `Revocations`."""

    body: Annotated[bytes, msgspec.Meta(max_length=190 * 1024)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]
    issuer: Der


def pin(anchor: Anchor) -> bytes:
    """Return the 32 bytes by which an invitation names a fleet: SHA3-256 of the encoded anchor."""
    return hashlib.sha3_256(_ENCODE(anchor)).digest()


def sign_revocations(revocations: Revocations, issuing_key: SigningKey, issuing_der: bytes) -> bytes:
    """Sign a list of revoked keys."""
    body = _ENCODE(revocations)
    return _ENCODE(SignedRevocations(body, issuing_key.sign(body, REVOCATIONS_PURPOSE), issuing_der))


def sign_policy(bundle: PolicyBundle, issuing_key: SigningKey, issuing_der: bytes) -> bytes:
    """Sign a policy of a whole fleet."""
    body = _ENCODE(bundle)
    return _ENCODE(SignedPolicy(body, issuing_key.sign(body, POLICY_PURPOSE), issuing_der))


class Trust:
    """What one fleet's anchor vouches for. Not changed by anything but a newer list of revoked keys."""

    def __init__(self, anchor: Anchor, fleet: str) -> None:
        """Read the anchor; raises `auth.untrusted` where its root is none."""
        self.anchor = anchor
        self.fleet = fleet
        self.serial = 0
        """Serial of the newest list of revoked keys; 0: none is known."""
        self.revoked_keys: frozenset[str] = frozenset()
        self.list_utc_ns = 0
        """When the authority signed that list; 0: none is known."""
        self.max_age_ns = 0
        """Age beyond which the list is too old; 0: no list ever is."""
        self.when_old: WhenOld = "tell"
        self._cache: OrderedDict[bytes, Member] = OrderedDict()
        if anchor.fleet != fleet:
            raise _untrusted("the anchor is of another fleet")
        self._root = _load(anchor.root)
        try:
            self._root.verify_directly_issued_by(self._root)
            constraints = self._root.extensions.get_extension_for_class(x509.BasicConstraints).value
        except _UNREADABLE as error:
            raise _untrusted("the anchor's root is not sound") from error
        if not constraints.ca:
            raise _untrusted("the anchor's root is no authority")

    def read(self, chain: tuple[bytes, ...]) -> Member:
        """Check a chain in everything but time and revocation; raises `auth.untrusted`."""
        digest = _digest(chain)
        member = self._cache.get(digest)
        if member is None:
            member = self._check(chain)
            self._cache[digest] = member
            if len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return member

    def knows(self, chain: tuple[bytes, ...]) -> bool:
        """Say whether a chain was checked before, so that `read` and `verify` take no signature's time."""
        return _digest(chain) in self._cache

    def verify(self, chain: tuple[bytes, ...], utc_ns: int, *, role: Role = Role.NODE, name: str = "") -> Member:
        """Check a chain, leaf first, as it stands at `utc_ns`; `name` empty: any.

        Raises `auth.untrusted` for a chain that does not lead to the anchor, is not valid now or is of somebody else,
        `auth.revoked` for a key that counts no more.
        """
        member = self.read(chain)
        if member.subject.role is not role or (name and member.subject.name != name):
            raise _untrusted(f"the certificate is of {member.subject.uri}")
        self._check_time(member, utc_ns)
        if self.when_old == "refuse-peers" or (self.when_old == "refuse-commands" and role is not Role.NODE):
            self.check_list(utc_ns)
        if member.key_id in self.revoked_keys:
            raise QedgeError(
                "auth.revoked", f"The key of {member.subject.name} was revoked.", fix="Enrol the node again."
            )
        return member

    def is_revoked(self, key_id: str) -> bool:
        """Say whether a key counts no more."""
        return key_id in self.revoked_keys

    def list_is_old(self, utc_ns: int) -> bool:
        """Say whether the list of revoked keys is older than it may be; one that never came is."""
        return bool(self.max_age_ns) and utc_ns - self.list_utc_ns > self.max_age_ns

    def check_list(self, utc_ns: int) -> None:
        """Raise `auth.list_too_old` where nobody can know whom to refuse."""
        if self.list_is_old(utc_ns):
            raise QedgeError(
                "auth.list_too_old",
                "The list of revoked keys is too old to tell whose key still counts.",
                fix="Sign it anew where the fleet's authority is: `qedge fleet relist`.",
            )

    def take_revocations(self, signed: bytes, utc_ns: int) -> bool:
        """Take a signed list; says whether it is newer than the one known. A list never becomes older or shorter.

        Raises `auth.bad_signature` or `auth.untrusted` for one that the fleet's authority did not sign.
        """
        try:
            outer = msgspec.msgpack.decode(signed, type=SignedRevocations)
            revocations = msgspec.msgpack.decode(outer.body, type=Revocations)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise QedgeError("auth.bad_signature", "A list of revoked keys cannot be read.") from error
        if revocations.fleet != self.fleet:
            raise _untrusted("the list of revoked keys is of another fleet")
        if revocations.serial <= self.serial:
            return False
        self.check_authority(outer.issuer, outer.signature, outer.body, REVOCATIONS_PURPOSE)
        self.serial, self.list_utc_ns = revocations.serial, revocations.utc_ns
        self.revoked_keys |= {entry.key_id for entry in revocations.entries}
        return True

    def check_authority(self, issuer: bytes, signature: bytes, body: bytes, purpose: str) -> None:
        """Raise `auth.untrusted` or `auth.bad_signature` where the fleet's authority did not sign `body`."""
        self._issuing(_load(issuer)).verify(signature, body, purpose)

    def check_issuing(self, der: bytes, key_id: str) -> None:
        """Raise `auth.untrusted` where `der` is not the anchor's certificate of the issuing key `key_id`."""
        if self._issuing(_load(der)).key_id != key_id:
            raise _untrusted("it is of another issuing key")

    def _check(self, chain: tuple[bytes, ...]) -> Member:
        if len(chain) != MAX_CHAIN:
            raise _untrusted("a chain is a certificate and its issuer")
        leaf, issuing = _load(chain[0]), _load(chain[1])
        try:
            self._issuing(issuing)
            leaf.verify_directly_issued_by(issuing)
            extensions = leaf.extensions
            subject = subject_of(extensions)
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
            purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
            public_key = PublicKey(leaf.public_key())
            roles = roles_of(leaf)
        except _UNREADABLE as error:
            raise _untrusted("it does not lead to the anchor of the fleet") from error
        if subject is None or subject.fleet != self.fleet:
            raise _untrusted("it does not name one member of the fleet")
        allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
        if constraints.ca or not usage.digital_signature or usage.key_cert_sign or not allowed <= purposes:
            raise _untrusted("the certificate is for another use")
        starts = max(_utc_ns(each.not_valid_before_utc) for each in (leaf, issuing))
        ends = min(_utc_ns(each.not_valid_after_utc) for each in (leaf, issuing, self._root))
        roles = roles if subject.role is Role.OPERATOR else frozenset()
        return Member(subject, public_key.key_id, public_key, public_key.algorithm, starts, ends, chain, roles)

    def _issuing(self, certificate: x509.Certificate) -> PublicKey:
        """Check the certificate of an issuing key and return the key; raises `auth.untrusted`."""
        try:
            certificate.verify_directly_issued_by(self._root)
            extensions = certificate.extensions
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
            subject = subject_of(extensions)
            public_key = PublicKey(certificate.public_key())
        except _UNREADABLE as error:
            raise _untrusted("its issuer is not certified by the anchor") from error
        if not constraints.ca or not usage.key_cert_sign or subject != Subject(self.fleet, Role.AUTHORITY, AUTHORITY):
            raise _untrusted("its issuer is no authority of the fleet")
        return public_key

    def _check_time(self, member: Member, utc_ns: int) -> None:
        if utc_ns < member.not_before_utc_ns:
            raise _untrusted("the certificate is not valid yet; is the clock right?")
        if utc_ns > member.not_after_utc_ns:
            raise _untrusted("the certificate has expired")


def _digest(chain: tuple[bytes, ...]) -> bytes:
    return hashlib.sha256(b"".join(len(each).to_bytes(4, "big") + each for each in chain)).digest()


def _load(der: bytes) -> x509.Certificate:
    if not 0 < len(der) <= MAX_DER_BYTES:
        raise _untrusted("a certificate has no possible size")
    try:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.public_bytes(serialization.Encoding.DER) != der:
            raise _untrusted("a certificate is not written as DER")
    except _UNREADABLE as error:
        raise _untrusted("a certificate cannot be read") from error
    return certificate


def _utc_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _untrusted(why: str) -> QedgeError:
    return QedgeError(
        "auth.untrusted", f"A certificate is not believed: {why}.", fix="Was the box enrolled in this fleet?"
    )
