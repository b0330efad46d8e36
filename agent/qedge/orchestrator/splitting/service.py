"""Sees to jobs that were cut: gives their parts to the mesh, waits for all, and puts their results together.

The job itself is in this node's database as any other; its parts are jobs of the same client, found again by keys that
are made from its id, so that a restart takes them up and runs none twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.ledger_row import job_of, new_job
from qedge.engine.model import FINAL_STATES, Job, cancelled, ended_view, expired, stopping, view_of
from qedge.engine.ports import ANY, PARTS
from qedge.orchestrator.ledger.errand import NO_ESTIMATE
from qedge.orchestrator.splitting.cutting import Part, cut
from qedge.orchestrator.splitting.merging import merge
from qedge.store.store import Store
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.problem import error_of

_LOG: Final = get_logger("engine")
_AHEAD: Final = 16
"""Parts of one job that wait or run at a time: enough for every node, and others' jobs get their turn."""
_LOOK_S: Final = 5.0
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 2.0
_MOST_SPLITS: Final = 1000
_BUSY: Final = frozenset(
    {
        "job.queue_full",
        "job.quota_exceeded",
        "job.no_qpu",
        "internal.stopping",
        "store.disk_full",
        "store.unavailable",
        "peer.timeout",
    }
)
"""What passes; a part has a key, so that it may be asked for again where nobody knows whether it was accepted."""


class Jobs(Protocol):
    """The job service of this node."""

    async def submit(self, submission: JobSubmission, client: str) -> JobView:
        """Accept a job."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return a job with its result."""
        ...

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """End a job."""
        ...


@dataclass(slots=True, eq=False)
class Split:
    """A job that was cut and has not ended. `ids` are the jobs of its parts, empty where one is not submitted yet.

    `ending`: it is clear how it ends, and no cancel may come between that and its row.
    """

    job: Job
    parts: tuple[Part, ...]
    ids: list[str] = field(default_factory=list)
    done: int = 0
    ending: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def view(self) -> JobView:
        """Describe the job as it is now."""
        view = view_of(self.job, node=PARTS, estimated=False)
        return msgspec.structs.replace(view, parts=len(self.parts), parts_done=self.done)


