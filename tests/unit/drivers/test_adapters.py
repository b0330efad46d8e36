"""One suite of jobs on every adapter and method of simulation, against exact distributions worked out here.

A sample is accepted if neither its distance from the exact distribution nor its χ² is one that comes by chance less
often than FALSE_ALARM. What an adapter cannot run it has to refuse by `ProgramError`, and the table says so.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from qedge_driver_api import (
    Condition,
    ConditionKind,
    DriverContext,
    DriverError,
    FlatCircuit,
    Gate,
    JobStatus,
    ProgramError,
    QpuResult,
    QpuTask,
    settings_from_mapping,
)
from qedge_driver_api.circuit import Op
from qedge_drivers.cirq_sampler import CirqSampler
from qedge_drivers.qdmi import Qdmi
from qedge_drivers.sim_qpu import SimQpu
from qedge_drivers.sim_qpu.gates import controlled, gate_matrix

SHOTS = 4000
FALSE_ALARM = 1e-9
READOUT_ERROR = 0.03
Bits = dict[int, float]


def op(gate: Gate, *qubits: int, params: Sequence[float] = (), arg: int = 0) -> Op:
    return (int(gate), qubits, tuple(map(float, params)), arg)


# jobs


@dataclass(frozen=True)
class Job:
    """A circuit and what it asks of a device: `clifford` gates alone, `midway` stops, `deciding` on the way."""

    name: str
    circuit: FlatCircuit
    clifford: bool = False
    midway: bool = False
    deciding: bool = False


def measured(qubits: int, *ops: Op) -> FlatCircuit:
    last = [op(Gate.MEASURE, qubit, arg=qubit) for qubit in range(qubits)]
    return FlatCircuit(qubits, qubits, (*ops, *last))


def random_clifford(qubits: int, seed: int) -> list[Op]:
    rng = random.Random(seed)
    single = (Gate.H, Gate.S, Gate.SDG, Gate.X, Gate.Y, Gate.SX)
    ops = []
    for _ in range(8 * qubits):
        ops.append(op(rng.choice(single), rng.randrange(qubits)))
        ops.append(op(rng.choice((Gate.CX, Gate.CZ, Gate.CY, Gate.SWAP)), *rng.sample(range(qubits), 2)))
    return ops


def rotations() -> list[Op]:
    rng = random.Random(4)
    ops = []
    for qubit in range(4):
        ops += [op(gate, qubit, params=(rng.uniform(-7, 7),)) for gate in (Gate.RX, Gate.RY, Gate.RZ, Gate.P)]
        ops.append(op(Gate.U, qubit, params=[rng.uniform(-4, 4) for _ in range(3)]))
        if qubit:
            ops += [op(Gate.CX, qubit - 1, qubit), op(Gate.RZZ, qubit, qubit - 1, params=(0.9,))]
            ops += [op(Gate.SX, qubit), op(Gate.RXX, qubit, qubit - 1, params=(1.3,))]
    return ops


TELEPORT = (
    Condition(ConditionKind.EQUALS, (1,), 1, 1),
    Condition(ConditionKind.EQUALS, (0,), 1, 1),
    Condition(ConditionKind.PARITY, (0, 1), 1, 2),
    Condition(ConditionKind.EQUALS, (0, 1), 2, 1),
)
JOBS = (
    Job("bell", measured(2, op(Gate.H, 0), op(Gate.CX, 0, 1)), clifford=True),
    Job("ghz", measured(5, op(Gate.H, 2), *(op(Gate.CX, 2, q) for q in (0, 4, 1, 3))), clifford=True),
    Job("clifford", measured(5, *random_clifford(5, 1)), clifford=True),
    Job("rotations", measured(4, *rotations())),
    Job(
        "controls",
        measured(
            5,
            *(op(Gate.RY, q, params=(0.5 + 0.3 * q,)) for q in range(5)),
            op(Gate.CP, 0, 1, params=(0.7,)),
            op(Gate.CRX, 1, 2, params=(1.1,)),
            op(Gate.CRY, 2, 0, params=(-0.4,)),
            op(Gate.CRZ, 3, 1, params=(2.2,)),
            op(Gate.CU, 4, 2, params=(0.3, 0.6, -0.2, 0.9)),
            op(Gate.CH, 0, 3),
            op(Gate.CCX, 0, 1, 4),
            op(Gate.CCZ, 2, 3, 4),
            op(Gate.CSWAP, 1, 2, 3),
            op(Gate.ISWAP, 0, 4),
            op(Gate.H, 1),
        ),
    ),
    Job(
        "extra-controls",
        measured(
            5,
            *(op(Gate.RY, q, params=(1.1 + 0.2 * q,)) for q in range(5)),
            op(Gate.X, 0, 1, 2, 4, arg=3),
            op(Gate.GPHASE, 0, 3, params=(0.8,), arg=2),
            op(Gate.P, 1, 3, 4, params=(1.9,), arg=2),
            op(Gate.RY, 4, 0, 3, params=(0.7,), arg=2),
            *(op(Gate.H, q) for q in range(5)),
        ),
    ),
    Job(
        "marginal",
        FlatCircuit(
            4,
            70,
            (
                op(Gate.X, 3), op(Gate.H, 0), op(Gate.CX, 0, 2), op(Gate.S, 1),
                op(Gate.MEASURE, 2, arg=68), op(Gate.MEASURE, 3, arg=1), op(Gate.BARRIER, 0, 1),
            ),
        ),
        clifford=True,
    ),
    Job("one-qubit-twice", FlatCircuit(1, 2, (op(Gate.H, 0), op(Gate.MEASURE, 0), op(Gate.MEASURE, 0, arg=1))), True),
    Job("nothing", FlatCircuit(2, 3, (op(Gate.H, 0), op(Gate.CX, 0, 1))), clifford=True),
    Job(
        "last-write",
        FlatCircuit(2, 1, (op(Gate.H, 0), op(Gate.MEASURE, 0), op(Gate.X, 1), op(Gate.MEASURE, 1))),
        clifford=True,
    ),
    Job(
        "reset",
        FlatCircuit(
            2,
            2,
            (
                op(Gate.RY, 0, params=(1.2,)), op(Gate.CX, 0, 1), op(Gate.MEASURE, 0), op(Gate.RESET, 0),
                op(Gate.RX, 0, params=(0.9,)), op(Gate.CX, 1, 0), op(Gate.MEASURE, 0, arg=1),
            ),
        ),
        midway=True,
    ),
    Job(
        "teleport",
        FlatCircuit(
            4,
            4,
            (
                op(Gate.RY, 0, params=(0.8,)), op(Gate.RZ, 0, params=(0.4,)), op(Gate.H, 1), op(Gate.CX, 1, 2),
                op(Gate.CX, 0, 1), op(Gate.H, 0), op(Gate.MEASURE, 0), op(Gate.MEASURE, 1, arg=1),
                op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.IF, arg=1), op(Gate.Z, 2),
                op(Gate.H, 2), op(Gate.IF, arg=2), op(Gate.RX, 3, params=(0.7,)), op(Gate.T, 3),
                op(Gate.IF, arg=3), op(Gate.X, 3), op(Gate.MEASURE, 2, arg=2), op(Gate.MEASURE, 3, arg=3),
            ),
            TELEPORT,
        ),
        midway=True,
        deciding=True,
    ),
)  # fmt: skip


# the exact distribution


def applied(state: np.ndarray, each: Op) -> np.ndarray:
    """Apply a gate to a state of shape (2,)*n, axis n−1−q for qubit q."""
    gate, qubits, params, controls = each
    matrix, k, n = controlled(gate_matrix(gate, params), controls), len(qubits), state.ndim
    axes = [n - 1 - qubit for qubit in qubits]
    out = np.tensordot(matrix.reshape((2,) * (2 * k)), state, axes=(list(range(k, 2 * k)), axes))
    return np.moveaxis(out, list(range(k)), axes)


def projected(state: np.ndarray, qubit: int, bit: int) -> np.ndarray:
    kept = np.zeros_like(state)
    index: list[Any] = [slice(None)] * state.ndim
    index[state.ndim - 1 - qubit] = bit
    kept[tuple(index)] = state[tuple(index)]
    return kept


def holds(condition: Condition, bits: int) -> bool:
    read = [bits >> bit & 1 for bit in condition.bits]
    if condition.kind is ConditionKind.PARITY:
        return sum(read) % 2 == condition.value
    return sum(bit << order for order, bit in enumerate(read)) == condition.value


def followed(
    circuit: FlatCircuit, index: int, end: int, bits: int, state: np.ndarray, error: float
) -> Iterator[tuple[int, Any]]:
    """Follow every outcome, read wrongly with the chance `error`; states carry their probability as their norm."""
    while index < end:
        each = circuit.ops[index]
        index += 1
        if each[0] == Gate.IF:
            condition = circuit.conditions[each[3]]
            assert all(inner[0] < Gate.MEASURE for inner in circuit.ops[index : index + condition.length])
            if not holds(condition, bits):
                index += condition.length
        elif each[0] in (Gate.MEASURE, Gate.RESET):
            for bit in (0, 1):
                part = projected(state, each[1][0], bit)
                if np.vdot(part, part).real < 1e-12:
                    continue
                if each[0] == Gate.RESET:
                    part = applied(part, op(Gate.X, each[1][0])) if bit else part
                    yield from followed(circuit, index, end, bits, part, error)
                    continue
                for read, chance in ((bit, 1 - error), (1 - bit, error)):
                    if chance:
                        found = bits & ~(1 << each[3]) | read << each[3]
                        yield from followed(circuit, index, end, found, math.sqrt(chance) * part, error)
            return
        elif each[0] != Gate.BARRIER:
            state = applied(state, each)
    yield bits, np.vdot(state, state).real


@cache
def exact(job: Job, error: float = 0.0) -> Bits:
    state = np.zeros((2,) * job.circuit.num_qubits, dtype=complex)
    state[(0,) * job.circuit.num_qubits] = 1
    out: Bits = {}
    for bits, chance in followed(job.circuit, 0, len(job.circuit.ops), 0, state, error):
        out[bits] = out.get(bits, 0.0) + float(chance)
    return out


def assert_drawn_from(counts: Mapping[int, int], chances: Bits) -> None:
    shots = sum(counts.values())
    values = sorted(chances)
    p = np.array([chances[value] for value in values])
    n = np.array([counts.get(value, 0) for value in values])
    assert p.sum() == pytest.approx(1, abs=1e-9)
    # the mean of the distance is at most this, and one shot moves it by 1/S (McDiarmid)
    distance = 0.5 * (np.abs(n / shots - p).sum() + 1 - n.sum() / shots)
    mean = 0.5 * np.sqrt(p * (1 - p).clip(0) / shots).sum()
    assert distance <= mean + math.sqrt(math.log(1 / FALSE_ALARM) / (2 * shots)) + 1e-5
    often = p * shots >= 20
    expected = np.append(p[often], max(1 - p[often].sum(), 0.0)) * shots
    found = np.append(n[often], shots - n[often].sum())
    if expected[-1] < 20:
        # too rare for the limit that χ² stands for
        expected, found = expected[:-1], found[:-1]
    statistic = ((found - expected) ** 2 / expected).sum()
    assert statistic <= chi2.isf(FALSE_ALARM, max(1, len(expected) - 1)) + 1


# adapters


@dataclass(frozen=True)
class Adapter:
    """A driver with its settings, the method that is asked for, and which jobs it runs."""

    name: str
    driver: Callable[[Any], Any]
    settings: Mapping[str, object] = field(default_factory=dict)
    method: str = ""
    runs: Callable[[Job], bool] = lambda job: True
    readout_error: float = 0.0
    midway_shots: int = SHOTS

    def __str__(self) -> str:
        return self.name

    def open(self, cancelled: Callable[[], bool] = lambda: False) -> Any:
        if self.driver is Qdmi:
            pytest.importorskip("mqt.core.qdmi", reason="the extra qedge[qdmi] is not installed")
        made = self.driver(settings_from_mapping(self.driver.Settings, self.settings))  # type: ignore[attr-defined]
        made.open(DriverContext(self.name, "", bytes, cancelled))
        return made

    def task(self, circuit: FlatCircuit, shots: int = SHOTS, seed: int = 1) -> QpuTask:
        return QpuTask(circuit, shots, seed, {"method": self.method} if self.method else {})


def pure(job: Job) -> bool:
    return not job.midway


NOISY: dict[str, object] = {"preset": "custom", "readout_error": READOUT_ERROR}
ADAPTERS = (
    Adapter("sim_qpu", SimQpu),
    Adapter("sim_qpu-cirq", SimQpu, {"backend": "cirq"}),
    Adapter("state_vector", SimQpu, {}, "state_vector", pure),
    Adapter("branching", SimQpu, {}, "branching"),
    Adapter("stabilizer", SimQpu, {}, "stabilizer", lambda job: job.clifford),
    Adapter("mps", SimQpu, {}, "mps", pure),
    Adapter("density_matrix", SimQpu, NOISY, "density_matrix", lambda job: job.name != "extra-controls", READOUT_ERROR),
    Adapter("trajectories", SimQpu, NOISY, "trajectories", lambda job: True, READOUT_ERROR),
    Adapter("cirq_sampler", CirqSampler, midway_shots=200),  # it follows each shot by itself
    Adapter("qdmi", Qdmi),
    Adapter("qdmi-qasm2", Qdmi, {"format": "qasm2"}, "", lambda job: not job.deciding),
    Adapter("qdmi-qasm3", Qdmi, {"format": "qasm3"}),
)
CASES = [pytest.param(adapter, job, id=f"{adapter}-{job.name}") for adapter in ADAPTERS for job in JOBS]


def finish(driver: Any, task: QpuTask) -> QpuResult:
    job = driver.submit(task)
    try:
        while driver.wait(job, 5.0) in (JobStatus.CREATED, JobStatus.SUBMITTED, JobStatus.QUEUED, JobStatus.RUNNING):
            pass
        result = driver.result(job)
    finally:
        driver.free(job)
    assert isinstance(result, QpuResult)
    assert result.shots == sum(result.counts.values()) == task.shots
    return result


@pytest.mark.parametrize(("adapter", "job"), CASES)
def test_a_job_gives_the_exact_distribution_or_is_refused(adapter: Adapter, job: Job) -> None:
    driver = adapter.open()
    try:
        task = adapter.task(job.circuit, adapter.midway_shots if job.midway else SHOTS)
        if not adapter.runs(job):
            with pytest.raises(ProgramError):
                driver.submit(task)
            return
        result = finish(driver, task)
        assert_drawn_from(result.counts, exact(job, adapter.readout_error))
        assert result.metadata["method"]
        if adapter.method and job.name != "nothing":
            assert result.metadata["method"] in (adapter.method, "constant")
    finally:
        driver.close()


def bell() -> FlatCircuit:
    return JOBS[0].circuit


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_shots_seeds_and_refusals_are_the_same_everywhere(adapter: Adapter) -> None:
    driver = adapter.open()
    try:
        told = driver.qpu_properties()
        (clifford,) = (job.circuit for job in JOBS if job.name == "clifford")
        once, again, other = (finish(driver, adapter.task(clifford, 500, seed)).counts for seed in (7, 7, 8))
        assert once == again != other
        assert finish(driver, adapter.task(bell(), 1)).shots == 1
        largest = adapter.task(bell(), 1, (1 << 32) - 1)
        assert finish(driver, largest).shots == 1
        wide = measured(told.num_qubits + 1, *(op(Gate.H, q) for q in range(told.num_qubits + 1)))
        unknown = FlatCircuit(1, 1, ((250, (0,), (), 0), op(Gate.MEASURE, 0)))
        for task in (
            adapter.task(bell(), 0),
            adapter.task(bell(), told.max_shots + 1),
            adapter.task(wide),
            adapter.task(unknown),
        ):
            with pytest.raises(ProgramError):
                finish(driver, task)
        with pytest.raises(ProgramError):
            driver.estimate(adapter.task(wide))
        estimate = driver.estimate(adapter.task(bell()))
        assert estimate.time_s < 60
        assert finish(driver, adapter.task(bell())).counts.keys() <= {0, 1, 2, 3}
    finally:
        driver.close()


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_jobs_that_ended_or_never_were_are_left_in_peace(adapter: Adapter) -> None:
    driver = adapter.open()
    try:
        driver.cancel("no-such-job")
        driver.free("no-such-job")
        job = driver.submit(adapter.task(bell(), 10))
        while driver.wait(job, 5.0) is not JobStatus.DONE:
            pass
        driver.cancel(job)
        assert driver.wait(job, 0.0) is JobStatus.DONE
        assert sum(driver.result(job).counts.values()) == 10
        driver.free(job)
        with pytest.raises(DriverError):
            driver.result(job)
    finally:
        driver.close()


def long_job(qubits: int) -> FlatCircuit:
    rng = random.Random(2)
    ops = []
    for _ in range(60):
        ops += [op(Gate.U, q, params=[rng.uniform(0, 3) for _ in range(3)]) for q in range(qubits)]
        ops += [op(Gate.CX, *rng.sample(range(qubits), 2)) for _ in range(qubits)]
    return measured(qubits, *ops)


@pytest.mark.parametrize("adapter", [each for each in ADAPTERS if each.name in ("qdmi", "cirq_sampler")], ids=str)
def test_a_job_that_runs_can_be_cancelled_and_the_next_one_runs(adapter: Adapter) -> None:
    driver = adapter.open()
    try:
        job = driver.submit(adapter.task(long_job(16), 10))
        assert driver.wait(job, 0.05) in (JobStatus.QUEUED, JobStatus.RUNNING)
        driver.cancel(job)
        deadline = time.monotonic() + 60
        while driver.wait(job, 1.0) is not JobStatus.CANCELLED:
            assert time.monotonic() < deadline
        with pytest.raises(DriverError):
            driver.result(job)
        driver.free(job)
        assert finish(driver, adapter.task(bell(), 10)).shots == 10
    finally:
        driver.close()


@pytest.mark.parametrize("method", ["branching", "trajectories"])
def test_a_simulator_stops_when_its_host_says_so(method: str) -> None:
    (adapter,) = (each for each in ADAPTERS if each.name == method)
    stop = [False]
    driver = adapter.open(lambda: stop[0])
    stop[0] = True
    (teleport,) = (job for job in JOBS if job.name == "teleport")
    job = driver.submit(adapter.task(teleport.circuit, 100_000))
    assert driver.wait(job, 0.0) is JobStatus.CANCELLED
    with pytest.raises(DriverError):
        driver.result(job)


@pytest.mark.parametrize("name", ["rotations", "reset", "teleport"])
def test_noise_is_the_same_by_density_matrix_and_by_trajectories(name: str) -> None:
    # coherence that lasts longer than T1 is no mixture, which trajectories need, and they then take another one
    noise = {"preset": "custom", "fidelity_1q": 0.99, "fidelity_2q": 0.96, "t1_us": 20.0, "t2_us": 15.0}
    (job,) = (each for each in JOBS if each.name == name)
    drawn = []
    for method in ("density_matrix", "trajectories"):
        adapter = Adapter(method, SimQpu, noise, method)
        drawn.append(finish(adapter.open(), adapter.task(job.circuit, SHOTS, 3)).counts)
    one, other = drawn
    values = [value for value in set(one) | set(other) if one.get(value, 0) + other.get(value, 0) >= 20]
    statistic = sum((one.get(v, 0) - other.get(v, 0)) ** 2 / (one.get(v, 0) + other.get(v, 0)) for v in values)
    assert statistic <= chi2.isf(FALSE_ALARM, len(values)) + 1
    with pytest.raises(AssertionError):
        assert_drawn_from(one, exact(job))
