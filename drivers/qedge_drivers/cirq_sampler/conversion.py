"""The flat circuit form as a cirq circuit, and its results back as counts. Imports cirq."""

from __future__ import annotations

import cmath
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cirq
import numpy as np
import sympy  # type: ignore[import-untyped] # ships no types

from qedge_driver_api import Condition, ConditionKind, FatalError, FlatCircuit, Gate, ProgramError
from qedge_driver_api.circuit import Op

_PLAIN: Final[Mapping[int, Any]] = {
    Gate.ID: cirq.I,
    Gate.X: cirq.X,
    Gate.Y: cirq.Y,
    Gate.Z: cirq.Z,
    Gate.H: cirq.H,
    Gate.S: cirq.S,
    Gate.SDG: cirq.S**-1,
    Gate.T: cirq.T,
    Gate.TDG: cirq.T**-1,
    Gate.SX: cirq.X**0.5,
    Gate.SXDG: cirq.X**-0.5,
    Gate.CX: cirq.CNOT,
    Gate.CY: cirq.ControlledGate(cirq.Y),
    Gate.CZ: cirq.CZ,
    Gate.CH: cirq.ControlledGate(cirq.H),
    Gate.SWAP: cirq.SWAP,
    Gate.ISWAP: cirq.ISWAP,
    Gate.CCX: cirq.CCX,
    Gate.CCZ: cirq.CCZ,
    Gate.CSWAP: cirq.CSWAP,
}
_TURNED: Final[Mapping[int, Any]] = {
    Gate.RX: cirq.rx,
    Gate.RY: cirq.ry,
    Gate.RZ: cirq.rz,
    Gate.P: lambda angle: cirq.ZPowGate(exponent=angle / math.pi),
    Gate.CP: lambda angle: cirq.CZPowGate(exponent=angle / math.pi),
    Gate.CRX: lambda angle: cirq.ControlledGate(cirq.rx(angle)),
    Gate.CRY: lambda angle: cirq.ControlledGate(cirq.ry(angle)),
    Gate.CRZ: lambda angle: cirq.ControlledGate(cirq.rz(angle)),
    Gate.RXX: lambda angle: cirq.XXPowGate(exponent=angle / math.pi, global_shift=-0.5),
    Gate.RYY: lambda angle: cirq.YYPowGate(exponent=angle / math.pi, global_shift=-0.5),
    Gate.RZZ: lambda angle: cirq.ZZPowGate(exponent=angle / math.pi, global_shift=-0.5),
}


@dataclass(slots=True)
class Converted:
    """A cirq circuit; classical bit c is the one bit measured under `keys[c]`, 0 where there is none."""

    circuit: Any
    keys: dict[int, str] = field(default_factory=dict)


def _u(theta: float, phi: float, lam: float, phase: float) -> Any:  # a cirq gate
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    matrix = cmath.exp(1j * phase) * np.array(
        [[c, -cmath.exp(1j * lam) * s], [cmath.exp(1j * phi) * s, cmath.exp(1j * (phi + lam)) * c]]
    )
    return cirq.MatrixGate(matrix)


def _gate(gate: int, params: tuple[float, ...]) -> Any:  # a cirq gate
    plain = _PLAIN.get(gate)
    if plain is not None:
        return plain
    turned = _TURNED.get(gate)
    if turned is not None:
        return turned(params[0])
    if gate == Gate.U:
        theta, phi, lam = params
        return _u(theta, phi, lam, theta / 2)
    if gate == Gate.CU:
        theta, phi, lam, gamma = params
        return cirq.ControlledGate(_u(theta, phi, lam, gamma))
    if gate == Gate.GPHASE:
        return cirq.GlobalPhaseGate(cmath.exp(1j * params[0]))
    raise ProgramError("unsupported", f"the adapter does not know operation {gate}")


