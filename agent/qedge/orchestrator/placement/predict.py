"""When a job would end at a node: the way there, what waits there, and the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.orchestrator.placement.model import CLASSES, Candidate, Demand, Rated

BYTES_PER_S: Final = 20e6
"""What a sealed session carries; measured by the benchmark `sealed-bulk` on loopback at several times that."""
FRESH_S: Final = 3.0
"""A load is taken as it was told for this long: it is repeated in less, whether it changed or not."""
STALE_GROWTH: Final = 0.25
"""Backlog that is feared for every second by which a load is older."""
UNKNOWN_WAIT_S: Final = 0.05
"""Backlog that is feared of a node whose load is not known, beyond the least that is known of any other."""
_SPEED_RANGE: Final = 20.0
_LEAST_FACTOR: Final = 0.05


def rate(demand: Demand, able: Sequence[Candidate], speed: float) -> list[Rated]:
    """Predict for each candidate; `speed` is that of the QPU on which the run time was estimated, 0: not known."""
    index = CLASSES.index(demand.latency_class)
    known = [_told_backlog_s(each, index) for each in able if each.load_age_s >= 0]
    unknown_s = min(known, default=0.0) + UNKNOWN_WAIT_S
    return [_rate_one(demand, each, index, speed, unknown_s) for each in able]


def _rate_one(demand: Demand, candidate: Candidate, index: int, speed: float, unknown_s: float) -> Rated:
    factor = max(candidate.factor, _LEAST_FACTOR)
    slots = max(candidate.slots, 1)
    told_s = _told_backlog_s(candidate, index) if candidate.load_age_s >= 0 else unknown_s
    backlog_s = (told_s + candidate.placed_s / slots) / factor
    run_s = demand.run_time_s * _slowness(candidate, speed) / factor
    there_s = 0.0 if candidate.own else candidate.rtt_s / 2
    back_s = 0.0 if candidate.own else candidate.rtt_s / 2 + demand.result_bytes / BYTES_PER_S
    if demand.data_node and demand.data_node != candidate.node:
        there_s += candidate.rtt_s + demand.result_bytes / BYTES_PER_S
    wait_s = there_s + backlog_s
    waiting = sum(candidate.queued[: index + 1]) + candidate.placed
    taken = slots - min(candidate.free_slots, slots) + waiting
    return Rated(candidate, wait_s, run_s, wait_s + run_s + back_s, taken / (taken + slots))


def _told_backlog_s(candidate: Candidate, index: int) -> float:
    """Return what the node said, and what may have come since where that is long ago."""
    return candidate.backlog_s[index] + max(0.0, candidate.load_age_s - FRESH_S) * STALE_GROWTH


def _slowness(candidate: Candidate, speed: float) -> float:
    """Return how many times longer than estimated a run takes there, by measured speeds; 1 where one is not known."""
    fastest = max((qpu.speed for qpu in candidate.qpus), default=0.0)
    if speed <= 0 or fastest <= 0:
        return 1.0
    return min(max(speed / fastest, 1 / _SPEED_RANGE), _SPEED_RANGE)
