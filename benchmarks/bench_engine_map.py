"""Two-qubit gates that programs need on devices of few couplings: ours, qiskit's level 3, tket.

All that mqt-bench makes of 10 qubits, OpenQASM 2 can say and 10 to 400 two-qubit gates suffice for, on devices that
couple all qubits, a line and a grid of 2 × 5, in gates on one qubit and CX. Counts do not depend on the machine.

`engine.map_*_pairs`: all two-qubit gates together; the baseline is qiskit's level 3 with one seed.
`engine.map_*_worst`: the circuit for which ours is the worst multiple of qiskit's. `engine.map_*_vs_tket`: geometric
mean of ours over tket's, for which QEDGE_TKET_PYTHON names an interpreter that has pytket (in a process of its own:
with qiskit and cirq in one it has crashed); without it these figures are left out, and standard error says so.
`engine.map_ms`: median CPU time of mapping one circuit to the line or grid; baseline: one run of qiskit's level 3. With
QEDGE_MAP_LIST set, the counts of every circuit go to standard error: ours, qiskit's, tket's.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.report import Figure
from qedge.engine.front_end import parse
from qedge.engine.mapping import fits, map_to
from qedge.engine.qasm.model import ParseLimits
from qedge_driver_api import FlatCircuit

QUBITS = 10
COUPLINGS: dict[str, tuple[tuple[int, int], ...]] = {
    "all": (),
    "line": tuple((i, i + 1) for i in range(QUBITS - 1)),
    "grid": tuple((i, i + 1) for i in range(QUBITS - 1) if i != 4) + tuple((i, i + 5) for i in range(5)),
}
FEWEST, MOST = 10, 400
TKET = """
import json, sys
from pytket import OpType
from pytket.architecture import Architecture
from pytket.passes import CliffordSimp, DecomposeBoxes, DefaultMappingPass, FullPeepholeOptimise, SequencePass
from pytket.passes import SynthesiseTket
from pytket.qasm import circuit_from_qasm_str
for line in sys.stdin:
    text, coupling = json.loads(line)
    circuit = circuit_from_qasm_str(text, maxwidth=64)
    passes = [DecomposeBoxes(), FullPeepholeOptimise()]
    if coupling:
        passes += [DefaultMappingPass(Architecture([tuple(pair) for pair in coupling]))]
        passes += [FullPeepholeOptimise(allow_swaps=False), CliffordSimp(allow_swaps=False), SynthesiseTket()]
    SequencePass(passes).apply(circuit)
    print(circuit.n_2qb_gates(), flush=True)
"""


def programs() -> Iterator[tuple[str, str]]:
    """Yield `(name, OpenQASM 2)`, in qiskit's gates on one qubit and CX, so that all read the same."""
    bench = importlib.import_module("mqt.bench")
    listed = importlib.import_module("mqt.bench.benchmarks")
    qiskit, qasm2 = importlib.import_module("qiskit"), importlib.import_module("qiskit.qasm2")
    for name in listed.get_available_benchmark_names():
        try:
            circuit = bench.get_benchmark(name, level=bench.BenchmarkLevel.INDEP, circuit_size=QUBITS)
            circuit = qiskit.transpile(circuit, basis_gates=["u1", "u2", "u3", "cx"], optimization_level=0)
            text = qasm2.dumps(circuit)
        except Exception:  # noqa: BLE001, S112 # some families have no circuit of this size, or none in this language
            continue
        if FEWEST <= text.count("\ncx ") <= MOST and circuit.num_qubits <= QUBITS:
            yield name, text


def ours(text: str, coupling: tuple[tuple[int, int], ...]) -> int:
    """Map a program; return its two-qubit gates."""
    circuit: FlatCircuit = parse(text, ParseLimits()).bind({}, measure_all=True).circuit
    mapped = map_to(circuit, coupling, QUBITS)
    assert fits(mapped.circuit, coupling, QUBITS)
    return mapped.pairs_after


def theirs(text: str, coupling: tuple[tuple[int, int], ...]) -> int:
    """Do the same with qiskit alone."""
    qiskit, qasm2 = importlib.import_module("qiskit"), importlib.import_module("qiskit.qasm2")
    transpiler = importlib.import_module("qiskit.transpiler")
    both = [edge for one, other in coupling for edge in ((one, other), (other, one))]
    found: Any = qiskit.transpile(
        qasm2.loads(text),
        basis_gates=["u", "cx"],
        coupling_map=transpiler.CouplingMap(both) if both else None,
        optimization_level=3,
        seed_transpiler=0,
    )
    return sum(1 for row in found.data if row.operation.name == "cx")


def tkets(asked: list[tuple[str, tuple[tuple[int, int], ...]]]) -> list[int]:
    """Do the same with tket; nothing where it is not there."""
    python = os.environ.get("QEDGE_TKET_PYTHON", "")
    if not python:
        print("engine-map: QEDGE_TKET_PYTHON is not set, so tket is left out", file=sys.stderr)
        return []
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    ran = subprocess.run([python, "-c", TKET], input=lines, capture_output=True, text=True, check=True, timeout=1800)
    return [int(line) for line in ran.stdout.split()]


def timed(
    call: Callable[[str, tuple[tuple[int, int], ...]], int], text: str, coupling: tuple[tuple[int, int], ...]
) -> tuple[int, float]:
    """Return what a call gives, and its milliseconds of CPU time."""
    began = time.process_time()
    found = call(text, coupling)
    return found, (time.process_time() - began) * 1e3


def run() -> list[Figure]:
    """Map everything."""
    warnings.simplefilter("ignore")
    known = list(programs())
    asked = [(text, coupling) for coupling in COUPLINGS.values() for _, text in known]
    by_tket = tkets(asked)
    ours(*asked[0]), theirs(*asked[0])  # loads what both need
    figures, our_ms, their_ms = [], [], []
    for number, (label, coupling) in enumerate(COUPLINGS.items()):
        mine, qiskits = [], []
        for _, text in known:
            one, one_ms = timed(ours, text, coupling)
            other, other_ms = timed(theirs, text, coupling)
            mine.append(one)
            qiskits.append(other)
            if coupling:
                our_ms.append(one_ms)
                their_ms.append(other_ms)
            if os.environ.get("QEDGE_MAP_LIST"):
                beside = by_tket[len(known) * number + len(mine) - 1] if by_tket else ""
                print(label, known[len(mine) - 1][0], one, other, beside, file=sys.stderr)
        name, samples = f"engine.map_{label}", len(known)
        figures.append(Figure(f"{name}_pairs", sum(mine), "gates", samples, sum(qiskits), sum(qiskits)))
        worst = max(one / other for one, other in zip(mine, qiskits, strict=True))
        figures.append(Figure(f"{name}_worst", worst, "×", samples, 1.0))
        if by_tket:
            beside = by_tket[number * samples : (number + 1) * samples]
            logs = [math.log(max(1, one) / max(1, other)) for one, other in zip(mine, beside, strict=True)]
            figures.append(Figure(f"{name}_vs_tket", math.exp(statistics.fmean(logs)), "×", samples))
    figures.append(
        Figure("engine.map_ms", statistics.median(our_ms), "ms", len(our_ms), None, statistics.median(their_ms))
    )
    return figures
