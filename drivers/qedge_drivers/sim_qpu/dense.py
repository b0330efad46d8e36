"""State vectors in numpy: index bit q is qubit q (little-endian), complex64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.gates import Matrix, controlled, gate_matrix

State = npt.NDArray[np.complex64]
MATRIX: Final = 1000
"""Operation code beside those of the contract: `params` is a matrix, row-major, real and imaginary interleaved."""


def op_matrix(op: Op) -> Matrix:
    """Return the matrix of an operation on all its qubits, first listed most significant."""
    gate, qubits, params, controls = op
    if gate == MATRIX:
        size = 1 << len(qubits)
        return np.array(params, dtype=np.float64).view(np.complex128).reshape(size, size)
    matrix = gate_matrix(gate, params)
    return controlled(matrix, controls) if controls else matrix


def matrix_op(matrix: npt.NDArray[np.complexfloating[Any, Any]], qubits: tuple[int, ...]) -> Op:
    """Return an operation that applies `matrix`, unitary or not."""
    flat = np.ascontiguousarray(matrix, dtype=np.complex128).view(np.float64).ravel()
    return (MATRIX, qubits, tuple(flat.tolist()), 0)


def zero_state(num_qubits: int) -> State:
    """Return |0…0⟩."""
    state = np.zeros(1 << num_qubits, dtype=np.complex64)
    state[0] = 1
    return state


def apply_ops(num_qubits: int, ops: Sequence[Op], state: State) -> State:
    """Return the state after `ops`; `state` is kept."""
    tensor = state.reshape((2,) * num_qubits)
    for op in ops:
        gate, qubits, params, controls = op
        axes = [num_qubits - 1 - qubit for qubit in qubits]
        if controls:
            index: list[int | slice] = [slice(None)] * num_qubits
            for axis in axes[:controls]:
                index[axis] = 1
            tensor = tensor.copy()
            part = tensor[tuple(index)]
            own = [axis - sum(1 for other in axes[:controls] if other < axis) for axis in axes[controls:]]
            tensor[tuple(index)] = _contract(part, gate_matrix(gate, params), own)
        else:
            tensor = _contract(tensor, op_matrix(op), axes)
    return np.ascontiguousarray(tensor, dtype=np.complex64).reshape(-1)


def _contract(tensor: npt.NDArray[np.complex64], matrix: Matrix, axes: list[int]) -> npt.NDArray[np.complex64]:
    k = len(axes)
    if k == 0:
        return np.asarray(tensor * np.complex64(matrix[0, 0]))
    gate = matrix.astype(np.complex64).reshape((2,) * (2 * k))
    moved = np.tensordot(gate, tensor, axes=(list(range(k, 2 * k)), axes))
    return np.moveaxis(moved, list(range(k)), axes)


def sample_state(state: State, shots: int, rng: np.random.Generator) -> list[int]:
    """Draw `shots` indices with probability |amplitude|²."""
    weights = np.square(state.real, dtype=np.float64)
    weights += np.square(state.imag, dtype=np.float64)
    return sample_weights(weights, shots, rng)


def draw(state: State, shots: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw `shots` indices with probability |amplitude|²; returns those that were drawn, ascending, and how often."""
    parts = state.view(np.float32).astype(np.float64)
    np.square(parts, out=parts)
    weights = parts[::2] + parts[1::2]
    # (to look for what is not 0 takes several times as long in numbers as in truth values)
    (possible,) = (weights != 0).nonzero()
    chances = weights.take(possible)
    times = rng.multinomial(shots, chances / chances.sum())
    (found,) = (times != 0).nonzero()
    return possible.take(found), times.take(found)


def sample_weights(weights: npt.NDArray[np.float64], shots: int, rng: np.random.Generator) -> list[int]:
    """Draw `shots` indices in proportion to `weights`, which are overwritten."""
    total = np.cumsum(weights, out=weights)
    drawn = np.searchsorted(total, rng.random(shots) * total[-1], side="right")
    return np.minimum(drawn, len(total) - 1).tolist()  # type: ignore[no-any-return] # numpy types tolist as Any
