"""A job as it stands in the database, and the one that a daemon makes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.engine.model import Job
from qedge.wire.jobs import JobEstimate, JobState, JobSubmission


@dataclass(frozen=True, slots=True)
class Stored:
    """One row without its result. `wanted_node` is empty for jobs of this node; `runner` has the job now.

    `holders` are the nodes with a record of it, by rank; `epoch` says which of them owns it.
    `digest` is the hash of the request.
    """

    id: str
    state: JobState
    client: str
    submission: JobSubmission
    estimate: JobEstimate
    submitted_utc_ns: int
    started_utc_ns: int
    ended_utc_ns: int
    expires_utc_ns: int
    attempts: int
    qpu: str
    wanted_node: str
    runner: str
    epoch: int = 0
    holders: tuple[str, ...] = ()
    digest: bytes = b""


def new_job(
    job_id: str,
    submission: JobSubmission,
    client: str,
    estimate: JobEstimate,
    seed: int,
    now_ns: int,
    utc_ns: int,
) -> Job:
    """Make a job that is accepted now; its deadline counts from here."""
    limit_ns = round(submission.deadline_s * 1e9) if submission.deadline_s else 0
    return Job(
        id=job_id,
        submission=submission,
        client=client,
        estimate=estimate,
        seed=seed,
        submitted_utc_ns=utc_ns,
        queued_ns=now_ns,
        deadline_ns=now_ns + limit_ns if limit_ns else 0,
        expires_utc_ns=utc_ns + limit_ns if limit_ns else 0,
    )


def job_of(row: Stored, now_ns: int, utc_ns: int) -> Job:
    """Take up a job that an earlier daemon left."""
    left_ns = row.expires_utc_ns - utc_ns
    # A run that the end of the daemon cut off was not the job's fault, so it is not counted.
    cut_off = row.state is JobState.RUNNING and not row.wanted_node
    return Job(
        id=row.id,
        submission=row.submission,
        client=row.client,
        estimate=row.estimate,
        seed=row.submission.seed or 0,
        submitted_utc_ns=row.submitted_utc_ns,
        queued_ns=now_ns,
        deadline_ns=now_ns + max(1, left_ns) if row.expires_utc_ns else 0,
        expires_utc_ns=row.expires_utc_ns,
        attempts=max(0, row.attempts - 1) if cut_off else row.attempts,
    )
