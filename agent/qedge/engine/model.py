"""Nouns of the job service: the states of a job as one table, and a job as this node holds it while it is alive."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.machine import StateTable
from qedge.engine.later import Later
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission, JobView
from qedge.wire.problem import problem_of

RUNNER_DIED: Final = frozenset({"worker.crashed", "worker.unavailable"})
"""Errors after which the same call may well succeed on another worker."""
FINAL_STATES: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class JobEvent(StrEnum):
    """What happens to a job."""

    STARTED = "started"
    RUNNER_DIED = "runner_died"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


JOB_STATES: Final = StateTable(
    "job",
    JobState.QUEUED,
    FINAL_STATES,
    {
        (JobState.QUEUED, JobEvent.STARTED): JobState.RUNNING,
        (JobState.QUEUED, JobEvent.CANCELLED): JobState.CANCELLED,
        (JobState.QUEUED, JobEvent.DEADLINE): JobState.EXPIRED,
        (JobState.QUEUED, JobEvent.FAILED): JobState.FAILED,
        (JobState.RUNNING, JobEvent.RUNNER_DIED): JobState.QUEUED,
        (JobState.RUNNING, JobEvent.SUCCEEDED): JobState.DONE,
        (JobState.RUNNING, JobEvent.FAILED): JobState.FAILED,
        (JobState.RUNNING, JobEvent.CANCELLED): JobState.CANCELLED,
        (JobState.RUNNING, JobEvent.DEADLINE): JobState.EXPIRED,
    },
)


@dataclass(slots=True, eq=False)
class Job:
    """A job that has not ended. `deadline_ns` is on the boot-time clock (0: none), the `_utc_ns` are wall time.

    Once `ending` the run is over and its outcome is being written; a cancel then only sets `cancel_wanted`.
    """

    id: str
    submission: JobSubmission
    client: str
    estimate: JobEstimate
    seed: int
    submitted_utc_ns: int
    queued_ns: int
    deadline_ns: int = 0
    expires_utc_ns: int = 0
    state: JobState = JobState.QUEUED
    started_utc_ns: int = 0
    attempts: int = 0
    qpu: str = ""
    cancel_wanted: bool = False
    ending: bool = False
    written: bool = True
    """Whether it is in the database; a job that a peer lent is only written where it lasts."""
    keep: Later | None = None
    """Writes it down where it lasts."""
    admit_s: float = 0.0
    parse_s: float = 0.0
    cost_s: float = 0.0
    """Time that its run is likely to take, as far as experience goes."""


def ended_view(
    job: Job, state: JobState, ended_utc_ns: int, result: JobResult | None, error: QedgeError | None
) -> JobView:
    """Describe a job that has just ended."""
    problem = problem_of(error) if error is not None else None
    return msgspec.structs.replace(view_of(job), state=state, ended_utc_ns=ended_utc_ns, result=result, error=problem)


def view_of(job: Job, *, node: str = "", estimated: bool = True) -> JobView:
    """Describe a job that has not ended."""
    return JobView(
        id=job.id,
        state=job.state,
        shots=job.submission.shots,
        submitted_utc_ns=job.submitted_utc_ns,
        client=job.client,
        qpu=job.qpu or job.submission.qpu,
        started_utc_ns=job.started_utc_ns,
        attempts=job.attempts,
        priority=job.submission.priority,
        tags=job.submission.tags,
        estimate=job.estimate if estimated else None,
        node=node,
    )


def cancelled() -> QedgeError:
    """Say why a cancelled job has no result."""
    return QedgeError("job.cancelled", "The job was cancelled on request.")


def not_found(job_id: str) -> QedgeError:
    """Say that a job is not known."""
    return QedgeError(
        "job.not_found",
        f"No job {job_id} is known here.",
        fix="`qedge jobs list` shows the newest ones.",
        job=job_id,
    )


def stopping() -> QedgeError:
    """Say why nothing is accepted just now."""
    return QedgeError("internal.stopping", "The job service is starting or stopping.", fix="Try again soon.")


def expired() -> QedgeError:
    """Say why a job that ran out of time has no result."""
    return QedgeError("job.deadline_exceeded", "The deadline passed before the job ended.", fix="Give it more time.")


def judge(job: Job, failure: QedgeError, now_ns: int, max_attempts: int) -> tuple[JobEvent, QedgeError]:
    """Say what a run that failed means for its job."""
    if job.cancel_wanted:
        return JobEvent.CANCELLED, cancelled()
    if job.deadline_ns and now_ns >= job.deadline_ns:
        return JobEvent.DEADLINE, expired()
    if failure.code in RUNNER_DIED and job.attempts < max_attempts and not job.submission.once:
        return JobEvent.RUNNER_DIED, failure
    return JobEvent.FAILED, failure
