"""Jobs as the node's clients see them: wherever they run, and whichever node of the fleet owns them."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine.model import FINAL_STATES
from qedge.orchestrator.ledger.deciding import unclear
from qedge.orchestrator.ledger.drain import DrainService
from qedge.orchestrator.ledger.keeping import KeepService
from qedge.wire.jobs import JobSubmission, JobView
from qedge.wire.ledger import JobRecord

_LOOK_S: Final = 0.25
_AGAIN_S: Final = 0.02
_AGAIN_MOST_S: Final = 0.4


class Engine(Protocol):
    """The job service of this node."""

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return a job with its result; raises `job.not_found`."""
        ...

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """End a job."""
        ...


class JobDesk:
    """Answers for jobs of this node, and for those that other nodes own, as far as their records can be reached."""

    def __init__(self, engine: Engine, keeping: KeepService, drain: DrainService, clock: Clock) -> None:
        self._engine = engine
        self._keeping = keeping
        self.drain = drain
        self._clock = clock

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job, unless the node is being drained; a repeated one may be another node's.

        Of a request that came to several nodes at once, one may have left it to another that left it to a third; where
        they do not agree in time, `peer.timeout` is raised.
        """
        self.drain.check_open()
        again_s = _AGAIN_S
        while True:
            try:
                return await self._engine.submit(submission, client)
            except QedgeError as error:
                job_id = str(error.details.get("job", ""))
                if error.code != "job.not_found" or not job_id:
                    raise
            try:
                return await self.job(job_id, wanted=True)
            except QedgeError as error:
                if error.code != "job.not_found" or not submission.client_key:
                    raise
                if again_s > _AGAIN_MOST_S:
                    raise unclear() from error
            await asyncio.sleep(again_s)
            again_s *= 2

    async def job(self, job_id: str, *, wanted: bool = False) -> JobView:
        """Return a job with its result; raises `job.not_found` where nobody who can be reached knows it."""
        try:
            return await self._engine.job(job_id)
        except QedgeError as error:
            if error.code != "job.not_found":
                raise
            record = await self._keeping.find(job_id, wanted=wanted)
            if record is None:
                raise
        return record.view

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        end_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while True:
            left_s = (end_ns - self._clock.now_ns()) / 1e9
            try:
                return await self._engine.wait(job_id, max(0.0, left_s))
            except QedgeError as error:
                if error.code != "job.not_found":
                    raise
            view = await self.job(job_id, wanted=True)
            if view.state in FINAL_STATES or left_s <= 0:
                return view
            await asyncio.sleep(min(_LOOK_S, left_s))

    async def cancel(self, job_id: str) -> JobView:
        """End a job, wherever it is owned; raises `job.already_ended`."""
        try:
            return await self._engine.cancel(job_id)
        except QedgeError as error:
            if error.code != "job.not_found":
                raise
            record: JobRecord | None = await self._keeping.find(job_id)
            if record is None:
                raise
        if record.view.state in FINAL_STATES:
            raise QedgeError("job.already_ended", f"The job ended as {record.view.state}.", state=record.view.state)
        await self._keeping.cancel(record)
        return await self.job(job_id)
