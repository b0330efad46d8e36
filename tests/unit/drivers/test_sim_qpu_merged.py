"""What saves time on small circuits changes no state: gates merged before the kernel, and sweeps evolved at once."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from qedge_driver_api import FlatCircuit, Gate, PauliSum, ProgramError, QpuTask
from qedge_driver_api.circuit import UNITARY_SHAPE, Op
from qedge_drivers.sim_qpu import batch
from qedge_drivers.sim_qpu.dense import apply_ops, zero_state
from qedge_drivers.sim_qpu.fusion import Fusion
from qedge_drivers.sim_qpu.native import NativeBackend
from qedge_drivers.sim_qpu.observables import expectations
from qedge_drivers.sim_qpu.settings import SimQpuSettings, resolve
from qedge_drivers.sim_qpu.simulator import Simulator

ALL = tuple(UNITARY_SHAPE)
FEW = (Gate.RX, Gate.RY, Gate.RZ, Gate.P, Gate.U, Gate.H, Gate.CX, Gate.CZ, Gate.RZZ, Gate.CP, Gate.CRZ)


def random_ops(chance: random.Random, n: int, number: int, gates: Sequence[Gate]) -> list[Op]:
    ops: list[Op] = []
    while len(ops) < number:
        gate = chance.choice(gates)
        num_qubits, num_params = UNITARY_SHAPE[gate]
        controls = int(num_qubits + 1 < n and chance.random() < 0.05)
        if num_qubits + controls <= n:
            qubits = tuple(chance.sample(range(n), num_qubits + controls))
            ops.append((int(gate), qubits, tuple(chance.uniform(-20, 20) for _ in range(num_params)), controls))
    return ops


def with_other_angles(chance: random.Random, ops: Sequence[Op]) -> list[Op]:
    return [(gate, qubits, tuple(chance.uniform(-9, 9) for _ in params), arg) for gate, qubits, params, arg in ops]


def overlap(n: int, ops: Sequence[Op], state: np.ndarray[tuple[int, ...], np.dtype[np.complex64]]) -> float:
    return abs(complex(np.vdot(apply_ops(n, ops, zero_state(n)), state)))


@pytest.mark.parametrize("gates", [ALL, FEW], ids=["all", "few"])
@pytest.mark.parametrize("seed", range(6))
def test_a_circuit_that_comes_again_with_other_angles_is_merged_and_gives_the_same_state(
    seed: int, gates: tuple[Gate, ...]
) -> None:
    backend, chance = NativeBackend(), random.Random(seed)
    n = chance.randint(3, 6)
    first = random_ops(chance, n, 300, gates)
    for ops in (first, with_other_angles(chance, first), with_other_angles(chance, first)):
        assert overlap(n, ops, backend.evolve(n, ops, None)) == pytest.approx(1.0, abs=1e-4)
    assert len(Fusion(first).steps) < 300


def test_a_long_run_on_one_qubit_is_merged_piece_by_piece() -> None:
    ops: list[Op] = [(int(Gate.RX), (0,), (0.1 * k,), 0) for k in range(150)] + [(int(Gate.CX), (0, 1), (), 0)]
    backend = NativeBackend()
    for shift in (0.0, 0.3):
        moved = [(gate, qubits, tuple(angle + shift for angle in params), arg) for gate, qubits, params, arg in ops]
        assert overlap(2, moved, backend.evolve(2, moved, None)) == pytest.approx(1.0, abs=1e-4)


def test_circuits_of_another_structure_in_between_do_no_harm() -> None:
    backend, chance = NativeBackend(), random.Random(5)
    one, other = (random_ops(chance, 4, 250, FEW) for _ in range(2))
    for ops in (one, one, other, one, other, other, one):
        assert overlap(4, ops, backend.evolve(4, ops, None)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_circuits_evolved_at_once_have_the_states_that_each_has_by_itself(seed: int) -> None:
    chance = random.Random(seed)
    n = chance.randint(1, 6)
    gates = [gate for gate in ALL if batch.can_batch(n, [(int(gate), (), (), 0)], 2) and UNITARY_SHAPE[gate][0] <= n]
    ops = [(op[0], op[1], op[2], 0) for op in random_ops(chance, n, 60, gates) if not op[3]]
    circuits = [ops, *(with_other_angles(chance, ops) for _ in range(4))]
    states = batch.evolve(n, ops, [[op[2] for op in each] for each in circuits])
    for each, state in zip(circuits, states, strict=True):
        assert overlap(n, each, state) == pytest.approx(1.0, abs=1e-4)


def test_a_sweep_has_the_values_that_its_circuits_have_one_by_one() -> None:
    simulator, chance, shape = Simulator(resolve(SimQpuSettings()), "native"), random.Random(2), object()
    ops = [op for op in random_ops(chance, 5, 40, (Gate.H, Gate.RX, Gate.RY, Gate.RZZ, Gate.CX, Gate.T)) if not op[3]]
    circuits = [FlatCircuit(5, 0, tuple(with_other_angles(chance, ops)), (), shape) for _ in range(6)]
    observables: tuple[PauliSum, ...] = (
        ((((0, "Z"), (3, "Z")), 0.5), ((), 0.25)),
        ((((1, "X"), (2, "Y")), -1.5), (((4, "Z"),), 2.0)),
    )
    together = expectations(simulator, circuits, observables, {})
    alone = [expectations(simulator, [circuit], observables, {})[0] for circuit in circuits]
    assert np.array(together) == pytest.approx(np.array(alone), abs=1e-5)
    only_z = expectations(simulator, circuits, observables[:1], {})
    assert [row[0] for row in only_z] == pytest.approx([row[0] for row in alone], abs=1e-5)
    places = [index for index, op in enumerate(ops) if len(op[2]) == 1]
    turned = [circuits[0].with_angles(places, [each.ops[index][2][0] for index in places]) for each in circuits]
    assert expectations(simulator, turned, observables, {}) == together


def test_a_circuit_gives_the_very_same_state_however_often_it_came_before() -> None:
    chance = random.Random(5)
    ops = random_ops(chance, 8, 400, FEW)
    backend = NativeBackend()
    first = backend.evolve(8, ops, None)
    backend.evolve(8, random_ops(chance, 8, 400, FEW), None)
    for _ in range(3):
        assert np.array_equal(backend.evolve(8, ops, None), first)
    assert np.array_equal(NativeBackend().evolve(8, ops, None), first)


def test_a_circuit_with_other_angles_is_the_one_that_has_them_written_out() -> None:
    ops: tuple[Op, ...] = (
        (int(Gate.H), (0,), (), 0),
        (int(Gate.RX), (0,), (0.25,), 0),
        (int(Gate.MEASURE), (0,), (), 0),
    )
    model = FlatCircuit(1, 1, ops, (), object())
    turned = model.with_angles([1], [1.5])
    written = FlatCircuit(1, 1, (ops[0], (int(Gate.RX), (0,), (1.5,), 0), ops[2]))
    assert (turned.shape, turned.model) == (model.shape, model)
    assert turned == written
    assert hash(turned) == hash(written)
    assert repr(model.with_angles([1], [1.5])).startswith(
        "FlatCircuit(num_qubits=1, num_clbits=1, ops=((5, (0,), (), 0),"
    )
    assert copy.copy(model.with_angles([1], [1.5])).ops == written.ops
    # what is replaced says no more how it came about
    assert dataclasses.replace(turned, ops=ops) == model
    assert dataclasses.replace(turned, ops=ops).model is None
    with pytest.raises(AttributeError, match="nothing_of_it"):
        turned.nothing_of_it  # type: ignore[attr-defined] # noqa: B018 - that is the point


@pytest.mark.parametrize("seed", range(8))
def test_other_angles_give_the_counts_of_the_circuit_written_out(seed: int) -> None:
    chance, n = random.Random(seed), 4
    # the second half also has qubits that nothing looks at, so that the plan is renumbered
    measured = range(n) if seed < 4 else (2, 0)
    gates = random_ops(chance, n, 200, FEW) if seed % 2 else random_ops(chance, n, 40, ALL)
    ops = [*gates, *((int(Gate.MEASURE), (qubit,), (), bit) for bit, qubit in enumerate(measured))]
    places = [index for index, op in enumerate(ops) if len(op[2]) == 1]
    model = FlatCircuit(n, len(measured), tuple(ops), (), object())
    simulator = Simulator(resolve(SimQpuSettings()), "native")
    for turn in range(3):
        turned = model.with_angles(places, [chance.uniform(-9, 9) for _ in places])
        written = FlatCircuit(n, len(measured), model.with_angles(places, turned.angles).ops)
        fresh = Simulator(resolve(SimQpuSettings()), "native")
        ours, theirs = (
            each.run(QpuTask(circuit, 300, turn), never) for each, circuit in ((simulator, turned), (fresh, written))
        )
        assert dict(ours.counts) == dict(theirs.counts)


def test_a_method_that_is_asked_for_is_judged_anew_with_other_angles() -> None:
    simulator = Simulator(resolve(SimQpuSettings()), "native")

    def quarter(angle: float) -> QpuTask:
        ops: tuple[Op, ...] = ((int(Gate.RX), (0,), (angle,), 0), (int(Gate.MEASURE), (0,), (), 0))
        return QpuTask(FlatCircuit(1, 1, ops), 10, 1, {"method": "stabilizer"})

    assert simulator.run(quarter(math.pi / 2), never).metadata["method"] == "stabilizer"
    with pytest.raises(ProgramError, match="no Clifford"):
        simulator.run(quarter(0.3), never)


def never() -> bool:
    return False
