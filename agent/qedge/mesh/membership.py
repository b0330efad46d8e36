"""One node's view of its fleet, as a pure state machine: messages and time go in, effects come out.

What comes in here has passed the signature check of its kind; what a broker can do with genuine messages (repeat them,
hold them back, reorder them, delete them) is dealt with here:

- A birth counts only when it is newer than the known one: higher epoch, or same instance and later `utc_ns`.
- A birth shows that its node lived at `utc_ns`; if that is not now, the peer is a suspect until a heartbeat comes.
- Only silence makes a peer dead. A last will, a deleted birth or a failed probe make the node look closer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from qedge.mesh.birth import told
from qedge.mesh.config import MeshConfig
from qedge.mesh.model import DuplicateSelf, Effect, Ignored, Peer, PeerChanged, PeerEvent, Probe, Voice
from qedge.mesh.peer_table import NOTHING, PRESENT, SECOND_NS, Allowance, Effects, PeerTable, view
from qedge.mesh.pulse import MAX_GAP, PulseCheck, pulse_binding
from qedge.mesh.rhythm import Rhythm
from qedge.wire.mesh import Birth, NodeState, PeerState, PeerView, Pulse

CLOCK_ERROR_NS: Final = 2 * SECOND_NS
"""How far the wall clocks of two boxes may differ without a birth looking old."""
STALL_NS: Final = SECOND_NS // 2
"""A longer time between two ticks means that this node stood still (suspended, starved of processor time)."""
MIN_PERIOD_MS: Final = 50
MAX_PERIOD_MS: Final = 60_000
WASTED_HASHES_PER_S: Final = 20_000
"""Allowance for heartbeats that prove false, about 1 % of a core. Once it is used up, a heartbeat may only be as far
ahead as the time since the last one explains; those of honest peers pass either way."""
GAP_SLACK: Final = 8
DOUBTS: Final = 2
"""Unanswered probes that make a suspect of a peer whose last will came."""


class Membership:
    """The view of node `node`, which started as `instance` with `epoch` at `started_utc_ns`.

    `now_ns` is the boot-time clock everywhere, `utc_ns` the wall clock. Every input returns what is to be done.
    """

    def __init__(self, node: str, epoch: int, instance: bytes, started_utc_ns: int, config: MeshConfig) -> None:
        self._node = node
        self._epoch = epoch
        self._instance = instance
        self._started_utc_ns = started_utc_ns
        self._config = config
        self._margin_ns = round(config.margin_s * SECOND_NS)
        self._own: Birth | None = None
        self._own_key = ("", 0)
        self._own_since_ns = 0
        self._table = PeerTable(config)
        self._revoked: set[str] = set()
        self._rhythm = Rhythm(config.pulse_s, config.dead_periods)
        self._hashes = Allowance(WASTED_HASHES_PER_S, WASTED_HASHES_PER_S)
        self._ticked_ns = -1

    @property
    def members(self) -> int:
        """Return how many nodes take part, as far as this one knows: itself, and peers that are not gone."""
        return self._table.present + 1

    def period_s(self) -> float:
        """Return the heartbeat period that the next birth of this node should state."""
        return self._rhythm.period_s

    def state(self, node: str) -> PeerState | None:
        """Return the state of a peer; None: nothing is known of it."""
        peer = self._table.get(node)
        return peer.state if peer else None

    def announced(self, birth: Birth, key_id: str, certificate_until_utc_ns: int, now_ns: int) -> None:
        """Take note of the birth that this node has just published; its `utc_ns` has to be later than the last one's.

        A node whose wall clock stepped back takes the last birth's time plus one.
        """
        if self._own is None:
            self._own_since_ns = now_ns
        self._own = birth
        self._own_key = (key_id, certificate_until_utc_ns)
        self._epoch = birth.epoch
        self._rhythm.announced(birth, now_ns)

    def birth(self, birth: Birth, key_id: str, certificate_until_utc_ns: int, now_ns: int, utc_ns: int) -> Effects:
        """Take in a birth whose signature, certificate and revocation have been checked."""
        node = birth.node
        if node == self._node:
            return self._own_name(birth)
        if key_id in self._revoked:
            return [Ignored(node, "revoked")]
        if birth.state not in (NodeState.UP, NodeState.LEAVING):
            return self.will(node, now_ns)
        peer = self._table.get(node)
        if peer is not None and birth == peer.voice.birth:
            return NOTHING
        voice = self._voice(birth, key_id, certificate_until_utc_ns, now_ns)
        fresh = abs(utc_ns - birth.utc_ns) <= voice.dead_ns + CLOCK_ERROR_NS
        if peer is None:
            peer, effects = self._table.add(node, voice, now_ns)
            return [*effects, *self._born(node, peer, fresh, now_ns)] if peer else [Ignored(node, "full")]
        known = peer.voice.birth
        if birth.epoch > known.epoch:
            peer.rival, peer.rival_since_ns = peer.voice, now_ns
            peer.voice = voice
            return self._born(node, peer, fresh, now_ns)
        if birth.epoch < known.epoch:
            return self._lower_epoch(node, peer, voice)
        if birth.instance != known.instance:
            return self._other_instance(node, peer, voice, fresh, now_ns)
        if birth.utc_ns <= known.utc_ns:
            return [Ignored(node, "older")]
        return self._renewed(node, peer, voice, fresh, now_ns)

    def pulse(self, node: str, pulse: Pulse, now_ns: int) -> Effects:
        """Take in a heartbeat; it proves itself."""
        peer = self._table.get(node)
        if peer is None or peer.state is PeerState.LEFT or peer.state is PeerState.REVOKED:
            return NOTHING
        voice = peer.voice
        if voice.birth.instance != pulse.instance or voice.birth.epoch != pulse.epoch:
            return self._rival_pulse(node, peer, pulse, now_ns)
        check = voice.check
        if check is None or not self._accept(check, pulse, now_ns):
            return NOTHING
        return self._table.hear(node, peer, check.sent_ns(now_ns), now_ns)

    def will(self, node: str, now_ns: int) -> Effects:
        """Take in a last will: nobody signed it now, so it is a reason to ask and nothing more."""
        peer = self._table.get(node)
        if peer is None or peer.state is not PeerState.ALIVE or peer.doubts or not self._table.may_probe(now_ns):
            return NOTHING
        peer.doubts = DOUBTS
        return [Probe(node)]

    def contact(self, node: str, now_ns: int) -> Effects:
        """Take in any frame that the peer provably made just now (a session's record, an answered nonce)."""
        peer = self._table.get(node)
        if peer is None or peer.state is PeerState.LEFT or peer.state is PeerState.REVOKED:
            return NOTHING
        return self._table.hear(node, peer, now_ns, now_ns)

    def probe_answered(self, node: str, now_ns: int) -> Effects:
        """Take note that a peer answered the nonce it was asked with."""
        return self.contact(node, now_ns)

    def probe_failed(self, node: str, now_ns: int) -> Effects:
        """Take note that a probe was not answered; with a last will before it, the peer becomes a suspect."""
        peer = self._table.get(node)
        if peer is None or peer.state is not PeerState.ALIVE or not peer.doubts:
            return NOTHING
        peer.doubts -= 1
        if peer.doubts and self._table.may_probe(now_ns):
            return [Probe(node)]
        peer.doubts = 0
        return self._table.suspect(node, peer, now_ns)

    def revoked(self, key_ids: Collection[str], now_ns: int) -> Effects:
        """Take in the keys of the newest revocation list."""
        self._revoked.update(key_ids)
        return self._table.revoke(self._revoked, now_ns)

    def deleted(self, node: str) -> Effects:
        """Take note that somebody deleted the retained birth of a node: nobody signed that, so nothing changes."""
        return [Ignored(node, "deleted")]

    def tick(self, now_ns: int) -> Effects:
        """Let time pass; to be called every 0.1 s, and cheap unless somebody may have fallen silent."""
        effects: list[Effect] = []
        if self._ticked_ns >= 0 and now_ns - self._ticked_ns > STALL_NS:
            self._table.excuse(now_ns - self._ticked_ns, now_ns)
        self._ticked_ns = now_ns
        if self._rhythm.look(self.members, now_ns):
            effects.append(self._rhythm.rebirth(self._epoch))
        self._table.scan(now_ns, effects)
        return effects

    def peers(self, now_ns: int, utc_ns: int) -> tuple[PeerView, ...]:
        """Describe all nodes in the order of their names, this one included; sessions are filled in elsewhere."""
        views = [
            view(peer.voice, peer.state, now_ns, utc_ns - (now_ns - peer.since_ns)) for _, peer in self._table.items()
        ]
        if self._own is not None:
            own = Voice(self._own, *self._own_key, now_ns, True)
            views.append(view(own, PeerState.ALIVE, now_ns, utc_ns - (now_ns - self._own_since_ns), own=True))
        return tuple(sorted(views, key=lambda each: each.node))

    def _own_name(self, birth: Birth) -> Effects:
        if birth.instance == self._instance or birth.epoch < self._epoch:
            return NOTHING
        if birth.utc_ns > self._started_utc_ns:
            return [DuplicateSelf(birth.epoch, birth.instance)]
        # An earlier run of this node had this epoch or a higher one (its state was lost): peers would ignore this run.
        self._epoch = birth.epoch + 1
        return [self._rhythm.rebirth(self._epoch)]

    def _voice(self, birth: Birth, key_id: str, until_ns: int, now_ns: int) -> Voice:
        voice = Voice(birth, key_id, until_ns, now_ns, False)
        period_ns = min(max(birth.pulse_ms, MIN_PERIOD_MS), MAX_PERIOD_MS) * 1_000_000
        voice.suspect_ns = round(period_ns * self._config.suspect_periods) + self._margin_ns
        voice.dead_ns = round(period_ns * self._config.dead_periods) + self._margin_ns
        if birth.pulse_count and birth.pulse_anchor:
            binding = pulse_binding(birth.node, birth.epoch, birth.instance)
            voice.check = PulseCheck(birth.pulse_anchor, birth.pulse_count, binding, period_ns)
        return voice

    def _born(self, node: str, peer: Peer, fresh: bool, now_ns: int) -> Effects:
        """Begin with a birth of an instance that was not known."""
        if peer.voice.birth.state == NodeState.LEAVING:
            return self._table.farewell(node, peer, now_ns)
        self._table.move(peer, PeerEvent.REBORN, now_ns)
        peer.doubts = 0
        if fresh:
            return self._live_birth(node, peer, now_ns)
        # An old birth: wait for a heartbeat before asking, or a newcomer would ask everybody.
        peer.probe_ns = now_ns + peer.voice.suspect_ns
        self._table.look_by(peer.probe_ns)
        return NOTHING

    def _live_birth(self, node: str, peer: Peer, now_ns: int) -> Effects:
        if peer.voice.check:
            peer.voice.check.sent_ns(now_ns)
        return self._table.hear(node, peer, now_ns, now_ns)

    def _renewed(self, node: str, peer: Peer, voice: Voice, fresh: bool, now_ns: int) -> Effects:
        """Go on with a later birth of the same instance."""
        old = peer.voice
        if peer.state is PeerState.LEFT:
            return [Ignored(node, "left")]
        peer.voice = voice
        if voice.birth.state == NodeState.LEAVING:
            return self._table.farewell(node, peer, now_ns)
        if peer.state is PeerState.REVOKED:
            return self._born(node, peer, fresh, now_ns)
        effects: list[Effect] = []
        if fresh or peer.state not in (PeerState.SUSPECT, PeerState.DEAD):
            effects += self._live_birth(node, peer, now_ns)
        else:
            voice.heard_ns, voice.proven = old.heard_ns, old.proven
        if told(old.birth) != told(voice.birth):
            effects.append(PeerChanged(node))
        self._table.look_by(voice.heard_ns + voice.suspect_ns)
        return effects

    def _lower_epoch(self, node: str, peer: Peer, voice: Voice) -> Effects:
        rival, birth = peer.rival, voice.birth
        # A second box with a lower epoch may renew its chain; it stays the rival, whose heartbeats betray it.
        if rival and (rival.birth.epoch, rival.birth.instance) == (birth.epoch, birth.instance):
            if birth.utc_ns > rival.birth.utc_ns:
                voice.heard_ns = rival.heard_ns
                peer.rival = voice
            return NOTHING
        return [Ignored(node, "older")]

    def _other_instance(self, node: str, peer: Peer, voice: Voice, fresh: bool, now_ns: int) -> Effects:
        """Deal with two instances that signed births of one epoch."""
        if peer.state not in PRESENT:
            # The earlier one is gone: a box that lost its count of epochs, and has started again.
            if voice.birth.utc_ns <= peer.voice.birth.utc_ns:
                return [Ignored(node, "older")]
            peer.voice = voice
            return self._born(node, peer, fresh, now_ns)
        rival = peer.rival
        if rival and rival.birth.instance == voice.birth.instance and voice.birth.utc_ns <= rival.birth.utc_ns:
            return NOTHING
        peer.rival, peer.rival_since_ns = voice, now_ns
        return self._table.doubled(node, peer, voice, now_ns)

    def _rival_pulse(self, node: str, peer: Peer, pulse: Pulse, now_ns: int) -> Effects:
        rival = peer.rival
        if rival is None or (rival.birth.epoch, rival.birth.instance) != (pulse.epoch, pulse.instance):
            return NOTHING
        check = rival.check
        if check is None or not self._accept(check, pulse, now_ns):
            return NOTHING
        sent_ns = check.sent_ns(now_ns)
        rival.heard_ns = max(rival.heard_ns, sent_ns)
        # After a restart, heartbeats of the earlier run may still be on their way for a while.
        if sent_ns < peer.rival_since_ns + rival.dead_ns:
            return NOTHING
        return self._table.doubled(node, peer, rival, now_ns)

    def _accept(self, check: PulseCheck, pulse: Pulse, now_ns: int) -> bool:
        gap = pulse.index - check.index
        if gap > GAP_SLACK and self._hashes.left < gap:
            self._hashes.refill(now_ns)
            if self._hashes.left < gap and gap > check.explained_gap(now_ns, GAP_SLACK):
                return False
        if check.accept(pulse.index, pulse.element, MAX_GAP):
            return True
        if 0 < gap <= MAX_GAP:
            self._hashes.refill(now_ns)
            self._hashes.left = max(0.0, self._hashes.left - gap)
        return False
