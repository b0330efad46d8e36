"""Nouns of the uplink."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, sign_envelope
from qedge.crypto.trust import Trust
from qedge.wire.envelope import Header, purpose_of


@dataclass(frozen=True, slots=True)
class UplinkIdentity:
    """Who signs what goes over the uplink, and whom it believes."""

    fleet: str
    node: str
    key: SigningKey
    chain: ShowsChain
    trust: Trust

    def sign(self, where: str, body: msgspec.Struct, sequence: int, utc_ns: int) -> bytes:
        """Return a signed message for a topic."""
        header = Header(where, self.node, sequence, purpose_of(type(body)), utc_ns)
        return sign_envelope(header, body, self.key, self.chain)
