"""Who sees to a job that this node does not simply run itself: one service for each way. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from qedge.engine.ports import Elsewhere
from qedge.wire.jobs import JobState, JobSubmission, JobView


class Ways:
    """Jobs for other nodes, and jobs in parts; fills `Elsewhere` with both."""

    def __init__(self, forward: Elsewhere, split: Elsewhere) -> None:
        self._forward = forward
        self._split = split

    def shares(self) -> bool:
        """Say whether jobs for any node go through the ledger of all."""
        return self._forward.shares()

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs of both, by state."""
        return Counter(self._forward.totals()) + Counter(self._split.totals())

    def knows(self, job_id: str) -> JobView | None:
        """Return a job that one of them has and that has not ended."""
        return self._forward.knows(job_id) or self._split.knows(job_id)

    async def submit(self, submission: JobSubmission, client: str) -> str:
        """Accept a job and return its id."""
        return await (self._split if submission.parts > 1 else self._forward).submit(submission, client)

    async def cancel(self, job_id: str) -> None:
        """End a job."""
        await (self._split if self._split.knows(job_id) is not None else self._forward).cancel(job_id)
