"""Feed-forward against cirq.Simulator, and the daemon's loop while a large job runs.

`feed_forward.vs_cirq_*`: time of cirq.Simulator over ours for the same circuit and 10,000 shots, both on built circuits
in this process: teleportation, repeat until success (up to three tries), iterative phase estimation with three bits.
Both answers are compared with the exact distribution by chi-square; `feed_forward.worst_p` is the least p of ours.
`engine.loop_stall_p99_ms`: how late a timer of 1 ms fires in a program that talks to the daemon's loop (its health
route) while a job of 24 qubits runs, over the same without the job as baseline.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cirq
from scipy.stats import chi2

from benchmarks.circuits import brickwork
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.client.node import NodeClient
from qedge.engine.front_end import parse
from qedge.engine.qasm.model import ParseLimits
from qedge.wire.jobs import JobSubmission
from qedge_driver_api import QpuTask
from qedge_drivers.sim_qpu.settings import SimQpuSettings, resolve
from qedge_drivers.sim_qpu.simulator import Simulator

SHOTS = 10_000
HEAD = 'OPENQASM 3.0; include "stdgates.inc";\n'
PHASE = 0.625
"""Five eighths of a turn: three bits know it exactly."""


def teleportation() -> tuple[str, cirq.Circuit, dict[int, float]]:
    """Teleport RY(1) |0⟩; bits 0 and 1 are the measured pair, bit 2 the outcome at the end."""
    text = """qubit[3] q; bit[3] c; ry(1.0) q[0]; h q[1]; cx q[1], q[2]; cx q[0], q[1]; h q[0];
    c[0] = measure q[0]; c[1] = measure q[1]; if (c[1]) { x q[2]; } if (c[0]) { z q[2]; } c[2] = measure q[2];"""
    a, b, d = cirq.LineQubit.range(3)
    circuit = cirq.Circuit(
        cirq.ry(1.0)(a), cirq.H(b), cirq.CX(b, d), cirq.CX(a, b), cirq.H(a),
        cirq.measure(a, key="0"), cirq.measure(b, key="1"),
        cirq.X(d).with_classical_controls("1"), cirq.Z(d).with_classical_controls("0"), cirq.measure(d, key="2"),
    )  # fmt: skip
    one = math.sin(0.5) ** 2
    return text, circuit, {pair | bit << 2: (one if bit else 1 - one) / 4 for pair in range(4) for bit in (0, 1)}


def until_success() -> tuple[str, cirq.Circuit, dict[int, float]]:
    """Try a coin up to three times until it shows 0; bit k is the k-th try."""
    text = "qubit q; bit[3] c; h q; c[0] = measure q; " + " ".join(
        f"if (c[{k}]) {{ reset q; h q; c[{k + 1}] = measure q; }}" for k in (0, 1)
    )
    q = cirq.LineQubit(0)
    coin, tries = cirq.LineQubit.range(1, 3)
    # cirq cannot measure under a condition: a controlled gate on a fresh qubit tells the same
    circuit = cirq.Circuit(
        cirq.H(q), cirq.measure(q, key="0"), cirq.H(coin).with_classical_controls("0"), cirq.measure(coin, key="1"),
        cirq.H(tries).with_classical_controls("1"), cirq.measure(tries, key="2"),
    )  # fmt: skip
    return text, circuit, {0b000: 0.5, 0b001: 0.25, 0b011: 0.125, 0b111: 0.125}


def phase_estimation() -> tuple[str, cirq.Circuit, dict[int, float]]:
    """Estimate a phase bit by bit, the least significant one first; bit k is the k-th that is measured."""
    turn = 2 * math.pi * PHASE
    text = f"""qubit[2] q; bit[3] c; x q[1];
    h q[0]; cp({4 * turn}) q[0], q[1]; h q[0]; c[0] = measure q[0]; reset q[0];
    h q[0]; cp({2 * turn}) q[0], q[1]; if (c[0]) {{ p(-pi/2) q[0]; }} h q[0]; c[1] = measure q[0]; reset q[0];
    h q[0]; cp({turn}) q[0], q[1]; if (c[0]) {{ p(-pi/4) q[0]; }} if (c[1]) {{ p(-pi/2) q[0]; }} h q[0];
    c[2] = measure q[0];"""
    a, b = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(cirq.X(b))
    for step, power in enumerate((4, 2, 1)):
        circuit.append([cirq.H(a), cirq.CZPowGate(exponent=power * turn / math.pi)(a, b)])
        for earlier in range(step):
            circuit.append(cirq.ZPowGate(exponent=-(0.5 ** (step - earlier)))(a).with_classical_controls(str(earlier)))
        circuit.append([cirq.H(a), cirq.measure(a, key=str(step)), cirq.reset(a)])
    return text, circuit, {0b101: 1.0}


def p_value(counts: Mapping[int, int], exact: Mapping[int, float]) -> float:
    """Return the p of a chi-square test; 0 where something impossible happened."""
    if any(exact.get(key, 0.0) <= 0 for key in counts):
        return 0.0
    statistic = sum((counts.get(key, 0) - SHOTS * p) ** 2 / (SHOTS * p) for key, p in exact.items())
    return 1.0 if len(exact) == 1 else float(chi2.sf(statistic, len(exact) - 1))


def seconds(run: Callable[[], object], times: int) -> float:
    """Return the median time of some calls."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


async def stalls(node: Node, program: str) -> tuple[list[float], list[float]]:
    """Return milliseconds of health requests without and with a large job."""

    async def probe(client: NodeClient, until: float) -> list[float]:
        times = []
        while time.perf_counter() < until:
            began = time.perf_counter()
            await client.live()
            times.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.001)
        return times

    async with NodeClient(node.socket) as client:
        idle = await probe(client, time.perf_counter() + 3)
        job = asyncio.create_task(
            client.submit(JobSubmission(program=program, shots=1000, method="state_vector"), wait_s=30)
        )
        busy: list[float] = []
        while not job.done():
            busy += await probe(client, time.perf_counter() + 0.1)
        assert (await job).result is not None
        return idle, busy


def run() -> list[Figure]:
    """Measure all of it."""
    simulator = Simulator(resolve(SimQpuSettings()), "native")
    figures: list[Figure] = []
    worst = 1.0
    for make in (teleportation, until_success, phase_estimation):
        text, theirs, exact = make()
        circuit = parse(HEAD + text, ParseLimits()).bind({}).circuit
        task = QpuTask(circuit, SHOTS, 11)
        worst = min(worst, p_value(simulator.run(task, lambda: False).counts, exact))
        ours_s = seconds(lambda: simulator.run(task, lambda: False), 30)  # noqa: B023
        rival = cirq.Simulator(seed=3)
        began = time.perf_counter()
        rival.run(theirs, repetitions=SHOTS // 10)
        rival_s = (time.perf_counter() - began) * 10
        name = make.__name__
        figures.append(
            Figure(f"feed_forward.vs_cirq_{name}", rival_s / ours_s, "×", 30, 10, rival_s * 1e3, at_least=True)
        )
    figures.append(Figure("feed_forward.worst_p", worst, "", SHOTS, 0.001, at_least=True))
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name:
        config = '[node]\nname = "a"\n[drivers.qpu]\ndriver = "sim_qpu"\n'
        with Node(Path(name) / "a", config) as node:
            idle, busy = asyncio.run(stalls(node, brickwork(24, 12, 1)))
    figures.append(
        Figure("engine.loop_stall_p99_ms", percentile(busy, 0.99), "ms", len(busy), 5, percentile(idle, 0.99))
    )
    return figures
