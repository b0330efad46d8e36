"""What a state vector kernel does, and which one this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from qedge_driver_api import FatalError
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import State


class Backend(Protocol):
    """A state vector kernel. Qubit q is bit q of an index; operations are gates and `dense.MATRIX`."""

    @property
    def name(self) -> str:
        """Short name for result metadata."""
        ...

    def evolve(self, num_qubits: int, ops: Sequence[Op], state: State | None) -> State:
        """Return the state after `ops`, from |0…0⟩ where `state` is None; `state` is kept."""
        ...

    def sample(self, num_qubits: int, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """Run `ops` from |0…0⟩ and return one index per shot, in any order."""
        ...


def open_backend(choice: str) -> Backend:
    """Return the kernel for the setting `backend`; raises `FatalError` where it cannot run here."""
    from qedge_drivers.sim_qpu.cirq_backend import CirqBackend
    from qedge_drivers.sim_qpu.native import NativeBackend, NativeUnavailableError

    if choice != "cirq":
        try:
            return NativeBackend()
        except NativeUnavailableError as error:
            if choice == "native":
                raise FatalError(f"qsim cannot be called directly on this machine: {error}") from error
    try:
        return CirqBackend()
    except ImportError as error:
        raise FatalError(f"neither qsim nor cirq can be used: {error}") from error
