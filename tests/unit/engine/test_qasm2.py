"""The OpenQASM 2 parser: what it accepts, and how it refuses."""

from __future__ import annotations

import math

import pytest

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits, Program
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, ConditionKind, Gate, check_circuit

HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
TWO = HEAD + "qreg q[2];\ncreg c[2];\n"


def program(text: str, **limits: int) -> Program:
    parsed = parse(text, ParseLimits(**limits)).bind({})
    check_circuit(parsed.circuit)
    return parsed


def ops(body: str, **limits: int) -> list[tuple[object, ...]]:
    """Parse `body` after two declared registers and before a measurement; return the operations without that."""
    return list(program(TWO + body + "\nmeasure q[0] -> c[0];", **limits).circuit.ops[:-1])


def refusal(text: str, **limits: int) -> QedgeError:
    with pytest.raises(QedgeError) as caught:
        parse(text, ParseLimits(**limits)).bind({})
    error = caught.value
    assert error.code.startswith("circuit.")
    if error.code == "circuit.no_measurement":
        return error  # what is missing has no place
    assert isinstance(error.details["line"], int)
    assert isinstance(error.details["column"], int)
    assert "expected" in error.message or error.code in (
        "circuit.recursive_gate",
        "circuit.too_many_ops",
        "circuit.nonfinite_parameter",
        "circuit.unsupported",
    )
    return error


# what it accepts


def test_a_bell_pair_is_three_kinds_of_operation() -> None:
    parsed = program(TWO + "h q[0];\ncx q[0],q[1];\nmeasure q -> c;")
    assert parsed.circuit.ops == (
        (Gate.H, (0,), (), 0),
        (Gate.CX, (0, 1), (), 0),
        (Gate.MEASURE, (0,), (), 0),
        (Gate.MEASURE, (1,), (), 1),
    )
    assert parsed.registers == (Register("c", 2, 0),)
    assert (parsed.circuit.num_qubits, parsed.circuit.num_clbits) == (2, 2)


def test_registers_follow_each_other() -> None:
    parsed = program(HEAD + "qreg a[2]; creg m[1]; qreg b[3]; creg n[2]; x b[2]; measure b[0] -> n[1];")
    assert parsed.circuit.ops == ((Gate.X, (4,), (), 0), (Gate.MEASURE, (2,), (), 2))
    assert parsed.registers == (Register("m", 1, 0), Register("n", 2, 1))


def test_a_plain_statement_and_the_same_one_spread_over_lines_are_equal() -> None:
    plain = ops("cu1(-pi/4) q[0],q[1];\nrx(0.25) q[1];")
    spread = ops("cu1 ( -pi // comment ; \n / 4 )\n q [ 0 ] ,\n\tq[1] ;rx(//\n0.25)q[1]\n;")
    assert plain == spread == [(Gate.CP, (0, 1), (-math.pi / 4,), 0), (Gate.RX, (1,), (0.25,), 0)]


def test_a_comment_inside_parameters_ends_them_at_the_line() -> None:
    assert ops("rx(1 //) q[0];\n+ 1) q[1];") == [(Gate.RX, (1,), (2.0,), 0)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("pi/2", math.pi / 2),
        ("-pi/2", -math.pi / 2),
        ("2*3+4", 10.0),
        ("2+3*4", 14.0),
        ("2-3-4", -5.0),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("2^-1", 0.5),
        ("8/4/2", 1.0),
        ("(1+2)*3", 9.0),
        ("sin(pi/2)+cos(0)", 2.0),
        ("sqrt(16)*ln(exp(2))", 8.0),
        ("tan(0)", 0.0),
        ("+3", 3.0),
        ("--3", 3.0),
        (".5e1", 5.0),
        ("1e-3", 0.001),
        ("3.", 3.0),
        ("1E2", 100.0),
    ],
)
def test_expressions(text: str, value: float) -> None:
    assert ops(f"rz({text}) q[0];") == [(Gate.RZ, (0,), (pytest.approx(value),), 0)]


def test_a_gate_on_registers_is_repeated_for_each_qubit() -> None:
    body = HEAD + "qreg a[3]; qreg b[3]; creg c[3]; h a; cx a,b; cx a[1],b; measure a -> c;"
    made = program(body).circuit.ops
    assert made[:3] == tuple((Gate.H, (i,), (), 0) for i in range(3))
    assert made[3:6] == tuple((Gate.CX, (i, i + 3), (), 0) for i in range(3))
    assert made[6:9] == tuple((Gate.CX, (1, i + 3), (), 0) for i in range(3))


