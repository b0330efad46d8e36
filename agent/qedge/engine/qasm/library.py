"""The gates known without a definition: those of qelib1.inc and those that circuit tools write undeclared.

`U` of OpenQASM 2 is Rz(φ)·Ry(θ)·Rz(λ) and differs from `Gate.U` by a global phase, which no OpenQASM 2 program can see:
the language has no control modifier, and its controlled `cu1`, `cu3` and `cu` are gates of their own (P, U as matrices
[[cos θ/2, −e^{iλ} sin θ/2], [e^{iφ} sin θ/2, e^{i(φ+λ)} cos θ/2]] under a control).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from qedge_driver_api import Gate


class Native(NamedTuple):
    """A gate that is one flat operation: `gate` with `controls` added, `fixed` parameters before the given ones.

    `num_qubits` and `num_params` are what the program has to write.
    """

    gate: int
    num_qubits: int
    num_params: int
    controls: int = 0
    fixed: tuple[float, ...] = ()
    trailing: tuple[float, ...] = ()


def _plain(gate: Gate, num_qubits: int, num_params: int = 0, controls: int = 0) -> Native:
    return Native(int(gate), num_qubits, num_params, controls)


NATIVE: Final[Mapping[str, Native]] = {
    "U": _plain(Gate.U, 1, 3),
    "CX": _plain(Gate.CX, 2),
    "u3": _plain(Gate.U, 1, 3),
    "u": _plain(Gate.U, 1, 3),
    "u2": Native(int(Gate.U), 1, 2, fixed=(math.pi / 2,)),
    "u1": _plain(Gate.P, 1, 1),
    "p": _plain(Gate.P, 1, 1),
    "id": _plain(Gate.ID, 1),
    "x": _plain(Gate.X, 1),
    "y": _plain(Gate.Y, 1),
    "z": _plain(Gate.Z, 1),
    "h": _plain(Gate.H, 1),
    "s": _plain(Gate.S, 1),
    "sdg": _plain(Gate.SDG, 1),
    "t": _plain(Gate.T, 1),
    "tdg": _plain(Gate.TDG, 1),
    "sx": _plain(Gate.SX, 1),
    "sxdg": _plain(Gate.SXDG, 1),
    "rx": _plain(Gate.RX, 1, 1),
    "ry": _plain(Gate.RY, 1, 1),
    "rz": _plain(Gate.RZ, 1, 1),
    "cx": _plain(Gate.CX, 2),
    "cy": _plain(Gate.CY, 2),
    "cz": _plain(Gate.CZ, 2),
    "ch": _plain(Gate.CH, 2),
    "csx": _plain(Gate.SX, 2, controls=1),
    "cp": _plain(Gate.CP, 2, 1),
    "cu1": _plain(Gate.CP, 2, 1),
    "crx": _plain(Gate.CRX, 2, 1),
    "cry": _plain(Gate.CRY, 2, 1),
    "crz": _plain(Gate.CRZ, 2, 1),
    "cu": _plain(Gate.CU, 2, 4),
    "cu3": Native(int(Gate.CU), 2, 3, trailing=(0.0,)),
    "swap": _plain(Gate.SWAP, 2),
    "iswap": _plain(Gate.ISWAP, 2),
    "rxx": _plain(Gate.RXX, 2, 1),
    "ryy": _plain(Gate.RYY, 2, 1),
    "rzz": _plain(Gate.RZZ, 2, 1),
    "ccx": _plain(Gate.CCX, 3),
    "ccz": _plain(Gate.CCZ, 3),
    "cswap": _plain(Gate.CSWAP, 3),
    "c3x": _plain(Gate.X, 4, controls=3),
    "c3sqrtx": _plain(Gate.SX, 4, controls=3),
    "c4x": _plain(Gate.X, 5, controls=4),
}

COMPOSITE: Final[Mapping[str, str]] = {
    "u0": "gate u0(cycles) a { id a; }",
    "delay": "gate delay(duration) a { id a; }",
    # Toffoli gates that are right up to relative phases (Maslov, arXiv:1508.03273, figures 3 and 4)
    "rccx": "gate rccx a,b,t { h t; t t; cx b,t; tdg t; cx a,t; t t; cx b,t; tdg t; h t; }",
    "rc3x": (
        "gate rc3x a,b,c,t { h t; t t; cx c,t; tdg t; h t; cx a,t; t t; cx b,t; tdg t; cx a,t; t t; cx b,t; tdg t; "
        "h t; t t; cx c,t; tdg t; h t; }"
    ),
}
"""Definitions in the language itself, read when first used."""

KEYWORDS: Final = frozenset(
    {
        "OPENQASM",
        "include",
        "qreg",
        "creg",
        "gate",
        "opaque",
        "barrier",
        "measure",
        "reset",
        "if",
        "pi",
        "sin",
        "cos",
        "tan",
        "exp",
        "ln",
        "sqrt",
    }
)
"""Names that a program may not declare."""

QASM3_WORDS: Final = frozenset(
    {
        "qubit",
        "bit",
        "let",
        "const",
        "input",
        "output",
        "for",
        "while",
        "def",
        "defcal",
        "cal",
        "switch",
        "ctrl",
        "negctrl",
        "inv",
        "pow",
        "gphase",
        "box",
        "extern",
        "return",
        "else",
        "angle",
        "float",
        "int",
        "uint",
        "bool",
        "duration",
        "stretch",
    }
)
"""Words that start a statement of OpenQASM 3 only; named in the refusal."""
