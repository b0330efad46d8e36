"""What the owner of jobs holds in memory: the jobs, their leases, whom to avoid, and whom to stop. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.errand import Errand
from qedge.orchestrator.ledger.leases import Leases
from qedge.orchestrator.ledger.model import Grant, LeaseState
from qedge.orchestrator.ledger.stragglers import Stragglers
from qedge.wire.jobs import JobState

SILENT_SHUN_S: Final = 5.0
QUIET_SHUN_S: Final = 1.5
"""Within this time a node that does not answer is known to be dead, or has answered."""

BUSY_SHUN_S: Final = 1.0
MOST_HURRIED: Final = 8
"""Jobs of quiet runners that run twice at a time: enough for who waits as a node dies, too few to load a slow fleet."""

QUIET_SHARE: Final = 0.6
"""Of a lease; who holds one has renewed it before."""

MOST_ORPHANS: Final = 10_000


class Book:
    """Jobs by id. `ended` counts those that ended since this daemon started."""

    def __init__(self, me: str, config: LedgerConfig) -> None:
        self.me = me
        self.config = config
        self.leases = Leases(round(config.lease_s * 1e9))
        self.stragglers = Stragglers(config)
        self.errands: dict[str, Errand] = {}
        self.ended: Counter[JobState] = Counter()
        self.orphans: dict[tuple[str, str], int] = {}
        self._silent: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._busy: dict[str, int] = {}

    def add(self, errand: Errand) -> None:
        """Own a job."""
        job = errand.job
        hurry_ns = 0
        if job.deadline_ns:
            hurry_ns = job.deadline_ns - round((self.config.lease_s + job.estimate.time_s) * 1e9)
        self.errands[job.id] = errand
        self.leases.add(job.id, errand.epoch, hurry_ns)

    def kept(self, job_id: str) -> None:
        """Note that another node holds a record of a job."""
        errand = self.errands.get(job_id)
        if errand is not None:
            errand.replicated = True

    def lend(self, errand: Errand, runner: str, now_ns: int) -> Grant:
        """Give a job to a runner under a new epoch. A lease that this node gives itself ends only with the node."""
        patient = errand.patient or runner == self.me
        grant = self.leases.offer(errand.job.id, runner, now_ns, patient=patient)
        errand.epoch = grant.epoch
        return grant

    def resume(self, errand: Errand, runner: str, now_ns: int) -> None:
        """Take up a lease that an earlier daemon gave."""
        patient = errand.patient or runner == self.me
        errand.grant = self.leases.resume(errand.job.id, runner, now_ns, patient=patient)

    def given(self) -> Mapping[str, int]:
        """Count the jobs by runner."""
        return self.leases.given()

    def reset(self) -> None:
        """Own nothing, as after a start; nobody is told to stop."""
        self.errands.clear()
        self.leases = Leases(round(self.config.lease_s * 1e9))

    def is_due(self, errand: Errand, now_ns: int) -> bool:
        """Say whether there is something to be done for a job now."""
        job, grant = errand.job, errand.grant
        if errand.busy or errand.ended or errand.yielded:
            return False
        if grant is None or grant.state is not LeaseState.HELD or errand.doubt or job.cancel_wanted:
            return True
        return bool(job.deadline_ns and now_ns >= job.deadline_ns) or self.is_straggler(errand, now_ns)

    def is_straggler(self, errand: Errand, now_ns: int) -> bool:
        """Say whether a job runs for too long to go without a second runner."""
        if not errand.runs_since_ns or errand.patient or errand.twin is not None:
            return False
        limit_s = self.stragglers.limit_s(errand.job.estimate.time_s)
        return bool(limit_s) and (now_ns - errand.runs_since_ns) / 1e9 >= limit_s

    def quiet(self, now_ns: int) -> list[Errand]:
        """Return jobs for which a second runner costs less than to wait: the one they have should have been heard."""
        if not self.config.quiet_s:
            return []
        found = [errand for errand in self.errands.values() if self._is_quiet(errand, now_ns)]
        return found[: max(0, MOST_HURRIED - self.doubled())] if found else found

    def _is_quiet(self, errand: Errand, now_ns: int) -> bool:
        grant = errand.grant
        if grant is None or grant.patient or errand.twin is not None or errand.ended or errand.yielded:
            return False
        if now_ns - self._heard.get(grant.runner, 0) < self.config.quiet_s * 1e9:
            return False  # it is busy: a second run elsewhere would only be more to do
        submission = errand.job.submission
        if submission.is_batch or errand.job.estimate.time_s > self.config.lease_s:
            return False
        if grant.state is LeaseState.OFFERED:
            return bool(grant.asked_ns) and now_ns - grant.asked_ns >= self.config.quiet_s * 1e9
        limit_s = max(self.config.quiet_s, QUIET_SHARE * self.config.lease_s)
        return grant.state is LeaseState.HELD and now_ns - grant.heard_ns >= limit_s * 1e9

    def lose(self, errand: Errand, grant: Grant) -> None:
        """Take a lease from a runner, which is to stop when it is heard of again."""
        self.leases.refused(errand.job.id, grant)
        self.orphan(grant, errand.job.id)
        if errand.twin is grant:
            errand.twin = None
        elif errand.grant is grant:
            errand.forget_runner()

    def orphan(self, grant: Grant, job_id: str) -> None:
        """Have a runner told that its lease counts no more."""
        if len(self.orphans) < MOST_ORPHANS:
            self.orphans[grant.runner, job_id] = grant.epoch

    def was_silent(self, node: str, now_ns: int) -> None:
        """Rather give a node nothing for a while: it let a lease end."""
        self._silent[node] = now_ns + round(SILENT_SHUN_S * 1e9)

    def heard(self, node: str, now_ns: int) -> None:
        """Note that a runner answers or tells something: it is there, however long one job takes it."""
        self._heard[node] = now_ns

    def was_quiet(self, node: str, now_ns: int) -> None:
        """Rather give a node nothing for a moment: it has not answered yet."""
        self._silent[node] = max(self._silent.get(node, 0), now_ns + round(QUIET_SHUN_S * 1e9))

    def was_busy(self, node: str, now_ns: int) -> None:
        """Give a node nothing for a moment: it refused a job."""
        self._busy[node] = now_ns + round(BUSY_SHUN_S * 1e9)

    def busy(self, now_ns: int) -> frozenset[str]:
        """Name the nodes that get nothing now."""
        return frozenset(name for name, until_ns in self._busy.items() if until_ns > now_ns)

    def silent(self, now_ns: int) -> frozenset[str]:
        """Name the nodes that get something only where nobody else can take it."""
        return frozenset(name for name, until_ns in self._silent.items() if until_ns > now_ns)

    def doubled(self) -> int:
        """Count the jobs that run twice."""
        return sum(errand.twin is not None for errand in self.errands.values())

    def is_ending(self, job_id: str) -> bool:
        """Say whether the end of a job is being written at the moment."""
        return job_id in self.errands and self.errands[job_id].ended

    def close(self, errand: Errand, winner: Grant | None = None) -> None:
        """Own a job no more; whoever else has it is told to stop."""
        job_id = errand.job.id
        grants = self.leases.end(job_id, winner)
        for grant in grants:
            self.orphan(grant, job_id)
        self.errands.pop(job_id, None)
