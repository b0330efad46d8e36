"""A fleet in virtual time: many pure nodes around a modelled broker that delays, repeats, loses and forgets.

Nothing here is cryptography but the heartbeat chains: a signature check is the fact that a birth comes from a node of
this world. All randomness is drawn from the generator that is passed in, so that a seed repeats a run exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from qedge.mesh.config import MeshConfig
from qedge.mesh.membership import Membership
from qedge.mesh.model import DuplicatePeer, DuplicateSelf, Effect, PeerDead, Probe, Rebirth
from qedge.mesh.pulse import Heart, PulseChain, pulse_binding
from qedge.wire.mesh import Birth, PeerState, Pulse

SECOND_NS: Final = 1_000_000_000
TICK_NS: Final = 100_000_000
UTC_NS: Final = 1_800_000_000 * SECOND_NS
GROUPS: Final = 8
CHAIN: Final = 256


@dataclass(frozen=True, slots=True)
class Network:
    """How messages travel: seconds of delay, and shares of heartbeats and probes that are lost or come twice."""

    delay_s: float = 0.003
    jitter_s: float = 0.008
    slow_share: float = 0.01
    slow_s: float = 0.08
    loss: float = 0.0
    twice: float = 0.01
    probe_timeout_s: float = 0.15
    will_after_s: float = 1.0
    reconnect_s: float = 1.0


@dataclass(slots=True)
class Broker:
    """One broker: who is subscribed, in groups that share the delay of a message, and what it retains."""

    groups: list[list[Node]] = field(default_factory=lambda: [[] for _ in range(GROUPS)])
    retained: dict[str, Birth] = field(default_factory=dict)


class Node:
    """One node: its membership, its heart, and what it has noticed."""

    __slots__ = (
        "birth",
        "broker",
        "deaths",
        "doubles",
        "epoch",
        "group",
        "heart",
        "instance",
        "membership",
        "name",
        "own_doubles",
        "probes",
        "received",
        "sent",
        "up",
        "utc_error_ns",
        "world",
    )

    def __init__(self, world: World, name: str, epoch: int) -> None:
        self.world = world
        self.name = name
        self.epoch = epoch
        self.instance = world.rng.randbytes(16)
        self.utc_error_ns = world.rng.randrange(-SECOND_NS // 5, SECOND_NS // 5)
        self.membership = Membership(name, epoch, self.instance, self.utc_ns, world.config)
        self.birth: Birth | None = None
        self.heart: Heart | None = None
        self.broker: Broker | None = None
        self.group = world.rng.randrange(GROUPS)
        self.up = True
        self.received = 0
        self.sent = 0
        self.probes = 0
        self.deaths: list[tuple[int, str]] = []
        self.doubles: set[str] = set()
        self.own_doubles = 0

    @property
    def utc_ns(self) -> int:
        """Return the node's wall clock."""
        return UTC_NS + self.world.now_ns + self.utc_error_ns

    def announce(self, state: str = "up") -> None:
        """Sign and publish a birth with a new chain."""
        world = self.world
        chain = PulseChain(world.rng.randbytes(32), CHAIN, pulse_binding(self.name, self.epoch, self.instance))
        utc_ns = self.utc_ns if self.birth is None else max(self.utc_ns, self.birth.utc_ns + 1)
        birth = Birth(
            fleet="world",
            node=self.name,
            version="1",
            boot_id="",
            epoch=self.epoch,
            utc_ns=utc_ns,
            standalone=False,
            state=state,
            instance=self.instance,
            pulse_ms=round(self.membership.period_s() * 1000),
            pulse_anchor=chain.anchor,
            pulse_count=chain.count,
        )
        self.birth = birth
        self.membership.announced(birth, self.name, UTC_NS * 2, world.now_ns)
        self.heart = Heart(chain, birth, world.now_ns)
        world.at(self.heart.due_ns, self._beat, self.heart)
        world.publish_birth(self, birth)

    def act(self, effects: Sequence[Effect]) -> None:
        """Do what the membership asks for, and note what it says."""
        for effect in effects:
            if isinstance(effect, Probe):
                self.probes += 1
                self.world.probe(self, effect.node)
            elif isinstance(effect, PeerDead):
                self.deaths.append((self.world.now_ns, effect.node))
                self.world.check_death(self, effect.node, effect.epoch)
            elif isinstance(effect, Rebirth):
                if effect.epoch > self.epoch:
                    self.epoch = effect.epoch
                self.announce()
            elif isinstance(effect, DuplicatePeer):
                self.doubles.add(effect.node)
            elif isinstance(effect, DuplicateSelf):
                self.own_doubles += 1

    def tick(self) -> None:
        """Let the node's time pass, again and again."""
        if self.up:
            effects = self.membership.tick(self.world.now_ns)
            if effects:
                self.act(effects)
            self.world.at(self.world.now_ns + TICK_NS, self.tick)

    def _beat(self, heart: Heart) -> None:
        if not self.up or heart is not self.heart:
            return
        pulse = heart.beat(self.world.now_ns)
        if pulse is not None:
            self.world.publish_pulse(self, pulse)
        if not heart.exhausted:
            self.world.at(heart.due_ns, self._beat, heart)


