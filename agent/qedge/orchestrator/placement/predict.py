"""When a job would end at a node: the way there, what waits there, and the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qedge.orchestrator.placement.model import CLASSES, Candidate, Demand, Rated

BYTES_PER_S: Final = 20e6
"""What a sealed session carries; measured by the benchmark `sealed-bulk` on loopback at several times that."""
HANDOVER_S: Final = 0.008
"""What it costs both nodes to hand a job over and to bring its result back, about as long as a small job runs: so that
is not worth it to save less."""
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
    told = [each.backlog_s[index] for each in able if each.load_age_s >= 0]
    unknown_s = min(told, default=0.0) + UNKNOWN_WAIT_S
    return_s = demand.result_bytes / BYTES_PER_S
    rated: list[Rated] = []
    for each in able:
        factor, slots, age_s = each.factor, each.slots, each.load_age_s
        if factor < _LEAST_FACTOR:
            factor = _LEAST_FACTOR
        if slots < 1:
            slots = 1
        backlog_s = each.backlog_s[index] if age_s >= 0 else unknown_s
        if age_s > FRESH_S:
            # what may have come since it was told
            backlog_s += (age_s - FRESH_S) * STALE_GROWTH
        run_s = demand.run_time_s / factor
        if speed > 0 and each.fastest > 0:
            run_s *= min(max(speed / each.fastest, 1 / _SPEED_RANGE), _SPEED_RANGE)
        wait_s = (backlog_s + each.placed_s / slots) / factor
        back_s = 0.0
        if not each.own:
            wait_s += each.rtt_s / 2
            back_s = each.rtt_s / 2 + return_s + HANDOVER_S
        if demand.data_node and demand.data_node != each.node:
            wait_s += each.rtt_s + return_s
        free = min(slots, each.free_slots)
        taken = slots - free + each.placed + sum(each.queued[: index + 1])
        rated.append(Rated(each, wait_s, run_s, wait_s + run_s + back_s, taken / (taken + slots)))
    return rated