def test_gate_definitions_nest_and_take_parameters() -> None:
    text = (
        "gate inner(a, b) x, y { rx(a/2) x; cx x,y; rz(-b) y; }\n"
        "gate outer(t) x, y { inner(t, 2*t) y, x; barrier x, y; h x; }\n"
        "outer(0.5) q[0], q[1];"
    )
    assert ops(text) == [
        (Gate.RX, (1,), (0.25,), 0),
        (Gate.CX, (1, 0), (), 0),
        (Gate.RZ, (0,), (-1.0,), 0),
        (Gate.BARRIER, (0, 1), (), 0),
        (Gate.H, (0,), (), 0),
    ]


def test_a_definition_replaces_a_library_gate() -> None:
    assert ops("gate h a { x a; }\nh q[1];") == [(Gate.X, (1,), (), 0)]


def test_a_definition_without_effect_is_no_operation() -> None:
    assert ops("gate nothing a { }\nnothing q; if(c==0) nothing q[0];") == []


def test_gates_that_tools_write_undeclared_are_known() -> None:
    body = HEAD + "qreg q[5]; creg c[5]; c3x q[0],q[1],q[2],q[3]; c4x q[0],q[1],q[2],q[3],q[4]; "
    body += "c3sqrtx q[0],q[1],q[2],q[3]; csx q[0],q[1]; cu(1,2,3,4) q[0],q[1]; u2(1,2) q[0]; cu3(1,2,3) q[0],q[1]; "
    body += "u0(1) q[0]; measure q -> c;"
    made = program(body).circuit.ops
    assert made[:8] == (
        (Gate.X, (0, 1, 2, 3), (), 3),
        (Gate.X, (0, 1, 2, 3, 4), (), 4),
        (Gate.SX, (0, 1, 2, 3), (), 3),
        (Gate.SX, (0, 1), (), 1),
        (Gate.CU, (0, 1), (1.0, 2.0, 3.0, 4.0), 0),
        (Gate.U, (0,), (math.pi / 2, 1.0, 2.0), 0),
        (Gate.CU, (0, 1), (1.0, 2.0, 3.0, 0.0), 0),
        (Gate.ID, (0,), (), 0),
    )


def test_a_condition_governs_all_operations_of_its_gate() -> None:
    parsed = program(TWO + "gate two a { x a; h a; } measure q -> c; if(c==2) two q[0];")
    assert parsed.circuit.ops[2:] == ((Gate.IF, (), (), 0), (Gate.X, (0,), (), 0), (Gate.H, (0,), (), 0))
    assert parsed.circuit.conditions == (Condition(ConditionKind.EQUALS, (0, 1), 2, 2),)


def test_measuring_a_register_under_a_condition_asks_again_for_each_bit() -> None:
    parsed = program(TWO + "if(c==0) measure q -> c;")
    assert [op[0] for op in parsed.circuit.ops] == [Gate.IF, Gate.MEASURE, Gate.IF, Gate.MEASURE]
    assert [condition.length for condition in parsed.circuit.conditions] == [1, 1]


def test_a_condition_that_no_value_of_the_register_meets_leaves_nothing() -> None:
    assert ops("if(c==4) x q[0];") == []


def test_opaque_gates_may_be_declared() -> None:
    assert ops("opaque magic(a) x, y;\nreset q[0];") == [(Gate.RESET, (0,), (), 0)]


# how it refuses


