"""A flat circuit in the gates that a device has, on the pairs that it couples. Pure.

First every operation is broken down until its pieces are gates of the device or act on one qubit. Where a gate on one
qubit is missing, runs of such gates are then multiplied together and written in what there is.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qedge_driver_api import Condition, FlatCircuit, Gate, ProgramError
from qedge_driver_api.circuit import UNITARY_SHAPE, Op
from qedge_drivers.qdmi.native import NAMES, Native
from qedge_drivers.qdmi.single import (
    IDENTITY,
    PLAIN,
    Matrix,
    adjoint,
    angles,
    basis,
    euler,
    is_identity,
    matrix_of,
    multiply,
    root,
)

_TINY = 1e-12
_MAX_CONTROLS = 6
"""More controls than that triple the gates each time where the device has no multi-controlled gates of its own."""
_OWN: dict[int, tuple[int, int]] = {
    Gate.CX: (Gate.X, 1),
    Gate.CY: (Gate.Y, 1),
    Gate.CZ: (Gate.Z, 1),
    Gate.CH: (Gate.H, 1),
    Gate.CP: (Gate.P, 1),
    Gate.CRX: (Gate.RX, 1),
    Gate.CRY: (Gate.RY, 1),
    Gate.CRZ: (Gate.RZ, 1),
    Gate.CCX: (Gate.X, 2),
    Gate.CCZ: (Gate.Z, 2),
}
"""Gates that are a gate on one qubit with controls."""
_WITH_CONTROLS: dict[tuple[int, int], int] = {parts: gate for gate, parts in _OWN.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a program: a gate with `controls` leading controls, `measure`, `reset` or `barrier`."""

    name: str
    params: tuple[float, ...]
    qubits: tuple[int, ...]
    controls: int = 0
    clbit: int = -1


@dataclass(frozen=True, slots=True)
class Branch:
    """Statements that happen where a condition on classical bits holds."""

    condition: Condition
    body: tuple[Statement, ...]


Statement = Step | Branch


def _op(gate: int, *qubits: int, params: tuple[float, ...] = (), controls: int = 0) -> Op:
    return (int(gate), qubits, params, controls)


def lower(circuit: FlatCircuit, native: Native) -> tuple[Statement, ...]:
    """Write a circuit for a device; raises `ProgramError` where that cannot be done."""
    return _Lowering(circuit, native).block(0, len(circuit.ops))


class _Lowering:
    def __init__(self, circuit: FlatCircuit, native: Native) -> None:
        self._circuit = circuit
        self._native = native
        self._turns = basis(native.names)

    def block(self, begin: int, end: int) -> tuple[Statement, ...]:
        """Return the statements of a range of operations."""
        pieces: list[Op | Branch] = []
        index = begin
        while index < end:
            op = self._circuit.ops[index]
            if op[0] == Gate.IF:
                condition = self._circuit.conditions[op[3]]
                if "if_else" not in self._native.names:
                    raise ProgramError("unsupported", "the device has no operations that depend on measured bits")
                body = self.block(index + 1, index + 1 + condition.length)
                pieces.append(Branch(condition, body))
                index += condition.length
            elif op[0] in UNITARY_SHAPE:
                pieces += self._expand(op)
            else:
                pieces += self._other(op)
            index += 1
        return tuple(self._written(pieces))

    def _other(self, op: Op) -> Iterable[Op]:
        gate = op[0]
        if gate == Gate.BARRIER:
            return [op] if "barrier" in self._native.names else []
        if gate == Gate.RESET and "reset" not in self._native.names:
            raise ProgramError("unsupported", "the device has no reset")
        if gate not in (Gate.RESET, Gate.MEASURE):
            raise ProgramError("unsupported", f"the driver does not know operation {gate}")
        return [op]

    def _expand(self, op: Op) -> Iterator[Op]:
        """Break an operation down to gates that the device has and gates on one qubit."""
        op = _plainest(op)
        if op[0] == Gate.GPHASE:
            return
        if len(op[1]) == 1 or self._native.has(op):
            yield op
        elif self._native.has_turned_round(op):
            yield (op[0], op[1][::-1], op[2], op[3])
        else:
            for piece in _pieces(op, self._native):
                yield from self._expand(piece)

    def _written(self, pieces: list[Op | Branch]) -> Iterator[Statement]:
        single = [piece for piece in pieces if not isinstance(piece, Branch) and len(piece[1]) == 1]
        turns = [piece for piece in single if piece[0] < Gate.MEASURE]
        if all(piece[0] in self._native.named for piece in turns):
            yield from (self._step(piece) for piece in pieces)
            return
        if self._turns is None:
            missing = next(piece[0] for piece in turns if piece[0] not in self._native.named)
            raise ProgramError("unsupported", f"the device has no {Gate(missing).name}, nor gates to make it of")
        pending: dict[int, Matrix] = {}
        for piece in pieces:
            if isinstance(piece, Branch):
                yield from self._flush(pending, sorted(pending))
                yield piece
            elif len(piece[1]) == 1 and piece[0] < Gate.MEASURE:
                qubit = piece[1][0]
                pending[qubit] = multiply(matrix_of(piece[0], piece[2]), pending.get(qubit, IDENTITY))
            else:
                yield from self._flush(pending, piece[1])
                yield self._step(piece)
        yield from self._flush(pending, sorted(pending))

    def _flush(self, pending: dict[int, Matrix], qubits: Iterable[int]) -> Iterator[Step]:
        for qubit in qubits:
            matrix = pending.pop(qubit, IDENTITY)
            if self._turns is not None and not is_identity(matrix):
                for name, params in self._turns(matrix):
                    yield Step(name, params, (qubit,))

    def _step(self, piece: Op | Branch) -> Statement:
        if isinstance(piece, Branch):
            return piece
        gate, qubits, params, arg = piece
        if gate == Gate.MEASURE:
            return Step("measure", (), qubits, clbit=arg)
        if gate in (Gate.RESET, Gate.BARRIER):
            return Step("reset" if gate == Gate.RESET else "barrier", (), qubits)
        if arg:
            return Step("x" if gate == Gate.X else NAMES[Gate.P][0], params, qubits, arg)
        return Step(self._native.named[gate], params, qubits)


