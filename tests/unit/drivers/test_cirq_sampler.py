"""Any cirq.Sampler as a QPU; the third party's sampler is the fake below."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import cirq
import numpy as np
import pytest

from qedge_driver_api import (
    BadSettingsError,
    Condition,
    ConditionKind,
    DriverContext,
    FatalError,
    FlatCircuit,
    Gate,
    JobStatus,
    OperatingState,
    ProgramError,
    QpuDriver,
    QpuResult,
    QpuTask,
    RetriableError,
    settings_from_mapping,
)
from qedge_driver_api.circuit import UNITARY_SHAPE, Op
from qedge_drivers.cirq_sampler import CirqSampler
from qedge_drivers.cirq_sampler.conversion import to_cirq
from qedge_drivers.cirq_sampler.settings import CirqSamplerSettings
from qedge_drivers.sim_qpu import SimQpu
from qedge_drivers.sim_qpu.dense import apply_ops, zero_state


class VendorSampler(cirq.Sampler):
    """A third party's sampler: answers as told, after `gate` is open."""

    answer = "right"
    gate = threading.Event()

    def run_sweep(
        self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1
    ) -> Sequence[cirq.Result]:
        if not self.gate.wait(30):
            raise TimeoutError("the gate stayed shut")
        keys = sorted(program.all_measurement_key_names())
        columns = {key: np.ones((repetitions, 1), dtype=np.int64) for key in keys}
        if self.answer == "missing key":
            columns.pop(keys[0])
        elif self.answer == "short":
            columns = {key: column[1:] for key, column in columns.items()}
        elif self.answer == "wide":
            columns = {key: np.ones((repetitions, 2), dtype=np.int64) for key in keys}
        elif self.answer == "twos":
            columns = {key: 2 * column for key, column in columns.items()}
        elif self.answer == "nan":
            columns = {key: column * math.nan for key, column in columns.items()}
        elif self.answer == "refuses":
            raise ValueError("this machine has no such gate")
        elif self.answer == "fails":
            raise ConnectionError("the machine is away")
        return [cirq.ResultDict(params=cirq.ParamResolver({}), measurements=columns)]


def vendor() -> cirq.Sampler:
    return VendorSampler()


def broken() -> cirq.Sampler:
    raise RuntimeError("no credentials")


not_a_sampler = 5


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # test modules have no importable name of their own
    monkeypatch.setitem(sys.modules, "vendor_lab", sys.modules[__name__])
    VendorSampler.answer = "right"
    VendorSampler.gate.set()
    yield
    VendorSampler.gate.set()


def made(sampler: str = "vendor_lab:vendor", **settings: object) -> CirqSampler:
    return CirqSampler(settings_from_mapping(CirqSamplerSettings, {"sampler": sampler, **settings}))


def opened(sampler: str = "vendor_lab:vendor", **settings: object) -> CirqSampler:
    driver = made(sampler, **settings)
    driver.probe()
    driver.open(DriverContext("lab", "", bytes, lambda: False))
    return driver


def op(gate: Gate, *qubits: int, params: Sequence[float] = (), arg: int = 0) -> Op:
    return (int(gate), qubits, tuple(map(float, params)), arg)


BELL = FlatCircuit(2, 2, (op(Gate.H, 0), op(Gate.CX, 0, 1), op(Gate.MEASURE, 0), op(Gate.MEASURE, 1, arg=1)))


def run(driver: CirqSampler, circuit: FlatCircuit, shots: int = 100, seed: int = 1) -> QpuResult:
    job = driver.submit(QpuTask(circuit, shots, seed))
    while driver.wait(job, 5) is JobStatus.RUNNING:
        pass
    try:
        return driver.result(job)
    finally:
        driver.free(job)


