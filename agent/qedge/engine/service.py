"""The job service: accepts circuit jobs, runs them on the node's QPUs and keeps how they ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.attempt import attempt
from qedge.engine.changes import Changes, keeps
from qedge.engine.config import EngineConfig
from qedge.engine.keeper import Keeper
from qedge.engine.lanes import Lanes, Occupancy, Run
from qedge.engine.ledger_row import job_of, new_job
from qedge.engine.model import JOB_STATES, Job, JobEvent, cancelled, ended_view, not_found, stopping, view_of
from qedge.engine.nowhere import Nowhere
from qedge.engine.ports import ANY, Elsewhere, Memory, QpuPort
from qedge.engine.reception import Admitted, Reception
from qedge.engine.roster import QpuRoster
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission, JobView
from qedge.workers.model import Msg

_LOG: Final = get_logger("engine")
R = TypeVar("R")
_TICK_S: Final = 0.25
_QUIET_NS: Final = 300_000_000
"""A node that was asked for something this long ago is not idle: the next request may come at any time."""


class EngineService:
    """One queue, one ledger, any number of QPUs.

    *Accepted* means that `submit` returned: the job is in the database and ends in a result or a reason, whatever dies
    in between. A job whose worker died under it runs again, at most `max_attempts` times in all.
    """

    name = "engine"

    def __init__(
        self,
        config: EngineConfig,
        store: Store,
        *,
        qpus: Callable[[], Sequence[QpuPort]],
        memory: Memory,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        node_name: str = "",
    ) -> None:
        self.config = config
        self.node_name = node_name
        self._store = store
        self._roster = QpuRoster(config, qpus, memory)
        self._lanes = Lanes(config, self._roster, memory)
        self._clock = clock
        self._metrics = metrics
        self.reception = Reception(config, store, self._roster, self._lanes, clock)
        self._random_bytes = random_bytes
        self._active: dict[str, Job] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._totals: Counter[JobState] = Counter()
        self.keeper = Keeper(store, node_name)
        self.changes = Changes()
        self._forward: Elsewhere = Nowhere()
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    def attach(self, forward: Elsewhere) -> None:
        """Say who sees to jobs for other nodes."""
        self._forward = forward

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs of the ledger by state."""
        return Counter(self._totals) + self.here() + Counter(self._forward.totals())

    def here(self) -> Counter[JobState]:
        """Count the jobs that wait and run on this node."""
        return Counter({JobState.QUEUED: len(self._lanes.queue), JobState.RUNNING: len(self._runs)})

    @property
    def has_room(self) -> bool:
        """Whether a further job would begin at once."""
        return len(self._lanes.queue) == 0 and self._roster.pick("", free=True) is not None

    @property
    def is_busy(self) -> bool:
        """Whether jobs wait, run or are looked at now, or were a moment ago."""
        works = bool(self._runs or len(self._lanes.queue) or self._lanes.admitting)
        return works or self._clock.now_ns() - self.reception.asked_ns < _QUIET_NS

    def occupancy(self) -> Occupancy:
        """Say what the QPUs have to do now."""
        return self._lanes.occupancy(self._clock.now_ns())

    def expected_s(self, estimate: JobEstimate | None) -> float:
        """Return how long a run is likely to take, as far as experience goes."""
        return self._lanes.pace.expected_s(estimate) if estimate is not None else self._lanes.pace.typical_s

    async def estimate(self, submission: JobSubmission, *, binding: bool = True) -> JobEstimate:
        """Parse, estimate and admit without accepting; where it is not `binding`, no size is refused."""
        return await self.reception.estimate(submission, binding=binding)

    async def submit(self, submission: JobSubmission, client: str, *, lent: bool = False) -> JobView:
        """Accept a job; the same `client_key` with the same request gives the same job again.

        A job that is `lent` by a peer, which has it in its own database and offers it again where this node forgets it,
        is written down only when it has lasted for a while, and else with its end.
        """
        try:
            submission = await self.reception.filled(submission)
            view = await (
                self._accept(submission, client, lent=True) if lent else self._accept_somewhere(submission, client)
            )
        except QedgeError as error:
            self._metrics.add("qedge_jobs_submitted_total", (error.code,))
            _LOG.info("job.refused", code=error.code, client=client)
            raise
        self._metrics.add("qedge_jobs_submitted_total", ("accepted",))
        return view

    async def _accept_somewhere(self, submission: JobSubmission, client: str) -> JobView:
        """Accept for this node, for a named one, or for any: those go through the ledger of all where there is one."""
        if submission.parts > 1:
            return await self.job(await self._forward.submit(submission, client))
        wanted = submission.node or (ANY if submission.placement else "")
        if wanted == ANY and self.reception.can_run and not self._forward.shares():
            wanted = ""
        if wanted in ("", self.node_name):
            return await self._accept(msgspec.structs.replace(submission, node=""), client)
        submission = msgspec.structs.replace(submission, node=wanted)
        return await self.job(await self._forward.submit(submission, client))

    async def job(self, job_id: str) -> JobView:
        """Return a job as it is now; raises `job.not_found`."""
        last = self.changes.last(job_id) or self.keeper.untold.get(job_id)
        if last is not None:
            return last
        away = self._forward.knows(job_id)
        if away is not None:
            return away
        active = self._active.get(job_id)
        if active is not None:
            return msgspec.structs.replace(view_of(active), queue_position=self._lanes.queue.position(active))
        view = await self._store.read(lambda connection: ledger.view(connection, job_id))
        if view is None:
            raise not_found(job_id)
        return view

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return the job once it has ended, or as it is after `timeout_s` seconds."""
        if job_id in self._active or self._forward.knows(job_id) is not None:
            await self.changes.wait_end(job_id, timeout_s)
        return await self.job(job_id)

    async def jobs(self, limit: int) -> list[JobView]:
        """Return the newest jobs, without results."""
        views = await self._store.read(lambda connection: ledger.newest(connection, limit))
        here = {view.id: view_of(self._active[view.id]) for view in views if view.id in self._active}
        return [here.get(view.id) or self._forward.knows(view.id) or view for view in views]

    async def cancel(self, job_id: str) -> JobView:
        """End a job that waits or runs; raises `job.already_ended`."""
        job = self._active.get(job_id)
        if self._forward.knows(job_id) is not None:
            await self._forward.cancel(job_id)
            return await self.job(job_id)
        if job is None:
            view = await self.job(job_id)
            raise QedgeError("job.already_ended", f"The job ended as {view.state}.", state=view.state.value)
        job.cancel_wanted = True
        run = self._runs.get(job_id)
        if job.ending:
            pass  # its end is being written; a cancel now would leave it without one
        elif run is not None and job.state is JobState.RUNNING:
            run.cancel()  # one that has not begun sees that nobody wants it
        elif self._lanes.queue.remove(job):
            self._end_beside(job, JobEvent.CANCELLED, cancelled())
        if job_id in self._active:
            await self.changes.wait_end(job_id, 10.0)
        return await self.job(job_id)

    def wake(self) -> None:
        """Look for work again: a QPU came up."""
        self.reception.answers.clear()
        self._work.set()
        self._roster.changed()

    async def run(self, ready: Ready) -> None:
        """Take up what an earlier daemon left, then run jobs until cancelled; runs that are cut off run again."""
        await self._take_up()
        self._loaded.set()
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self.keeper.prune(self.config, self._clock))
                next_sweep_ns = 0
                while True:
                    self._work.clear()
                    self._dispatch(group)
                    if self._clock.now_ns() >= next_sweep_ns:
                        self._sweep()
                        next_sweep_ns = self._clock.now_ns() + round(_TICK_S * 1e9)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S):
                            await self._work.wait()
        finally:
            self._loaded.clear()
            self._group = None
            for job in self._active.values():
                if job.keep is not None:
                    job.keep.drop()

    async def _take_up(self) -> None:
        rows = await self.keeper.end_cut_off(await self._store.read(ledger.unended), self._clock)
        self._totals = Counter(await self._store.read(ledger.totals))
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        self._lanes.clear()
        self._active.clear()
        await self.keeper.load()
        for row in rows:
            self._totals[row.state] -= 1
            job = job_of(row, now_ns, utc_ns)
            self._active[job.id] = job
            self.reception.quotas.took(job.client, 0.0, now_ns, job.submission.latency_class)
            self._lanes.push(job)
            _LOG.info("job.rerun", job=job.id, attempt=job.attempts + 1)
        self._gauge()

    async def _accept(self, submission: JobSubmission, client: str, *, lent: bool = False) -> JobView:
        if not self._loaded.is_set():
            raise stopping()
        known = await self.keeper.find(client, submission, lent=lent)
        if known:
            return await self.job(known)
        seed = submission.seed if submission.seed is not None else int.from_bytes(self._random_bytes(4), "big")
        admitted = await self.reception.admit(submission, client, seed)
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        job = new_job(uuid7(utc_ns, self._random_bytes), submission, client, admitted.estimate, seed, now_ns, utc_ns)
        job.admit_s, job.parse_s = admitted.admit_s, admitted.parse_s
        at_hand = admitted.ready is not None or admitted.answer is not None
        try:
            accepted = await self.keeper.accept(job, lent=lent, with_end=at_hand)
        except asyncio.CancelledError:
            with contextlib.suppress(QedgeError):  # where this daemon ends, the next one finds it
                self._beside(self._take_over(job, admitted), job)
            raise
        if accepted != job.id:
            return await self.job(accepted)
        return await self._begin(job, admitted)

    async def _take_over(self, job: Job, admitted: Admitted) -> None:
        """Begin a job whose client went away while it was written, if it was: else it would wait for a restart."""
        row = await self._store.insist(lambda connection: ledger.row(connection, job.id))  # after what was asked before
        if row is not None:
            with contextlib.suppress(QedgeError):
                await self._begin(job, admitted)

    async def _begin(self, job: Job, admitted: Admitted) -> JobView:
        """Let an accepted job wait for its turn, or end with the answer that is at hand."""
        spent_s = 0.0 if admitted.ready else admitted.estimate.time_s
        self.reception.quotas.took(job.client, spent_s, self._clock.now_ns(), job.submission.latency_class)
        self._active[job.id] = job
        if admitted.ready is not None or admitted.answer is not None:
            return await self._end_at_once(job, admitted)
        self._lanes.push(job)
        self._gauge()
        self._work.set()
        _LOG.debug("job.accepted", job=job.id, client=job.client)
        self.changes.publish(view := view_of(job))
        return view

    def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while (run := self._lanes.start_next(self._clock.now_ns())) is not None:
            self._runs[run.job.id] = group.create_task(self._run_job(run), name=f"job:{run.job.id}")
            self._gauge()

    async def _run_job(self, run: Run) -> None:
        job, queue_s = run.job, (self._clock.now_ns() - run.job.queued_ns) / 1e9
        job.attempts += 1
        job.started_utc_ns = self._clock.utc_ns()
        job.state = JOB_STATES.next(job.state, JobEvent.STARTED)
        self.changes.publish(view_of(job))
        try:
            outcome = await attempt(run, self.config, self.keeper, self._lanes, self._clock)
        finally:
            self._runs.pop(job.id, None)
            self._work.set()
        if outcome.event is JobEvent.RUNNER_DIED:
            job.ending = False
            job.state = JOB_STATES.next(job.state, outcome.event)
            job.queued_ns = self._clock.now_ns()
            self._lanes.push(job, first=True)
            _LOG.warning("job.rerun", job=job.id, attempt=job.attempts + 1)
            return
        stages = {"admit": job.admit_s, "queue": queue_s}
        await self._end(job, outcome.event, answer=outcome.answer, error=outcome.error, stages=stages)

    def _sweep(self) -> None:
        """End waiting jobs whose time is over; see whether there is room on the disk again."""
        self._store.look_again()
        for late in self._lanes.overdue(self._clock.now_ns()):
            self._end_beside(*late)

    def _end_beside(self, job: Job, event: JobEvent, error: QedgeError) -> None:
        """End a job that waited, whether or not anybody waits for that: the disk may be slow, or full for hours."""
        self._beside(self._end(job, event, error=error), job)
        job.ending = True

    def _beside(self, work: Coroutine[None, None, R], job: Job) -> asyncio.Task[R]:
        """Do what must be done whoever waits for it; raises `internal.stopping`."""
        if self._group is not None:
            with contextlib.suppress(RuntimeError):  # it ends just now
                return self._group.create_task(work, name=f"job:{job.id}")
        work.close()
        raise stopping()

    async def _end(
        self,
        job: Job,
        event: JobEvent,
        *,
        answer: Msg = None,
        result: JobResult | None = None,
        error: QedgeError | None = None,
        stages: Mapping[str, float] | None = None,
    ) -> None:
        """Tell and write down how a job ended."""
        if event is JobEvent.SUCCEEDED and result is None:
            try:
                result = await ledger.unpacked(job, answer, stages or {})
                self.reception.answers.learn(job.submission, job.estimate, result)
            except QedgeError as failure:
                event, error = JobEvent.FAILED, failure
        state = JOB_STATES.next(job.state, event)
        view = ended_view(job, state, self._clock.utc_ns(), result, error)
        if job.keep is not None:
            await job.keep.settle()
        told = job.keep is not None and not job.written and keeps(view)
        if told:
            # nothing here says that it ran, so the peer that lent it may know the end before it is written
            self.changes.ended(view)
        await self.keeper.end(job, view, error)
        self._close(job, view, error)
        for stage, value in (stages or {}).items():
            self._metrics.observe("qedge_job_seconds", value, (stage,))
        if not told:
            self.changes.ended(view)

    async def _end_at_once(self, job: Job, admitted: Admitted) -> JobView:
        """End a job with an answer that was there when it was admitted."""
        job.ending, job.started_utc_ns, job.qpu = True, self._clock.utc_ns(), admitted.qpu
        job.attempts = 1 if admitted.ready is None else 0
        job.state = JOB_STATES.next(job.state, JobEvent.STARTED)
        stages = {} if admitted.ready is not None else {"admit": job.admit_s, "queue": 0.0}
        end = self._beside(self._end_or_refuse(job, admitted, stages), job)
        if job.keep is not None:
            return view_of(job)  # its peer is told before it is written
        refused = await asyncio.shield(end)
        if refused is not None:
            raise refused
        return msgspec.structs.replace(await self.job(job.id), result=None)

    async def _end_or_refuse(self, job: Job, admitted: Admitted, stages: Mapping[str, float]) -> QedgeError | None:
        """End a job that ran; where it was not accepted before and cannot be written, forget it and say why."""
        try:
            await self._end(job, JobEvent.SUCCEEDED, answer=admitted.answer, result=admitted.ready, stages=stages)
        except QedgeError as error:
            self._active.pop(job.id, None)
            self.reception.quotas.ended(job.client, job.submission.latency_class)
            return error
        return None

    def _close(self, job: Job, view: JobView, error: QedgeError | None) -> None:
        job.state = view.state
        self._active.pop(job.id, None)
        self.reception.quotas.ended(job.client, job.submission.latency_class)
        self._gauge()
        if not self.keeper.is_own(job):
            self._totals[view.state] += 1
            self._metrics.add("qedge_jobs_ended_total", (view.state.value,))
        _LOG.debug("job.ended", job=job.id, state=view.state.value, code=error.code if error else "")

    def _gauge(self) -> None:
        self._metrics.set("qedge_jobs_queued", len(self._lanes.queue))
        self._metrics.set("qedge_jobs_running", len(self._runs))
