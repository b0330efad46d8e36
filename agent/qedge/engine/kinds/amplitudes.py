"""Amplitudes of small circuits, and the kernel matrices that come from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qedge.base.errors import QedgeError
from qedge.engine.kinds.model import Bench, Forecast, Outcome, program_errors
from qedge.engine.qasm.model import Program
from qedge.wire.tasks import AmplitudeResult, AmplitudeTask, KernelResult, KernelTask
from qedge_driver_api import FlatCircuit, Gate, QpuTask, StateQpu

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_VALUE_BYTES: Final = 24
_MAX_WHOLE_QUBITS: Final = 16
_AMPLITUDE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class AmplitudeKind:
    """See `AmplitudeTask`."""

    def forecast(self, bench: Bench, task: AmplitudeTask) -> Forecast:
        """See `Kind.forecast`."""
        program = bench.program(counted=False)
        number = len(_indices(program, task))
        return _forecast(bench, program, states=1, result_bytes=number * 2 * _VALUE_BYTES)

    def perform(self, bench: Bench, task: AmplitudeTask) -> Outcome:
        """See `Kind.perform`."""
        program = bench.program(counted=False)
        drawn = _state(bench, program)[_indices(program, task)]
        data = AmplitudeResult(tuple(drawn.real.tolist()), tuple(drawn.imag.tolist()))
        return Outcome(None, 0, (), data, {"method": "state_vector", "exact": True})


@dataclass(frozen=True, slots=True)
class KernelKind:
    """See `KernelTask`."""

    def forecast(self, bench: Bench, task: KernelTask) -> Forecast:
        """See `Kind.forecast`."""
        states = len(task.rows) + len(task.columns)
        program = self._program(bench, task, task.rows[0])
        entries = len(task.rows) * (len(task.columns) or len(task.rows))
        return _forecast(bench, program, states=states, result_bytes=entries * _VALUE_BYTES, products=entries)

    def perform(self, bench: Bench, task: KernelTask) -> Outcome:
        """See `Kind.perform`."""
        rows = self._states(bench, task, task.rows)
        columns = self._states(bench, task, task.columns) if task.columns else rows
        overlaps = abs(rows.conj() @ columns.T) ** 2
        values = tuple(tuple(min(1.0, value) for value in row) for row in overlaps.tolist())
        return Outcome(None, 0, (), KernelResult(values), {"method": "state_vector", "exact": True})

    def _program(self, bench: Bench, task: KernelTask, row: Sequence[float]) -> Program:
        if len(row) != len(task.inputs):
            raise QedgeError(
                "job.bad_sweep",
                f"A row of the kernel has {len(row)} values for {len(task.inputs)} inputs.",
                fix="Give each row one value per input.",
            )
        return bench.program(dict(zip(task.inputs, row, strict=True)), counted=False)

    def _states(self, bench: Bench, task: KernelTask, rows: Sequence[Sequence[float]]) -> npt.NDArray[np.complex64]:
        import numpy as np

        states = []
        for row in rows:
            bench.stop_if_unwanted()
            states.append(_state(bench, self._program(bench, task, row)))
        return np.stack(states)


def _state_qpu(bench: Bench) -> StateQpu:
    if not isinstance(bench.qpu, StateQpu):
        raise QedgeError(
            "circuit.unsupported", "This QPU does not show its state.", fix="Use a simulator, or ask for counts."
        )
    return bench.qpu


def _forecast(bench: Bench, program: Program, *, states: int, result_bytes: int, products: int = 0) -> Forecast:
    _state_qpu(bench)
    circuit = program.circuit
    n = circuit.num_qubits
    last = tuple([(int(Gate.MEASURE), (qubit,), (), circuit.num_clbits + qubit) for qubit in range(n)])
    measured = FlatCircuit(n, circuit.num_clbits + n, circuit.ops + last, circuit.conditions)
    estimate = bench.estimate(QpuTask(measured, 1, 0))
    amplitudes = 1 << min(n, 40)
    return Forecast(
        qubits=n,
        clbits=0,
        operations=len(circuit.ops),
        memory_bytes=int(estimate.memory_bytes) + (2 * states + 3) * _AMPLITUDE_BYTES * amplitudes,
        time_s=states * (estimate.time_s + amplitudes * 4e-9) + products * amplitudes * 1e-9,
        result_bytes=result_bytes,
        method="state_vector",
    )


def _state(bench: Bench, program: Program) -> npt.NDArray[np.complex64]:
    import numpy as np

    data = program_errors(lambda: _state_qpu(bench).amplitudes(program.circuit))
    state = np.frombuffer(data, dtype=np.complex64)
    if len(state) != 1 << program.circuit.num_qubits:
        raise QedgeError("driver.lied", "The driver gave another number of amplitudes than there are.")
    return state


def _indices(program: Program, task: AmplitudeTask) -> list[int]:
    n = program.circuit.num_qubits
    if not task.states:
        if n > _MAX_WHOLE_QUBITS:
            raise QedgeError(
                "job.result_too_large",
                f"All amplitudes are given for at most {_MAX_WHOLE_QUBITS} qubits, not {n}.",
                fix="Name the states that are wanted.",
            )
        return list(range(1 << n))
    if any(len(bits) != n for bits in task.states):
        raise QedgeError("job.bad_bits", f"A state is named by {n} bits, qubit 0 rightmost.")
    return [int(bits, 2) for bits in task.states]
