"""A job that another node runs, as its origin holds it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.ledger_row import Stored, job_of
from qedge.engine.model import Job, view_of
from qedge.wire.jobs import JobEstimate, JobState, JobSubmission, JobView

NO_ESTIMATE: Final = JobEstimate(0, 0, 0, 0, 0, 0.0, 0, "")
"""Until the runner tells its own."""


@dataclass(slots=True, eq=False)
class Errand:
    """A job that is away. `silent_ns`: since when nothing was heard of its runner (0: it is there).

    `offered`: the runner may have got it, whether it said so or not; `taken`: it said so; `busy`: something is being
    done for it now; `waits_since_ns`: when it began to wait for a runner.
    """

    job: Job
    wanted: str
    runner: str = ""
    offered: bool = False
    taken: bool = False
    silent_ns: int = 0
    busy: bool = False
    waits_since_ns: int = 0
    last_refusal: QedgeError | None = None
    ended: bool = False

    @property
    def view(self) -> JobView:
        """Describe the job as far as this node knows."""
        return view_of(self.job, node=self.runner or self.wanted, estimated=self.job.estimate is not NO_ESTIMATE)

    def forget_runner(self) -> None:
        """Let the job wait for another runner."""
        self.runner, self.offered, self.taken, self.silent_ns = "", False, False, 0
        self.job.state = JobState.QUEUED


class Nowhere:
    """Fills `Elsewhere` of a job service without peers."""

    def totals(self) -> Mapping[JobState, int]:
        """Count no jobs."""
        return {}

    def knows(self, _job_id: str) -> JobView | None:
        """Know none."""
        return None

    async def submit(self, submission: JobSubmission, _client: str, *, estimate: JobEstimate | None = None) -> str:
        """Refuse."""
        raise QedgeError("job.no_node", f"This node has no peers, so {submission.node!r} cannot run a job.")

    async def cancel(self, _job_id: str) -> None:
        """Do nothing: there are no such jobs."""


def errand_of(row: Stored, now_ns: int, utc_ns: int) -> Errand:
    """Take up a job that an earlier daemon gave away, or was about to."""
    job = job_of(row, now_ns, utc_ns)
    job.estimate = NO_ESTIMATE
    return Errand(job, row.wanted_node, row.runner, offered=bool(row.runner), waits_since_ns=now_ns)
