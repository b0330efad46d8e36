"""The policies: plain functions that give every node which can run a job a score, the lower the better. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from qedge.orchestrator.placement.model import Demand, PlacementPolicy, Policy, Rated

PATIENCE_S: Final = 0.25
"""Wait for a start here that is not worth to send a job away for."""
_SOON_S: Final = 0.01


def fastest(_demand: Demand, rated: Sequence[Rated]) -> list[float]:
    """Score by when the result would be here."""
    return [each.predicted_s for each in rated]


def balanced(_demand: Demand, rated: Sequence[Rated]) -> list[float]:
    """Score by when the result would be here, up to twice as bad where much is going on."""
    return [each.predicted_s * (1.0 + each.busy) for each in rated]


def local_first(demand: Demand, rated: Sequence[Rated]) -> list[float]:
    """Prefer this node while the job would start on it soon."""
    scores = balanced(demand, rated)
    return [
        0.0 if each.candidate.own and each.wait_s <= PATIENCE_S else score + PATIENCE_S
        for each, score in zip(rated, scores, strict=True)
    ]


def pack(_demand: Demand, rated: Sequence[Rated]) -> list[float]:
    """Prefer the busiest of those where the job would start at once, else the one where it ends first."""
    return [
        1.0 - each.busy if each.candidate.free_slots > each.candidate.placed and each.wait_s <= _waits_at_once(each)
        else 1.0 + each.predicted_s
        for each in rated
    ]  # fmt: skip


def pinned(_demand: Demand, rated: Sequence[Rated]) -> list[float]:
    """Score by when the result would be here: only one node is left."""
    return [each.predicted_s for each in rated]


def _waits_at_once(rated: Rated) -> float:
    return _SOON_S + rated.candidate.rtt_s


POLICIES: Final[Mapping[PlacementPolicy, Policy]] = {
    PlacementPolicy.FASTEST: fastest,
    PlacementPolicy.BALANCED: balanced,
    PlacementPolicy.LOCAL_FIRST: local_first,
    PlacementPolicy.PACK: pack,
    PlacementPolicy.PINNED: pinned,
}
