"""Which operations of a flat circuit a device has by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

NAMES: Final[Mapping[int, tuple[str, ...]]] = {
    Gate.ID: ("id",),
    Gate.X: ("x",),
    Gate.Y: ("y",),
    Gate.Z: ("z",),
    Gate.H: ("h",),
    Gate.S: ("s",),
    Gate.SDG: ("sdg",),
    Gate.T: ("t",),
    Gate.TDG: ("tdg",),
    Gate.SX: ("sx",),
    Gate.SXDG: ("sxdg",),
    Gate.RX: ("rx",),
    Gate.RY: ("ry",),
    Gate.RZ: ("rz",),
    Gate.P: ("p", "u1"),
    Gate.U: ("u3", "u"),
    Gate.CX: ("cx",),
    Gate.CY: ("cy",),
    Gate.CZ: ("cz",),
    Gate.CH: ("ch",),
    Gate.CP: ("cp", "cu1"),
    Gate.CRX: ("crx",),
    Gate.CRY: ("cry",),
    Gate.CRZ: ("crz",),
    Gate.CU: ("cu",),
    Gate.SWAP: ("swap",),
    Gate.ISWAP: ("iswap",),
    Gate.RXX: ("rxx",),
    Gate.RYY: ("ryy",),
    Gate.RZZ: ("rzz",),
    Gate.CCX: ("ccx",),
    Gate.CSWAP: ("cswap",),
}
"""Names by which QDMI devices list our gates, and by which programs call them.

Left out is what means different things in different libraries (`cu3`) or is not defined in all (`ccz`).
"""
_ALIASES: Final[Mapping[str, str]] = {"i": "id", "cnot": "cx", "prx": "r", "phase": "p", "toffoli": "ccx"}
_SYMMETRIC: Final = frozenset({Gate.CZ, Gate.CP, Gate.SWAP, Gate.ISWAP, Gate.RXX, Gate.RYY, Gate.RZZ})


@dataclass(frozen=True, slots=True)
class Native:
    """What a device does. `pairs` holds the ordered pairs that it couples, None where all are.

    `many_controls` tells whether the program may put any number of controls on x and p. `pairs_of` narrows the pairs of
    single operations, by name.
    """

    names: frozenset[str]
    pairs: frozenset[tuple[int, int]] | None = None
    pairs_of: Mapping[str, frozenset[tuple[int, int]]] = field(default_factory=dict)
    many_controls: bool = False
    named: Mapping[int, str] = field(default_factory=dict)

    def has(self, op: Op) -> bool:
        """Tell whether the device does an operation on two or more qubits as it stands."""
        gate, qubits, _, arg = op
        if arg:
            return self.many_controls and gate in (Gate.X, Gate.P) and self.pairs is None
        name = self.named.get(gate)
        if name is None:
            return False
        if self.pairs is None:
            return True
        allowed = self.pairs_of.get(name, self.pairs)
        return len(qubits) == 2 and (qubits[0], qubits[1]) in allowed

    def has_turned_round(self, op: Op) -> bool:
        """Tell whether the device does the operation with its two qubits exchanged, which changes nothing."""
        return op[0] in _SYMMETRIC and op[3] == 0 and self.has((op[0], op[1][::-1], op[2], 0))

    def has_either(self, gate: Gate, qubits: tuple[int, ...]) -> bool:
        """Tell whether the device does a gate on this pair, in whichever order."""
        op: Op = (int(gate), qubits, (), 0)
        return self.has(op) or self.has_turned_round(op)

    def coupled(self, qubits: tuple[int, ...]) -> bool:
        """Tell whether the device couples a pair at all."""
        return self.pairs is None or (qubits[0], qubits[1]) in self.pairs or (qubits[1], qubits[0]) in self.pairs


def canonical(name: str) -> str:
    """Return the name by which a gate is called in a program."""
    return _ALIASES.get(name.lower(), name.lower())


def native_of(
    names: Iterable[str],
    pairs: frozenset[tuple[int, int]] | None = None,
    pairs_of: Mapping[str, frozenset[tuple[int, int]]] | None = None,
    *,
    controls: bool = False,
) -> Native:
    """Describe a device by the names of its operations; `controls` tells whether programs can say `ctrl @`."""
    known = frozenset(map(canonical, names))
    named = {gate: name for gate, each in NAMES.items() for name in reversed(each) if name in known}
    many = controls and {"mcx", "mcp"} <= known and pairs is None
    return Native(known, pairs, dict(pairs_of or {}), many, named)
