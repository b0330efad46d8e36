"""Random circuits with the probabilities that they should give. Pure numpy: nothing that is measured helps to check it.

Qubit q is bit q of an index and goes to classical bit q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api import FlatCircuit, Gate
from qedge_driver_api.circuit import Op

Complexes = npt.NDArray[np.complex128]
Reals = npt.NDArray[np.float64]
_XX: Final[Complexes] = np.kron([[0, 1], [1, 0]], [[0, 1], [1, 0]]).astype(np.complex128)
_YY: Final[Complexes] = np.kron([[0, -1j], [1j, 0]], [[0, -1j], [1j, 0]]).astype(np.complex128)
_ZZ: Final[Complexes] = np.diag([1, -1, -1, 1]).astype(np.complex128)
_CZ: Final[Complexes] = np.diag([1, 1, 1, -1]).astype(np.complex128)
_INTERACTIONS: Final = ((Gate.RXX, _XX), (Gate.RYY, _YY), (Gate.RZZ, _ZZ))
_DRAWN: Final = 64


@dataclass(frozen=True, slots=True)
class Known:
    """A circuit that measures all its qubits, and the probability of each outcome, shape (2^num_qubits,)."""

    circuit: FlatCircuit
    probabilities: Reals

    def heavy_share(self, counts: dict[int, int]) -> float:
        """Return the share of outcomes that are more likely than the median (arXiv:1811.12926, section II)."""
        heavy = self.probabilities > np.median(self.probabilities)
        return sum(times for value, times in counts.items() if heavy[value]) / sum(counts.values())

    def cross_entropy(self, counts: dict[int, int]) -> tuple[float, float]:
        """Return 2^n ⟨p⟩ − 1 over the outcomes seen and over the ideal distribution (arXiv:1910.11333, eq. 1)."""
        size = len(self.probabilities)
        seen = sum(self.probabilities[value] * times for value, times in counts.items()) / sum(counts.values())
        return float(size * seen - 1), float(size * np.sum(self.probabilities**2) - 1)


def haar_single(qubit: int, rng: np.random.Generator) -> tuple[Op, Complexes]:
    """Draw a gate on one qubit by the Haar measure; returns it with its matrix."""
    theta = math.acos(1 - 2 * rng.random())
    phi, lam = (rng.random(2) * 2 * math.pi).tolist()
    cos, sin = math.cos(theta / 2), math.sin(theta / 2)
    matrix: Complexes = np.array(
        [[cos, -np.exp(1j * lam) * sin], [np.exp(1j * phi) * sin, np.exp(1j * (phi + lam)) * cos]]
    )
    return (int(Gate.U), (qubit,), (theta, phi, lam), 0), matrix


def haar_interaction(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the angles of exp(−i/2 (a XX + b YY + c ZZ)) as they come in Haar-random gates on two qubits.

    Their density is |Π sin(x ± y)| over the three pairs of angles (Watts, O'Connor and Vala, Entropy 15, 1963).
    """
    while True:
        drawn = rng.random((_DRAWN, 3)) * 2 * math.pi
        a, b, c = drawn.T
        density = np.abs(np.sin(a + b) * np.sin(a - b) * np.sin(a + c) * np.sin(a - c) * np.sin(b + c) * np.sin(b - c))
        kept = np.flatnonzero(rng.random(_DRAWN) < density)
        if len(kept):
            first, second, third = drawn[kept[0]].tolist()
            return first, second, third


def haar_pair(qubits: tuple[int, int], rng: np.random.Generator) -> tuple[list[Op], Complexes]:
    """Draw a gate on two qubits by the Haar measure; the first one is the more significant of the matrix."""
    ops: list[Op] = []
    matrix: Complexes = np.eye(4, dtype=np.complex128)

    def singles() -> None:
        nonlocal matrix
        (first, left), (second, right) = (haar_single(qubit, rng) for qubit in qubits)
        ops.extend((first, second))
        matrix = np.kron(left, right) @ matrix

    singles()
    for (gate, product), angle in zip(_INTERACTIONS, haar_interaction(rng), strict=True):
        ops.append((int(gate), qubits, (angle,), 0))
        matrix = (math.cos(angle / 2) * np.eye(4) - 1j * math.sin(angle / 2) * product) @ matrix
    singles()
    return ops, matrix


def apply_pair(state: Complexes, matrix: Complexes, qubits: tuple[int, int]) -> Complexes:
    """Apply a matrix to two qubits of a state of shape (2, …, 2), whose last axis is qubit 0."""
    axes = [state.ndim - 1 - qubit for qubit in qubits]
    moved = np.tensordot(matrix.reshape(2, 2, 2, 2), state, axes=([2, 3], axes))
    return np.moveaxis(moved, [0, 1], axes)


def volume_circuit(width: int, rng: np.random.Generator) -> Known:
    """Draw a model circuit of the quantum volume: `width` layers of Haar-random gates on random pairs."""
    ops: list[Op] = []
    state: Complexes = _zero(width)
    for _ in range(width):
        order = rng.permutation(width).tolist()
        for index in range(0, width - 1, 2):
            qubits = (order[index], order[index + 1])
            own, matrix = haar_pair(qubits, rng)
            ops += own
            state = apply_pair(state, matrix, qubits)
    return _known(width, ops, state)


def cycle_circuit(depth: int, rng: np.random.Generator) -> Known:
    """Draw `depth` cycles of two random gates and a CZ on two qubits, and two random gates at the end."""
    ops: list[Op] = []
    state: Complexes = _zero(2)
    for cycle in range(depth + 1):
        (first, left), (second, right) = haar_single(0, rng), haar_single(1, rng)
        ops += [first, second]
        state = apply_pair(state, np.kron(left, right).astype(np.complex128), (0, 1))
        if cycle < depth:
            ops.append((int(Gate.CZ), (0, 1), (), 0))
            state = apply_pair(state, _CZ, (0, 1))
    return _known(2, ops, state)


def _zero(width: int) -> Complexes:
    state: Complexes = np.zeros((2,) * width, dtype=np.complex128)
    state[(0,) * width] = 1
    return state


def _known(width: int, ops: list[Op], state: Complexes) -> Known:
    measured: list[Op] = [(int(Gate.MEASURE), (qubit,), (), qubit) for qubit in range(width)]
    return Known(FlatCircuit(width, width, (*ops, *measured)), np.abs(state.reshape(-1)) ** 2)
