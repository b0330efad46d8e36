"""A fleet that shares jobs in virtual time: pure leases, holds and records around a network that loses and reorders.

A node's `jobs`, `copies` and the runs that it has ended are its disk and survive a kill; everything else is its memory.
All randomness is drawn from the generator that is passed in, so that a seed repeats a run exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from qedge.orchestrator.ledger.custody import Custody, ranked
from qedge.orchestrator.ledger.epochs import adopted_epoch, owner_of
from qedge.orchestrator.ledger.held import Held, Take
from qedge.orchestrator.ledger.leases import Leases, Word
from qedge.wire.jobs import JobOffer, JobSubmission
from qedge.wire.ledger import HeldLease

SECOND: Final = 1_000_000_000
LEASE: Final = SECOND
TICK: Final = SECOND // 10
ADOPT: Final = SECOND
DETECT: Final = 3 * SECOND // 2
RETRY: Final = SECOND // 2
PROGRAM: Final = JobSubmission(program="p")


@dataclass(frozen=True, slots=True)
class Row:
    """A job on a disk. `end` is the epoch under which it ended, and who ran it; empty while it has not."""

    id: str
    epoch: int
    holders: tuple[str, ...]
    end: tuple[int, str] | None = None


@dataclass(slots=True)
class Memory:
    """What a node loses when it is killed."""

    leases: Leases
    held: Held
    custody: Custody
    owned: set[str] = field(default_factory=set)
    doubt: set[str] = field(default_factory=set)
    told: dict[str, int] = field(default_factory=dict)
    unsent: dict[tuple[str, str], int] = field(default_factory=dict)
    shunned: dict[str, int] = field(default_factory=dict)


class Node:
    """One node."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.up = True
        self.paused = False
        self.life = 0
        self.waiting: list[Callable[[], None]] = []
        self.jobs: dict[str, Row] = {}
        self.copies: dict[str, Row] = {}
        self.done: set[str] = set()
        self.seen: dict[str, int] = {}
        self.memory = self._empty()

    def _empty(self) -> Memory:
        memory = Memory(Leases(LEASE), Held(1000), Custody(self.name, ADOPT))
        memory.custody.began(self.world.now + 2 * SECOND)
        return memory

    # Life

    def kill(self) -> None:
        self.up, self.paused = False, False
        self.life += 1
        self.waiting.clear()

    def start(self) -> None:
        self.up = True
        self.memory = self._empty()
        for row in self.jobs.values():
            if owner_of(row.epoch, row.holders) != self.name:
                continue
            if row.end is None:
                self._own(row)
                self.memory.doubt.add(row.id)
            else:
                self._tell(row)
        for row in self.copies.values():
            if row.end is None:
                self.memory.custody.hold(row.id, row.epoch, row.holders)
        self.world.after(TICK, self, self.tick)

    def resume(self) -> None:
        self.paused = False
        waiting, self.waiting = self.waiting, []
        for act in waiting:
            act()

    def alive(self) -> set[str]:
        """Name those that this node takes to be alive."""
        return {name for name, seen in self.seen.items() if self.world.now - seen <= DETECT} | {self.name}

    # Owning

    def accept(self, job_id: str) -> None:
        others = ranked(job_id, sorted(self.alive() - {self.name}))[: self.world.copies]
        row = Row(job_id, 0, (self.name, *others))
        self.jobs[job_id] = row
        self._own(row)
        self._tell(row)
        self.world.accepted[job_id] = self.name

    def _own(self, row: Row) -> None:
        self.memory.leases.add(row.id, row.epoch)
        self.memory.owned.add(row.id)

    def _tell(self, row: Row) -> None:
        for holder in row.holders:
            if holder != self.name:
                self.memory.unsent[row.id, holder] = 0

    def _place(self, job_id: str) -> None:
        memory, world = self.memory, self.world
        able = sorted(self.alive() & world.runners)
        able = [name for name in able if memory.shunned.get(name, 0) <= world.now] or able
        if not able:
            return
        runner = world.rng.choice(able)
        row = self.jobs[job_id]
        grant = memory.leases.offer(job_id, runner, world.now)
        self.jobs[job_id] = replace(row, epoch=grant.epoch)
        world.granted(self.name, job_id, grant.epoch, runner)
        body = JobOffer(job_id, PROGRAM, grant.epoch, LEASE // 1_000_000, row.holders)
        world.send(self, runner, lambda node: node.take(self.name, body))

    def tick(self) -> None:
        memory, world = self.memory, self.world
        for job_id, grant in memory.leases.due(world.now):
            memory.shunned[grant.runner] = world.now + 5 * SECOND
            world.lapsed(self.name, job_id, grant.runner)
        for job_id in sorted(memory.owned):
            row = self.jobs[job_id]
            if not self.alive().issuperset(row.holders):
                memory.doubt.add(job_id)
            if job_id in memory.doubt:
                if not self.alive() & set(row.holders) - {self.name}:
                    pass  # nobody can be asked: go on
                else:
                    self._tell(row)
                    if world.rng.random() < 0.9:
                        continue
                    memory.doubt.discard(job_id)
            if not memory.leases.grants(job_id):
                self._place(job_id)
        for (job_id, holder), due in list(memory.unsent.items()):
            if due <= world.now and holder in self.alive():
                memory.unsent[job_id, holder] = world.now + RETRY
                row = self.jobs[job_id]
                world.send(self, holder, lambda node, row=row: node.keep(self.name, row))
        for job_id in memory.custody.due(self.alive(), world.now):
            self._adopt(job_id)
        for job_id, owner in memory.custody.asked(8):
            if owner in self.alive() and world.rng.random() < 0.05:
                world.send(self, owner, lambda node, job_id=job_id: node.ask(self.name, job_id))
        self._renew()
        world.after(TICK, self, self.tick)

    def _adopt(self, job_id: str) -> None:
        row = self.jobs.get(job_id) or self.copies.get(job_id)
        self.memory.custody.drop(job_id)
        if row is None or row.end is not None:
            return
        row = replace(row, epoch=adopted_epoch(row.epoch, row.holders.index(self.name)))
        self.copies.pop(job_id, None)
        self.jobs[job_id] = row
        self._own(row)
        self._tell(row)
        self.world.adoptions += 1

    def renewed(self, peer: str, leases: tuple[HeldLease, ...], sent: int) -> None:
        stale = self.memory.leases.renew(peer, leases, self.world.now)
        self.world.send(self, peer, lambda node: node.answered(self.name, leases, stale, sent))

    def news(self, peer: str, job_id: str, epoch: int) -> None:
        """Take a result."""
        word = self.memory.leases.word(job_id, peer, epoch)
        if word is Word.COUNTS:
            self._end(job_id, epoch, peer)
        self.world.send(self, peer, lambda node: node.heard(job_id, epoch, counted=word is Word.COUNTS))

    def _end(self, job_id: str, epoch: int, runner: str) -> None:
        row = self.jobs[job_id]
        self.world.ended(self.name, row, epoch)
        self.memory.leases.end(job_id)
        self.memory.owned.discard(job_id)
        self.jobs[job_id] = row = replace(row, end=(epoch, runner))
        self._tell(row)

    # Records

    def keep(self, peer: str, row: Row) -> None:
        mine = self.jobs.get(row.id)
        known: Row | None = None
        if mine is not None:
            if mine.epoch > row.epoch:
                known = mine
                if row.end is not None and mine.end is None and row.id in self.memory.owned:
                    self._end(row.id, *row.end)
            elif mine.epoch < row.epoch or (row.end is not None and mine.end is None):
                self._yield(row)
        else:
            before = self.copies.get(row.id)
            if before is not None and before.epoch > row.epoch:
                known = before
            elif before is None or before.epoch < row.epoch or before.end is None:
                self.copies[row.id] = row
        if known is None and row.end is None:
            self.memory.custody.hold(row.id, row.epoch, row.holders)
        elif known is None:
            self.memory.custody.drop(row.id)
        self.world.send(self, peer, lambda node: node.kept(self.name, row, known))

    def ask(self, peer: str, job_id: str) -> None:
        row = self.jobs.get(job_id)
        if row is not None:
            self.world.send(self, peer, lambda node: node.keep(self.name, row))

    def kept(self, holder: str, row: Row, known: Row | None) -> None:
        if known is not None:
            self._yield(known)
        elif self.jobs.get(row.id) == row:
            self.memory.unsent.pop((row.id, holder), None)
            self.memory.doubt.discard(row.id)

    def _yield(self, row: Row) -> None:
        mine = self.jobs[row.id]
        if mine.epoch >= row.epoch and not (mine.epoch == row.epoch and row.end is not None and mine.end is None):
            return
        if mine.end is not None and row.end is None:
            return  # the new owner hears of this end, and takes it
        self.memory.leases.end(row.id)
        self.memory.owned.discard(row.id)
        for key in [key for key in self.memory.unsent if key[0] == row.id]:
            del self.memory.unsent[key]
        if row.end is not None and row.end != mine.end:
            self.world.ended(self.name, row, row.end[0])
        elif row.end is None:
            self.memory.custody.hold(row.id, row.epoch, row.holders)
        self.jobs[row.id] = row

    # Running

    def take(self, peer: str, body: JobOffer) -> None:
        take = self.memory.held.take(peer, body, f"node:{peer}", self.world.now)
        if take not in (Take.NEW, Take.ANEW, Take.SAME):
            return
        self.world.send(self, peer, lambda node: node.claimed(self.name, body.id, body.epoch))
        if body.id in self.done:
            self._report(body.id)
        elif take is Take.NEW:
            self.world.runs += 1
            self.world.after(round(self.world.rng.uniform(0.02, 1.5) * SECOND), self, lambda: self._ran(body.id))

    def claimed(self, peer: str, job_id: str, epoch: int) -> None:
        self.memory.leases.claim(job_id, peer, epoch, self.world.now)

    def _ran(self, job_id: str) -> None:
        if self.memory.held.find(job_id) is not None:
            self.done.add(job_id)
            self._report(job_id)

    def _report(self, job_id: str) -> None:
        hold = self.memory.held.find(job_id)
        if hold is not None:
            self.memory.told[job_id] = self.world.now
            epoch = hold.epoch
            self.world.send(self, hold.owner, lambda node: node.news(self.name, job_id, epoch))

    def _renew(self) -> None:
        memory, world = self.memory, self.world
        memory.held.overdue(world.now)
        for owner, leases in memory.held.renewals(world.now).items():
            now = world.now
            world.send(self, owner, lambda node, leases=leases, now=now: node.renewed(self.name, leases, now))
            for lease in leases:
                if lease.id in self.done and world.now - memory.told.get(lease.id, 0) > RETRY:
                    self._report(lease.id)

    def answered(self, owner: str, leases: tuple[HeldLease, ...], stale: list[str], sent: int) -> None:
        for hold in self.memory.held.renewed(owner, leases, stale, sent):
            self.done.discard(hold.job_id)

    def heard(self, job_id: str, epoch: int, *, counted: bool) -> None:
        if counted:
            self.memory.held.heard(job_id, epoch)
        else:
            hold = self.memory.held.find(job_id)
            if hold is not None and hold.epoch == epoch:
                self.memory.held.drop(job_id)
                self.done.discard(job_id)


class World:
    """The nodes, the network between them, and what is known of every job."""

    def __init__(self, seed: int, *, nodes: int = 5, copies: int = 2, loss: float = 0.05, twice: float = 0.05) -> None:
        self.rng = Random(seed)
        self.now = 0
        self.copies = copies
        self.loss = loss
        self.twice = twice
        self.cut: set[frozenset[str]] = set()
        self.accepted: dict[str, str] = {}
        self.grants: dict[tuple[str, int], tuple[str, str]] = {}
        self.ends: dict[tuple[str, str], list[int]] = {}
        self.gone: dict[str, int] = {}
        self.regained: list[float] = []
        self.adoptions = 0
        self.runs = 0
        self._turn = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        names = [f"n{index}" for index in range(nodes)]
        self.runners = set(names)
        self.nodes = {name: Node(self, name) for name in names}
        for node in self.nodes.values():
            node.seen = dict.fromkeys(names, 0)
            self.after(self.rng.randrange(TICK), node, node.tick)
        self.at(0, self._beat)

    def at(self, when: int, act: Callable[[], None]) -> None:
        self._turn += 1
        heapq.heappush(self._events, (when, self._turn, act))

    def after(self, delay: int, node: Node, act: Callable[[], None]) -> None:
        """Let a node do something later, in the same life; one that is paused does it when it goes on."""
        life = node.life

        def do() -> None:
            if node.up and node.life == life:
                if node.paused:
                    node.waiting.append(do)
                else:
                    act()

        self.at(self.now + delay, do)

    def reaches(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self.cut

    def send(self, sender: Node, to: str, act: Callable[[Node], None]) -> None:
        """Carry a message: late, out of order, twice, or not at all."""
        node = self.nodes[to]
        for _ in range(2 if self.rng.random() < self.twice else 1):
            if self.rng.random() >= self.loss and self.reaches(sender.name, to):
                delay = round(self.rng.expovariate(1 / 0.01) * SECOND)
                self.after(delay, node, lambda: act(node) if self.reaches(sender.name, to) else None)

    def _beat(self) -> None:
        for node in self.nodes.values():
            for other in self.nodes.values():
                if (
                    node.up
                    and other.up
                    and not node.paused
                    and not other.paused
                    and self.reaches(node.name, other.name)
                ):
                    node.seen[other.name] = self.now
        self.at(self.now + 4 * TICK, self._beat)

    def run(self, seconds: float) -> None:
        end = self.now + round(seconds * SECOND)
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = end

    # What must hold

    def granted(self, owner: str, job_id: str, epoch: int, runner: str) -> None:
        """No two nodes give a job away under one epoch, nor to two runners."""
        known = self.grants.setdefault((job_id, epoch), (owner, runner))
        assert known == (owner, runner), f"{job_id} under {epoch}: {known} and {(owner, runner)}"

    def ended(self, node: str, row: Row, epoch: int) -> None:
        """No node writes an end twice, unless that of an owner of a higher epoch takes the place of another one."""
        ends = self.ends.setdefault((node, row.id), [])
        assert all(before < row.epoch for before in ends), f"{row.id} at {node}: {ends} and {row.epoch}"
        assert (row.id, epoch) in self.grants
        ends.append(row.epoch)

    def lapsed(self, _owner: str, _job_id: str, runner: str) -> None:
        """Note how long after its runner was gone a job was regained."""
        if runner in self.gone:
            self.regained.append((self.now - self.gone[runner]) / SECOND)

    def check_end(self) -> None:
        """Every accepted job has ended, with one end at all its holders."""
        for job_id, origin in self.accepted.items():
            row = self.nodes[origin].jobs[job_id]
            assert row.end is not None, f"{job_id} of {origin} was lost: {row}"
            for holder in row.holders:
                node = self.nodes[holder]
                other = node.jobs.get(job_id) or node.copies.get(job_id)
                assert other is None or other.end == row.end, f"{job_id}: {row} and {other} at {holder}"
