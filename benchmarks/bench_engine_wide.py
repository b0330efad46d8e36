"""Circuits beyond state vectors: Clifford circuits of 100 and 1000 qubits, matrix products of 100.

Each figure is one call of a warm circuit worker process, program text in and counts out, other numbers every time.
`engine.clifford100_ms` is a job whose program the worker has parsed for its estimate, as it always has: the slower of
GHZ and a random Clifford circuit of depth 20, 1000 shots. `engine.mps100_ms`: RY and CZ brickwork of depth 8, 100
shots; its baseline is the matrix product method of Aer in the same run, where installed.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import statistics
import time
from typing import Any

import uvloop

from benchmarks.report import Figure
from qedge.base.system_clock import SystemClock
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

COUNT = 30
TARGET = "qedge.engine.circuit_host:CircuitHost"
INIT = {"driver": "sim_qpu", "instance": "qpu", "settings": {"qubits": 1000}, "state_dir": ""}
HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def ghz(qubits: int, seed: int) -> str:
    """Return a GHZ circuit along a random order of the qubits."""
    order = random.Random(seed).sample(range(qubits), qubits)
    pairs = "".join(f"cx q[{one}],q[{other}];\n" for one, other in itertools.pairwise(order))
    return f"{HEAD}qreg q[{qubits}];\ncreg c[{qubits}];\nh q[{order[0]}];\n{pairs}measure q -> c;\n"


def clifford(qubits: int, depth: int, seed: int) -> str:
    """Return layers of random one-qubit Clifford gates and CX on random pairs."""
    chance = random.Random(seed)
    lines = [f"{HEAD}qreg q[{qubits}];\ncreg c[{qubits}];"]
    for _ in range(depth):
        lines += [f"{chance.choice(('h', 's', 'sx', 'x'))} q[{qubit}];" for qubit in range(qubits)]
        order = chance.sample(range(qubits), qubits)
        lines += [f"cx q[{order[i]}],q[{order[i + 1]}];" for i in range(0, qubits - 1, 2)]
    return "\n".join([*lines, "measure q -> c;\n"])


def brickwork(qubits: int, depth: int, seed: int) -> str:
    """Return RY and a CZ brickwork."""
    chance = random.Random(seed)
    lines = [f"{HEAD}qreg q[{qubits}];\ncreg c[{qubits}];"]
    for layer in range(depth):
        lines += [f"ry({chance.uniform(-3, 3):.12f}) q[{qubit}];" for qubit in range(qubits)]
        lines += [f"cz q[{qubit}],q[{qubit + 1}];" for qubit in range(layer % 2, qubits - 1, 2)]
    return "\n".join([*lines, "measure q -> c;\n"])


async def calls(
    process: WorkerProcess, texts: list[str], shots: int, method: str
) -> tuple[float, dict[str, Any], float]:
    """Return the median milliseconds of a call, its last metadata, and the median with parsing and estimating."""
    times, texts_too = [], []
    metadata: dict[str, Any] = {}
    for index, text in enumerate(texts):
        args: dict[str, Any] = {"program": text, "shots": shots, "seed": index, "limits": {}}
        began = time.perf_counter()
        await process.call("prepare", args, deadline_s=60)
        started = time.perf_counter()
        answer: Any = await process.call("run", args, deadline_s=60)
        times.append((time.perf_counter() - started) * 1e3)
        texts_too.append((time.perf_counter() - began) * 1e3)
        metadata = answer["metadata"]
        assert metadata["method"] == method, metadata
    return statistics.median(times[2:]), metadata, statistics.median(texts_too[2:])


async def measure() -> dict[str, tuple[float, dict[str, Any], float]]:
    """Run all kinds of circuits in one worker."""
    process = WorkerProcess(WorkerSpec("qpu", TARGET, INIT), clock=SystemClock(), random_bytes=os.urandom)
    try:
        await process.start()
        await process.call("open", {}, deadline_s=30)
        await process.call("warm", {}, deadline_s=60)
        seeds = range(COUNT + 2)
        return {
            "ghz100": await calls(process, [ghz(100, seed) for seed in seeds], 1000, "stabilizer"),
            "random100": await calls(process, [clifford(100, 20, seed) for seed in seeds], 1000, "stabilizer"),
            "ghz1000": await calls(process, [ghz(1000, seed) for seed in range(7)], 1000, "stabilizer"),
            "mps100": await calls(process, [brickwork(100, 8, seed) for seed in seeds], 100, "mps"),
        }
    finally:
        await process.close()


def aer_ms() -> float | None:
    """Return the median of qiskit's parse and Aer's matrix product run; None where Aer is not installed."""
    if importlib.util.find_spec("qiskit_aer") is None:
        return None
    import qiskit.qasm2
    from qiskit_aer import AerSimulator

    simulator: Any = AerSimulator(method="matrix_product_state", max_parallel_threads=1)
    times = []
    for seed in range(5):
        started = time.perf_counter()
        circuit = qiskit.qasm2.loads(brickwork(100, 8, seed))
        simulator.run(circuit, shots=100, seed_simulator=seed).result().get_counts()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def run() -> list[Figure]:
    """Measure; the error of the truncation is part of the result and has to be there."""
    found = uvloop.run(measure())
    slower = max(("ghz100", "random100"), key=lambda name: found[name][0])
    metadata = found["mps100"][1]
    return [
        Figure("engine.clifford100_ms", found[slower][0], "ms", COUNT, 3),
        Figure("engine.clifford100_from_text_ms", found[slower][2], "ms", COUNT),
        Figure("engine.clifford100_ghz_ms", found["ghz100"][0], "ms", COUNT),
        Figure("engine.clifford1000_ms", found["ghz1000"][0], "ms", 5),
        Figure("engine.mps100_ms", found["mps100"][0], "ms", COUNT, 100, aer_ms()),
        Figure("engine.mps100_discarded_weight", float(metadata["discarded_weight"]), "", 1, 1e-10),
    ]
