"""Gates that a program defines, made flat once: a plain call of one only puts its qubits and its numbers in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from qedge_driver_api.circuit import Op

MOST_FLAT: Final = 4096
"""A gate that costs more operations is left to the full parser: beside its operations, reading the call is nothing."""

Values = tuple[float, ...]
Read = Callable[[Values], Values]
"""Computes the parameters of an operation from the arguments of a call; raises `ArithmeticError` where it cannot."""


class NotFlatError(Exception):
    """A definition that has no flat form here."""


class Flat:
    """What a gate does to qubits 0, 1, …: operations of which some get their parameters in each call."""

    def __init__(self) -> None:
        self._ops: list[Op] = []
        self._reads: list[tuple[int, Read]] = []
        """What computes parameters, and of which operation; −1 for none, where only the error counts."""
        self._owners: dict[tuple[int, ...], None] = {}

    def add(self, op: Op) -> None:
        """Append an operation as it stands."""
        self._ops.append(op)
        self._owners[op[1]] = None

    def add_open(self, gate: int, own: tuple[int, ...], read: Read, arg: int) -> None:
        """Append an operation whose parameters each call computes."""
        self._reads.append((len(self._ops), read))
        self.add((gate, own, (), arg))

    def check(self, read: Read) -> None:
        """Have something computed that no operation needs: where it has no value, the call is wrong all the same."""
        self._reads.append((-1, read))

    def placed(self, qubits: Sequence[int], values: Values) -> list[Op]:
        """Return the operations of a call; raises `ArithmeticError` where a parameter has no value."""
        placed = {own: tuple([qubits[place] for place in own]) for own in self._owners}
        ops = [(gate, placed[own], params, arg) for gate, own, params, arg in self._ops]
        for place, read in self._reads:
            params = read(values)
            if place >= 0:
                gate, own, _, arg = ops[place]
                ops[place] = (gate, own, params, arg)
        return ops


class Callee:
    """A definition as plain statements call it; a call costs `charge` operations of the program's limit."""

    def __init__(self, num_qubits: int, num_params: int, charge: int, fill: Callable[[Flat], None]) -> None:
        self.charge = charge
        self._num_qubits = num_qubits
        self._num_params = num_params
        self._fill = fill
        self._flat: Flat | None = None
        self._callable = num_qubits > 0 and charge <= MOST_FLAT

    def call(self, qubits: Sequence[int], values: Values) -> list[Op] | None:
        """Return the operations of a call, for which there has to be room; None: the full parser has to read it."""
        if not self._callable or len(qubits) != self._num_qubits or len(values) != self._num_params:
            return None
        try:
            flat = self._flat
            if flat is None:
                flat = Flat()
                self._fill(flat)
                self._flat = flat
            return flat.placed(qubits, values)
        except NotFlatError:
            self._callable = False
        except ArithmeticError:
            pass  # the full parser says what is wrong, and where
        return None
