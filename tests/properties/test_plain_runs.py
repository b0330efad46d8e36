"""Long runs of plain statements, and calls of defined gates in them, are read by ways of their own.

All give the same circuit or error as the full parser.
"""

from __future__ import annotations

from functools import cache
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm import plain
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.template import Template
from qedge.engine.qasm2 import parser as parser_2
from qedge.engine.qasm3.operations import Operations

LIMITS = ParseLimits(max_operations=400, max_qubits=64)
HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[6];\ncreg c[6];\ngate g(t) a { rz(t*2) a; }\n'
HEAD_3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[6] q;\nbit[6] c;\ninput float w;\nconst float k = 0.5;\n'
PLAIN = (
    "h q[0];", "cx q[1],q[2];", "cz q[3], q[4];\n", "ccx q[0],q[1],q[2];", "swap q[5] , q[0];",
    "rz(0.25) q[1];", "rx(-1e-3) q[2];\n", "ry(3) q[3];", "rz(pi/4) q[1];", "rz(2*pi/3) q[0];", "cp(-pi) q[0],q[1];",
    "u3(0.1,-0.2,3e1) q[4];", "u2(0,pi) q[5];", "p(0.125)  q[0];", "rz ( 0.5 ) q[0];", "rz(0.5)q[1];",
    "measure q[0] -> c[1];", "rz(0.1)\tq[2];\r\n",
)  # fmt: skip
ODD = (
    ";", "(", ")", ",", '"', "\\", "]", "[", " ", "//", "/*", "*/", "\n", "true", "null", "rz(;) q[0];",
    "rz(true) q[0];", "barrier q;", "barrier (1) q[0];", "barrier " + ", ".join(f"q[{i % 6}]" for i in range(30)) + ";",
    "rz((1)) q[0];", "rz() q[0];", "h() q[0];", "rz(1;,2) q[0];", "h ),( q[0];", "rz([1]) q[0];", "rz(1],[2) q[0];",
    "rz(1e999) q[0];", "rz(01) q[0];", "rz(1.) q[0];", "rz(.5) q[0];", "rz(+1) q[0];", "rz(nan) q[0];", "cx q[1],q[1];",
    "h q[6];", "h nothing[0];", "rz(0.5) q;", "h q;", "g(0.5) q[0];", "rz(w) q[0];", "rz(2*w) q[1];", "rz(k) q[2];",
    "rz(k*pi) q[2];", "rz(1/0) q[0];", "rz(pi*x) q[0];", "cu(1,2,3) q[0],q[1];", "ch(1) q[0],q[1];", "if(c==1) x q[0];",
    "rz(0.\n5) q[0];", "rz(0,1) q[0];", "gate rz(t) a { ry(t) a; }", "ctrl @ x q[0], q[1];", "c[0] = measure q[0];",
    "rz(" + "1" * 90 + ") q[0];", "rz(0." + "1" * 390 + ") q[0];", "rz(0." + "1" * 410 + ") q[0];", "é", "\ud800",
    "h q[0]", "cz" + " " * 130 + "q[0],q[1];",
)  # fmt: skip

Found = Template | tuple[str, object, object]


def outcome(text: str) -> Found:
    try:
        found = parse(text, LIMITS)
    except QedgeError as error:
        return error.code, error.details.get("line"), error.details.get("column")
    bound = found.bind(dict.fromkeys(found.parameters, 0.375), counted=False)
    return Template(*(getattr(found, name) for name in ("num_qubits", "num_clbits")), bound.circuit.ops, (), ())


@pytest.mark.parametrize("head", [HEAD_2, HEAD_3])
@given(st.lists(st.one_of(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.sampled_from(ODD)), max_size=60))
@settings(max_examples=150)
def test_a_long_run_is_read_as_its_statements_one_by_one(head: str, parts: list[str]) -> None:
    text = head + "h q[0];" * 8 + "".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_FEW", 1 << 30)
        expected = outcome(text)
    assert outcome(text) == expected


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("head", [HEAD_2, HEAD_3])
def test_one_odd_statement_among_plain_ones_changes_nothing(head: str, odd: str) -> None:
    run = "".join(PLAIN) * 2
    text = f"{head}{run}{odd}{run}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_FEW", 1 << 30)
        expected = outcome(text)
    assert outcome(text) == expected


