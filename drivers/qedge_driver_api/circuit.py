"""The flat circuit form: what a QPU driver is given, whatever language the program was written in.

A circuit is a tuple of operations, each a plain tuple `(gate, qubits, params, arg)`:

- `gate`: a `Gate`; `qubits`: indices 0 … num_qubits−1, all different; `params`: finite floats, angles in radians;
- for a unitary gate `arg` is the number k of leading control qubits added to it (0 for the plain gate): the first k
  entries of `qubits` control on 1, the rest are the gate's own qubits;
- `MEASURE`: one qubit, `arg` is the classical bit that takes the outcome (the last write wins);
- `RESET`: one qubit to |0⟩; `BARRIER`: any qubits, no effect;
- `IF`: no qubits, `arg` is an index into `conditions`; it governs the next `Condition.length` operations.

Bit order: in a result, classical bit 0 is the least significant bit of the integer. Unwritten bits are 0.
Gate matrices are those of the OpenQASM 3 standard library (arXiv:2104.14722), first listed qubit most significant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final


class Gate(IntEnum):
    """Operation codes. The numbers are part of the contract and never change."""

    GPHASE = 0
    ID = 1
    X = 2
    Y = 3
    Z = 4
    H = 5
    S = 6
    SDG = 7
    T = 8
    TDG = 9
    SX = 10
    SXDG = 11
    RX = 12
    RY = 13
    RZ = 14
    P = 15
    U = 16
    CX = 20
    CY = 21
    CZ = 22
    CH = 23
    CP = 24
    CRX = 25
    CRY = 26
    CRZ = 27
    CU = 28
    SWAP = 29
    ISWAP = 30
    RXX = 31
    RYY = 32
    RZZ = 33
    CCX = 40
    CCZ = 41
    CSWAP = 42
    MEASURE = 60
    RESET = 61
    BARRIER = 62
    IF = 63


UNITARY_SHAPE: Final[Mapping[Gate, tuple[int, int]]] = {
    Gate.GPHASE: (0, 1),
    **dict.fromkeys(
        (Gate.ID, Gate.X, Gate.Y, Gate.Z, Gate.H, Gate.S, Gate.SDG, Gate.T, Gate.TDG, Gate.SX, Gate.SXDG), (1, 0)
    ),
    **dict.fromkeys((Gate.RX, Gate.RY, Gate.RZ, Gate.P), (1, 1)),
    Gate.U: (1, 3),
    **dict.fromkeys((Gate.CX, Gate.CY, Gate.CZ, Gate.CH, Gate.SWAP, Gate.ISWAP), (2, 0)),
    **dict.fromkeys((Gate.CP, Gate.CRX, Gate.CRY, Gate.CRZ, Gate.RXX, Gate.RYY, Gate.RZZ), (2, 1)),
    Gate.CU: (2, 4),
    **dict.fromkeys((Gate.CCX, Gate.CCZ, Gate.CSWAP), (3, 0)),
}
"""Own qubits and parameters of each unitary gate (without added controls)."""

Op = tuple[int, tuple[int, ...], tuple[float, ...], int]


class ConditionKind(StrEnum):
    """How the bits of a condition are read."""

    EQUALS = "equals"
    """The bits, first listed least significant, equal `value`."""
    PARITY = "parity"
    """The XOR of the bits equals `value` (0 or 1)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The next `length` operations happen only where the bits (`bits`: classical bit indices) fulfil the condition."""

    kind: ConditionKind
    bits: tuple[int, ...]
    value: int
    length: int


@dataclass(frozen=True, slots=True)
class FlatCircuit:
    """A whole program. `num_clbits` classical bits are reported per shot.

    Circuits with the same `shape` (the same object, not None) differ in nothing but parameters, operation by operation,
    so that what a driver worked out for one can be used for another. One that `with_angles` made also says how it came
    about: operation `places[i]` of `model` has `angles[i]` as its only parameter. That tells a driver all that is new
    without a look at `ops`, which are made when they are first asked for.
    """

    num_qubits: int
    num_clbits: int
    ops: tuple[Op, ...]
    conditions: tuple[Condition, ...] = ()
    shape: object | None = field(default=None, compare=False)
    model: FlatCircuit | None = field(default=None, init=False, compare=False, repr=False)
    places: Sequence[int] = field(default=(), init=False, compare=False, repr=False)
    angles: Sequence[float] = field(default=(), init=False, compare=False, repr=False)

    def with_angles(self, places: Sequence[int], angles: Sequence[float]) -> FlatCircuit:
        """Return a circuit of this shape with other parameters for operations that have one each."""
        circuit = FlatCircuit(self.num_qubits, self.num_clbits, (), self.conditions, self.shape)
        put = object.__setattr__
        put(circuit, "model", self)
        put(circuit, "places", places)
        put(circuit, "angles", angles)
        object.__delattr__(circuit, "ops")
        return circuit

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> tuple[Op, ...]:
            # asked for what has no value, which are operations that `with_angles` left for later
            if name != "ops":
                raise AttributeError(name)
            ops = list(self.model.ops)
            for place, angle in zip(self.places, self.angles, strict=True):
                gate, qubits, _, arg = ops[place]
                ops[place] = (gate, qubits, (angle,), arg)
            made = tuple(ops)
            object.__setattr__(self, "ops", made)
            return made


def check_circuit(circuit: FlatCircuit) -> None:
    """Raise `ValueError` with the index of the first operation that breaks the rules of this module."""
    for index, (gate, qubits, params, arg) in enumerate(circuit.ops):
        where = f"operation {index}"
        if any(not 0 <= qubit < circuit.num_qubits for qubit in qubits) or len(set(qubits)) != len(qubits):
            raise ValueError(f"{where}: qubits {qubits} are out of range or repeated")
        if not all(math.isfinite(value) for value in params):
            raise ValueError(f"{where}: a parameter is not finite")
        shape = UNITARY_SHAPE.get(Gate(gate))
        if shape is not None:
            if arg < 0 or len(qubits) != shape[0] + arg or len(params) != shape[1]:
                raise ValueError(f"{where}: {Gate(gate).name} has {len(qubits)} qubits and {len(params)} parameters")
        elif gate == Gate.MEASURE and not (len(qubits) == 1 and 0 <= arg < circuit.num_clbits):
            raise ValueError(f"{where}: a measurement needs one qubit and a classical bit in range")
        elif gate == Gate.RESET and len(qubits) != 1:
            raise ValueError(f"{where}: a reset needs one qubit")
        elif gate == Gate.IF:
            _check_condition(circuit, index, arg)


def _check_condition(circuit: FlatCircuit, index: int, arg: int) -> None:
    if not 0 <= arg < len(circuit.conditions):
        raise ValueError(f"operation {index}: no condition {arg}")
    condition = circuit.conditions[arg]
    if any(not 0 <= bit < circuit.num_clbits for bit in condition.bits):
        raise ValueError(f"operation {index}: a condition reads a classical bit out of range")
    if condition.length < 1 or index + condition.length >= len(circuit.ops):
        raise ValueError(f"operation {index}: a condition governs operations beyond the end")
