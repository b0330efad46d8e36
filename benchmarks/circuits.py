"""Programs that benchmarks run: the same shape every time, other numbers every time, so that no cache answers."""

from __future__ import annotations

import random


def brickwork(num_qubits: int, depth: int, seed: int, *, version: int = 2) -> str:
    """Return RZ, RX and a CZ brickwork: `depth` layers, all qubits measured."""
    chance = random.Random(seed)
    n = num_qubits
    if version == 2:
        lines = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{n}];", f"creg c[{n}];"]
    else:
        lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', f"qubit[{n}] q;", f"bit[{n}] c;"]
    for layer in range(depth):
        for qubit in range(n):
            lines.append(f"rz({chance.uniform(-3, 3):.12f}) q[{qubit}];")
            lines.append(f"rx({chance.uniform(-3, 3):.12f}) q[{qubit}];")
        lines += [f"cz q[{qubit}], q[{qubit + 1}];" for qubit in range(layer % 2, n - 1, 2)]
    lines.append("measure q -> c;" if version == 2 else "c = measure q;")
    return "\n".join(lines) + "\n"