def _plainest(op: Op) -> Op:
    """Return the same operation under the name that says most of its controls."""
    gate, qubits, params, arg = op
    if gate == Gate.GPHASE and arg:
        # a phase of all controls is one of the last under the others
        gate, arg = Gate.P, arg - 1
    own, controls = _OWN.get(gate, (gate, 0))
    controls += arg
    named = _WITH_CONTROLS.get((own, controls))
    return (own, qubits, params, controls) if named is None else (named, qubits, params, 0)


def _pieces(op: Op, native: Native) -> Iterator[Op]:
    """Give smaller operations that make up one on two or more qubits; raises `ProgramError` at the bottom."""
    gate, qubits, params, arg = op
    if gate == Gate.CX:
        yield from _cx(qubits, native)
    elif gate == Gate.CU:
        theta, phi, lam, gamma = params
        yield from _controlled(_with_phase((theta, phi, lam), gamma - theta / 2), qubits[:-1], qubits[-1], native)
    elif gate in _OWN or gate < Gate.CX:
        own, _ = _OWN.get(gate, (gate, 0))
        yield from _controlled(matrix_of(own, params), qubits[:-1], qubits[-1], native)
    else:
        yield from _pair(gate, qubits[:arg] if gate != Gate.CSWAP else qubits[: arg + 1], qubits[-2:], params)


def _with_phase(params: tuple[float, float, float], phase: float) -> Matrix:
    a, b, c, d = matrix_of(Gate.U, params)
    turn = cmath.exp(1j * phase)
    return (turn * a, turn * b, turn * c, turn * d)


def _cx(qubits: tuple[int, ...], native: Native) -> Iterator[Op]:
    control, target = qubits
    turned = _op(Gate.CX, target, control)
    if native.has(turned):
        yield from (_op(Gate.H, control), _op(Gate.H, target), turned, _op(Gate.H, control), _op(Gate.H, target))
    elif native.has_either(Gate.CZ, qubits):
        yield from (_op(Gate.H, target), _op(Gate.CZ, *qubits), _op(Gate.H, target))
    elif native.has_either(Gate.RZZ, qubits):
        # CZ = e^{iπ/4} exp(iπ/4 ZZ) Rz(π/2)⊗Rz(π/2)
        half = (math.pi / 2,)
        yield _op(Gate.H, target)
        yield from (_op(Gate.RZZ, *qubits, params=(-math.pi / 2,)), _op(Gate.RZ, control, params=half))
        yield from (_op(Gate.RZ, target, params=half), _op(Gate.H, target))
    elif native.has_either(Gate.RXX, qubits):
        half = (math.pi / 2,)
        yield from (_op(Gate.H, control), _op(Gate.RXX, *qubits, params=(-math.pi / 2,)))
        yield from (_op(Gate.RX, control, params=half), _op(Gate.RX, target, params=half), _op(Gate.H, control))
    elif native.pairs is not None and not native.coupled(qubits):
        raise ProgramError("unsupported", f"the device does not couple qubits {control} and {target}")
    else:
        raise ProgramError("unsupported", "the device has none of cx, cz, rzz and rxx to make gates on two qubits of")


