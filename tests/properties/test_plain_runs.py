"""Long runs of plain statements are read by another way than short ones: both give the same circuit or error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.front_end import parse
from qedge.engine.qasm import plain
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.template import Template

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
