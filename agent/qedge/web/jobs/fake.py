"""Jobs of the node that tests use; nothing runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.wire.jobs import JobEstimate, JobList, JobResult, JobState, JobSubmission, JobView, Register, TemplateView
from qedge.wire.problem import problem_of

_RUN_NS: Final = 900_000
_ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


class FakeJobs:
    """Jobs that end when the test says so (`finish`), or at once with `instant`."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, instant: bool = True) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._instant = instant
        self._jobs: dict[str, JobView] = {}
        self._changed = asyncio.Event()
        self._followers: list[asyncio.Queue[JobView]] = []
        self.submissions: list[JobSubmission] = []
        self._templates: dict[str, TemplateView] = {}

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept anything but a program that says `bad`."""
        if "bad" in submission.program:
            raise QedgeError("circuit.syntax", "Expected a statement.", fix="See line 1.", line=1, column=1)
        self.submissions.append(submission)
        job_id = uuid7(self._clock.utc_ns(), self._random_bytes)
        job = JobView(
            id=job_id,
            state=JobState.QUEUED,
            shots=submission.shots,
            submitted_utc_ns=self._clock.utc_ns(),
            client=client,
            qpu="qpu",
            priority=submission.priority,
            tags=submission.tags,
            estimate=JobEstimate(2, 2, 3, submission.shots, 4096, 0.001, 64, "state vector"),
        )
        self._set(job)
        if self._instant:
            self.finish(job_id)
        return job

    def finish(self, job_id: str, counts: dict[str, int] | None = None) -> None:
        """End a job with `counts`, by default half 00 and half 11."""
        job = self._jobs[job_id]
        half = job.shots // 2
        result = JobResult(
            counts=counts if counts is not None else {"00": job.shots - half, "11": half},
            shots=job.shots,
            seed=7,
            registers=(Register("c", 2, 0),),
            timings_s={"parse": 0.0002, "queue": 0.0001, "run": 0.0009},
            metadata={"method": "state vector", "driver": "qpu", "simulated": True},
        )
        now_ns = self._clock.utc_ns()
        self._set(
            msgspec.structs.replace(
                job,
                state=JobState.DONE,
                result=result,
                started_utc_ns=now_ns - _RUN_NS,
                ended_utc_ns=now_ns,
                attempts=1,
            )
        )

    def start(self, job_id: str, node: str = "") -> None:
        """Let a job run, here or on another node."""
        job = self._jobs[job_id]
        now_ns = self._clock.utc_ns()
        self._set(msgspec.structs.replace(job, state=JobState.RUNNING, node=node, started_utc_ns=now_ns, attempts=1))

    def fail(self, job_id: str, error: QedgeError) -> None:
        """End a job with an error."""
        job = self._jobs[job_id]
        self._set(
            msgspec.structs.replace(
                job, state=JobState.FAILED, error=problem_of(error), ended_utc_ns=self._clock.utc_ns(), attempts=2
            )
        )

    async def add_template(self, program: str, _client: str) -> TemplateView:
        """Keep any program."""
        view = TemplateView(hashlib.sha256(program.encode()).hexdigest(), program)
        self._templates[view.template] = view
        return view

    async def template(self, name: str) -> TemplateView:
        """Return what was kept."""
        if name not in self._templates:
            raise QedgeError("job.no_template", "This node keeps no such template.")
        return self._templates[name]

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Predict the same for every program."""
        return JobEstimate(2, 2, 3, submission.shots, 4096, 0.001, 64, "state vector")

    async def job(self, job_id: str) -> JobView:
        """Return a job."""
        if job_id not in self._jobs:
            raise QedgeError("job.not_found", "No job has this id on this node.")
        return self._jobs[job_id]

    async def wait_job(self, job_id: str, timeout_s: float) -> JobView:
        """Wait for the end of a job."""
        try:
            async with asyncio.timeout(timeout_s):
                while (await self.job(job_id)).state not in _ENDED:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return await self.job(job_id)

    async def jobs(self, limit: int) -> JobList:
        """List jobs, newest first, without results."""
        newest = list(self._jobs.values())[::-1][:limit]
        return JobList(tuple(msgspec.structs.replace(job, result=None) for job in newest))

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job that has not ended."""
        job = await self.job(job_id)
        if job.state in _ENDED:
            raise QedgeError("job.already_ended", "The job has ended.")
        self._set(msgspec.structs.replace(job, state=JobState.CANCELLED))
        return await self.job(job_id)

    async def job_events(self) -> AsyncIterator[JobView]:
        """Follow job changes."""
        queue: asyncio.Queue[JobView] = asyncio.Queue(1000)
        self._followers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._followers.remove(queue)

    def _set(self, job: JobView) -> None:
        self._jobs[job.id] = job
        self._changed.set()
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(job)
