"""What the HTTP interface needs of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qedge.wire.jobs import JobEstimate, JobList, JobSubmission, JobView, TemplateView

if TYPE_CHECKING:
    from qedge.web.results.ports import ResultsPort


class JobsPort(Protocol):
    """Jobs of the node."""

    @property
    def results(self) -> ResultsPort:
        """What results of other nodes have been worth."""
        ...

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job (it is in the database when this returns); `client` says who asked."""
        ...

    async def add_template(self, program: str, client: str) -> TemplateView:
        """Keep a program; raises what its parse raises."""
        ...

    async def template(self, name: str) -> TemplateView:
        """Return a program that is kept; raises `job.no_template`."""
        ...

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Parse and estimate only."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return one job with its result; raises `job.not_found`."""
        ...

    async def wait_job(self, job_id: str, timeout_s: float) -> JobView:
        """Return the job once it has ended, or as it is after `timeout_s` seconds."""
        ...

    async def jobs(self, limit: int) -> JobList:
        """Return the newest `limit` jobs, without their results."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job; raises `job.already_ended`."""
        ...
