"""State vectors of many circuits of one structure at once, in numpy: a sweep over a small circuit.

A kernel that takes one circuit at a time spends more on being told of it than on a small state. Here every operation is
one array operation for all circuits. Gates on single qubits wait until something stands in their way and are then
multiplied in, some qubits at a time; diagonal gates add up to one phase for every index. States are complex64,
`[circuit, index]`, index bit q for qubit q; matrices `[circuit, row, column]`, with one circuit where all are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import State
from qedge_drivers.sim_qpu.gates import gate_matrix

MOST_AMPLITUDES: Final = 1 << 20
"""Amplitudes of all circuits together; beyond this the kernel is faster."""
MOST_QUBITS: Final = 12

Complex = npt.NDArray[np.complex128]
States = npt.NDArray[np.complex64]
Reals = npt.NDArray[np.float64]
Params = tuple[float, ...]

_TURN: Final = 2 * math.pi
_PHASES: Final[Mapping[int, float]] = {
    Gate.Z: math.pi, Gate.S: math.pi / 2, Gate.SDG: -math.pi / 2, Gate.T: math.pi / 4, Gate.TDG: -math.pi / 4,
    Gate.CZ: math.pi,
}  # fmt: skip
"""Gates that turn the phase of |1⟩, or |11⟩, by a fixed angle."""
_TURNING: Final = frozenset(int(gate) for gate in (Gate.P, Gate.CP, Gate.RZ, Gate.RZZ))
_DIAGONAL: Final = frozenset(map(int, _PHASES)) | _TURNING
_SINGLE: Final = frozenset(
    int(gate) for gate in (Gate.X, Gate.Y, Gate.H, Gate.SX, Gate.SXDG, Gate.RX, Gate.RY, Gate.U, Gate.ID)
)
_MOVING: Final = frozenset((int(Gate.CX), int(Gate.SWAP)))
_WIDEST: Final = 4
"""Qubits whose gates are multiplied into one matrix: BLAS is faster for these than for smaller and larger ones."""


def can_batch(num_qubits: int, ops: Sequence[Op], circuits: int) -> bool:
    """Tell whether so many circuits of these operations are evolved here, and faster than one after the other."""
    return (
        circuits > 1
        and 0 < num_qubits <= MOST_QUBITS
        and circuits << num_qubits <= MOST_AMPLITUDES
        and all(not op[3] and (op[0] in _DIAGONAL or op[0] in _SINGLE or op[0] in _MOVING) for op in ops)
    )


def evolve(num_qubits: int, ops: Sequence[Op], params: Sequence[Sequence[Params]]) -> list[State]:
    """Return the state of each circuit after `ops`, with `params[circuit][operation]` in place of their own."""
    states = _States(num_qubits, len(params))
    columns: Sequence[tuple[Params, ...]] = list(zip(*params, strict=True))
    for (gate, qubits, _, _), given in zip(ops, columns, strict=True):
        if gate in _DIAGONAL:
            states.turn_phase(gate, qubits, given)
        elif gate in _SINGLE:
            states.apply(qubits[0], _matrices(gate, given))
        else:
            states.move(gate, qubits)
    return states.taken()


def _matrices(gate: int, params: Sequence[Params]) -> Complex:
    if params.count(params[0]) == len(params):
        return gate_matrix(gate, params[0])[None]
    if gate not in (Gate.RX, Gate.RY):
        return np.stack([gate_matrix(gate, each) for each in params])
    half = np.array(params)[:, 0] * 0.5
    cosine, sine = np.cos(half), np.sin(half)
    found = np.empty((len(params), 2, 2), dtype=np.complex128)
    found[:, 0, 0] = found[:, 1, 1] = cosine
    found[:, 1, 0] = -1j * sine if gate == Gate.RX else sine
    found[:, 0, 1] = -1j * sine if gate == Gate.RX else -sine
    return found


def _product(after: Complex, before: Complex) -> Complex:
    """Multiply matrices on one qubit; numpy's own product takes longer for small ones."""
    return after[:, :, :1] * before[:, :1] + after[:, :, 1:] * before[:, 1:]


