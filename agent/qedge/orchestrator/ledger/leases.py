"""The owner's side of leases: who runs which job under which epoch, and whose word counts. Pure; time is an argument.

A lease runs on the owner's boot-time clock from the moment in which its runner was heard. The runner's own view of it
(`held`) begins earlier, when it sent what was heard, so a runner whose lease is over at the owner knows that it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from qedge.orchestrator.ledger.epochs import next_epoch
from qedge.orchestrator.ledger.model import Grant, LeaseEvent, LeaseState
from qedge.wire.ledger import HeldLease

MOST_GRANTS = 2


class Word(Enum):
    """What the word of a runner is worth."""

    COUNTS = auto()
    STALE = auto()
    UNKNOWN = auto()


@dataclass(slots=True)
class _Given:
    epoch: int
    hurry_ns: int
    grants: list[Grant] = field(default_factory=list)


class Leases:
    """All leases that one node gave. A lease lasts `lease_ns` from the last word of its runner.

    Where the owner itself stood still (suspended, starved of processor time), all leases are given that time again:
    words of runners may wait unread.
    """

    def __init__(self, lease_ns: int) -> None:
        self._lease_ns = lease_ns
        self._jobs: dict[str, _Given] = {}
        self._of: Counter[str] = Counter()
        self._looked_ns = -1

    def add(self, job_id: str, epoch: int = 0, hurry_ns: int = 0) -> None:
        """Own a job; `hurry_ns` is the time after which it could not end before its deadline elsewhere (0: none)."""
        self._jobs.setdefault(job_id, _Given(epoch, hurry_ns))

    def epoch(self, job_id: str) -> int:
        """Return the highest epoch of a job."""
        return self._jobs[job_id].epoch

    def grants(self, job_id: str) -> list[Grant]:
        """Return the leases of a job that count."""
        given = self._jobs.get(job_id)
        return given.grants if given is not None else []

    def given(self) -> Mapping[str, int]:
        """Count the leases that count by runner."""
        return self._of

    def offer(self, job_id: str, runner: str, now_ns: int, *, patient: bool = False) -> Grant:
        """Give a job to a runner under the next epoch; write that down before anybody hears of it."""
        given = self._jobs[job_id]
        if len(given.grants) >= MOST_GRANTS:
            raise ValueError(f"{job_id} has {len(given.grants)} leases already")
        given.epoch = next_epoch(given.epoch)
        return self._give(given, runner, now_ns, patient=patient)

    def resume(self, job_id: str, runner: str, now_ns: int, *, patient: bool = False) -> Grant:
        """Take up a lease that was written down before the owner was restarted."""
        return self._give(self._jobs[job_id], runner, now_ns, patient=patient)

    def _give(self, given: _Given, runner: str, now_ns: int, *, patient: bool) -> Grant:
        grant = Grant(runner, given.epoch, now_ns + self._lease_ns, now_ns, patient)
        given.grants.append(grant)
        self._of[runner] += 1
        return grant

    def claim(self, job_id: str, runner: str, epoch: int, now_ns: int) -> Word:
        """Hear that a runner has a job. Epoch 0 is a runner that knows no leases: its owner waits for it."""
        given = self._jobs.get(job_id)
        if given is None:
            return Word.UNKNOWN
        grant = _find(given, runner, epoch)
        if grant is None:
            return Word.STALE
        grant.patient = grant.patient or epoch == 0
        grant.happen(LeaseEvent.CLAIMED)
        grant.heard_ns, grant.until_ns = now_ns, now_ns + self._lease_ns
        return Word.COUNTS

    def renew(self, runner: str, held: Iterable[HeldLease], now_ns: int) -> list[str]:
        """Renew leases of one runner; returns the jobs that it has to stop."""
        stale = []
        for lease in held:
            given = self._jobs.get(lease.id)
            grant = _find(given, runner, lease.epoch) if given is not None and lease.epoch else None
            if grant is not None:
                grant.happen(LeaseEvent.RENEWED)
                grant.heard_ns, grant.until_ns = now_ns, now_ns + self._lease_ns
            elif given is None or not any(each.runner == runner for each in given.grants):
                stale.append(lease.id)
            # else a newer offer is on its way to the same runner, which goes on with the job under that
        return stale

    def word(self, job_id: str, runner: str, epoch: int) -> Word:
        """Judge what a runner says of a job under an epoch."""
        given = self._jobs.get(job_id)
        if given is None:
            return Word.UNKNOWN
        return Word.COUNTS if _find(given, runner, epoch) is not None else Word.STALE

    def refused(self, job_id: str, grant: Grant) -> None:
        """Hear that a runner does not take a job, or have the job taken from it."""
        self._drop(job_id, grant, LeaseEvent.REFUSED)

    def gone(self, runner: str, now_ns: int) -> None:
        """Hear that a runner is dead, has left, or was restarted: its leases end now unless their owner waits."""
        for given in self._jobs.values():
            for grant in given.grants:
                if grant.runner == runner:
                    grant.until_ns = min(grant.until_ns, now_ns)

    def due(self, now_ns: int) -> list[tuple[str, Grant]]:
        """Return the leases that have ended since the last look; those of owners that wait stay, as lapsed."""
        stood_ns = now_ns - self._looked_ns if self._looked_ns >= 0 else 0
        self._looked_ns = now_ns
        extra_ns = stood_ns if stood_ns > self._lease_ns // 2 else 0
        over = []
        for job_id, given in self._jobs.items():
            for grant in tuple(given.grants):
                grant.until_ns += extra_ns
                if grant.state is LeaseState.LAPSED or not self._is_over(given, grant, now_ns):
                    continue
                over.append((job_id, grant))
                grant.happen(LeaseEvent.SILENT)
                if not grant.patient:
                    self._drop(job_id, grant, LeaseEvent.GIVEN_UP)
        return over

    def _is_over(self, given: _Given, grant: Grant, now_ns: int) -> bool:
        if now_ns >= grant.until_ns:
            return True
        in_hurry = given.hurry_ns and now_ns >= given.hurry_ns and not grant.patient
        return bool(in_hurry) and now_ns - grant.heard_ns > self._lease_ns // 2

    def end(self, job_id: str, winner: Grant | None = None) -> list[Grant]:
        """Own a job no more: it has ended, under lease `winner` if any; returns the other leases, to be stopped."""
        given = self._jobs.pop(job_id, None)
        if given is None:
            return []
        for grant in given.grants:
            self._of[grant.runner] -= 1
            grant.happen(LeaseEvent.RESULT if grant is winner else LeaseEvent.GIVEN_UP)
        return [grant for grant in given.grants if grant is not winner]

    def _drop(self, job_id: str, grant: Grant, event: LeaseEvent) -> None:
        given = self._jobs.get(job_id)
        if given is not None and grant in given.grants:
            given.grants.remove(grant)
            self._of[grant.runner] -= 1
            grant.happen(event)


def _find(given: _Given, runner: str, epoch: int) -> Grant | None:
    """Return the lease of this runner under this epoch; 0: under any, for a runner that knows none."""
    return next((each for each in given.grants if each.runner == runner and epoch in (each.epoch, 0)), None)
