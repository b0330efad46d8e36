"""Operators of a fleet: what they sign, and how a node reads it. Files of their keys stand in `operator_files`.

An operator's certificate is a member's whose URI is `qedge://{fleet}/operator/{name}`; the organizational units of its
subject are the roles. It expires, and is revoked by the same list as any member's.
"""

from __future__ import annotations

from collections.abc import Collection

from cryptography import x509

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.crypto.authority import ALGORITHMS, Authority
from qedge.crypto.certificates import make_request, subject_of
from qedge.crypto.keys import SigningKey, generate
from qedge.crypto.model import Member, Role, Subject
from qedge.crypto.signed import sign_envelope, split_signed
from qedge.crypto.trust import Trust
from qedge.wire.commands import APPROVAL_PURPOSE, Approval, CommandOrder, CommandRequest, OperatorRole, command_topic
from qedge.wire.envelope import Header, encode, purpose_of, read_body, take_apart
from qedge.wire.trust import SigningRequest

OPERATOR_DAYS = 365
_NEVER_EXPIRED = 0
"""A time at which nothing has expired: what is too late is told to the operator, so it has to be read first."""


def enrol_operator(
    authority: Authority,
    name: str,
    may: Collection[OperatorRole],
    *,
    utc_ns: int,
    random_bytes: RandomBytes,
    days: int = OPERATOR_DAYS,
    replace: bool = False,
) -> tuple[SigningKey, tuple[bytes, ...]]:
    """Make a key for an operator and certify it; save the authority's ledger before it leaves. Raises `fleet.*`."""
    key = generate(ALGORITHMS[authority.ledger.level], random_bytes)
    request = make_request(Subject(authority.fleet, Role.OPERATOR, name), key)
    asked = SigningRequest(authority.fleet, name, request)
    chain = authority.certify_operator(asked, may, days=days, utc_ns=utc_ns, random_bytes=random_bytes, replace=replace)
    return key, chain


def name_of(chain: tuple[bytes, ...]) -> str:
    """Return the operator that a chain names, checking nothing else; raises `auth.untrusted`."""
    try:
        subject = subject_of(x509.load_der_x509_certificate(chain[0]).extensions)
    except (ValueError, IndexError, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise _not_an_operator() from error
    if subject is None or subject.role is not Role.OPERATOR:
        raise _not_an_operator()
    return subject.name


def sign_request(request: CommandRequest, key: SigningKey, chain: tuple[bytes, ...]) -> bytes:
    """Sign a request: what `CommandOrder.signed` is. Raises `auth.untrusted`, `bus.too_large`."""
    where = command_topic(request.fleet, request.node, request.id)
    header = Header(
        where,
        name_of(chain),
        request.serial,
        purpose_of(CommandRequest),
        request.issued_utc_ns,
        request.expires_utc_ns,
    )
    return sign_envelope(header, request, key, chain)


def approve(signed: bytes, key: SigningKey, chain: tuple[bytes, ...]) -> Approval:
    """Approve a request of somebody else, as it was signed; raises `auth.untrusted`."""
    return Approval(name_of(chain), chain, key.sign(signed, APPROVAL_PURPOSE))


def pack_order(order: CommandOrder) -> bytes:
    """Write what stands on the topic of a request; raises `bus.bad_message` where the request cannot be read."""
    header = take_apart(order.signed).header
    outer = Header(header.topic, header.sender, header.sequence, purpose_of(CommandOrder), header.utc_ns)
    return encode(outer, order)


def peek_request(signed: bytes, topic: str) -> tuple[Header, CommandRequest]:
    """Read a request without believing it, in some microseconds; raises `bus.bad_message`."""
    envelope = take_apart(signed)
    return envelope.header, read_body(envelope, topic, CommandRequest, _NEVER_EXPIRED)


def verify_request(signed: bytes, topic: str, trust: Trust, utc_ns: int) -> tuple[CommandRequest, Member]:
    """Check who signed a request; returns it also where it has expired. Raises as `open_signed` does."""
    header, request = peek_request(signed, topic)
    covered, chain, signature = split_signed(signed)
    member = trust.verify(chain, utc_ns, role=Role.OPERATOR, name=header.sender)
    member.public_key.verify(signature, covered, header.purpose)
    return request, member


def verify_approval(approval: Approval, signed: bytes, trust: Trust, utc_ns: int) -> Member:
    """Check an approval; raises `auth.untrusted`, `auth.revoked`, `auth.bad_signature`."""
    member = trust.verify(approval.chain, utc_ns, role=Role.OPERATOR, name=approval.operator)
    member.public_key.verify(approval.signature, signed, APPROVAL_PURPOSE)
    return member


def _not_an_operator() -> QedgeError:
    return QedgeError("auth.untrusted", "The certificate is of no operator.", fix="Use the operator's own file.")
