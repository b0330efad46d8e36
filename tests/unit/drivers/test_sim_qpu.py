"""The simulated QPU: exact where the device is clean, noisy as set where it is not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence

import cirq
import numpy as np
import pytest

from qedge_driver_api import (
    BadSettingsError,
    Condition,
    ConditionKind,
    DriverContext,
    DriverKind,
    FatalError,
    FlatCircuit,
    Gate,
    JobStatus,
    OperatingState,
    ProgramError,
    QpuDriver,
    QpuResult,
    QpuTask,
    Reconfigurable,
    RetriableError,
    settings_from_mapping,
)
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu import SimQpu
from qedge_drivers.sim_qpu.gates import gate_matrix
from qedge_drivers.sim_qpu.native import NativeBackend, NativeUnavailableError
from qedge_drivers.sim_qpu.noise import Kind, density_plan, noise_sites
from qedge_drivers.sim_qpu.program import plan
from qedge_drivers.sim_qpu.settings import SimQpuSettings, resolve

PAULIS = [np.eye(2), *(gate_matrix(g, ()) for g in (Gate.X, Gate.Y, Gate.Z))]


def opened(**settings: object) -> SimQpu:
    driver = SimQpu(settings_from_mapping(SimQpuSettings, settings))
    driver.open(DriverContext("qpu", "", bytes, lambda: False))
    return driver


def op(gate: Gate, *qubits: int, params: Sequence[float] = (), arg: int = 0) -> Op:
    return (int(gate), qubits, tuple(map(float, params)), arg)


def measured(ops: Sequence[Op], qubits: int, conditions: Sequence[Condition] = ()) -> FlatCircuit:
    last = [op(Gate.MEASURE, qubit, arg=qubit) for qubit in range(qubits)]
    return FlatCircuit(qubits, qubits, (*ops, *last), tuple(conditions))


def run(driver: SimQpu, circuit: FlatCircuit, shots: int = 1000, seed: int = 1) -> QpuResult:
    job = driver.submit(QpuTask(circuit, shots, seed))
    assert driver.wait(job, 0) is JobStatus.DONE
    result = driver.result(job)
    driver.free(job)
    assert sum(result.counts.values()) == shots
    return result


def ghz(qubits: int) -> FlatCircuit:
    return measured([op(Gate.H, 0), *(op(Gate.CX, i, i + 1) for i in range(qubits - 1))], qubits)


def random_ops(qubits: int, number: int, seed: int, widest: int = 3) -> list[Op]:
    rng = np.random.default_rng(seed)
    shapes = [
        (Gate.H, 1, 0), (Gate.SX, 1, 0), (Gate.TDG, 1, 0), (Gate.RX, 1, 1), (Gate.RY, 1, 1), (Gate.RZ, 1, 1),
        (Gate.P, 1, 1), (Gate.U, 1, 3), (Gate.CX, 2, 0), (Gate.CY, 2, 0), (Gate.CZ, 2, 0), (Gate.CH, 2, 0),
        (Gate.CP, 2, 1), (Gate.CRX, 2, 1), (Gate.CRY, 2, 1), (Gate.CRZ, 2, 1), (Gate.CU, 2, 4), (Gate.SWAP, 2, 0),
        (Gate.ISWAP, 2, 0), (Gate.RXX, 2, 1), (Gate.RYY, 2, 1), (Gate.RZZ, 2, 1), (Gate.CCX, 3, 0), (Gate.CCZ, 3, 0),
        (Gate.CSWAP, 3, 0),
    ]  # fmt: skip
    shapes = [shape for shape in shapes if shape[1] <= min(qubits, widest)]
    made = []
    for _ in range(number):
        gate, width, params = shapes[rng.integers(len(shapes))]
        own = rng.permutation(qubits)[:width].tolist()
        made.append(op(gate, *own, params=rng.uniform(-20, 20, params)))
    return made


def exact(ops: Sequence[Op], qubits: int) -> np.ndarray:
    """Probabilities by cirq's own simulator, index bit q = qubit q."""
    line = cirq.LineQubit.range(qubits)
    circuit = cirq.Circuit(cirq.I.on_each(*line))
    for gate, own, params, controls in ops:
        made = cirq.MatrixGate(gate_matrix(gate, params))
        made = cirq.ControlledGate(made, num_controls=controls) if controls else made
        circuit.append(made.on(*(line[q] for q in own)))
    state = cirq.Simulator(dtype=np.complex128).simulate(circuit, qubit_order=line[::-1]).final_state_vector
    return np.abs(state) ** 2


