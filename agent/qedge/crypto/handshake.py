"""The handshake of two nodes: TLS 1.3 through memory, its records carried in messages (RFC 8446; the way of EAP-TLS).

No handshake of our own: OpenSSL does key exchange, mutual ML-DSA certificates and downgrade protection. What is ours:
which suites may be had, that the group which was agreed on belongs to the suite, and whose certificate it is.

The suite is agreed on by ALPN (RFC 7301): the client offers `qedge/1`, `qedge/3`, … in its order, the server takes the
first it may use. Inside the connection each side then sends its `Terms`, the client with its last flight. From the
exporter (RFC 8446 §7.5) come the keys; the connection itself is then thrown away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import Certificate, load_der_x509_certificate
from OpenSSL import SSL, crypto
from OpenSSL._util import lib as openssl
from OpenSSL.SSL import _NoOverlappingProtocols as NoOverlap

from qedge.base.errors import QedgeError
from qedge.crypto.keys import SigningKey
from qedge.crypto.model import Member
from qedge.crypto.registry import ALGORITHMS, Suite, suites_of
from qedge.crypto.trust import Trust
from qedge.wire.session import Terms

EXPORTER_LABEL: Final = b"EXPORTER-qedge-v1"
EXPORTED_BYTES: Final = 64
_CHUNK: Final = 64 * 1024
_MAX_TERMS_BYTES: Final = 8192
_NO_AUTO_CHAIN: Final = 0x8
"""SSL_MODE_NO_AUTO_CHAIN: the root is known to the other side, so it is not sent."""

_REFUSALS: Final = (
    "no suitable key share",
    "no shared group",
    "no application protocol",
    "no suitable signature",
    "handshake failure",
)
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_TERMS: Final = msgspec.msgpack.Decoder(Terms)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a finished handshake leaves. `exported` is secret; both `Terms` are what was said inside the handshake."""

    suite: Suite
    group: str
    member: Member
    own: Terms
    theirs: Terms
    exported: bytes

    def __repr__(self) -> str:
        return f"Agreed(suite={self.suite.number}, peer={self.member.subject.name})"


class HandshakeContexts:
    """The TLS settings of one node, one for each role; made once for each certificate and list of suites."""

    def __init__(self, key: SigningKey, chain: Sequence[bytes], trust: Trust, suites: Sequence[Suite]) -> None:
        self.suites = suites_of(key.algorithm, suites)
        self.trust = trust
        self._chain = [load_der_x509_certificate(each) for each in chain]
        self._key = key
        self.client = self._make(server=False)
        self.server = self._make(server=True)

    def _make(self, *, server: bool) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(_NO_AUTO_CHAIN)
        groups = ":".join(dict.fromkeys(suite.group for suite in self.suites))
        # pyOpenSSL has no public way to say which groups may be used; this is SSL_CTX_set1_groups_list.
        if openssl.SSL_CTX_set1_curves_list(context._context, groups.encode()) != 1:
            raise QedgeError("crypto.no_suite", f"The OpenSSL of this box does not know the groups {groups}.")
        self._present(context)
        store = context.get_cert_store()
        if store is None:
            raise QedgeError("internal.unexpected", "OpenSSL gave no certificate store.")
        store.add_cert(crypto.X509.from_cryptography(load_der_x509_certificate(self.trust.anchor.root)))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _as_openssl_says)
        if server:
            context.set_alpn_select_callback(self._choose_suite)
        else:
            context.set_alpn_protos([suite.alpn for suite in self.suites])
        return context

    def _present(self, context: SSL.Context) -> None:
        context.use_certificate(self._chain[0])
        pem = self._key.pkcs8_pem()
        # OpenSSL takes ML-DSA keys from files only; this one exists in memory alone.
        with os.fdopen(os.memfd_create("key", os.MFD_CLOEXEC), "wb") as file:
            file.write(pem)
            file.flush()
            context.use_privatekey_file(f"/proc/self/fd/{file.fileno()}")
        for issuer in self._chain[1:]:
            context.add_extra_chain_cert(issuer)

    def _choose_suite(self, _connection: SSL.Connection, offered: list[bytes]) -> bytes | NoOverlap:
        usable = {suite.alpn for suite in self.suites}
        for each in offered:
            if each in usable:
                return each
        return SSL.NO_OVERLAPPING_PROTOCOLS


AnswerTerms = Callable[[Member, Terms], Terms]
"""Server only: makes the own terms from the client's, or raises to refuse."""


