"""Every circuit of QASMBench's small category, submitted to a real node, against exact distributions made with qiskit.

The bound: with S shots the expected total variation distance is at most ½·Σ√(p(1−p)/S), and one shot moves it by at
most 1/S, so (McDiarmid) it exceeds that mean by √(ln(1/δ)/2S) with probability at most δ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import qiskit.qasm2
from qiskit.circuit import CircuitInstruction, ClassicalRegister, IfElseOp, QuantumCircuit
from qiskit.quantum_info import Operator

from qedge.base.errors import QedgeError
from qedge.wire.jobs import JobSubmission, JobView
from tests.integration.daemon_process import DaemonProcess, wait_ended

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "qasmbench-small"
FILES = sorted(FOLDER.glob("*.qasm"))
SHOTS = 10_000
FALSE_ALARM = 1e-9

Branch = tuple[int, "np.ndarray[tuple[int, ...], np.dtype[np.complex128]]"]


def apply(state: np.ndarray, matrix: np.ndarray, qubits: list[int]) -> np.ndarray:
    """Apply a qiskit matrix (first qubit least significant) to a state of shape (2,)*n, axis n−1−q for qubit q."""
    k, n = len(qubits), state.ndim
    axes = [n - 1 - qubit for qubit in reversed(qubits)]
    out = np.tensordot(matrix.reshape((2,) * (2 * k)), state, axes=(list(range(k, 2 * k)), axes))
    return np.moveaxis(out, list(range(k)), axes)


def met(circuit: QuantumCircuit, operation: IfElseOp, bits: int) -> bool:
    target, value = operation.condition
    group = list(target) if isinstance(target, ClassicalRegister) else [target]
    places = [circuit.find_bit(bit).index for bit in group]
    return sum((bits >> place & 1) << order for order, place in enumerate(places)) == int(value)


class Reference:
    """Exact distribution of a dynamic circuit, by following each measurement outcome."""

    def __init__(self, circuit: QuantumCircuit) -> None:
        self.circuit = circuit
        self.matrices: dict[tuple[str, tuple[float, ...]], np.ndarray] = {}

    def distribution(self) -> dict[int, float]:
        start = np.zeros((2,) * self.circuit.num_qubits, dtype=complex)
        start[(0,) * self.circuit.num_qubits] = 1
        branches: list[Branch] = [(0, start)]
        data = list(self.circuit.data)
        split = self._first_needed_measurement(data)
        for item in data[:split]:
            branches = [after for branch in branches for after in self._step(item, branch)]
        out: dict[int, float] = {}
        for bits, state in branches:
            self._read_out(data[split:], bits, np.abs(state) ** 2, out)
        return {bits: chance for bits, chance in out.items() if chance > 1e-10}

    def _first_needed_measurement(self, data: list[CircuitInstruction]) -> int:
        split = len(data)
        while split and data[split - 1].operation.name in ("measure", "barrier"):
            split -= 1
        return split

    def _step(self, item: CircuitInstruction, branch: Branch) -> Iterator[Branch]:
        bits, state = branch
        operation = item.operation
        qubits = [self.circuit.find_bit(qubit).index for qubit in item.qubits]
        if operation.name == "barrier":
            yield branch
        elif isinstance(operation, IfElseOp):
            if not met(self.circuit, operation, bits):
                yield branch
                return
            body = operation.params[0]
            branches = [branch]
            for inner in body.data:
                moved = inner.replace(
                    qubits=[item.qubits[body.find_bit(q).index] for q in inner.qubits],
                    clbits=[item.clbits[body.find_bit(c).index] for c in inner.clbits],
                )
                branches = [after for each in branches for after in self._step(moved, each)]
            yield from branches
        elif operation.name in ("measure", "reset"):
            axis = state.ndim - 1 - qubits[0]
            for outcome in (0, 1):
                index = [slice(None)] * state.ndim
                index[axis] = outcome
                kept = np.zeros_like(state)
                kept[tuple(index)] = state[tuple(index)]
                if np.sum(np.abs(kept) ** 2) < 1e-12:
                    continue
                if operation.name == "measure":
                    place = self.circuit.find_bit(item.clbits[0]).index
                    yield bits & ~(1 << place) | outcome << place, kept
                else:
                    yield bits, np.flip(kept, axis) if outcome else kept
        else:
            yield bits, apply(state, self._matrix(operation), qubits)

    def _matrix(self, operation: object) -> np.ndarray:
        key = (operation.name, tuple(map(float, operation.params)))
        if key not in self.matrices:
            self.matrices[key] = Operator(operation).data
        return self.matrices[key]

    def _read_out(self, data: list[CircuitInstruction], bits: int, chances: np.ndarray, out: dict[int, float]) -> None:
        pairs = [
            (self.circuit.find_bit(i.clbits[0]).index, self.circuit.find_bit(i.qubits[0]).index)
            for i in data
            if i.operation.name == "measure"
        ]
        flat = chances.reshape(-1)
        for index in np.flatnonzero(flat > 1e-14).tolist():
            value = bits
            for clbit, qubit in pairs:
                value = value & ~(1 << clbit) | (index >> qubit & 1) << clbit
            out[value] = out.get(value, 0.0) + float(flat[index])


def bound(exact: dict[int, float], shots: int) -> float:
    mean = 0.5 * sum(math.sqrt(p * max(0.0, 1 - p) / shots) for p in exact.values())
    return mean + math.sqrt(math.log(1 / FALSE_ALARM) / (2 * shots)) + 1e-5


def reference(text: str) -> QuantumCircuit | None:
    try:
        return qiskit.qasm2.loads(text, custom_instructions=qiskit.qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    except qiskit.qasm2.QASM2ParseError:
        return None


@pytest.mark.skipif(not FILES, reason=f"the circuits of QASMBench are not at {FOLDER}")
async def test_at_least_95_of_100_circuits_that_qiskit_accepts_agree_with_its_exact_distribution(
    tmp_path: Path,
) -> None:
    daemon = DaemonProcess(tmp_path / "n", '[drivers.qpu]\ndriver = "sim_qpu"\n')
    daemon.start()
    try:
        await daemon.wait_up()
        accepted, refused = await _submit_all(daemon)
        jobs = await wait_ended(daemon, list(accepted.values()))
    finally:
        daemon.stop()
    agreed, wanted = 0, sum(reference(file.read_text("utf-8")) is not None for file in FILES)
    for name, job in zip(accepted, jobs, strict=True):
        circuit = reference((FOLDER / name).read_text("utf-8"))
        assert circuit is not None, f"{name} is accepted, qiskit refuses it"
        reason = _disagreement(circuit, job)
        agreed += not reason
        if reason:
            refused[name] = reason
    print(f"\n{agreed} of {wanted} agree; not run or not agreeing:")
    for name, reason in refused.items():
        print(f"  {name}: {reason}")
    assert agreed >= 0.95 * wanted, refused


async def _submit_all(daemon: DaemonProcess) -> tuple[dict[str, str], dict[str, str]]:
    """Submit every file to the daemon; returns the ids of the accepted and the reasons of the refused."""
    accepted, refused = {}, {}
    async with daemon.client() as client:
        for seed, file in enumerate(FILES):
            submission = JobSubmission(program=file.read_text("utf-8"), shots=SHOTS, seed=seed)
            try:
                accepted[file.name] = (await client.submit(submission)).id
            except QedgeError as error:
                refused[file.name] = f"{error.code}: {error.message}"
    return accepted, refused


def _disagreement(circuit: QuantumCircuit, job: JobView) -> str:
    """Say how a result differs from the exact distribution beyond chance; nothing where it does not."""
    if job.result is None:
        return f"ended as {job.state}: {job.error.title if job.error else ''}"
    counts = {int(bits, 2): number for bits, number in job.result.counts.items()}
    assert sum(counts.values()) == SHOTS
    exact = Reference(circuit).distribution()
    assert sum(exact.values()) == pytest.approx(1, abs=1e-6)
    distance = 0.5 * sum(abs(exact.get(v, 0.0) - counts.get(v, 0) / SHOTS) for v in {*exact, *counts})
    limit = bound(exact, SHOTS)
    return "" if distance <= limit else f"total variation {distance:.4f} above {limit:.4f}"
