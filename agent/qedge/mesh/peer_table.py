"""The peers a node remembers, and what time does to them: silence makes suspects, more silence makes them dead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from qedge.mesh.config import MeshConfig
from qedge.mesh.model import (
    PEER_STATES,
    DuplicatePeer,
    Effect,
    Peer,
    PeerDead,
    PeerEvent,
    PeerForgotten,
    PeerLeft,
    PeerRevoked,
    PeerSuspect,
    PeerUp,
    Probe,
    Voice,
)
from qedge.wire.mesh import PeerState, PeerView

SECOND_NS: Final = 1_000_000_000
SCAN_NS: Final = 20_000_000
SCAN_NS_PER_PEER: Final = 200_000
"""Shortest time between two looks at all peers: at least 20 ms, and in a large fleet no more than 0.1 % of a core."""
PROBES: Final = 5
"""How often a suspect is asked before it is dead."""
PROBES_PER_S: Final = 10
PROBES_AT_ONCE: Final = 20
"""Bounds on what a node asks: where hundreds of peers fall silent together, asking each would be a storm."""

Effects = Sequence[Effect]
NOTHING: Final[Effects] = ()
PRESENT: Final = frozenset({PeerState.ALIVE, PeerState.SUSPECT, PeerState.DUPLICATE})
"""States of peers that take part in the fleet."""


class Allowance:
    """So many of something a second, with a reserve of `most`."""

    __slots__ = ("_at_ns", "_most", "_per_s", "left")

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s = per_s
        self._most = most
        self._at_ns = -1
        self.left = most

    def refill(self, now_ns: int) -> None:
        """Add what the time since the last call has earned."""
        if self._at_ns >= 0:
            self.left = min(self._most, self.left + (now_ns - self._at_ns) * self._per_s / SECOND_NS)
        self._at_ns = now_ns


class PeerTable:
    """All peers by name; `present` counts those that take part. Every change of a state goes through `move`."""

    def __init__(self, config: MeshConfig) -> None:
        self._max_peers = config.max_peers
        self._forget_ns = round(config.forget_s * SECOND_NS)
        self._peers: dict[str, Peer] = {}
        self._probes = Allowance(PROBES_PER_S, PROBES_AT_ONCE)
        self._scan_ns = 0
        self.get = self._peers.get
        self.present = 0

    def items(self) -> Iterator[tuple[str, Peer]]:
        """Give all peers with their names."""
        return iter(self._peers.items())

    def add(self, node: str, voice: Voice, now_ns: int) -> tuple[Peer | None, Effects]:
        """Remember a new peer, instead of the one that is gone longest if need be; no peer: all places are taken."""
        effects: Effects = NOTHING
        if len(self._peers) >= self._max_peers:
            gone = [(peer.since_ns, name) for name, peer in self._peers.items() if peer.state not in PRESENT]
            if not gone:
                return None, NOTHING
            effects = [self._forget(min(gone)[1])]
        peer = self._peers[node] = Peer(voice, now_ns)
        self.present += 1
        return peer, effects

    def move(self, peer: Peer, event: PeerEvent, now_ns: int) -> None:
        """Change the state of a peer by the table."""
        before = peer.state
        peer.state = PEER_STATES.next(before, event)
        if peer.state != before:
            peer.since_ns = now_ns
            self.present += (peer.state in PRESENT) - (before in PRESENT)

    def look_by(self, at_ns: int) -> None:
        """Look at all peers at `at_ns` or sooner."""
        self._scan_ns = min(self._scan_ns, at_ns)

    def hear(self, node: str, peer: Peer, at_ns: int, now_ns: int) -> Effects:
        """Take a sign of life that was sent at `at_ns`; one that is too old for that brings nobody back."""
        voice = peer.voice
        if at_ns > voice.heard_ns or not voice.proven:
            voice.heard_ns = at_ns
        voice.proven = True
        peer.doubts = 0
        if peer.state is PeerState.ALIVE or now_ns - voice.heard_ns >= voice.suspect_ns:
            return NOTHING
        if not PEER_STATES.allows(peer.state, PeerEvent.HEARD):
            return NOTHING
        self.move(peer, PeerEvent.HEARD, now_ns)
        self.look_by(voice.heard_ns + voice.suspect_ns)
        return [PeerUp(node, voice.birth.epoch)]

    def suspect(self, node: str, peer: Peer, now_ns: int) -> Effects:
        """Doubt a peer, and ask it."""
        self.move(peer, PeerEvent.SILENT, now_ns)
        effects: list[Effect] = [PeerSuspect(node)]
        self._probe(node, peer, now_ns, effects)
        return effects

    def farewell(self, node: str, peer: Peer, now_ns: int) -> Effects:
        """Let a peer go that said goodbye."""
        peer.rival = None
        if not PEER_STATES.allows(peer.state, PeerEvent.FAREWELL):
            return NOTHING
        self.move(peer, PeerEvent.FAREWELL, now_ns)
        return [PeerLeft(node, peer.voice.birth.epoch)]

    def doubled(self, node: str, peer: Peer, rival: Voice, now_ns: int) -> Effects:
        """Hold that two instances speak under the peer's name."""
        if peer.state in (PeerState.DUPLICATE, PeerState.REVOKED):
            return NOTHING
        self.move(peer, PeerEvent.DOUBLED, now_ns)
        self.look_by(now_ns + rival.dead_ns)
        return [DuplicatePeer(node)]

    def revoke(self, key_ids: Collection[str], now_ns: int) -> Effects:
        """Shut out all peers whose key is in `key_ids`."""
        effects: list[Effect] = []
        for node, peer in self._peers.items():
            if peer.voice.key_id in key_ids and peer.state is not PeerState.REVOKED:
                self.move(peer, PeerEvent.REVOKED, now_ns)
                effects.append(PeerRevoked(node))
        return effects

    def may_probe(self, now_ns: int) -> bool:
        """Take one probe off the allowance, if one is left."""
        self._probes.refill(now_ns)
        if self._probes.left < 1:
            return False
        self._probes.left -= 1
        return True

    def excuse(self, stall_ns: int, now_ns: int) -> None:
        """Do not count a time in which this node itself stood still as silence of its peers."""
        for peer in self._peers.values():
            peer.voice.heard_ns = min(peer.voice.heard_ns + stall_ns, now_ns)
            if peer.rival:
                peer.rival.heard_ns = min(peer.rival.heard_ns + stall_ns, now_ns)

    def scan(self, now_ns: int, effects: list[Effect]) -> None:
        """Look at every peer if it is time, and note when the next look is due: heartbeats only put that off."""
        if now_ns < self._scan_ns:
            return
        self._scan_ns = soonest = now_ns + 3600 * SECOND_NS
        gone: list[str] = []
        for node, peer in self._peers.items():
            voice = peer.voice
            if peer.state is PeerState.ALIVE:
                due_ns = voice.heard_ns + voice.suspect_ns
                if now_ns >= due_ns:
                    effects += self.suspect(node, peer, now_ns)
                    due_ns = peer.probe_ns
            elif peer.state is PeerState.SUSPECT:
                due_ns = self._still_suspect(node, peer, now_ns, effects)
            elif peer.state is PeerState.DUPLICATE:
                due_ns = self._still_double(node, peer, now_ns, effects)
            else:
                due_ns = peer.since_ns + self._forget_ns
                if now_ns >= due_ns:
                    gone.append(node)
                    continue
            if due_ns < soonest:
                soonest = due_ns
        effects += [self._forget(node) for node in gone]
        wait_ns = max(SCAN_NS, SCAN_NS_PER_PEER * len(self._peers))
        self._scan_ns = max(min(soonest, self._scan_ns), now_ns + wait_ns)

    def _forget(self, node: str) -> PeerForgotten:
        self.present -= self._peers.pop(node).state in PRESENT
        return PeerForgotten(node)

    def _probe(self, node: str, peer: Peer, now_ns: int, effects: list[Effect]) -> None:
        peer.probe_ns = now_ns + max(peer.voice.dead_ns - peer.voice.suspect_ns, 0) // PROBES
        self.look_by(peer.probe_ns)
        if self.may_probe(now_ns):
            effects.append(Probe(node))

    def _still_suspect(self, node: str, peer: Peer, now_ns: int, effects: list[Effect]) -> int:
        dead_ns = peer.voice.heard_ns + peer.voice.dead_ns
        if now_ns >= dead_ns:
            self.move(peer, PeerEvent.EXPIRED, now_ns)
            effects.append(PeerDead(node, peer.voice.birth.epoch))
            return now_ns + self._forget_ns
        if now_ns >= peer.probe_ns:
            self._probe(node, peer, now_ns, effects)
        return min(dead_ns, peer.probe_ns)

    def _still_double(self, node: str, peer: Peer, now_ns: int, effects: list[Effect]) -> int:
        """See whether one of two instances has fallen silent; a lower epoch never takes over."""
        rival, voice = peer.rival, peer.voice
        if rival is not None and rival.birth.epoch == voice.birth.epoch and now_ns >= voice.heard_ns + voice.dead_ns:
            voice, rival = rival, voice
            peer.voice, peer.rival = voice, rival
        if rival is not None and now_ns < rival.heard_ns + rival.dead_ns:
            return min(rival.heard_ns + rival.dead_ns, max(voice.heard_ns + voice.dead_ns, now_ns + SCAN_NS))
        peer.rival = None
        self.move(peer, PeerEvent.RESOLVED, now_ns)
        peer.probe_ns = now_ns
        effects += self.hear(node, peer, voice.heard_ns, now_ns)
        return now_ns


def view(voice: Voice, state: PeerState, now_ns: int, since_utc_ns: int, own: bool = False) -> PeerView:
    """Describe a peer, but for its session."""
    birth = voice.birth
    return PeerView(
        node=birth.node,
        state=state,
        own=own,
        version=birth.version,
        epoch=birth.epoch,
        boot_id=birth.boot_id,
        key_id=voice.key_id,
        since_utc_ns=since_utc_ns,
        heard_s=(now_ns - voice.heard_ns) / SECOND_NS if voice.proven else -1.0,
        pulse_s=birth.pulse_ms / 1000,
        certificate_until_utc_ns=voice.until_ns,
        capabilities=birth.capabilities,
        policy_serial=birth.policy_serial,
        devices_serial=birth.devices_serial,
        labels=birth.labels,
    )