@pytest.mark.parametrize(
    ("body", "code", "line", "column"),
    [
        ("h q[0]", "syntax", 6, 1),
        ("h q[0;", "syntax", 5, 6),
        ("h @;", "syntax", 5, 3),
        ("h q[0];\x00", "syntax", 5, 8),
        ("measure q[0] > c[0];", "syntax", 5, 14),
        ("if(c=1) x q[0];", "syntax", 5, 5),
        ("if(c==1) if(c==1) x q[0];", "syntax", 5, 10),
        ("if(c==1) barrier q;", "syntax", 5, 10),
        ("gate g a { measure a; }", "syntax", 5, 12),
        ("qreg pi[2];", "syntax", 5, 6),
        ("qreg r[0];", "syntax", 5, 8),
        ("5;", "syntax", 5, 1),
        ("measure c[0] -> q[0];", "syntax", 5, 9),
        ("foo q[0];", "undeclared_name", 5, 1),
        ("h r[0];", "undeclared_name", 5, 3),
        ("rx(theta) q[0];", "undeclared_name", 5, 4),
        ("gate g(a) b { rx(d) b; }", "undeclared_name", 5, 18),
        ("gate g a { h b; }", "undeclared_name", 5, 14),
        ("gate a x { b x; } gate b x { a x; }", "undeclared_name", 5, 12),
        ("qreg q[3];", "duplicate_name", 5, 6),
        ("creg q[3];", "duplicate_name", 5, 6),
        ("gate g a { } gate g a { }", "duplicate_name", 5, 19),
        ("gate g a,a { }", "duplicate_name", 5, 10),
        ("h q[2];", "index_out_of_range", 5, 5),
        ("measure q[0] -> c[7];", "index_out_of_range", 5, 19),
        ("cx q[0],q[0];", "duplicate_qubit", 5, 1),
        ("cx q,q;", "duplicate_qubit", 5, 1),
        ("gate g a,b { cx a,a; }", "duplicate_qubit", 5, 14),
        ("cx q[0];", "bad_arity", 5, 1),
        ("h(1) q[0];", "bad_arity", 5, 1),
        ("rx q[0];", "bad_arity", 5, 1),
        ("qreg r[3]; cx q,r;", "bad_arity", 5, 12),
        ("measure q -> c[0];", "bad_measurement", 5, 1),
        ("creg d[3]; measure q -> d;", "bad_measurement", 5, 12),
        ("gate g a { g a; }", "recursive_gate", 5, 12),
        ("rx(1/0) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(0/0) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(1e999) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(-1e999) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(ln(-1)) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(ln(0)) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(sqrt(-1)) q[0];", "nonfinite_parameter", 5, 4),
        ("rx((-1)^0.5) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(10^400) q[0];", "nonfinite_parameter", 5, 4),
        ("rx(0^-1) q[0];", "nonfinite_parameter", 5, 4),
        ("gate g(a) x { rx(1/a) x; } g(0) q[0];", "nonfinite_parameter", 5, 29),
        ("opaque magic a; magic q[0];", "unsupported", 5, 17),
        ('include "other.inc";', "unsupported", 5, 9),
        ("qubit[2] r;", "unsupported", 5, 1),
        ("for int i in [0:3] { x q[0]; }", "unsupported", 5, 1),
        ("h q[1.5];", "bad_number", 5, 5),
    ],
)
def test_faults_have_a_code_and_a_place(body: str, code: str, line: int, column: int) -> None:
    error = refusal(TWO + body + "\nmeasure q -> c;")
    assert error.code == f"circuit.{code}"
    assert (error.details["line"], error.details["column"]) == (line, column)


def test_another_version_is_refused_by_name() -> None:
    error = refusal('OPENQASM 4.0;\ninclude "stdgates.inc";\nqubit q;')
    assert (error.code, error.details["construct"]) == ("circuit.unsupported", "OPENQASM 4.0")


@pytest.mark.parametrize("text", ["", "hello", "qreg q[2];", "// nothing\n"])
def test_a_program_without_header_is_no_program(text: str) -> None:
    assert refusal(text).code == "circuit.syntax"


def test_a_program_without_measurement_has_nothing_to_count() -> None:
    with pytest.raises(QedgeError) as refused:
        program(TWO + "h q[0];")
    assert refused.value.code == "circuit.no_measurement"
    assert "measure" in (refused.value.fix or "")


def test_all_qubits_of_a_program_without_a_measurement_are_measured_on_request() -> None:
    bound = parse(TWO + "h q[1];", ParseLimits()).bind({}, measure_all=True)
    check_circuit(bound.circuit)
    assert bound.registers == (Register("c", 2, 0), Register("meas", 2, 2))
    assert bound.circuit.ops[1:] == ((Gate.MEASURE, (0,), (), 2), (Gate.MEASURE, (1,), (), 3))


# bounds


def test_text_beyond_the_limit_is_refused() -> None:
    assert refusal(TWO + " " * 5_000_000).code == "circuit.too_large"
    assert refusal(TWO + "// " + "é" * 600, max_text_bytes=1000).code == "circuit.too_large"


def test_doubling_definitions_are_refused_before_they_grow() -> None:
    text = HEAD + "gate g0 a { x a; x a; }\n"
    text += "".join(f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}\n" for i in range(1, 31))
    assert refusal(text + "qreg q[1]; creg c[1]; g30 q[0]; measure q -> c;").code == "circuit.too_many_ops"


