"""What stands between a request and the queue: templates, quotas, answers at hand, and the worker's estimate."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine.answers import Answers
from qedge.engine.config import EngineConfig
from qedge.engine.quotas import Quotas
from qedge.engine.roster import QpuRoster
from qedge.engine.templates import Templates
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobResult, JobSubmission, TemplateView
from qedge.workers.model import Msg


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

    def __init__(self, config: EngineConfig, store: Store, roster: QpuRoster, clock: Clock) -> None:
        self.templates = Templates(store, config.keep_templates)
        self.answers = Answers(config.keep_answers)
        self.quotas = Quotas(config)
        self._queue_limit = config.queue_limit
        self._roster = roster
        self._clock = clock

    @property
    def can_run(self) -> bool:
        """Whether a QPU is ready."""
        return self._roster.pick("") is not None

    async def estimate(self, submission: JobSubmission) -> JobEstimate:
        """Predict what a request costs; raises the error with which it would be refused."""
        return (await self._roster.assess(await self.templates.filled(submission))).estimate

    async def keep(self, program: str, client: str) -> TemplateView:
        """Keep a program for jobs that name its hash; raises `circuit.*` where it cannot be read."""
        await self._roster.inspect(program)
        return TemplateView(await self.templates.put(program, client, self._clock.utc_ns()), program)

    async def admit(self, submission: JobSubmission, client: str, waiting: int, seed: int) -> Admitted:
        """Let a request in where `waiting` jobs wait already; raises the error with which it is refused.

        A short one is run with `seed` right away where no job waits and a QPU is free.
        """
        if waiting >= self._queue_limit:
            raise QedgeError(
                "job.queue_full",
                f"{waiting} jobs wait already.",
                fix="Try again later, or use another node.",
                limit=self._queue_limit,
            )
        started_ns = self._clock.now_ns()
        self.quotas.check(client, 0.0, started_ns)
        ready = self.answers.find(submission)
        if ready is not None:
            return Admitted(ready[0], 0.0, 0.0, ready[1])
        idle = not waiting and self._roster.pick(submission.qpu, free=True) is not None
        found = await self._roster.assess(submission, seed if idle else None)
        now_ns = self._clock.now_ns()
        self.quotas.check(client, found.estimate.time_s, now_ns)
        admit_s = (now_ns - started_ns) / 1e9 - found.perform_s
        return Admitted(found.estimate, found.parse_s, admit_s, qpu=found.qpu, answer=found.answer)