class SplitService:
    """Cuts jobs and puts them together; fills `Elsewhere` for jobs with `parts`."""

    name = "splitting"

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        changes: Changes,
        *,
        node_name: str,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._changes = changes
        self._node_name = node_name
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._splits: dict[str, Split] = {}
        self._ended: Counter[JobState] = Counter()
        self._group: asyncio.TaskGroup | None = None

    def shares(self) -> bool:
        """Say that parts are for any node."""
        return True

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs by state: those that are cut, and those that ended since this daemon started."""
        return self._ended + Counter(split.job.state for split in self._splits.values())

    def knows(self, job_id: str) -> JobView | None:
        """Return a job that is cut and has not ended."""
        split = self._splits.get(job_id)
        return split.view if split is not None else None

    async def submit(self, submission: JobSubmission, client: str) -> str:
        """Accept a job that is to be cut and return its id.

        Raises `job.cannot_split`, `job.bad_shots`, `job.conflict`, `job.queue_full`.
        """
        if self._group is None:
            raise stopping()
        if submission.node not in ("", ANY):
            raise QedgeError(
                "job.cannot_split",
                f"The job is for {submission.node!r} alone.",
                fix="Leave out the node, or the parts.",
            )
        if submission.shots < 1:
            raise QedgeError("job.bad_shots", f"{submission.shots} shots are out of range.", fix="Ask for one or more.")
        submission = msgspec.structs.replace(submission, node=ANY)
        if len(self._splits) >= _MOST_SPLITS:
            return await self._known(submission, client)
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.now_ns()
        seed = submission.seed if submission.seed is not None else int.from_bytes(self._random_bytes(4), "big")
        parts = cut(submission, seed)
        job = new_job(uuid7(utc_ns, self._random_bytes), submission, client, NO_ESTIMATE, seed, now_ns, utc_ns)
        accepted = await self._store.write(lambda connection: ledger.insert(connection, job, PARTS))
        if accepted == job.id:
            if self._group is None:
                raise stopping()  # the next start takes it up
            self._begin(Split(job, parts))
        return accepted

    async def _known(self, submission: JobSubmission, client: str) -> str:
        """Return the job that a client's key stands for where no more are accepted; raises `job.queue_full`."""
        known = ""
        if submission.client_key:
            known = await self._store.read(lambda connection: ledger.find_by_key(connection, client, submission))
        if not known:
            raise QedgeError("job.queue_full", f"{_MOST_SPLITS} jobs are in parts already.", fix="Try again later.")
        return known

    async def cancel(self, job_id: str) -> None:
        """Cancel all parts; the job ends as cancelled unless it has ended before."""
        split = self._splits.get(job_id)
        if split is not None and split.task is not None:
            if not (split.job.cancel_wanted or split.ending):
                split.job.cancel_wanted = True
                split.task.cancel()
            await self._changes.wait_end(job_id, 10.0)

    async def run(self, ready: Ready) -> None:
        """Take up what an earlier daemon had cut, then see to all until cancelled."""
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        rows = await self._store.read(lambda connection: ledger.unended(connection, elsewhere=True))
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    for row in rows:
                        if row.runner == PARTS:
                            job = job_of(row, now_ns, utc_ns)
                            self._begin(Split(job, cut(job.submission, job.seed)))
                    ready()
                    await asyncio.Event().wait()
                finally:
                    self._group = None  # a group that ends takes no more
        finally:
            self._splits.clear()

    def _begin(self, split: Split) -> None:
        assert self._group is not None  # noqa: S101 - for the type checker: `submit` and `run` looked
        split.ids = [""] * len(split.parts)
        self._splits[split.job.id] = split
        self._changes.publish(split.view)
        split.task = self._group.create_task(self._see_to(split), name=f"parts:{split.job.id}")

    async def _see_to(self, split: Split) -> None:
        """See one job to its end; where the daemon stops, its row stays as it is."""
        job = split.job
        left_s = (job.deadline_ns - self._clock.now_ns()) / 1e9 if job.deadline_ns else None
        state, error, views = JobState.DONE, None, list[JobView]()
        try:
            async with asyncio.timeout(left_s):
                views = await self._all_parts(split)
            # results can be large, and nothing may hold the loop
            result = await asyncio.to_thread(merge, job.submission, job.seed, split.parts, views, self._node_name)
        except QedgeError as failure:
            state, error, result = JobState.FAILED, failure, None
        except TimeoutError:
            state, error, result = JobState.EXPIRED, expired(), None
        except asyncio.CancelledError:
            if not job.cancel_wanted:
                raise
            state, error, result = JobState.CANCELLED, cancelled(), None
        except Exception as failure:  # noqa: BLE001 - whatever one job brings about, the others go on
            why = f"The parts of the job could not be seen to: {type(failure).__name__}."
            state, error, result = JobState.FAILED, QedgeError("internal.unexpected", why), None
        split.ending = True
        if state is not JobState.DONE:
            await self._stop_parts(split)
        utc_ns = self._clock.utc_ns()
        view = ended_view(job, state, utc_ns, result, error)
        view = msgspec.structs.replace(view, node=PARTS, estimate=None, parts=len(split.parts), parts_done=split.done)
        await self._write_end(job, view, error)
        del self._splits[job.id]
        self._ended[state] += 1
        self._metrics.add("qedge_jobs_ended_total", (state.value,))
        _LOG.debug("job.ended", job=job.id, state=state.value, code=error.code if error else "")
        self._changes.ended(view)

    async def _write_end(self, job: Job, view: JobView, error: QedgeError | None) -> None:
        """Write the end down; where the disk is full, try until it is written."""
        result = await ledger.packed_result(view.result)
        await self._store.insist(
            lambda connection: ledger.end(connection, job, view.state, view.ended_utc_ns, result, error),
            patient=job.submission.is_batch,
        )

    async def _all_parts(self, split: Split) -> list[JobView]:
        """Run all parts and return them with their results; raises the error of the first that fails."""
        room = asyncio.Semaphore(_AHEAD)
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(len(split.parts)):
                    group.create_task(self._one_part(split, index, room))
        except* QedgeError as failures:
            raise _leaves(failures)[0] from None
        return [await self._jobs.job(job_id) for job_id in split.ids]

    async def _one_part(self, split: Split, index: int, room: asyncio.Semaphore) -> None:
        async with room:
            view = await self._submit_part(split, index)
            if split.job.state is JobState.QUEUED:
                split.job.state, split.job.started_utc_ns = JobState.RUNNING, self._clock.utc_ns()
                split.job.attempts = 1
            while view.state not in FINAL_STATES:
                view = await self._jobs.wait(view.id, _LOOK_S)
            if view.state is not JobState.DONE:
                why = error_of(view.error) if view.error is not None else expired()
                raise QedgeError(why.code, f"Part {index + 1} of {len(split.parts)}: {why.message}", fix=why.fix)
            split.done += 1
            self._changes.publish(split.view)

    async def _submit_part(self, split: Split, index: int) -> JobView:
        """Submit a part, or find it again; where there is no room for it now, wait."""
        bare = msgspec.structs.replace(split.parts[index].submission, client_key=f"{split.job.id}.{index}")
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                view = await self._jobs.submit(bare, split.job.client)
            except QedgeError as error:
                if error.code not in _BUSY:
                    raise
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                split.ids[index] = view.id
                return view

    async def _stop_parts(self, split: Split) -> None:
        """Cancel the parts that have not ended, side by side: a runner that is gone is waited for a while."""
        await asyncio.gather(*(self._stop_part(job_id) for job_id in split.ids if job_id))

    async def _stop_part(self, job_id: str) -> None:
        with contextlib.suppress(QedgeError):
            await self._jobs.cancel(job_id)


def _leaves(group: BaseExceptionGroup[QedgeError]) -> list[QedgeError]:
    """Return the errors in a group."""
    return [
        leaf
        for each in group.exceptions
        for leaf in (_leaves(each) if isinstance(each, BaseExceptionGroup) else [each])
    ]
