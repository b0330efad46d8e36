"""The nouns of membership: what can happen to a peer, what a node is told about it, and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qedge.base.machine import StateTable
from qedge.mesh.pulse import PulseCheck
from qedge.wire.mesh import Birth, PeerState


class PeerEvent(StrEnum):
    """What happens to a peer in the eyes of a node."""

    HEARD = "heard"
    SILENT = "silent"
    EXPIRED = "expired"
    REBORN = "reborn"
    FAREWELL = "farewell"
    DOUBLED = "doubled"
    RESOLVED = "resolved"
    REVOKED = "revoked"


_HELD: Final = (PeerState.ALIVE, PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT, PeerState.DUPLICATE)

PEER_STATES: Final = StateTable(
    "peer",
    # A birth alone may be old: a peer is asked about until something shows that it lives now.
    PeerState.SUSPECT,
    frozenset(),
    {
        (PeerState.SUSPECT, PeerEvent.HEARD): PeerState.ALIVE,
        (PeerState.DEAD, PeerEvent.HEARD): PeerState.ALIVE,
        (PeerState.ALIVE, PeerEvent.SILENT): PeerState.SUSPECT,
        (PeerState.SUSPECT, PeerEvent.EXPIRED): PeerState.DEAD,
        **{(state, PeerEvent.REBORN): PeerState.SUSPECT for state in (*_HELD, PeerState.REVOKED)},
        **{(state, PeerEvent.FAREWELL): PeerState.LEFT for state in _HELD if state != PeerState.LEFT},
        **{(state, PeerEvent.DOUBLED): PeerState.DUPLICATE for state in _HELD[:4]},
        (PeerState.DUPLICATE, PeerEvent.RESOLVED): PeerState.SUSPECT,
        **{(state, PeerEvent.REVOKED): PeerState.REVOKED for state in _HELD},
    },
)


@dataclass(frozen=True, slots=True)
class PeerUp:
    """The peer shows signs of life; another `epoch` than before: it has restarted meanwhile."""

    node: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """The peer says something new about itself: version or capabilities."""

    node: str


@dataclass(frozen=True, slots=True)
class PeerSuspect:
    """The peer is silent for longer than chance explains."""

    node: str


@dataclass(frozen=True, slots=True)
class PeerDead:
    """The peer missed its heartbeats and answered nothing."""

    node: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer said goodbye."""

    node: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PeerRevoked:
    """The peer's key is on the revocation list."""

    node: str


@dataclass(frozen=True, slots=True)
class PeerForgotten:
    """Nothing is known of the peer any more."""

    node: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the peer with a nonce, over any path there is; tell the outcome with `probe_answered` or `probe_failed`."""

    node: str


@dataclass(frozen=True, slots=True)
class DuplicateSelf:
    """Another box announced itself under this node's name after this node had started."""

    epoch: int
    instance: bytes


@dataclass(frozen=True, slots=True)
class DuplicatePeer:
    """Two boxes speak under the peer's name."""

    node: str


@dataclass(frozen=True, slots=True)
class Rebirth:
    """Announce this node anew with heartbeats every `period_s`, a new chain, and an epoch of at least `epoch`."""

    period_s: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message had no effect; for the log."""

    node: str
    reason: str


Effect = (
    PeerUp
    | PeerChanged
    | PeerSuspect
    | PeerDead
    | PeerLeft
    | PeerRevoked
    | PeerForgotten
    | Probe
    | DuplicateSelf
    | DuplicatePeer
    | Rebirth
    | Ignored
)
"""What a node has to do or to know after an input."""


class Voice:
    """One instance that speaks under a peer's name: its newest birth, and its last sign of life.

    `heard_ns` is on the receiver's clock; `proven`: something has shown that the instance lived while this node knew
    it. `until_ns` is the end of its certificate (UTC).
    """

    __slots__ = ("birth", "check", "dead_ns", "heard_ns", "key_id", "proven", "suspect_ns", "until_ns")

    def __init__(self, birth: Birth, key_id: str, until_ns: int, heard_ns: int, proven: bool) -> None:
        self.birth = birth
        self.key_id = key_id
        self.until_ns = until_ns
        self.heard_ns = heard_ns
        self.proven = proven
        self.check: PulseCheck | None = None
        self.suspect_ns = 0
        self.dead_ns = 0


class Peer:
    """What a node remembers of a peer. `rival` is the other instance under its name, if there is or was one.

    `since_ns`: when the state began; `probe_ns`: when a suspect may be asked next; `doubts`: unanswered probes that
    are still allowed before a last will makes the peer a suspect (0: no last will came).
    """

    __slots__ = ("doubts", "probe_ns", "rival", "rival_since_ns", "since_ns", "state", "voice")

    def __init__(self, voice: Voice, now_ns: int) -> None:
        self.voice = voice
        self.rival: Voice | None = None
        self.rival_since_ns = 0
        self.state = PEER_STATES.initial
        self.since_ns = now_ns
        self.probe_ns = now_ns
        self.doubts = 0