def test_the_number_of_operations_is_bounded_in_a_long_run_too() -> None:
    fits = HEAD_2 + "rz(0.5) q[0];" * 400
    assert len(parse(fits, LIMITS).stream) == 400
    with pytest.raises(QedgeError, match="more than 400 operations") as refused:
        parse(fits + "\nrz(0.5) q[0];", LIMITS)
    assert (refused.value.details["line"], refused.value.details["column"]) == (7, 1)


CALLS_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[6];\nqreg r[6];\ncreg c[6];\n'
CALLS_3 = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[6] q;\nqubit[6] r;\nbit[6] c;\n'
    "input float w;\nconst float k = 0.5;\nlet pair = q[0:1];\n"
)
DEFINITIONS = (
    "gate one(t) a { rz(t) a; }", "gate turn(t) a, b { cx a, b; rz(t) b; cx a, b; }\n",
    "gate half(t, u) a { u3(t/2, -u, pi/2 - t) a; rz(0.5 + 0.25) a; rx(-t*u) a; u2(u, 0.1) a; }",
    "gate more(t, u) a, b { cu3(t, 0, u) b, a; cu(t, u, -t, 1) a, b; u3(t/2, -u, pi/2 - t) a; rx(sin(t)*u) b; }",
    "gate still a, b, c { h c; barrier a, c; ccx a, b, c; u2(0, pi) c; c3x a, b, c, c; }",
    "gate three a, b, c { h c; barrier a, c; ccx a, b, c; u2(0, pi) c; rz(-pi/4) a; }\n",
    "gate nothing a { }", "gate ignores(t) a { x a; }", "gate wastes(t) a { ignores(1/t) a; }",
    "gate root(t) a { rx(sqrt(t)) a; }", "gate fixed a { root(4) a; root(-1) a; }",
    "gate nested(t) a, b { turn(t) b, a; one(0.25) a; one(t) b; x b; }",
    "gate outer(t, u) a, b { turn(u) b, a; one(-t) a; more(0.5, t) a, b; more(2*t, u) b, a; }",
    "gate deeper(t) a, b { outer(t, 1) a, b; outer(t/3, t*t) b, a; outer(2, -pi) a, b; }",
    "gate g0 a { x a; }", "gate g1 a { g0 a; g0 a; }", "gate g2 a { g1 a; g1 a; g1 a; }", "gate g3 a { g2 a; g2 a; }",
    "gate g4 a { g3 a; g3 a; g3 a; g3 a; g3 a; g3 a; g3 a; g3 a; }",
    "gate rzz(t) a, b { cx a, b; u1(t) b; }", "gate rccx a, b, c { x c; }", "gate rz(t) a { ry(t) a; }",
)  # fmt: skip
DEFINITIONS_3 = (
    "gate phased(t) a { gphase(t); u3(t, 0, t) a; gphase(0.5); }", "gate bad_phase(t) a { gphase(1/t); x a; }",
    "gate whole(t) a { rz(t/2) a; rx(floor(t)) a; ry(t*3 % 2) a; }", "gate wholes a { whole(3) a; whole(1) a; }",
    "gate inner(t) a { whole(floor(t)) a; whole(int(t)) a; }",
    "gate under a, b { ctrl @ s a, b; inv @ t a; pow(1/2) @ z b; negctrl @ u3(1, 2, 3) a, b; }",
    "gate open(t) a, b { ctrl @ rz(t) a, b; inv @ one(t) a; }", "gate rooted a { pow(0.5) @ half(1, 2) a; }",
    "gate looped(t) a { for int i in [0:3] { rz(t*i) a; } }", "gate bare { }", "gate none(t) a { rz(t*k) a; }",
    "gate controlled(t) a, b, c { ctrl @ turn(0.5) a, b, c; turn(t) a, b; }", "gate shadow(k) a { rz(k) a; }",
    "gate count(n, t) a { rz(popcount(n)*t) a; }", "gate mixed(t) a { count(3, t) a; }",
)  # fmt: skip
CALLED = (
    *(f"{name}({value}) q[2];" for name in ("one", "ignores", "root") for value in ("0.5", "3", "1e-3", "pi/4")),
    "turn(10.410545461930019) q[0], q[1];\n", "turn(-pi/4) q[3] , q[2];", "turn(2*pi/3) r[0], q[2];", "one(-1) q[0];",
    "half(0.5, -pi) q[1];", "more(0.1,0.2) q[1],q[5];", "more( 0.5 ,\t-3*pi/4) q[1], q[2];", "three q[0], q[4], r[5];",
    "nothing q[0];", "wastes(0.5) q[3];", "nested(1.5) q[1], q[2];", "outer(1, 2) q[1], q[0];", "one(7) r[0];",
    "deeper(0.25) q[4], r[1];", "g2 q[0];", "g3 q[1];", "g4 q[2];", "rzz(0.5) q[0], q[1];", "rccx q[1], q[2], q[0];",
    "rz(0.125) q[5];", "h q[0];", "cx q[1], q[2];", "rx(pi/2) q[0];", "measure q[0] -> c[0];", "barrier q[0], q[1];",
    "one(0.5) q;", "turn(0.5) q, r;", "turn(0.5) q[0], r;", "u3(0.1, -pi/2, 2*pi) q[0];", "rccx q[1], r[2], r[0];",
    "one(0) q[0];", "one(-0.0) q[0];", "one(1.) q[0];", "one(00.5) q[0];", "one(sin(0.5)) q[0];", "one((1)) q[0];",
    "one(+1) q[0];", "one(.5) q[0];", "one(pi / 2) q[0];", "one(0.5 + 1) q[0];", "one(1/3) q[0];", "one(3.0E2)\tq[0];",
    "one(123456789012345678901234567890123456789) q[0];", "one(0.1234567890123456) r[0];", "c3x q[0],q[1],q[2],q[3];",
)  # fmt: skip
CALLED_3 = (
    "phased(0.5) q[0];", "whole(3) q[1];", "whole(2.5) q[1];", "wholes q[0];", "inner(2.5) q[0];", "under q[0], q[1];",
    "open(0.5) q[0], q[1];", "looped(0.5) q[0];", "bare;", "none(2) q[0];", "controlled(1) q[0], q[1], q[2];",
    "ctrl @ one(0.5) q[0], q[1];", "inv @ turn(0.5) q[0], q[1];", "pow(2) @ g1 q[0];", "one(k) q[0];", "one(w) q[0];",
    "turn(2*w) q[0], q[1];", "one(k*pi) q[1];", "one(0.5) pair;", "one(0.5) pair[0];", "turn(1) pair[0], pair[1];",
    "{ const float k = 0.25; one(k) q[0]; }", "{ gate late a { z a; } late q[1]; }", "late q[0];", "shadow(2) q[0];",
    "for int i in [0:2] { one(i) q[i]; }", "for int i in [0:2] { one(0.5) q[0]; }", "if (c[0]) { one(0.5) q[0]; }",
    "if (c[0]) { g3 q[0]; nothing q[1]; }", "if (c[0]) { nothing q[1]; }", "if (c[0]) one(0.5) q[0];", "one(-0) q[0];",
    "if (c[0]) nothing q[0]; else g1 q[0];", "if (c[0]) { g1 q[0]; } else { h q[0]; }", "box { g3 q[0]; }",
    "c[0] = measure q[0];", "one(1_000) q[0];", "one(0x1f) q[0];", "half(0.5, w) q[0];", "one(0.5) q[0:2];",
    "one(tau/4) q[0];", "one(0*pi) q[0];", "one(-0*pi) q[0];", "rz(-0*pi) q[0]; one(-0*pi) q[0];",
    "one(k) q[0]; { const float k = 0.25; one(k) q[0]; } one(k) q[0];",
)  # fmt: skip
CALLED_2 = (
    "if(c==1) one(0.5) q[0];", "if(c==1) g3 q[0];", "u0(1) q[0];", "delay(100) q[1];", "rc3x q[0],q[1],q[2],q[3];",
    "rccx r[0],r[1],r[2];", "one(-0) q[0];", "one(01) q[0];", "one(0*pi) q[0];", "one(-0*pi) q[0];", "one(2^3) q[0];",
)  # fmt: skip
FAULTY = (
    "one(0.5) q[0], q[1];", "one q[0];", "one() q[0];", "one(1, 2) q[0];", "three(1) q[0], q[1], q[2];",
    "turn(0.5) q[1], q[1];", "turn(0.5) q[0], q[6];", "one(0.5) nowhere[0];", "unknown(0.5) q[0];", "one(1e400) q[0];",
    "one(1/0) q[0];", "one(1/0) nowhere[0];", "one(x) q[0];", "wastes(0) q[0];", "root(-1) q[0];", "fixed q[0];",
    "one(0.5) q[0]", "one(0.5 q[0];", "one(01) q[0];", "one(-01) q[0];", "one(01*pi) q[0];", "more(1, 01) q[0], q[1];",
    "rz(01*pi) q[0]; one(01*pi) q[0];", "rx(01) q[0]; one(01) q[0];", "one(0.5) // a\n q[0];", "one(0.5 /*\n*/) q[0];",
    "one(0.5)q[0];", "one (0.5) q[0];", "one(0.5) q[0] // ;\n;", "one(0.5, ) q[0];", "one(0.\n5) q[0];", "bare q[0];",
    "opaque one(t) a;", "opaque rccx a,b,c;", "opaque dark a;", "dark q[0];", "gate one a { x a; }", "late q[0];",
    "turn(0.5) q, c;", "turn(0.5) q[0], c[0];", "bit[3] rccx;", "qreg one[2];", "one(1,0.5//2\n) q[0];",
    "bad_phase(0) q[0];", "bad_phase(1) q[0];", "rooted q[0];", "one(--1) q[0];", "one(é) q[0];", "one(0.5) é;",
    "one(0.5//2) q[0];\n) q[1];", "one(0.5/*) q[0]; */) q[1];", "opaque rccx a,b,c; rccx q[0],q[1],q[2];", "bare q;",
    "rccx q[0],q[1],q[2]; gate rccx a, b, c { x c; } rccx q[0],q[1],q[2];", "mixed(0.5) q[0];",
    "one(0.5) q[03];", "turn(0.5) q[0], q[00];", "h q[03]; one(0.5) q[03];", "one(0.5) $0;", "one(0.5) q[ 0 ];",
)  # fmt: skip


