"""Certificates of a fleet: X.509 with ML-DSA (RFC 9881, RFC 5280). Made here, checked in `trust`.

root (ML-DSA-87, self-signed) → issuing (URI `…/authority/_authority`) → leaf (URI of the subject). The root and the
issuing key stay with the operator; leaves are what nodes show each other.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.keys import PublicKey, SigningKey
from qedge.crypto.model import Member, Role, Subject, parse_subject
from qedge.wire.commands import OperatorRole
from qedge.wire.trust import AUTHORITY

SKEW: Final = timedelta(minutes=5)
"""Certificates begin this much earlier, for boxes whose clock is behind."""

SERIAL_BYTES: Final = 19
MAX_DER_BYTES: Final = 16_384


def make_root(fleet: str, key: SigningKey, utc_ns: int, random_bytes: RandomBytes, days: int) -> bytes:
    """Make the self-signed certificate of a fleet's root; DER."""
    name = _name(f"{fleet} root")
    builder = _start(name, name, key.public_key, utc_ns, days, random_bytes)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    return _finish(builder, key)


def make_issuing(
    fleet: str,
    public_key: PublicKey,
    root_der: bytes,
    root_key: SigningKey,
    utc_ns: int,
    random_bytes: RandomBytes,
    days: int,
) -> bytes:
    """Make the certificate of the issuing key, which certifies members and signs lists of revoked keys; DER."""
    root = x509.load_der_x509_certificate(root_der)
    subject = Subject(fleet, Role.AUTHORITY, AUTHORITY)
    builder = _start(_name(f"{fleet} issuing"), root.subject, public_key, utc_ns, days, random_bytes)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True, certifies=True), critical=True)
    builder = builder.add_extension(_uri(subject), critical=False)
    builder = builder.add_extension(_issuer_id(root_key.public_key), critical=False)
    return _finish(builder, root_key)


def make_device_authority(
    fleet: str, node: str, key: SigningKey, utc_ns: int, random_bytes: RandomBytes, days: int
) -> bytes:
    """Make the self-signed certificate with which a node certifies its devices; DER.

    Nothing leads from it to the fleet's root but a delegation that the node's identity key signs (decision 0051).
    """
    name = _name(f"{fleet} devices of {node}")
    builder = _start(name, name, key.public_key, utc_ns, days, random_bytes)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(_uri(Subject(fleet, Role.AUTHORITY, node)), critical=False)
    return _finish(builder, key)


def make_leaf(
    subject: Subject,
    public_key: PublicKey,
    issuing_der: bytes,
    issuing_key: SigningKey,
    utc_ns: int,
    days: int,
    random_bytes: RandomBytes,
    *,
    roles: Collection[OperatorRole] = (),
) -> bytes:
    """Make the certificate of a member; DER. The roles of an operator are organizational units of its subject."""
    issuing = x509.load_der_x509_certificate(issuing_der)
    builder = _start(_name(subject.name, sorted(roles)), issuing.subject, public_key, utc_ns, days, random_bytes)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=True, certifies=False), critical=True)
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(_uri(subject), critical=False)
    builder = builder.add_extension(_issuer_id(issuing_key.public_key), critical=False)
    return _finish(builder, issuing_key)


def make_request(subject: Subject, key: SigningKey) -> bytes:
    """Make a signing request (PKCS#10, RFC 2986) that proves possession of `key`; DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(subject.name))
    request = builder.add_extension(_uri(subject), critical=False).sign(key.library, None)
    return request.public_bytes(serialization.Encoding.DER)


def read_request(der: bytes) -> tuple[Subject, PublicKey]:
    """Read a signing request and check that it is signed by its own key; raises `auth.bad_request`."""
    if len(der) > MAX_DER_BYTES:
        raise _bad_request("it is too large")
    try:
        request = x509.load_der_x509_csr(der)
        public_key = PublicKey(request.public_key())
        subject = subject_of(request.extensions)
        sound = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _bad_request("it cannot be read") from error
    except QedgeError as error:
        raise _bad_request("its key is not of ML-DSA") from error
    if subject is None:
        raise _bad_request("it does not name one subject")
    if not sound:
        raise _bad_request("its signature is not good")
    return subject, public_key


def made_utc_ns(member: Member) -> int:
    """Return when a member's certificate was made, by the clock of its authority; whole seconds, rounded down."""
    return member.not_before_utc_ns + SKEW // timedelta(microseconds=1) * 1000


def subject_of(extensions: x509.Extensions) -> Subject | None:
    """Return the one subject that the URIs of a certificate name, or None."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return parse_subject(uris[0]) if len(list(names)) == 1 and len(uris) == 1 else None


def roles_of(certificate: x509.Certificate) -> frozenset[OperatorRole]:
    """Return the roles that the subject of a certificate names; units that are no roles are passed over."""
    units = {str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)}
    return frozenset(role for role in OperatorRole if role.value in units)


def _start(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, utc_ns: int, days: int, random_bytes: RandomBytes
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC)
    serial = int.from_bytes(random_bytes(SERIAL_BYTES), "big") | 1
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.library)
    builder = builder.serial_number(serial).not_valid_before(now - SKEW).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.library), critical=False)


def _finish(builder: x509.CertificateBuilder, key: SigningKey) -> bytes:
    return builder.sign(key.library, None).public_bytes(serialization.Encoding.DER)


def _name(text: str, units: Collection[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, each) for each in units]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _uri(subject: Subject) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(subject.uri)])


def _issuer_id(key: PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.library)


def _usage(*, signs: bool, certifies: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


def _bad_request(why: str) -> QedgeError:
    return QedgeError("auth.bad_request", f"The signing request is no good: {why}.", fix="Make a new one on the box.")
