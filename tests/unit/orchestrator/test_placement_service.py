"""Placement in a fleet of job services: loads travel, and jobs for any node go where they run best."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.engine.fake import FakeQpu
from qedge.orchestrator.fairness.health import Fitness
from qedge.orchestrator.placement.config import PlacementConfig
from qedge.orchestrator.placement.service import PlacementService
from qedge.wire.jobs import JobEstimate, JobState, JobSubmission, LatencyClass, PlacementPolicy
from qedge.wire.mesh import Capability, PeerList, PeerState, PeerView
from tests.unit.orchestrator.peer_site import EngineNode, EngineSite

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class Members:
    """Fills `Fleet` for one node of a site."""

    def __init__(self, node: EngineNode) -> None:
        self._node = node
        self.serve = node.peers.serve
        self.on_change = node.peers.on_change
        self.facts: dict[str, str | int | float | bool] = {"num_qubits": 20}

    def peers(self) -> PeerList:
        """Describe all nodes."""
        network = self._node.network
        return PeerList(
            "fleet",
            tuple(
                PeerView(
                    name,
                    PeerState.ALIVE if own or network.reaches(self._node.name, name) else PeerState.DEAD,
                    own=own,
                    epoch=each.epoch,
                    capabilities=(Capability("qpu", "qpu", "fake", "1", True, self.facts),) if each.qpu else (),
                    labels=("roof",) if name == "b" else (),
                )
                for name, each in network.nodes.items()
                for own in (name == self._node.name,)
            ),
        )

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node."""
        return await self._node.peers.call(node, body, answer, deadline_s=deadline_s)


class Fleet:
    """Nodes that choose where jobs run."""

    def __init__(self, site: EngineSite) -> None:
        self.site = site
        self.fitness: dict[str, Fitness] = {}
        self.services: dict[str, PlacementService] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def node(self, name: str, qpu: FakeQpu | None) -> EngineNode:
        """Start a node."""
        node = await self.site.node(name, qpu)
        service = PlacementService(
            PlacementConfig(),
            node.engine,
            Members(node),
            own=name,
            epoch=1,
            free_memory_bytes=lambda: 10**9,
            fitness=lambda: self.fitness.get(name, Fitness()),
            clock=SystemClock(),
            metrics=Metrics(),
            uniform=random.Random(1).random,
        )
        node.engine.reception.gate = service.gate
        node.ledger.owner.offering.placer = service
        self.services[name] = service
        ready = asyncio.Event()
        self._tasks.append(asyncio.create_task(service.run(ready.set)))
        await ready.wait()
        self.site.network.tell_all()
        return node

    async def know(self, name: str, other: str, suits: Callable[[float], bool] = lambda _s: True) -> None:
        """Wait until a node knows how busy another one is."""
        async with asyncio.timeout(20):
            while True:
                view = self.services[name].book.load_view(other, 0)
                if view is not None and suits(view.backlog_s[1]):
                    return
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.site.close()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    made = Fleet(EngineSite(tmp_path))
    yield made
    await made.close()


def slow(name: str, time_s: float) -> FakeQpu:
    """Make a QPU that says its jobs take so long and does not end them."""
    qpu = FakeQpu(name)
    qpu.time_s, qpu.held = time_s, True
    return qpu


async def refused(work: Awaitable[object]) -> QedgeError:
    """Return the error that something ends with."""
    with pytest.raises(QedgeError) as error:
        await work
    return error.value


async def test_a_job_for_any_node_stays_on_an_idle_node_and_leaves_a_busy_one(fleet: Fleet) -> None:
    qpu = slow("a", 5.0)
    a, b = await fleet.node("a", qpu), await fleet.node("b", FakeQpu("b"))
    await fleet.know("a", "b")
    first = await a.submit(node="any")
    assert first.node == "a"
    second = await a.end((await a.submit(node="any")).id)
    assert (second.state, second.node) == (JobState.DONE, "b")
    assert b.qpu is not None
    assert len(b.qpu.runs) == 1
    qpu.release.set()
    assert (await a.end(first.id)).state is JobState.DONE


async def test_a_node_without_a_qpu_sends_all_its_jobs_away_unseen(fleet: Fleet) -> None:
    a, _, _ = await fleet.node("a", None), await fleet.node("b", FakeQpu("b")), await fleet.node("c", FakeQpu("c"))
    await fleet.know("a", "b")
    await fleet.know("a", "c")
    ended = [await a.end((await a.submit(node="any")).id) for _ in range(12)]
    assert {each.state for each in ended} == {JobState.DONE}
    assert {each.node for each in ended} == {"b", "c"}


@dataclass(frozen=True)
class Wanted:
    """A job that is to be placed."""

    job_id: str
    submission: JobSubmission
    estimate: JobEstimate | None = None


async def test_a_ledger_may_place_here_too_and_what_it_placed_counts(fleet: Fleet) -> None:
    await fleet.node("a", FakeQpu("a"))
    await fleet.node("b", FakeQpu("b"))
    await fleet.know("a", "b")
    service, job = fleet.services["a"], JobSubmission(program="p", node="any")
    assert service.place(Wanted("1", job)) == "a"
    assert service.place(Wanted("2", job), barred=frozenset("a")) == "b"
    assert service.place(Wanted("3", job), barred=frozenset("ab")) == ""
    assert {each.node: each.placed for each in service.book.candidates(SystemClock().now_ns())} == {"a": 1, "b": 1}


