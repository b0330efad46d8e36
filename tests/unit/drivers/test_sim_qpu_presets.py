"""Noisy devices are as noisy as they are set: benchmarking and relaxation give the numbers back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qedge_driver_api import FlatCircuit, Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.gates import gate_matrix
from tests.unit.drivers.test_sim_qpu import measured, op, opened, run

SHOTS = 4_000
CLIFFORDS = 24


def clifford_words() -> list[tuple[Gate, ...]]:
    """The 24 one-qubit Clifford gates as the shortest words of H and S."""
    found: list[tuple[tuple[Gate, ...], np.ndarray]] = [((), np.eye(2))]
    for word, matrix in found:
        for gate in (Gate.H, Gate.S):
            new = gate_matrix(gate, ()) @ matrix
            if not any(abs(abs(np.trace(old.conj().T @ new)) - 2) < 1e-9 for _, old in found):
                found.append(((*word, gate), new))
    assert len(found) == CLIFFORDS
    return [word for word, _ in found]


WORDS = clifford_words()
MATRICES = [
    np.linalg.multi_dot([np.eye(2), np.eye(2), *(gate_matrix(gate, ()) for gate in reversed(word))]) for word in WORDS
]


def inverse_of(total: np.ndarray) -> tuple[Gate, ...]:
    overlap = [abs(np.trace(matrix @ total)) for matrix in MATRICES]
    return WORDS[int(np.argmax(overlap))]


def one_gate(matrix: np.ndarray) -> Op:
    """A one-qubit unitary as one U gate, so that every Clifford gate costs the device one gate."""
    phase = np.angle(matrix[0, 0]) if abs(matrix[0, 0]) > 1e-9 else np.angle(-matrix[0, 1])
    own = matrix * np.exp(-1j * phase)
    theta = 2 * math.atan2(abs(own[1, 0]), abs(own[0, 0]))
    phi = float(np.angle(own[1, 0])) if abs(own[1, 0]) > 1e-9 else 0.0
    lam = float(np.angle(own[1, 1])) - phi if abs(own[1, 1]) > 1e-9 else float(np.angle(-own[0, 1]))
    return op(Gate.U, 0, params=(theta, phi, lam))


def sequence(length: int, rng: np.random.Generator) -> FlatCircuit:
    """`length` random Clifford gates and the one that undoes them."""
    total = np.eye(2)
    ops = []
    for choice in rng.integers(CLIFFORDS, size=length):
        ops.append(one_gate(MATRICES[choice]))
        total = MATRICES[choice] @ total
    ops.append(one_gate(MATRICES[WORDS.index(inverse_of(total))]))
    return measured(ops, 1)


@pytest.mark.parametrize("fidelity", [0.99, 0.997])
def test_randomised_benchmarking_gives_the_fidelity_of_gates_back(fidelity: float) -> None:
    """Survival is 1/2 + α^m/2 with α = 2F − 1 (Magesan et al., arXiv:1009.3639), one gate per Clifford."""
    driver, rng = opened(preset="custom", fidelity_1q=fidelity), np.random.default_rng(3)
    lengths = [1, 20, 60, 120]
    survival = []
    for length in lengths:
        counts = [run(driver, sequence(length, rng), SHOTS, seed).counts.get(0, 0) for seed in range(6)]
        survival.append(sum(counts) / (6 * SHOTS))
    # one decay, fitted as a line through the logarithms with the weight of each point
    decay = np.log(2 * np.clip(np.array(survival), 0.5001, 1) - 1)
    errors = 2 * np.sqrt(np.array(survival) * (1 - np.array(survival)) / (6 * SHOTS)) / np.exp(decay)
    slope = float(np.polyfit(np.array(lengths) + 1, decay, 1, w=1 / errors)[0])
    found = (1 + math.exp(slope)) / 2
    assert found == pytest.approx(fidelity, abs=0.12 * (1 - fidelity))


@pytest.mark.parametrize("t1_us", [20.0, 100.0])
def test_waiting_gives_the_relaxation_time_back(t1_us: float) -> None:
    """A qubit in |1⟩ that waits for gates on another one decays as exp(−t/T1)."""
    driver = opened(preset="custom", t1_us=t1_us, t2_us=t1_us, duration_1q_us=1.0, duration_2q_us=1.0)
    waits = [0, 10, 30, 60]
    left = []
    for wait in waits:
        ops = [op(Gate.X, 0), *(op(Gate.X, 1) for _ in range(wait)), op(Gate.CZ, 0, 1)]
        counts = run(driver, measured(ops, 2), 20_000, wait).counts
        left.append(sum(times for key, times in counts.items() if key & 1) / 20_000)
    slope = float(np.polyfit(waits, np.log(left), 1)[0])
    assert -1 / slope == pytest.approx(t1_us, rel=0.08)


def test_the_preset_of_the_plan_keeps_its_promise() -> None:
    driver = opened(preset="plan")
    operations = {each.name: each for each in driver.qpu_properties().operations}
    assert min(operations["1q"].fidelity, operations["2q"].fidelity) >= 0.999
    assert all(site.t1_us > 100 and site.t2_us > 100 for site in driver.qpu_properties().sites)
