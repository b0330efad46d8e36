"""The web authority: ECDSA P-256 certificates for HTTPS, apart from the fleet's ML-DSA authority. Pure.

Platforms' TLS knows no post-quantum signatures yet, so what speaks HTTPS to programs that are not ours has certificates
of this authority: servers with DNS and IP names and one URI, clients with exactly one URI. Who may do what is decided
from that URI by others. RFC 5280; nothing here is trusted by the fleet.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.certificates import MAX_DER_BYTES, SERIAL_BYTES, SKEW

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 90
CLIENT_DAYS: Final = 365
RENEW_DAYS: Final = 30
"""A server's certificate is made anew at a start when it has fewer days left."""

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_-]{1,63})*"
)


class WebIssued(msgspec.Struct, frozen=True):
    """One certificate in the ledger: `serial` in hex, `uri` of its subject; `revoked_utc_ns` 0: it counts."""

    serial: str
    uri: str
    until_utc_ns: int
    server: bool = False
    revoked_utc_ns: int = 0


class WebLedger(msgspec.Struct, frozen=True, tag_field="type", tag="web-ledger/1"):
    """What is public of a web authority: its certificate (PEM), what it issued, and the number of its newest list."""

    authority: str
    issued: tuple[WebIssued, ...] = ()
    list_number: int = 0


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """A key and a certificate as PEM: `key` is the private one."""

    key: str
    certificate: str

    def __repr__(self) -> str:
        return "WebIdentity()"


def new_key(random_bytes: RandomBytes) -> str:
    """Make a private key of P-256; PEM, PKCS#8, not sealed."""
    return _pem_of_key(_generate(random_bytes))


def make_request(key_pem: str, uri: str) -> bytes:
    """Make a signing request (PKCS#10) for a client; DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(uri))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    return builder.sign(_load_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def found_web(name: str, *, utc_ns: int, random_bytes: RandomBytes) -> tuple[WebLedger, str]:
    """Found a web authority; returns its ledger and its private key (PEM)."""
    key = _generate(random_bytes)
    subject = _name(f"{name} web authority")
    builder = _start(subject, subject, key.public_key(), utc_ns, AUTHORITY_DAYS, random_bytes)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return WebLedger(_pem(certificate)), _pem_of_key(key)


class WebAuthority:
    """A web authority whose key is open. Every change makes a new `ledger`, which has to be kept before it counts."""

    def __init__(self, ledger: WebLedger, key_pem: str) -> None:
        self.ledger = ledger
        self._key = _load_key(key_pem)
        self._certificate = x509.load_pem_x509_certificate(ledger.authority.encode("ascii"))
        if self._certificate.public_key() != self._key.public_key():
            raise _unusable("the key is not that of the authority")

    def __repr__(self) -> str:
        return "<WebAuthority>"

    def issue_server(
        self, uri: str, names: Sequence[str], *, utc_ns: int, random_bytes: RandomBytes, days: int = SERVER_DAYS
    ) -> WebIdentity:
        """Make key and certificate of a server: `names` are DNS names and addresses, `uri` says who it is."""
        key = _generate(random_bytes)
        general: list[x509.GeneralName] = [_general_name(name) for name in dict.fromkeys(names)]
        general.append(x509.UniformResourceIdentifier(uri))
        certificate = self._issue(
            key.public_key(), uri, general, ExtendedKeyUsageOID.SERVER_AUTH, utc_ns, days, random_bytes
        )
        return WebIdentity(_pem_of_key(key), certificate)

    def issue_client(
        self, request: bytes, uri: str, *, utc_ns: int, random_bytes: RandomBytes, days: int = CLIENT_DAYS
    ) -> str:
        """Make the certificate of a client for the key of a signing request; PEM. Raises `web.bad_request`.

        The URI is the caller's word; what the request names is not looked at.
        """
        if len(request) > MAX_DER_BYTES:
            raise _bad_request("it is too large")
        try:
            asked = x509.load_der_x509_csr(request)
            sound, public_key = asked.is_signature_valid, asked.public_key()
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise _bad_request("it cannot be read") from error
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
            raise _bad_request("its key is not of P-256")
        if not sound:
            raise _bad_request("its signature is not good")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        return self._issue(public_key, uri, names, ExtendedKeyUsageOID.CLIENT_AUTH, utc_ns, days, random_bytes)

    def revoke(self, uri: str, *, utc_ns: int) -> int:
        """Revoke all certificates of a client; returns how many were."""
        held = [each for each in self.ledger.issued if each.uri == uri and not each.server and not each.revoked_utc_ns]
        issued = tuple(
            msgspec.structs.replace(each, revoked_utc_ns=utc_ns) if each in held else each
            for each in self.ledger.issued
        )
        self.ledger = msgspec.structs.replace(self.ledger, issued=issued, list_number=self.ledger.list_number + 1)
        return len(held)

    def forget_ended(self, utc_ns: int) -> None:
        """Drop what ended from the ledger: it counts no more, revoked or not."""
        kept = tuple(each for each in self.ledger.issued if each.until_utc_ns > utc_ns)
        self.ledger = msgspec.structs.replace(self.ledger, issued=kept)

    def revocations(self, *, utc_ns: int) -> str:
        """Return the revocation list; PEM. It stays good as long as the authority: a box may be offline for long."""
        now = _moment(utc_ns)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now).next_update(self._certificate.not_valid_after_utc)
        builder = builder.add_extension(x509.CRLNumber(self.ledger.list_number), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        for each in self.ledger.issued:
            if each.revoked_utc_ns:
                entry = x509.RevokedCertificateBuilder().serial_number(int(each.serial, 16))
                builder = builder.add_revoked_certificate(entry.revocation_date(_moment(each.revoked_utc_ns)).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")

    def _issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        uri: str,
        names: Sequence[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        utc_ns: int,
        days: int,
        random_bytes: RandomBytes,
    ) -> str:
        builder = _start(_name(uri), self._certificate.subject, public_key, utc_ns, days, random_bytes)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        until_ns = round(certificate.not_valid_after_utc.timestamp()) * 1_000_000_000
        server = purpose == ExtendedKeyUsageOID.SERVER_AUTH
        entry = WebIssued(f"{certificate.serial_number:x}", uri, until_ns, server)
        self.ledger = msgspec.structs.replace(self.ledger, issued=(*self.ledger.issued, entry))
        return _pem(certificate)


def ends_utc_ns(certificate_pem: str) -> int:
    """Return when a certificate ends; raises `web.bad_certificate`."""
    return round(_load(certificate_pem).not_valid_after_utc.timestamp()) * 1_000_000_000


def names_of(certificate_pem: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return DNS names with addresses, and URIs of a certificate; raises `web.bad_certificate`."""
    try:
        found = _load(certificate_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), ()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    hosts = frozenset({*found.get_values_for_type(x509.DNSName), *addresses})
    return hosts, tuple(found.get_values_for_type(x509.UniformResourceIdentifier))