def assert_agrees(result: QpuResult, probabilities: np.ndarray, false_alarm: float = 1e-9) -> None:
    """Bound on the total variation distance as in the integration test of QASMBench."""
    shots = result.shots
    drawn = np.zeros(len(probabilities))
    for key, times in result.counts.items():
        drawn[key] = times / shots
    mean = 0.5 * np.sqrt(probabilities * np.clip(1 - probabilities, 0, 1) / shots).sum()
    bound = mean + math.sqrt(math.log(1 / false_alarm) / (2 * shots)) + 1e-5
    assert 0.5 * np.abs(drawn - probabilities).sum() <= bound


# contract


def test_it_is_a_reconfigurable_qpu_driver() -> None:
    info = SimQpu.describe()
    assert (info.kind, info.simulated) == (DriverKind.QPU, True)
    driver = opened()
    assert isinstance(driver, QpuDriver)
    assert isinstance(driver, Reconfigurable)


def test_describing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from qedge_drivers.sim_qpu import SimQpu; SimQpu.describe();"
        "print(sorted({'numpy', 'cirq', 'qsimcirq', 'stim', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_running_a_circuit_does_not_load_cirq() -> None:
    code = (
        "import sys; from qedge_drivers.sim_qpu import SimQpu; from qedge_driver_api import *;"
        "d = SimQpu(SimQpu.Settings()); d.open(DriverContext('q', '', bytes, lambda: False));"
        "d.submit(QpuTask(FlatCircuit(1, 1, ((5, (0,), (), 0), (60, (0,), (), 0))), 10, 1));"
        "print(d.properties()['backend'], 'cirq' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert out == ["qsim", "False"] or out[0] != "qsim"


def test_close_is_legal_in_any_state_and_open_may_follow() -> None:
    driver = SimQpu(SimQpuSettings())
    driver.close()
    assert driver.health().state is OperatingState.DOWN
    with pytest.raises(RetriableError):
        driver.submit(QpuTask(ghz(2), 1, 0))
    for _ in range(2):
        driver.open(DriverContext("qpu", "", bytes, lambda: False))
        assert driver.health().state is OperatingState.UP
        run(driver, ghz(2))
        driver.close()
        driver.close()


def test_a_freed_job_is_unknown() -> None:
    driver = opened()
    job = driver.submit(QpuTask(ghz(2), 1, 0))
    driver.cancel(job)
    driver.cancel("nonsense")
    driver.free(job)
    driver.free(job)
    with pytest.raises(FatalError):
        driver.result(job)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"preset": "ideal", "fidelity_2q": 0.99}, "fidelity_2q"),
        ({"preset": "custom", "fidelity_1q": 0.3}, "fidelity_1q"),
        ({"preset": "custom", "t1_us": 10.0, "t2_us": 30.0}, "t2_us"),
        ({"preset": "custom", "t1_us": -0.5}, "t1_us"),
        ({"preset": "perfect"}, "preset"),
        ({"qubits": 100_000}, "qubits"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, object], key: str) -> None:
    with pytest.raises(BadSettingsError) as caught:
        SimQpu(settings_from_mapping(SimQpuSettings, settings))
    assert caught.value.key == key


def test_preset_plan_is_the_device_of_the_plan() -> None:
    properties = opened(preset="plan").qpu_properties()
    assert 50 <= properties.num_qubits <= 100
    assert properties.coupling == ()
    assert all(each.fidelity >= 0.999 for each in properties.operations)
    assert all(min(site.t1_us, site.t2_us) > 100 for site in properties.sites)


def test_couplings_are_those_of_the_shape() -> None:
    assert opened(qubits=3, connectivity="line").qpu_properties().coupling == ((0, 1), (1, 2))
    assert opened(qubits=4, connectivity="ring").qpu_properties().coupling == ((0, 1), (0, 3), (1, 2), (2, 3))
    grid = opened(qubits=5, connectivity="grid").qpu_properties().coupling
    assert grid == ((0, 1), (0, 3), (1, 2), (1, 4), (3, 4))


# clean devices


@pytest.mark.parametrize("backend", ["auto", "cirq"])
@pytest.mark.parametrize("seed", range(6))
def test_a_clean_device_gives_the_exact_distribution(backend: str, seed: int) -> None:
    qubits = 2 + seed % 4
    ops = random_ops(qubits, 40, seed)
    ops += [op(Gate.X, *range(qubits), arg=qubits - 1), op(Gate.U, 0, 1, params=(1, 2, 3), arg=1)]
    ops += [op(Gate.H, 0), op(Gate.GPHASE, *range(qubits), params=(0.7,), arg=qubits), op(Gate.H, 0)]
    driver = opened(backend=backend)
    assert_agrees(run(driver, measured(ops, qubits), 20_000, seed), exact(ops, qubits))


