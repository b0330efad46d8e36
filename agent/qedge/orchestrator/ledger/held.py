"""The runner's side of leases: which jobs it has of whom, and until when. Pure; time is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto

from qedge.orchestrator.ledger.model import Hold, HoldEvent, HoldState
from qedge.wire.jobs import JobOffer
from qedge.wire.ledger import MAX_HELD, HeldLease


class Take(Enum):
    """What becomes of an offer."""

    NEW = auto()
    SAME = auto()
    ANEW = auto()
    STALE = auto()
    FOREIGN = auto()
    FULL = auto()


class Held:
    """All leases that one node has of others, at most `limit` of each."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holds: dict[str, Hold] = {}
        self._of: Counter[str] = Counter()
        self._renewed_ns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._holds)

    def find(self, job_id: str) -> Hold | None:
        """Return the lease of a job."""
        return self._holds.get(job_id)

    def take(self, peer: str, offer: JobOffer, client: str, now_ns: int) -> Take:
        """Take an offer. The same job under a higher epoch goes on under that, whoever of its holders offers it."""
        hold = self._holds.get(offer.id)
        lease_ns = offer.lease_ms * 1_000_000
        if hold is None:
            if self._of[peer] >= self._limit:
                return Take.FULL
            self._of[peer] += 1
            until_ns = now_ns + lease_ns
            self._holds[offer.id] = Hold(offer.id, peer, offer.epoch, offer.holders, lease_ns, until_ns, client)
            self._renewed_ns.setdefault(peer, now_ns)
            return Take.NEW
        if peer != hold.owner and (peer not in hold.holders or offer.epoch <= hold.epoch):
            return Take.FOREIGN
        if offer.epoch < hold.epoch:
            return Take.STALE
        verdict = Take.SAME if offer.epoch == hold.epoch else Take.ANEW
        if peer != hold.owner:
            self._count_out(hold.owner)
            self._of[peer] += 1
            self._renewed_ns.setdefault(peer, now_ns)
        hold.owner, hold.epoch, hold.holders = peer, offer.epoch, offer.holders or hold.holders
        hold.until_ns = now_ns + lease_ns
        if verdict is Take.ANEW:
            hold.asked = b""  # that was another word
        hold.happen(HoldEvent.OFFERED_ANEW)
        return verdict

    def renewals(self, now_ns: int) -> dict[str, tuple[HeldLease, ...]]:
        """Return what is to be renewed now, by owner: all that it gave, in one message, at a third of the lease."""
        due: dict[str, list[HeldLease]] = {}
        shortest: dict[str, int] = {}
        for hold in self._holds.values():
            if hold.lease_ns:
                shortest[hold.owner] = min(hold.lease_ns, shortest.get(hold.owner, hold.lease_ns))
        for owner, lease_ns in shortest.items():
            if now_ns - self._renewed_ns.get(owner, 0) >= lease_ns // 3:
                due[owner] = []
                self._renewed_ns[owner] = now_ns
        for hold in self._holds.values():
            if hold.lease_ns and hold.owner in due and len(due[hold.owner]) < MAX_HELD:
                due[hold.owner].append(HeldLease(hold.job_id, hold.epoch))
        return {owner: tuple(leases) for owner, leases in due.items()}

    def renewed(self, owner: str, asked: Iterable[HeldLease], stale: Iterable[str], sent_ns: int) -> list[Hold]:
        """Take the owner's answer to what was sent at `sent_ns`; returns the leases that ended, whose jobs to stop."""
        gone = set(stale)
        stopped = []
        for lease in asked:
            hold = self._holds.get(lease.id)
            if hold is None or hold.owner != owner or hold.epoch != lease.epoch:
                continue  # it was offered anew meanwhile, or has ended
            if lease.id in gone:
                hold.happen(HoldEvent.STALE)
                stopped.append(self._remove(hold))
            else:
                hold.until_ns = max(hold.until_ns, sent_ns + hold.lease_ns)
                hold.happen(HoldEvent.RENEWED)
        return stopped

    def overdue(self, now_ns: int) -> list[Hold]:
        """Return the leases whose time is over since the last look."""
        over = []
        for hold in self._holds.values():
            if hold.lease_ns and hold.state is HoldState.VALID and now_ns >= hold.until_ns:
                hold.happen(HoldEvent.TIME_OVER)
                over.append(hold)
        return over

    def may_stop(self, peer: str, job_id: str, epoch: int) -> bool:
        """Say whether this peer may stop the job: its owner may, but not by a word older than its last offer."""
        hold = self._holds.get(job_id)
        return hold is None or (hold.owner == peer and (not epoch or epoch >= hold.epoch))

    def heard(self, job_id: str, epoch: int) -> None:
        """Note that the owner knows how the job ended."""
        hold = self._holds.get(job_id)
        if hold is not None and hold.epoch == epoch:
            hold.happen(HoldEvent.HEARD)
            self._remove(hold)

    def drop(self, job_id: str) -> None:
        """Have no part in a job any more."""
        hold = self._holds.get(job_id)
        if hold is not None:
            hold.happen(HoldEvent.STALE)
            self._remove(hold)

    def _remove(self, hold: Hold) -> Hold:
        del self._holds[hold.job_id]
        self._count_out(hold.owner)
        return hold

    def _count_out(self, owner: str) -> None:
        self._of[owner] -= 1
        if not self._of[owner]:
            del self._of[owner]
            self._renewed_ns.pop(owner, None)