def exactly(text: str, limits: ParseLimits) -> str:
    """Return all there is to a program, bit by bit, or to an error."""
    try:
        found = parse(text, limits)
        program = found.bind(dict.fromkeys(found.parameters, 0.375), counted=False)
    except QedgeError as error:
        return f"{error.code} {error.message} {error.details}"
    circuit = program.circuit
    rest = (circuit.num_qubits, circuit.num_clbits, circuit.conditions, program.registers, found.measured)
    return f"{circuit.ops} {rest}"


def agree(text: str, limits: ParseLimits) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain.PlainRun, "_call", lambda *_: None)
        expected = exactly(text, limits)
    assert exactly(text, limits) == expected


@cache
def known_gates(version: int) -> str:
    """Return a head with all definitions that are right on their own, and no library gate redefined."""
    head, more = (CALLS_2, ()) if version == 2 else (CALLS_3, DEFINITIONS_3)
    for each in DEFINITIONS + more:
        if "rz" in each.split("(")[0] or "rccx" in each:
            continue
        try:
            parse(head + each, LIMITS)
        except QedgeError:
            continue
        head += each
    return head


def program(version: int) -> st.SearchStrategy[str]:
    """Return programs of one version that define gates and call them, mostly rightly."""
    head, more, called = (CALLS_2, (), CALLED_2) if version == 2 else (CALLS_3, DEFINITIONS_3, CALLED_3)
    gates = st.one_of(
        st.just([known_gates(version)[len(head) :]]),
        st.just(list(DEFINITIONS[:2])),
        st.lists(st.sampled_from(DEFINITIONS + more), max_size=8, unique=True),
    )
    calls = st.sampled_from(CALLED + called)
    lines = st.lists(st.one_of(calls, calls, st.sampled_from(PLAIN)), max_size=30)
    odd = st.one_of(st.just([]), st.lists(st.sampled_from(FAULTY + DEFINITIONS + more), max_size=2))
    return st.tuples(gates, lines, odd, lines).map(lambda parts: head + "".join(chain.from_iterable(parts)))


