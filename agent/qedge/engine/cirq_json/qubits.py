"""The qubits of a circuit of cirq: told apart by what names them, numbered as cirq sorts them."""

from __future__ import annotations

import re
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.cirq_json.tree import Place, kind_of, members, text_of, whole
from qedge.engine.qasm.model import ParseLimits

_DIGITS: Final = re.compile(r"([0-9]+)")
_COORDINATES: Final = {"LineQubit": ("x",), "GridQubit": ("row", "col")}
_MOST_DIGITS: Final = 18
_Sorting = tuple[str, tuple[int, ...], tuple[tuple[int, int, str], ...]]


class Qubits:
    """Qubits by number in the order of their first appearance; those that no operation is on do not count."""

    def __init__(self, limits: ParseLimits, place: Place) -> None:
        self._limits = limits
        self._place = place
        self._numbers: dict[_Sorting, int] = {}
        self._used: set[int] = set()

    def number(self, value: object) -> int:
        """Return the number of a qubit, which `use` makes count."""
        kind = kind_of(value, self._place)
        part = members(value, self._place)
        sorting: _Sorting
        if kind in _COORDINATES:
            sorting = (kind, tuple([whole(part.get(name), self._place) for name in _COORDINATES[kind]]), ())
        elif kind == "NamedQubit":
            sorting = (kind, (), _natural(text_of(part.get("name"), self._place)))
        else:
            raise self._place.fault(
                "circuit.unsupported", f"expected a LineQubit, GridQubit or NamedQubit, found {kind[:60]}"
            )
        found = self._numbers.setdefault(sorting, len(self._numbers))
        # a sub-circuit names qubits that it does not use itself, at most once each
        if len(self._numbers) > 2 * self._limits.max_qubits:
            raise self._too_many()
        return found

    def use(self, number: int) -> None:
        """Note that an operation acts on a qubit."""
        self._used.add(number)
        if len(self._used) > self._limits.max_qubits:
            raise self._too_many()

    def ranks(self) -> dict[int, int]:
        """Return the final number of each qubit that is used."""
        names = sorted(name for name, number in self._numbers.items() if number in self._used)
        return {self._numbers[name]: rank for rank, name in enumerate(names)}

    def _too_many(self) -> QedgeError:
        limit = self._limits.max_qubits
        message = f"expected at most {limit} qubits, found more"
        return self._place.fault("circuit.too_many_qubits", message, limit=limit)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort names so that q2 comes before q10; the text itself decides between 1 and 01."""
    parts: list[tuple[int, int, str]] = []
    for part in _DIGITS.split(name):
        if part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS:
            parts.append((0, int(part), part))
        else:
            parts.append((1, 0, part))
    return tuple(parts)
