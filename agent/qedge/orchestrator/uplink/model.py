"""Nouns of the uplink."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain
from qedge.crypto.trust import Trust


@dataclass(frozen=True, slots=True)
class UplinkIdentity:
    """Who signs what goes over the uplink, and whom it believes."""

    fleet: str
    node: str
    key: SigningKey
    chain: ShowsChain
    trust: Trust