@pytest.mark.parametrize("backend", ["auto", "cirq"])
def test_one_qubit_turns_its_bit_wherever_it_is_measured(backend: str) -> None:
    driver = opened(backend=backend)
    circuit = FlatCircuit(40, 90, (op(Gate.X, 33), op(Gate.MEASURE, 33, arg=80), op(Gate.MEASURE, 33, arg=3)))
    assert run(driver, circuit, 10).counts == {1 << 80 | 1 << 3: 10}


def test_bits_come_in_the_order_of_the_program() -> None:
    ops = [op(Gate.X, 0), op(Gate.MEASURE, 0, arg=2), op(Gate.MEASURE, 1, arg=0), op(Gate.MEASURE, 0, arg=1)]
    assert run(opened(), FlatCircuit(2, 3, tuple(ops))).counts == {0b110: 1000}


def test_the_last_write_into_a_bit_wins() -> None:
    ops = [op(Gate.X, 0), op(Gate.MEASURE, 0, arg=0), op(Gate.MEASURE, 1, arg=0)]
    assert run(opened(), FlatCircuit(2, 1, tuple(ops))).counts == {0: 1000}
    assert run(opened(), FlatCircuit(2, 1, (ops[0], ops[2], ops[1]))).counts == {1: 1000}


def test_the_same_seed_gives_the_same_counts_and_another_seed_others() -> None:
    for settings in ({}, {"preset": "plan"}):
        driver = opened(**settings)
        circuit = measured(random_ops(4, 30, 3), 4)
        first, again, other = (run(driver, circuit, 500, seed).counts for seed in (7, 7, 8))
        assert first == again != other


def test_a_measurement_that_is_forgotten_still_disturbs() -> None:
    ops = [op(Gate.H, 0), op(Gate.MEASURE, 0, arg=0), op(Gate.H, 0), op(Gate.MEASURE, 0, arg=0)]
    counts = run(opened(), FlatCircuit(1, 1, tuple(ops)), 4000).counts
    assert 1700 < counts[1] < 2300


@pytest.mark.parametrize("noise", [{}, {"preset": "custom", "fidelity_1q": 0.99999}])
def test_teleportation_moves_a_state(noise: dict[str, object]) -> None:
    conditions = [
        Condition(ConditionKind.EQUALS, (1,), 1, 1),
        Condition(ConditionKind.EQUALS, (0,), 1, 1),
    ]
    ops = [
        op(Gate.RY, 0, params=(1.0,)), op(Gate.H, 1), op(Gate.CX, 1, 2), op(Gate.CX, 0, 1), op(Gate.H, 0),
        op(Gate.MEASURE, 0, arg=0), op(Gate.MEASURE, 1, arg=1),
        op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.IF, arg=1), op(Gate.Z, 2),
        op(Gate.RY, 2, params=(-1.0,)), op(Gate.MEASURE, 2, arg=2),
    ]  # fmt: skip
    counts = run(opened(**noise), FlatCircuit(3, 3, tuple(ops), tuple(conditions)), 4000).counts
    assert sum(times for key, times in counts.items() if key & 4) <= 4
    assert all(900 < sum(t for k, t in counts.items() if k & 3 == pair) < 1100 for pair in range(4))


def test_reset_forgets_and_leaves_the_partner_mixed() -> None:
    ops = [op(Gate.H, 0), op(Gate.CX, 0, 1), op(Gate.RESET, 0)]
    counts = run(opened(), measured(ops, 2), 4000).counts
    assert set(counts) == {0b00, 0b10}
    assert 1800 < counts[0b10] < 2200


def test_parity_conditions_read_the_xor() -> None:
    condition = Condition(ConditionKind.PARITY, (0, 1), 1, 2)
    ops = [
        op(Gate.H, 0), op(Gate.H, 1), op(Gate.MEASURE, 0, arg=0), op(Gate.MEASURE, 1, arg=1),
        op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.MEASURE, 2, arg=2), op(Gate.MEASURE, 3, arg=2),
    ]  # fmt: skip
    counts = run(opened(), FlatCircuit(4, 3, (*ops[:7], op(Gate.H, 3)), (condition,)), 4000).counts
    assert set(counts) == {0b000, 0b011, 0b101, 0b110}


