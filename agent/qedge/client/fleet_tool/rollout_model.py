"""Nouns of roll-outs: phases, steps of a node, what the engine wants done. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from qedge.client.fleet_tool.model import NodeStanding
from qedge.client.fleet_tool.rollout_plan import Order


class Phase(StrEnum):
    """Where a roll-out stands; the last three are its ends."""

    SENDING = "sending"
    SOAKING = "soaking"
    STOPPING = "stopping"
    """Requests are taken back, commands cancelled and undone; what nodes are at is waited for."""
    DONE = "done"
    STOPPED = "stopped"
    ABORTED = "aborted"


class Step(StrEnum):
    """Where a node stands in a roll-out."""

    WAITING = "waiting"
    ASKED = "asked"
    ABSENT = "absent"
    """Not there when it was asked: the request stands until it expires, and its wave does not wait for it."""
    RUNNING = "running"
    DONE = "done"
    HEALTHY = "healthy"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    UNDOING = "undoing"
    UNDONE = "undone"
    STUCK = "stuck"
    """What was to undo it failed."""


ENDED: Final = frozenset({Phase.DONE, Phase.STOPPED, Phase.ABORTED})
UNDER_WAY: Final = frozenset({Step.ASKED, Step.RUNNING})
HAS_IT: Final = frozenset({Step.DONE, Step.HEALTHY, Step.FAILED})


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a node the order, or the one that undoes it."""

    node: str
    order: Order
    back: bool


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take a request back; where the node has taken it, which an empty topic does not change, have it cancelled."""

    node: str
    id: str
    taken: bool


Effect = Ask | Withdraw


@dataclass(slots=True)
class NodeCourse:
    """One node's way. `taken`: it said anything at all of the request; `done_utc_ns` 0: it has not done it.

    `soak_epoch` is the start of its daemon with which its soaking began.
    """

    name: str
    wave: int
    step: Step = Step.WAITING
    id: str = ""
    back_id: str = ""
    reason: str = ""
    standing: NodeStanding = NodeStanding.UP
    version: str = ""
    epoch: int = 0
    taken: bool = False
    soak_epoch: int = -1
    done_utc_ns: int = 0
    deadline_utc_ns: int = 0


@dataclass(slots=True)
class Wave:
    """One wave; `steps` counts its nodes by step, `failures` never shrinks."""

    nodes: list[NodeCourse]
    asked: int = 0
    failures: int = 0
    steps: Counter[Step] = field(default_factory=Counter)
