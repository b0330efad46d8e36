"""The matrix of a flat circuit, straight from the definitions of its gates: slow, small, and nobody's simulator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qedge_driver_api import FlatCircuit, Gate
from qedge_drivers.sim_qpu.gates import controlled, gate_matrix

_SILENT = (Gate.BARRIER, Gate.MEASURE)


def matrix_of(circuit: FlatCircuit) -> npt.NDArray[np.complex128]:
    """Return the unitary (2^n, 2^n), qubit 0 least significant; measurements are left out."""
    n = circuit.num_qubits
    out = np.eye(1 << n, dtype=np.complex128).reshape([2] * n + [1 << n])
    for gate, qubits, params, controls in circuit.ops:
        if gate in _SILENT:
            continue
        own = controlled(gate_matrix(gate, params), controls)
        k = len(qubits)
        axes = [n - 1 - qubit for qubit in qubits]
        moved = np.tensordot(own.reshape([2] * (2 * k)), out, axes=(list(range(k, 2 * k)), axes))
        out = np.moveaxis(moved, list(range(k)), axes)
    return out.reshape(1 << n, 1 << n)


def same_up_to_phase(one: npt.NDArray[np.complex128], other: npt.NDArray[np.complex128]) -> bool:
    """Say whether two unitaries differ by a global phase alone."""
    overlap = np.trace(one.conj().T @ other) / len(one)
    return bool(abs(abs(overlap) - 1) < 1e-9)
