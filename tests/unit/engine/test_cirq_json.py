"""Circuits of cirq in JSON mean here what they mean in cirq, and what is not read is refused with its place."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits, Program
from qedge.wire.jobs import Register
from qedge_driver_api import DriverContext, Gate, QpuTask, check_circuit
from qedge_drivers.sim_qpu import SimQpu
from qedge_drivers.sim_qpu.settings import SimQpuSettings
from tests.unit.engine.flat_matrix import matrix_of, same_up_to_phase

cirq = pytest.importorskip("cirq")
sympy = pytest.importorskip("sympy")

A, B, C = cirq.LineQubit.range(3)
S, T = sympy.Symbol("s"), sympy.Symbol("t")
TURNED = np.array([[1, 1j], [1j, 1]]) / np.sqrt(2) * np.exp(0.3j)
GATES = [
    cirq.X(A),
    cirq.Y(A) ** 0.3,
    cirq.Z(A) ** -0.25,
    cirq.X(A) ** 0.5,
    cirq.XPowGate(exponent=0.7, global_shift=-0.5)(A),
    cirq.H(A),
    cirq.H(A) ** 0.4,
    cirq.S(A) ** -1,
    cirq.rx(0.3)(A),
    cirq.ry(0.4)(A),
    cirq.rz(0.5)(A),
    cirq.PhasedXPowGate(phase_exponent=0.2, exponent=0.6)(A),
    cirq.PhasedXPowGate(phase_exponent=0.2)(A),
    cirq.PhasedXZGate(x_exponent=0.1, z_exponent=0.2, axis_phase_exponent=0.3)(A),
    cirq.MatrixGate(TURNED)(A),
    cirq.MatrixGate(np.array([[0, 1j], [1, 0]]))(A),
    cirq.I(A),
    cirq.wait(A, nanos=3),
    cirq.CNOT(A, B),
    cirq.CNOT(A, B) ** 0.3,
    cirq.CXPowGate(exponent=0.4, global_shift=0.2)(A, B),
    cirq.CZ(B, A),
    cirq.CZ(A, B) ** 0.5,
    cirq.SWAP(A, B),
    cirq.SWAP(A, B) ** 0.5,
    cirq.ISWAP(A, B),
    cirq.ISWAP(A, B) ** 0.3,
    cirq.XX(A, B) ** 0.2,
    cirq.YY(A, B) ** 0.3,
    cirq.ZZPowGate(exponent=0.4, global_shift=0.1)(A, B),
    cirq.ms(0.2)(A, B),
    cirq.FSimGate(0.3, 0.4)(A, B),
    cirq.PhasedISwapPowGate(phase_exponent=0.3, exponent=0.7)(A, B),
    cirq.givens(0.3)(A, B),
    cirq.CCX(A, B, C),
    cirq.CCX(A, B, C) ** 0.5,
    cirq.CCZ(A, B, C) ** 0.3,
    cirq.CSWAP(A, B, C),
    cirq.PauliString({A: cirq.X, B: cirq.Z}),
]


def program(circuit: Any, values: dict[str, float] | None = None, **limits: int) -> Program:
    text = circuit if isinstance(circuit, str) else cirq.to_json(circuit)
    made = parse(text, ParseLimits(**limits)).bind(values or {}, measure_all=True)
    check_circuit(made.circuit)
    return made


def refusal(circuit: Any, **limits: int) -> QedgeError:
    with pytest.raises(QedgeError) as caught:
        program(circuit, **limits)
    assert caught.value.code.startswith("circuit.")
    return caught.value


def reversed_qubits(matrix: Any, n: int) -> Any:
    """Change a matrix in which qubit 0 is the most significant into one in which it is the least, or back."""
    axes = [*range(n - 1, -1, -1), *range(2 * n - 1, n - 1, -1)]
    return matrix.reshape([2] * (2 * n)).transpose(axes).reshape(1 << n, 1 << n)


def means_the_same(circuit: Any, values: dict[str, float] | None = None) -> bool:
    resolved = cirq.resolve_parameters(circuit, values or {})
    expected = reversed_qubits(cirq.unitary(resolved), len(circuit.all_qubits()))
    return same_up_to_phase(matrix_of(program(circuit, values).circuit), expected)


def counts(circuit: Any, shots: int = 2000) -> dict[int, int]:
    device = SimQpu(SimQpuSettings())
    device.open(DriverContext("qpu", "", bytes, lambda: False))
    job = device.submit(QpuTask(program(circuit).circuit, shots, 5))
    return dict(device.result(job).counts)


@pytest.mark.parametrize("operation", GATES, ids=str)
def test_every_gate_means_what_it_means_in_cirq(operation: Any) -> None:
    assert means_the_same(cirq.Circuit(operation))


@pytest.mark.parametrize("operation", GATES, ids=str)
def test_every_gate_keeps_its_phase_under_controls(operation: Any) -> None:
    first, second = cirq.LineQubit(7), cirq.LineQubit(8)
    assert means_the_same(cirq.Circuit(operation.controlled_by(first, second, control_values=[0, 1])))


def test_symbols_and_their_arithmetic_become_inputs() -> None:
    circuit = cirq.Circuit(
        cirq.X(A) ** (S / 3 - T**2 + sympy.Rational(1, 3)), cirq.rz(2 * S + sympy.pi / 2)(A), cirq.CZ(A, B) ** T
    )
    template = parse(cirq.to_json(circuit), ParseLimits())
    assert set(template.parameters) == {"s", "t"}
    assert means_the_same(circuit, {"s": 0.4, "t": 0.7})
    assert refusal(circuit).code == "circuit.unbound_parameter"
    with pytest.raises(QedgeError, match=r"moment 0, operation 0") as caught:
        program(cirq.Circuit(cirq.rx(1 / S)(A)), {"s": 0.0})
    assert caught.value.code == "circuit.nonfinite_parameter"


def test_qubits_are_numbered_as_cirq_sorts_them() -> None:
    qubits = [
        cirq.NamedQubit("q10"),
        cirq.LineQubit(3),
        cirq.NamedQubit("q2"),
        cirq.GridQubit(1, 0),
        cirq.LineQubit(-1),
    ]
    circuit = cirq.Circuit(cirq.rx(0.1 * (index + 1))(qubit) for index, qubit in enumerate(qubits))
    assert means_the_same(circuit)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 12))
def test_random_circuits_mean_the_same(seed: int, qubits: int, depth: int) -> None:
    circuit = cirq.testing.random_circuit(qubits, depth, 0.7, random_state=seed)
    if circuit.all_qubits():
        assert means_the_same(circuit)


def test_a_measurement_reads_as_the_integer_that_cirq_gives() -> None:
    circuit = cirq.Circuit(cirq.X(A), cirq.measure(A, B, C, key="m"))
    made = program(circuit)
    assert made.registers == (Register("m", 3, 0),)
    expected = cirq.Simulator().run(circuit, repetitions=1).histogram(key="m")
    assert counts(circuit, 10) == {next(iter(expected)): 10} == {4: 10}


def test_inverted_measurements_turn_the_bit_and_not_the_qubit() -> None:
    circuit = cirq.Circuit(
        cirq.measure(A, B, key="m", invert_mask=(True, False)), cirq.CNOT(A, C), cirq.measure(A, C, key="n")
    )
    (value,) = counts(circuit, 10)
    assert (value & 3, value >> 2) == (0b10, 0b00)


def test_a_key_measured_again_gets_a_further_register() -> None:
    circuit = cirq.Circuit(cirq.measure(A, key="m"), cirq.X(A), cirq.measure(A, key="m"))
    assert program(circuit).registers == (Register("m", 1, 0), Register("m#1", 1, 1))
    assert counts(circuit, 10) == {0b10: 10}


@pytest.mark.parametrize(
    "conditions",
    [
        ("m",),
        ("m", "n"),
        (sympy.Eq(sympy.Symbol("m"), 2),),
        (sympy.Symbol("m") > 1,),
        (cirq.BitMaskKeyCondition("m", bitmask=1, target_value=1, equal_target=True),),
        (cirq.BitMaskKeyCondition("m", bitmask=2),),
        (cirq.BitMaskKeyCondition("m", target_value=5, equal_target=True),),
    ],
    ids=str,
)
def test_conditions_decide_as_in_cirq(conditions: Any) -> None:
    for prepared in range(8):
        bits = [cirq.X(qubit) for index, qubit in enumerate((A, B, C)) if prepared >> index & 1]
        out = cirq.LineQubit(9)
        circuit = cirq.Circuit(
            bits, cirq.measure(A, B, key="m"), cirq.measure(C, key="n"),
            cirq.X(out).with_classical_controls(*conditions), cirq.measure(out, key="out"),
        )  # fmt: skip
        expected = cirq.Simulator().run(circuit, repetitions=1).measurements["out"][0, 0]
        (value,) = counts(circuit, 5)
        assert value >> 3 == expected, prepared


def test_sub_circuits_are_expanded_where_they_stand() -> None:
    inner = cirq.FrozenCircuit(cirq.X(A) ** 0.25, cirq.CNOT(A, B))
    circuit = cirq.Circuit(
        cirq.CircuitOperation(inner, repetitions=3), cirq.CircuitOperation(inner).with_qubit_mapping({A: B, B: C})
    )
    expanded = cirq.Circuit(cirq.decompose(circuit))
    assert same_up_to_phase(
        matrix_of(program(circuit).circuit), reversed_qubits(cirq.unitary(expanded), len(expanded.all_qubits()))
    )


def test_keys_of_sub_circuits_are_told_apart_and_found_from_within() -> None:
    inner = cirq.FrozenCircuit(cirq.X(A), cirq.measure(A, key="k"), cirq.X(B).with_classical_controls("k"))
    circuit = cirq.Circuit(
        cirq.CircuitOperation(inner, repetitions=2, use_repetition_ids=True),
        cirq.CircuitOperation(inner).with_measurement_key_mapping({"k": "other"}),
        cirq.measure(B, key="end"),
    )
    names = [row.name for row in program(circuit).registers]
    assert names == ["0:k", "1:k", "other", "end"]
    result = cirq.Simulator().run(circuit, repetitions=1)
    (value,) = counts(circuit, 5)
    assert [value >> index & 1 for index in range(4)] == [int(result.measurements[name][0, 0]) for name in names]


def test_resets_and_tags_are_read() -> None:
    circuit = cirq.Circuit(cirq.X(A).with_tags("a").with_tags("b"), cirq.reset(A), cirq.measure(A, key="m"))
    assert counts(circuit, 10) == {0: 10}


def test_teleportation_agrees_with_cirq() -> None:
    circuit = cirq.Circuit(
        cirq.ry(1.0)(A), cirq.H(B), cirq.CNOT(B, C), cirq.CNOT(A, B), cirq.H(A),
        cirq.measure(A, key="a"), cirq.measure(B, key="b"),
        cirq.X(C).with_classical_controls("b"), cirq.Z(C).with_classical_controls("a"),
        cirq.ry(-1.0)(C), cirq.measure(C, key="out"),
    )  # fmt: skip
    found = counts(circuit, 4000)
    assert set(found) == {0, 1, 2, 3}
    assert min(found.values()) > 800


# what it refuses


@pytest.mark.parametrize(
    "operation",
    [
        cirq.depolarize(0.1)(A),
        cirq.QuantumFourierTransformGate(2)(A, B),
        cirq.measure(cirq.LineQid(0, 3)),
        cirq.measure(A, key="m", confusion_map={(0,): np.array([[0.9, 0.1], [0.1, 0.9]])}),
        cirq.MatrixGate(np.eye(4))(A, B),
    ],
    ids=str,
)
def test_what_is_not_read_is_refused_with_its_place(operation: Any) -> None:
    error = refusal(cirq.Circuit(operation))
    assert error.code == "circuit.unsupported"
    assert isinstance(error.details["moment"], int)
    assert isinstance(error.details["operation"], int)


def test_loops_of_sub_circuits_are_counted_before_they_are_run_through() -> None:
    circuit = cirq.CircuitOperation(cirq.FrozenCircuit(cirq.X(A)), repetitions=10**12)
    assert refusal(cirq.Circuit(circuit)).code == "circuit.too_many_ops"
    for _ in range(40):
        circuit = cirq.CircuitOperation(cirq.FrozenCircuit(circuit, circuit))
    assert refusal(cirq.Circuit(circuit)).code == "circuit.too_many_ops"
    deep = cirq.CircuitOperation(cirq.FrozenCircuit(cirq.X(A)))
    for _ in range(70):
        deep = cirq.CircuitOperation(cirq.FrozenCircuit(deep))
    assert refusal(cirq.Circuit(deep)).code == "circuit.too_large"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "circuit.syntax"),
        ("[]", "circuit.syntax"),
        ("{}", "circuit.syntax"),
        ('{"cirq_type": "Circuit"}', "circuit.syntax"),
        ('{"cirq_type": "Line", "moments": []}', "circuit.unsupported"),
        ('{"cirq_type": "Circuit", "moments": [{"cirq_type": "Moment", "operations": [7]}]}', "circuit.syntax"),
        ("[" * 200_000, "circuit.syntax"),
        ('{"cirq_type": "Circuit", "moments": NaN}', "circuit.syntax"),
        ('{"cirq_type": "Circuit", "moments": [' + "1e999" + "]}", "circuit.syntax"),
    ],
)
def test_what_is_no_circuit_is_refused(text: str, code: str) -> None:
    assert refusal(text).code == code


def test_faults_of_the_text_say_line_and_column() -> None:
    error = refusal('{"cirq_type":\n "Circuit" "moments": []}')
    assert (error.code, error.details["line"]) == ("circuit.syntax", 2)


def test_limits_hold() -> None:
    wide = cirq.Circuit(cirq.X.on_each(*cirq.LineQubit.range(12)))
    assert refusal(wide, max_qubits=10).code == "circuit.too_many_qubits"
    bits = cirq.Circuit(cirq.measure(*cirq.LineQubit.range(12), key="m"))
    assert refusal(bits, max_clbits=10).code == "circuit.too_large"


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["Circuit", "GateOperation", "x"])
KEYS = st.sampled_from(["cirq_type", "moments", "operations", "gate", "qubits", "x", "exponent"])


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_a_program_or_a_clear_error(tree: Any) -> None:
    for value in (tree, {"cirq_type": "Circuit", "moments": [{"cirq_type": "Moment", "operations": [tree]}]}):
        text = json.dumps(value)
        try:
            check_circuit(parse(text, ParseLimits()).bind({}, measure_all=True).circuit)
        except QedgeError as error:
            assert error.code.startswith("circuit."), text


def test_a_circuit_without_measurement_is_measured_on_request() -> None:
    made = program(cirq.Circuit(cirq.H(A), cirq.CNOT(A, B)))
    assert [op[0] for op in made.circuit.ops][-2:] == [Gate.MEASURE, Gate.MEASURE]


def test_cases_of_conditions_are_counted_before_they_are_made() -> None:
    wide = cirq.LineQubit.range(240)
    circuit = cirq.Circuit(cirq.measure(*wide, key="m"), cirq.measure(*wide, key="n"))
    circuit.append(cirq.X(A).with_classical_controls("m", "n"))
    text = cirq.to_json(circuit)
    tracemalloc.start()
    try:
        assert refusal(text, max_operations=2000).code == "circuit.too_many_ops"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_what_a_repeated_circuit_has_to_be_read_for_counts_also_where_it_does_nothing() -> None:
    never = cirq.CircuitOperation(cirq.FrozenCircuit(cirq.X(A)), repetitions=0)
    moved = never.with_qubit_mapping(dict(zip(cirq.LineQubit.range(0, 1), cirq.LineQubit.range(50, 51), strict=True)))
    nothing = [cirq.Moment()] * 400, [cirq.Moment(cirq.global_phase_operation(1j))] * 400, [cirq.Moment(moved)] * 400
    for moments in nothing:
        inner = cirq.FrozenCircuit(moments)
        circuit = cirq.Circuit(cirq.CircuitOperation(inner, repetitions=900, use_repetition_ids=False))
        assert refusal(circuit, max_operations=1000).code == "circuit.too_many_ops"


def test_the_key_of_a_measurement_cannot_grow_with_its_path() -> None:
    inner = cirq.FrozenCircuit(cirq.measure(A, key="m"))
    path = tuple("x" * 100 for _ in range(40))
    deep = cirq.CircuitOperation(inner, parent_path=path)
    assert refusal(cirq.Circuit(deep)).code == "circuit.too_large"


def test_a_sum_of_thousands_of_terms_with_a_symbol_is_refused() -> None:
    text = cirq.to_json(cirq.Circuit(cirq.X(A) ** S))
    symbol = '{"cirq_type": "sympy.Symbol", "name": "s"}'
    terms = ", ".join([symbol, *['{"cirq_type": "sympy.Integer", "i": 7}'] * 3000])
    many = re.sub(r'{\s*"cirq_type": "sympy.Symbol",[^}]*}', f'{{"cirq_type": "sympy.Add", "args": [{terms}]}}', text)
    assert refusal(many).code == "circuit.expression_too_deep"


def test_controls_of_controls_are_bounded() -> None:
    lines = cirq.LineQubit.range(401)
    half = cirq.X(lines[400]).controlled_by(*lines[:200], control_values=[0] * 200)
    both = json.loads(cirq.to_json(cirq.Circuit(half)))
    operation = both["moments"][0]["operations"][0]
    controls = [json.loads(cirq.to_json(line)) for line in lines[200:400]]
    outer = {"cirq_type": "ControlledOperation", "controls": controls, "sub_operation": operation}
    both["moments"][0]["operations"] = [outer]
    assert refusal(json.dumps(both)).code == "circuit.bad_arity"
    assert program(cirq.Circuit(half)).circuit.ops