def test_doubling_definitions_without_operations_are_refused_too() -> None:
    text = HEAD + "gate g0 a { }\n"
    text += "".join(f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}\n" for i in range(1, 31))
    assert refusal(text + "qreg q[1]; creg c[1]; g30 q[0]; measure q -> c;").code == "circuit.too_many_ops"


def test_deep_nesting_of_definitions_is_refused() -> None:
    text = HEAD + "gate g0 a { x a; }\n" + "".join(f"gate g{i} a {{ g{i - 1} a; }}\n" for i in range(1, 200))
    assert refusal(text).code == "circuit.too_many_ops"


def test_arithmetic_in_definitions_counts() -> None:
    long = "+".join(["a"] * 100_000)
    text = HEAD + f"qreg q[1]; creg c[1]; gate g(a) x {{ rx({long}) x; }}\n" + "g(1) q[0];\n" * 40_000
    assert refusal(text).code == "circuit.too_many_ops"


def test_operations_are_counted_where_registers_are_broadcast() -> None:
    text = HEAD + "qreg q[1000]; creg c[1000];\n" + "h q;\n" * 300 + "measure q -> c;"
    error = refusal(text)
    assert (error.code, error.details["line"]) == ("circuit.too_many_ops", 204)
    assert len(program(text, max_operations=301_000).circuit.ops) == 301_000


def test_barriers_over_wide_registers_count() -> None:
    assert refusal(HEAD + "qreg q[10000]; creg c[1];\n" + "barrier q;\n" * 10_000).code == "circuit.too_many_ops"


@pytest.mark.parametrize("nest", ["(", "-", "sin(", "2^", "-(", "+"])
def test_deep_expressions_are_refused(nest: str) -> None:
    assert refusal(TWO + "rx(" + nest * 100_000 + "1").code == "circuit.expression_too_deep"


def test_long_flat_expressions_are_fine() -> None:
    assert ops("rx(" + "+".join(["1"] * 50_000) + ") q[0];") == [(Gate.RX, (0,), (50_000.0,), 0)]


@pytest.mark.parametrize("body", ["rx({}) q[0];", "h q[{}];", "if(c=={}) x q[0];", "qreg r[{}];", "rx(0.{}) q[0];"])
def test_huge_numbers_are_refused(body: str) -> None:
    assert refusal(TWO + body.format("1" * 900_000)).code == "circuit.bad_number"


def test_huge_registers_are_refused_with_the_limit() -> None:
    error = refusal(HEAD + "qreg q[1000000]; creg c[1]; h q[0];")
    assert (error.code, error.details["limit"], error.details["found"]) == (
        "circuit.too_many_qubits",
        10_000,
        1_000_000,
    )
    assert refusal(HEAD + "creg c[1000000];").code == "circuit.too_large"
    assert refusal(HEAD + "".join(f"creg c{i}[1];" for i in range(2000))).code == "circuit.too_large"
    assert refusal(HEAD + f"qreg q[{'9' * 300}];").code == "circuit.too_many_qubits"


@pytest.mark.parametrize(
    "text",
    [
        "rx(" * 300_000,
        "rx(1" + " " * 900_000,
        "rx(" + "1," * 400_000,
        "cx q[0]" + "\t" * 900_000,
        '"' * 1_000_000,
        "include " + '"' + "a" * 900_000,
        "h" * 1_000_000,
        "q[0]," * 200_000,
        "//" * 500_000,
        "gate g" + " a," * 300_000,
        "barrier q" + ",q" * 400_000 + ";",
        "1.1.1.1." * 100_000,
        "\n" * 1_000_000,
        "gate g(" + "a," * 300_000,
    ],
)
def test_hostile_text_is_answered(text: str) -> None:
    refusal(TWO + text)


def test_what_operands_mean_is_that_of_the_registers_of_this_program() -> None:
    gates = "".join(f"cx a[{i % 3}], b[{i % 2}]; " for i in range(12))
    for registers, first in (("qreg a[3]; qreg b[2];", (0, 3)), ("qreg b[2]; qreg a[3];", (2, 0))) * 2:
        circuit = (
            parse(f'OPENQASM 2.0; include "qelib1.inc"; {registers} {gates}', ParseLimits())
            .bind({}, counted=False)
            .circuit
        )
        assert circuit.ops[0][1] == first
        assert circuit.ops[0][1] == circuit.ops[6][1]
    for small in ("qreg a[2]; qreg b[2];", "qreg a[3]; creg b[2];"):
        with pytest.raises(QedgeError):
            parse(f'OPENQASM 2.0; include "qelib1.inc"; {small} {gates}', ParseLimits())
