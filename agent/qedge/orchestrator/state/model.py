"""Nouns of the shared state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from qedge.wire.state import StateEntry


class Verdict(StrEnum):
    """What became of an entry that came."""

    NEW = "new"
    OLD = "old"
    """It is known, or a newer one is."""
    AHEAD = "ahead"
    """Its stamp is further in the future than clocks may differ."""
    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    """The namespace is not known, is of another scope, or does not take such a value."""
    CROWDED = "crowded"
    """The writer, or all, hold newer ones up to the bound."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that the writer said it: the covered bytes of its envelope, its chain, and the signature."""

    covered: bytes
    chain: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry whose signature was checked. `ident` names its place in the map, `version` what stands there."""

    said: StateEntry
    writer: str
    key_id: str
    ident: bytes
    version: bytes
    proof: Proof | None = None

    @property
    def order(self) -> tuple[int, int, str, bytes]:
        """Return what decides between two entries of one place; no two that differ are equal in it."""
        return self.said.serial, self.said.stamp, self.writer, self.version

    @property
    def age_order(self) -> tuple[int, bytes]:
        """Return what decides which entries stay within a bound."""
        return self.said.stamp, self.version


def ident_of(namespace: str, key: str, writer: str) -> bytes:
    """Return the place of an entry; `writer` is empty where all writers share it. 16 bytes."""
    return hashlib.sha256(f"{namespace}/{key}/{writer}".encode()).digest()[:16]


def make_entry(
    said: StateEntry, writer: str, *, own: bool, key_id: str = "", covered: bytes = b"", proof: Proof | None = None
) -> Entry:
    """Make an entry of something that a writer said; `covered` are the bytes it signed."""
    ident = ident_of(said.namespace, said.key, writer if own else "")
    version = hashlib.sha256(covered or repr((said, writer)).encode()).digest()[:16]
    return Entry(said, writer, key_id, ident, version, proof)
