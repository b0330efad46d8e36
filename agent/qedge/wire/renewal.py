"""How a node asks for its next certificate by itself, and what its fleet's authority says to that."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Der, SigningRequest, Utc

RENEWAL_PURPOSE: Final = "renewal"
"""What the authority's signature on a verdict is for; it covers `RenewalAnswer.body` as it stands."""

Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class RenewalRequest(msgspec.Struct, frozen=True, tag_field="type", tag="renewal-request/1"):
    """A node asks for its next certificate.

    The envelope is signed by the key of its present certificate; `request` proves possession of the key that is to be
    certified. `nonce` is new with every request; the verdict repeats it.
    """

    request: SigningRequest
    nonce: Nonce


class RenewalVerdict(msgspec.Struct, frozen=True, tag_field="type", tag="renewal-verdict/1"):
    """What became of a request: a chain, leaf first, or why there is none (`code` of the error table, a sentence)."""

    fleet: Name
    node: Name
    nonce: Nonce
    utc_ns: Utc
    chain: Annotated[tuple[Der, ...], msgspec.Meta(max_length=4)] = ()
    code: Short = ""
    message: Annotated[str, msgspec.Meta(max_length=500)] = ""


class RenewalAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="renewal-answer/1"):
    """A verdict as the fleet's issuing key signed it: `body` is an encoded `RenewalVerdict`."""

    body: Annotated[bytes, msgspec.Meta(max_length=80 * 1024)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]
    issuer: Der
