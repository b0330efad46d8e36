"""What stands for other nodes where there are none. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from qedge.base.errors import QedgeError
from qedge.wire.jobs import JobState, JobSubmission, JobView


class Nowhere:
    """Fills `Elsewhere` of a job service without peers."""

    def shares(self) -> bool:
        """Share jobs with nobody."""
        return False

    def totals(self) -> Mapping[JobState, int]:
        """Count no jobs."""
        return {}

    def knows(self, _job_id: str) -> JobView | None:
        """Know none."""
        return None

    async def submit(self, submission: JobSubmission, _client: str) -> str:
        """Refuse."""
        raise QedgeError("job.no_node", f"This node has no peers, so {submission.node!r} cannot run a job.")

    async def cancel(self, _job_id: str) -> None:
        """Do nothing: there are no such jobs."""
