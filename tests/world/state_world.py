"""The shared state in virtual time: a site whose nodes watch each other and compare maps, and many sites as a fleet.

Both use the engines of the daemon: membership, copies of the map, partners, rhythm and the herald of a site. A
signature check is the fact that an entry comes from a node of this world, as births are in `tests.world.world`.

What sites know of each other depends on what happens inside them, and nothing inside a site depends on others. So sites
can be run one after the other, each to its end, and then the fleet with what their heralds said and when: that is the
same history as if all had run at once, in the memory of one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from qedge.orchestrator.state.hybrid_clock import HybridClock
from qedge.orchestrator.state.model import Entry, Verdict, make_entry
from qedge.orchestrator.state.namespaces import NAMESPACES, Scope
from qedge.orchestrator.state.partners import Rhythm, partners, pick
from qedge.orchestrator.state.replica import Replica
from qedge.orchestrator.state.sites import Herald, encode, summaries, summary_of
from qedge.wire.mesh import PeerState
from qedge.wire.state import NodeSummary, SiteSummary, StateEntry
from tests.world.world import SECOND_NS, UTC_NS, Broker, Network, Node, World

AHEAD_NS: Final = 5 * SECOND_NS
COMPARE_NS: Final = 30 * SECOND_NS
SUMMARY_NS: Final = 30 * SECOND_NS
LIVING: Final = (PeerState.ALIVE, PeerState.SUSPECT)


class Holder:
    """What a node holds of one scope; it outlives the runs of the node, as its database does."""

    __slots__ = ("clock", "replica", "rhythm")

    def __init__(self, scope: Scope) -> None:
        self.clock = HybridClock(AHEAD_NS)
        self.replica = Replica(scope, self.clock)
        self.rhythm = Rhythm(COMPARE_NS)

    def say(self, node: str, namespace: str, key: str, value: bytes, utc_ns: int, serial: int = 0) -> Entry:
        """Make an entry of this node and take it in."""
        said = StateEntry(namespace, key, self.clock.tick(utc_ns), serial, False, value)
        entry = make_entry(said, node, own=NAMESPACES[namespace].own)
        assert self.replica.merge(entry, utc_ns) is Verdict.NEW
        return entry


def compare(asker: Replica, answerer: Replica, utc_ns: int) -> tuple[bool, int]:
    """Compare two copies as nodes do; returns whether they differed, and how many messages that took."""
    wants, offers = asker.compare(answerer.heads(asker.sums()))
    messages = 2
    differed = bool(wants or offers)
    while wants or offers:
        given, handed = asker.load(offers), answerer.load(wants)
        messages += 2
        for entry in given:
            answerer.merge(entry, utc_ns)
        for entry in handed:
            asker.merge(entry, utc_ns)
        offers, wants = offers[len(given) :] if given else [], wants[len(handed) :] if handed else []
    return differed, messages


class SiteWorld(World):
    """A site: a broker, nodes, and the map that they share. `spoken` is what its heralds said, and when."""

    def __init__(self, name: str, rng: Random, network: Network | None = None) -> None:
        super().__init__(rng, network)
        self.name = name
        self.holders: dict[str, Holder] = {}
        self.spoken: list[tuple[int, str, SiteSummary]] = []
        self._heralds: dict[str, Herald] = {}
        self._looking = False

    # What nodes do

    def start_all(self, count: int, within_s: float = 1.0) -> None:
        """Start nodes, whose names say of which site they are."""
        for index in range(count):
            self.start(f"{self.name}-{index:03d}", self.rng.uniform(0, within_s))

    def start(self, name: str, delay_s: float = 0.0, epoch: int = 1, broker: int = 0) -> Node:
        """Start a node, which says what it can and compares soon."""
        node = super().start(name, delay_s, epoch, broker)
        holder = self.holders.setdefault(name, Holder(Scope.SITE))
        holder.rhythm = Rhythm(COMPARE_NS)
        begun_ns = self.now_ns + round(delay_s * SECOND_NS)
        holder.rhythm.connected(begun_ns, self.rng.random())
        self.at(begun_ns + SECOND_NS // 2, self._introduce, node)
        self.at(holder.rhythm.due_ns, self._compare, node, holder.rhythm.due_ns)
        if not self._looking:
            self._looking = True
            self.at(self.now_ns + SECOND_NS, self._look)
        return node

    def say(self, node: Node, namespace: str, key: str, value: bytes, serial: int = 0) -> None:
        """Say something: it goes to all who are connected to the same broker."""
        entry = self.holders[node.name].say(node.name, namespace, key, value, node.utc_ns, serial)
        if node.broker is not None:
            node.sent += 1
            self._fan_out(node.broker, self._deliver_entry, entry)

    def chatter(self, per_node_min: float, seconds: float) -> None:
        """Have nodes measure their QPUs anew, `per_node_min` times a minute each, for some time from now on."""
        count = round(len(self.nodes) * per_node_min * seconds / 60)
        for _ in range(count):
            self.at(self.now_ns + round(self.rng.uniform(0, seconds) * SECOND_NS), self._measure)

    def alive(self, node: Node) -> list[str]:
        """Name the peers that a node believes to live."""
        return [name for name in self.holders if node.membership.state(name) in LIVING]

    def alike(self) -> bool:
        """Say whether all nodes of each side hold the same."""
        sides: dict[int, set[bytes]] = {}
        for node in self.nodes.values():
            if node.broker is None:
                return False
            sides.setdefault(id(node.broker), set()).add(self.holders[node.name].replica.root())
        return all(len(roots) == 1 for roots in sides.values())

    def settled(self) -> bool:
        """Say whether all agree on who lives and on what is held."""
        return self.agreed() and self.alike()

    # Inside

    def _introduce(self, node: Node) -> None:
        if not node.up:
            return
        self.say(node, "capability", "node", encode(NodeSummary(1, 24, 1000)))
        self.say(node, "calibration", "qpu", self.rng.randbytes(200))
        self.say(node, "policy", "serial", b"", serial=node.epoch)
        for _ in range(2):
            self.say(node, "templates", self.rng.randbytes(32).hex(), b"")

    def _measure(self) -> None:
        node = self.nodes[self.rng.choice(list(self.nodes))]
        if node.birth is not None:
            self.say(node, "calibration", "qpu", self.rng.randbytes(200))

    def _deliver_entry(self, group: list[Node], entry: Entry) -> None:
        loss, random = self.network.loss, self.rng.random
        for node in tuple(group):
            if loss and random() < loss:
                continue
            node.received += 1
            self.holders[node.name].replica.merge(entry, node.utc_ns)

    def _compare(self, node: Node, due_ns: int) -> None:
        rhythm = self.holders[node.name].rhythm
        if not node.up or rhythm.due_ns != due_ns:
            return  # of an earlier run, or another time was set meanwhile
        found = self._with_partner(node) if node.broker is not None else None
        rhythm.compared(self.now_ns, self.rng.random(), differed=found is not False)
        self.at(rhythm.due_ns, self._compare, node, rhythm.due_ns)

    def _with_partner(self, node: Node) -> bool | None:
        """Compare with a partner; returns whether something differed, None where nobody answered."""
        names = partners(node.name, self.alive(node))
        peer = self.nodes.get(pick(names, self.rng.random())) if names else None
        node.sent += 1
        if peer is None or peer.broker is not node.broker or peer.birth is None:
            return None
        differed, messages = compare(self.holders[node.name].replica, self.holders[peer.name].replica, node.utc_ns)
        for each in (node, peer):
            each.sent += messages // 2 - (each is node)
            each.received += messages // 2
        if differed:
            rhythm = self.holders[peer.name].rhythm
            rhythm.asked(self.now_ns, self.rng.random())
            self.at(rhythm.due_ns, self._compare, peer, rhythm.due_ns)
        return differed

    def _subscribe(self, node: Node, broker: Broker) -> None:
        super()._subscribe(node, broker)
        if node.birth is not None:
            rhythm = self.holders[node.name].rhythm
            rhythm.connected(self.now_ns, self.rng.random())
            self.at(rhythm.due_ns, self._compare, node, rhythm.due_ns)

    def _look(self) -> None:
        """Let each node that holds itself for the first of its site say what has changed."""
        for node in tuple(self.nodes.values()):
            if node.birth is not None and node.broker is not None and self._is_first(node):
                names = (node.name, *self.alive(node))
                said = [NodeSummary(1, 24, 1000)] * len(names)
                herald = self._heralds.setdefault(node.name, Herald(node.name, SUMMARY_NS))
                summary = herald.look(summary_of(self.name, names, said), self.now_ns)
                if summary is not None:
                    self.spoken.append((self.now_ns, node.name, summary))
        self.at(self.now_ns + SECOND_NS, self._look)

    def _is_first(self, node: Node) -> bool:
        return not any(
            name < node.name and node.membership.state(name) in LIVING for name in self.holders if name != node.name
        )


@dataclass(slots=True)
class FleetNode:
    """A node as the fleet sees it: its site, and what it holds of all sites."""

    name: str
    site: str
    holder: Holder
    utc_error_ns: int
    gateway: bool = False
    sent: int = 0
    received: int = 0
    far: tuple[str, ...] = ()
    far_at: bytes = b""


@dataclass(frozen=True, slots=True)
class Line:
    """Between sites: seconds of delay."""

    delay_s: float = 0.02
    jitter_s: float = 0.02


class FleetWorld:
    """All nodes of all sites, with their copies of what the fleet shares; sites are joined by bridges that can be cut.

    While cut, what is said on one side is lost for the other: no bridge keeps anything, which real ones would.
    """

    def __init__(self, rng: Random, members: dict[str, Iterable[str]], line: Line | None = None) -> None:
        self.rng = rng
        self.line = line or Line()
        self.now_ns = 0
        self.nodes: dict[str, FleetNode] = {}
        self.sites: dict[str, list[FleetNode]] = {}
        self.side: dict[str, int] = dict.fromkeys(members, 0)
        self._events: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        for site, names in members.items():
            self.sites[site] = [self._make(name, site) for name in sorted(names)]
            for node in self.sites[site][:3]:
                node.gateway = True

    def play(self, spoken: Iterable[tuple[int, str, SiteSummary]]) -> None:
        """Have heralds say at its time what they said in their sites."""
        for at_ns, name, summary in spoken:
            if name in self.nodes:
                self.at(at_ns, self._speak, name, summary)

    def cut(self) -> None:
        """Part the sites in two halves."""
        self.side = {site: index % 2 for index, site in enumerate(self.side)}

    def heal(self) -> None:
        """Join them again."""
        self.side = dict.fromkeys(self.side, 0)

    def alike(self) -> bool:
        """Say whether all nodes hold the same."""
        nodes = iter(self.nodes.values())
        first = next(nodes).holder.replica.root()
        return all(node.holder.replica.root() == first for node in nodes)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end_ns = self.now_ns + round(seconds * SECOND_NS)
        while self._events and self._events[0][0] <= end_ns:
            self.now_ns, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
        self.now_ns = end_ns

    def run_until(self, settled: Callable[[], bool], limit_s: float, step_s: float = 0.5) -> float:
        """Let time pass until `settled`; returns the seconds it took, or raises `TimeoutError`."""
        start_ns = self.now_ns
        while not settled():
            if self.now_ns - start_ns > limit_s * SECOND_NS:
                raise TimeoutError(f"not settled within {limit_s} s of virtual time")
            self.run(step_s)
        return (self.now_ns - start_ns) / SECOND_NS

    def at(self, at_ns: int, call: Callable[..., None], *arguments: object) -> None:
        """Call something at a virtual time."""
        self._sequence += 1
        heapq.heappush(self._events, (at_ns, self._sequence, call, arguments))

    def _make(self, name: str, site: str) -> FleetNode:
        error_ns = self.rng.randrange(-SECOND_NS // 5, SECOND_NS // 5)
        node = self.nodes[name] = FleetNode(name, site, Holder(Scope.FLEET), error_ns)
        node.holder.rhythm.connected(0, self.rng.random())
        self.at(node.holder.rhythm.due_ns, self._compare, node, node.holder.rhythm.due_ns)
        return node

    def _utc_ns(self, node: FleetNode) -> int:
        return UTC_NS + self.now_ns + node.utc_error_ns

    def _speak(self, name: str, summary: SiteSummary) -> None:
        node = self.nodes[name]
        entry = node.holder.say(name, "sites", summary.site, encode(summary), self._utc_ns(node))
        node.sent += 1
        for site, members in self.sites.items():
            if self.side[site] == self.side[node.site]:
                delay_s = self.line.delay_s + self.rng.expovariate(1 / self.line.jitter_s)
                self.at(self.now_ns + round(delay_s * SECOND_NS), self._deliver, members, entry)

    def _deliver(self, members: list[FleetNode], entry: Entry) -> None:
        for node in members:
            node.received += 1
            node.holder.replica.merge(entry, self._utc_ns(node))

    def _compare(self, node: FleetNode, due_ns: int) -> None:
        rhythm = node.holder.rhythm
        if rhythm.due_ns != due_ns:
            return  # another time was set meanwhile
        rhythm.compared(self.now_ns, self.rng.random(), differed=self._with_partner(node))
        self.at(rhythm.due_ns, self._compare, node, rhythm.due_ns)

    def _with_partner(self, node: FleetNode) -> bool:
        far = self._others(node) if node.gateway else ()
        if far and self.rng.random() < 0.5:
            peer = self.nodes.get(pick(far, self.rng.random()))
        else:
            names = [each.name for each in self.sites[node.site]]
            here = partners(node.name, names)
            peer = self.nodes[pick(here, self.rng.random())] if here else None
        node.sent += 1
        if peer is None or self.side[peer.site] != self.side[node.site]:
            return True  # nobody answers: tried again soon
        differed, messages = compare(node.holder.replica, peer.holder.replica, self._utc_ns(node))
        for each in (node, peer):
            each.sent += messages // 2 - (each is node)
            each.received += messages // 2
        if differed:
            rhythm = peer.holder.rhythm
            rhythm.asked(self.now_ns, self.rng.random())
            self.at(rhythm.due_ns, self._compare, peer, rhythm.due_ns)
        return differed

    def _others(self, node: FleetNode) -> tuple[str, ...]:
        root = node.holder.replica.root()
        if root != node.far_at:
            said = summaries(node.holder.replica.under("sites"))
            node.far = tuple(name for each in said if each.site != node.site for name in each.gateways)
            node.far_at = root
        return node.far


@dataclass(slots=True)
class SiteStory:
    """What became of one site: its nodes at the end, what its heralds said, seconds and counts."""

    name: str
    members: tuple[str, ...]
    spoken: list[tuple[int, str, SiteSummary]]
    joined_s: float
    healed_s: float
    sent_min: float
    received_min: float
    most_min: float
    entries: int
    false_deaths: int
    churned: int
