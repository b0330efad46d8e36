"""Puts facts, predictions and a policy together to one decision. Pure: time and randomness are arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from qedge.orchestrator.placement.able import reasons
from qedge.orchestrator.placement.model import (
    Candidate,
    Considered,
    Demand,
    Placement,
    PlacementPolicy,
    Rated,
    Uniform,
)
from qedge.orchestrator.placement.policies import POLICIES
from qedge.orchestrator.placement.predict import rate

ALIKE: Final = 1.1
"""Scores within this factor of the best are as good as it: facts are not more exact than that."""
ALIKE_S: Final = 0.002
_NOBODY: Final[frozenset[str]] = frozenset()


class Facts(Protocol):
    """What is known of the nodes."""

    def candidates(self, now_ns: int) -> Sequence[Candidate]:
        """Describe all nodes of the fleet that are known, this one included."""
        ...

    def speed(self) -> float:
        """Return the speed of the QPU on which this node estimates; 0: not known, or it has none."""
        ...

    def placed(self, node: str, job_id: str, run_s: float, now_ns: int) -> None:
        """Count a job that was given to a node, until its load shows it."""
        ...


class FleetPlacer:
    """Chooses for one node. Jobs that it placed count as load at once."""

    def __init__(self, facts: Facts, *, now_ns: Callable[[], int], uniform: Uniform) -> None:
        self._facts = facts
        self._now_ns = now_ns
        self._uniform = uniform

    def place(self, demand: Demand, *, barred: frozenset[str] = _NOBODY) -> Placement:
        """Choose a node and count the job as given to it."""
        now_ns = self._now_ns()
        placement, chosen = decide(demand, self._facts.candidates(now_ns), barred, self._facts.speed(), self._uniform)
        if chosen is not None:
            self._facts.placed(placement.node, demand.job_id, chosen.run_s, now_ns)
        return placement

    def explain(self, demand: Demand, *, barred: frozenset[str] = _NOBODY) -> Placement:
        """Say what would be chosen, and give nothing to anybody."""
        found = self._facts.candidates(self._now_ns())
        return decide(demand, found, barred, self._facts.speed(), self._uniform)[0]


def decide(
    demand: Demand, candidates: Sequence[Candidate], barred: frozenset[str], speed: float, uniform: Uniform
) -> tuple[Placement, Rated | None]:
    """Choose among candidates; see `rate` for `speed`."""
    why_not = reasons(demand, candidates, barred)
    rated = rate(demand, [each for each, reason in zip(candidates, why_not, strict=True) if not reason], speed)
    limit_s = demand.deadline_s or math.inf
    scores = POLICIES[demand.policy](demand, rated)
    considered: list[Considered] = []
    able: list[tuple[float, Rated]] = []
    known = zip(rated, scores, strict=True)
    for each, reason in zip(candidates, why_not, strict=True):
        if reason:
            considered.append(Considered(each.node, 0.0, 0.0, reason))
            continue
        found, score = next(known)
        late = f"it would end in {found.predicted_s:.3g} s, too late" if found.predicted_s > limit_s else ""
        considered.append(Considered(each.node, score, found.predicted_s, late))
        if not late:
            able.append((score, found))
    if not able:
        return Placement("", 0.0, tuple(considered)), None
    score, chosen = _pick(demand.policy, able, uniform)
    return Placement(chosen.candidate.node, score, tuple(considered)), chosen


def _pick(policy: PlacementPolicy, able: Sequence[tuple[float, Rated]], uniform: Uniform) -> tuple[float, Rated]:
    """Take the best; this node where it is as good, since a job that stays costs nobody a message.

    Where several others are as good, two are drawn and the one with less to do is taken: so nodes that see the same
    facts do not all run to the same place. `pack` wants just that, and goes by name.
    """
    least = min(score for score, _ in able)
    best = min((each for each in able if each[0] == least), key=lambda each: each[1].candidate.node)
    if policy is PlacementPolicy.PACK or len(able) == 1:
        return best
    limit = best[0] * ALIKE + ALIKE_S
    alike = [each for each in able if each[0] <= limit]
    own = next((each for each in alike if each[1].candidate.own), None)
    if own is not None:
        return own
    drawn = [alike[int(uniform() * len(alike))] for _ in range(2)]
    return min(drawn, key=lambda each: (each[1].busy, each[1].candidate.placed, each[0]))
