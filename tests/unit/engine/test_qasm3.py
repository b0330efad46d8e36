"""The OpenQASM 3 parser: what it accepts, what it makes of it, and how it refuses."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits, Program
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, ConditionKind, Gate, check_circuit
from tests.unit.engine.flat_matrix import matrix_of, same_up_to_phase

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
TWO = HEAD + "qubit[2] q;\nbit[2] c;\n"
FOUR = HEAD + "qubit[4] q;\nbit[4] c;\n"


def program(text: str, values: dict[str, float] | None = None, **limits: int) -> Program:
    made = parse(text, ParseLimits(**limits)).bind(values or {}, measure_all=True)
    check_circuit(made.circuit)
    return made


def ops(body: str, head: str = TWO) -> list[tuple[object, ...]]:
    """Return the operations before the final measurement of everything."""
    return [op for op in program(head + body).circuit.ops if op[0] != Gate.MEASURE]


def refusal(text: str, **limits: int) -> QedgeError:
    with pytest.raises(QedgeError) as caught:
        program(text, **limits)
    error = caught.value
    assert error.code.startswith("circuit.")
    if error.code not in ("circuit.unbound_parameter", "circuit.unknown_parameter"):
        assert isinstance(error.details["line"], int)
        assert isinstance(error.details["column"], int)
    return error


def equal(body: str, other: str, head: str = TWO) -> bool:
    return same_up_to_phase(matrix_of(program(head + body).circuit), matrix_of(program(head + other).circuit))


# what it accepts


def test_declarations_and_measurements_of_all_kinds() -> None:
    made = program(HEAD + "qubit a; qubit[2] b; bit x; bit[2] y = measure b; x = measure a; measure b[1] -> y[0];")
    assert made.registers == (Register("x", 1, 0), Register("y", 2, 1))
    assert [(op[1], op[3]) for op in made.circuit.ops] == [((1,), 1), ((2,), 2), ((0,), 0), ((2,), 1)]


def test_old_registers_and_the_plain_path_give_the_same() -> None:
    plain = program(TWO + "h q[0]; rz(pi/4) q[1];\ncx q[0], q[1];\nc[0] = measure q[0];")
    spread = program(TWO + "h /* a */ q[0]; rz ( pi / 4 ) q [1]; cx q[0] , /**/ q[1]; c [0] = measure q [0];")
    old = program(HEAD + "qreg q[2]; creg c[2]; h q[0]; rz(pi/4) q[1]; cx q[0],q[1]; measure q[0] -> c[0];")
    assert plain.circuit == spread.circuit == old.circuit


def test_a_condition_without_a_block_governs_one_statement() -> None:
    made = program(TWO + "c[0] = measure q[0]; if (c[0]) x q[0];\nx q[1]; h q[1];")
    assert [row.length for row in made.circuit.conditions] == [1]
    other = program(TWO + "c[0] = measure q[0]; if (c[0]) { x q[0]; x q[1]; } else x q[1]; h q[1]; h q[0];")
    assert [row.length for row in other.circuit.conditions] == [2, 1]


@pytest.mark.parametrize("block", ["{\n  x q[1]; rz(pi/2) q[1];\n}", "{ x q[1]; /* spread */ rz(pi/2) q[1]; }"])
def test_a_block_behind_one_bit_is_the_same_however_it_is_written(block: str) -> None:
    made = program(f"{TWO}h q[0]; c[0] = measure q[0]; if (c[0]) {block} h q[1];")
    assert made.circuit.conditions == (Condition(ConditionKind.EQUALS, (0,), 1, 2),)
    gates = [int(op[0]) for op in made.circuit.ops[:6]]
    assert gates == [Gate.H, Gate.MEASURE, Gate.IF, Gate.X, Gate.RZ, Gate.H]
    other = program(f"{TWO}c[0] = measure q[0]; if (c[0]) {{ x q[1]; }} else {{ h q[1]; }}")
    assert [row.value for row in other.circuit.conditions] == [1, 0]
    assert program(f"{TWO}c[0] = measure q[0]; if (c[0]) {{ }} h q[1];").circuit.conditions == ()
    assert refusal(f"{TWO}if (c[0]) {{ x q[1]; h q[1]; }}", max_operations=4).code == "circuit.too_many_ops"


def test_an_expression_without_a_value_for_made_up_inputs_has_one_for_the_real_ones() -> None:
    template = parse(f"{TWO}input float x; rx(1 / (x - 0.25)) q[0];", ParseLimits())
    assert template.bind({"x": 1.25}, measure_all=True).circuit.ops[0] == (Gate.RX, (0,), (1.0,), 0)


def test_a_constant_of_a_block_holds_in_that_block_alone() -> None:
    inner = "{ const float a = 0.2; rx(a) q[0]; h q[1]; rx(a) q[0]; }"
    body = f"const float a = 0.1; h q[1]; rx(a) q[0]; {inner} h q[1]; rx(a) q[0];"
    assert [op[2] for op in ops(body) if op[0] == Gate.RX] == [(0.1,), (0.2,), (0.2,), (0.1,)]


def test_an_alias_of_a_block_is_forgotten_after_it() -> None:
    assert ops("{ let z = q[1]; x z; } { let z = q[0]; x z; }") == [(2, (1,), (), 0), (2, (0,), (), 0)]
    assert refusal(TWO + "{ let z = q[1]; x z; } x z;").code == "circuit.undeclared_name"


def test_physical_qubits_are_plain_too() -> None:
    plain = program(HEAD + "bit[2] c; h $1; cp(pi/4) $1, $0; h $1; c[0] = measure $1;")
    spread = program(HEAD + "bit[2] c; h /**/ $1; cp(pi/4) $1 /**/, $0; h $1 /**/; c[0] /**/ = measure $1;")
    assert plain.circuit == spread.circuit
    assert plain.circuit.num_qubits == 2
    assert refusal(HEAD + "qubit q; h q; h $1;").code == "circuit.unsupported"
    assert refusal(HEAD + "bit c; h $1; h $99999;").code == "circuit.too_many_qubits"


def test_operands_are_parts_aliases_and_physical_qubits() -> None:
    assert [op[1] for op in ops("x q[1:2]; x q[{3, 0}]; x q[-1]; let a = q[0] ++ q[2:3]; x a[1];", FOUR)] == [
        (1,), (2,), (3,), (0,), (3,), (2,),
    ]  # fmt: skip
    made = program(HEAD + "bit[2] c; x $3; cx $0, $3; c[0] = measure $3;")
    assert (made.circuit.num_qubits, made.circuit.ops[1][1]) == (4, (0, 3))


def test_constants_loops_and_expressions() -> None:
    body = "const int n = 3; const float w = pi / 2 ** 2; for int i in [0:n-1] { rx(w * i) q[i]; cx q[i], q[i + 1]; }"
    assert [op[2] for op in ops(body, FOUR)][::2] == [(0.0,), (math.pi / 4,), (math.pi / 2,)]
    assert [op[1] for op in ops("for uint i in {3, 1} x q[i]; for int i in [3:-2:0] y q[i];", FOUR)] == [
        (3,), (1,), (3,), (1,),
    ]  # fmt: skip
    assert ops("for int i in [1:0] { x q[i]; } y q[0];")[0][0] == Gate.Y
    assert [op[2][0] for op in ops("rx(0x10 % 7) q[0]; rx(1/2) q[0]; rx(mod(9, 4)) q[0]; rx(2**3) q[0];")] == [
        2.0, 0.5, 1.0, 8.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("modified", "plain"),
    [
        ("inv @ s q[0];", "sdg q[0];"),
        ("inv @ U(0.1, 0.2, 0.3) q[0];", "U(-0.1, -0.3, -0.2) q[0];"),
        ("pow(1/2) @ x q[0];", "sx q[0];"),
        ("ctrl @ pow(0.5) @ x q[0], q[1];", "ctrl @ sx q[0], q[1];"),
        ("pow(1/2) @ swap q[0], q[1]; pow(1/2) @ swap q[0], q[1];", "swap q[0], q[1];"),
        ("pow(0.5) @ h q[0]; pow(0.5) @ h q[0];", "h q[0];"),
        ("pow(1/4) @ y q[0]; pow(3/4) @ y q[0];", "y q[0];"),
        ("pow(-2) @ t q[0];", "sdg q[0];"),
        ("pow(3) @ rz(0.2) q[0];", "rz(0.6) q[0];"),
        ("ctrl @ x q[0], q[1];", "cx q[0], q[1];"),
        ("ctrl @ z q[0], q[1];", "cz q[0], q[1];"),
        ("ctrl @ rz(0.3) q[0], q[1];", "crz(0.3) q[0], q[1];"),
        ("ctrl @ p(0.3) q[0], q[1];", "cp(0.3) q[0], q[1];"),
        ("ctrl @ gphase(0.4) q[0];", "p(0.4) q[0];"),
        ("ctrl(2) @ gphase(0.4) q[0], q[1];", "cp(0.4) q[0], q[1];"),
        ("negctrl @ x q[0], q[1];", "x q[0]; cx q[0], q[1]; x q[0];"),
        ("ctrl @ U(0.1, 0.2, 0.3) q[0], q[1];", "p(-0.05) q[0]; cu(0.1, 0.2, 0.3, 0.05) q[0], q[1]; p(0.05) q[0];"),
        ("ctrl @ u3(0.1, 0.2, 0.3) q[0], q[1];", "cu(0.1, 0.2, 0.3, -0.25) q[0], q[1];"),
        ("inv @ iswap q[0], q[1]; iswap q[0], q[1];", "id q[0];"),
        ("gate g(a) x, y { rx(a) x; cx x, y; } inv @ g(0.3) q[0], q[1];", "cx q[0], q[1]; rx(-0.3) q[0];"),
        ("gate g a { gphase(pi/2); } ctrl @ g q[0], q[1];", "s q[0];"),
        ("gate g a, b { for int i in [1:3] { rx(i) a; } cx a, b; } pow(2) @ g q[0], q[1];",
         "rx(6) q[0]; cx q[0], q[1]; rx(6) q[0]; cx q[0], q[1];"),
        ("gate cu a, b { x a; } cu q[0], q[1];", "x q[0];"),
    ],
)  # fmt: skip
def test_modifiers_are_what_they_mean(modified: str, plain: str) -> None:
    assert equal(modified, plain)


def test_controls_of_several_kinds_take_their_qubits_in_order() -> None:
    assert equal(
        "ctrl @ negctrl @ ctrl(1) @ rx(0.7) q[0], q[1], q[2], q[3];",
        "x q[1]; ctrl(3) @ rx(0.7) q[0], q[1], q[2], q[3]; x q[1];",
        FOUR,
    )


def test_registers_are_broadcast() -> None:
    assert [op[1] for op in ops("cx q[0:1], q[2:3]; cx q[0], q[1:3];", FOUR)] == [
        (0, 2), (1, 3), (0, 1), (0, 2), (0, 3),
    ]  # fmt: skip


# parameters


def test_inputs_are_bound_without_parsing_again() -> None:
    template = parse(TWO + "input float a; input angle[32] b; rx(a) q[0]; h q[0]; ctrl @ rz(a * b) q[0], q[1];"
                     "gate g(t) x { ry(t / 2) x; } g(b + 1) q[1]; c = measure q;", ParseLimits())  # fmt: skip
    assert template.parameters == ("a", "b")
    first = template.bind({"a": 0.5, "b": 2.0}).circuit
    assert [op[2] for op in first.ops[:4]] == [(0.5,), (), (1.0,), (1.5,)]
    assert template.bind({"a": 1.0, "b": 3.0}).circuit.ops[2][2] == (3.0,)
    for values, code in (
        ({"a": 1.0}, "unbound_parameter"),
        ({"a": 1.0, "b": 1.0, "z": 1.0}, "unknown_parameter"),
    ):
        with pytest.raises(QedgeError) as refused:
            template.bind(values)
        assert refused.value.code == f"circuit.{code}"


def test_a_parameter_without_a_finite_value_is_refused_when_it_is_bound() -> None:
    template = parse(TWO + "input float a;\nrx(1/a) q[0]; c = measure q;", ParseLimits())
    with pytest.raises(QedgeError) as refused:
        template.bind({"a": 0.0})
    assert (refused.value.code, refused.value.details["line"]) == ("circuit.nonfinite_parameter", 6)


# conditions


def conditions(body: str) -> tuple[Condition, ...]:
    return program(FOUR + "c = measure q; " + body).circuit.conditions


def test_conditions_become_guards() -> None:
    equals, parity = ConditionKind.EQUALS, ConditionKind.PARITY
    for text, expected in (
        ("c[1]", Condition(equals, (1,), 1, 1)),
        ("!c[1]", Condition(equals, (1,), 0, 1)),
        ("c[2] == false", Condition(equals, (2,), 0, 1)),
        ("c == 5", Condition(equals, (0, 1, 2, 3), 5, 1)),
        ("(c[0] ^ c[1] ^ c[2]) == true", Condition(parity, (0, 1, 2), 1, 1)),
        ("c[0] == c[3]", Condition(parity, (0, 3), 0, 1)),
        ("c[1:2] == 2", Condition(equals, (1, 2), 2, 1)),
    ):
        assert conditions(f"if ({text}) x q[0];") == (expected,), text


def runs(condition: str, value: int) -> int:
    """Return how often a body guarded by a condition runs where the register has a value."""
    circuit = program(FOUR + f"c = measure q; if ({condition}) {{ x q[0]; }}").circuit
    return count_x(circuit.ops[4:], circuit.conditions, value)


def count_x(found: tuple[tuple[int, ...], ...], rows: tuple[Condition, ...], value: int) -> int:  # type: ignore[type-arg]
    times, place = 0, 0
    while place < len(found):
        gate, _, _, arg = found[place]  # type: ignore[misc]
        if gate == Gate.IF:
            row = rows[arg]
            bits = [value >> bit & 1 for bit in row.bits]
            number = sum(bit << i for i, bit in enumerate(bits))
            holds = number == row.value if row.kind is ConditionKind.EQUALS else sum(bits) % 2 == row.value
            place += 0 if holds else row.length
        elif gate == Gate.X:
            times += 1
        place += 1
    return times


BIT = st.sampled_from([f"c[{i}]" for i in range(4)])
SIMPLE = st.one_of(
    BIT,
    st.builds("c {} {}".format, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.integers(0, 17)),
    st.builds("({} ^ {}) == {}".format, BIT, BIT, st.sampled_from(["true", "false", "0", "1"])),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds("!({})".format, inner),
        st.builds("({}) && ({})".format, inner, inner),
        st.builds("({}) || ({})".format, inner, inner),
    ),
    max_leaves=4,
)


@given(CONDITIONS, st.integers(0, 15))
def test_every_condition_runs_its_body_once_or_not_at_all(condition: str, value: int) -> None:
    c = [bool(value >> i & 1) for i in range(4)]
    python = condition.replace("&&", " and ").replace("||", " or ").replace("!(", " not (").replace("true", "True")
    python = python.replace("false", "False").replace("c ", f"{value} ")
    expected = eval(python, {"__builtins__": {}, "c": c})  # noqa: S307 # our own text
    try:
        assert runs(condition, value) == int(bool(expected))
    except QedgeError as error:
        assert error.code == "circuit.unsupported"  # a condition of too many cases


def test_else_runs_where_the_condition_does_not_hold() -> None:
    made = program(FOUR + "c = measure q; if (c == 3) { x q[0]; } else if (c[0]) { x q[1]; } else { y q[1]; }").circuit
    for value in range(16):
        assert count_x(made.ops[4:], made.conditions, value) == (1 if value & 1 else 0)


def test_a_block_that_changes_its_own_condition_runs_once_or_is_refused() -> None:
    made = program(FOUR + "c = measure q; if (c[0]) { x q[0]; c[0] = measure q[0]; } else { y q[1]; }").circuit
    kinds = [op[0] for op in made.ops[4:]]
    assert kinds == [Gate.IF, Gate.Y, Gate.IF, Gate.X, Gate.MEASURE]
    error = refusal(FOUR + "c = measure q;\nif (c[0] || c[1]) { c[0] = measure q[0]; }")
    assert (error.code, error.details["line"]) == ("circuit.unsupported", 6)


# refusals


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("h q[2];", "index_out_of_range", 5),
        ("h r[0];", "undeclared_name", 5),
        ("foo q[0];", "undeclared_name", 5),
        ("cx q[0], q[0];", "duplicate_qubit", 5),
        ("cx q[0];", "bad_arity", 5),
        ("rx q[0];", "bad_arity", 5),
        ("ctrl @ x q[0];", "bad_arity", 5),
        ("qubit q;", "duplicate_name", 5),
        ("rx(1/0) q[0];", "nonfinite_parameter", 5),
        ("rx(1e999) q[0];", "nonfinite_parameter", 5),
        ("rx(ln(-1)) q[0];", "nonfinite_parameter", 5),
        ("rx(9**9**9**9) q[0];", "nonfinite_parameter", 5),
        ("rx(" + "(" * 200 + "1" + ")" * 200 + ") q[0];", "expression_too_deep", 5),
        ("while (true) { x q[0]; }", "unsupported", 5),
        ("def f() { }", "unsupported", 5),
        ("int i = 3;", "unsupported", 5),
        ("switch (1) { }", "unsupported", 5),
        ("cal { }", "unsupported", 5),
        ("c[0] = 1;", "unsupported", 5),
        ("measure q[0];", "unsupported", 5),
        ("pow(0.5) @ iswap q[0], q[1];", "unsupported", 5),
        ("x $1;", "unsupported", 5),
        ("gate g a { g a; }", "recursive_gate", 5),
        ("gate g a { measure a; }", "syntax", 5),
        ("if (c[0]) { x q[0];", "syntax", 5),
        ("for int i in [0:0:3] x q[0];", "bad_number", 5),
        ("x q[0]", "syntax", 5),
        ("include \"/etc/passwd\";", "unsupported", 5),
        ("rx(q) q[0];", "syntax", 5),
        ("c = measure q[0];", "bad_measurement", 5),
    ],
)  # fmt: skip
def test_faults_have_a_code_and_a_place(body: str, code: str, line: int) -> None:
    error = refusal(TWO + body)
    assert (error.code, error.details["line"]) == (f"circuit.{code}", line)


@pytest.mark.parametrize(
    "line", ["gate g(pi) a { rz(pi) a; }", "gate g(pi) a { rz(2 * pi) a; }", "gate g tau { x tau; }"]
)
def test_no_gate_calls_its_parameters_by_the_names_of_constants(line: str) -> None:
    error = refusal(f"{TWO}{line} x q[0];")
    assert error.code == "circuit.syntax"
    assert "found the keyword" in str(error)


def test_what_would_grow_without_bound_is_refused_before_it_grows() -> None:
    doubling = "gate g0 a { x a; x a; }" + "".join(f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}" for i in range(1, 40))
    for body in (
        doubling + "g39 q[0];",
        "for int i in [0:1000000000] { x q[0]; }",
        "for int i in [0:1000000000] { }",
        "for int i in [0:999] for int j in [0:999] x q[0];",
        "pow(1000000000) @ U(0.1, 0.2, 0.3) q[0];",
        "gate g a { for int i in [0:1000000000] x a; } g q[0];",
        "gate g a { pow(100000) @ U(1, 2, 3) a; } pow(100000) @ g q[0];",
    ):
        assert refusal(TWO + body).code == "circuit.too_many_ops"
    assert refusal(HEAD + "qubit[1000000000] q;").code == "circuit.too_many_qubits"
    assert refusal(HEAD + "bit[2] c; x $999999999;").code == "circuit.too_many_qubits"
    assert refusal(TWO + "{" * 100_000).code == "circuit.too_large"
    assert refusal(TWO + "if (c[0]) " * 10_000 + "x q[0];").code == "circuit.too_large"


FRAGMENTS = [
    "gate", "g", "a", "{", "}", "(", ")", "[", "]", ";", ",", "->", "==", "=", "if", "else", "for", "int", "in",
    "qubit", "bit", "q", "c", "0", "1", "2.5", "measure", "reset", "barrier", "h", "cx", "rx", "U", "pi", "+", "-",
    "**", "^", ":", "ctrl", "inv", "pow", "negctrl", "@", "gphase", "input", "float", "const", "let", "++", "$0",
    "/*", "*/", "&&", "||", "!", "<", "box", "true", "x q[0];", "// c\n", "#pragma x\n", "@note\n", "delay[10ns]",
    "c[0] = measure q[0];",
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_any_words_of_the_language_are_answered(words: list[str]) -> None:
    text = TWO + " ".join(words)
    try:
        template = parse(text, ParseLimits(max_operations=2000))
        made = template.bind(dict.fromkeys(template.parameters, 0.7), measure_all=True)
    except QedgeError as error:
        assert error.code.startswith("circuit.")  # either outcome is right
        assert isinstance(error.details["line"], int)
    else:
        check_circuit(made.circuit)


def test_a_loop_that_is_too_long_is_refused_before_its_body_is_read() -> None:
    for values in ("[0:10 ** 12]", f"[0:{2**100}]", f"[{2**100}:-3:0]"):
        error = refusal(HEAD + f"qubit q; for int i in {values} {{ no such statement }}", max_operations=1000)
        assert error.code == "circuit.too_many_ops"
    nested = "for int i in [0:999] { " * 12 + "x q;" + " }" * 12
    assert refusal(HEAD + "qubit q; " + nested).code == "circuit.too_many_ops"
    body = "for int i in [5:-2:-1] { x q[0]; } for int i in [3:0] { x q[0]; } for int i in {1, 7} { y q[1]; }"
    assert len(ops(body)) == 6


def test_a_body_that_does_not_name_its_variable_is_done_as_often_as_one_that_does() -> None:
    for inner in ("x q[0];", "{ h q[0]; if (c[0]) { x q[1]; } }", "for int j in [0:2] { rz(0.1 * j) q[j % 2]; }"):
        for values in ("[0:4]", "{3}", "[2:1]"):
            plain = f"c[0] = measure q[0]; for int i in {values} {{ {inner} }}"
            named = f"c[0] = measure q[0]; for int i in {values} {{ /* i */ {inner} }}"
            one, other = program(TWO + plain).circuit, program(TWO + named).circuit
            shown = [(op, one.conditions[op[3]] if op[0] == Gate.IF else None) for op in one.ops]
            expected = [(op, other.conditions[op[3]] if op[0] == Gate.IF else None) for op in other.ops]
            assert [(op[:3], guard or op[3]) for op, guard in shown] == [
                (op[:3], guard or op[3]) for op, guard in expected
            ]
    made = HEAD + "gate g a { for int i in [0:2] { t a; } } qubit q; g q;"
    assert [op[0] for op in program(made).circuit.ops][:3] == [Gate.T] * 3


def test_a_condition_on_a_wide_register_is_refused_before_its_cases_are_made() -> None:
    tracemalloc.start()
    try:
        for condition in ("c", "c != 1", "c >= 1"):
            error = refusal(HEAD + f"qubit q; bit[3000] c; if ({condition}) x q;")
            assert error.code == "circuit.unsupported"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_conditions_of_many_levels_are_looked_through_once() -> None:
    condition = "c == 5"  # which two bits never are, so that no case is ever left
    for level in range(60):
        condition = f"({condition} {'||' if level % 2 else '&&'} c == 5)"
    assert ops(f"if {condition} x q[0];") == []


@pytest.mark.parametrize("text", ["input float a; rx(SUM) q[0];", "gate g(a) p { rx(SUM) p; } g(1) q[0];"])
def test_a_parameter_in_a_sum_of_thousands_is_refused_with_its_place(text: str) -> None:
    error = refusal(TWO + text.replace("SUM", "a" + "+1" * 3000))
    assert (error.code, error.details["line"]) == ("circuit.expression_too_deep", 5)


def test_what_a_loop_has_to_read_counts_also_where_it_does_nothing() -> None:
    for body in ("const int k = i" + " + 1" * 500 + ";", "for int j in [1:0] { " + "x q[i]; " * 200 + "}"):
        assert refusal(TWO + f"for int i in [0:299] {{ {body} }}", max_operations=1000).code == "circuit.too_many_ops"


def test_controls_of_controls_count_for_the_qubits_that_they_name() -> None:
    qubits = ", ".join(f"q[{index}]" for index in range(901))
    text = HEAD + "qubit[999] q; " + "negctrl(90) @ " * 10 + f"x {qubits};"
    assert refusal(text).code == "circuit.too_many_ops"
    few = program(HEAD + "qubit[41] q; ctrl(40) @ x " + ", ".join(f"q[{index}]" for index in range(41)) + ";")
    assert few.circuit.ops[0][3] == 40
