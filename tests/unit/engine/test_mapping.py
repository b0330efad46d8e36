"""Circuits on devices that couple some of their qubits: the same distribution, on allowed pairs alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qedge.base.errors import QedgeError
from qedge.engine.mapping import Mapped, errors_of, fits, map_to
from qedge_driver_api import (
    Condition,
    ConditionKind,
    DeviceStatus,
    FlatCircuit,
    Gate,
    OperationAt,
    OperationProperties,
    QpuProperties,
    SiteProperties,
)
from qedge_drivers.sim_qpu.settings import SimQpuSettings, resolve
from tests.unit.drivers.test_sim_qpu import assert_agrees, exact, ghz, measured, op, opened, random_ops, run
from tests.unit.engine.flat_matrix import matrix_of, same_up_to_phase
from tests.unit.engine.test_circuit_host import host, refused

pytest.importorskip("qiskit")

LINE = tuple((i, i + 1) for i in range(9))
GRID = tuple((r * 3 + c, r * 3 + c + 1) for r in range(3) for c in range(2)) + tuple(
    (r * 3 + c, r * 3 + c + 3) for r in range(2) for c in range(3)
)
ANY = 'OPENQASM 3.0; include "stdgates.inc"; qubit[5] q; bit[5] c; '


@pytest.mark.parametrize("coupling", [LINE, GRID], ids=["line", "grid"])
@pytest.mark.parametrize("seed", range(6))
def test_a_mapped_circuit_has_the_same_distribution(coupling: tuple[tuple[int, int], ...], seed: int) -> None:
    qubits = 5 + seed % 3
    ops = random_ops(qubits, 40, seed)
    mapped = map_to(measured(ops, qubits), coupling, 9 if coupling is GRID else 10)
    assert fits(mapped.circuit, coupling, mapped.circuit.num_qubits)
    result = run(opened(), mapped.circuit, 20_000)
    assert_agrees(result, exact(ops, qubits))


def placed(num_qubits: int, places: Sequence[int]) -> npt.NDArray[np.complex128]:
    """Return the map from states of the program to those of the device, whose other qubits are in |0⟩."""
    out = np.zeros((1 << num_qubits, 1 << len(places)), dtype=np.complex128)
    for value in range(1 << len(places)):
        out[sum((value >> order & 1) << place for order, place in enumerate(places)), value] = 1
    return out


def is_the_same(circuit: FlatCircuit, mapped: Mapped) -> bool:
    """Tell whether both do the same but for a phase and for where qubits begin and end."""
    n = mapped.circuit.num_qubits
    device = placed(n, mapped.ends).conj().T @ matrix_of(mapped.circuit) @ placed(n, mapped.begins)
    return same_up_to_phase(matrix_of(circuit), device)


DEVICES = {"line": LINE[:6], "grid": tuple(pair for pair in GRID if max(pair) < 7), "all": ()}


@pytest.mark.parametrize("coupling", DEVICES.values(), ids=DEVICES)
@settings(max_examples=5, deadline=None)
@given(qubits=st.integers(2, 6), number=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_a_mapped_circuit_is_the_same_unitary(
    coupling: tuple[tuple[int, int], ...], qubits: int, number: int, seed: int
) -> None:
    ops = [*random_ops(qubits, number, seed, min(qubits, 3)), op(Gate.ID, qubits - 1)]
    circuit = FlatCircuit(qubits, 0, tuple(ops))
    mapped = map_to(circuit, coupling, 7)
    assert fits(mapped.circuit, coupling, 7)
    assert is_the_same(circuit, mapped)


@pytest.mark.long
@pytest.mark.parametrize("coupling", [LINE[:8], GRID], ids=["line", "grid"])
@pytest.mark.parametrize("seed", range(4))
def test_a_mapped_circuit_of_nine_qubits_is_the_same_unitary(coupling: tuple[tuple[int, int], ...], seed: int) -> None:
    circuit = FlatCircuit(8, 0, tuple(random_ops(8, 60, seed)))
    assert is_the_same(circuit, map_to(circuit, coupling, 9))


def test_gates_that_cancel_are_gone_before_anything_is_routed() -> None:
    there = [op(Gate.CX, 0, 4), op(Gate.T, 2), op(Gate.CX, 0, 4), op(Gate.H, 2), op(Gate.H, 2)]
    mapped = map_to(FlatCircuit(5, 0, tuple(there)), LINE, 10)
    assert mapped.begins == mapped.ends == tuple(range(5))
    assert (mapped.pairs_before, mapped.pairs_after) == (2, 0)
    assert [each[1] for each in mapped.circuit.ops] == [(2,)]


def test_runs_of_turns_become_one_where_all_qubits_are_coupled() -> None:
    turns = [op(gate, 0) for gate in (Gate.H, Gate.T, Gate.SX, Gate.H, Gate.S)]
    mapped = map_to(FlatCircuit(2, 0, (*turns, op(Gate.CX, 0, 1), op(Gate.RZ, 0, params=[0.4]))), (), 2)
    # at most one on each qubit on each side of the CX
    assert [Gate(each[0]) for each in mapped.circuit.ops].count(Gate.U) <= 4
    assert mapped.pairs_after == 1


def told(errors: Sequence[float]) -> QpuProperties:
    """A line of qubits with the error of the gate on each pair."""
    pairs = tuple((i, i + 1) for i in range(len(errors)))
    rows = tuple(OperationAt(pair, 0.2, 1 - error) for pair, error in zip(pairs, errors, strict=True))
    sites = tuple(SiteProperties(i, readout_error=0.01) for i in range(len(errors) + 1))
    cz = (OperationProperties("cz", 2, at=rows),)
    return QpuProperties("lab", len(sites), DeviceStatus.IDLE, sites=sites, operations=cz, coupling=pairs)


def test_what_the_device_tells_of_its_pairs_says_where_a_program_runs() -> None:
    device = told([0.3, 0.3, 0.3, 0.3, 0.002, 0.001, 0.001, 0.002])
    star = measured([op(Gate.H, 0), op(Gate.CX, 0, 2), op(Gate.CX, 2, 1)], 3)
    errors = errors_of(device)
    assert errors[4, 5] == pytest.approx(0.002)
    mapped = map_to(star, device.coupling, device.num_qubits, errors)
    used = {each[1] for each in mapped.circuit.ops if len(each[1]) == 2}
    assert {tuple(sorted(pair)) for pair in used} <= {(4, 5), (5, 6), (6, 7), (7, 8)}
    assert_agrees(run(opened(), mapped.circuit, 20_000), exact(star.ops[:3], 3))


def test_a_device_whose_places_are_all_alike_is_mapped_by_counting_gates() -> None:
    assert errors_of(told([0.01] * 4)) == {}
    assert errors_of(QpuProperties("lab", 3, DeviceStatus.IDLE)) == {}


def test_a_circuit_that_fits_is_left_alone_and_one_that_can_be_embedded_gets_no_swap() -> None:
    assert fits(ghz(5), LINE, 10)
    shuffled = [op(Gate.H, 3), op(Gate.CX, 3, 0), op(Gate.CX, 0, 4), op(Gate.CX, 4, 1)]
    circuit = measured(shuffled, 5)
    assert not fits(circuit, LINE, 10)
    assert map_to(circuit, LINE, 10).pairs_after == 3


def test_extra_controls_phases_resets_and_measurements_on_the_way_are_mapped() -> None:
    ops = [op(Gate.H, q) for q in range(5)]
    ops += [
        op(Gate.X, 0, 2, 4, arg=2),
        op(Gate.GPHASE, 0, 3, params=[0.7], arg=2),
        op(Gate.GPHASE, 1, params=[0.4], arg=1),
    ]
    ops += [op(Gate.H, q) for q in range(5)]
    result = run(opened(), map_to(measured(ops, 5), LINE, 10).circuit, 20_000)
    assert_agrees(result, exact(ops, 5))
    midway = FlatCircuit(
        3,
        2,
        (
            op(Gate.X, 0),
            op(Gate.CX, 0, 2),
            op(Gate.MEASURE, 2, arg=0),
            op(Gate.RESET, 2),
            op(Gate.CX, 1, 2),
            op(Gate.MEASURE, 2, arg=1),
        ),
    )
    assert run(opened(), map_to(midway, LINE, 10).circuit, 100).counts == {0b01: 100}


def test_what_cannot_be_mapped_is_refused_with_the_reason() -> None:
    with pytest.raises(QedgeError) as caught:
        map_to(ghz(12), LINE, 10)
    assert caught.value.code == "circuit.too_many_qubits"
    condition = Condition(ConditionKind.EQUALS, (0,), 1, 1)
    deciding = FlatCircuit(3, 1, (op(Gate.CX, 0, 2), op(Gate.MEASURE, 0), op(Gate.IF), op(Gate.X, 1)), (condition,))
    with pytest.raises(QedgeError, match="decides on the way"):
        map_to(deciding, LINE, 10)


def test_without_qiskit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "qiskit", None)
    with pytest.raises(QedgeError, match="qiskit is not installed") as caught:
        map_to(measured([op(Gate.CX, 0, 2)], 3), LINE, 10)
    assert "qedge[map]" in caught.value.fix


def test_a_node_maps_programs_for_its_device_and_says_so() -> None:
    line = host(qubits=5, connectivity="line")
    far = ANY + "h q[0]; cx q[0], q[4]; ccx q[0], q[4], q[2]; c = measure q;"
    forecast = line.handle("prepare", {"program": far, "shots": 100})
    answer = line.handle("run", {"program": far, "shots": 100, "seed": 1})
    assert isinstance(answer, dict)
    assert isinstance(forecast, dict)
    assert set(answer["counts"]["keys"]) == {0b00000, 0b10101}  # type: ignore[index,call-overload]
    assert answer["metadata"]["mapped"] is True  # type: ignore[index,call-overload]
    assert answer["metadata"]["pairs_after"] > answer["metadata"]["pairs_before"]  # type: ignore[index,call-overload]
    near = ANY + "h q[0]; cx q[0], q[1]; c = measure q;"
    assert "mapped" not in line.handle("run", {"program": near, "shots": 10, "seed": 1})["metadata"]  # type: ignore[index,call-overload,operator]
    six = ANY.replace("5", "6") + "x q[5]; c = measure q;"
    assert refused(line, "prepare", {"program": six, "shots": 1}).code == "circuit.too_many_qubits"
    line.handle("reconfigure", {"settings": {"connectivity": "all"}})
    assert "mapped" not in line.handle("run", {"program": far, "shots": 10, "seed": 1})["metadata"]  # type: ignore[index,call-overload,operator]


def test_couplings_of_the_simulated_device_are_those_of_its_shape() -> None:
    device = resolve(SimQpuSettings(qubits=9, connectivity="grid"))
    assert {frozenset(pair) for pair in device.coupling()} == {frozenset(pair) for pair in GRID}
    assert np.all([device.coupled(*pair) for pair in GRID])
