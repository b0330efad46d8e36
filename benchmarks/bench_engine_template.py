"""Templates: the same program again with other numbers, and a sweep of expectation values.

`engine.template_rerun_ms`: one call of a warm circuit worker process: 10 qubits, 250 gates of which 100 turn by inputs,
1000 shots, other values every time. `engine.sweep50_ms`: one call for 50 points of QAOA with two layers on 15 edges of
10 qubits, the exact value of the cost at each. Baseline of both: qsimcirq with resolved parameters, in the same rounds
(see `benchmarks.report`).
"""

from __future__ import annotations

import os
import random
import statistics
import time
from typing import Any

import msgspec
import uvloop

from benchmarks.report import ROUNDS, Figure, Machine, quietest
from qedge.base.system_clock import SystemClock
from qedge.wire.tasks import ExpectationTask
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

QUBITS = 10
DEPTH = 10
SHOTS = 1000
COUNT = 200
SWEEPS = 20
RIVAL_COUNT = 5
POINTS = 50
TARGET = "qedge.engine.circuit_host:CircuitHost"
INIT = {"driver": "sim_qpu", "instance": "qpu", "settings": {}, "state_dir": ""}
EDGES = [(i, (i + 1) % QUBITS) for i in range(QUBITS)] + [(i, i + 5) for i in range(5)]


def template() -> tuple[str, list[str]]:
    """Return a brickwork program with an input per RX, and the names of the inputs."""
    chance = random.Random(1)
    names = [f"t{layer}_{qubit}" for layer in range(DEPTH) for qubit in range(QUBITS)]
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";', *(f"input float {name};" for name in names)]
    lines += [f"qubit[{QUBITS}] q;", f"bit[{QUBITS}] c;"]
    for layer in range(DEPTH):
        for qubit in range(QUBITS):
            lines.append(f"rz({chance.uniform(-3, 3):.12f}) q[{qubit}];")
            lines.append(f"rx(t{layer}_{qubit}) q[{qubit}];")
        lines += [f"cz q[{qubit}], q[{qubit + 1}];" for qubit in range(layer % 2, QUBITS - 1, 2)]
    return "\n".join([*lines, "c = measure q;"]), names


def qaoa() -> str:
    """Return QAOA with two layers as a program with four inputs."""
    lines = [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        "input float g0; input float b0; input float g1; input float b1;",
    ]
    lines += [f"qubit[{QUBITS}] q;", "h q;"]
    for layer in (0, 1):
        lines += [f"rzz(2 * g{layer}) q[{i}], q[{j}];" for i, j in EDGES]
        lines += [f"rx(2 * b{layer}) q[{i}];" for i in range(QUBITS)]
    return "\n".join(lines)


class Ours:
    """Re-runs and sweeps by a warm worker; each returns milliseconds."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._chance = random.Random(2)
        self._text, self._names = template()
        self._seed = 0

    async def _call(self, args: dict[str, Any]) -> tuple[float, Any]:
        self._seed += 1
        started = time.perf_counter()
        answer: Any = await self._process.call("run", {**args, "seed": self._seed}, deadline_s=30)
        return (time.perf_counter() - started) * 1e3, answer

    async def rerun(self) -> float:
        """Run the template with other values."""
        values = {name: self._chance.uniform(-3, 3) for name in self._names}
        return (await self._call({"program": self._text, "shots": SHOTS, "parameters": values}))[0]

    async def sweep(self) -> float:
        """Sweep QAOA over other points."""
        inputs = ("g0", "b0", "g1", "b1")
        points = {name: tuple(self._chance.uniform(-1, 1) for _ in range(POINTS)) for name in inputs}
        observable = {f"Z{i} Z{j}": 1.0 for i, j in EDGES}
        task = msgspec.to_builtins(ExpectationTask((observable,), sweep=points))
        took_ms, answer = await self._call({"program": qaoa(), "shots": 1, "task": task})
        assert len(answer["data"]["values"]) == POINTS
        return took_ms


async def measure(machine: Machine) -> dict[str, list[list[float]]]:
    """Return the milliseconds of re-runs and of sweeps, ours and the rival's, of each round."""
    found: dict[str, list[list[float]]] = {name: [] for name in ("rerun", "sweep", "rival_rerun", "rival_sweep")}
    process = WorkerProcess(WorkerSpec("qpu", TARGET, INIT), clock=SystemClock(), random_bytes=os.urandom)
    try:
        await process.start()
        await process.call("open", {}, deadline_s=30)
        await process.call("warm", {}, deadline_s=60)
        ours = Ours(process)
        for _ in range(20):
            await ours.rerun()
        for _ in range(3):
            await ours.sweep()
        for _ in range(ROUNDS):
            machine.look()
            found["rerun"].append([await ours.rerun() for _ in range(COUNT)])
            found["sweep"].append([await ours.sweep() for _ in range(SWEEPS)])
            reruns, sweeps = rivals()
            found["rival_rerun"].append(reruns)
            found["rival_sweep"].append(sweeps)
    finally:
        await process.close()
    return found


def rivals() -> tuple[list[float], list[float]]:
    """Return qsimcirq's milliseconds for re-runs and for a sweep."""
    import cirq
    import qsimcirq
    import sympy

    qubits = cirq.LineQubit.range(QUBITS)
    chance = random.Random(1)
    circuit = cirq.Circuit()
    for layer in range(DEPTH):
        for index, qubit in enumerate(qubits):
            circuit.append([cirq.rz(chance.uniform(-3, 3))(qubit), cirq.rx(sympy.Symbol(f"t{layer}_{index}"))(qubit)])
        circuit.append(cirq.CZ(qubits[i], qubits[i + 1]) for i in range(layer % 2, QUBITS - 1, 2))
    circuit.append(cirq.measure(*qubits))
    simulator = qsimcirq.QSimSimulator(seed=1)
    times = []
    for _ in range(RIVAL_COUNT):
        resolver = {f"t{layer}_{index}": chance.uniform(-3, 3) for layer in range(DEPTH) for index in range(QUBITS)}
        started = time.perf_counter()
        simulator.run(circuit, resolver, repetitions=SHOTS)
        times.append((time.perf_counter() - started) * 1e3)
    ansatz = cirq.Circuit(cirq.H.on_each(*qubits))
    for layer in (0, 1):
        gamma, beta = sympy.Symbol(f"g{layer}"), sympy.Symbol(f"b{layer}")
        ansatz.append(cirq.ZZPowGate(exponent=2 * gamma / sympy.pi).on(qubits[i], qubits[j]) for i, j in EDGES)
        ansatz.append(cirq.rx(2 * beta).on_each(*qubits))
    cost = sum((cirq.Z(qubits[i]) * cirq.Z(qubits[j]) for i, j in EDGES), cirq.PauliSum())
    points = [{name: chance.uniform(-1, 1) for name in ("g0", "b0", "g1", "b1")} for _ in range(POINTS)]
    started = time.perf_counter()
    simulator.simulate_expectation_values_sweep(ansatz, [cost], points)
    return times, [(time.perf_counter() - started) * 1e3]


def run() -> list[Figure]:
    """Measure both, and what qsimcirq takes."""
    machine = Machine()
    found = {name: statistics.median(quietest(each)) for name, each in uvloop.run(measure(machine)).items()}
    return [
        Figure("engine.template_rerun_ms", found["rerun"], "ms", COUNT, 0.6, found["rival_rerun"]),
        Figure("engine.sweep50_ms", found["sweep"], "ms", SWEEPS, 10, found["rival_sweep"]),
        machine.figure(),
    ]
