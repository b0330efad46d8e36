"""Programs that another tool writes mean here what they mean there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits
from qedge_driver_api import Gate, check_circuit
from tests.unit.engine.flat_matrix import matrix_of, same_up_to_phase

pytestmark = pytest.mark.integration
qiskit = pytest.importorskip("qiskit")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_random_circuits_keep_their_matrix(version: int, seed: int) -> None:
    from qiskit import qasm2, qasm3
    from qiskit.circuit.random import random_circuit
    from qiskit.quantum_info import Operator

    circuit = random_circuit(5, 6, max_operands=4, seed=seed)
    text = (qasm2 if version == 2 else qasm3).dumps(circuit)
    ours = parse(text, ParseLimits()).bind({}, measure_all=True).circuit
    check_circuit(ours)
    assert same_up_to_phase(matrix_of(ours), Operator(circuit).data)


@pytest.mark.parametrize("seed", range(4))
def test_controlled_inverse_and_powers_of_gates_keep_their_matrix(seed: int) -> None:
    from qiskit import QuantumCircuit
    from qiskit.circuit import library
    from qiskit.quantum_info import Operator

    rng = np.random.default_rng(seed)
    a, b, c = (float(each) for each in rng.uniform(-3, 3, 3))
    text = (
        'OPENQASM 3.0; include "stdgates.inc"; qubit[4] q;'
        f"ctrl @ U({a!r}, {b!r}, {c!r}) q[2], q[0]; negctrl(2) @ rz({a!r}) q[0], q[1], q[3];"
        f"inv @ ctrl @ cu({a!r}, {b!r}, {c!r}, 0.3) q[1], q[2], q[3]; pow(2) @ ctrl @ sx q[3], q[0];"
    )
    theirs = QuantumCircuit(4)
    # there U is a gate without the phase e^{iθ/2} that it has in OpenQASM 3
    phased = QuantumCircuit(1, global_phase=a / 2)
    phased.u(a, b, c, 0)
    theirs.append(_exact(phased).control(1), [2, 0])
    theirs.append(library.RZGate(a).control(2, ctrl_state=0), [0, 1, 3])
    # the inverse of a controlled CU is wrong in qiskit 2.6, so its matrix is inverted here
    theirs.append(_exact(library.CUGate(a, b, c, 0.3).control(1)).adjoint(), [1, 2, 3])
    theirs.append(library.SXGate().control(1), [3, 0])
    theirs.append(library.SXGate().control(1), [3, 0])
    ours = parse(text, ParseLimits()).bind({}, measure_all=True).circuit
    assert same_up_to_phase(matrix_of(ours), Operator(theirs).data)


def _exact(circuit: Any) -> Any:
    from qiskit.circuit.library import UnitaryGate
    from qiskit.quantum_info import Operator

    return UnitaryGate(Operator(circuit).data)


def test_every_file_that_mqt_bench_writes_is_accepted_and_keeps_its_matrix() -> None:
    bench = pytest.importorskip("mqt.bench")
    from mqt.bench.benchmarks import get_available_benchmark_names
    from qiskit import qasm2, qasm3
    from qiskit.quantum_info import Operator

    accepted = {2: 0, 3: 0}
    for name in get_available_benchmark_names():
        try:
            circuit = bench.get_benchmark(name, level=bench.BenchmarkLevel.INDEP, circuit_size=5)
        except Exception:  # noqa: BLE001, S112 # some families have no circuit of this size
            continue
        bare = circuit.remove_final_measurements(inplace=False)
        expected = None
        for version, module in ((2, qasm2), (3, qasm3)):
            try:
                text = module.dumps(circuit)
            except Exception:  # noqa: BLE001, S112 # dynamic circuits are not for OpenQASM 2
                continue
            if not text.strip():
                continue
            ours = parse(text, ParseLimits()).bind({}, measure_all=True).circuit
            check_circuit(ours)
            accepted[version] += 1
            if any(op[0] in (Gate.RESET, Gate.IF) for op in ours.ops):
                continue
            if any(each.operation.name in ("measure", "reset", "if_else") for each in bare.data):
                continue
            if expected is None:
                expected = Operator(bare).data
            assert same_up_to_phase(matrix_of(ours), expected), (name, version)
    assert accepted[2] >= 20
    assert accepted[3] >= 20