class _States:
    """The states, and what waits to be applied to them: gates on single qubits, then diagonal ones on others."""

    def __init__(self, num_qubits: int, circuits: int) -> None:
        self._num_qubits = num_qubits
        self._circuits = circuits
        indices = np.arange(1 << num_qubits)
        self._indices = indices
        self._bits: list[Reals] = [(indices >> qubit & 1).astype(np.float64) for qubit in range(num_qubits)]
        self._states: States | None = None
        """None while all qubits are in |0⟩, but for gates that wait."""
        self._waiting: dict[int, Complex] = {}
        self._angles: list[Reals] = []
        self._patterns: list[Reals] = []

    def turn_phase(self, gate: int, qubits: tuple[int, ...], params: Sequence[Params]) -> None:
        """Note a diagonal gate."""
        if any(qubit in self._waiting for qubit in qubits):
            self._apply_waiting()
        if gate in _TURNING:
            self._angles.append(np.array([each[0] for each in params]))
        else:
            self._angles.append(np.full(self._circuits, _PHASES[gate]))
        ones = [self._bits[qubit] for qubit in qubits]
        if gate == Gate.RZ:
            self._patterns.append(ones[0] - 0.5)
        elif gate == Gate.RZZ:
            self._patterns.append(0.5 - np.abs(1.0 - ones[0] - ones[1]))
        else:
            self._patterns.append(ones[0] if len(ones) == 1 else ones[0] * ones[1])

    def apply(self, qubit: int, matrices: Complex) -> None:
        """Note a gate on one qubit."""
        self._apply_phases()
        before = self._waiting.get(qubit)
        self._waiting[qubit] = matrices if before is None else _product(matrices, before)

    def move(self, gate: int, qubits: tuple[int, ...]) -> None:
        """Apply a gate that only moves amplitudes."""
        states = self._settled()
        one, other = (self._indices >> qubit & 1 for qubit in qubits)
        if gate == Gate.CX:
            source = self._indices ^ (one << qubits[1])
        else:
            source = self._indices ^ ((one ^ other) << qubits[0]) ^ ((one ^ other) << qubits[1])
        self._states = states[:, source]

    def taken(self) -> list[State]:
        """Return the states."""
        return list(self._settled())

    def _settled(self) -> States:
        self._apply_phases()
        return self._apply_waiting()

    def _apply_waiting(self) -> States:
        if self._states is None:
            self._states = self._begun()
        elif self._waiting:
            states, done = self._states, 0
            while done < self._num_qubits:
                # each takes the lowest bits of the index and leaves them on top, so that all have had their turn
                left = self._num_qubits - done
                size = -(-left // -(-left // _WIDEST))
                low = states.reshape(self._circuits, -1, 1 << size)
                states = np.matmul(self._joined(done, size), low.transpose(0, 2, 1))
                done += size
            self._states = states.reshape(self._circuits, -1)
        self._waiting.clear()
        return self._states

    def _begun(self) -> States:
        """Return what gates on single qubits make of |0…0⟩."""
        product: Complex = np.ones((1, 1), dtype=np.complex128)
        for qubit in range(self._num_qubits):
            waits = self._waiting.get(qubit)
            column = np.array([[1, 0]], dtype=np.complex128) if waits is None else waits[:, :, 0]
            product = (column[:, :, None] * product[:, None]).reshape(-1, 2 << qubit)
        whole = np.broadcast_to(product, (self._circuits, 1 << self._num_qubits))
        return np.ascontiguousarray(whole, dtype=np.complex64)

    def _joined(self, first: int, size: int) -> States:
        """Return the product of the gates that wait on `size` qubits from `first` on."""
        joined: Complex = np.ones((1, 1, 1), dtype=np.complex128)
        for qubit in range(first, first + size):
            waits = self._waiting.get(qubit)
            own = np.eye(2, dtype=np.complex128)[None] if waits is None else waits
            rows = 2 * joined.shape[1]
            joined = (own[:, :, None, :, None] * joined[:, None, :, None, :]).reshape(-1, rows, rows)
        return joined.astype(np.complex64)

    def _apply_phases(self) -> None:
        if not self._angles:
            return
        states = self._apply_waiting()
        # in double precision and reduced before the cast: the phases of a layer add up
        phases = np.stack(self._angles, axis=1) @ np.stack(self._patterns)
        turned = (phases - np.rint(phases / _TURN) * _TURN).astype(np.float32)
        factors = np.empty_like(states)
        np.cos(turned, out=factors.real)
        np.sin(turned, out=factors.imag)
        self._states = states * factors
        self._angles.clear()
        self._patterns.clear()
