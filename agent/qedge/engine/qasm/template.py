"""A parsed program whose parameters may still be open: bound to numbers without being parsed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.qasm.model import Program
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, FlatCircuit, Gate
from qedge_driver_api.circuit import Op

_MAX_SHOWN: Final = 8
_MEASURE: Final = int(Gate.MEASURE)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A statement that depends on parameters: `expand(values, into)` appends exactly `size` operations."""

    size: int
    expand: Callable[[Sequence[float], list[Op]], None]


@dataclass(frozen=True, slots=True)
class Template:
    """A program: operations in order, some of them deferred until `parameters` have values."""

    num_qubits: int
    num_clbits: int
    stream: tuple[Op | Deferred, ...]
    conditions: tuple[Condition, ...]
    registers: tuple[Register, ...]
    parameters: tuple[str, ...] = ()
    measured: bool = True

    def bind(self, values: Mapping[str, float], *, measure_all: bool = False) -> Program:
        """Return the program with values for all parameters.

        `measure_all` gives a program without a measurement one of all qubits at its end, into a register `meas`.
        Raises `circuit.unbound_parameter`, `circuit.unknown_parameter`, `circuit.nonfinite_parameter`,
        `circuit.no_measurement`.
        """
        if not (self.measured or measure_all):
            raise QedgeError(
                "circuit.no_measurement",
                "The program ends without a measurement.",
                fix="Add one, for example `measure q -> c;`, or set measure_all.",
            )
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
        own = [float(values[name]) for name in self.parameters]
        ops: list[Op] = [item for item in self.stream if not isinstance(item, Deferred)]
        if len(ops) < len(self.stream):
            ops.clear()
            for item in self.stream:
                if isinstance(item, Deferred):
                    item.expand(own, ops)
                else:
                    ops.append(item)
        num_clbits, registers = self.num_clbits, self.registers
        if not self.measured:
            ops += [(_MEASURE, (qubit,), (), num_clbits + qubit) for qubit in range(self.num_qubits)]
            registers = (*registers, Register("meas", self.num_qubits, num_clbits))
            num_clbits += self.num_qubits
        return Program(FlatCircuit(self.num_qubits, num_clbits, tuple(ops), self.conditions), registers)