def test_a_measurement_that_may_not_happen_keeps_the_older_value() -> None:
    condition = Condition(ConditionKind.EQUALS, (0,), 1, 1)
    ops = [op(Gate.X, 1), op(Gate.MEASURE, 1, arg=1), op(Gate.H, 0), op(Gate.MEASURE, 0, arg=0)]
    ops += [op(Gate.IF, arg=0), op(Gate.MEASURE, 2, arg=1)]
    assert set(run(opened(), FlatCircuit(3, 2, tuple(ops), (condition,)), 500).counts) == {0b10, 0b01}


@pytest.mark.long
def test_feed_forward_agrees_with_cirq() -> None:
    a, b, c = cirq.LineQubit.range(3)
    theirs = cirq.Circuit(
        cirq.ry(1.1)(a), cirq.CX(a, b), cirq.ry(0.4)(b), cirq.measure(b, key="m"),
        cirq.ry(0.9)(a).with_classical_controls("m"), cirq.CX(a, c), cirq.reset(b), cirq.ry(0.7)(b), cirq.CX(b, c),
        cirq.measure(a, b, c, key="out"),
    )  # fmt: skip
    shots = 4000
    rows = cirq.Simulator(seed=5).run(theirs, repetitions=shots).measurements["out"]
    expected = np.bincount(rows @ [1, 2, 4], minlength=8) / shots
    ops = [
        op(Gate.RY, 0, params=(1.1,)), op(Gate.CX, 0, 1), op(Gate.RY, 1, params=(0.4,)), op(Gate.MEASURE, 1, arg=3),
        op(Gate.IF, arg=0), op(Gate.RY, 0, params=(0.9,)), op(Gate.CX, 0, 2), op(Gate.RESET, 1),
        op(Gate.RY, 1, params=(0.7,)), op(Gate.CX, 1, 2), *(op(Gate.MEASURE, i, arg=i) for i in range(3)),
    ]  # fmt: skip
    circuit = FlatCircuit(3, 4, tuple(ops), (Condition(ConditionKind.EQUALS, (3,), 1, 1),))
    counts = run(opened(), circuit, shots).counts
    ours = np.zeros(8)
    for key, times in counts.items():
        ours[key & 7] += times / shots
    # both sides are samples: chi-square with 7 degrees of freedom, p > 1e-6
    assert shots * ((ours - expected) ** 2 / np.maximum(ours + expected, 1e-9)).sum() < 41


# machines that lack something


def test_another_kernel_takes_over_where_qsim_cannot_be_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise NativeUnavailableError("moved")

    monkeypatch.setattr("qedge_drivers.sim_qpu.native.load_qsim", lost)
    driver = opened()
    assert driver.properties()["backend"] in ("qsimcirq", "cirq")
    assert set(run(driver, ghz(3)).counts) == {0, 7}
    with pytest.raises(FatalError, match="moved"):
        opened(backend="native")


