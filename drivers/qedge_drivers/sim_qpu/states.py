"""What shot branching needs of a state: evolve, ask one qubit, project, sample. Pure states and density matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.backends import Backend
from qedge_drivers.sim_qpu.dense import State, sample_state, sample_weights


class States(Protocol):
    """Operations on states; a state is never changed in place, None is |0…0⟩."""

    def evolve(self, state: State | None, ops: Sequence[Op]) -> State:
        """Return the state after `ops`."""
        ...

    def probability_of_one(self, state: State, qubit: int) -> float:
        """Return the chance that measuring `qubit` gives 1."""
        ...

    def project(self, state: State, qubit: int, outcome: int) -> State:
        """Return the normalised state after `qubit` was found in `outcome`, which must be possible."""
        ...

    def sample(self, state: State | None, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """Return one index per shot of measuring all qubits after `ops`."""
        ...


class PureStates:
    """State vectors of `num_qubits` qubits."""

    def __init__(self, backend: Backend, num_qubits: int) -> None:
        self._backend = backend
        self._num_qubits = num_qubits

    def evolve(self, state: State | None, ops: Sequence[Op]) -> State:
        """See `States.evolve`."""
        return self._backend.evolve(self._num_qubits, ops, state)

    def probability_of_one(self, state: State, qubit: int) -> float:
        """See `States.probability_of_one`."""
        halves = state.reshape(-1, 2, 1 << qubit)
        one = _norm(halves[:, 1, :])
        total = one + _norm(halves[:, 0, :])
        return min(1.0, one / total)

    def project(self, state: State, qubit: int, outcome: int) -> State:
        """See `States.project`."""
        out = np.zeros_like(state).reshape(-1, 2, 1 << qubit)
        kept = state.reshape(-1, 2, 1 << qubit)[:, outcome, :]
        out[:, outcome, :] = kept / np.float32(np.sqrt(_norm(kept)))
        return out.reshape(-1)

    def sample(self, state: State | None, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """See `States.sample`."""
        if state is None:
            return self._backend.sample(self._num_qubits, ops, shots, rng)
        return sample_state(self.evolve(state, ops), shots, rng)


class DensityStates:
    """Density matrices of `num_qubits` qubits as vectors of twice as many: row qubit q at q, column qubit q at n+q."""

    def __init__(self, backend: Backend, num_qubits: int) -> None:
        self._backend = backend
        self._num_qubits = num_qubits

    def _diagonal(self, state: State) -> npt.NDArray[np.float64]:
        return np.maximum(state[:: (1 << self._num_qubits) + 1].real.astype(np.float64), 0.0)

    def evolve(self, state: State | None, ops: Sequence[Op]) -> State:
        """See `States.evolve`."""
        return self._backend.evolve(2 * self._num_qubits, ops, state)

    def probability_of_one(self, state: State, qubit: int) -> float:
        """See `States.probability_of_one`."""
        diagonal = self._diagonal(state)
        return min(1.0, float(diagonal.reshape(-1, 2, 1 << qubit)[:, 1, :].sum() / diagonal.sum()))

    def project(self, state: State, qubit: int, outcome: int) -> State:
        """See `States.project`."""
        rows = 1 << qubit
        shape = (-1, 2, (1 << self._num_qubits) // 2, 2, rows)
        out = np.zeros_like(state).reshape(shape)
        out[:, outcome, :, outcome, :] = state.reshape(shape)[:, outcome, :, outcome, :]
        flat = out.reshape(-1)
        flat /= np.float32(self._diagonal(flat).sum())
        return flat

    def sample(self, state: State | None, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """See `States.sample`."""
        return sample_weights(self._diagonal(self.evolve(state, ops)), shots, rng)


def _norm(part: npt.NDArray[np.complex64]) -> float:
    return float(np.square(part.real, dtype=np.float64).sum() + np.square(part.imag, dtype=np.float64).sum())
