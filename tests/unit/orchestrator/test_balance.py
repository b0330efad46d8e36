"""A fleet in virtual time: every node places by what it last heard, and still the work is shared."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from qedge.orchestrator.placement.book import LoadBook, NodeFacts
from qedge.orchestrator.placement.model import Demand, LatencyClass, PlacementPolicy, QpuFacts
from qedge.orchestrator.placement.placer import FleetPlacer
from qedge.wire.load import NodeLoad

SECOND = 10**9
MILLI = 10**6
TELL_NS = 100 * MILLI
WAY_NS = 3 * MILLI
RUN_S = 0.05


class Node:
    """One slot with a queue; `speed` times as fast as the usual one."""

    def __init__(self, world: World, name: str, speed: float) -> None:
        self.world, self.name, self.speed = world, name, speed
        self.work: list[float] = []
        self.done, self.busy_s = 0, 0.0
        self.serials = itertools.count()
        self.book = LoadBook(self.load)
        self.placer = FleetPlacer(self.book, now_ns=lambda: world.now_ns, uniform=world.rng.random)

    def load(self) -> NodeLoad:
        """Describe the queue."""
        backlog_s = min(sum(self.work), 1e6)
        free = 0 if self.work else 1
        return NodeLoad(1, next(self.serials), 1, free, (0, len(self.work), 0), (0.0, backlog_s, backlog_s), 2**40)

    def take(self, run_s: float) -> None:
        """Let a job wait or begin."""
        self.work.append(run_s / self.speed)
        if len(self.work) == 1:
            self.world.at(round(self.work[0] * SECOND), self.finish)

    def finish(self) -> None:
        """End a job and begin the next one."""
        self.busy_s += self.work.pop(0)
        self.done += 1
        if self.work:
            self.world.at(round(self.work[0] * SECOND), self.finish)


class World:
    """Nodes, a clock that jumps, and loads that are told every tenth of a second and take a while to arrive."""

    def __init__(self, seed: int, speeds: list[float]) -> None:
        self.rng = random.Random(seed)
        self.now_ns = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._turns = itertools.count()
        self.nodes = [Node(self, f"n{index}", speed) for index, speed in enumerate(speeds)]
        for node in self.nodes:
            node.book.know(
                NodeFacts(each.name, each is node, True, 1, (QpuFacts("qpu", 20, speed=1e6 * each.speed),))
                for each in self.nodes
            )
            self.at(self.rng.randrange(TELL_NS), lambda node=node: self.tell(node))  # type: ignore[misc]

    def at(self, delay_ns: int, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._turns), act))

    def tell(self, node: Node) -> None:
        """Tell all others how busy a node is."""
        load = node.load()
        self.at(WAY_NS, lambda: [each.book.take(node.name, load, self.now_ns) for each in self.nodes])  # type: ignore[func-returns-value]
        self.at(TELL_NS, lambda: self.tell(node))

    def submit(self, origin: Node, policy: PlacementPolicy, number: int) -> None:
        """Place a job where it is accepted; what it takes is not quite what was expected."""
        demand = Demand(str(number), 10, "", 100, RUN_S / origin.speed, 2**20, 1000, LatencyClass.INTERACTIVE, policy)
        chosen = origin.placer.place(demand).node
        target = next(each for each in self.nodes if each.name == chosen)
        run_s = RUN_S * self.rng.uniform(0.5, 1.5)
        self.at(0 if target is origin else WAY_NS, lambda: target.take(run_s))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_ns = self.now_ns + round(seconds * SECOND)
        while self._events and self._events[0][0] <= end_ns:
            self.now_ns, _, act = heapq.heappop(self._events)
            act()
        self.now_ns = end_ns

    def offer(self, seconds: float, load: float, policy: PlacementPolicy, origins: list[Node] | None = None) -> None:
        """Submit at random times so much that this share of all nodes is busy."""
        rate = load * sum(node.speed for node in self.nodes) / RUN_S
        at_s, number = 0.0, itertools.count()
        while (at_s := at_s + self.rng.expovariate(rate)) < seconds:
            origin = self.rng.choice(origins or self.nodes)
            self.at(
                round(at_s * SECOND),
                lambda origin=origin: self.submit(origin, policy, next(number)),  # type: ignore[misc]
            )
        self.run(seconds)


@pytest.mark.parametrize(("nodes", "policy"), [(4, PlacementPolicy.BALANCED), (50, PlacementPolicy.FASTEST)])
def test_a_fleet_that_is_nearly_full_shares_the_work_however_late_its_facts_are(
    nodes: int, policy: PlacementPolicy
) -> None:
    world = World(1, [1.0] * nodes)
    world.offer(60 / nodes, 0.9, policy)
    busy = [node.busy_s * nodes / 60 for node in world.nodes]
    waiting = sum(len(node.work) for node in world.nodes)
    assert min(busy) > 0.5
    assert sum(busy) > 0.7 * nodes
    assert waiting < 4 * nodes


def test_one_origin_uses_the_whole_fleet() -> None:
    world = World(2, [1.0] * 8)
    world.offer(8, 0.9, PlacementPolicy.BALANCED, [world.nodes[0]])
    assert min(node.busy_s for node in world.nodes) > 0.6 * 8
    assert sum(len(node.work) for node in world.nodes) < 4 * 8


def test_faster_nodes_do_more_in_proportion() -> None:
    world = World(3, [1.0, 1.0, 2.0, 4.0])
    world.offer(15, 0.85, PlacementPolicy.FASTEST)
    slow, fast = world.nodes[0], world.nodes[3]
    assert 2.0 < fast.done / slow.done < 12
    assert max(len(node.work) for node in world.nodes) < 20


def test_many_origins_that_see_the_same_do_not_all_run_to_the_same_node() -> None:
    world = World(4, [1.0] * 20)
    world.run(0.5)
    for number, origin in enumerate(world.nodes[:10]):
        # all ten are busy themselves, and see the same ten that are idle
        origin.take(10.0)
        world.run(0.2 if number == 9 else 0)
    for number, origin in enumerate(world.nodes[:10]):
        world.submit(origin, PlacementPolicy.FASTEST, number)
    world.run(0.01)
    assert max(len(node.work) for node in world.nodes[10:]) <= 4
    assert sum(len(node.work) == 1 for node in world.nodes[10:]) >= 3


def test_pack_leaves_nodes_idle_that_are_not_needed() -> None:
    world = World(5, [1.0] * 10)
    world.offer(10, 0.2, PlacementPolicy.PACK)
    idle = sum(node.busy_s < 0.5 for node in world.nodes)
    assert idle >= 3
    demand = replace(
        Demand("", 1, "", 1, 0.01, 1, 1, LatencyClass.BATCH, PlacementPolicy.PACK), policy=PlacementPolicy.PACK
    )
    assert world.nodes[0].placer.explain(demand).node