class Handshake:
    """One side of one handshake. `step` takes the other's records and returns the next ones; blocking, some ms.

    `utc_ns` is asked for the time at which certificates have to be valid. Errors: `auth.*` where the peer is not who
    it has to be, `crypto.refused_algorithm` where it offers nothing that is allowed, `session.failed` for all else.
    """

    def __init__(
        self,
        contexts: HandshakeContexts,
        *,
        session: bytes,
        terms: Terms | AnswerTerms,
        peer: str = "",
        utc_ns: Callable[[], int],
    ) -> None:
        self.session = session
        self._contexts = contexts
        self._terms = terms
        self._peer = peer
        self._utc_ns = utc_ns
        self._is_client = isinstance(terms, Terms)
        self._connection = SSL.Connection(contexts.client if self._is_client else contexts.server, None)
        if self._is_client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self._finished = False
        self._member: Member | None = None
        self._suite: Suite | None = None
        self._heard = b""
        self._lock = threading.Lock()
        self.agreed: Agreed | None = None

    @property
    def member(self) -> Member | None:
        """Return who is on the other side, once it has proved it."""
        return self._member

    def step(self, data: bytes) -> bytes:
        """Take records (none at the client's start) and return those to send; then look at `agreed`."""
        with self._lock:
            try:
                return self._advance(data)
            except SSL.Error as error:
                raise _refusal(error) from None

    def alert(self) -> bytes:
        """Return what is to be sent after an error, so that the other side need not wait; often nothing."""
        return self._drain()

    def _advance(self, data: bytes) -> bytes:
        if self.agreed is not None:
            raise QedgeError("session.failed", "The handshake is over already.")
        if data:
            self._connection.bio_write(data)
        if not self._finished:
            try:
                self._connection.do_handshake()
            except SSL.WantReadError:
                return self._drain()
            self._finished = True
            self._check_peer()
            if isinstance(self._terms, Terms):
                self._connection.sendall(_pack(self._terms))
        theirs = self._read_terms()
        if theirs is not None:
            self._conclude(theirs)
        return self._drain()

    def _check_peer(self) -> None:
        """Whose certificate is it, and do suite, group and signature belong together?"""
        alpn = self._connection.get_alpn_proto_negotiated()
        suite = next((each for each in self._contexts.suites if each.alpn == alpn), None)
        group = self._connection.get_group_name() or ""
        if suite is None or group.lower() != suite.group.lower():
            raise QedgeError(
                "crypto.refused_algorithm",
                f"The peer wants {alpn.decode(errors='replace') or 'no suite'} with {group}.",
            )
        chain: list[Certificate] | None = self._connection.get_verified_chain(as_cryptography=True)
        if not chain:
            raise QedgeError("auth.untrusted", "The peer showed no certificate.")
        der = tuple(each.public_bytes(serialization.Encoding.DER) for each in chain[:-1])
        member = self._contexts.trust.verify(der, self._utc_ns(), name=self._peer)
        if ALGORITHMS[member.algorithm].category < ALGORITHMS[suite.signature].category:
            raise QedgeError(
                "crypto.refused_algorithm", f"{member.subject.name} signs with {member.algorithm}, too weak for it."
            )
        self._member, self._suite = member, suite

    def _read_terms(self) -> Terms | None:
        try:
            while len(self._heard) <= _MAX_TERMS_BYTES:
                self._heard += self._connection.recv(_CHUNK)
                if len(self._heard) >= 2 and len(self._heard) >= 2 + int.from_bytes(self._heard[:2], "big"):
                    break
        except SSL.WantReadError:
            return None
        size = int.from_bytes(self._heard[:2], "big")
        try:
            if len(self._heard) != 2 + size:
                raise QedgeError("session.failed", "The peer said more than its terms.")
            terms = _TERMS.decode(self._heard[2:])
        except (msgspec.DecodeError, RecursionError) as error:
            raise QedgeError("session.failed", "The peer's terms cannot be read.") from error
        if self._member is None or terms.node != self._member.subject.name:
            raise QedgeError("auth.untrusted", "The peer's terms speak for another node.")
        return terms

    def _conclude(self, theirs: Terms) -> None:
        if self._member is None or self._suite is None:
            raise QedgeError("session.failed", "The peer was not checked.")
        if isinstance(self._terms, Terms):
            own = self._terms
        else:
            own = self._terms(self._member, theirs)
            self._connection.sendall(_pack(own))
        client, server = (own, theirs) if self._is_client else (theirs, own)
        # Both ends' boot and start stand in the context: nothing of an earlier run can fit.
        context = self.session + _pack(client) + _pack(server)
        exported = self._connection.export_keying_material(EXPORTER_LABEL, EXPORTED_BYTES, context)
        group = self._connection.get_group_name() or ""
        self.agreed = Agreed(self._suite, group, self._member, own, theirs, exported)

    def _drain(self) -> bytes:
        out = b""
        while True:
            try:
                out += self._connection.bio_read(_CHUNK)
            except SSL.WantReadError:
                return out


def _pack(terms: Terms) -> bytes:
    data = _ENCODE(terms)
    return len(data).to_bytes(2, "big") + data


def _as_openssl_says(
    _connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, sound: int
) -> bool:
    return bool(sound)


def _refusal(error: SSL.Error) -> QedgeError:
    """Tell apart a peer that offers nothing allowed, one that is not trusted, and everything else."""
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    text = ", ".join(reasons) or type(error).__name__
    if any(known in reason for reason in reasons for known in _REFUSALS):
        return QedgeError(
            "crypto.refused_algorithm",
            f"The peer offers no algorithm that is allowed here ({text}).",
            fix="Bring the peer up to date, or compare crypto.floor of both nodes.",
        )
    if any("certificate" in reason for reason in reasons):
        return QedgeError("auth.untrusted", f"The peer's certificate is not of this fleet ({text}).")
    return QedgeError("session.failed", f"The handshake failed ({text}).")
