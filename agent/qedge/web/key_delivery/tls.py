"""TLS of the interface for applications: both sides show certificates, and what changes on the disk is read again.

Its certificates are of ECDSA, the one exception from post-quantum authentication. The key exchange is hybrid where the
platform's OpenSSL (3.5 or newer) and the application can do it, and otherwise classical; metrics say which it was.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qedge.base.errors import QedgeError
from qedge.crypto.web_authority import revoked_serials

HYBRID_SINCE: Final = (3, 5)
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificates are; without `revocations` nothing is ever revoked."""

    certificate: Path
    private_key: Path
    authorities: Path
    revocations: Path | None = None

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Return what changes when a file does; a file that is away has a stamp too."""
        stamps = []
        for path in (self.certificate, self.private_key, self.authorities, self.revocations):
            try:
                found = path.stat() if path is not None else None
            except OSError:
                found = None
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else (0, 0, 0))
        return tuple(stamps)


@dataclass(frozen=True, slots=True)
class LoadedTls:
    """A context for new connections, and the serial numbers that count no more on those that are open."""

    context: ssl.SSLContext
    revoked: frozenset[int]


@dataclass(frozen=True, slots=True)
class Peer:
    """What the certificate of a connection says; `until_s` is seconds since 1970."""

    serial: int
    uris: tuple[str, ...]
    common_name: str
    until_s: float


def load_tls(files: TlsFiles) -> LoadedTls:
    """Read all files; raises `web.bad_certificate` with the file's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # a resumed session would pass by the revocation list
    context.set_ciphers(_CIPHERS)
    revoked: frozenset[int] = frozenset()
    where = files.certificate
    try:
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
        where = files.authorities
        context.load_verify_locations(where)
        if files.revocations is not None:
            where = files.revocations
            context.load_verify_locations(where)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            revoked = revoked_serials(where.read_text("ascii", "replace"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise QedgeError(
            "web.bad_certificate",
            f"{where} cannot be used for HTTPS: {getattr(error, 'reason', None) or error}.",
            fix="Give PEM files that belong together and that the daemon may read.",
        ) from error
    return LoadedTls(context, revoked)


def peer_of(certificate: Mapping[str, object]) -> Peer:
    """Read what `ssl` tells of a verified certificate."""
    names = certificate.get("subjectAltName", ())
    uris = tuple(str(value) for kind, value in _pairs(names) if kind == "URI")
    subject = certificate.get("subject", ())
    common = [
        str(value)
        for part in (subject if isinstance(subject, Sequence) else ())
        for kind, value in _pairs(part)
        if kind == "commonName"
    ]
    until_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return Peer(int(str(certificate["serialNumber"]), 16), uris, common[0] if len(common) == 1 else "", float(until_s))


def exchange_offered() -> str:
    """Say what key exchange this platform's TLS can do at best."""
    return "hybrid" if ssl.OPENSSL_VERSION_INFO[:2] >= HYBRID_SINCE else "classical"


def exchange_of(connection: object) -> str:
    """Say what key exchange a connection had: `classical`, `hybrid`, or `unknown` where the platform does not tell."""
    if exchange_offered() == "classical":
        return "classical"
    group = getattr(connection, "group", None)  # from Python 3.15 on
    if callable(group):
        return "hybrid" if "MLKEM" in str(group()).upper() else "classical"
    version = getattr(connection, "version", None)
    return "unknown" if callable(version) and version() == "TLSv1.3" else "classical"


def _pairs(value: object) -> list[tuple[str, object]]:
    if not isinstance(value, Sequence):
        return []
    return [(str(item[0]), item[1]) for item in value if isinstance(item, Sequence) and len(item) == 2]


def _no_password() -> str:
    raise ValueError("the private key is sealed by a password")