def test_describing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from qedge_drivers.cirq_sampler import CirqSampler as D; D.describe(); D(D.Settings()).probe();"
        "print(sorted({'numpy', 'cirq', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_third_partys_sampler_runs_circuits() -> None:
    driver = opened()
    assert isinstance(driver, QpuDriver)
    result = run(driver, BELL)
    assert result.counts == {3: 100}
    assert result.metadata["sampler"] == "VendorSampler"
    assert result.metadata["simulated"] is False
    assert driver.health().state is OperatingState.UP


@pytest.mark.parametrize("sampler", ["vendor_lab:vendor", "vendor_lab:VendorSampler", "cirq:Simulator"])
def test_a_sampler_is_named_by_a_factory_or_a_class(sampler: str) -> None:
    assert sum(run(opened(sampler), BELL).counts.values()) == 100


def test_the_default_is_cirqs_simulator_and_repeats_itself() -> None:
    driver = CirqSampler(CirqSamplerSettings())
    driver.open(DriverContext("lab", "", bytes, lambda: False))
    first, again, other = (run(driver, BELL, 1000, seed) for seed in (4, 4, 5))
    assert set(first.counts) == {0, 3}
    assert first.counts == again.counts != other.counts
    assert first.metadata["simulated"] is True


def test_every_unitary_gate_means_the_same_in_cirq() -> None:
    rng = np.random.default_rng(1)
    for gate, (width, params) in UNITARY_SHAPE.items():
        for controls in (0, 1, 2):
            n = width + controls + 1
            own = rng.permutation(n)[: width + controls].tolist()
            spread = [op(Gate.U, i, params=rng.uniform(-3, 3, 3)) for i in range(n)]
            ops = [*spread, op(gate, *own, params=rng.uniform(-7, 7, params), arg=controls)]
            expected = apply_ops(n, ops, zero_state(n))
            circuit = to_cirq(FlatCircuit(n, 0, tuple(ops))).circuit
            line = cirq.LineQubit.range(n)
            state = cirq.Simulator(dtype=np.complex128).simulate(circuit, qubit_order=line[::-1]).final_state_vector
            assert abs(np.vdot(state, expected)) == pytest.approx(1, abs=1e-5), (gate.name, controls)


def test_conditions_resets_and_repeated_bits_agree_with_the_simulated_qpu() -> None:
    conditions = (
        Condition(ConditionKind.EQUALS, (0, 1), 1, 2),
        Condition(ConditionKind.PARITY, (0, 1, 2), 1, 1),
        Condition(ConditionKind.EQUALS, (2,), 1, 1),
        Condition(ConditionKind.EQUALS, (0, 2), 0, 1),
    )
    ops = [
        op(Gate.RY, 0, params=(1.2,)), op(Gate.H, 1), op(Gate.MEASURE, 0, arg=0), op(Gate.MEASURE, 1, arg=1),
        op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.H, 3),
        op(Gate.IF, arg=1), op(Gate.RY, 3, params=(0.8,)),
        op(Gate.IF, arg=2), op(Gate.X, 4),
        op(Gate.IF, arg=3), op(Gate.Z, 3), op(Gate.RESET, 0), op(Gate.RX, 0, params=(0.5,)),
        op(Gate.MEASURE, 0, arg=0), op(Gate.BARRIER, 0, 1), *(op(Gate.MEASURE, i, arg=i + 2) for i in range(2, 5)),
    ]  # fmt: skip
    circuit = FlatCircuit(5, 7, tuple(ops), conditions)
    shots = 2000
    theirs = run(opened("cirq:Simulator"), circuit, shots).counts
    simulated = SimQpu(SimQpu.Settings())
    simulated.open(DriverContext("qpu", "", bytes, lambda: False))
    ours = simulated.result(simulated.submit(QpuTask(circuit, shots, 2))).counts
    keys = set(theirs) | set(ours)
    chi = sum((theirs.get(k, 0) - ours.get(k, 0)) ** 2 / (theirs.get(k, 0) + ours.get(k, 0)) for k in keys)
    # 2 samples of one distribution on at most 32 values: p > 1e-6
    assert chi < 88


