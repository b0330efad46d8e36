"""Gates merged before a kernel gets them: those on one qubit into the gate on two qubits that follows.

Handing a gate to qsim costs more than applying it to a small state. What goes into what depends on gates and qubits
alone, and to work that out takes about as long as it saves twice, so it is kept for circuits that come again with
other parameters. The matrices of one circuit are computed all at once. Arrays of matrices have the matrix first and the
place last: `[row, column, place]`, complex128, first listed qubit most significant.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.gates import Matrix, gate_matrix

Matrices = npt.NDArray[np.complex128]
Angles = npt.NDArray[np.float64]

_FIXED: Final = tuple(
    int(gate)
    for gate in (
        Gate.ID, Gate.X, Gate.Y, Gate.Z, Gate.H, Gate.S, Gate.SDG, Gate.T, Gate.TDG, Gate.SX, Gate.SXDG,
    )
)  # fmt: skip
_TURNS: Final = tuple(int(gate) for gate in (Gate.RX, Gate.RY, Gate.RZ, Gate.P, Gate.U))
_FIXED_PAIRS: Final = tuple(int(gate) for gate in (Gate.CX, Gate.CY, Gate.CZ, Gate.CH, Gate.SWAP, Gate.ISWAP))
_DIAGONAL_PAIRS: Final = tuple(int(gate) for gate in (Gate.CP, Gate.CRZ, Gate.RZZ))
_ONE: Final = frozenset(_FIXED + _TURNS)
_TWO: Final = frozenset(_FIXED_PAIRS + _DIAGONAL_PAIRS)
_IDENTITY: Final = 0
_LONGEST: Final = 8
"""Gates that are multiplied into one before it is handed on."""


class Step(NamedTuple):
    """An operation that is left: `size` is that of its matrix in qubits, 0 for an operation as it stood.

    `place` is the one of its matrix among those of this size, or its own in the circuit.
    """

    qubits: tuple[int, ...]
    size: int
    place: int


class Fusion:
    """How the operations of circuits of one structure are merged."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self._turned: dict[int, list[int]] = {gate: [] for gate in _TURNS}
        self._pairs: dict[int, list[int]] = {gate: [] for gate in _FIXED_PAIRS + _DIAGONAL_PAIRS}
        # a gate in a run is (gate, which one of its kind); run 0 holds none
        runs: list[list[tuple[int, int]]] = [[]]
        waiting: dict[int, int] = {}
        owners: dict[int, list[tuple[int, int]]] = {gate: [] for gate in self._pairs}
        # (qubits, one or two of them merged or 0, what) in the order of the circuit
        steps: list[tuple[tuple[int, ...], int, int]] = []
        for index, (gate, qubits, _, controls) in enumerate(ops):
            if gate in _ONE and not controls:
                run = waiting.get(qubits[0])
                if run is not None and len(runs[run]) >= _LONGEST:
                    steps.append((qubits, 1, run))
                    run = None
                if run is None:
                    run = waiting[qubits[0]] = len(runs)
                    runs.append([])
                own = self._turned.get(gate)
                runs[run].append((gate, 0 if own is None else len(own)))
                if own is not None:
                    own.append(index)
            elif gate in _TWO and not controls:
                steps.append((qubits, 2, index))
                self._pairs[gate].append(index)
                owners[gate].append((waiting.pop(qubits[0], 0), waiting.pop(qubits[1], 0)))
            else:
                steps += [((qubit,), 1, waiting.pop(qubit)) for qubit in qubits if qubit in waiting]
                steps.append((qubits, 0, index))
        steps += [((qubit,), 1, run) for qubit, run in waiting.items()]
        self._lay_out(runs, owners, steps)
        self._find_angles(ops)

    def _lay_out(
        self,
        runs: list[list[tuple[int, int]]],
        owners: dict[int, list[tuple[int, int]]],
        steps: list[tuple[tuple[int, ...], int, int]],
    ) -> None:
        """Number the matrices: those that never change first, then those that turn, by gate."""
        self._first_turn = len(_FIXED)
        begins: dict[int, int] = {}
        end = len(_FIXED)
        for gate, own in self._turned.items():
            begins[gate] = end
            end += len(own)
        self._base: Matrices = np.zeros((2, 2, end), dtype=np.complex128)
        for place, gate in enumerate(_FIXED):
            self._base[:, :, place] = gate_matrix(gate, ())
        slot_of = {gate: place for place, gate in enumerate(_FIXED)}
        # long runs first, so that later gates of runs go to the first so many of them
        order = sorted(range(len(runs)), key=lambda run: -len(runs[run]))
        position = {run: place for place, run in enumerate(order)}
        self._slots = [np.array([_IDENTITY] * len(runs), dtype=np.intp)]
        for nth in range(len(runs[order[0]])):
            gates = [runs[run][nth] for run in order if len(runs[run]) > nth]
            slots = [begins[gate] + which if gate in begins else slot_of[gate] for gate, which in gates]
            if nth == 0:
                self._slots[0][: len(slots)] = slots
            else:
                self._slots.append(np.array(slots, dtype=np.intp))
        place_of = {index: place for place, index in enumerate(i for own in self._pairs.values() for i in own)}
        self._firsts = np.array([position[first] for own in owners.values() for first, _ in own], dtype=np.intp)
        self._seconds = np.array([position[second] for own in owners.values() for _, second in own], dtype=np.intp)
        flushed = [run for _, size, run in steps if size == 1]
        self._flushed = np.array([position[run] for run in flushed], dtype=np.intp)
        run_place = {run: place for place, run in enumerate(flushed)}
        self.steps = [
            Step(qubits, size, run_place[what] if size == 1 else place_of[what] if size == 2 else what)
            for qubits, size, what in steps
        ]

    def _find_angles(self, ops: Sequence[Op]) -> None:
        """Note where parameters stand when those of all operations stand in a row."""
        begins = [0, *itertools.accumulate(len(op[2]) for op in ops)]
        single = [begins[index] for gate, own in self._turned.items() if gate != Gate.U for index in own]
        self._angled = np.array(single, dtype=np.intp)
        self._of_u = np.array([[begins[index] + i for index in self._turned[Gate.U]] for i in range(3)], dtype=np.intp)
        self._of_pairs = {
            gate: np.array([begins[index] for index in self._pairs[gate]], dtype=np.intp) for gate in _DIAGONAL_PAIRS
        }

    def matrices(self, params: array[float]) -> tuple[array[float], array[float]]:
        """Return the matrices on one qubit and on two of operations of this structure, 8 and 32 numbers for each.

        `params` are those of all operations in a row.

        Row-major, real and imaginary parts interleaved. A slice of an array is made faster than a list.
        """
        angles = np.array(params)
        ones, twos = self._multiplied(self._gates(angles), angles)
        return array("d", ones.transpose(2, 0, 1).tobytes()), array("d", twos.transpose(2, 0, 1).tobytes())

    def _gates(self, angles: Angles) -> Matrices:
        """Return the matrices of all gates on one qubit."""
        gates = self._base.copy()
        # real and imaginary parts by themselves: most of them are 0 in a rotation, and stay as they are
        real, imaginary = gates.real, gates.imag
        half = angles.take(self._angled) * 0.5
        cosines, sines = np.cos(half), np.sin(half)
        begin = 0
        for gate, own in self._turned.items():
            if not own:
                continue
            end = begin + len(own)
            cosine, sine = cosines[begin:end], sines[begin:end]
            at = slice(self._first_turn + begin, self._first_turn + end)
            begin = end
            if gate == Gate.RX:
                real[0, 0, at] = real[1, 1, at] = cosine
                imaginary[0, 1, at] = imaginary[1, 0, at] = -sine
            elif gate == Gate.RY:
                real[0, 0, at] = real[1, 1, at] = cosine
                real[1, 0, at] = sine
                real[0, 1, at] = -sine
            elif gate == Gate.RZ:
                real[0, 0, at] = real[1, 1, at] = cosine
                imaginary[1, 1, at] = sine
                imaginary[0, 0, at] = -sine
            elif gate == Gate.P:
                real[0, 0, at] = 1.0
                gates[1, 1, at] = np.square(cosine + 1j * sine)
            else:
                _fill_u(gates[:, :, at], angles[self._of_u])
        return gates

    def _multiplied(self, gates: Matrices, angles: Angles) -> tuple[Matrices, Matrices]:
        """Return the matrices of runs that stay by themselves, and of gates on two qubits with the runs before them."""
        runs = gates.take(self._slots[0], axis=2)
        for slots in self._slots[1:]:
            before, after = runs[:, :, : len(slots)], gates.take(slots, axis=2)
            product = after[:, 0, None] * before[None, 0]
            product += after[:, 1, None] * before[None, 1]
            runs[:, :, : len(slots)] = product
        first, second = runs.take(self._firsts, axis=2), runs.take(self._seconds, axis=2)
        twos: Matrices = (first[:, None, :, None] * second[None, :, None, :]).reshape(4, 4, -1)
        begin = 0
        for gate, own in self._pairs.items():
            if not own:
                continue
            part = twos[:, :, begin : begin + len(own)]
            begin += len(own)
            if gate in _DIAGONAL_PAIRS:
                part *= _diagonals(gate, angles[self._of_pairs[gate]])[:, None]
            elif gate == Gate.CZ:
                np.negative(part[3], out=part[3])
            elif gate == Gate.CX:
                part[2:] = part[:1:-1].copy()
            else:
                part[...] = (gate_matrix(gate, ()) @ part.reshape(4, -1)).reshape(part.shape)
        return runs.take(self._flushed, axis=2), twos


def _fill_u(part: Matrices, angles: Angles) -> None:
    theta, phi, lam = angles
    half = theta * 0.5
    # the global phase of U is one that nothing sees without a control
    cosine, sine = np.cos(half), np.sin(half)
    part[0, 0] = cosine
    part[0, 1] = -np.exp(1j * lam) * sine
    part[1, 0] = np.exp(1j * phi) * sine
    part[1, 1] = np.exp(1j * (phi + lam)) * cosine


def _diagonals(gate: int, angles: Angles) -> Matrix:
    """Return the diagonals of gates, `[row, place]`."""
    found = np.ones((4, len(angles)), dtype=np.complex128)
    if gate == Gate.CP:
        found[3] = np.exp(1j * angles)
        return found
    turn = np.exp(0.5j * angles)
    if gate == Gate.CRZ:
        found[2], found[3] = turn.conj(), turn
        return found
    found[0] = found[3] = turn.conj()
    found[1] = found[2] = turn
    return found