class World:
    """The clock, the brokers and all nodes; `nodes` holds those that are up, `false_deaths` what must stay empty."""

    def __init__(self, rng: Random, network: Network | None = None, config: MeshConfig | None = None) -> None:
        self.rng = rng
        self.network = network or Network()
        self.config = config or MeshConfig()
        self.now_ns = 0
        self.brokers = [Broker()]
        self.nodes: dict[str, Node] = {}
        self.clones: list[Node] = []
        self.false_deaths: list[tuple[float, str, str]] = []
        self._events: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0

    @property
    def now_s(self) -> float:
        """Return the virtual time in seconds."""
        return self.now_ns / SECOND_NS

    def at(self, at_ns: int, call: Callable[..., None], *arguments: object) -> None:
        """Call something at a virtual time."""
        self._sequence += 1
        heapq.heappush(self._events, (at_ns, self._sequence, call, arguments))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end_ns = self.now_ns + round(seconds * SECOND_NS)
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= end_ns:
            self.now_ns, _, call, arguments = pop(events)
            call(*arguments)
        self.now_ns = end_ns

    def run_until(self, settled: Callable[[], bool], limit_s: float, step_s: float = 0.1) -> float:
        """Let time pass until `settled`; returns the seconds it took, or raises `TimeoutError`."""
        start_ns = self.now_ns
        while not settled():
            if self.now_ns - start_ns > limit_s * SECOND_NS:
                raise TimeoutError(f"not settled within {limit_s} s of virtual time")
            self.run(step_s)
        return (self.now_ns - start_ns) / SECOND_NS

    # --- the life of nodes ---

    def start(self, name: str, delay_s: float = 0.0, epoch: int = 1, broker: int = 0) -> Node:
        """Start a node: it subscribes, gets what is retained, and announces itself."""
        node = self.nodes[name] = Node(self, name, epoch)
        self.at(self.now_ns + round(delay_s * SECOND_NS), self._start, node, self.brokers[broker])
        return node

    def start_all(self, count: int, within_s: float = 1.0) -> None:
        """Start `count` nodes at random times."""
        for index in range(count):
            self.start(f"n{index}", self.rng.uniform(0, within_s))

    def clone(self, name: str, epoch: int) -> Node:
        """Start a second box with the identity of a running one."""
        node = Node(self, name, epoch)
        self.clones.append(node)
        self._start(node, self.brokers[0])
        return node

    def silence(self, node: Node) -> None:
        """End a clone without a word."""
        node.up = False
        self._unsubscribe(node)

    def kill(self, name: str) -> None:
        """End a node without a word; its broker publishes the last will somewhat later."""
        node = self.nodes.pop(name)
        node.up = False
        broker = node.broker
        if broker is not None:
            self.at(self.now_ns + round(self.network.will_after_s * SECOND_NS), self._will, broker, name)
            self._unsubscribe(node)

    def leave(self, name: str) -> None:
        """Stop a node properly."""
        node = self.nodes.pop(name)
        node.announce("leaving")
        node.up = False
        self._unsubscribe(node)

    def restart(self, name: str, after_s: float) -> None:
        """Kill a node, and start it again with the next epoch."""
        epoch = self.nodes[name].epoch + 1
        self.kill(name)
        self.start(name, after_s, epoch)

    # --- the lives of brokers ---

    def split(self, share: float = 0.5) -> None:
        """Cut the fleet into two islands, each with a broker that has all that was retained."""
        island = Broker(retained=dict(self.brokers[0].retained))
        self.brokers.append(island)
        for node in list(self.nodes.values()):
            if self.rng.random() < share:
                self._unsubscribe(node)
                self._subscribe(node, island)

    def heal(self, bridge: bool) -> None:
        """Join the islands again: by a bridge that passes on what each retains, or by nodes that reconnect."""
        main, island = self.brokers[0], self.brokers.pop()
        births = [*island.retained.values(), *main.retained.values()]
        moved = [node for group in island.groups for node in group]
        for node in moved:
            self._unsubscribe(node)
            if bridge:
                self._subscribe(node, main)
            else:
                self._reconnect_soon(node, main)
        if bridge:
            for birth in births:
                self._fan_out(main, self._deliver_birth, birth)

    def lose_broker(self, outage_s: float) -> None:
        """Let the broker crash and come back without sessions and retained messages."""
        broker = self.brokers[0]
        broker.retained.clear()
        for node in list(self.nodes.values()):
            self._unsubscribe(node)
            self._reconnect_soon(node, broker, outage_s)

    # --- messages ---

    def publish_birth(self, node: Node, birth: Birth) -> None:
        """Publish and retain a birth, at least once to everybody who is connected."""
        broker = node.broker
        if broker is None:
            return
        node.sent += 1
        broker.retained[node.name] = birth
        self._fan_out(broker, self._deliver_birth, birth)

    def publish_pulse(self, node: Node, pulse: Pulse) -> None:
        """Publish a heartbeat, at most once (but for what the network repeats)."""
        broker = node.broker
        if broker is None:
            return
        node.sent += 1
        self._fan_out(broker, self._deliver_pulse, node.name, pulse)

    def probe(self, asker: Node, name: str) -> None:
        """Carry a question to a peer and its answer back; each way it may be lost."""
        target = self.nodes.get(name)
        asker.sent += 1
        lost = self.rng.random() < self.network.loss or self.rng.random() < self.network.loss
        if lost or target is None or not target.up or target.broker is not asker.broker or asker.broker is None:
            timeout_ns = round(self.network.probe_timeout_s * SECOND_NS)
            self.at(self.now_ns + timeout_ns, self._probe_failed, asker, name)
            return
        target.received += 1
        target.sent += 1
        self.at(self.now_ns + self._delay_ns() + self._delay_ns(), self._probe_answered, asker, name)

    def check_death(self, observer: Node, name: str, epoch: int) -> None:
        """Note when a node that is up, and that the observer can hear, is called dead; an earlier run of it may be."""
        node = self.nodes.get(name)
        if node is None or node.birth is None or node.birth.epoch != epoch:
            return
        if node.broker is observer.broker is not None:
            self.false_deaths.append((self.now_s, observer.name, name))

    def agreed(self) -> bool:
        """Say whether every node that is up sees exactly the nodes on its side that are up, all of them alive."""
        sides: dict[int, list[Node]] = {}
        for node in self.nodes.values():
            if node.broker is None:
                return False
            sides.setdefault(id(node.broker), []).append(node)
        if any(node.membership.members != len(side) for side in sides.values() for node in side):
            return False
        alive = PeerState.ALIVE
        return all(
            node.membership.state(peer.name) is alive or peer is node
            for side in sides.values()
            for node in side
            for peer in side
        )

    def traffic(self, seconds: float) -> tuple[float, float, float]:
        """Let time pass and return what a node sends and receives a minute, on average, and the most one receives."""
        nodes = list(self.nodes.values())
        before = [(node.sent, node.received) for node in nodes]
        self.run(seconds)
        sent = [node.sent - old for node, (old, _) in zip(nodes, before, strict=True)]
        received = [node.received - old for node, (_, old) in zip(nodes, before, strict=True)]
        scale = 60 / seconds
        return scale * sum(sent) / len(nodes), scale * sum(received) / len(nodes), scale * max(received)

    # --- inside ---

    def _delay_ns(self) -> int:
        network, rng = self.network, self.rng
        delay_s = network.delay_s + rng.expovariate(1 / network.jitter_s)
        if rng.random() < network.slow_share:
            delay_s += rng.uniform(0, network.slow_s)
        return int(delay_s * SECOND_NS)

    def _fan_out(self, broker: Broker, call: Callable[..., None], *message: object) -> None:
        for group in broker.groups:
            if group:
                delay_ns = self._delay_ns()
                self.at(self.now_ns + delay_ns, call, group, *message)
                if self.rng.random() < self.network.twice:
                    self.at(self.now_ns + 2 * delay_ns, call, group, *message)

    def _deliver_birth(self, group: list[Node], birth: Birth) -> None:
        now_ns = self.now_ns
        utc_ns = UTC_NS + now_ns
        for node in tuple(group):
            node.received += 1
            effects = node.membership.birth(birth, birth.node, UTC_NS * 2, now_ns, utc_ns + node.utc_error_ns)
            if effects:
                node.act(effects)

    def _deliver_pulse(self, group: list[Node], name: str, pulse: Pulse) -> None:
        now_ns, loss, random = self.now_ns, self.network.loss, self.rng.random
        for node in tuple(group):
            if loss and random() < loss:
                continue
            node.received += 1
            effects = node.membership.pulse(name, pulse, now_ns)
            if effects:
                node.act(effects)

    def _will(self, broker: Broker, name: str) -> None:
        for group in broker.groups:
            for node in tuple(group):
                node.received += 1
                node.act(node.membership.will(name, self.now_ns))

    def _probe_failed(self, asker: Node, name: str) -> None:
        if asker.up:
            asker.act(asker.membership.probe_failed(name, self.now_ns))

    def _probe_answered(self, asker: Node, name: str) -> None:
        if asker.up:
            asker.received += 1
            asker.act(asker.membership.probe_answered(name, self.now_ns))

    def _start(self, node: Node, broker: Broker) -> None:
        if node.up:
            self._subscribe(node, broker)
            node.membership.tick(self.now_ns)
            node.announce()
            self.at(self.now_ns + self.rng.randrange(TICK_NS), node.tick)

    def _subscribe(self, node: Node, broker: Broker) -> None:
        node.broker = broker
        broker.groups[node.group].append(node)
        births: Iterable[Birth] = tuple(broker.retained.values())
        for birth in births:
            node.received += 1
            node.act(node.membership.birth(birth, birth.node, UTC_NS * 2, self.now_ns, node.utc_ns))

    def _unsubscribe(self, node: Node) -> None:
        if node.broker is not None:
            node.broker.groups[node.group].remove(node)
            node.broker = None

    def _reconnect_soon(self, node: Node, broker: Broker, outage_s: float = 0.0) -> None:
        delay_s = outage_s + self.rng.uniform(0, self.network.reconnect_s)
        self.at(self.now_ns + round(delay_s * SECOND_NS), self._reconnect, node, broker)

    def _reconnect(self, node: Node, broker: Broker) -> None:
        if node.up and node.broker is None and node.birth is not None:
            self._subscribe(node, broker)
            # A new birth shows that the node lives now; the old one would show that it once did.
            node.announce()
