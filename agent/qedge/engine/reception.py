"""What stands between a request and the queue: templates, quotas, answers at hand, and the worker's estimate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qedge.base.clock import Clock
from qedge.engine.admission import check_deadline, check_room
from qedge.engine.answers import Answers
from qedge.engine.config import EngineConfig
from qedge.engine.lanes import Lanes
from qedge.engine.ledger import unpack_result
from qedge.engine.model import Job
from qedge.engine.quotas import Quotas
from qedge.engine.roster import QpuRoster
from qedge.engine.templates import Templates
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobResult, JobSubmission, LatencyClass, TemplateView
from qedge.workers.model import Msg

_ROOM: Final = {LatencyClass.CRITICAL: 1.0, LatencyClass.INTERACTIVE: 0.95, LatencyClass.BATCH: 0.8}
"""Shares of the queue at which a class is turned away: the more urgent ones still find room then."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may become a job.

    `ready` is its result where that is at hand; `answer` is that of the worker of `qpu`, where it ran at once.
    """

    estimate: JobEstimate
    parse_s: float
    admit_s: float
    ready: JobResult | None = None
    qpu: str = ""
    answer: Msg = None


class Reception:
    """Says whether a request is let in, and keeps what it needs for that."""

    def __init__(self, config: EngineConfig, store: Store, roster: QpuRoster, lanes: Lanes, clock: Clock) -> None:
        self.templates = Templates(store, config.keep_templates)
        self.answers = Answers(config.keep_answers)
        self.quotas = Quotas(config)
        self._queue_limit = config.queue_limit
        self._roster = roster
        self._lanes = lanes
        self._clock = clock
        self.asked_ns = -(10**12)
        """When a request came last."""

        self.gate: Callable[[LatencyClass], None] = lambda _latency: None
        """Raises `job.shed` for a class that the node does not take now."""

    @property
    def can_run(self) -> bool:
        """Whether a QPU is ready."""
        return self._roster.pick("") is not None

    async def filled(self, submission: JobSubmission) -> JobSubmission:
        """Take note that somebody asks, whoever is to run it, and put a kept program in the place of its hash."""
        self.asked_ns = self._clock.now_ns()
        return await self.templates.filled(submission)

    async def estimate(self, submission: JobSubmission, *, binding: bool = True) -> JobEstimate:
        """Predict what a request costs; raises the error with which it would be refused, if `binding` for its size."""
        return (await self._roster.assess(await self.templates.filled(submission), binding=binding)).estimate

    async def keep(self, program: str, client: str) -> TemplateView:
        """Keep a program for jobs that name its hash; raises `circuit.*` where it cannot be read."""
        await self._roster.inspect(program)
        return TemplateView(await self.templates.put(program, client, self._clock.utc_ns()), program)

    async def admit(self, submission: JobSubmission, client: str, seed: int) -> Admitted:
        """Let a request in; raises the error with which it is refused.

        A short one is run with `seed` right away where nothing goes before it and a QPU has room.
        """
        latency, lanes = submission.latency_class, self._lanes
        started_ns = self.asked_ns = self._clock.now_ns()
        self.gate(latency)
        limit = math.ceil(self._queue_limit * _ROOM[latency])
        check_room(len(lanes.queue), limit, lambda: lanes.occupancy(started_ns).backlog_s[-1])
        self.quotas.check(client, 0.0, started_ns, latency)
        ready = self.answers.find(submission)
        if ready is not None:
            return Admitted(ready[0], 0.0, 0.0, ready[1])
        at_once = lanes.may_run_at_once(latency, submission.qpu)
        lanes.admitting += 1
        try:
            found = await self._roster.assess(submission, seed if at_once else None)
        finally:
            lanes.admitting -= 1
        now_ns = self._clock.now_ns()
        if found.answer is None:
            check_deadline(submission.deadline_s, lanes.predicted_s(latency, found.estimate, now_ns))
        else:
            lanes.pace.learn(found.estimate, found.perform_s)
        self.quotas.check(client, found.estimate.time_s, now_ns, latency)
        admit_s = (now_ns - started_ns) / 1e9 - found.perform_s
        return Admitted(found.estimate, found.parse_s, admit_s, qpu=found.qpu, answer=found.answer)

    async def perform(self, job: Job, client: str) -> JobResult | None:
        """Run a job right away for `client` and write nothing down; None: it would have to wait, or is not short.

        Raises the error with which it would be refused.
        """
        submission = job.submission
        if not self._lanes.may_run_at_once(submission.latency_class, submission.qpu):
            return None
        admitted = await self.admit(submission, client, job.seed)
        if admitted.ready is None and admitted.answer is None:
            return None
        job.estimate, job.qpu, job.attempts = admitted.estimate, admitted.qpu, 1
        self.quotas.took(client, job.estimate.time_s, self._clock.now_ns(), submission.latency_class)
        self.quotas.ended(client, submission.latency_class)
        if admitted.ready is not None:
            return admitted.ready
        result = unpack_result(job, admitted.answer, {"admit": admitted.admit_s, "queue": 0.0})
        self.answers.learn(submission, job.estimate, result)
        return result
