"""Matrix product states, and the choice of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge_driver_api import FlatCircuit, Gate, ProgramError, PropertyValue, QpuResult, QpuTask
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu import SimQpu
from qedge_drivers.sim_qpu.branching import CancelledError
from qedge_drivers.sim_qpu.costs import CostModel, count_passes
from qedge_drivers.sim_qpu.dense import apply_ops, op_matrix, zero_state
from qedge_drivers.sim_qpu.entanglement import arrange
from qedge_drivers.sim_qpu.methods import METHODS, Wish
from qedge_drivers.sim_qpu.mpo import gate_factors
from qedge_drivers.sim_qpu.mps import MatrixProduct
from qedge_drivers.sim_qpu.program import plan
from qedge_drivers.sim_qpu.wide import evolve
from tests.unit.drivers.test_sim_qpu import assert_agrees, exact, ghz, measured, op, opened, random_ops


def run(driver: SimQpu, circuit: FlatCircuit, shots: int = 1000, seed: int = 1, **options: PropertyValue) -> QpuResult:
    job = driver.submit(QpuTask(circuit, shots, seed, options))
    result = driver.result(job)
    driver.free(job)
    assert sum(result.counts.values()) == shots
    return result


def never() -> bool:
    return False


def product_state(qubits: int, ops: Sequence[Op], max_bond: int = 1 << 12, least: float = 0.0) -> MatrixProduct:
    reduced = plan(measured(ops, qubits))
    assert reduced.device_qubits == tuple(range(qubits))
    return evolve(reduced, arrange(qubits, reduced.ops), Wish("mps", max_bond, least), never)


def dense(qubits: int, ops: Sequence[Op], max_bond: int = 1 << 12) -> np.ndarray:
    touched = [*ops, *(op(Gate.H, q) for q in range(qubits))]
    reduced = plan(measured(touched, qubits))
    chain = arrange(qubits, reduced.ops)
    state = evolve(reduced, chain, Wish("mps", max_bond, 0.0), never)
    return np.array(
        [state.amplitude([i >> chain.sites.index(s) & 1 for s in range(qubits)]) for i in range(1 << qubits)]
    )


def brickwork(qubits: int, depth: int, seed: int = 3) -> list[Op]:
    rng = np.random.default_rng(seed)
    ops: list[Op] = []
    for layer in range(depth):
        ops += [op(Gate.RY, q, params=[rng.uniform(0, 6)]) for q in range(qubits)]
        ops += [op(Gate.CZ, q, q + 1) for q in range(layer % 2, qubits - 1, 2)]
    return ops


@pytest.mark.parametrize("seed", range(12))
def test_a_matrix_product_state_is_the_state_vector(seed: int) -> None:
    qubits = 2 + seed % 7
    ops = random_ops(qubits, 40, seed)
    wanted = apply_ops(qubits, [*ops, *(op(Gate.H, q) for q in range(qubits))], zero_state(qubits))
    assert abs(np.vdot(dense(qubits, ops), wanted)) == pytest.approx(1, abs=1e-5)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_factors_of_a_gate_multiply_to_its_matrix(data: st.DataObject) -> None:
    gate, own, params = data.draw(
        st.sampled_from(
            [
                (Gate.GPHASE, 0, 1),
                (Gate.X, 1, 0),
                (Gate.U, 1, 3),
                (Gate.CU, 2, 4),
                (Gate.SWAP, 2, 0),
                (Gate.CSWAP, 3, 0),
            ]
        )
    )
    controls = data.draw(st.integers(2 if own == 0 else 0, 6 - own))
    angles = tuple(data.draw(st.lists(st.floats(-7, 7), min_size=params, max_size=params)))
    width = own + controls
    if width < 2:
        return
    places = data.draw(st.permutations(range(width)))
    whole = (int(gate), tuple(range(width)), angles, controls)
    factors = gate_factors(whole, places)
    assert [site for site, _ in factors] == list(range(width))
    # contract the chain to a matrix whose most significant qubit is the first site
    chain = np.ones((1, 1, 1), dtype=np.complex128)
    for _, factor in factors:
        chain = np.einsum("oil,lpjr->opijr", chain, factor)
        chain = chain.reshape(chain.shape[0] * 2, chain.shape[2] * 2, -1)
    tensor = chain[:, :, 0].reshape((2,) * (2 * width))
    axes = [places[index] for index in range(width)]
    seen = tensor.transpose([*axes, *(width + axis for axis in axes)]).reshape(1 << width, -1)
    assert np.allclose(seen, op_matrix(whole), atol=1e-9)


def test_counts_of_matrix_products_have_the_exact_distribution() -> None:
    ops = random_ops(7, 60, 5)
    result = run(opened(), measured(ops, 7), shots=20_000, method="mps")
    assert result.metadata["method"] == "mps"
    assert result.metadata["fidelity_bound"] == 1
    assert_agrees(result, exact(ops, 7))


def test_a_hundred_qubits_of_little_entanglement_are_exact() -> None:
    result = run(opened(qubits=100), measured(brickwork(100, 8), 100), shots=100)
    assert result.metadata["method"] == "mps"
    assert result.metadata["max_bond"] == 16
    assert result.metadata["discarded_weight"] == 0


def test_local_results_of_a_wide_circuit_are_those_of_its_light_cone() -> None:
    ops = brickwork(60, 3)
    wide = run(opened(), measured(ops, 60), shots=20_000, method="mps")
    ones = sum(times for key, times in wide.counts.items() if key >> 30 & 1) / 20_000
    cone = [
        (gate, tuple(q - 26 for q in own), params, arg)
        for gate, own, params, arg in ops
        if min(own) >= 26 and max(own) <= 34
    ]
    chances = exact(cone, 9)
    expected = sum(chances[index] for index in range(512) if index >> 4 & 1)
    assert abs(ones - expected) < 5 * math.sqrt(0.25 / 20_000)


def test_what_is_cut_is_said_and_is_what_is_missing() -> None:
    ops = brickwork(12, 12)
    full = product_state(12, ops)
    cut = product_state(12, ops, max_bond=12)
    assert full.fidelity_bound == 1
    bits = [[i >> q & 1 for q in range(12)] for i in range(1 << 12)]
    overlap = abs(sum(np.conj(full.amplitude(row)) * cut.amplitude(row) for row in bits)) ** 2
    assert cut.fidelity_bound < 0.999
    assert overlap == pytest.approx(cut.fidelity_bound, rel=0.1)
    assert cut.largest_bond <= 16


def test_a_state_that_is_too_entangled_is_given_up_and_says_so() -> None:
    with pytest.raises(ProgramError, match="max_bond") as caught:
        run(opened(qubits=40), measured(brickwork(40, 24), 40), shots=10, max_bond=16)
    assert caught.value.code == "too_entangled"
    allowed = run(opened(qubits=40), measured(brickwork(40, 12), 40), shots=10, max_bond=8, min_fidelity=0)
    assert float(allowed.metadata["fidelity_bound"]) < 0.99


def test_matrix_products_can_be_cancelled() -> None:
    reduced = plan(measured(brickwork(40, 20), 40))
    with pytest.raises(CancelledError):
        evolve(reduced, arrange(40, reduced.ops), Wish("mps", 64, 0.0), lambda: True)


def test_the_order_of_qubits_follows_the_gates() -> None:
    shuffled = np.random.default_rng(4).permutation(30).tolist()
    line = [op(Gate.CX, shuffled[i], shuffled[i + 1]) for i in range(29)]
    assert arrange(30, line).log_bond == 1
    assert arrange(30, [op(Gate.CX, i, i + 1) for i in range(29)]).sites == tuple(range(30))


def test_norm_and_samples_survive_gates_over_distance() -> None:
    state = MatrixProduct(9, 64, never)
    state.turn(0, op_matrix(op(Gate.H, 0)))
    for target in (8, 4, 2, 6):
        state.apply(gate_factors(op(Gate.CX, 0, target), [0, target]))
    state.finish()
    rows = state.sample(500, np.random.default_rng(1))
    assert {tuple(row) for row in rows[:, [0, 2, 4, 6, 8]].tolist()} == {(False,) * 5, (True,) * 5}
    assert not rows[:, [1, 3, 5, 7]].any()


def test_methods_agree_where_several_can_run() -> None:
    clifford = [op(Gate.H, 0), op(Gate.CX, 0, 1), op(Gate.S, 1), op(Gate.CZ, 1, 2), op(Gate.SX, 2), op(Gate.SWAP, 2, 3)]
    wanted = exact(clifford, 4)
    for method in METHODS:
        result = run(opened(), measured(clifford, 4), shots=20_000, method=method)
        assert result.metadata["method"] == method
        assert_agrees(result, wanted)


@pytest.mark.parametrize(
    ("method", "circuit", "device"),
    [
        ("stabilizer", measured([op(Gate.T, 0)], 1), {}),
        ("mps", ghz(3), {"preset": "plan"}),
        ("state_vector", ghz(3), {"preset": "plan"}),
        ("branching", ghz(3), {"preset": "plan"}),
        ("density_matrix", ghz(14), {}),
        ("state_vector", ghz(31), {}),
        ("mps", FlatCircuit(1, 1, (op(Gate.H, 0), op(Gate.MEASURE, 0), op(Gate.H, 0), op(Gate.MEASURE, 0))), {}),
    ],
)
def test_a_method_that_cannot_run_a_circuit_says_why(
    method: str, circuit: FlatCircuit, device: dict[str, object]
) -> None:
    with pytest.raises(ProgramError, match=f"method {method} does not run this: .") as caught:
        opened(**device).estimate(QpuTask(circuit, 1, 0, {"method": method}))
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    "options",
    [{"method": "magic"}, {"max_bond": 0}, {"max_bond": True}, {"max_bond": 1.5}, {"min_fidelity": 2.0}, {"speed": 9}],
)
def test_unknown_and_impossible_options_are_refused(options: dict[str, PropertyValue]) -> None:
    with pytest.raises(ProgramError) as caught:
        opened().estimate(QpuTask(ghz(3), 1, 0, options))
    assert caught.value.code == "bad_option"


def test_passes_count_what_a_kernel_that_fuses_pairs_has_to_do() -> None:
    turns = [op(Gate.RX, q, params=[0.1]) for q in range(6)]
    assert count_passes(turns) == 6
    assert count_passes([*turns, *turns]) == 6
    assert count_passes([*turns, op(Gate.CX, 0, 1), op(Gate.RX, 0, params=[1]), op(Gate.CX, 1, 0)]) == 5
    assert count_passes([op(Gate.CX, 0, 1), op(Gate.CX, 1, 2), op(Gate.CX, 0, 1)]) == 3


def test_the_cost_model_learns_from_what_runs_take() -> None:
    model = CostModel()
    ops = brickwork(20, 10)
    before = model.state_s(20, ops)
    for _ in range(30):
        model.learn(20, model.state_s(20, ops), 3 * before)
    assert model.state_s(20, ops) == pytest.approx(3 * before, rel=0.05)
    model.learn(4, 1e-6, 1.0)
    assert model.state_s(4, ops[:8]) < 1e-3


def test_calibration_uses_what_the_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("qedge_drivers.sim_qpu.costs.time.perf_counter", lambda: clock[0])

    def evolve(num_qubits: int, ops: Sequence[Op]) -> None:
        clock[0] += 1e-6 * len(ops) + (count_passes(ops) + 2) * 2.0**num_qubits * 1e-9

    model = CostModel()
    found = model.calibrate(evolve)
    assert all(rate == pytest.approx(1.0, rel=0.05) for rate in found.values())
    ops = brickwork(18, 6)
    assert model.state_s(18, ops) == pytest.approx((count_passes(ops) + 2) * 2**18 * 1e-9, rel=0.1)
