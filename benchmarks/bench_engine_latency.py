"""OpenQASM text to counts: 10 qubits, about 250 gates, 1000 shots, other angles every time.

`engine.text_to_counts_*` is one call of a warm circuit worker process, seen from the daemon's side of the pipe: parse,
plan, run, pack and transport. `engine.over_kernel_ms` is what that takes beyond qsim's own kernel on the same circuit.
Baselines of the same run: the parse and run of cirq with qsimcirq, and of qiskit with Aer, on the same programs. All in
rounds, see `benchmarks.report`.
`engine.mqtt_job_*`: the same job, submitted at one daemon, run by another, from request to result at the submitting
program, through mosquitto and a sealed session. `engine.mqtt_floor_ms` is the same way in the same rounds with the same
libraries and no daemon (see `benchmarks.mqtt_floor`); the baseline of the job is that and the work of the worker.
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
from benchmarks.mqtt_floor import Floor
from benchmarks.node import Node
from benchmarks.report import ROUNDS, Figure, Machine, percentile, quietest
from qedge.base.errors import QedgeError
from qedge.base.system_clock import SystemClock
from qedge.client.node import NodeClient
from qedge.wire.jobs import JobState, JobSubmission
from qedge.workers.model import WorkerSpec
from qedge.workers.process import WorkerProcess

QUBITS = 10
DEPTH = 10
SHOTS = 1000
COUNT = 300
BASE_COUNT = 20
JOBS = 200
WARM_UP = 20
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


async def call_all(process: WorkerProcess, seeds: range) -> tuple[list[float], list[float]]:
    """Return the times of calls of a worker and of what they took beyond the kernel in them, in milliseconds."""
    calls, over = [], []
    for index in seeds:
        args = {"program": brickwork(QUBITS, DEPTH, index), "shots": SHOTS, "seed": index, "limits": {}}
        started = time.perf_counter()
        answer: Any = await process.call("run", args, deadline_s=30)
        calls.append((time.perf_counter() - started) * 1e3)
        over.append(calls[-1] - number(answer["timings_s"]["kernel"]) * 1e3)
    return calls, over


async def rounds(machine: Machine) -> dict[str, list[list[float]]]:
    """Measure the worker and its rivals in turn; returns milliseconds of each round."""
    found: dict[str, list[list[float]]] = {"calls": [], "over": [], "qsimcirq": [], "aer": []}
    process = WorkerProcess(WorkerSpec("qpu", TARGET, INIT), clock=SystemClock(), random_bytes=os.urandom)
    try:
        await process.start()
        await process.call("open", {}, deadline_s=30)
        await process.call("warm", {}, deadline_s=60)
        await call_all(process, range(WARM_UP))
        seed = WARM_UP
        for _ in range(ROUNDS):
            machine.look()
            calls, over = await call_all(process, range(seed, seed + COUNT))
            found["calls"].append(calls)
            found["over"].append(over)
            found["qsimcirq"].append(qsimcirq_ms(range(seed, seed + BASE_COUNT)))
            found["aer"].append(aer_ms(range(seed, seed + BASE_COUNT)))
            seed += COUNT
    finally:
        await process.close()
    return found


def qsimcirq_ms(seeds: range) -> list[float]:
    """Return the times of cirq's parse and qsimcirq's run."""
    import qsimcirq
    from cirq.contrib.qasm_import import circuit_from_qasm

    times = []
    for index in seeds:
        text = brickwork(QUBITS, DEPTH, index)
        started = time.perf_counter()
        qsimcirq.QSimSimulator(seed=index).run(circuit_from_qasm(text), repetitions=SHOTS)
        times.append((time.perf_counter() - started) * 1e3)
    return times


def aer_ms(seeds: range) -> list[float]:
    """Return the times of qiskit's parse and Aer's run on one thread; nothing where Aer is not installed."""
    if importlib.util.find_spec("qiskit_aer") is None:
        return []
    import qiskit.qasm2
    from qiskit_aer import AerSimulator

    simulator: Any = AerSimulator(method="statevector", max_parallel_threads=1)
    times = []
    for index in seeds:
        text = brickwork(QUBITS, DEPTH, index)
        started = time.perf_counter()
        circuit = qiskit.qasm2.loads(text)
        simulator.run(circuit, shots=SHOTS, seed_simulator=index).result().get_counts()
        times.append((time.perf_counter() - started) * 1e3)
    return times


async def jobs(node: Node, machine: Machine, floor: Floor) -> tuple[list[list[float]], list[list[float]]]:
    """Submit jobs for node `b` at node `a`, one after the other; returns milliseconds, theirs and the floor's."""
    found: list[list[float]] = []
    least: list[list[float]] = []
    async with NodeClient(node.socket) as client, floor:
        deadline = time.monotonic() + 60
        while True:
            try:
                await job(client, 0)
                break
            except QedgeError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
        for index in range(1, WARM_UP):
            await job(client, index)
        await floor.round([b"warm up"] * WARM_UP)
        for turn in range(ROUNDS):
            machine.look()
            machine.look_at_disk()
            begin = WARM_UP + turn * JOBS
            found.append([await job(client, index) for index in range(begin, begin + JOBS)])
            least.append(await floor.round([brickwork(QUBITS, DEPTH, index).encode() for index in range(JOBS)]))
    return found, least


