"""Every gate known without a definition is the gate that qiskit means by the name."""

from __future__ import annotations

import numpy as np
import pytest
import qiskit.qasm2
from qiskit.quantum_info import Operator

from qedge.engine.front_end import parse
from qedge.engine.qasm.library import COMPOSITE, NATIVE
from qedge.engine.qasm.model import ParseLimits
from qedge_driver_api import Gate
from qedge_drivers.sim_qpu.dense import apply_ops

THEIRS = {gate.name: gate for gate in qiskit.qasm2.LEGACY_CUSTOM_INSTRUCTIONS}
ANGLES = (0.3, -1.1, 2.7, 0.9)
NOT_UNITARY = {"delay", "u0"}


def unitary(text: str, qubits: int) -> np.ndarray:
    ops = [op for op in parse(text, ParseLimits()).bind({}).circuit.ops if op[0] != Gate.MEASURE]
    columns = np.eye(1 << qubits, dtype=np.complex64)
    return np.stack([apply_ops(qubits, ops, column) for column in columns], axis=1)


def test_all_names_that_qiskit_knows_undeclared_are_known() -> None:
    assert set(THEIRS) <= set(NATIVE) | set(COMPOSITE)


@pytest.mark.parametrize("name", sorted(set(THEIRS) - NOT_UNITARY))
def test_a_library_gate_is_qiskits_gate(name: str) -> None:
    gate = THEIRS[name]
    n = gate.num_qubits
    params = f"({','.join(map(str, ANGLES[: gate.num_params]))})" if gate.num_params else ""
    call = f"{name}{params} {','.join(f'q[{i}]' for i in reversed(range(n)))};"
    text = f'OPENQASM 2.0; include "qelib1.inc"; qreg q[{n}]; creg c[1]; {call}'
    theirs = Operator(qiskit.qasm2.loads(text, custom_instructions=qiskit.qasm2.LEGACY_CUSTOM_INSTRUCTIONS)).data
    ours = unitary(text + "measure q[0] -> c[0];", n)
    assert abs(np.vdot(ours, theirs)) / 2**n == pytest.approx(1, abs=1e-5)


def test_ccz_iswap_and_ryy_are_known_though_qelib1_lacks_them() -> None:
    head = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[3]; creg c[1];'
    ccz = unitary(head + "ccz q[0],q[1],q[2]; measure q[0] -> c[0];", 3)
    assert np.allclose(ccz, np.diag([1, 1, 1, 1, 1, 1, 1, -1]))
    both = unitary(head + "iswap q[0],q[1]; ryy(0.4) q[0],q[1]; measure q[0] -> c[0];", 3)
    circuit = qiskit.QuantumCircuit(3)
    circuit.iswap(0, 1)
    circuit.ryy(0.4, 0, 1)
    assert abs(np.vdot(both, Operator(circuit).data)) / 8 == pytest.approx(1, abs=1e-5)
