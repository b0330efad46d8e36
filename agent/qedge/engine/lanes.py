"""Which job runs next and where: slots of QPUs, a reserve for urgent jobs, and what is ahead of a job that comes now.

Batch jobs never take the last of several slots, and short urgent jobs may run on a spare worker while batch jobs hold
all slots: so an interactive job does not wait for the end of a batch job, and no run is ever broken off for another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.config import EngineConfig
from qedge.engine.model import Job, JobEvent, expired
from qedge.engine.pace import Pace
from qedge.engine.ports import Memory, QpuPort
from qedge.engine.queue import CLASSES, JobQueue
from qedge.engine.roster import QpuRoster
from qedge.wire.jobs import JobEstimate, LatencyClass

_URGENT: Final = (LatencyClass.CRITICAL, LatencyClass.INTERACTIVE)
_EXPRESS_DEPTH: Final = 16
"""Jobs of each line that are looked at for a short one."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What the QPUs have to do now; by class in the order critical, interactive, batch.

    `backlog_s` is the time until a further job of the class is likely to start.
    """

    slots: int
    free_slots: int
    queued: tuple[int, int, int]
    backlog_s: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A job that runs since `since_ns` on a QPU, `express`: beside the others on a spare worker."""

    job: Job
    qpu: QpuPort
    express: bool
    since_ns: int

    @property
    def rank(self) -> int:
        """Which place its class has among those that wait for a worker."""
        return CLASSES.index(self.job.submission.latency_class)


class Lanes:
    """Waiting and running jobs."""

    def __init__(self, config: EngineConfig, roster: QpuRoster, memory: Memory) -> None:
        self._config = config
        self._roster = roster
        self._memory = memory
        self.pace = Pace()
        self.queue = JobQueue(config)
        self.runs: dict[str, Run] = {}
        self.admitting = 0
        """Jobs that are being looked at, and will most likely be here soon."""

    def clear(self) -> None:
        """Begin anew with nothing that waits."""
        self.queue = JobQueue(self._config)

    def push(self, job: Job, *, first: bool = False) -> None:
        """Let a job wait."""
        job.cost_s = self.pace.expected_s(job.estimate)
        self.queue.push(job, first=first)

    def may_run_at_once(self, latency: LatencyClass, qpu: str) -> bool:
        """Say whether a short job of this class could start right away: nothing goes before it, and there is room."""
        ahead: tuple[int, ...] = self.queue.waiting()[: CLASSES.index(latency) + 1]
        return not any(ahead) and (
            self._roster.pick(qpu, free=True, latency=latency) is not None
            or (latency in _URGENT and self._config.express_s > 0 and self._roster.pick_express(qpu) is not None)
        )

    def start_next(self, now_ns: int) -> Run | None:
        """Take the next job that can start, and count it as running."""
        run = self._next(now_ns)
        if run is not None:
            job = run.job
            job.qpu = run.qpu.name
            self._roster.take(run.qpu, job.submission.latency_class, express=run.express)
            self.runs[job.id] = run
        return run

    def ended(self, job: Job) -> None:
        """Count a job that runs no more."""
        run = self.runs.pop(job.id)
        self._roster.give_back(run.qpu, job.submission.latency_class, express=run.express)

    def overdue(self, now_ns: int) -> Iterator[tuple[Job, JobEvent, QedgeError]]:
        """Take out the jobs that waited too long, each with what that makes of it."""
        limit_ns = round(self._config.no_qpu_limit_s * 1e9)
        for job in self.queue.jobs():
            if job.deadline_ns and now_ns >= job.deadline_ns and self.queue.remove(job):
                yield job, JobEvent.DEADLINE, expired()
            elif (
                now_ns - job.queued_ns > limit_ns
                and self._roster.pick(job.submission.qpu) is None
                and self.queue.remove(job)
            ):
                error = QedgeError("job.no_qpu", "No QPU for this job came up in time.", fix="Look at the drivers.")
                yield job, JobEvent.FAILED, error

    def occupancy(self, now_ns: int) -> Occupancy:
        """Say what there is to do."""
        slots, free = self._roster.slots()
        critical_s, interactive_s, batch_s = self.queue.work_s()
        looked_at_s = self.admitting * self.pace.typical_s
        ahead_s = (
            critical_s,
            critical_s + interactive_s + min(batch_s, interactive_s / self._config.interactive_weight),
            critical_s + interactive_s + batch_s,
        )
        rests_s = [max(0.0, run.job.cost_s - (now_ns - run.since_ns) / 1e9) for run in self.runs.values()]
        rest_s = min(rests_s, default=0.0) if not free else 0.0
        urgent_s = 0.0 if self._roster.pick_express("") is not None else rest_s
        critical, interactive, batch = ((each + looked_at_s) / max(1, slots) for each in ahead_s)
        backlog_s = (critical + urgent_s, interactive + urgent_s, batch + rest_s)
        return Occupancy(slots, free, self.queue.waiting(), backlog_s)

    def predicted_s(self, latency: LatencyClass, estimate: JobEstimate, now_ns: int) -> float:
        """Return in how many seconds a job that comes now is likely to end."""
        return self.occupancy(now_ns).backlog_s[CLASSES.index(latency)] + self.pace.expected_s(estimate)

    def _next(self, now_ns: int) -> Run | None:
        if self._roster.pick("", free=True) is not None:
            job = self.queue.pop(lambda job: self._slot_for(job) is not None and self._fits(job), now_ns)
            qpu = self._slot_for(job) if job is not None else None
            if job is not None and qpu is not None:
                return Run(job, qpu, False, now_ns)
        if self._config.express_s > 0 and any(self.queue.waiting()[:2]) and self._roster.pick_express("") is not None:
            job = self.queue.pop(self._suits_express, now_ns, classes=_URGENT, depth=_EXPRESS_DEPTH)
            qpu = self._roster.pick_express(job.submission.qpu) if job is not None else None
            if job is not None and qpu is not None:
                return Run(job, qpu, True, now_ns)
        return None

    def _slot_for(self, job: Job) -> QpuPort | None:
        return self._roster.pick(job.submission.qpu, free=True, latency=job.submission.latency_class)

    def _suits_express(self, job: Job) -> bool:
        return (
            job.cost_s <= self._config.express_s
            and self._roster.pick_express(job.submission.qpu) is not None
            and self._fits(job)
        )

    def _fits(self, job: Job) -> bool:
        taken = sum(run.job.estimate.memory_bytes for run in self.runs.values())
        limit = int(self._config.memory_share * self._memory.available_bytes())
        return not self.runs or taken + job.estimate.memory_bytes <= limit
