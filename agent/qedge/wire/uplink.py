"""What a node tells the cloud of its jobs, what both hold of the shared state, and what the cloud says to that."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.ledger import MAX_RECORDS, JobRecord
from qedge.wire.mesh import Short
from qedge.wire.state import BUCKETS, MAX_LOAD, Digest, Head, StateLoad

MAX_HEADS_ABOVE: Final = 1024
"""Heads in one answer of the cloud: brokers take less than two nodes tell each other inside a session."""

MessageDigest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Buckets = Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)], ...], msgspec.Meta(max_length=BUCKETS)]


class ResultReports(msgspec.Struct, frozen=True, tag_field="type", tag="result-reports/1"):
    """Jobs of the node that ended; a result that is too large for a message is left out of its record."""

    records: Annotated[tuple[JobRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]


class ResultsHeard(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="results-heard/1"):
    """A node of the cloud has reports on its disk, in a signed envelope on the reply topic of who sent them.

    `digest` is SHA3-256 of the message with the reports, as it was sent. `refused` of its records are not kept, and
    will not be when they come again. With a `code` of the error table nothing was written down: all are to come again.
    """

    digest: MessageDigest
    refused: Annotated[int, msgspec.Meta(ge=0, le=MAX_RECORDS)] = 0
    code: Short = ""


class SharedAsk(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="shared-ask/1"):
    """A node compares its map of the fleet with that of the cloud, in a signed envelope.

    It names the buckets whose heads it wants to see and entries that it wants, and hands over others. Empty: it only
    wants the sums.
    """

    buckets: Buckets = ()
    wants: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_LOAD)] = ()
    load: StateLoad = StateLoad()


class SharedTold(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="shared-told/1"):
    """What a node of the cloud answers, in a signed envelope on the reply topic of who asked.

    `digest` is SHA3-256 of the question as it was sent, `sums` are digests of all buckets. `heads` are those of
    `buckets`: of what was asked, as much as has room, from the front; of the entries that are wanted likewise.
    """

    digest: MessageDigest
    sums: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=BUCKETS, max_length=BUCKETS)]
    buckets: Buckets = ()
    heads: Annotated[tuple[Head, ...], msgspec.Meta(max_length=MAX_HEADS_ABOVE)] = ()
    load: StateLoad = StateLoad()
