"""Who is in the fleet: the newest verified birth of every node, last wills as hints, heartbeats. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec

from qedge.client.fleet_tool.model import FleetNode, NodeStanding
from qedge.crypto.model import Member
from qedge.wire.mesh import Birth, Lost, NodeState, Pulse

MAX_NODES: Final = 100_000
_MISSED_BEATS: Final = 5
_LEAST_SILENCE_NS: Final = 10_000_000_000
"""Silence of a node that is not taken for its end: heartbeats may be late, and come at QoS 0."""

_CERTAIN: Final = {NodeState.UP.value: NodeStanding.UP, NodeState.LEAVING.value: NodeStanding.LEAVING}


class Inventory:
    """The nodes of one fleet. What it is told must have been verified, last wills apart."""

    def __init__(self) -> None:
        self._nodes: dict[str, FleetNode] = {}
        self._births: dict[str, Birth] = {}
        self._certified: dict[str, int] = {}
        self._beats: dict[str, int] = {}
        self._kinds: dict[str, tuple[str, ...]] = {}
        self._limits: dict[str, Mapping[str, float]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def nodes(self) -> tuple[FleetNode, ...]:
        """Return all nodes in the order of their names."""
        return tuple(self._nodes[name] for name in sorted(self._nodes))

    def node(self, name: str) -> FleetNode | None:
        """Return one node, None where it never introduced itself."""
        return self._nodes.get(name)

    def born(self, birth: Birth, member: Member, utc_ns: int, *, retained: bool) -> FleetNode | None:
        """Take a birth; returns the node where it says something newer than what is known.

        A retained one proves that the node once was there, not that it is now: its own time is all that is known.
        """
        known = self._births.get(birth.node)
        if known is not None and not self._is_newer(birth, member, known):
            return None
        if known is None and len(self._nodes) >= MAX_NODES:
            return None
        self._births[birth.node] = birth
        self._certified[birth.node] = member.not_before_utc_ns
        self._beats.pop(birth.node, None)
        node = FleetNode(
            name=birth.node,
            state=_CERTAIN.get(birth.state, NodeStanding.LOST),
            version=birth.version,
            labels=birth.labels,
            capabilities=birth.capabilities,
            epoch=birth.epoch,
            boot_id=birth.boot_id,
            policy_serial=birth.policy_serial,
            config_serial=birth.config_serial,
            devices_serial=birth.devices_serial,
            revocation_serial=birth.revocation_serial,
            born_utc_ns=birth.utc_ns,
            seen_utc_ns=min(birth.utc_ns, utc_ns) if retained else utc_ns,
            key_id=member.key_id,
            certificate_until_utc_ns=member.not_after_utc_ns,
            kinds=self._kinds.get(birth.node, ()),
        )
        self._nodes[birth.node] = node
        return node

    def _is_newer(self, birth: Birth, member: Member, known: Birth) -> bool:
        """Say whether a birth follows the known one. A box that was enrolled anew counts its epochs from the start."""
        if self._nodes[birth.node].key_id != member.key_id:
            return (member.not_before_utc_ns, birth.utc_ns) > (self._certified[birth.node], known.utc_ns)
        return (birth.epoch, birth.utc_ns) > (known.epoch, known.utc_ns)

    def lost(self, name: str, will: Lost) -> FleetNode | None:
        """Take a last will; returns the node where it was up until now. Anybody could have sent it."""
        node, birth = self._nodes.get(name), self._births.get(name)
        if node is None or birth is None or (will.epoch, will.instance) != (birth.epoch, birth.instance):
            return None
        if node.state is not NodeStanding.UP:
            return None
        self._nodes[name] = node = msgspec.structs.replace(node, state=NodeStanding.LOST)
        return node

    def beat(self, name: str, pulse: Pulse, utc_ns: int) -> bool:
        """Take a heartbeat; says whether it is a later one of the node's present birth, which alone can make it."""
        node, birth = self._nodes.get(name), self._births.get(name)
        if node is None or birth is None or (pulse.epoch, pulse.instance) != (birth.epoch, birth.instance):
            return False
        if not self._beats.get(name, 0) < pulse.index <= min(birth.pulse_count, MAX_STEPS):
            return False
        if not _leads_to(birth, pulse):
            return False
        self._beats[name] = pulse.index
        state = NodeStanding.UP if birth.state == NodeState.UP.value else node.state
        self._nodes[name] = msgspec.structs.replace(node, state=state, seen_utc_ns=utc_ns)
        return True

    def hush(self, utc_ns: int, since_utc_ns: int = 0) -> list[str]:
        """Take nodes for lost whose heartbeats have ceased, whatever the broker says or keeps to itself; returns them.

        Only those count that were heard here since their birth: who may not listen to heartbeats knows nothing. Before
        `since_utc_ns` nobody listened.
        """
        silent = []
        for name in self._beats:
            node, birth = self._nodes[name], self._births[name]
            silence_ns = max(_LEAST_SILENCE_NS, _MISSED_BEATS * birth.pulse_ms * 1_000_000)
            is_over = utc_ns > max(node.seen_utc_ns, since_utc_ns) + silence_ns
            if is_over and birth.pulse_ms and node.state is NodeStanding.UP:
                self._nodes[name] = msgspec.structs.replace(node, state=NodeStanding.LOST)
                silent.append(name)
        return silent

    def limit_s(self, name: str, kind: str) -> float:
        """Return how long a node lets a command of a kind take whose request does not say; 0: that is not known."""
        return self._limits.get(name, {}).get(kind, 0.0)

    def can(self, name: str, limits: Mapping[str, float]) -> None:
        """Take the kinds of commands that a node says it carries out, with how long each may take (seconds)."""
        kinds = tuple(sorted(limits))
        if name in self._kinds or len(self._kinds) < MAX_NODES:
            self._kinds[name], self._limits[name] = kinds, limits
        node = self._nodes.get(name)
        if node is not None:
            self._nodes[name] = msgspec.structs.replace(node, kinds=kinds)

    def drop_revoked(self, key_ids: frozenset[str]) -> None:
        """Forget nodes whose keys count no more."""
        for name in [node.name for node in self._nodes.values() if node.key_id in key_ids]:
            del self._nodes[name], self._births[name], self._certified[name]
            self._beats.pop(name, None)

    def heard(self, name: str, utc_ns: int) -> None:
        """Note that a node signed something else just now."""
        node = self._nodes.get(name)
        if node is not None:
            self._nodes[name] = msgspec.structs.replace(node, seen_utc_ns=max(utc_ns, node.seen_utc_ns))


MAX_STEPS: Final = 1024
"""Hashes that one heartbeat can cost; nodes make chains of this length."""


def _leads_to(birth: Birth, pulse: Pulse) -> bool:
    """Walk from a heartbeat's element to the anchor in the birth (decision 0022)."""
    name, instance = birth.node.encode(), birth.instance
    start = b"qedge/v1 pulse" + bytes((len(name),)) + name + birth.epoch.to_bytes(8, "big")
    start += bytes((len(instance) & 0xFF,)) + instance
    element = pulse.element
    for _ in range(pulse.index):
        element = sha256(start + element).digest()
    return element == birth.pulse_anchor
