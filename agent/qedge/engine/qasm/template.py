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

    One operation with one parameter needs no expansion: `angle` is the number of the value that it is, or computes it
    from the values. Statements with the same expression have the same `angle` (the same object), which is asked once
    then.
    """

    size: int
    expand: Callable[[Sequence[float], list[Op]], None]
    angle: int | Callable[[Sequence[float]], float] | None = None


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
    def _turned(self) -> tuple[list[_Angle], list[int], list[int]]:
        """What to compute, and where operations have an angle as their only parameter: which one, which operation.

        Angles are numbered from the values of the parameters on, behind which those that are computed follow.
        """
        skeleton, places = self._skeleton
        begin_computed = len(self.parameters)
        number: dict[_Angle, int] = {}
        which: list[int] = []
        where: list[int] = []
        for begin, item in places:
            if item.angle is not None and skeleton[begin] is not _NOTHING:
                angle = item.angle
                computed = begin_computed + len(number)
                which.append(angle if isinstance(angle, int) else number.setdefault(angle, computed))
                where.append(begin)
        return list(number), which, where

    @cached_property
    def _others(self) -> list[tuple[int, Deferred]]:
        """What is deferred and not in `_turned`."""
        skeleton, places = self._skeleton
        return [(begin, item) for begin, item in places if item.angle is None or skeleton[begin] is _NOTHING]

    @cached_property
    def _plain(self) -> FlatCircuit:
        """The circuit of the skeleton, as far as the program says."""
        ops = tuple(self._skeleton[0]) if self.parameters else cast("tuple[Op, ...]", self.stream)
        return FlatCircuit(self.num_qubits, self.num_clbits, ops, self.conditions, object())

    @cached_property
    def _measured(self) -> FlatCircuit:
        """The same with a measurement of all qubits at its end."""
        n, begin = self.num_qubits, self.num_clbits
        last = [(_MEASURE, (qubit,), (), begin + qubit) for qubit in range(n)]
        return FlatCircuit(n, begin + n, (*self._plain.ops, *last), self.conditions, object())

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
        model, registers = self._plain, self.registers
        if counted and not self.measured:
            model = self._measured
            registers = (*registers, Register("meas", self.num_qubits, self.num_clbits))
        if self.parameters:
            return Program(self._filled(model, [float(values[name]) for name in self.parameters]), registers)
        return Program(model, registers)

    def _filled(self, model: FlatCircuit, own: Sequence[float]) -> FlatCircuit:
        """Return the model with these values."""
        computed, which, where = self._turned
        found = [*own, *[angle(own) for angle in computed]]
        circuit = model.with_angles(where, list(map(found.__getitem__, which))) if where else model
        if not self._others:
            return circuit
        ops, same = list(circuit.ops), True
        for begin, item in self._others:
            filled: list[Op] = []
            item.expand(own, filled)
            for at, op in enumerate(filled, begin):
                known = ops[at]
                same = same and op[0] == known[0] and op[1] == known[1] and op[3] == known[3]
                ops[at] = op
        shape = model.shape if same else None
        return FlatCircuit(model.num_qubits, model.num_clbits, tuple(ops), model.conditions, shape)

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
