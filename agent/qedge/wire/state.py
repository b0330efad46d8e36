"""The shared state: what a writer signs, what two nodes compare and hand over, and what operators see.

A writer signs each entry in an envelope of its own. Between nodes that compare, entries go without the writer's chain,
which is some kilobytes and the same for all entries of a writer: chains stand beside them, each once.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.mesh import Name, Short
from qedge.wire.trust import Chain, Utc

BUCKETS: Final = 64
"""Parts into which a map is divided for comparing."""

MAX_VALUE_BYTES: Final = 16 * 1024
MAX_HEADS: Final = 8192
MAX_LOAD: Final = 256

Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,96}\Z")]
Digest = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Stamp = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)]


class StateEntry(msgspec.Struct, frozen=True, tag_field="type", tag="state-entry/1"):
    """What a writer says under a key. `stamp`: hybrid logical time, milliseconds since 1970 UTC · 2¹⁶ + a count.

    `serial` orders entries of namespaces whose number only grows; it is 0 in all others. `deleted`: there is no value
    any more, and this entry says so until nobody can hold an older one.
    """

    namespace: Name
    key: Key
    stamp: Stamp
    serial: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    deleted: bool = False
    value: Value = b""


class SharedEntry(StateEntry, frozen=True, tag_field="type", tag="shared-entry/1"):
    """The same for all nodes of the fleet, beyond the site; what is signed as one is never the other."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """That an entry is held, and in which version; both are digests."""

    ident: Digest
    version: Digest


class SignedEntry(msgspec.Struct, frozen=True, array_like=True):
    """An entry as its writer signed it: the covered bytes of the envelope, and which of the chains goes with them."""

    covered: Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES + 4096)]
    chain: Annotated[int, msgspec.Meta(ge=0, lt=MAX_LOAD)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]


class StateLoad(msgspec.Struct, frozen=True, tag_field="type", tag="state-load/1"):
    """Entries on their way between two nodes, each believed for its signature alone."""

    chains: Annotated[tuple[Chain, ...], msgspec.Meta(max_length=MAX_LOAD)] = ()
    entries: Annotated[tuple[SignedEntry, ...], msgspec.Meta(max_length=MAX_LOAD)] = ()


class StateSums(msgspec.Struct, frozen=True, tag_field="type", tag="state-sums/1"):
    """A digest of each bucket of the map of a scope: the question of a node that compares."""

    scope: Short
    sums: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=BUCKETS, max_length=BUCKETS)]


class StateHeads(msgspec.Struct, frozen=True, tag_field="type", tag="state-heads/1"):
    """What is held in the buckets that differ; where that is too much, only in some of them, which `buckets` names."""

    buckets: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)], ...], msgspec.Meta(max_length=BUCKETS)]
    heads: Annotated[tuple[Head, ...], msgspec.Meta(max_length=MAX_HEADS)]


class StateWants(msgspec.Struct, frozen=True, tag_field="type", tag="state-wants/1"):
    """Entries that are wanted, and others that are offered with the same question."""

    scope: Short
    wants: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_LOAD)]
    load: StateLoad = StateLoad()


class SiteSummary(msgspec.Struct, frozen=True, tag_field="type", tag="site-summary/1"):
    """A site in a few numbers, as one of its nodes says them. `gateways` are nodes that other sites may ask."""

    site: Name
    nodes: Annotated[int, msgspec.Meta(ge=0)]
    qpus: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_qubits: Annotated[int, msgspec.Meta(ge=0)] = 0
    clops: Annotated[int, msgspec.Meta(ge=0)] = 0
    gateways: Annotated[tuple[Name, ...], msgspec.Meta(max_length=8)] = ()


class NodeSummary(msgspec.Struct, frozen=True, tag_field="type", tag="node-summary/1"):
    """What a node can run, in a few numbers; `simulated`: none of its QPUs is hardware."""

    qpus: Annotated[int, msgspec.Meta(ge=0)]
    max_qubits: Annotated[int, msgspec.Meta(ge=0)] = 0
    clops: Annotated[int, msgspec.Meta(ge=0)] = 0
    simulated: bool = True


class TemplateAsk(msgspec.Struct, frozen=True, tag_field="type", tag="template-ask/1"):
    """The program with this hash is wanted."""

    template: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class TemplateSent(msgspec.Struct, frozen=True, tag_field="type", tag="template-sent/1"):
    """The program that was asked for; its hash shows that it is."""

    program: Annotated[str, msgspec.Meta(max_length=4 * 2**20)]


class PolicyAsk(msgspec.Struct, frozen=True, tag_field="type", tag="policy-ask/1"):
    """The newest policy of the fleet is wanted, since the one at hand is older than `newer_than` + 1."""

    newer_than: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class StateRow(msgspec.Struct, frozen=True, tag_field="type", tag="state-row/1"):
    """An entry as programs of the box see it. `change` numbers what came to this node since its start.

    `utc_ns` is when it was written by the clock of its writer, `heard_utc_ns` when it counted here, by this node's.
    """

    namespace: str
    key: str
    writer: str
    utc_ns: Utc
    stamp: int
    serial: int = 0
    deleted: bool = False
    value: bytes = b""
    change: int = 0
    heard_utc_ns: int = 0


class StateRows(msgspec.Struct, frozen=True, tag_field="type", tag="state-rows/1"):
    """Entries that a node holds. `change` is that of the newest; `root_site` and `root_fleet` are digests of all."""

    rows: tuple[StateRow, ...]
    change: int = 0
    root_site: str = ""
    root_fleet: str = ""


class StatePut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="state-put/1"):
    """A new value under a key."""

    value: Value = b""
