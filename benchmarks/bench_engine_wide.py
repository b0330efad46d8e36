"""Circuits beyond state vectors: Clifford circuits of 100 and 1000 qubits, matrix products of 100.

Each figure is one call of a warm circuit worker process, program text in and counts out, other numbers every time.
`engine.clifford100_ms` is a job whose program the worker has parsed for its estimate, as it always has: the slower of
GHZ and a random Clifford circuit of depth 20, 1000 shots. `engine.mps100_ms`: RY and CZ brickwork of depth 8, 100
shots; its baseline is the matrix product method of Aer in the same rounds (see `benchmarks.report`), where installed.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import uvloop

from benchmarks.report import ROUNDS, Figure, Machine, quietest
from qedge.base.system_clock import SystemClock
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

COUNT = 10
RIVAL_COUNT = 2
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


Times = dict[str, list[list[float]]]


KINDS: dict[str, tuple[Callable[[int], str], int, str, int]] = {
    "ghz100": (lambda seed: ghz(100, seed), 1000, "stabilizer", COUNT),
    "random100": (lambda seed: clifford(100, 20, seed), 1000, "stabilizer", COUNT),
    "ghz1000": (lambda seed: ghz(1000, seed), 1000, "stabilizer", 1),
    "mps100": (lambda seed: brickwork(100, 8, seed), 100, "mps", COUNT),
}
"""How to make the program, shots, method, and how many of them a round holds."""


async def calls(
    process: WorkerProcess, texts: list[str], shots: int, method: str
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Return the milliseconds of calls, those with parsing and estimating before, and the metadata of the last."""
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
    return times, texts_too, metadata


async def measure(machine: Machine) -> Times:
    """Run all kinds of circuits in one worker; returns milliseconds of each round."""
    found: Times = {f"{name}{way}": [] for name in (*KINDS, "aer") for way in ("", "_from_text")}
    process = WorkerProcess(WorkerSpec("qpu", TARGET, INIT), clock=SystemClock(), random_bytes=os.urandom)
    try:
        await process.start()
        await process.call("open", {}, deadline_s=30)
        await process.call("warm", {}, deadline_s=60)
        for turn in range(-1, ROUNDS):
            machine.look()
            for name, (make, shots, method, count) in KINDS.items():
                seeds = range(turn * count, (turn + 1) * count) if turn >= 0 else range(10_000, 10_002)
                times, texts_too, metadata = await calls(process, [make(seed) for seed in seeds], shots, method)
                if turn >= 0:
                    found[name].append(times)
                    found[f"{name}_from_text"].append(texts_too)
                # the error of the truncation is part of the result and has to be there
                if method == "mps":
                    found["discarded_weight"] = [[float(metadata["discarded_weight"])]]
            if turn >= 0:
                found["aer"].append(aer_ms(range(turn * RIVAL_COUNT, (turn + 1) * RIVAL_COUNT)))
    finally:
        await process.close()
    return found


def aer_ms(seeds: range) -> list[float]:
    """Return the times of qiskit's parse and Aer's matrix product run; nothing where Aer is not installed."""
    if importlib.util.find_spec("qiskit_aer") is None:
        return []
    import qiskit.qasm2
    from qiskit_aer import AerSimulator

    simulator: Any = AerSimulator(method="matrix_product_state", max_parallel_threads=1)
    times = []
    for seed in seeds:
        started = time.perf_counter()
        circuit = qiskit.qasm2.loads(brickwork(100, 8, seed))
        simulator.run(circuit, shots=100, seed_simulator=seed).result().get_counts()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def run() -> list[Figure]:
    """Measure all kinds."""
    machine = Machine()
    rounds = uvloop.run(measure(machine))
    found = {name: statistics.median(quietest(each)) for name, each in rounds.items() if each and all(each)}
    slower = max(("ghz100", "random100"), key=lambda name: found[name])
    return [
        Figure("engine.clifford100_ms", found[slower], "ms", COUNT, 3),
        Figure("engine.clifford100_from_text_ms", found[f"{slower}_from_text"], "ms", COUNT),
        Figure("engine.clifford100_ghz_ms", found["ghz100"], "ms", COUNT),
        Figure("engine.clifford1000_ms", found["ghz1000"], "ms", 1),
        Figure("engine.mps100_ms", found["mps100"], "ms", COUNT, 100, found.get("aer")),
        Figure("engine.mps100_discarded_weight", found["discarded_weight"], "", 1, 1e-10),
        machine.figure(),
    ]