def test_what_cirq_cannot_say_is_refused() -> None:
    conditions = (Condition(ConditionKind.EQUALS, (0,), 1, 1),)
    ops = (op(Gate.H, 0), op(Gate.MEASURE, 0), op(Gate.IF), op(Gate.MEASURE, 1, arg=1))
    with pytest.raises(ProgramError) as caught:
        opened().submit(QpuTask(FlatCircuit(2, 2, ops, conditions), 1, 0))
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("answer", ["missing key", "short", "wide", "twos", "nan"])
def test_answers_of_another_shape_are_a_fault_of_the_sampler(answer: str) -> None:
    driver = opened()
    VendorSampler.answer = answer
    with pytest.raises(FatalError):
        run(driver, BELL)
    assert driver.health().state is OperatingState.DEGRADED
    VendorSampler.answer = "right"
    run(driver, BELL)
    assert driver.health().state is OperatingState.UP


def test_a_circuit_that_the_sampler_refuses_is_no_fault_of_it() -> None:
    driver = opened()
    VendorSampler.answer = "refuses"
    with pytest.raises(ProgramError, match="no such gate"):
        run(driver, BELL)
    assert driver.health().state is OperatingState.UP


def test_a_sampler_that_fails_may_recover() -> None:
    driver = opened()
    VendorSampler.answer = "fails"
    with pytest.raises(RetriableError, match="away"):
        run(driver, BELL)


def test_a_job_runs_until_it_ends_or_is_cancelled() -> None:
    driver = opened()
    VendorSampler.gate.clear()
    first = driver.submit(QpuTask(BELL, 10, 0))
    second = driver.submit(QpuTask(BELL, 10, 0))
    assert driver.wait(first, 0) is JobStatus.RUNNING
    assert driver.qpu_properties().queue_length == 2
    with pytest.raises(RetriableError):
        driver.result(first)
    driver.cancel(second)
    driver.cancel("nonsense")
    assert driver.wait(second, 60) is JobStatus.CANCELLED
    with pytest.raises(FatalError):
        driver.result(second)
    VendorSampler.gate.set()
    assert driver.wait(first, 30) is JobStatus.DONE
    driver.cancel(first)
    assert driver.result(first).counts == {3: 10}


def test_close_is_legal_in_any_state() -> None:
    driver = made()
    driver.close()
    assert driver.health().state is OperatingState.DOWN
    with pytest.raises(RetriableError):
        driver.submit(QpuTask(BELL, 1, 0))
    driver.open(DriverContext("lab", "", bytes, lambda: False))
    driver.close()
    driver.close()


@pytest.mark.parametrize("sampler", ["cirq", "cirq:", ":x", "cirq:Simulator()", "os;x:y"])
def test_a_sampler_that_is_no_dotted_path_is_refused(sampler: str) -> None:
    with pytest.raises(BadSettingsError) as caught:
        made(sampler)
    assert caught.value.key == "sampler"


@pytest.mark.parametrize("sampler", ["no_such_module:x", "cirq:no_such", "vendor_lab:not_a_sampler", "builtins:dict"])
def test_a_sampler_that_is_not_there_does_not_open(sampler: str) -> None:
    with pytest.raises(FatalError):
        made(sampler).open(DriverContext("lab", "", bytes, lambda: False))


def test_a_sampler_that_cannot_be_made_now_may_open_later() -> None:
    with pytest.raises(RetriableError, match="no credentials"):
        made("vendor_lab:broken").open(DriverContext("lab", "", bytes, lambda: False))


def test_bounds_of_the_device_are_kept() -> None:
    driver = opened(qubits=2, max_shots=50)
    wide = FlatCircuit(3, 1, (op(Gate.X, 2), op(Gate.MEASURE, 2)))
    for circuit, shots, code in (
        (wide, 1, "too_many_qubits"),
        (BELL, 51, "too_many_shots"),
        (BELL, 0, "too_many_shots"),
    ):
        with pytest.raises(ProgramError) as caught:
            driver.estimate(QpuTask(circuit, shots, 0))
        assert caught.value.code == code
