"""What boxes exchange to become members of a fleet, and what makes them believe each other.

Certificates are X.509 in DER with ML-DSA keys (RFC 9881); chains stand leaf first, without the root.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.mesh import Name, Short

AUTHORITY: Final = "_authority"
"""The name under which a fleet's authority speaks; no node may have it."""

Der = Annotated[bytes, msgspec.Meta(min_length=1, max_length=16_384)]
Chain = Annotated[tuple[Der, ...], msgspec.Meta(min_length=1, max_length=4)]
Utc = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Anchor(msgspec.Struct, frozen=True, tag_field="type", tag="fleet-anchor/1"):
    """What a fleet's members trust: the self-signed ML-DSA-87 root and, from another family, a second signature.

    `second_signature` is by `second_key` over the root's DER with context `qedge/v1/anchor`; all three second fields
    are empty in a standalone fleet. A fleet's pin is SHA3-256 of this struct as encoded (`qedge.crypto.trust.pin`).
    """

    fleet: Name
    root: Der
    second_algorithm: Short = ""
    second_key: Annotated[bytes, msgspec.Meta(max_length=128)] = b""
    second_signature: Annotated[bytes, msgspec.Meta(max_length=64 * 1024)] = b""


class BrokerAddress(msgspec.Struct, frozen=True):
    """Where a fleet meets: URL without credentials, and what to log in with (a secret; both empty: nothing)."""

    url: Annotated[str, msgspec.Meta(max_length=300)]
    username: Annotated[str, msgspec.Meta(max_length=200)] = ""
    password: Annotated[str, msgspec.Meta(max_length=200)] = ""

    def __repr__(self) -> str:
        return f"BrokerAddress({self.url!r})"


class SigningRequest(msgspec.Struct, frozen=True, tag_field="type", tag="signing-request/1"):
    """A box asks to be certified: `request` is its PKCS#10, whose URI is `qedge://{fleet}/node/{node}`."""

    fleet: Name
    node: Name
    request: Der


class Revoked(msgspec.Struct, frozen=True):
    """One key that counts no more."""

    node: Name
    key_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    utc_ns: Utc
    reason: Short = ""


class Revocations(msgspec.Struct, frozen=True, tag_field="type", tag="revocations/1"):
    """All revoked keys of a fleet. A list with a lower or equal `serial` than one already known is ignored."""

    fleet: Name
    serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    utc_ns: Utc
    entries: Annotated[tuple[Revoked, ...], msgspec.Meta(max_length=2000)] = ()


class RevocationNotice(msgspec.Struct, frozen=True, tag_field="type", tag="revocation-notice/1"):
    """The newest list as its authority signed it (`qedge.crypto.trust`); whoever has it may publish it again."""

    signed: Annotated[bytes, msgspec.Meta(max_length=200 * 1024)]


class Membership(msgspec.Struct, frozen=True, tag_field="type", tag="membership/1"):
    """What makes a box a member: the fleet's anchor, its own chain (leaf first), and where the fleet meets.

    `revocations` is the newest signed list, as the envelope that stands on its topic, or empty.
    """

    anchor: Anchor
    chain: Chain
    broker: BrokerAddress | None = None
    revocations: Annotated[bytes, msgspec.Meta(max_length=256 * 1024)] = b""


class JoinRequest(msgspec.Struct, frozen=True, tag_field="type", tag="join-request/1"):
    """A box asks to join by a one-time token. `proof` is made with the token's secret (`qedge.crypto.joining`)."""

    token: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    request: SigningRequest
    proof: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class JoinAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="join-answer/1"):
    """The answer: a membership, or a refusal (`code` of the error table, and a sentence).

    `proof` covers the request's nonce and everything else here, so that a broker cannot forge a refusal either.
    """

    proof: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    membership: Membership | None = None
    code: Short = ""
    message: Annotated[str, msgspec.Meta(max_length=500)] = ""


class PendingJoin(msgspec.Struct, frozen=True, tag_field="type", tag="pending-join/1"):
    """A join request as the node hands it to the operator's program; `id` names it for the answer."""

    id: Short
    request: JoinRequest


class PendingJoins(msgspec.Struct, frozen=True, tag_field="type", tag="pending-joins/1"):
    """Join requests that wait for an answer."""

    requests: tuple[PendingJoin, ...] = ()


class NewIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="new-identity/1"):
    """Ask a node to make a key and a signing request for a place in a fleet; `level` 3: ML-DSA-65, 5: ML-DSA-87."""

    fleet: Name
    node: Name = "node"
    level: Annotated[int, msgspec.Meta(ge=3, le=5)] = 3


class JoinCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="join-command/1"):
    """Tell a node to join by an invitation line; `node` empty keeps its present name."""

    invitation: Annotated[str, msgspec.Meta(max_length=4096)]
    node: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,36}\Z")] = ""

    def __repr__(self) -> str:
        return f"JoinCommand(node={self.node!r})"


class RenewalAsk(msgspec.Struct, frozen=True, tag_field="type", tag="renewal-ask/1"):
    """Ask a member for a signing request with its present key, for its next certificate.

    `due_only`: a member whose certificate is not due to be renewed yet answers with `fleet.not_due`.
    """

    due_only: bool = False


class Adopted(msgspec.Struct, frozen=True, tag_field="type", tag="adopted/1"):
    """The member took its new certificate."""

    node: Name


class Renewals(msgspec.Struct, frozen=True, tag_field="type", tag="renewals/1"):
    """Requests for new certificates, and the members that could not be asked, or were not due."""

    requests: tuple[SigningRequest, ...]
    absent: tuple[str, ...] = ()
    not_due: tuple[str, ...] = ()


class IdentityView(msgspec.Struct, frozen=True, tag_field="type", tag="identity/1"):
    """Who a node is. Times are nanoseconds since 1970 UTC; `pin` is the fleet's, in hex.

    `broker` is the URL under which other boxes may reach the node's broker; empty: only this box can. `renewal` says
    how its requests for the next certificate stand; empty: none was necessary.
    """

    fleet: str
    node: str
    standalone: bool
    key_id: str
    algorithm: str
    pin: str
    valid_from_utc_ns: int
    valid_until_utc_ns: int
    revocation_serial: int = 0
    broker: str = ""
    chain: tuple[bytes, ...] = ()
    renewal_due_utc_ns: int = 0
    renewal: str = ""
