"""Where a device disturbs a circuit, and how, in the three forms that the simulations need.

- A gate of average fidelity F takes a depolarising channel ρ → (1−λ)ρ + λ·1/d. With the entanglement fidelity
  F_e = ((d+1)F − 1)/d (Nielsen, Phys. Lett. A 303, 249 (2002)) and F_r that of relaxation during the gate,
  λ = (F_r − F_e)/(F_r − 1/d²), never below 0: F counts everything that happens in the gate's duration.
- A qubit that waits or works for t relaxes with T1 and loses coherence as e^(−t/T2). For T2 ≤ T1 this is exactly the
  mixture: reset with probability γ = 1 − e^(−t/T1), else a phase flip with (1 − e^(−t(1/T2 − 1/T1)))/2. For T2 > T1 it
  is no mixture of that kind; where a mixture is needed the Pauli-twirled channel stands in, with the same T1 and T2 but
  relaxing to the mixed state: p_x = p_y = (1 − e^(−t/T1))/4, p_z = (1 + e^(−t/T1) − 2e^(−t/T2))/4.
- A measured bit is flipped with the readout error.
- Gates on more than two qubits count as the two-qubit gates they decompose into (6, 14, 36 for 3, 4, 5 qubits): their
  fidelity is that power of the two-qubit one, their duration that multiple.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import matrix_op, op_matrix
from qedge_drivers.sim_qpu.gates import Matrix
from qedge_drivers.sim_qpu.program import IF, MEASURE, RESET, Plan
from qedge_drivers.sim_qpu.settings import Device

_TWO_QUBIT_GATES: Final = {3: 6, 4: 14, 5: 36}
_PAULIS: Final = (int(Gate.ID), int(Gate.X), int(Gate.Y), int(Gate.Z))


class Kind(IntEnum):
    """Kinds of disturbance."""

    DEPOLARISE = 0
    RELAX = 1
    FLIP = 2


@dataclass(frozen=True, slots=True)
class Site:
    """One disturbance, just before operation `at` and because of operation `owner` (so not where that is skipped).

    `value` is λ, the time in microseconds, or the flip probability; for `FLIP`, `targets` holds the classical bit.
    """

    at: int
    owner: int
    kind: Kind
    targets: tuple[int, ...]
    value: float


def two_qubit_gates(num_qubits: int) -> int:
    """Return how many two-qubit gates a gate on `num_qubits` ≥ 2 qubits stands for."""
    return 1 if num_qubits == 2 else _TWO_QUBIT_GATES.get(num_qubits, 12 * num_qubits - 24)


def gate_cost(device: Device, num_qubits: int) -> tuple[float, float]:
    """Return `(fidelity, duration_us)` of a gate on so many qubits."""
    if num_qubits == 1:
        return device.fidelity_1q, device.duration_1q_us
    count = two_qubit_gates(num_qubits)
    return device.fidelity_2q**count, device.duration_2q_us * count


def depolarising(device: Device, num_qubits: int) -> float:
    """Return λ of a gate on so many qubits."""
    fidelity, duration_us = gate_cost(device, num_qubits)
    d = 1 << num_qubits
    coherence = math.exp(-duration_us / device.t2_us)
    population = math.exp(-duration_us / device.t1_us)
    relaxed = ((1 + population + 2 * coherence) / 4) ** num_qubits
    wanted = ((d + 1) * fidelity - 1) / d
    return min(1.0, max(0.0, (relaxed - wanted) / (relaxed - 1 / d**2)))


class _Schedule:
    """As-soon-as-possible times of the operations; whoever waits relaxes."""

    def __init__(self, device: Device, num_qubits: int) -> None:
        self._device = device
        self._clock = [0.0] * num_qubits
        self._used = [False] * num_qubits
        self.sites: list[Site] = []

    def wait(self, qubits: tuple[int, ...], index: int) -> None:
        """Bring `qubits` to one time before operation `index`."""
        start = max((self._clock[qubit] for qubit in qubits), default=0.0)
        for qubit in qubits:
            idle_us = start - self._clock[qubit]
            # nothing happens to a qubit that nobody has touched: it is in its ground state
            if idle_us > 0 and self._used[qubit]:
                self._relax(qubit, idle_us, index, index)
            self._clock[qubit] = start

    def act(self, qubits: tuple[int, ...], duration_us: float, at: int, owner: int) -> None:
        for qubit in qubits:
            self._used[qubit] = True
            self._clock[qubit] += duration_us
            self._relax(qubit, duration_us, at, owner)

    def _relax(self, qubit: int, duration_us: float, at: int, owner: int) -> None:
        if self._device.decays and duration_us > 0:
            self.sites.append(Site(at, owner, Kind.RELAX, (qubit,), duration_us))


def noise_sites(plan: Plan, device: Device) -> list[Site]:
    """List what disturbs the circuit, in the order of `(at, owner)`."""
    schedule = _Schedule(device, plan.num_qubits)
    sites = schedule.sites
    for index, (gate, qubits, _, arg) in enumerate(plan.ops):
        if gate == IF:
            length = plan.conditions[arg].length
            body = plan.ops[index + 1 : index + 1 + length]
            schedule.wait(tuple(dict.fromkeys(qubit for op in body for qubit in op[1])), index)
            continue
        schedule.wait(qubits, index)
        if gate == MEASURE:
            # the outcome is taken at the start, the qubit relaxes while it is amplified
            schedule.act(qubits, device.duration_readout_us, index + 1, index)
            if device.readout_error > 0:
                sites.append(Site(index + 1, index, Kind.FLIP, (arg,), device.readout_error))
        elif gate == RESET:
            schedule.act(qubits, device.duration_readout_us, index + 1, index)
        else:
            schedule.act(qubits, gate_cost(device, len(qubits))[1], index + 1, index)
            strength = depolarising(device, len(qubits))
            if strength > 0:
                sites.append(Site(index + 1, index, Kind.DEPOLARISE, qubits, strength))
    final = tuple(dict.fromkeys(plan.final.values()))
    schedule.wait(final, len(plan.ops))
    return sites


# mixtures: each event is a list of operations that happens with its probability, whatever the state


def relax_probabilities(device: Device, duration_us: float) -> tuple[float, float, float, float]:
    """Return the probabilities `(x, y, z, reset)` of relaxing for so long."""
    population = math.exp(-duration_us / device.t1_us)
    coherence = math.exp(-duration_us / device.t2_us)
    if device.t2_us <= device.t1_us:
        reset = 1 - population
        return 0.0, 0.0, population * (1 - coherence / population) / 2 if population > 0 else 0.0, reset
    return (*twirled_probabilities(device, duration_us), 0.0)


def twirled_probabilities(device: Device, duration_us: float) -> tuple[float, float, float]:
    """Return the probabilities `(x, y, z)` of the Pauli-twirled channel."""
    population = math.exp(-duration_us / device.t1_us)
    coherence = math.exp(-duration_us / device.t2_us)
    flip = (1 - population) / 4
    return flip, flip, max(0.0, (1 + population - 2 * coherence) / 4)


def event_probability(site: Site, device: Device) -> float:
    """Return the chance that anything happens at a site."""
    if site.kind == Kind.RELAX:
        return sum(relax_probabilities(device, site.value))
    if site.kind == Kind.DEPOLARISE:
        return site.value * (1 - 0.25 ** len(site.targets))
    return site.value


def draw_event(site: Site, device: Device, rng: np.random.Generator) -> tuple[Op, ...]:
    """Draw one event, given that something happens; a flipped classical bit comes back as a measurement of nothing."""
    if site.kind == Kind.RELAX:
        weights = relax_probabilities(device, site.value)
        choice = int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))
        gate = (int(Gate.X), int(Gate.Y), int(Gate.Z), RESET)[min(choice, 3)]
        return ((gate, site.targets, (), 0),)
    if site.kind == Kind.DEPOLARISE:
        code = int(rng.integers(1, 4 ** len(site.targets)))
        return tuple(
            (_PAULIS[code >> 2 * order & 3], (qubit,), (), 0)
            for order, qubit in enumerate(site.targets)
            if code >> 2 * order & 3
        )
    return ((MEASURE, (), (), site.targets[0]),)


# superoperators: a density matrix of n qubits is a vector of 2n, row qubit q at q and column qubit q at n+q


@lru_cache(maxsize=4096)
def _unitary_superoperator(gate: int, params: tuple[float, ...], controls: int, num_qubits: int) -> Op:
    matrix = op_matrix((gate, tuple(range(num_qubits)), params, controls))
    return matrix_op(np.kron(matrix, matrix.conj()), tuple(range(2 * num_qubits)))


@lru_cache(maxsize=4096)
def _relax_superoperator(population: float, coherence: float) -> Op:
    # on |row⟩|column⟩: 00 gains what 11 loses, 01 and 10 keep the coherence
    matrix = np.diag([1, coherence, coherence, population]).astype(np.complex128)
    matrix[0, 3] = 1 - population
    return matrix_op(matrix, (0, 1))


@lru_cache(maxsize=64)
def _depolarise_superoperator(strength: float, num_qubits: int) -> Op:
    d = 1 << num_qubits
    trace = np.eye(d, dtype=np.complex128).ravel()
    matrix = (1 - strength) * np.eye(d * d) + strength * np.outer(trace, trace) / d
    return matrix_op(matrix, tuple(range(2 * num_qubits)))


def _reset_superoperator() -> Matrix:
    matrix = np.zeros((4, 4), dtype=np.complex128)
    matrix[0, 0] = matrix[0, 3] = 1
    return matrix


_RESET_OP: Final = matrix_op(_reset_superoperator(), (0, 1))


def _placed(op: Op, qubits: tuple[int, ...], num_qubits: int) -> Op:
    return (op[0], qubits + tuple([num_qubits + qubit for qubit in qubits]), op[2], op[3])


def density_plan(plan: Plan, sites: list[Site], device: Device) -> tuple[Plan, list[Site]]:
    """Return the plan over the 2n qubits of the density matrix with all quantum noise worked in, and the flips left."""
    n = plan.num_qubits
    out: list[Op] = []
    flips: list[Site] = []
    start: list[int] = []
    end: list[int] = []
    due = 0
    for index in range(len(plan.ops) + 1):
        # what the operation before leaves behind belongs to it, and to the body of a condition that governs it
        due = _weave(sites, due, index, index - 1, device, n, out, flips, start)
        end.append(len(out))
        if index == len(plan.ops):
            _weave(sites, due, index, index, device, n, out, flips, start)
            break
        gate, qubits, params, arg = plan.ops[index]
        if gate == IF:
            due = _weave(sites, due, index, index, device, n, out, flips, start)
            start.append(len(out))
        else:
            start.append(len(out))
            due = _weave(sites, due, index, index, device, n, out, flips, start)
        if gate in (MEASURE, IF):
            out.append((gate, qubits, params, arg))
        elif gate == RESET:
            out.append(_placed(_RESET_OP, qubits, n))
        else:
            out.append(_placed(_unitary_superoperator(gate, params, arg, len(qubits)), qubits, n))
    conditions = list(plan.conditions)
    for index, (gate, _, _, arg) in enumerate(plan.ops):
        if gate == IF:
            length = end[index + 1 + conditions[arg].length] - start[index] - 1
            conditions[arg] = dataclasses.replace(conditions[arg], length=length)
    stops = tuple(index for index, op in enumerate(out) if op[0] in (MEASURE, IF))
    woven = dataclasses.replace(plan, ops=tuple(out), conditions=tuple(conditions), stops=stops)
    return woven, flips


def _weave(
    sites: list[Site],
    due: int,
    at: int,
    owner: int,
    device: Device,
    n: int,
    out: list[Op],
    flips: list[Site],
    start: list[int],
) -> int:
    """Work in the sites before operation `at` whose owner is at most `owner`, from `due` on; return the next due."""
    while due < len(sites) and sites[due].at == at and sites[due].owner <= owner:
        site = sites[due]
        if site.kind == Kind.FLIP:
            flips.append(dataclasses.replace(site, at=len(out), owner=start[site.owner]))
        elif site.kind == Kind.RELAX:
            op = _relax_superoperator(math.exp(-site.value / device.t1_us), math.exp(-site.value / device.t2_us))
            out.append(_placed(op, site.targets, n))
        else:
            out.append(_placed(_depolarise_superoperator(site.value, len(site.targets)), site.targets, n))
        due += 1
    return due
