"""Properties of the OpenQASM 2 parser over generated programs and garbage."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm.library import NATIVE
from qedge.engine.qasm.model import ParseLimits
from qedge_driver_api import check_circuit

LIMITS = ParseLimits(max_operations=2000, max_qubits=64)
HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[6];\nqreg r[2];\ncreg c[3];\ncreg d[1];\n'
SMALL = tuple((name, gate) for name, gate in NATIVE.items() if gate.num_qubits <= 5)

numbers = st.one_of(
    st.integers(0, 99).map(str),
    st.floats(0, 1e6).map(repr),
    st.sampled_from(["pi", "pi/2", "0", "1e3", ".5", "3."]),
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "^"]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-{text}"),
        st.tuples(st.sampled_from(["sin", "cos", "tan", "exp", "ln", "sqrt"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
    ),
    max_leaves=6,
)


@st.composite
def gate_calls(draw: st.DrawFn) -> str:
    name, gate = draw(st.sampled_from(SMALL))
    qubits = draw(st.permutations(range(6)))[: gate.num_qubits]
    angles = [repr(draw(st.floats(-10, 10))) for _ in range(gate.num_params)]
    params = f"({','.join(angles)})" if angles else ""
    return f"{name}{params} {','.join(f'q[{i}]' for i in qubits)};"


statements = st.one_of(
    gate_calls(),
    st.just("h r;"),
    st.just("barrier q,r;"),
    st.just("reset q[1];"),
    st.just("measure q[2] -> c[1];"),
    st.builds("if(c=={}) {}".format, st.integers(0, 7), gate_calls()),
)
spaces = st.sampled_from([" ", "\n", "\t", " // a comment\n", "\r\n", ""])


@given(st.lists(st.tuples(statements, spaces), max_size=30))
def test_programs_of_the_language_parse_to_valid_circuits(lines: list[tuple[str, str]]) -> None:
    parsed = parse(HEAD + "".join(text + space for text, space in lines) + "\nmeasure r[0] -> d[0];", LIMITS).bind({})
    check_circuit(parsed.circuit)
    assert parsed.circuit.num_qubits == 8
    assert [(row.name, row.size, row.offset) for row in parsed.registers] == [("c", 3, 0), ("d", 1, 3)]


@given(st.lists(statements, max_size=20), st.data())
def test_white_space_and_comments_between_tokens_change_nothing(lines: list[str], data: st.DataObject) -> None:
    plain = parse(HEAD + "\n".join(lines) + "\nmeasure r[0] -> d[0];", LIMITS).bind({})
    symbols = ";,()[]"
    spread = "".join(
        f"{data.draw(spaces)}{char}{data.draw(spaces)}" if char in symbols else char for char in "\n".join(lines)
    )
    assert parse(HEAD + spread + "\nmeasure r[0] -> d[0];", LIMITS).bind({}) == plain


@given(expressions)
def test_expressions_agree_with_python_or_are_refused(text: str) -> None:
    functions = {name: getattr(math, name) for name in ("sin", "cos", "tan", "exp", "sqrt", "pi")} | {"ln": math.log}
    try:
        # the literals become floats, as they are in the language
        floats = "".join(f"float({t!r})" if t[0].isdigit() or t[0] == "." else t for t in _tokens(text))
        expected = eval(floats.replace("^", "**"), {"__builtins__": {}, "float": float}, functions)  # noqa: S307 # our own text
    except (ArithmeticError, ValueError):
        expected = None
    program = HEAD + f"rz({text}) q[0]; measure r[0] -> d[0];"
    if not isinstance(expected, float) or not math.isfinite(expected):
        with pytest.raises(QedgeError) as caught:
            parse(program, LIMITS).bind({})
        assert caught.value.code == "circuit.nonfinite_parameter"
        return
    parsed = parse(program, LIMITS).bind({})
    value = parsed.circuit.ops[0][2][0]
    assert math.isclose(value, expected, rel_tol=1e-12, abs_tol=1e-300)


def _tokens(text: str) -> list[str]:
    return re.findall(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[a-z]+|.", text)


def _answered(text: str) -> None:
    """Parse to a valid circuit, or to an error with a place in the text."""
    try:
        parsed = parse(text, LIMITS).bind({}, measure_all=True)
    except QedgeError as error:
        refusal = error
    else:
        check_circuit(parsed.circuit)
        return
    assert refusal.code.startswith("circuit.")
    line, column = refusal.details["line"], refusal.details["column"]
    assert isinstance(line, int)
    assert isinstance(column, int)
    assert 1 <= line <= text.count("\n") + 1
    assert 1 <= column <= len(text.split("\n")[line - 1]) + 1


@given(st.text(max_size=300))
def test_any_text_is_answered(text: str) -> None:
    _answered(text)
    _answered(HEAD + text)


FRAGMENTS = [
    "gate", "g", "a", "b", "{", "}", "(", ")", "[", "]", ";", ",", "->", "==", "if", "qreg", "creg", "q", "c", "0", "1",
    "7", "1e9", ".5", "measure", "reset", "barrier", "opaque", "h", "cx", "rx", "pi", "+", "-", "*", "/", "^", "sin",
    "include", '"qelib1.inc"', "OPENQASM", "2.0", "//", "\n", "U", "CX", "nan", "inf", "1_0",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60))
def test_any_words_of_the_language_are_answered(words: list[str]) -> None:
    _answered(HEAD + " ".join(words))


@given(st.lists(statements, min_size=1, max_size=10), st.integers(0, 10_000), st.characters())
def test_a_changed_character_is_answered(lines: list[str], place: int, char: str) -> None:
    text = HEAD + "\n".join(lines) + "\nmeasure r[0] -> d[0];"
    at = place % len(text)
    _answered(text[:at] + char + text[at + 1 :])
    _answered(text[:at])
