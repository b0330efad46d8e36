"""A parsed program whose parameters may still be open: bound to numbers without being parsed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

from qedge.base.errors import QedgeError
from qedge.engine.qasm.model import Program
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, FlatCircuit, Gate
from qedge_driver_api.circuit import Op

_MAX_SHOWN: Final = 8
_MEASURE: Final = int(Gate.MEASURE)
_Angle = Callable[[Sequence[float]], float]
_NOTHING: Final[Op] = (int(Gate.BARRIER), (), (), 0)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A statement that depends on parameters: `expand(values, into)` appends exactly `size` operations.

    One operation with one parameter needs no expansion: `angle` computes it from the values. Statements with the same
    expression have the same `angle` (the same object), which is asked once then.
    """

    size: int
    expand: Callable[[Sequence[float], list[Op]], None]
    angle: Callable[[Sequence[float]], float] | None = None


@dataclass(frozen=True)
class Template:
    """A program: operations in order, some of them deferred until `parameters` have values."""

    num_qubits: int
    num_clbits: int
    stream: tuple[Op | Deferred, ...]
    conditions: tuple[Condition, ...]
    registers: tuple[Register, ...]
    parameters: tuple[str, ...] = ()
    measured: bool = True

    @cached_property
    def _skeleton(self) -> tuple[list[Op], list[tuple[int, Deferred]]]:
        """All operations, deferred ones with made-up parameters, and where the deferred ones stand."""
        if not self.parameters:
            return cast("list[Op]", list(self.stream)), []
        ops: list[Op] = []
        places: list[tuple[int, Deferred]] = []
        made_up = [0.25] * len(self.parameters)
        for item in self.stream:
            if isinstance(item, Deferred):
                places.append((len(ops), item))
                try:
                    item.expand(made_up, ops)
                except QedgeError:
                    # no shape to compare with; the values that are given will say what is wrong
                    ops += [_NOTHING] * (places[-1][0] + item.size - len(ops))
            else:
                ops.append(item)
        return ops, places

    @cached_property
    def _places(self) -> tuple[dict[_Angle, list[tuple[int, int, tuple[int, ...], int]]], list[tuple[int, Deferred]]]:
        """Where an operation has a parameter of its own, by how that is computed; and the other deferred statements."""
        skeleton, places = self._skeleton
        turned: dict[_Angle, list[tuple[int, int, tuple[int, ...], int]]] = {}
        others: list[tuple[int, Deferred]] = []
        for begin, item in places:
            if item.angle is None or skeleton[begin] is _NOTHING:
                others.append((begin, item))
            else:
                gate, qubits, _, controls = skeleton[begin]
                turned.setdefault(item.angle, []).append((begin, gate, qubits, controls))
        return turned, others

    @cached_property
    def _measurements(self) -> list[Op]:
        return [(_MEASURE, (qubit,), (), self.num_clbits + qubit) for qubit in range(self.num_qubits)]

    @cached_property
    def _shapes(self) -> tuple[object, object]:
        return object(), object()

    def bind(self, values: Mapping[str, float], *, measure_all: bool = False, counted: bool = True) -> Program:
        """Return the program with values for all parameters.

        `measure_all` gives a program without a measurement one of all qubits at its end, into a register `meas`; not
        `counted` takes it without. Raises `circuit.unbound_parameter`, `circuit.unknown_parameter`,
        `circuit.nonfinite_parameter`, `circuit.no_measurement`.
        """
        if counted and not (self.measured or measure_all):
            raise QedgeError(
                "circuit.no_measurement",
                "The program ends without a measurement.",
                fix="Add one, for example `measure q -> c;`, or set measure_all.",
            )
        self._check_names(values)
        ops, same = self._filled([float(values[name]) for name in self.parameters])
        num_clbits, registers, shape = self.num_clbits, self.registers, self._shapes[0]
        if counted and not self.measured:
            ops += self._measurements
            registers = (*registers, Register("meas", self.num_qubits, num_clbits))
            num_clbits += self.num_qubits
            shape = self._shapes[1]
        circuit = FlatCircuit(self.num_qubits, num_clbits, tuple(ops), self.conditions, shape if same else None)
        return Program(circuit, registers)

    def _filled(self, own: Sequence[float]) -> tuple[list[Op], bool]:
        """Return the operations for these values, and whether they are those of the skeleton but for parameters."""
        skeleton, places = self._skeleton
        if not places:
            return skeleton.copy(), True
        ops, same = skeleton.copy(), True
        turned, others = self._places
        for angle, spots in turned.items():
            params = (angle(own),)
            for begin, gate, qubits, controls in spots:
                ops[begin] = (gate, qubits, params, controls)
        for begin, item in others:
            filled: list[Op] = []
            item.expand(own, filled)
            for at, op in enumerate(filled, begin):
                model = ops[at]
                same = same and op[0] == model[0] and op[1] == model[1] and op[3] == model[3]
                ops[at] = op
        return ops, same

    def _check_names(self, values: Mapping[str, float]) -> None:
        missing = [name for name in self.parameters if name not in values]
        if missing:
            raise QedgeError(
                "circuit.unbound_parameter",
                f"The program has parameters without a value: {', '.join(missing[:_MAX_SHOWN])}.",
                fix="Give each a number in `parameters`.",
            )
        if len(values) > len(self.parameters):
            unknown = sorted(set(values) - set(self.parameters))
            raise QedgeError(
                "circuit.unknown_parameter",
                f"The program has no parameters {', '.join(name[:40] for name in unknown[:_MAX_SHOWN])}.",
                fix=f"It has {', '.join(self.parameters[:_MAX_SHOWN]) or 'none'}.",
            )
