"""A roll-out as it is shown and told: waves in numbers, who failed and why. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from qedge.client.fleet_tool.rollout import Rollout
from qedge.client.fleet_tool.rollout_model import Phase, Step

MAX_FAILURES: Final = 200


class WaveView(msgspec.Struct, frozen=True):
    """How many nodes of a wave stand where; `steps` leaves out what is zero."""

    size: int
    asked: int
    failures: int
    steps: dict[str, int]

    @property
    def ended(self) -> int:
        """How many nodes are done with, well or not."""
        open_steps = (Step.WAITING, Step.ASKED, Step.RUNNING, Step.UNDOING)
        return self.size - sum(self.steps.get(step, 0) for step in open_steps)


class NodeFault(msgspec.Struct, frozen=True):
    """Why a node failed."""

    node: str
    wave: int
    step: Step
    reason: str


class RolloutView(msgspec.Struct, frozen=True, tag_field="type", tag="rollout-view/1"):
    """Where a roll-out stands. Waves are numbered from 1; `reached` nodes were sent the order."""

    id: str
    fleet: str
    kind: str
    phase: Phase
    paused: bool
    wave: int
    nodes: int
    reached: int
    waves: tuple[WaveView, ...]
    reason: str = ""
    note: str = ""
    due_utc_ns: int = 0
    faults: tuple[NodeFault, ...] = ()


def view_of(rollout: Rollout) -> RolloutView:
    """Describe a roll-out."""
    faults = sorted(rollout.failures(), key=lambda node: (node.wave, node.name))[:MAX_FAILURES]
    return RolloutView(
        id=rollout.plan.id,
        fleet=rollout.plan.fleet,
        kind=rollout.plan.order.kind,
        phase=rollout.phase,
        paused=rollout.paused,
        wave=rollout.wave + 1,
        nodes=len(rollout.nodes),
        reached=rollout.asked,
        waves=tuple(
            WaveView(
                len(wave.nodes),
                wave.asked,
                wave.failures,
                {step.value: wave.steps[step] for step in Step if wave.steps[step]},
            )
            for wave in rollout.waves
        ),
        reason=rollout.reason,
        note=rollout.plan.note,
        due_utc_ns=rollout.due_utc_ns() or 0,
        faults=tuple(NodeFault(node.name, node.wave + 1, node.step, node.reason) for node in faults),
    )
