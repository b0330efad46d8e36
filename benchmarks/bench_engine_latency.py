"""OpenQASM text to counts: 10 qubits, about 250 gates, 1000 shots, other angles every time.

`engine.text_to_counts_*` is one call of a warm circuit worker process, seen from the daemon's side of the pipe: parse,
plan, run, pack and transport. `engine.over_kernel_ms` is what that takes beyond qsim's own kernel on the same circuit.
Baselines of the same run: the parse and run of cirq with qsimcirq, and of qiskit with Aer, on the same programs.
`engine.mqtt_job_*`: the same job, submitted at one daemon, run by another, from request to result at the submitting
program, through mosquitto and a sealed session.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.broker import Broker
from benchmarks.circuits import brickwork
from benchmarks.fleet import Fleet
from benchmarks.node import Node
from benchmarks.report import Figure, percentile
from qedge.base.errors import QedgeError
from qedge.base.system_clock import SystemClock
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

QUBITS = 10
DEPTH = 10
SHOTS = 1000
COUNT = 500
BASE_COUNT = 30
JOBS = 300
TARGET = "qedge.engine.circuit_host:CircuitHost"
INIT = {"driver": "sim_qpu", "instance": "qpu", "settings": {}, "state_dir": ""}

CONFIG = """
[node]
name = "{name}"
[broker]
url = "mqtt://127.0.0.1:{port}"
[mesh]
listen = "off"
[drivers.qrng]
driver = "sim_qrng"
{qpu}
"""


def number(value: object) -> float:
    """Read a number of a worker's answer."""
    assert isinstance(value, (int, float))
    return float(value)


async def worker() -> tuple[list[float], list[float]]:
    """Return the times of calls of a worker and of the kernels in them, in milliseconds."""
    process = WorkerProcess(WorkerSpec("qpu", TARGET, INIT), clock=SystemClock(), random_bytes=os.urandom)
    calls, kernels = [], []
    try:
        await process.start()
        await process.call("open", {}, deadline_s=30)
        await process.call("warm", {}, deadline_s=60)
        for index in range(COUNT + 20):
            args = {"program": brickwork(QUBITS, DEPTH, index), "shots": SHOTS, "seed": index, "limits": {}}
            started = time.perf_counter()
            answer: Any = await process.call("run", args, deadline_s=30)
            calls.append((time.perf_counter() - started) * 1e3)
            kernels.append(number(answer["timings_s"]["kernel"]) * 1e3)
    finally:
        await process.close()
    return calls[20:], kernels[20:]


def qsimcirq_ms() -> float:
    """Return the median of cirq's parse and qsimcirq's run."""
    import qsimcirq
    from cirq.contrib.qasm_import import circuit_from_qasm

    times = []
    for index in range(BASE_COUNT):
        text = brickwork(QUBITS, DEPTH, index)
        started = time.perf_counter()
        qsimcirq.QSimSimulator(seed=index).run(circuit_from_qasm(text), repetitions=SHOTS)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def aer_ms() -> float:
    """Return the median of qiskit's parse and Aer's run on one thread; 0 where Aer is not installed."""
    if importlib.util.find_spec("qiskit_aer") is None:
        return 0.0
    import qiskit.qasm2
    from qiskit_aer import AerSimulator

    simulator: Any = AerSimulator(method="statevector", max_parallel_threads=1)
    times = []
    for index in range(BASE_COUNT):
        text = brickwork(QUBITS, DEPTH, index)
        started = time.perf_counter()
        circuit = qiskit.qasm2.loads(text)
        simulator.run(circuit, shots=SHOTS, seed_simulator=index).result().get_counts()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def jobs(node: Node) -> list[float]:
    """Submit jobs for node `b` at node `a`, one after the other; returns milliseconds until the result is there."""
    times = []
    async with NodeClient(node.socket) as client:
        deadline = time.monotonic() + 60
        for index in range(JOBS + 20):
            submission = JobSubmission(program=brickwork(QUBITS, DEPTH, index), shots=SHOTS, node="b")
            while True:
                started = time.perf_counter()
                try:
                    view = await client.submit(submission, wait_s=30)
                    break
                except QedgeError:
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.2)
            times.append((time.perf_counter() - started) * 1e3)
            assert view.state is JobState.DONE, view.error
    return times[20:]


def across() -> list[float]:
    """Measure jobs between two daemons."""
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name, Broker("mosquitto", Path(name) / "b") as broker:
        folder, fleet = Path(name), Fleet()
        qpu = {"a": "", "b": '[drivers.qpu]\ndriver = "sim_qpu"\n'}
        nodes = []
        for each in ("a", "b"):
            fleet.enrol(folder / each, each)
            nodes.append(Node(folder / each, CONFIG.format(name=each, port=broker.port, qpu=qpu[each])))
        with nodes[1], nodes[0] as first:
            return uvloop.run(jobs(first))


def run() -> list[Figure]:
    """Measure the worker, its rivals and the way through the mesh."""
    calls, kernels = uvloop.run(worker())
    p50, p99 = statistics.median(calls), percentile(calls, 0.99)
    rival, aer = qsimcirq_ms(), aer_ms()
    over = statistics.median(call - kernel for call, kernel in zip(calls, kernels, strict=True))
    figures = [
        Figure("engine.text_to_counts_p50_ms", p50, "ms", COUNT, 1.5, rival),
        Figure("engine.text_to_counts_p99_ms", p99, "ms", COUNT, 5, rival),
        Figure("engine.vs_qsimcirq", rival / p50, "×", BASE_COUNT, 5, at_least=True),
        Figure("engine.over_kernel_ms", over, "ms", COUNT, 1.0, statistics.median(kernels)),
    ]
    if aer:
        figures.insert(3, Figure("engine.vs_aer", aer / p50, "×", BASE_COUNT, 5, at_least=True))
    if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
        times = across()
        figures.append(Figure("engine.mqtt_job_p50_ms", statistics.median(times), "ms", JOBS, 4))
        figures.append(Figure("engine.mqtt_job_p99_ms", percentile(times, 0.99), "ms", JOBS, 8))
    return figures
