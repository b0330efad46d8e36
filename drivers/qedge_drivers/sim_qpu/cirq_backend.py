"""The fallback kernel: public interfaces of cirq, with qsim behind them where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import MATRIX, State, apply_ops, sample_state, zero_state
from qedge_drivers.sim_qpu.gates import gate_matrix


class CirqBackend:
    """Runs gates as matrices in `qsimcirq.QSimSimulator`, else in `cirq.Simulator`; raises `ImportError`."""

    def __init__(self) -> None:
        import cirq

        self._cirq: Any = cirq  # untyped libraries
        try:
            import qsimcirq
        except ImportError:
            self._simulator: Any = cirq.Simulator(dtype=np.complex64)
            self.name = "cirq"
        else:
            self._simulator = qsimcirq.QSimSimulator()
            self.name = "qsimcirq"

    def evolve(self, num_qubits: int, ops: Sequence[Op], state: State | None) -> State:
        """See `Backend.evolve`."""
        start = zero_state(num_qubits) if state is None else state
        if not ops:
            return start
        if any(gate == MATRIX for gate, _, _, _ in ops):
            # cirq takes unitary matrices only
            return apply_ops(num_qubits, ops, start)
        line = self._cirq.LineQubit.range(num_qubits)
        circuit = self._cirq.Circuit(self._operation(op, line) for op in ops)
        order = line[::-1]
        outcome = self._simulator.simulate(circuit, qubit_order=order, initial_state=start)
        return np.asarray(outcome.final_state_vector, dtype=np.complex64)

    def _operation(self, op: Op, line: list[Any]) -> Any:  # a cirq operation
        gate, qubits, params, controls = op
        made = self._cirq.MatrixGate(gate_matrix(gate, params), qid_shape=(2,) * (len(qubits) - controls))
        if controls:
            made = self._cirq.ControlledGate(made, num_controls=controls)
        return made.on(*(line[qubit] for qubit in qubits))

    def sample(self, num_qubits: int, ops: Sequence[Op], shots: int, rng: np.random.Generator) -> Sequence[int]:
        """See `Backend.sample`."""
        return sample_state(self.evolve(num_qubits, ops, None), shots, rng)
