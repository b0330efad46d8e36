"""State vectors from 4 to 26 qubits against bare qsim on the same circuit, and against the node's own prediction.

Ours is a warm simulator given the flat circuit: plan, build, run, count. Bare qsim is its kernel alone on a circuit
that is already built, with the same settings. `engine.memory_ratio` is the growth of the peak resident memory over 2^n
× 8 bytes at 26 qubits. `engine.estimate_error` is predicted over real time or the other way round, the worst of all
circuits: three shapes at every size, after the calibration that a worker makes when it starts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.report import Figure
from qedge_driver_api import FlatCircuit, Gate, QpuTask
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.native import NativeBackend
from qedge_drivers.sim_qpu.settings import SimQpuSettings, resolve
from qedge_drivers.sim_qpu.simulator import Simulator

SIZES = (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26)
SHOTS = 1000
BY_STATE = {"method": "state_vector"}


def brickwork(n: int, depth: int, seed: int) -> FlatCircuit:
    """Return RZ, RX and CZ, all qubits measured."""
    chance = np.random.default_rng(seed)
    ops: list[Op] = []
    for layer in range(depth):
        for qubit in range(n):
            ops.append((int(Gate.RZ), (qubit,), (float(chance.uniform(-3, 3)),), 0))
            ops.append((int(Gate.RX), (qubit,), (float(chance.uniform(-3, 3)),), 0))
        ops += [(int(Gate.CZ), (qubit, qubit + 1), (), 0) for qubit in range(layer % 2, n - 1, 2)]
    return measured(n, ops)


def fourier(n: int) -> FlatCircuit:
    """Return the quantum Fourier transform of a state that is not a basis state."""
    ops: list[Op] = [(int(Gate.RY), (qubit,), (0.3 + qubit,), 0) for qubit in range(n)]
    for one in range(n):
        ops.append((int(Gate.H), (one,), (), 0))
        ops += [(int(Gate.CP), (one, other), (np.pi / 2 ** (other - one),), 0) for other in range(one + 1, n)]
    return measured(n, ops)


def turns(n: int, depth: int) -> FlatCircuit:
    """Return one-qubit gates with a single entangled pair."""
    ops: list[Op] = [(int(Gate.RX), (qubit,), (0.1 * layer + 0.2,), 0) for layer in range(depth) for qubit in range(n)]
    return measured(n, [*ops, (int(Gate.CX), (0, 1), (), 0)])


def measured(n: int, ops: list[Op]) -> FlatCircuit:
    """Return the circuit with a measurement of every qubit."""
    last = [(int(Gate.MEASURE), (qubit,), (), qubit) for qubit in range(n)]
    return FlatCircuit(n, n, (*ops, *last))


def seconds(run: object, times: int) -> float:
    """Return the fastest of some calls."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()  # type: ignore[operator]
        found.append(time.perf_counter() - began)
    return min(found)


def kernel_s(backend: NativeBackend, circuit: FlatCircuit, times: int) -> float:
    """Return the seconds of bare qsim: sampling a circuit that is already built."""
    gates = [op for op in circuit.ops if op[0] != Gate.MEASURE]
    options = backend._options(backend._circuit(circuit.num_qubits, gates), 1)
    return seconds(lambda: backend._qsim.qsim_sample_final(options, SHOTS), times)


def peak_ratio(n: int) -> float:
    """Return the growth of the peak memory of a process that runs `n` qubits, over the size of the state."""
    code = f"from benchmarks.bench_engine_scale import print_peak; print_peak({n})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout) / (8 << n)


def print_peak(n: int) -> None:
    """Run a small circuit, then a large one, and print by how many bytes the peak grew."""
    simulator = Simulator(resolve(SimQpuSettings()), "native")
    before = 0
    for size in (10, n):
        before = peak_bytes()
        simulator.run(QpuTask(brickwork(size, 2, 1), SHOTS, 1, BY_STATE), lambda: False)
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def run() -> list[Figure]:
    """Measure all sizes."""
    simulator, backend = Simulator(resolve(SimQpuSettings()), "native"), NativeBackend()
    simulator.calibrate()
    figures: list[Figure] = []
    ratios, errors = [], []
    for n in SIZES:
        depth = 10 if n <= 20 else 4
        shapes = {"brickwork": brickwork(n, depth, n), "fourier": fourier(n), "turns": turns(n, depth)}
        if n > 24:
            del shapes["fourier"]
        for shape, circuit in shapes.items():
            times = 20 if n <= 16 else 3 if n <= 22 else 1
            # the estimate is asked for before the first run, as a node does
            predicted = simulator.estimate(QpuTask(circuit, SHOTS, 1, BY_STATE)).time_s
            first = seconds(lambda: simulator.run(QpuTask(circuit, SHOTS, 1, BY_STATE), lambda: False), 1)  # noqa: B023
            ours = min(
                first,
                seconds(lambda: simulator.run(QpuTask(circuit, SHOTS, 1, BY_STATE), lambda: False), times),  # noqa: B023
            )
            errors.append(max(predicted / ours, ours / predicted))
            if shape == "brickwork":
                bare = kernel_s(backend, circuit, times + 1)
                figures.append(Figure(f"engine.scale_n{n}_ms", ours * 1e3, "ms", times, None, bare * 1e3))
                if n >= 18:
                    ratios.append(ours / bare)
    figures += [
        Figure("engine.ratio_to_kernel_n18plus", statistics.median(ratios), "×", len(ratios), 1.1),
        Figure("engine.memory_ratio", peak_ratio(26), "×", 1, 1.1),
        Figure("engine.estimate_error", max(errors), "×", len(errors), 2),
    ]
    return figures