async def test_a_policy_without_a_node_means_any_node_and_labels_choose_it(fleet: Fleet) -> None:
    a, _ = await fleet.node("a", FakeQpu("a")), await fleet.node("b", FakeQpu("b"))
    await fleet.know("a", "b")
    view = await a.end((await a.submit(placement=PlacementPolicy.FASTEST, labels=("roof",))).id)
    assert view.node == "b"
    assert (await a.end((await a.submit(placement=PlacementPolicy.PINNED)).id)).node == "a"


async def test_what_no_node_can_is_refused_at_once_with_each_nodes_reason(fleet: Fleet) -> None:
    a, _ = await fleet.node("a", FakeQpu("a")), await fleet.node("b", FakeQpu("b"))
    await fleet.know("a", "b")
    error = await refused(a.submit(node="any", labels=("cellar",)))
    assert error.code == "job.unplaceable"
    assert "b: it lacks cellar" in error.message


async def test_a_deadline_that_no_node_can_meet_is_refused_with_what_is_predicted(fleet: Fleet) -> None:
    a, _ = await fleet.node("a", slow("a", 5.0)), await fleet.node("b", slow("b", 5.0))
    for node in ("a", "b"):
        await a.submit(node=node)
    await fleet.know("a", "b", lambda backlog_s: backlog_s > 1)
    await asyncio.sleep(0.3)
    error = await refused(a.submit(node="any", deadline_s=6.0))
    assert error.code == "job.deadline_unreachable"
    predicted_s = error.details["predicted_s"]
    assert isinstance(predicted_s, float)
    assert predicted_s > 6
    assert (await refused(a.submit(deadline_s=6.0))).code == "job.deadline_unreachable"


async def test_a_node_that_is_not_well_says_so_and_gets_less(fleet: Fleet) -> None:
    qpu = FakeQpu("a")
    qpu.time_s = 1.0  # so long that the way to another node is nothing
    a, b = await fleet.node("a", qpu), await fleet.node("b", FakeQpu("b"))
    fleet.fitness["a"] = Fitness(0.1, "degraded", "temperature degraded")
    async with asyncio.timeout(30):
        while (view := fleet.services["b"].book.load_view("a", 0)) is None or view.verdict == "ok":
            await asyncio.sleep(0.05)
    assert (view.factor, view.reason) == (0.1, "temperature degraded")
    await fleet.know("a", "b")
    ended = [await a.end((await a.submit(node="any", placement=PlacementPolicy.FASTEST)).id) for _ in range(3)]
    assert {each.node for each in ended} == {"b"}
    fleet.fitness["a"] = Fitness(0.0, "critical", "disk critical")
    async with asyncio.timeout(30):
        while True:
            try:
                await a.end((await a.submit(latency_class=LatencyClass.BATCH)).id)
            except QedgeError as error:
                assert error.code == "job.shed"
                break
            await asyncio.sleep(0.05)
    assert (await a.end((await a.submit(latency_class=LatencyClass.CRITICAL)).id)).state is JobState.DONE
    assert b.running


async def test_a_dry_run_says_where_a_job_would_go_and_why_not_elsewhere(fleet: Fleet) -> None:
    await fleet.node("a", FakeQpu("a"))
    await fleet.node("b", FakeQpu("b"))
    await fleet.know("a", "b")
    service = fleet.services["a"]
    found = (await service.explained(JobSubmission(program="p", node="any", avoid=("b",)))).placement
    assert found is not None
    assert (found.node, found.policy) == ("a", "balanced")
    assert {each.node: each.why_not for each in found.considered} == {"a": "", "b": "the job avoids it"}
    here = (await service.explained(JobSubmission(program="p"))).placement
    assert here is not None
    assert (here.node, here.policy) == ("a", "pinned")
    assert fleet.services["a"].book.candidates(0)[1].placed == 0


async def test_interactive_jobs_do_not_wait_for_batch_jobs_on_all_slots(fleet: Fleet) -> None:
    qpu = FakeQpu("a", spares=1)
    qpu.held = True
    a = await fleet.node("a", qpu)
    batch = [await a.submit("batch", latency_class=LatencyClass.BATCH) for _ in range(3)]
    done = await a.end((await a.submit("urgent")).id)
    assert done.state is JobState.DONE
    assert {(await a.engine.job(each.id)).state for each in batch} == {JobState.QUEUED, JobState.RUNNING}
    qpu.release.set()
    assert {(await a.end(each.id)).state for each in batch} == {JobState.DONE}


async def test_of_several_slots_one_is_kept_from_batch_jobs(fleet: Fleet) -> None:
    qpu = FakeQpu("a", capacity=3)
    qpu.held = True
    a = await fleet.node("a", qpu)
    for _ in range(5):
        await a.submit("batch", latency_class=LatencyClass.BATCH)
    await a.submit("urgent")
    async with asyncio.timeout(30):
        while len(qpu.runs) < 3:
            await asyncio.sleep(0.01)
    assert sorted(qpu.runs) == ["batch", "batch", "urgent"]
    assert a.engine.occupancy().free_slots == 0
    qpu.release.set()


async def test_a_node_that_nobody_knows_yet_not_even_itself_runs_its_jobs(fleet: Fleet) -> None:
    a = await fleet.node("a", FakeQpu("a"))
    fleet.services["a"].book.know([])
    assert (await a.end((await a.submit(node="any")).id)).state is JobState.DONE
