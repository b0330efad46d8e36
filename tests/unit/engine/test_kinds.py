"""Kinds of tasks in a circuit worker, in process, against exact values."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from qedge.base.errors import QedgeError
from qedge.engine.circuit_host import CircuitHost
from qedge.engine.kinds.pauli import read_sums, settings_of
from qedge.engine.kinds.qaoa import Ansatz, cost_of_all, optimise
from qedge.engine.kinds.sample import marginal, shot_by_shot
from qedge.wire.tasks import (
    AmplitudeTask,
    ExpectationTask,
    KernelTask,
    QaoaTask,
    QecTask,
    SampleTask,
    Task,
    TaskResult,
)
from tests.unit.engine.test_circuit_host import BELL, host, refused

ROTATED = """OPENQASM 3.0; include "stdgates.inc";
input float a; input float b;
qubit[3] q; rx(a) q[0]; ry(b) q[1]; cx q[0], q[2]; rzz(a * b) q[1], q[2];"""
MEASURED = ROTATED + " bit[3] c; c = measure q;"


def args(task: Task | None, program: str = "", *, shots: int = 1000, **more: object) -> dict[str, object]:
    given: dict[str, object] = {"shots": shots, "seed": 7, **more}
    if program:
        given["program"] = program
    if task is not None:
        given["task"] = msgspec.to_builtins(task)
    return given


def data_of(made: CircuitHost, given: Mapping[str, object]) -> TaskResult:
    forecast = made.handle("prepare", given)
    assert isinstance(forecast, dict)
    assert float(forecast["time_s"]) > 0  # type: ignore[arg-type] # a number
    answer = made.handle("run", given)
    assert isinstance(answer, dict)
    assert forecast["clbits"] == answer["clbits"]
    size = len(msgspec.msgpack.encode(answer))
    assert size <= int(forecast["result_bytes"]) + 2048  # type: ignore[call-overload] # a number
    return msgspec.convert(answer["data"], TaskResult)  # type: ignore[no-any-return] # a union has no type of its own


def state(a: float, b: float) -> np.ndarray:
    """The state of ROTATED by hand, index bit q = qubit q."""
    psi = np.zeros((2, 2, 2), dtype=complex)  # axes: qubit 2, 1, 0
    for zero in (0, 1):
        for one in (0, 1):
            left = math.cos(a / 2) if zero == 0 else -1j * math.sin(a / 2)
            right = math.cos(b / 2) if one == 0 else math.sin(b / 2)
            phase = np.exp(-0.5j * a * b * (1 - 2 * one) * (1 - 2 * zero))
            psi[zero, one, zero] = left * right * phase
    return psi.reshape(-1)


def value(psi: np.ndarray, letters: Mapping[int, str]) -> float:
    paulis = {"X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]], "I": [[1, 0], [0, 1]]}
    matrix = np.eye(1)
    for qubit in (2, 1, 0):
        matrix = np.kron(matrix, np.array(paulis[letters.get(qubit, "I")]))
    return float((psi.conj() @ matrix @ psi).real)


OBSERVABLES = ({"Z0 Z2": 0.5, "X1": 2.0, "I": -1.0}, {"Y0 X2": 1.0, "Z1": 0.25}, {"X0*X1*X2": 3.0})
LETTERS = (
    ((0.5, {0: "Z", 2: "Z"}), (2.0, {1: "X"}), (-1.0, {})),
    ((1.0, {0: "Y", 2: "X"}), (0.25, {1: "Z"})),
    ((3.0, {0: "X", 1: "X", 2: "X"}),),
)


def expected(a: float, b: float) -> list[float]:
    psi = state(a, b)
    return [sum(weight * value(psi, letters) for weight, letters in terms) for terms in LETTERS]


def test_expectation_values_are_exact_and_swept() -> None:
    sweep = {"a": (0.1, 0.9, 2.0), "b": (0.4, -1.0, 0.3)}
    data = data_of(host(), args(ExpectationTask(OBSERVABLES, sweep=sweep), ROTATED))
    assert data.errors == ()  # type: ignore[union-attr] # of this kind
    for row, a, b in zip(data.values, sweep["a"], sweep["b"], strict=True):  # type: ignore[union-attr,arg-type]
        assert np.allclose(row, expected(a, b), atol=1e-5)


def test_sampled_expectation_values_come_with_their_errors() -> None:
    task = ExpectationTask(OBSERVABLES, sampled=True)
    given = args(task, MEASURED, shots=60_000, parameters={"a": 0.7, "b": 1.1})
    data = data_of(host(), given)
    for found, error, exact in zip(data.values[0], data.errors[0], expected(0.7, 1.1), strict=True):  # type: ignore[union-attr]
        assert 0 < error < 0.05
        assert abs(found - exact) < 5 * error


def test_terms_are_measured_together_where_no_qubit_is_measured_in_two_ways() -> None:
    sums = read_sums(({"X0 Y1": 1.0, "X0": 2.0, "Z0 Y1": 3.0, "Z2": 4.0, "I": 5.0}, {"Y1 Z2": 6.0}), 3)
    constants, settings = settings_of(sums)
    assert constants == [5.0, 0.0]
    assert [dict(each.letters) for each in settings] == [{0: "X", 1: "Y", 2: "Z"}, {0: "Z", 1: "Y"}]
    assert [sorted(weight for _, _, weight in each.terms) for each in settings] == [[1.0, 2.0, 4.0, 6.0], [3.0]]


def test_observables_that_would_take_for_ever_to_group_are_refused_and_exact_ones_are_not_grouped() -> None:
    words = ("".join(letters) for letters in itertools.product("XYZ", repeat=8))
    terms = {" ".join(f"{letter}{qubit}" for qubit, letter in enumerate(word)): 1.0 for word in words}
    assert len(terms) == 6561
    eight = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[8]; h q[0];'
    given = args(ExpectationTask((terms,), sampled=True), eight, shots=10_000)
    assert refused(host(), "prepare", given).code == "job.bad_observable"
    estimate = host().handle("prepare", args(ExpectationTask((terms,)), eight))
    assert isinstance(estimate, dict)
    assert estimate["method"] == "state_vector"


def test_a_noisy_device_gives_expectation_values_of_its_mixture() -> None:
    noisy = host(preset="custom", fidelity_2q=0.9)
    ghz = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q[0]; cx q[0],q[1];'
    data = data_of(noisy, args(ExpectationTask(({"Z0 Z1": 1.0},)), ghz))
    assert 0.8 < data.values[0][0] < 0.95  # type: ignore[union-attr]
    assert data.errors == ()  # type: ignore[union-attr]


def test_programs_that_measure_midway_are_sampled_instead() -> None:
    text = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[1]; h q[0]; measure q[0] -> c[0]; cx q[0],q[1];'
    data = data_of(host(), args(ExpectationTask(({"Z0 Z1": 1.0, "X0": 1.0},)), text, shots=4000))
    assert len(data.errors) == 1  # type: ignore[union-attr]
    assert abs(data.values[0][0] - 1.0) < 6 * max(data.errors[0][0], 0.02)  # type: ignore[union-attr]


def test_wide_clifford_and_wide_shallow_circuits_have_expectation_values() -> None:
    chain = "".join(f"cx q[{i}],q[{i + 1}];" for i in range(49))
    ghz = f'OPENQASM 2.0; include "qelib1.inc"; qreg q[50]; h q[0]; {chain}'
    every = " ".join(f"X{i}" for i in range(50))
    data = data_of(host(), args(ExpectationTask(({every: 1.0, "Z0 Z49": 1.0, "Z3": 5.0},)), ghz))
    assert data.values[0][0] == pytest.approx(2.0, abs=1e-5)  # type: ignore[union-attr]
    turned = ghz + "rx(0.3) q[7];"
    data = data_of(host(), args(ExpectationTask(({"Z6 Z7": 1.0},)), turned))
    assert data.values[0][0] == pytest.approx(math.cos(0.3), abs=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "observable",
    [{"Q0": 1.0}, {"Z3": 1.0}, {"Z0 Z0": 1.0}, {"Z0": math.inf}, {"Z": 1.0}, {"Z0,Z1": 1.0}, {"Z99999999": 1.0}],
)
def test_observables_that_cannot_be_read_are_refused(observable: dict[str, float]) -> None:
    given = args(ExpectationTask((observable,)), ROTATED, parameters={"a": 1, "b": 1})
    assert refused(host(), "prepare", given).code == "job.bad_observable"


def test_too_few_shots_for_the_ways_of_measuring_are_refused() -> None:
    given = args(ExpectationTask(OBSERVABLES, sampled=True), ROTATED, shots=1, parameters={"a": 1, "b": 1})
    assert refused(host(), "prepare", given).code == "job.bad_shots"


def test_a_sweep_counts_every_point_with_a_seed_of_its_own() -> None:
    task = SampleTask(sweep={"a": (0.0, math.pi), "b": (0.0, 0.0)})
    data = data_of(host(), args(task, MEASURED, shots=50))
    assert data.points == ({"000": 50}, {"101": 50})  # type: ignore[union-attr]
    random = data_of(host(), args(SampleTask(sweep={"a": (1.5, 1.5), "b": (1.0, 1.0)}), MEASURED))
    assert random.points[0] != random.points[1]  # type: ignore[union-attr]


def test_marginal_bits_and_single_shots_belong_to_the_same_shots() -> None:
    made = host()
    whole = made.handle("run", args(None, MEASURED, parameters={"a": 1.0, "b": 2.0}))
    task = SampleTask(bits=(2, 1), memory=True)
    given = args(task, MEASURED, parameters={"a": 1.0, "b": 2.0})
    answer = made.handle("run", given)
    assert isinstance(whole, dict)
    assert isinstance(answer, dict)
    assert answer["clbits"] == 2
    assert answer["registers"] == [["bits", 2, 0]]
    counts, all_counts = (
        dict(zip(each["counts"]["keys"], array("Q", each["counts"]["values"]), strict=True))  # type: ignore[index,call-overload,arg-type]
        for each in (answer, whole)
    )
    assert counts == marginal(all_counts, (2, 1))
    memory = answer["data"]["memory"]  # type: ignore[index,call-overload]
    assert isinstance(memory, bytes)
    assert {key: memory.count(bytes([key])) for key in counts} == counts


def test_single_shots_come_in_no_order_of_their_values() -> None:
    rows = shot_by_shot({0: 500, 1: 500}, 1, 3)
    changes = sum(a != b for a, b in itertools.pairwise(rows))
    assert 400 < changes < 600


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (SampleTask(bits=(3,)), "job.bad_bits"),
        (SampleTask(bits=(0, 0)), "job.bad_bits"),
        (SampleTask(sweep={"a": (1.0,), "b": (1.0, 2.0)}), "job.bad_sweep"),
        (SampleTask(sweep={"a": (1.0,)}), "circuit.unbound_parameter"),
        (AmplitudeTask(states=("01",)), "job.bad_bits"),
        (KernelTask(("a", "b"), ((1.0,),)), "job.bad_sweep"),
    ],
)
def test_tasks_that_do_not_fit_their_program_are_refused(task: Task, code: str) -> None:
    parameters = {"a": 1, "b": 1} if code != "circuit.unbound_parameter" else {}
    assert refused(host(), "prepare", args(task, MEASURED, parameters=parameters)).code == code


def test_a_task_that_needs_a_program_says_so() -> None:
    assert refused(host(), "prepare", args(ExpectationTask(({"Z0": 1.0},)))).code == "job.bad_request"
    assert refused(host(), "prepare", args(QecTask(), BELL)).code == "job.bad_request"
    assert refused(host(), "prepare", args(QaoaTask(2), BELL)).code == "job.bad_request"


def test_amplitudes_are_those_of_the_state() -> None:
    made = host()
    data = data_of(made, args(AmplitudeTask(), MEASURED, parameters={"a": 0.7, "b": 1.1}))
    found = np.array(data.real) + 1j * np.array(data.imag)  # type: ignore[union-attr]
    assert abs(np.vdot(found, state(0.7, 1.1))) == pytest.approx(1, abs=1e-5)
    some = data_of(made, args(AmplitudeTask(states=("101", "000")), MEASURED, parameters={"a": 0.7, "b": 1.1}))
    assert np.allclose(np.array(some.real) + 1j * np.array(some.imag), found[[5, 0]])  # type: ignore[union-attr]


def test_a_kernel_is_the_overlap_of_states() -> None:
    rows, columns = ((0.1, 0.2), (1.0, 2.0)), ((0.1, 0.2), (0.5, -0.7), (2.0, 0.0))
    data = data_of(host(), args(KernelTask(("a", "b"), rows, columns), ROTATED))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            overlap = abs(np.vdot(state(*row), state(*column))) ** 2
            assert data.values[i][j] == pytest.approx(overlap, abs=1e-5)  # type: ignore[union-attr]
    square = data_of(host(), args(KernelTask(("a", "b"), rows), ROTATED))
    assert square.values[0][0] == pytest.approx(1, abs=1e-5)  # type: ignore[union-attr]


RING = QaoaTask(8, couplings=tuple((i, (i + 1) % 8, 1.0) for i in range(8)), layers=1)


def test_qaoa_on_a_ring_reaches_what_one_layer_can() -> None:
    # a ring of ZZ couplings with one layer: energy −1/2 per edge at best (Farhi et al., arXiv:1411.4028, section IV)
    data = data_of(host(), args(RING))
    assert data.energy == pytest.approx(-4.0, abs=1e-3)  # type: ignore[union-attr]
    assert (data.optimum, data.optimum_exact, data.best_cost) == (-8.0, True, -8.0)  # type: ignore[union-attr]


def test_given_angles_are_used_as_they_are() -> None:
    task = msgspec.structs.replace(RING, gammas=(math.pi / 8,), betas=(-math.pi / 8,))
    ansatz = Ansatz(cost_of_all(task))
    data = data_of(host(), args(task))
    assert data.energy == pytest.approx(ansatz.energy(ansatz.state(task.gammas, task.betas)))  # type: ignore[union-attr]
    assert data.evaluations == 0  # type: ignore[union-attr]


def test_gradients_of_qaoa_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(2)
    couplings = tuple((i, j, float(rng.normal())) for i in range(6) for j in range(i))
    ansatz = Ansatz(cost_of_all(QaoaTask(6, couplings, tuple(rng.normal(size=6).tolist()), offset=0.3)))
    at = rng.normal(size=6)
    _, gradient = ansatz.energy_and_gradient(at)
    for place in range(6):
        step = 1e-6 * np.eye(6)[place]
        slope = (ansatz.energy_and_gradient(at + step)[0] - ansatz.energy_and_gradient(at - step)[0]) / 2e-6
        assert gradient[place] == pytest.approx(slope, abs=1e-4)


def test_more_layers_bring_qaoa_nearer_to_the_optimum_within_its_evaluations() -> None:
    rng = np.random.default_rng(1)
    task = QaoaTask(8, tuple((i, j, float(rng.normal())) for i in range(8) for j in range(i)))
    energies = []
    for layers in (1, 2, 4):
        ansatz = Ansatz(cost_of_all(task))
        energies.append(ansatz.energy(ansatz.state(*optimise(ansatz, layers, 200))))
        assert ansatz.evaluations <= 260
    assert energies[0] > energies[1] > energies[2] > float(ansatz.energies.min())


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (QaoaTask(23), "circuit.too_many_qubits"),
        (QaoaTask(3, couplings=((0, 3, 1.0),)), "job.bad_request"),
        (QaoaTask(3, couplings=((1, 1, 1.0),)), "job.bad_request"),
        (QaoaTask(3, fields=(1.0,)), "job.bad_request"),
        (QaoaTask(3, gammas=(1.0,)), "job.bad_request"),
        (QaoaTask(3, offset=math.nan), "job.bad_request"),
        (QecTask(distance=4), "job.bad_request"),
        (QecTask(window=2, commit=3), "job.bad_request"),
        (QecTask(distance=31, rounds=100_000), "circuit.too_large"),
    ],
)
def test_impossible_problems_are_refused(task: Task, code: str) -> None:
    assert refused(host(), "prepare", args(task)).code == code


def test_methods_and_options_go_to_the_driver() -> None:
    made = host()
    assert made.handle("prepare", args(None, BELL, options={"method": "mps"}))["method"] == "mps"  # type: ignore[index,call-overload]
    assert refused(made, "prepare", args(None, BELL, options={"method": "magic"})).code == "job.bad_option"
    noisy = host(preset="plan")
    assert refused(noisy, "prepare", args(None, BELL, options={"method": "mps"})).code == "circuit.unsupported"


def test_a_task_that_is_none_is_refused() -> None:
    with pytest.raises(QedgeError) as caught:
        host().handle("prepare", {"program": BELL, "shots": 1, "task": {"kind": "magic"}})
    assert caught.value.code == "job.bad_request"
