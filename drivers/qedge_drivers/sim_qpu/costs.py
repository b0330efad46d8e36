"""What a run will cost: a model of memory and time whose rates are measured on the machine it runs on."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu import stabilizer
from qedge_drivers.sim_qpu.entanglement import Chain
from qedge_drivers.sim_qpu.methods import MPS, STABILIZER
from qedge_drivers.sim_qpu.mps import FREE_BOND, SAMPLE_BYTES
from qedge_drivers.sim_qpu.program import MEASURE, RESET, Plan

BASE_BYTES: Final = 16 << 20
_BYTES_PER_OP: Final = 1200
_BYTES_PER_SHOT: Final = 56
_AMPLITUDE_BYTES: Final = 8

# seconds on one core of a 2026 server; `calibrate` replaces what differs most between machines
_PER_RUN_S: Final = 0.02e-3
_PER_SEGMENT_S: Final = 0.04e-3
_PER_OP_S: Final = 1.2e-6
_PER_SHOT_S: Final = 0.035e-6
_PER_VALUE_S: Final = 0.09e-6
_PER_PASS_AMPLITUDE_S: Final = ((8, 0.25e-9), (12, 0.25e-9), (16, 0.2e-9), (20, 0.2e-9), (22, 0.4e-9))
_END_PASSES: Final = 2.0
"""Passes over the state that beginning and sampling take."""
_FEW_QUBITS: Final = 11
MATRIX_PASSES: Final = 3.0
"""A superoperator costs this many passes of a two-qubit gate."""
_PROBES: Final = ((12, 60), (16, 30), (20, 6), (22, 2))
"""Qubits and layers of the circuits that are timed."""
_PLAN_SHARE: Final = 1.2
"""Planning takes a part of what handing operations to the kernel takes."""
_LEARNING: Final = 0.3
LEARN_FROM_S: Final = 1e-3
_TEACHING_WORK: Final = 1 << 22

_SVD_COPIES: Final = 8
_MPS_SITE_S: Final = 20e-6
_MPS_ELEMENT_S: Final = 4e-9
_MPS_CUT_S: Final = 8e-9


def count_passes(ops: Sequence[Op]) -> float:
    """Estimate how many passes over the state a kernel needs that fuses gates up to two qubits."""
    block: dict[int, int] = {}
    passes = 0.0
    for number, (gate, qubits, _, _) in enumerate(ops):
        if gate >= MEASURE:
            continue
        if len(qubits) == 1:
            if qubits[0] not in block:
                # a pass of its own, unless a gate on two qubits comes and takes it along
                block[qubits[0]] = -1
                passes += 1.0
        elif len(qubits) == 2:
            one, other = block.get(qubits[0]), block.get(qubits[1])
            if one is None or one != other or one < 0:
                passes += 1.0 - (one == -1) - (other == -1)
                block[qubits[0]] = block[qubits[1]] = number
        elif qubits:
            passes += 1.0
            for qubit in qubits:
                block[qubit] = number + len(ops)
    return passes


def _most_passes(num_qubits: int, ops: Sequence[Op]) -> float:
    """Return an upper bound of `count_passes`: every gate on several qubits is one, those on one go into others."""
    several = sum([len(op[1]) > 1 for op in ops])
    return float(min(len(ops), several + num_qubits))


def teaches(num_qubits: int, ops: Sequence[Op]) -> bool:
    """Tell whether a run has so much work on amplitudes that its time says how fast that is."""
    return len(ops) << num_qubits >= _TEACHING_WORK


def largest_bond(chain: Chain | None, max_bond: int) -> int:
    """Return how large a bond can grow before it is cut."""
    return 0 if chain is None else min(1 << min(chain.log_bond, 40), 4 * max(FREE_BOND, max_bond))


class CostModel:
    """Predicts bytes and seconds of one kernel on this machine; learns from what runs really took."""

    def __init__(self) -> None:
        self._rates = list(_PER_PASS_AMPLITUDE_S)
        self._per_op_s = _PER_OP_S

    def calibrate(self, evolve: Callable[[int, Sequence[Op]], object]) -> dict[str, float]:
        """Time the kernel on a few circuits; returns nanoseconds per amplitude and pass, by number of qubits."""
        small = _probe(4, 20)
        per_op_s = min(_timed(evolve, 4, small) for _ in range(5)) / len(small)
        rates: list[tuple[int, float]] = []
        for num_qubits, layers in _PROBES:
            ops = _probe(num_qubits, layers)
            fastest = min(_timed(evolve, num_qubits, ops) for _ in range(2))
            work = (count_passes(ops) + _END_PASSES) * 2.0**num_qubits
            rates.append((num_qubits, max(fastest - len(ops) * per_op_s, 0.1 * fastest) / work))
        self._rates, self._per_op_s = rates, _PLAN_SHARE * per_op_s
        return {f"q{num_qubits}": rate * 1e9 for num_qubits, rate in rates}

    def learn(self, num_qubits: int, predicted_s: float, actual_s: float) -> None:
        """Correct the rate near `num_qubits` by what a run took that `teaches`."""
        if predicted_s < LEARN_FROM_S or actual_s <= 0:
            return
        step = min(2.0, max(0.5, actual_s / predicted_s)) ** _LEARNING
        near = min(range(len(self._rates)), key=lambda index: abs(self._rates[index][0] - num_qubits))
        self._rates[near] = (self._rates[near][0], self._rates[near][1] * step)

    def _rate_s(self, num_qubits: int) -> float:
        index = bisect_left(self._rates, (num_qubits, 0.0))
        if index == 0:
            return self._rates[0][1]
        if index == len(self._rates):
            return self._rates[-1][1]
        (low, one), (high, other) = self._rates[index - 1], self._rates[index]
        share = (num_qubits - low) / (high - low)
        return math.exp((1 - share) * math.log(one) + share * math.log(other))

    def state_s(self, num_qubits: int, ops: Sequence[Op]) -> float:
        """Seconds to run `ops` once on a state vector."""
        # where handing operations over is most of it, counting passes one by one would take longer than the run
        passes = count_passes(ops) if num_qubits > _FEW_QUBITS else _most_passes(num_qubits, ops)
        work = (passes + _END_PASSES) * 2.0**num_qubits
        return _PER_RUN_S + len(ops) * self._per_op_s + work * self._rate_s(num_qubits)

    def branching_s(self, plan: Plan, shots: int, struck: float, width: int, weight: float) -> float:
        """Seconds to follow groups of shots through a plan on states of `width` qubits.

        `struck` is the number of shots that noise takes off the common way; an operation counts `weight` passes.
        """
        rate, groups, total, begin = self._rate_s(width), 1.0, 0.0, 0
        for stop in (*plan.stops, len(plan.ops)):
            ops = plan.ops[begin:stop]
            passes = (count_passes(ops) if weight == 1.0 else weight * len(ops)) + 1
            one = _PER_SEGMENT_S + len(ops) * self._per_op_s + passes * 2.0**width * rate
            total += min(groups + struck / 2, float(shots)) * one
            if stop < len(plan.ops) and plan.ops[stop][0] in (MEASURE, RESET):
                groups = min(2 * groups, float(shots))
            begin = stop + 1
        return _PER_RUN_S + total + min(groups + struck, shots) * 2.0**width * 2e-9

    def stabilizer_s(self, plan: Plan, shots: int) -> float:
        """Seconds of a Clifford circuit."""
        rounds = shots if plan.conditions else shots / 256
        return _PER_RUN_S + len(plan.ops) * 1e-6 + rounds * len(plan.ops) * 2e-7 * max(1.0, plan.num_qubits / 64)

    def mps_s(self, plan: Plan, chain: Chain, max_bond: int, shots: int) -> float:
        """Seconds of a matrix product state."""
        limit = max(FREE_BOND, max_bond)
        bonds = [min(2.0**bits, 2.0 * limit) for bits in (*chain.log_bonds, 0)]
        total = _PER_RUN_S
        for op in plan.ops:
            if len(op[1]) > 1:
                places = [chain.sites[qubit] for qubit in op[1]]
                low, high = min(places), max(places)
                total += sum(_MPS_SITE_S + _MPS_ELEMENT_S * bonds[site] ** 2 for site in range(low, high + 1))
        rounds = max(0.0, (chain.log_bond - math.log2(FREE_BOND)) / 2)
        cut_s = sum(bond**3 for bond in bonds) * _MPS_CUT_S
        sample_s = len(bonds) * (4 * _MPS_SITE_S + shots * (2e-8 + 1e-9 * max(bonds) ** 2))
        return total + (0.2 + min(rounds, len(plan.ops) / 4)) * cut_s + sample_s


def shots_s(shots: int, num_clbits: int) -> float:
    """Seconds to draw shots and count them, most of it for different values."""
    return shots * _PER_SHOT_S + min(shots, 1 << min(num_clbits, 40)) * _PER_VALUE_S


def memory_bytes(
    plan: Plan,
    num_ops: int,
    num_clbits: int,
    shots: int,
    *,
    method: str,
    amplitudes: int,
    live: int,
    bond: int,
) -> int:
    """Predict the peak of a run beyond the idle process: `live` states of `amplitudes`, or a chain of `bond`."""
    memory = _BYTES_PER_OP * num_ops + _BYTES_PER_SHOT * shots + shots * (-(-num_clbits // 8)) + BASE_BYTES
    if method == STABILIZER:
        recorded = len(plan.final) + len(plan.stops)
        chunk = min(shots, stabilizer.CHUNK_SHOTS)
        return memory + 4 * plan.num_qubits**2 + 3 * chunk * (recorded + num_clbits)
    if method == MPS:
        sites = plan.num_qubits
        return memory + 32 * bond**2 * (sites + _SVD_COPIES) + 2 * shots * (sites + num_clbits) + SAMPLE_BYTES
    return memory + live * _AMPLITUDE_BYTES * amplitudes


def _probe(num_qubits: int, layers: int) -> list[Op]:
    ops: list[Op] = []
    for layer in range(layers):
        ops += [(int(Gate.RY), (qubit,), (0.1 + 0.01 * qubit + layer,), 0) for qubit in range(num_qubits)]
        ops += [(int(Gate.CZ), (qubit, qubit + 1), (), 0) for qubit in range(layer % 2, num_qubits - 1, 2)]
    return ops


def _timed(evolve: Callable[[int, Sequence[Op]], object], num_qubits: int, ops: Sequence[Op]) -> float:
    started = time.perf_counter()
    evolve(num_qubits, ops)
    return time.perf_counter() - started
