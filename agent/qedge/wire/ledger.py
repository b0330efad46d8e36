"""What nodes say to each other about leases of jobs, and about the records of jobs that outlive a node."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.wire.jobs import Epoch, Holders, JobSubmission, JobView

MAX_HELD: Final = 4096
MAX_RECORDS: Final = 64
JobId = Annotated[str, msgspec.Meta(min_length=1, max_length=36)]


class HeldLease(msgspec.Struct, frozen=True, array_like=True):
    """A job that a runner has, and the epoch under which it took it."""

    id: JobId
    epoch: Epoch


class LeaseRenewal(msgspec.Struct, frozen=True, tag_field="type", tag="lease-renewal/1"):
    """A runner still has these jobs of the node that it asks; one message for all of them."""

    held: Annotated[tuple[HeldLease, ...], msgspec.Meta(max_length=MAX_HELD)]


class LeaseAnswer(msgspec.Struct, frozen=True, tag_field="type", tag="lease-answer/1"):
    """Renewed, but for those that are `stale`: the runner has to stop them and never tells their results."""

    stale: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_HELD)] = ()


class JobRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="job-record/1"):
    """All that another node needs to own a job: what was accepted, who holds it, and how it is, with its result.

    `holders` in the order of their rank, the node that accepted it first; `epoch` says which of them owns it now.
    `client` and the key in `submission` identify a repeated submission; `digest` is the hash of what was asked.
    `withdrawn`: there is no such job, since the client's key stands for another one; the record is to be forgotten.
    """

    id: JobId
    epoch: Epoch
    holders: Holders
    client: Annotated[str, msgspec.Meta(max_length=200)]
    submission: JobSubmission
    view: JobView
    expires_utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    digest: Annotated[bytes, msgspec.Meta(max_length=32)] = b""
    withdrawn: bool = False


class RecordsKeep(msgspec.Struct, frozen=True, tag_field="type", tag="records-keep/1"):
    """The owner of these jobs asks for them to be held, or says how they are now."""

    records: Annotated[tuple[JobRecord, ...], msgspec.Meta(max_length=MAX_RECORDS)]


class RecordsKept(msgspec.Struct, frozen=True, tag_field="type", tag="records-kept/1"):
    """Written down, but for those in `refused`.

    `known` are records that go before the ones that came: of the same job under a higher epoch, whose sender owns it
    no more, or of an older job with the same client and key.
    """

    refused: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()
    known: Annotated[tuple[JobRecord, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()


class RecordsAsk(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="records-ask/1"):
    """A node asks what another holds: jobs by id, or the one that a client's key stands for.

    `wanted`: a client waits for them; where their owner is gone they are to go on at once. `claim`: a job that was
    accepted for the same client's key at the node that asks. Of two that nobody was told of yet that with the lower id
    stands; one that does not stand against the claim is not in the answer.
    """

    ids: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()
    wanted: bool = False
    client: Annotated[str, msgspec.Meta(max_length=200)] = ""
    client_key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    claim: Annotated[str, msgspec.Meta(max_length=36)] = ""


class RecordsFound(msgspec.Struct, frozen=True, tag_field="type", tag="records-found/1"):
    """The records of those that are held there; results that make an answer too large are left for the next one.

    `undecided` are jobs of the node that answers of which nobody was told yet: they may be withdrawn.
    """

    records: Annotated[tuple[JobRecord, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()
    undecided: Annotated[tuple[JobId, ...], msgspec.Meta(max_length=MAX_RECORDS)] = ()


class JobCancel(msgspec.Struct, frozen=True, tag_field="type", tag="job-cancel/1"):
    """A holder of the record of a job asks its owner to end it."""

    id: JobId
