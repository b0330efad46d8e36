"""What a receipt binds together, how it is signed, and how anybody checks it. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.keys import SigningKey
from qedge.crypto.signed import ShowsChain, open_signed, sign_envelope
from qedge.crypto.trust import Trust
from qedge.orchestrator.receipts.tree import leads_to, leaf_of
from qedge.wire.envelope import Header, purpose_of, take_apart
from qedge.wire.jobs import JobResult, JobSubmission, JobView
from qedge.wire.receipts import Receipt, ReceiptRoot
from qedge.wire.topics import Channel, topic

_ENCODE: Final = msgspec.msgpack.Encoder(order="deterministic").encode


def job_hash(submission: JobSubmission) -> bytes:
    """Hash what was asked with its seed; who asked, and where it was to run, make no difference."""
    return hashlib.sha256(_ENCODE(msgspec.structs.replace(submission, node="", client_key="", dry_run=False))).digest()


def result_hash(result: JobResult) -> bytes:
    """Hash a result with all that stands in it."""
    return hashlib.sha256(_ENCODE(result)).digest()


def entry_of(job_id: str, epoch: int, asked: bytes, given: bytes) -> bytes:
    """Return the leaf for a result: id and hash of the job, lease and hash of the result."""
    return leaf_of(_ENCODE((job_id, epoch, asked, given)))


def sign_root(root: ReceiptRoot, fleet: str, node: str, key: SigningKey, chain: ShowsChain, utc_ns: int) -> bytes:
    """Sign a root. About 0.5 ms."""
    where = topic(fleet, node, Channel.SEALED)
    return sign_envelope(Header(where, node, 0, purpose_of(ReceiptRoot), utc_ns), root, key, chain)


def open_root(signed: bytes, fleet: str, node: str, trust: Trust) -> ReceiptRoot:
    """Check that `node` signed a root, at a time at which its certificate held; raises `auth.*`, `bus.bad_message`."""
    utc_ns = take_apart(signed).header.utc_ns
    return open_signed(signed, topic(fleet, node, Channel.SEALED), ReceiptRoot, trust, utc_ns)[1]


def check(job: JobView, trust: Trust) -> Receipt:
    """Check the receipt that stands with a result, and return it.

    Raises `job.no_receipt` where there is none, `job.bad_receipt` where it is for something else, `auth.*` where its
    signature is not good or its signer does not belong to the fleet.
    """
    receipt, result = job.receipt, job.result
    if receipt is None or result is None:
        raise no_receipt()
    root = open_root(receipt.signed, trust.fleet, receipt.runner, trust)
    if result_hash(result) != receipt.result_hash:
        raise _bad("the result is not the one that was signed")
    entry = entry_of(job.id, receipt.epoch, receipt.job_hash, receipt.result_hash)
    if not leads_to(root.root, entry, receipt.position, root.count, receipt.path):
        raise _bad("it is of another job or lease")
    return receipt


def no_receipt() -> QedgeError:
    """Say that there is none."""
    return QedgeError(
        "job.no_receipt",
        "There is no receipt with the result.",
        fix="Receipts follow a second after results of other nodes; a node's own results have none.",
    )


def _bad(why: str) -> QedgeError:
    return QedgeError("job.bad_receipt", f"The receipt does not hold: {why}.", fix="Do not rely on the result.")
