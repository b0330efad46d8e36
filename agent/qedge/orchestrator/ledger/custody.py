"""Who holds the record of a job, and who owns it when its owner is gone. Pure; time is an argument.

Holders are chosen by rendezvous hashing over the key of the job, so that a node that is asked for the same key later
asks the same nodes. When the owner has been dead for long enough, the living holder of the lowest rank adopts the job;
one of a higher rank waits longer, in case that one has lost the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from qedge.orchestrator.ledger.epochs import owner_of

_TURNS = 2
"""So many times the waiting time longer, for each living holder that goes before."""


def ranked(key: str, nodes: Iterable[str]) -> list[str]:
    """Sort nodes for a key: the same order everywhere, and another one for each key (rendezvous hashing)."""
    return sorted(nodes, key=lambda node: hashlib.blake2b(f"{key}\0{node}".encode(), digest_size=8).digest())


def place_of(client: str, client_key: str, job_id: str) -> str:
    """Return the key by which holders are chosen: what a client repeats, or the id where it said nothing."""
    return f"{client}\0{client_key}" if client_key else job_id


@dataclass(frozen=True, slots=True)
class Kept:
    """An unended job in another node's ownership, of which this node holds a record."""

    epoch: int
    holders: tuple[str, ...]

    @property
    def owner(self) -> str:
        """Return who owns it now."""
        return owner_of(self.epoch, self.holders)


class Custody:
    """The unended records that node `me` holds. A job is adopted when its owner was dead for `adopt_ns`.

    After its own start a node knows nobody yet: until the time that it `began` with nobody counts as dead.
    """

    def __init__(self, me: str, adopt_ns: int) -> None:
        self._me = me
        self._adopt_ns = adopt_ns
        self._known_ns = 0
        self._held: dict[str, Kept] = {}
        self._gone: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def began(self, known_ns: int) -> None:
        """Take nobody to be dead before `known_ns`."""
        self._known_ns = known_ns

    def hold(self, job_id: str, epoch: int, holders: Sequence[str]) -> None:
        """Hold the record of a job, or what is newer of it."""
        known = self._held.get(job_id)
        if known is None or known.epoch <= epoch:
            self._held[job_id] = Kept(epoch, tuple(holders))

    def find(self, job_id: str) -> Kept | None:
        """Return what is held of a job."""
        return self._held.get(job_id)

    def drop(self, job_id: str) -> None:
        """Watch a job no more: it ended, or this node owns it."""
        self._held.pop(job_id, None)

    def asked(self, most: int) -> list[tuple[str, str]]:
        """Return the next few jobs and their owners, in turn: their owner may have told their end in vain."""
        chosen = list(islice(self._held, most))
        for job_id in chosen:
            self._held[job_id] = self._held.pop(job_id)
        return [(job_id, self._held[job_id].owner) for job_id in chosen]

    def due(self, alive: Collection[str], now_ns: int) -> list[str]:
        """Return the jobs that this node has to adopt, given who is alive."""
        owners = {held.owner for held in self._held.values()}
        for name in [name for name in self._gone if name in alive or name not in owners]:
            del self._gone[name]
        if now_ns < self._known_ns:
            return []
        for name in owners:
            if name not in alive:
                self._gone.setdefault(name, now_ns)
        return [job_id for job_id, held in self._held.items() if self._is_due(held, alive, now_ns)]

    def _is_due(self, held: Kept, alive: Collection[str], now_ns: int) -> bool:
        since_ns = self._gone.get(held.owner)
        if since_ns is None or self._me not in held.holders:
            return False
        rank = held.holders.index(self._me)
        before = sum(name in alive and name != held.owner for name in held.holders[:rank])
        return now_ns - since_ns >= self._adopt_ns * (1 + _TURNS * before)