@pytest.mark.parametrize("fault", ["reversed samples", "wrong state", "gone"])
def test_a_binding_that_behaves_otherwise_fails_the_self_test(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    real = NativeBackend()._qsim

    class Changed:
        def __getattr__(self, name: str) -> object:
            if fault == "gone" and name == "add_matrix_gate":
                raise AttributeError(name)
            if fault == "reversed samples" and name == "qsim_sample_final":
                return lambda options, shots: [1] * shots
            if fault == "wrong state" and name == "control_last_gate":
                return lambda *args: None
            return getattr(real, name)

    monkeypatch.setattr("qedge_drivers.sim_qpu.native.load_qsim", Changed)
    with pytest.raises(NativeUnavailableError, match="self-test"):
        NativeBackend()


def test_without_stim_a_wide_clifford_circuit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = opened()
    simulator = driver._simulator
    assert simulator is not None
    monkeypatch.setattr(simulator, "has_stim", False)
    assert run(driver, ghz(18)).metadata["method"] == "state_vector"
    assert run(driver, ghz(50)).metadata["method"] == "mps"


# wide circuits


@pytest.mark.parametrize("preset", ["ideal", "plan"])
def test_ghz_on_50_qubits_runs(preset: str) -> None:
    result = run(opened(preset=preset), ghz(50))
    assert result.metadata["method"] == "stabilizer"
    both = result.counts.get(0, 0) + result.counts.get(2**50 - 1, 0)
    if preset == "ideal":
        assert set(result.counts) == {0, 2**50 - 1}
    else:
        assert 600 < both < 960


def test_a_wide_clifford_circuit_with_conditions_runs() -> None:
    ops = [*ghz(40).ops[:-40], op(Gate.MEASURE, 39, arg=0), op(Gate.IF, arg=0)]
    ops += [op(Gate.X, 0), op(Gate.X, 0), op(Gate.X, 0)]
    conditions = (Condition(ConditionKind.EQUALS, (0,), 1, 3),)
    circuit = FlatCircuit(40, 2, (*ops, op(Gate.MEASURE, 0, arg=1)), conditions)
    counts = run(opened(), circuit, 200).counts
    assert set(counts) == {0b00, 0b01}


@pytest.mark.parametrize("seed", range(4))
def test_clifford_circuits_agree_with_the_state_vector(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quarter = math.pi / 2
    ops = []
    for _ in range(60):
        a, b = rng.permutation(5)[:2].tolist()
        turns = rng.integers(-9, 9, 3)
        ops += [
            op(Gate.U, a, params=turns * quarter), op(Gate.CP, a, b, params=(turns[0] * math.pi,)),
            op(Gate.RXX, a, b, params=(turns[1] * quarter,)), op(Gate.RY, b, params=(turns[2] * quarter,)),
            op(Gate.ISWAP, a, b), op(Gate.RYY, a, b, params=(turns[0] * quarter,)), op(Gate.SXDG, b),
            op(Gate.RZZ, b, a, params=(turns[2] * quarter,)), op(Gate.P, a, params=(turns[1] * quarter,)),
        ]  # fmt: skip
    wide = [(g, q, p, arg) for g, q, p, arg in ops] + [op(Gate.CX, 4, i) for i in range(5, 25)]
    circuit = FlatCircuit(25, 25, (*wide, *(op(Gate.MEASURE, i, arg=i) for i in range(25))))
    result = run(opened(), circuit, 20_000, seed)
    assert result.metadata["method"] == "stabilizer"
    narrow: dict[int, int] = {}
    for key, times in result.counts.items():
        assert key >> 5 in (0, 2**20 - 1)
        narrow[key & 31] = narrow.get(key & 31, 0) + times
    assert_agrees(QpuResult(narrow, 20_000, {}), exact(ops, 5))


def test_idle_qubits_cost_nothing() -> None:
    ops = [
        op(Gate.T, 3),
        op(Gate.H, 63),
        op(Gate.T, 63),
        op(Gate.CX, 63, 0),
        op(Gate.H, 20),
        op(Gate.BARRIER, *range(64)),
    ]
    result = run(opened(), measured(ops, 64))
    assert result.metadata["qubits"] == 4
    assert {key & ~(1 << 20) for key in result.counts} == {0, 1 << 63 | 1}


def test_what_cannot_reach_a_result_is_not_run() -> None:
    ops = [*random_ops(30, 200, 1), op(Gate.RESET, 0), op(Gate.H, 0), op(Gate.MEASURE, 0, arg=0)]
    result = run(opened(), FlatCircuit(30, 1, tuple(ops)))
    assert result.metadata["qubits"] == 1


def test_a_circuit_that_touches_nothing_measures_zero() -> None:
    assert run(opened(), measured([], 5)).counts == {0: 1000}
    assert run(opened(), measured([op(Gate.RESET, 2), op(Gate.ID, 1)], 5)).counts == {0: 1000}


def wide_t(qubits: int) -> FlatCircuit:
    """No Clifford circuit, and entangled as far as can be foretold."""
    turns = [op(Gate.T, i) for i in range(qubits)]
    pairs = [op(Gate.CX, i, (i + step) % qubits) for step in range(1, 7) for i in range(qubits)]
    return measured([*turns, op(Gate.H, 0), *pairs], qubits)


@pytest.mark.parametrize("qubits", [31, 33, 45, 64])
def test_too_wide_a_state_is_refused_before_it_is_allocated(qubits: int) -> None:
    circuit = wide_t(qubits)
    driver = opened(preset="plan")
    for call in (driver.estimate, driver.submit):
        with pytest.raises(ProgramError) as caught:
            call(QpuTask(circuit, 1, 0))
        assert caught.value.code == "too_many_qubits"


def test_memory_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qedge_drivers.sim_qpu.simulator.available_bytes", lambda: 64 << 20)
    driver = opened()
    by_state = {"method": "state_vector"}
    driver.estimate(QpuTask(wide_t(18), 1, 0, by_state))
    with pytest.raises(ProgramError) as caught:
        driver.estimate(QpuTask(wide_t(25), 1, 0, by_state))
    assert caught.value.code == "too_many_qubits"


def test_qubits_that_the_device_does_not_have_are_refused() -> None:
    with pytest.raises(ProgramError) as caught:
        run(opened(qubits=5), ghz(6))
    assert caught.value.code == "too_many_qubits"


def test_a_gate_between_uncoupled_qubits_is_refused_by_the_pair() -> None:
    driver = opened(qubits=5, connectivity="line")
    run(driver, ghz(5))
    with pytest.raises(ProgramError, match="qubits 0 and 2") as caught:
        run(driver, measured([op(Gate.CX, 0, 2)], 5))
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("shots", [0, -1, 1_000_001])
def test_numbers_of_shots_out_of_range_are_refused(shots: int) -> None:
    with pytest.raises(ProgramError) as caught:
        opened().submit(QpuTask(ghz(2), shots, 0))
    assert caught.value.code == "too_many_shots"


def test_a_run_that_is_no_longer_wanted_ends_cancelled() -> None:
    driver = SimQpu(SimQpuSettings())
    driver.open(DriverContext("qpu", "", bytes, lambda: True))
    ops = [op(Gate.H, 0), op(Gate.MEASURE, 0, arg=0), op(Gate.H, 0)]
    job = driver.submit(QpuTask(measured(ops, 1), 10, 0))
    assert driver.wait(job, 0) is JobStatus.CANCELLED


def test_estimates_grow_with_the_state() -> None:
    driver = opened()
    small, large = (driver.estimate(QpuTask(wide_t(n), 1000, 0)) for n in (10, 24))
    assert small.method == large.method == "state_vector"
    assert large.memory_bytes - small.memory_bytes > 8 << 23
    assert large.time_s > 10 * small.time_s


# noise


def density(ops: Sequence[Op], qubits: int, settings: dict[str, object]) -> np.ndarray:
    """Diagonal of the density matrix by cirq, with the channels of the noise model as Kraus operators."""
    device = resolve(settings_from_mapping(SimQpuSettings, {"preset": "custom", **settings}))
    reduced = plan(measured(ops, qubits), keep_identities=True)
    assert reduced.device_qubits == tuple(range(qubits))
    line = cirq.LineQubit.range(qubits)
    steps: list[tuple[int, int, cirq.Operation]] = []
    for index, (gate, own, params, _) in enumerate(reduced.ops):
        steps.append((index, 1, cirq.MatrixGate(gate_matrix(gate, params)).on(*(line[q] for q in own))))
    for site in noise_sites(reduced, device):
        where = [line[q] for q in site.targets]
        if site.kind == Kind.DEPOLARISE:
            # cirq's p is the chance of any Pauli but the identity
            chance = site.value * (1 - 0.25 ** len(where))
            made = cirq.depolarize(chance, n_qubits=len(where)).on(*where)
            steps.append((site.owner, 2 if site.at > site.owner else 0, made))
        elif site.kind == Kind.RELAX:
            population = math.exp(-site.value / device.t1_us)
            coherence = math.exp(-site.value / device.t2_us)
            place = 2 if site.at > site.owner else 0
            steps.append((site.owner, place, cirq.amplitude_damp(1 - population).on(*where)))
            # amplitude damping keeps sqrt(population) of the coherence, dephasing the rest
            steps.append((site.owner, place, cirq.phase_flip((1 - coherence / math.sqrt(population)) / 2).on(*where)))
    circuit = cirq.Circuit(cirq.I.on_each(*line))
    for _, _, step in sorted(steps, key=lambda step: step[:2]):
        circuit.append(step, strategy=cirq.InsertStrategy.NEW)
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    rho = simulator.simulate(circuit, qubit_order=line[::-1]).final_density_matrix
    return np.clip(np.real(np.diag(rho)), 0, 1)


NOISES: list[dict[str, object]] = [
    {"fidelity_1q": 0.97, "fidelity_2q": 0.9},
    {"t1_us": 3.0, "t2_us": 2.0},
    {"t1_us": 2.0, "t2_us": 4.0, "fidelity_2q": 0.8},
    {"t2_us": 1.0},
    {"fidelity_1q": 0.98, "fidelity_2q": 0.85, "t1_us": 5.0, "t2_us": 5.0},
]


@pytest.mark.parametrize("backend", ["auto", "cirq"])
@pytest.mark.parametrize("noise", NOISES)
def test_a_noisy_device_gives_the_distribution_of_its_channels(backend: str, noise: dict[str, object]) -> None:
    ops = random_ops(3, 14, 5)
    result = run(opened(preset="custom", backend=backend, **noise), measured(ops, 3), 40_000)
    assert result.metadata["method"] == "density_matrix"
    assert_agrees(result, density(ops, 3, noise))


@pytest.mark.parametrize("noise", [NOISES[0], NOISES[1], NOISES[3], NOISES[4]])
def test_trajectories_give_the_same_distribution(monkeypatch: pytest.MonkeyPatch, noise: dict[str, object]) -> None:
    monkeypatch.setattr("qedge_drivers.sim_qpu.methods.MAX_DENSITY_QUBITS", 0)
    ops = random_ops(3, 14, 5)
    result = run(opened(preset="custom", **noise), measured(ops, 3), 8000)
    assert result.metadata["method"] == "trajectories"
    assert "approximation" not in result.metadata
    assert_agrees(result, density(ops, 3, noise))


def test_noisy_clifford_circuits_agree_with_the_density_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = [op(Gate.H, 0), op(Gate.CX, 0, 1), op(Gate.S, 1), op(Gate.CX, 1, 2), op(Gate.SX, 2), op(Gate.CZ, 0, 2)]
    circuit = measured([*ops, op(Gate.H, 1)], 3)
    noise = {"fidelity_1q": 0.95, "fidelity_2q": 0.85, "t2_us": 2.0, "readout_error": 0.1}
    driver = opened(preset="custom", **noise)
    first = run(driver, circuit, 40_000)
    monkeypatch.setattr("qedge_drivers.sim_qpu.methods.STABILIZER_FROM", 0)
    monkeypatch.setattr("qedge_drivers.sim_qpu.methods._NOISY_STABILIZER_FROM", 0)
    second = run(opened(preset="custom", **noise), circuit, 40_000)
    assert (first.metadata["method"], second.metadata["method"]) == ("density_matrix", "stabilizer")
    a, b = (np.array([each.counts.get(k, 0) for k in range(8)]) for each in (first, second))
    assert ((a - b) ** 2 / (a + b)).sum() < 41


@pytest.mark.parametrize("limit", [8, 0])
def test_noise_stays_out_of_operations_that_a_condition_skips(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("qedge_drivers.sim_qpu.methods.MAX_DENSITY_QUBITS", limit)
    conditions = (Condition(ConditionKind.EQUALS, (0,), 1, 2), Condition(ConditionKind.EQUALS, (0,), 0, 2))
    ops = [op(Gate.X, 0), op(Gate.MEASURE, 0, arg=0), op(Gate.IF, arg=1), op(Gate.X, 1), op(Gate.X, 1)]
    ops += [op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.X, 2), op(Gate.MEASURE, 1, arg=1), op(Gate.MEASURE, 2, arg=2)]
    driver = opened(preset="custom", fidelity_1q=0.75)
    counts = run(driver, FlatCircuit(3, 3, tuple(ops), conditions), 8000).counts
    executed = sum(times for key, times in counts.items() if key & 1 == 1 and key & 4)
    entered = sum(times for key, times in counts.items() if key & 1)
    # F = 0.75 leaves a flip chance of 1/4 for each of two gates: 3/8 together
    assert executed / entered == pytest.approx(0.375, abs=0.03)
    assert not any(key & 1 and key & 2 for key in counts)


def test_relaxation_empties_an_excited_qubit() -> None:
    ops = [op(Gate.X, 0), *(op(Gate.ID, 0) for _ in range(20))]
    driver = opened(preset="custom", t1_us=1.0, duration_1q_us=0.05)
    counts = run(driver, measured(ops, 1), 20_000).counts
    assert counts[1] / 20_000 == pytest.approx(math.exp(-21 * 0.05), abs=0.02)


def test_a_qubit_that_waits_for_another_relaxes() -> None:
    ops = [op(Gate.X, 0), op(Gate.X, 1), *(op(Gate.ID, 1) for _ in range(19)), op(Gate.CZ, 0, 1)]
    driver = opened(preset="custom", t1_us=1.0, duration_1q_us=0.05, duration_2q_us=0.0)
    counts = run(driver, measured(ops, 2), 20_000).counts
    assert sum(t for k, t in counts.items() if k & 1) / 20_000 == pytest.approx(math.exp(-1), abs=0.02)


@pytest.mark.parametrize("build", [lambda: ghz(3), lambda: ghz(12), lambda: ghz(30), lambda: measured([], 3)])
def test_readout_errors_flip_bits(build: Callable[[], FlatCircuit]) -> None:
    circuit = build()
    result = run(opened(preset="custom", qubits=64, readout_error=0.02), circuit, 20_000)
    n = circuit.num_clbits
    ones = [sum(t for k, t in result.counts.items() if min(k.bit_count(), n - k.bit_count()) == e) for e in range(3)]
    assert ones[0] / 20_000 == pytest.approx(0.98**n, abs=0.03)
    assert sum(ones) < 20_000 or n == 3


def test_a_condition_reads_the_flipped_bit() -> None:
    condition = Condition(ConditionKind.EQUALS, (0,), 1, 1)
    ops = [op(Gate.H, 1), op(Gate.MEASURE, 0, arg=0), op(Gate.IF, arg=0), op(Gate.X, 2), op(Gate.MEASURE, 2, arg=1)]
    for settings in ({}, {"fidelity_2q": 0.999}):
        driver = opened(preset="custom", readout_error=0.2, **settings)
        counts = run(driver, FlatCircuit(3, 2, tuple(ops), (condition,)), 20_000).counts
        # the second bit equals the first up to its own flip
        equal = sum(times for key, times in counts.items() if key in (0, 3))
        assert equal / 20_000 == pytest.approx(0.8, abs=0.02)
        assert sum(times for key, times in counts.items() if key & 1) / 20_000 == pytest.approx(0.2, abs=0.02)


def test_a_fidelity_is_the_average_gate_fidelity() -> None:
    device = resolve(
        settings_from_mapping(
            SimQpuSettings,
            {"preset": "custom", "fidelity_1q": 0.97, "fidelity_2q": 0.9, "t1_us": 20.0, "t2_us": 15.0},
        )
    )
    for gate, width, wanted in ((Gate.X, 1, 0.97), (Gate.CX, 2, 0.9)):
        reduced = plan(measured([op(gate, *range(width))], width))
        woven, _ = density_plan(reduced, noise_sites(reduced, device), device)
        # entanglement fidelity = average over Paulis of tr(P U†E(UPU†... )U)/d: from the superoperator's trace
        from qedge_drivers.sim_qpu.dense import op_matrix

        total = np.eye(4**width, dtype=complex)
        for step in woven.ops:
            total = _embedded(op_matrix(step), step[1], 2 * width) @ total
        ideal = gate_matrix(gate, ())
        order = list(range(width)) + [width + q for q in range(width)]
        ideal_super = _embedded(np.kron(ideal, ideal.conj()), tuple(order), 2 * width)
        d = 2**width
        entanglement = np.trace(ideal_super.conj().T @ total).real / d**2
        assert (d * entanglement + 1) / (d + 1) == pytest.approx(wanted, abs=1e-9)


def _embedded(matrix: np.ndarray, qubits: tuple[int, ...], total: int) -> np.ndarray:
    out = np.zeros((1 << total, 1 << total), dtype=complex)
    k = len(qubits)
    for column in range(1 << total):
        sub = sum((column >> q & 1) << (k - 1 - i) for i, q in enumerate(qubits))
        for row_sub in range(1 << k):
            row = column
            for i, q in enumerate(qubits):
                row = row & ~(1 << q) | (row_sub >> (k - 1 - i) & 1) << q
            out[row, column] += matrix[row_sub, sub]
    return out


def test_a_noisy_device_is_worse_than_a_clean_one_and_says_so() -> None:
    clean, noisy = run(opened(), ghz(12), 4000), run(opened(preset="custom", fidelity_2q=0.95), ghz(12), 4000)
    assert (clean.metadata["noisy"], noisy.metadata["noisy"]) == (False, True)
    good = [each.counts.get(0, 0) + each.counts.get(2**12 - 1, 0) for each in (clean, noisy)]
    assert good[0] == 4000
    assert good[1] < 3000


def test_wide_gates_on_a_noisy_device_run() -> None:
    ops = [op(Gate.X, 0), op(Gate.X, 1), op(Gate.X, 2), op(Gate.X, 0, 1, 2, 3, arg=3)]
    counts = run(opened(preset="plan"), measured(ops, 4), 2000).counts
    assert counts[15] > 1800


def test_new_settings_take_effect_without_reopening() -> None:
    driver = opened()
    driver.reconfigure(settings_from_mapping(SimQpuSettings, {"preset": "custom", "readout_error": 0.5}))
    assert len(run(driver, measured([], 2)).counts) == 4
    assert driver.qpu_properties().num_qubits == 20