async def job(client: NodeClient, index: int) -> float:
    """Run one job on `b`; returns milliseconds."""
    submission = JobSubmission(program=brickwork(QUBITS, DEPTH, index), shots=SHOTS, node="b")
    started = time.perf_counter()
    view = await client.submit(submission, wait_s=30)
    took_ms = (time.perf_counter() - started) * 1e3
    assert view.state is JobState.DONE, view.error
    return took_ms


def across(machine: Machine) -> tuple[list[list[float]], list[list[float]]]:
    """Measure jobs between two daemons, and the floor."""
    with tempfile.TemporaryDirectory(prefix="qedge-bench-") as name, Broker("mosquitto", Path(name) / "b") as broker:
        folder, fleet = Path(name), Fleet()
        qpu = {"a": "", "b": '[drivers.qpu]\ndriver = "sim_qpu"\n'}
        nodes = []
        for each in ("a", "b"):
            fleet.enrol(folder / each, each)
            nodes.append(Node(folder / each, CONFIG.format(name=each, port=broker.port, qpu=qpu[each])))
        with nodes[1], nodes[0] as first:
            return uvloop.run(jobs(first, machine, Floor(broker.port, folder / "floor")))


def run() -> list[Figure]:
    """Measure the worker, its rivals and the way through the mesh."""
    machine = Machine()
    found = uvloop.run(rounds(machine))
    calls, over = quietest(found["calls"]), quietest(found["over"])
    p50, p99 = statistics.median(calls), percentile(calls, 0.99)
    rival = statistics.median(quietest(found["qsimcirq"]))
    figures = [
        Figure("engine.text_to_counts_p50_ms", p50, "ms", COUNT, 1.5, rival),
        Figure("engine.text_to_counts_p99_ms", p99, "ms", COUNT, 5, rival),
        Figure("engine.vs_qsimcirq", rival / p50, "×", BASE_COUNT, 5, at_least=True),
        Figure("engine.over_kernel_ms", statistics.median(over), "ms", COUNT, 1.0, p50 - statistics.median(over)),
    ]
    if all(found["aer"]):
        aer = statistics.median(quietest(found["aer"]))
        figures.insert(3, Figure("engine.vs_aer", aer / p50, "×", BASE_COUNT, 5, at_least=True))
    if shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists():
        times, least = map(quietest, across(machine))
        floor = statistics.median(least)
        figures.append(Figure("engine.mqtt_job_p50_ms", statistics.median(times), "ms", JOBS, 4, floor + p50))
        figures.append(Figure("engine.mqtt_job_p99_ms", percentile(times, 0.99), "ms", JOBS, 8))
        figures.append(Figure("engine.mqtt_floor_ms", floor, "ms", JOBS))
        figures += machine.disk_figures()
    return [*figures, machine.figure()]