def revoked_serials(lists_pem: str) -> frozenset[int]:
    """Return the serial numbers of all revocation lists in a text; raises `web.bad_certificate`."""
    end = "-----END X509 CRL-----"
    serials: set[int] = set()
    for block in lists_pem.split(end)[:-1]:
        try:
            listed = x509.load_pem_x509_crl((block[block.find("-----BEGIN") :] + end).encode("ascii"))
        except (ValueError, UnicodeEncodeError) as error:
            raise _unusable("a revocation list cannot be read") from error
        serials |= {entry.serial_number for entry in listed}
    return frozenset(serials)


def _generate(random_bytes: RandomBytes) -> ec.EllipticCurvePrivateKey:
    """Make a key from 320 random bits, 64 more than the order has (FIPS 186-5, A.2.1)."""
    return ec.derive_private_key(int.from_bytes(random_bytes(40), "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def _load(certificate_pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    except (ValueError, UnicodeEncodeError) as error:
        raise _unusable("a certificate cannot be read") from error


def _load_key(key_pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem.encode("ascii"), None)
    except (ValueError, TypeError, UnicodeEncodeError) as error:
        raise _unusable("a private key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable("a private key is not of P-256")
    return key


def _start(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    utc_ns: int,
    days: int,
    random_bytes: RandomBytes,
) -> x509.CertificateBuilder:
    now = _moment(utc_ns)
    serial = int.from_bytes(random_bytes(SERIAL_BYTES), "big") | 1
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(serial).not_valid_before(now - SKEW).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if _DNS_NAME.fullmatch(name) is None:
        raise _bad_request(f"{name!r} is neither a DNS name nor an address")
    return x509.DNSName(name)


def _moment(utc_ns: int) -> datetime:
    return datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def _bad_request(why: str) -> QedgeError:
    return QedgeError("web.bad_request", f"No certificate can be made: {why}.", fix="Correct the request.")


def _unusable(why: str) -> QedgeError:
    return QedgeError(
        "web.bad_certificate", f"Certificates for HTTPS cannot be used: {why}.", fix="Replace the files named."
    )