LIMITED = st.one_of(
    st.just(ParseLimits()),
    st.builds(ParseLimits, max_operations=st.integers(1, 300)),
    st.builds(
        ParseLimits,
        max_gate_nesting=st.sampled_from((64, 2, 1)),
        max_expression_depth=st.sampled_from((64, 2, 1)),
        max_number_chars=st.sampled_from((400, 16)),
    ),
)


@given(st.one_of(program(2), program(3)), LIMITED)
@settings(max_examples=600)
def test_calls_of_defined_gates_are_the_same_in_a_run_and_alone(text: str, limits: ParseLimits) -> None:
    agree(text, limits)


@pytest.mark.parametrize("version", [2, 3])
def test_each_call_is_the_same_in_a_run_and_alone(version: int) -> None:
    head = known_gates(version)
    for call in (*CALLED, *(CALLED_2 if version == 2 else CALLED_3), *FAULTY):
        agree(f"{head}h q[0];\n{call}\nh q[0];", LIMITS)
        agree(f"{head}{call * 2}{'cx q[0], q[1]; ' * 9}{call}", LIMITS)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("call", ["turn(0.5) q[0], q[1];", "deeper(0.25) q[0], q[1];", "g4 q[0];", "nothing q[0];"])
def test_calls_cost_the_same_in_a_run_and_alone(version: int, call: str) -> None:
    text = known_gates(version) + call * 3 + "h q[0];" + call
    enough = next(
        limit for limit in range(1, 2000) if not exactly(text, ParseLimits(max_operations=limit)).startswith("circuit")
    )
    for limit in range(max(1, enough - 40), enough + 2):
        agree(text, ParseLimits(max_operations=limit))


