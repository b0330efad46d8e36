"""Exchanges loads with other nodes, and decides where jobs run that any node may run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine.model import FINAL_STATES
from qedge.orchestrator.fairness.health import Fitness
from qedge.orchestrator.fairness.shedding import check_shedding
from qedge.orchestrator.placement.able import is_for_good
from qedge.orchestrator.placement.book import LoadBook, NodeFacts, qpus_of
from qedge.orchestrator.placement.config import PlacementConfig
from qedge.orchestrator.placement.demand import demand_of
from qedge.orchestrator.placement.model import Demand, Placement, PlacementPolicy, Uniform, Wish
from qedge.orchestrator.placement.partners import Telling, partners_of
from qedge.orchestrator.placement.placer import FleetPlacer
from qedge.orchestrator.placement.ports import Fleet, Jobs
from qedge.wire.jobs import JobEstimate, JobSubmission, JobView, LatencyClass
from qedge.wire.load import ConsideredView, NodeLoad, PlacementView
from qedge.wire.mesh import PeerList, PeerState, PeerView

_LOG: Final = get_logger("placement")
_TICK_S: Final = 0.1
_USUAL_WEIGHT: Final = 0.2
_ALONE_S: Final = 1.0
_JUDGE_NS: Final = 1_000_000_000
_LOOK_NS: Final = 5_000_000_000
_LARGE_LOOK_NS: Final = 30_000_000_000
_LARGE: Final = 200
_TELL_LIMIT_S: Final = 2.0
_PRESENT: Final = (PeerState.ALIVE, PeerState.SUSPECT)
_NO_ESTIMATE: Final = JobEstimate(0, 0, 0, 0, 0, 0.0, 0, "")


class PlacementService:
    """Chooses nodes for the ledger. Loads of peers come and go in the background."""

    name = "placement"

    def __init__(
        self,
        config: PlacementConfig,
        jobs: Jobs,
        fleet: Fleet,
        *,
        own: str,
        epoch: int,
        free_memory_bytes: Callable[[], int],
        fitness: Callable[[], Fitness],
        clock: Clock,
        metrics: Metrics,
        uniform: Uniform,
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._fleet = fleet
        self._own = own
        self._epoch = epoch
        self._free_memory_bytes = free_memory_bytes
        self._look_at_health = fitness
        self._clock = clock
        self._metrics = metrics
        self._serials = itertools.count(1)
        self._usual_s = (0.0, 0.0, 0.0)
        self._fitness = Fitness()
        self.draining: Callable[[], bool] = lambda: False
        """Whether this node gives its jobs away."""
        self.barred: Callable[[], frozenset[str]] = frozenset
        """Nodes that get no jobs from here."""

        self.book = LoadBook(self.own_load)
        self.placer = FleetPlacer(self.book, now_ns=clock.now_ns, uniform=uniform)
        self._telling = Telling()
        self._partners: frozenset[str] = frozenset()
        self._under_way: set[str] = set()
        self._changed = True
        self._members = 0
        self._looked_ns = self._judged_ns = -_LARGE_LOOK_NS
        fleet.serve(NodeLoad, self._hear)
        fleet.on_change(self._mark)

    # What others ask

    def own_load(self) -> NodeLoad:
        """Describe this node as it is now."""
        now = self._jobs.occupancy()
        return NodeLoad(
            epoch=self._epoch,
            serial=next(self._serials),
            slots=now.slots,
            free_slots=now.free_slots,
            queued=now.queued,
            backlog_s=tuple(min(each, 1e9) for each in now.backlog_s),
            free_memory_bytes=self._free_memory_bytes(),
            factor=self._fitness.factor,
            verdict=self._fitness.verdict,
            reason=self._fitness.reason,
            draining=self.draining(),
        )

    def told_load(self) -> NodeLoad:
        """Describe this node as others should see it until they hear again: an idle moment of a busy node is left out.

        Whoever takes a job away from a queue that is exactly known, for one that was empty a second ago, loses.
        """
        load = self.own_load()
        backlog_s = tuple(max(each) for each in zip(load.backlog_s, self._usual_s, strict=True))
        return msgspec.structs.replace(load, backlog_s=backlog_s)

    def gate(self, latency: LatencyClass) -> None:
        """Raise `job.shed` where this node takes no more jobs of a class."""
        if self._fitness.verdict != "ok":
            check_shedding(latency, self._fitness, self._jobs.occupancy())

    def place(self, wish: Wish, *, barred: frozenset[str] = frozenset()) -> str:
        """Return the node that is to run a job, this one included; empty: none can now."""
        demand = self.demand(wish.job_id, wish.submission, wish.estimate)
        started_ns = self._clock.now_ns()
        found = self.placer.place(demand, barred=barred | self.barred())
        self._metrics.observe("qedge_placement_seconds", (self._clock.now_ns() - started_ns) / 1e9)
        outcome = "here" if found.node == self._own else "away" if found.node else "nobody"
        self._metrics.add("qedge_placements_total", (outcome,))
        return found.node

    def check(self, wish: Wish) -> None:
        """Raise `job.unplaceable` or `job.deadline_unreachable` where waiting would change nothing."""
        demand = self.demand(wish.job_id, wish.submission, wish.estimate)
        found = self.placer.explain(demand)
        if not found.node:
            self._refuse(demand, found)

    async def explained(self, submission: JobSubmission) -> JobEstimate:
        """Estimate a job and say where it would go; without a QPU here only what its text shows is known."""
        anywhere = submission.node == "any" or submission.placement is not None
        try:
            estimate = await self._jobs.estimate(submission, binding=not anywhere)
        except QedgeError as error:
            if not anywhere or error.code != "job.no_qpu":
                raise
            estimate = _NO_ESTIMATE
        named = msgspec.structs.replace(submission, node=submission.node or ("any" if anywhere else self._own))
        demand = self.demand("", named, estimate if estimate.method else None)
        return msgspec.structs.replace(estimate, placement=view_of(demand, self.placer.explain(demand)))

    def with_loads(self, peers: PeerList) -> PeerList:
        """Add what is known of their loads to a list of nodes."""
        now_ns = self._clock.now_ns()
        return msgspec.structs.replace(
            peers,
            peers=tuple(
                msgspec.structs.replace(each, load=self.book.load_view(each.node, now_ns)) for each in peers.peers
            ),
        )

    def demand(self, job_id: str, submission: JobSubmission, estimate: JobEstimate | None) -> Demand:
        """Say what a job needs; without an estimate, as what small jobs took lately."""
        return demand_of(
            job_id,
            submission,
            estimate,
            run_time_s=self._jobs.expected_s(estimate),
            default=self._config.policy,
            own=self._own,
        )

    def _refuse(self, demand: Demand, found: Placement) -> None:
        """Raise where waiting would change nothing."""
        late = [each.predicted_s for each in found.considered if each.predicted_s > 0]
        if late:
            raise QedgeError(
                "job.deadline_unreachable",
                f"The job would end in about {min(late):.3g} s at the earliest; its deadline is in "
                f"{demand.deadline_s:g} s.",
                fix="Give it a later deadline or a more urgent class; `qedge submit --explain` shows all nodes.",
                predicted_s=round(min(late), 4),
                limit=demand.deadline_s,
            )
        candidates = self.book.candidates(self._clock.now_ns())
        if candidates and all(is_for_good(demand, each) for each in candidates):
            reasons = "; ".join(f"{each.node}: {each.why_not}" for each in found.considered[:5])
            raise QedgeError(
                "job.unplaceable",
                f"No node can run the job. {reasons}.",
                fix="Ask for less; `qedge submit --explain` shows all nodes.",
            )

    # Loads

    async def run(self, ready: Ready) -> None:
        """Exchange loads until cancelled."""
        self._look(self._clock.now_ns())
        ready()
        with self._jobs.changes.heard_by(self._hear_change):
            await self._exchange()

    async def _exchange(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                now_ns = self._clock.now_ns()
                self._look(now_ns)
                if self._members > 1:
                    self._remember()
                    load = self.told_load()
                    for node in self._telling.due(self._partners, load, now_ns):
                        if node not in self._under_way:
                            self._under_way.add(node)
                            self._telling.told(node, load, now_ns)
                            group.create_task(self._tell(node, load))
                await asyncio.sleep(_TICK_S if self._members > 1 else _ALONE_S)

    def _remember(self) -> None:
        """Keep an average of the backlogs over half a second."""
        critical, interactive, batch = (
            usual_s + _USUAL_WEIGHT * (min(now_s, 1e9) - usual_s)
            for usual_s, now_s in zip(self._usual_s, self._jobs.occupancy().backlog_s, strict=True)
        )
        self._usual_s = (critical, interactive, batch)

    def _mark(self) -> None:
        self._changed = True

    def _look(self, now_ns: int) -> None:
        """See how well this node is, and who is there."""
        if now_ns - self._judged_ns >= _JUDGE_NS:
            self._judged_ns, before = now_ns, self._fitness
            self._fitness = self._look_at_health()
            self._metrics.set("qedge_node_factor", self._fitness.factor)
            if self._fitness.verdict != before.verdict:
                _LOG.warning("node.fitness", verdict=self._fitness.verdict, reason=self._fitness.reason)
        age_ns = now_ns - self._looked_ns
        if age_ns < (_LOOK_NS if self._members <= _LARGE else _LARGE_LOOK_NS) and not (
            self._changed and (age_ns >= _JUDGE_NS or self._members <= _LARGE)
        ):
            return
        self._changed, self._looked_ns = False, now_ns
        members = [each for each in self._fleet.peers().peers if each.state is not PeerState.REVOKED]
        able = [each for each in members if each.state in _PRESENT and any(q.kind == "qpu" for q in each.capabilities)]
        self._members = len(members)
        chosen = set(partners_of(self._own, (each.node for each in able), self._config.partners))
        for label in {label for each in able for label in each.labels}:
            chosen |= partners_of(f"{self._own} {label}", (each.node for each in able if label in each.labels), 2)
        self._partners = frozenset(chosen - {self._own})
        few = self._members <= self._config.partners
        self.book.know(_facts(each) for each in members if few or each.own or each.node in self._partners)

    async def _tell(self, node: str, load: NodeLoad) -> None:
        """Tell a node this one's load, and hear its own."""
        started_ns = self._clock.now_ns()
        try:
            theirs = await self._fleet.call(node, load, NodeLoad, deadline_s=_TELL_LIMIT_S)
            now_ns = self._clock.now_ns()
            self.book.take(node, theirs, now_ns, (now_ns - started_ns) / 1e9)
            self._metrics.add("qedge_loads_told_total", ("told",))
        except QedgeError:
            self._metrics.add("qedge_loads_told_total", ("failed",))
        finally:
            self._under_way.discard(node)

    async def _hear(self, peer: str, load: NodeLoad) -> NodeLoad:
        now_ns = self._clock.now_ns()
        self.book.take(peer, load, now_ns)
        load = self.told_load()
        self._telling.asked(peer, load, now_ns)
        return load

    def _hear_change(self, view: JobView) -> None:
        if view.state in FINAL_STATES:
            self.book.ended(view.id)


def _facts(view: PeerView) -> NodeFacts:
    return NodeFacts(
        view.node,
        view.own,
        view.own or view.state in _PRESENT,
        view.epoch,
        qpus_of(view.capabilities),
        frozenset(view.labels),
        view.session.extra_key,
    )


def view_of(demand: Demand, placement: Placement) -> PlacementView:
    """Describe a decision for people and programs."""
    rows = sorted(placement.considered, key=lambda each: (each.node != placement.node, bool(each.why_not), each.score))
    considered = tuple(ConsideredView(each.node, each.score, each.predicted_s, each.why_not) for each in rows)
    return PlacementView(placement.node, PlacementPolicy(demand.policy).value, placement.score, considered)