def _pair(gate: int, controls: tuple[int, ...], pair: tuple[int, ...], params: tuple[float, ...]) -> Iterator[Op]:
    """Break down swaps and interactions; with controls only their middle needs them."""
    one, other = pair
    extra = len(controls)
    if gate in (Gate.SWAP, Gate.CSWAP):
        yield _op(Gate.CX, other, one)
        yield _op(Gate.X, *controls, one, other, controls=extra + 1) if extra else _op(Gate.CX, one, other)
        yield _op(Gate.CX, other, one)
    elif gate == Gate.ISWAP and extra:
        for part in (Gate.RXX, Gate.RYY):
            yield _op(part, *controls, one, other, params=(-math.pi / 2,), controls=extra)
    elif gate == Gate.ISWAP:
        yield from (_op(Gate.S, one), _op(Gate.S, other), _op(Gate.H, one))
        yield from (_op(Gate.CX, one, other), _op(Gate.CX, other, one), _op(Gate.H, other))
    elif gate == Gate.RZZ:
        yield _op(Gate.CX, one, other)
        yield _op(Gate.RZ, *controls, other, params=params, controls=extra)
        yield _op(Gate.CX, one, other)
    elif gate in (Gate.RXX, Gate.RYY):
        # H and Rx(π/2) turn Z into X and Y
        into, out = (Gate.H, Gate.H) if gate == Gate.RXX else (Gate.SX, Gate.SXDG)
        yield from (_op(into, one), _op(into, other))
        yield _op(Gate.RZZ, *controls, one, other, params=params, controls=extra)
        yield from (_op(out, one), _op(out, other))
    else:
        raise ProgramError("unsupported", f"the driver does not know operation {gate}")


def _same(one: Matrix, other: Matrix) -> bool:
    return all(abs(x - y) < _TINY for x, y in zip(one, other, strict=True))


def _turn(matrix: Matrix, qubit: int) -> Op:
    return _op(Gate.U, qubit, params=angles(matrix))


def _controlled(matrix: Matrix, controls: tuple[int, ...], target: int, native: Native) -> Iterator[Op]:
    """Break down a turn of the target under controls (Barenco et al., arXiv:quant-ph/9503016, sections 5 to 7)."""
    count = len(controls)
    if not count:
        yield _turn(matrix, target)
    elif _same(matrix, PLAIN[Gate.X]):
        yield from _toffoli(controls, target, native)
    elif _same(matrix, PLAIN[Gate.Z]):
        yield _op(Gate.H, target)
        yield from _toffoli(controls, target, native)
        yield _op(Gate.H, target)
    elif count == 1 or native.many_controls:
        yield from _by_angles(matrix, controls, target)
    else:
        yield from _by_roots(matrix, controls, target, native)


def _toffoli(controls: tuple[int, ...], target: int, native: Native) -> Iterator[Op]:
    if len(controls) == 1:
        yield _op(Gate.CX, *controls, target)
    elif len(controls) == 2 and native.has(_op(Gate.CCX, *controls, target)):
        yield _op(Gate.CCX, *controls, target)
    elif native.many_controls:
        yield _op(Gate.X, *controls, target, controls=len(controls))
    elif len(controls) == 2:
        yield from _toffoli_of_pairs(*controls, target)
    else:
        yield from _by_roots(PLAIN[Gate.X], controls, target, native)


def _toffoli_of_pairs(one: int, other: int, target: int) -> Iterator[Op]:
    """Give the six CX and seven T of the usual Toffoli gate (Nielsen and Chuang, figure 4.9)."""
    yield from (_op(Gate.H, target), _op(Gate.CX, other, target), _op(Gate.TDG, target), _op(Gate.CX, one, target))
    yield from (_op(Gate.T, target), _op(Gate.CX, other, target), _op(Gate.TDG, target), _op(Gate.CX, one, target))
    yield from (_op(Gate.T, other), _op(Gate.T, target), _op(Gate.H, target), _op(Gate.CX, one, other))
    yield from (_op(Gate.T, one), _op(Gate.TDG, other), _op(Gate.CX, one, other))


def _by_angles(matrix: Matrix, controls: tuple[int, ...], target: int) -> Iterator[Op]:
    """Give e^{iα} A X B X C with A B C = 1: two controlled X and a phase of the controls."""
    alpha, beta, gamma, delta = euler(matrix)
    flip = _op(Gate.X, *controls, target, controls=len(controls)) if len(controls) > 1 else None
    flip = flip or _op(Gate.CX, *controls, target)
    if abs(gamma) > _TINY or abs(beta + delta) > _TINY:
        yield _op(Gate.RZ, target, params=((delta - beta) / 2,))
        yield flip
        yield _op(Gate.RZ, target, params=(-(delta + beta) / 2,))
        yield _op(Gate.RY, target, params=(-gamma / 2,))
        yield flip
        yield _op(Gate.RY, target, params=(gamma / 2,))
        yield _op(Gate.RZ, target, params=(beta,))
    if abs(alpha) > _TINY:
        # a phase on the last control, under those before it
        rest = len(controls) - 1
        yield _op(Gate.P, *controls, params=(alpha,), controls=rest)


def _by_roots(matrix: Matrix, controls: tuple[int, ...], target: int, native: Native) -> Iterator[Op]:
    """Give V under one control, V† under the same after it was flipped by the others, and V under the others."""
    if len(controls) > _MAX_CONTROLS:
        raise ProgramError("unsupported", f"the device has no gates with {len(controls)} controls")
    *others, last = controls
    half = root(matrix)
    yield from _controlled(half, (last,), target, native)
    yield from _toffoli(tuple(others), last, native)
    yield from _controlled(adjoint(half), (last,), target, native)
    yield from _toffoli(tuple(others), last, native)
    yield from _controlled(half, tuple(others), target, native)
