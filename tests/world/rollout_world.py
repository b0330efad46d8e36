"""A roll-out over thousands of nodes in virtual time, by the engines of the fleet tool.

Nodes speak in births and reports, as real ones do, and a modelled broker brings them late, twice and out of order; some
nodes are away when they are asked, some come back. Signatures alone are left out: that a birth comes from a node of
this world is what one would prove. All randomness is drawn from the generator that is passed in.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from qedge.base.ids import uuid7
from qedge.client.fleet_tool.inventory import Inventory
from qedge.client.fleet_tool.model import FleetNode, NodeStanding
from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_model import Ask, Withdraw
from qedge.client.fleet_tool.rollout_plan import (
    Asked,
    Event,
    Heard,
    Order,
    Passed,
    RolloutPlan,
    Seen,
    Withdrawn,
    cut_waves,
)
from qedge.client.fleet_tool.selecting import parse_selection
from qedge.client.fleet_tool.watching import Watch
from qedge.crypto.keys import PublicKey, generate
from qedge.crypto.model import Member, Role, Subject
from qedge.wire.commands import CommandReport, CommandRequest, CommandState
from qedge.wire.mesh import Birth, Lost

SECOND: Final = 1_000_000_000
UTC_NS: Final = 1_800_000_000 * SECOND
OLD: Final = "1.0.0"
NEW: Final = "2.0.0"
TOOL_PER_S: Final = 500
"""Requests that the tool signs and the broker takes in a second."""

TICK_NS: Final = SECOND // 2


@dataclass(frozen=True, slots=True)
class Version:
    """How the new version behaves. `refused`: the node's own health gate notices, and goes back by itself.

    `dies_after_s`: it starts and then dies, and its node is gone; None: it does not. `every`: it does so at each so
    many-th node.
    """

    refused: bool = False
    dies_after_s: float | None = None
    every: int = 1


@dataclass(frozen=True, slots=True)
class Course:
    """What a roll-out came to. `reached`: nodes that were sent the order; `began`: nodes that began it."""

    phase: str
    took_s: float
    reached: int
    began: int
    new: int
    waves: tuple[int, ...]
    messages: int


class WorldNode:
    """One node: takes a request once, restarts into the new version, says so."""

    __slots__ = (
        "away_until_ns",
        "began",
        "done",
        "epoch",
        "instance",
        "name",
        "revision",
        "up",
        "version",
        "weak",
        "world",
    )

    def __init__(self, world: RolloutWorld, number: int) -> None:
        name = f"n{number:05}"
        self.world = world
        self.weak = number % world.version.every == 0
        self.name = name
        self.version = OLD
        self.epoch = 1
        self.instance = world.rng.randbytes(16)
        self.up = True
        self.away_until_ns = 0
        self.done: set[str] = set()
        self.began = 0
        self.revision: dict[str, int] = {}

    def born(self) -> None:
        """Introduce itself."""
        world = self.world
        birth = Birth(
            "world", self.name, self.version, "boot", self.epoch, UTC_NS + world.now_ns, False, "up", self.instance
        )
        world.deliver(lambda: world.hear_birth(birth))

    def die(self) -> None:
        """Be gone; the broker tells with a last will."""
        self.up = False
        will = Lost(self.epoch, self.instance)
        self.world.at(self.world.now_ns + 20 * SECOND, lambda: self.world.hear_lost(self.name, will))

    def ask(self, request: CommandRequest) -> None:
        """Take a request, once; one that finds nobody stands until the node is back or it expires."""
        world = self.world
        if not self.up:
            if self.away_until_ns > world.now_ns and UTC_NS + self.away_until_ns < request.expires_utc_ns:
                world.at(self.away_until_ns + SECOND, lambda: self.ask(request))
            return
        if request.id in self.done or request.id in world.withdrawn:
            return
        self.done.add(request.id)
        self.report(request, CommandState.INIT)
        self.report(request, CommandState.EXECUTING)
        self.began += request.kind == "update"
        work_s = world.rng.uniform(5, 40)
        world.at(world.now_ns + round(work_s * SECOND), lambda: self.finish(request))

    def finish(self, request: CommandRequest) -> None:
        """End what was asked."""
        world = self.world
        if request.kind == "update-rollback":
            self.version = OLD
        elif world.version.refused:
            self.report(request, CommandState.FAILED, "the new version did not become ready")
            return
        else:
            self.version = NEW
        self.epoch += 1
        self.instance = world.rng.randbytes(16)
        self.report(request, CommandState.SUCCESSFUL)
        self.born()
        if request.kind == "update" and world.version.dies_after_s is not None and self.weak:
            world.at(world.now_ns + round(world.version.dies_after_s * SECOND), self.die)

    def report(self, request: CommandRequest, state: CommandState, reason: str = "") -> None:
        """Tell where a command stands."""
        revision = self.revision[request.id] = self.revision.get(request.id, 0) + 1
        utc_ns = UTC_NS + self.world.now_ns
        report = CommandReport(request.id, request.kind, state, revision, utc_ns, operator="ann", reason=reason)
        self.world.deliver(lambda: self.world.hear_report(self.name, report))


class RolloutWorld:
    """Nodes, a broker, and a tool; `away` is the share of nodes that are not there, half of which come back."""

    def __init__(self, size: int, rng: Random, version: Version, *, away: float = 0.02) -> None:
        self.rng = rng
        self.version = version
        self.now_ns = 0
        self.messages = 0
        self.withdrawn: set[str] = set()
        self.inventory = Inventory()
        self.watch = Watch()
        self.rollout: Rollout | None = None
        self.events: list[Event] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._serial = itertools.count(1)
        self._member = _somebody()
        self.nodes = {node.name: node for node in (WorldNode(self, number) for number in range(size))}
        for node in self.nodes.values():
            node.born()
        self.run_until(5 * SECOND)
        for node in rng.sample(list(self.nodes.values()), round(size * away)):
            node.die()
            if rng.random() < 0.5:
                node.away_until_ns = self.now_ns + rng.randrange(60 * SECOND, 1800 * SECOND)
                self.at(node.away_until_ns, partial(self.come_back, node))
        self.run_until(60 * SECOND)

    def come_back(self, node: WorldNode) -> None:
        """Let a node that was away start again."""
        node.up = True
        node.epoch += 1
        node.instance = self.rng.randbytes(16)
        node.born()

    def at(self, when_ns: int, what: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._queue, (when_ns, next(self._order), what))

    def deliver(self, what: Callable[[], None]) -> None:
        """Bring a message: mostly at once, sometimes late, sometimes twice."""
        for _ in range(1 + (self.rng.random() < 0.01)):
            self.messages += 1
            slow_s = self.rng.uniform(0, 3) if self.rng.random() < 0.01 else 0
            self.at(self.now_ns + round((0.005 + self.rng.random() * 0.05 + slow_s) * SECOND), what)

    def run_until(self, when_ns: int) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= when_ns:
            self.now_ns, _, what = heapq.heappop(self._queue)
            what()
        self.now_ns = when_ns

    def hear_birth(self, birth: Birth) -> None:
        """The tool hears a birth."""
        node = self.inventory.born(birth, self._member, UTC_NS + self.now_ns, retained=False)
        if node is not None:
            self._seen(node)

    def hear_lost(self, name: str, will: Lost) -> None:
        """The tool hears a last will."""
        node = self.inventory.lost(name, will)
        if node is not None:
            self._seen(node)

    def hear_report(self, name: str, report: CommandReport) -> None:
        """The tool hears a report; of two that overtook each other the later one counts."""
        view = self.watch.reported(name, report)
        if view is not None and self.rollout is not None:
            self.take(Heard(UTC_NS + self.now_ns, name, report.id, report.state, report.reason))

    def take(self, event: Event) -> None:
        """Tell the engine, and write down what changed it."""
        assert self.rollout is not None
        if self.rollout.take(event):
            self.events.append(event)

    def play(self, waves: str, *, soak_s: float, back: bool, limit_s: float = 6 * 3600.0) -> Course:
        """Roll the new version out, and return what came of it."""
        picked = parse_selection(f"version<{NEW}").pick(self.inventory.nodes())
        names = [node.name for node in picked]
        self.rng.shuffle(names)
        plan = RolloutPlan(
            uuid7(UTC_NS, self.rng.randbytes),
            "world",
            "ann",
            Order("update"),
            cut_waves(names, waves),
            UTC_NS + self.now_ns,
            soak_s=soak_s,
            expect_version=NEW,
            back=Order("update-rollback") if back else None,
        )
        rollout = self.rollout = Rollout(plan)
        for node in picked:
            self._seen(node)
        began_ns = self.now_ns
        while not rollout.ended:
            assert self.now_ns - began_ns < limit_s * SECOND, "the roll-out never ended"
            busy = self._act(rollout, plan)
            self.run_until(self.now_ns + (busy or TICK_NS))
            self.take(Passed(UTC_NS + self.now_ns))
        took_s = (self.now_ns - began_ns) / SECOND
        self.run_until(self.now_ns + 120 * SECOND)  # what was under way ends, and nobody begins any more
        return Course(
            rollout.phase.value,
            took_s,
            rollout.asked,
            sum(node.began for node in self.nodes.values()),
            sum(node.version == NEW for node in self.nodes.values()),
            tuple(len(wave) for wave in plan.waves),
            self.messages,
        )

    def _act(self, rollout: Rollout, plan: RolloutPlan) -> int:
        """Do what the engine wants, as fast as the broker takes it; returns how long that takes."""
        wanted = rollout.wanted()[:TOOL_PER_S]
        for effect in wanted:
            utc_ns = UTC_NS + self.now_ns
            if isinstance(effect, Withdraw):
                self.withdrawn.add(effect.id)
                self.take(Withdrawn(utc_ns, effect.node, effect.id))
            elif isinstance(effect, Ask):
                self._send(effect, plan, utc_ns)
        return len(wanted) * SECOND // TOOL_PER_S

    def _send(self, ask: Ask, plan: RolloutPlan, utc_ns: int) -> None:
        expires = utc_ns + round(plan.expires_s * SECOND)
        request = CommandRequest(
            id=uuid7(utc_ns, self.rng.randbytes),
            fleet=plan.fleet,
            node=ask.node,
            kind=ask.order.kind,
            serial=next(self._serial),
            issued_utc_ns=utc_ns,
            expires_utc_ns=expires,
        )
        self.take(Asked(utc_ns, ask.node, request.id, request.serial, expires, ask.back))
        self.watch.sent(request, plan.operator)
        self.deliver(lambda: self.nodes[ask.node].ask(request))

    def _seen(self, node: FleetNode) -> None:
        if self.rollout is not None:
            self.take(Seen(UTC_NS + self.now_ns, node.name, node.state, node.version, node.epoch))


def standing(world: RolloutWorld, name: str) -> NodeStanding | None:
    """Return what the tool holds of a node."""
    node = world.inventory.node(name)
    return node.state if node is not None else None


def _somebody() -> Member:
    key: PublicKey = generate("ml-dsa-44", bytes).public_key
    return Member(Subject("world", Role.NODE, "n"), key.key_id, key, key.algorithm, 0, UTC_NS * 2, ())
