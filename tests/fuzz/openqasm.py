"""`python -m tests.fuzz.openqasm [SECONDS]`: a coverage-guided run of the parsers of programs (needs `atheris`).

Every input has to end as a program that keeps the rules of the flat form, or as an error `circuit.*` with a place in
the text, within a second or so. Executions and covered edges are printed at the end; an input that breaks the promise
is kept in the folder and named.
"""

from __future__ import annotations

import re
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["qedge.engine"]):
    from qedge.engine.front_end import parse
    from qedge.engine.qasm.model import ParseLimits

from qedge.base.errors import QedgeError
from qedge_driver_api import check_circuit
from tests.fuzz.course import run

ROOT = Path(__file__).resolve().parents[2]
LIMITS = ParseLimits(max_text_bytes=1 << 14, max_operations=2_000, max_qubits=200, max_clbits=200)
MOMENT = '{"cirq_type": "Circuit", "moments": [{"cirq_type": "Moment", "operations": [{"cirq_type": "GateOperation",'
QUBITS = '"qubits": [{"cirq_type": "LineQubit", "x": 0}, {"cirq_type": "LineQubit", "x": 1}]}]}]}'
CXPOW = '"CXPowGate", "exponent": {"cirq_type": "sympy.Symbol", "name": "t"}, "global_shift": 0.5'
MATRIX = '"MatrixGate", "matrix": [[1, 0], [0, {"cirq_type": "complex", "real": 0, "imag": 1}]]'
CIRCUITS = tuple(
    f'{MOMENT} "gate": {{"cirq_type": {gate}}}, {QUBITS}'
    for gate in (CXPOW, MATRIX, '"MeasurementGate", "num_qubits": 2, "key": "m", "invert_mask": [true]')
)
"""Circuits of cirq, as far as its own form goes."""
HEADS = ("", 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4]; creg c[4];\n', "OPENQASM 3.0;\nqubit[4] q; bit[4] c;\n")
WORDS = (
    'OPENQASM include "stdgates.inc" "qelib1.inc" qreg creg qubit bit input output const let float angle '
    "int uint gate opaque barrier reset measure if else for in while box delay nop ctrl negctrl inv pow "
    "gphase U CX h x cx rz cu3 ccx pi tau sin sqrt @ ** ++ && || == -> { } [ ] ( ) ; , : = $0 $1 q[0] "
    "c[0] 1e400 0x1f 1_000 -1 true false // /* */ "
)


def check(data: bytes) -> None:
    """Parse one input; whatever is neither a program nor a clear error gets out."""
    if not data:
        return
    text = HEADS[data[0] % len(HEADS)] + data[1:].decode("utf-8", "surrogateescape")
    try:
        template = parse(text, LIMITS)
        values = dict.fromkeys(template.parameters, 0.5)
        check_circuit(template.bind(values, measure_all=True).circuit)
    except QedgeError as error:
        if not error.code.startswith("circuit."):
            raise
        placed = "line" in error.details or "moment" in error.details or error.message.startswith("In the circuit")
        if error.code not in ("circuit.no_measurement", "circuit.unbound_parameter") and not placed:
            raise AssertionError(f"no place in {error.message}") from error


def seeds(folder: Path) -> None:
    """Write what to begin with: the programs of the guides and of the parsers' own tests, and single words."""
    texts = WORDS.split()
    for guide in (ROOT / "docs" / "guides").glob("*.md"):
        texts += re.findall(r"^```qasm[^\n]*\n(.*?)^```", guide.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for test in (ROOT / "tests" / "unit" / "engine").glob("test_qasm*.py"):
        texts += re.findall(r'"([^"\n]{8,400};[^"\n]*)"', test.read_text("utf-8"))
    for number, text in enumerate(CIRCUITS):
        (folder / f"cirq-{number}").write_bytes(b"\0" + text.encode())
    for number, text in enumerate(texts):
        for head in range(len(HEADS)):
            (folder / f"{number}-{head}").write_bytes(bytes([head]) + text.encode())


if __name__ == "__main__":
    run(check, seeds, most_bytes=2048, words=WORDS)
