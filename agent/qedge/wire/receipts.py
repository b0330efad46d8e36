"""Receipts: what a runner signs for the results that it gave to the owners of jobs."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.trust import Anchor

MAX_LEAVES: Final = 1024
MAX_DEPTH: Final = 10
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Position = Annotated[int, msgspec.Meta(ge=0, lt=MAX_LEAVES)]
Path = Annotated[tuple[Digest, ...], msgspec.Meta(max_length=MAX_DEPTH)]


class ReceiptRoot(msgspec.Struct, frozen=True, tag_field="type", tag="receipt-root/1"):
    """Root of the tree over `count` results, as the runner signs it: once for all that it gave within a second."""

    root: Digest
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_LEAVES)]


class ReceiptPath(msgspec.Struct, frozen=True, array_like=True):
    """Where the result of a job stands in the tree: its position, and the hashes beside its way to the root."""

    job: Annotated[str, msgspec.Meta(min_length=1, max_length=36)]
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    position: Position
    path: Path


class ReceiptsKeep(msgspec.Struct, frozen=True, tag_field="type", tag="receipts-keep/1"):
    """A runner gives the owner of jobs its signature for their results; `signed` is an envelope with the root."""

    signed: Annotated[bytes, msgspec.Meta(max_length=64 * 1024)]
    paths: Annotated[tuple[ReceiptPath, ...], msgspec.Meta(min_length=1, max_length=MAX_LEAVES)]


class ReceiptsKept(msgspec.Struct, frozen=True, tag_field="type", tag="receipts-kept/1"):
    """Kept, but for those in `refused`, which do not belong to results that are held here."""

    refused: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_LEAVES)] = ()


class Receipt(msgspec.Struct, frozen=True, tag_field="type", tag="job-receipt/1"):
    """What proves to anybody that node `runner` gave this result for this job under this lease.

    `job_hash` is SHA-256 of what was asked, `result_hash` of the result; `position` and `path` lead from them to the
    root in `signed`, which carries the runner's certificates up to `anchor`.
    """

    runner: str
    epoch: int
    job_hash: Digest
    result_hash: Digest
    position: Position
    path: Path
    signed: bytes
    anchor: Anchor
