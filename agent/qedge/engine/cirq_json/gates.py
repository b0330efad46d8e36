"""What cirq's gates are in the flat form: steps on their own qubits 0, 1, …, up to nothing, global phase included.

A power gate is written with exponent t and shift s: G^t e^(iπst). Angles are expressions, in radians.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from qedge.engine.cirq_json.tree import Json, Place, complex_of, expression, items, kind_of, number, whole
from qedge.engine.qasm3.expression import Node, applied
from qedge_driver_api import Gate

_TOLERANCE: Final = 1e-6
_QUARTER: Final = math.pi / 4
_MAX_CONTROLS: Final = 256


class Step(NamedTuple):
    """One operation: `qubits` count from 0 within the gate, the first `controls` of them control."""

    gate: Gate
    qubits: tuple[int, ...]
    angles: tuple[Node, ...] = ()
    controls: int = 0


class GateReader:
    """Reads gates; `place_of` gives symbols their number."""

    def __init__(self, place: Place, place_of: Callable[[str], int]) -> None:
        self._place = place
        self._place_of = place_of
        self._kinds: Mapping[str, Callable[[Json], tuple[int, list[Step]]]] = {
            **{name: self._pauli(name[-1]) for name in ("_PauliX", "_PauliY", "_PauliZ")},
            **{f"{axis}PowGate": self._pauli(axis) for axis in "XYZ"},
            "HPowGate": lambda part: (1, self._hadamard(part)),
            "CXPowGate": lambda part: (2, self._controlled_x(part, (0, 1))),
            "CZPowGate": lambda part: (2, self._phase(part, (0, 1), Gate.CZ, Gate.CP)),
            "SwapPowGate": lambda part: (2, self._swap(part)),
            "ISwapPowGate": lambda part: (2, self._iswap(part)),
            "CCXPowGate": lambda part: (3, self._controlled_x(part, (0, 1, 2))),
            "CCZPowGate": lambda part: (3, self._phase(part, (0, 1, 2), Gate.CCZ, Gate.P)),
            "CSwapGate": lambda _: (3, [Step(Gate.CSWAP, (0, 1, 2))]),
            **{f"{2 * axis}PowGate": self._interaction(gate) for axis, gate in _PAIRS.items()},
            "Rx": lambda part: (1, [Step(Gate.RX, (0,), (self._node(part, "rads"),))]),
            "Ry": lambda part: (1, [Step(Gate.RY, (0,), (self._node(part, "rads"),))]),
            "Rz": lambda part: (1, [Step(Gate.RZ, (0,), (self._node(part, "rads"),))]),
            "MSGate": lambda part: (2, [Step(Gate.RXX, (0, 1), (_times(2, self._node(part, "rads")),))]),
            "PhasedXPowGate": lambda part: (1, self._phased_x(part)),
            "PhasedXZGate": lambda part: (1, self._phased_xz(part)),
            "PhasedISwapPowGate": lambda part: (2, self._phased_iswap(part)),
            "FSimGate": lambda part: (2, self._fsim(part)),
            "IdentityGate": lambda part: (self._width(part), []),
            "WaitGate": lambda part: (max(1, len(items(part.get("qid_shape", [2]), self._place))), []),
            "GlobalPhaseGate": lambda part: (0, self._global_phase(part)),
            "MatrixGate": lambda part: (1, self._matrix(part)),
            "ControlledGate": self._controlled,
        }

    def read(self, value: object) -> tuple[int, list[Step]]:
        """Return the qubits of a unitary gate and its steps in order of time."""
        kind = kind_of(value, self._place)
        read = self._kinds.get(kind)
        if read is None or not isinstance(value, dict):
            raise self._place.fault(
                "circuit.unsupported",
                f"the gate {kind[:60]} is not read here; `cirq.decompose` makes it of gates that are",
            )
        return read(value)

    def _node(self, part: Json, name: str, default: float | None = None) -> Node:
        value = part.get(name, default)
        return expression(value, self._place, self._place_of)

    def _power(self, part: Json) -> tuple[Node, float]:
        return self._node(part, "exponent", 1.0), number(part.get("global_shift", 0.0), self._place)

    def _width(self, part: Json) -> int:
        width = whole(part.get("num_qubits", 1), self._place)
        if not 0 <= width <= 10_000:
            raise self._place.fault("circuit.bad_arity", f"expected a number of qubits, found {width}")
        return width

    def _pauli(self, axis: str) -> Callable[[Json], tuple[int, list[Step]]]:
        turn, named = _AXES[axis]

        def read(part: Json) -> tuple[int, list[Step]]:
            exponent, shift = self._power(part)
            gate = named.get(exponent) if isinstance(exponent, (int, float)) else None
            if gate is not None:
                return 1, [Step(gate, (0,)), *_phase_of(exponent, shift)]
            half = 0.0 if turn is Gate.P else 0.5
            return 1, [Step(turn, (0,), (_times(math.pi, exponent),)), *_phase_of(exponent, shift + half)]

        return read

    def _hadamard(self, part: Json) -> list[Step]:
        exponent, shift = self._power(part)
        if exponent == 1:
            return [Step(Gate.H, (0,)), *_phase_of(exponent, shift)]
        turn = Step(Gate.P, (0,), (_times(math.pi, exponent),))
        return [
            Step(Gate.RY, (0,), (-_QUARTER,)),
            turn,
            Step(Gate.RY, (0,), (_QUARTER,)),
            *_phase_of(exponent, shift),
        ]

    def _phase(self, part: Json, qubits: tuple[int, ...], named: Gate, turn: Gate) -> list[Step]:
        exponent, shift = self._power(part)
        if exponent == 1:
            return [Step(named, qubits), *_phase_of(exponent, shift)]
        controls = len(qubits) - 1 if turn is Gate.P else 0
        return [Step(turn, qubits, (_times(math.pi, exponent),), controls), *_phase_of(exponent, shift)]

    def _controlled_x(self, part: Json, qubits: tuple[int, ...]) -> list[Step]:
        exponent, shift = self._power(part)
        if exponent == 1:
            return [Step(Gate.CX if len(qubits) == 2 else Gate.CCX, qubits), *_phase_of(exponent, shift)]
        around = Step(Gate.H, qubits[-1:])
        turn = Step(Gate.P, qubits, (_times(math.pi, exponent),), len(qubits) - 1)
        return [around, turn, around, *_phase_of(exponent, shift)]

    def _swap(self, part: Json) -> list[Step]:
        exponent, shift = self._power(part)
        if exponent == 1:
            return [Step(Gate.SWAP, (0, 1)), *_phase_of(exponent, shift)]
        turn = Step(Gate.P, (1, 0), (_times(math.pi, exponent),), 1)
        around, change = Step(Gate.CX, (0, 1)), Step(Gate.H, (0,))
        return [around, change, turn, change, around, *_phase_of(exponent, shift)]

    def _iswap(self, part: Json) -> list[Step]:
        exponent, shift = self._power(part)
        if exponent == 1:
            return [Step(Gate.ISWAP, (0, 1)), *_phase_of(exponent, shift)]
        angle = _times(-math.pi / 2, exponent)
        return [
            Step(Gate.RXX, (0, 1), (angle,)),
            Step(Gate.RYY, (0, 1), (angle,)),
            *_phase_of(exponent, shift),
        ]

    def _interaction(self, gate: Gate) -> Callable[[Json], tuple[int, list[Step]]]:
        def read(part: Json) -> tuple[int, list[Step]]:
            exponent, shift = self._power(part)
            turn = Step(gate, (0, 1), (_times(math.pi, exponent),))
            return 2, [turn, *_phase_of(exponent, shift + 0.5)]

        return read

    def _phased_x(self, part: Json) -> list[Step]:
        axis = _times(math.pi, self._node(part, "phase_exponent"))
        _, turn = self._pauli("X")(part)
        return [Step(Gate.P, (0,), (_times(-1, axis),)), *turn, Step(Gate.P, (0,), (axis,))]

    def _phased_xz(self, part: Json) -> list[Step]:
        x, z, axis = (self._node(part, f"{name}_exponent") for name in ("x", "z", "axis_phase"))
        return [
            Step(Gate.P, (0,), (_times(-math.pi, axis),)),
            Step(Gate.RX, (0,), (_times(math.pi, x),)),
            Step(Gate.GPHASE, (), (_times(math.pi / 2, x),)),
            Step(Gate.P, (0,), (_times(math.pi, applied("+", (axis, z))),)),
        ]

    def _phased_iswap(self, part: Json) -> list[Step]:
        angle = _times(math.pi, self._node(part, "phase_exponent"))
        back = _times(-1, angle)
        before = [Step(Gate.P, (0,), (angle,)), Step(Gate.P, (1,), (back,))]
        after = [Step(Gate.P, (0,), (back,)), Step(Gate.P, (1,), (angle,))]
        return [*before, *self._iswap(part), *after]

    def _fsim(self, part: Json) -> list[Step]:
        theta, phi = self._node(part, "theta"), self._node(part, "phi")
        turns = [Step(gate, (0, 1), (theta,)) for gate in (Gate.RXX, Gate.RYY)]
        return [*turns, Step(Gate.CP, (0, 1), (_times(-1, phi),))]

    def _global_phase(self, part: Json) -> list[Step]:
        return self.phase(complex_of(part.get("coefficient"), self._place))

    def phase(self, value: complex) -> list[Step]:
        """Return the global phase that is `value`, of magnitude 1."""
        if abs(abs(value) - 1) > _TOLERANCE:
            raise self._place.fault("circuit.not_unitary", "expected a coefficient of magnitude 1")
        return [Step(Gate.GPHASE, (), (cmath.phase(value),))]

    def _matrix(self, part: Json) -> list[Step]:
        """Write a matrix on one qubit as U(θ, φ, λ), which has a phase of θ/2 of its own, and a phase.

        See arXiv:2104.14722, section III.
        """
        rows = [items(row, self._place) for row in items(part.get("matrix"), self._place)]
        if len(rows) != 2 or any(len(row) != 2 for row in rows):
            raise self._place.fault(
                "circuit.unsupported", "matrices are read for one qubit; cirq.decompose takes apart larger ones"
            )
        (a, b), (c, d) = ([complex_of(value, self._place) for value in row] for row in rows)
        products = (abs(a) ** 2 + abs(c) ** 2 - 1, abs(b) ** 2 + abs(d) ** 2 - 1, a.conjugate() * b + c.conjugate() * d)
        if max(map(abs, products)) > _TOLERANCE:
            raise self._place.fault("circuit.not_unitary", "expected a unitary matrix")
        theta = 2 * math.atan2(abs(c), abs(a))
        first = cmath.phase(a) if abs(a) > _TOLERANCE else 0.0
        phi = cmath.phase(c) - first if abs(c) > _TOLERANCE else 0.0
        lam = cmath.phase(d) - phi - first if abs(d) > _TOLERANCE else cmath.phase(-b) - first
        return [Step(Gate.U, (0,), (theta, phi, lam)), Step(Gate.GPHASE, (), (first - theta / 2,))]

    def _controlled(self, part: Json) -> tuple[int, list[Step]]:
        values = self.control_values(part)
        width, steps = self.read(part.get("sub_gate"))
        return width + len(values), self.controlled(steps, values)

    def control_values(self, part: Json) -> list[int]:
        """Return the value, 0 or 1, on which each control of a gate or operation acts."""
        given = part.get("control_values")
        if isinstance(given, dict):
            if kind_of(given, self._place) != "ProductOfSums":
                raise self._place.fault("circuit.unsupported", "controls are read that act on one value each")
            given = given.get("data")
        if given is None:
            controls = part.get("num_controls", len(items(part.get("controls", []), self._place)))
            return [1] * self._width({"num_qubits": controls})
        values = [each if isinstance(each, int) else items(each, self._place) for each in items(given, self._place)]
        plain = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in values]
        if any(type(each) is not int or each not in (0, 1) for each in plain):
            raise self._place.fault("circuit.unsupported", "controls are read that act on one value each, 0 or 1")
        return [1 if each == 1 else 0 for each in plain]

    def controlled(self, steps: list[Step], values: list[int]) -> list[Step]:
        """Put controls, which become the first qubits, before all steps; those that act on 0 stand between X gates."""
        count = len(values)
        if count + max((step.controls for step in steps), default=0) > _MAX_CONTROLS:
            raise self._place.fault("circuit.bad_arity", f"expected at most {_MAX_CONTROLS} controls of one gate")
        flips = [Step(Gate.X, (index,)) for index, value in enumerate(values) if value == 0]
        inner = [
            Step(
                step.gate,
                (*range(count), *(qubit + count for qubit in step.qubits)),
                step.angles,
                step.controls + count,
            )
            for step in steps
        ]
        return [*flips, *inner, *flips]


def _times(factor: float, node: Node) -> Node:
    return applied("*", (factor, node))


def _phase_of(exponent: Node, shift: float) -> list[Step]:
    """Return e^(iπ shift exponent), nothing where there is none."""
    return [] if shift == 0 else [Step(Gate.GPHASE, (), (_times(math.pi * shift, exponent),))]


_PAIRS: Final = {"X": Gate.RXX, "Y": Gate.RYY, "Z": Gate.RZZ}
_AXES: Final[Mapping[str, tuple[Gate, Mapping[float, Gate]]]] = {
    "X": (Gate.RX, {1.0: Gate.X, 0.5: Gate.SX, -0.5: Gate.SXDG}),
    "Y": (Gate.RY, {1.0: Gate.Y}),
    "Z": (Gate.P, {1.0: Gate.Z, 0.5: Gate.S, -0.5: Gate.SDG, 0.25: Gate.T, -0.25: Gate.TDG}),
}
