"""What a node that is not well turns away: batch jobs first, critical ones last. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.lanes import Occupancy
from qedge.engine.queue import CLASSES
from qedge.orchestrator.fairness.health import Fitness
from qedge.wire.jobs import LatencyClass

_LEAST_FACTOR: Final[Mapping[LatencyClass, float]] = {
    LatencyClass.CRITICAL: 0.0,
    LatencyClass.INTERACTIVE: 0.3,
    LatencyClass.BATCH: 0.6,
}
"""Where a node wants a smaller share of its usual work than this, it takes a job of the class only if none waits."""
_RETRY_S: Final = 10.0


def check_shedding(latency: LatencyClass, fitness: Fitness, occupancy: Occupancy) -> None:
    """Raise `job.shed` where a job of this class is not taken now.

    A degraded node works on, but lets nothing pile up; a critical one takes critical jobs only.
    """
    critical = fitness.verdict == "critical"
    if latency is LatencyClass.CRITICAL or not (critical or fitness.factor < _LEAST_FACTOR[latency]):
        return
    queued: tuple[int, ...] = occupancy.queued[: CLASSES.index(latency) + 1]
    if not critical and occupancy.free_slots and not any(queued):
        return
    raise QedgeError(
        "job.shed",
        f"The node is {fitness.verdict} ({fitness.reason}) and takes no more {latency.value} jobs.",
        fix=f"Try again in {_RETRY_S:.0f} s, let any node run it, or give it a more urgent class.",
        verdict=fitness.verdict,
        retry_after_s=_RETRY_S,
    )