class _Converter:
    def __init__(self, circuit: FlatCircuit) -> None:
        self._source = circuit
        self._line = cirq.LineQubit.range(circuit.num_qubits)
        self._out: list[Any] = []
        self._keys: dict[int, str] = {}
        self._uses: Counter[int] = Counter()

    def convert(self) -> Converted:
        index = 0
        ops = self._source.ops
        while index < len(ops):
            if ops[index][0] == Gate.IF:
                condition = self._source.conditions[ops[index][3]]
                self._conditional(ops[index + 1 : index + 1 + condition.length], condition)
                index += condition.length
            else:
                self._unconditional(ops[index])
            index += 1
        return Converted(cirq.Circuit(self._out), self._keys)

    def _unconditional(self, op: Op) -> None:
        gate, qubits, _, clbit = op
        if gate == Gate.MEASURE:
            self._uses[clbit] += 1
            key = f"c{clbit}" if self._uses[clbit] == 1 else f"c{clbit}_{self._uses[clbit]}"
            self._keys[clbit] = key
            self._out.append(cirq.measure(self._line[qubits[0]], key=key))
        elif gate != Gate.BARRIER:
            self._out.append(self._operation(op))

    def _operation(self, op: Op) -> Any:  # a cirq operation
        gate, qubits, params, controls = op
        line = [self._line[qubit] for qubit in qubits]
        if gate == Gate.RESET:
            return cirq.reset(line[0])
        made = _gate(gate, params)
        if controls:
            made = cirq.ControlledGate(made, num_controls=controls)
        return made.on(*line)

    def _conditional(self, ops: tuple[Op, ...], condition: Condition) -> None:
        terms = self._terms(condition)
        if terms is None:
            return
        for op in ops:
            if op[0] in (Gate.MEASURE, Gate.IF):
                what = "a measurement" if op[0] == Gate.MEASURE else "a condition"
                raise ProgramError("unsupported", f"cirq samplers do not run {what} under a condition")
            if op[0] != Gate.BARRIER:
                made = self._operation(op)
                self._out.append(made.with_classical_controls(*terms) if terms else made)

    def _terms(self, condition: Condition) -> list[Any] | None:
        """Return the classical controls of a condition, all of which have to hold; None where it never does."""
        if condition.kind == ConditionKind.PARITY:
            symbols = [sympy.Symbol(self._keys[bit]) for bit in condition.bits if bit in self._keys]
            if not symbols:
                return [] if condition.value == 0 else None
            return [sympy.Eq(sympy.Mod(sum(symbols), 2), condition.value)]
        terms: list[Any] = []
        if condition.value >> len(condition.bits):
            return None
        for order, bit in enumerate(condition.bits):
            wanted = condition.value >> order & 1
            if bit in self._keys:
                terms.append(sympy.Eq(sympy.Symbol(self._keys[bit]), wanted))
            elif wanted:
                return None
        return terms


def to_cirq(circuit: FlatCircuit) -> Converted:
    """Convert a circuit; qubit q is `cirq.LineQubit(q)`. Raises `ProgramError` for what cirq cannot say."""
    return _Converter(circuit).convert()


def read_counts(result: Any, converted: Converted, shots: int) -> dict[int, int]:
    """Check what a sampler returned and count it; raises `FatalError` where it does not fit the circuit."""
    if not converted.keys:
        return {0: shots}
    width = max(converted.keys) + 1
    rows = np.zeros((shots, width), dtype=np.uint8)
    for clbit, key in converted.keys.items():
        rows[:, clbit] = _column(result, key, shots)
    packed = np.packbits(rows, axis=1, bitorder="little")
    counted = Counter(row.tobytes() for row in packed)
    return {int.from_bytes(key, "little"): times for key, times in counted.items()}


def _column(result: Any, key: str, shots: int) -> Any:  # an array of 0 and 1
    measurements = getattr(result, "measurements", None)
    if not isinstance(measurements, Mapping) or key not in measurements:
        raise FatalError(f"the sampler returned no measurement {key!r}")
    column = np.asarray(measurements[key])
    if column.shape != (shots, 1):
        raise FatalError(f"the sampler returned {key!r} in shape {column.shape} instead of ({shots}, 1)")
    if not np.isin(column, (0, 1)).all():
        raise FatalError(f"the sampler returned other values than 0 and 1 for {key!r}")
    return column[:, 0].astype(np.uint8)