@pytest.mark.parametrize("version", [2, 3])
def test_repeated_calls_keep_the_sign_of_zero_outside_of_runs_too(version: int) -> None:
    text = known_gates(version) + "one(-0.0) q[0];one(0.0) q[0];one(-0.0) q[0];one(0.0) q[0];"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain.PlainRun, "_call", lambda *_: None)
        found = parse(text, LIMITS)
    ops = found.bind(dict.fromkeys(found.parameters, 0.0), counted=False).circuit.ops
    assert [str(params) for _, _, params, _ in ops] == ["(-0.0,)", "(0.0,)"] * 2


@pytest.mark.parametrize("version", [2, 3])
def test_a_gate_that_grows_without_bound_is_refused_in_a_run_before_it_grows(version: int) -> None:
    gates = "gate d0 a { x a; }" + "".join(f"gate d{n} a {{ d{n - 1} a; d{n - 1} a; }}" for n in range(1, 60))
    text = (CALLS_2 if version == 2 else CALLS_3) + gates + "h q[0];\nd3 q[0]; d59 q[0];"
    with pytest.raises(QedgeError, match="more than 200000 operations") as refused:
        parse(text, ParseLimits())
    assert (refused.value.details["line"], refused.value.details["column"]) == (text.count("\n") + 1, 10)


@pytest.mark.parametrize("version", [2, 3])
def test_expressions_in_expressions_do_not_grow_with_each_gate(version: int) -> None:
    gates = "gate e0(t) a { rz(t+t) a; }" + "".join(f"gate e{n}(t) a {{ e{n - 1}(t+t) a; }}" for n in range(1, 60))
    agree((CALLS_2 if version == 2 else CALLS_3) + gates + "h q[0];e59(0.5) q[0];e2(0.5) q[1];", LIMITS)


@pytest.mark.parametrize("version", [2, 3])
def test_calls_of_defined_gates_with_numbers_are_plain_statements(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = (
        "turn(10.410545461930019) q[0], q[1];\nmore(-pi/4, 2) q[1],q[2]; three q[0], q[1], q[2];nested(3) q[0],q[1];"
    )
    expected = exactly(known_gates(version) + calls, LIMITS)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Operations, "call", refuse)
    monkeypatch.setattr(parser_2._Parser, "_call", refuse)
    assert exactly(known_gates(version) + calls, LIMITS) == expected
