"""A job that may run on any node, or on another one, as its owner holds it. Pure."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.ledger_row import Stored, job_of
from qedge.engine.model import Job, view_of
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.model import Grant
from qedge.wire.jobs import JobEstimate, JobNews, JobState, JobView
from qedge.wire.ledger import JobRecord

NO_ESTIMATE: Final = JobEstimate(0, 0, 0, 0, 0, 0.0, 0, "")
"""Until the runner tells its own."""


@dataclass(slots=True, eq=False)
class Errand:
    """A job and its lease. `silent_ns`: since when nothing was heard of a runner that is waited for (0: it is there).

    `hint` is a node that may have it already; `busy`: something is being done for it now; `waits_since_ns`: when it
    began to wait for a runner; `runs_since_ns`: when it was first heard to run; `twin` is a second lease, of a
    straggler. `yielded`: another node owns it, and this one only tells how it is.
    """

    job: Job
    wanted: str
    holders: tuple[str, ...] = ()
    grant: Grant | None = None
    twin: Grant | None = None
    hint: str = ""
    epoch: int = 0
    replicated: bool | None = None
    silent_ns: int = 0
    busy: bool = False
    waits_since_ns: int = 0
    runs_since_ns: int = 0
    last_refusal: QedgeError | None = None
    ended: bool = False
    yielded: str = ""
    doubt: bool = False
    """Whether another holder was out of reach, so that it may have adopted the job."""
    digest: bytes = b""
    """Hash of the request, by which a repeated one is known."""
    untold: bool = False
    """Whether nobody was told of it yet."""

    overtaken: str = ""
    """The job that the client's key stands for instead."""

    asked: tuple[Grant, Awaitable[JobNews]] | None = None
    """An offer that went out before the job was written down, and its answer."""

    @property
    def runner(self) -> str:
        """Return the node that has it, or nothing."""
        return self.grant.runner if self.grant is not None else ""

    @property
    def patient(self) -> bool:
        """Say whether its owner waits for a runner that is gone: it may run nowhere else, or only once."""
        return self.wanted != ANY or self.job.submission.once

    @property
    def view(self) -> JobView:
        """Describe the job as far as this node knows."""
        place = self.runner or self.hint or (self.wanted if self.wanted != ANY else "")
        view = view_of(self.job, node=place, estimated=self.job.estimate is not NO_ESTIMATE)
        return msgspec.structs.replace(view, epoch=self.epoch, replicated=self.replicated)

    def record(self, view: JobView | None = None) -> JobRecord:
        """Say all that another node needs to own it.

        While two leases count it says the lower epoch: whoever heard of the higher one would not take an end under it.
        """
        job = self.job
        submission = msgspec.structs.replace(job.submission, seed=job.seed)
        if view is None:
            leases = [grant.epoch for grant in (self.grant, self.twin) if grant is not None]
            view = msgspec.structs.replace(self.view, epoch=min(self.epoch, *leases) if leases else self.epoch)
        return JobRecord(
            job.id, view.epoch, self.holders, job.client, submission, view, job.expires_utc_ns, self.digest
        )

    def withdrawn(self, utc_ns: int) -> JobRecord:
        """Say that there is no such job, to those who took a copy of its record."""
        view = msgspec.structs.replace(self.view, state=JobState.CANCELLED, ended_utc_ns=utc_ns)
        return msgspec.structs.replace(self.record(view), withdrawn=True)

    @property
    def undecided(self) -> bool:
        """Say whether the client's key may still stand for another one."""
        return self.untold and not self.ended and self.replicated is False and bool(self.job.submission.client_key)

    def take_asked(self, grant: Grant) -> Awaitable[JobNews] | None:
        """Return the answer that is on its way, where this lease was offered already."""
        asked, self.asked = self.asked, None
        return asked[1] if asked is not None and asked[0] is grant else None

    def forget_runner(self) -> None:
        """Let the job wait for another runner."""
        self.grant, self.silent_ns, self.runs_since_ns, self.hint = self.twin, 0, 0, ""
        self.twin = None
        if self.grant is None:
            self.job.state = JobState.QUEUED


def errand_of(row: Stored, now_ns: int, utc_ns: int) -> Errand:
    """Take up a job that an earlier daemon gave away, or was about to."""
    job = job_of(row, now_ns, utc_ns)
    job.estimate = NO_ESTIMATE
    errand = Errand(job, row.wanted_node, row.holders, epoch=row.epoch, waits_since_ns=now_ns, digest=row.digest)
    errand.replicated = len(row.holders) > 1 if row.holders else None
    return errand


def adopted(record: JobRecord, epoch: int, now_ns: int, utc_ns: int) -> Errand:
    """Take over a job whose owner is gone."""
    view = record.view
    row = Stored(
        id=record.id,
        state=JobState.QUEUED,
        client=record.client,
        submission=record.submission,
        estimate=view.estimate or NO_ESTIMATE,
        submitted_utc_ns=view.submitted_utc_ns,
        started_utc_ns=0,
        ended_utc_ns=0,
        expires_utc_ns=record.expires_utc_ns,
        attempts=view.attempts,
        qpu="",
        wanted_node=ANY,
        runner="",
        epoch=epoch,
        holders=record.holders,
        digest=record.digest,
    )
    errand = errand_of(row, now_ns, utc_ns)
    errand.hint, errand.job.estimate = view.node, row.estimate
    return errand
