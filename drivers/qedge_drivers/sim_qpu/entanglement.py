"""How entangled a circuit can make a chain of qubits, and which order of the qubits keeps that small. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_TWO_BITS: Final = frozenset(int(gate) for gate in (Gate.SWAP, Gate.ISWAP, Gate.CSWAP))
"""Gates whose split has a bond of 4; all others of the contract split with a bond of 2, controls included."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`sites[q]` is where qubit q stands; `log_bonds[c]` bounds log2 of the bond between sites c and c+1."""

    sites: tuple[int, ...]
    log_bonds: tuple[int, ...]

    @property
    def log_bond(self) -> int:
        """Bound of log2 of the largest bond."""
        return max(self.log_bonds, default=0)


def split_bits(op: Op) -> int:
    """Return log2 of the bond that an operation on several qubits is split with."""
    return 2 if op[0] in _TWO_BITS else 1


def arrange(num_qubits: int, ops: Sequence[Op]) -> Chain:
    """Choose an order of the qubits: as they are numbered, or along the graph of the gates where that is better."""
    natural = _chain(ops, tuple(range(num_qubits)))
    weights = _neighbours(num_qubits, ops)
    if all(abs(one - other) == 1 for one, row in enumerate(weights) for other in row):
        return natural
    walked = _chain(ops, _cuthill_mckee(weights))
    return min(natural, walked, key=_burden)


def _burden(chain: Chain) -> float:
    return sum(8.0 ** min(bits, 60) for bits in chain.log_bonds)


def _chain(ops: Sequence[Op], sites: tuple[int, ...]) -> Chain:
    n = len(sites)
    steps = [0] * (n + 1)
    for op in ops:
        if len(op[1]) > 1:
            places = [sites[qubit] for qubit in op[1]]
            bits = split_bits(op)
            steps[min(places)] += bits
            steps[max(places)] -= bits
    bonds: list[int] = []
    crossing = 0
    for cut in range(n - 1):
        crossing += steps[cut]
        bonds.append(min(crossing, cut + 1, n - 1 - cut))
    return Chain(sites, tuple(bonds))


def _neighbours(num_qubits: int, ops: Sequence[Op]) -> list[dict[int, int]]:
    rows: list[dict[int, int]] = [{} for _ in range(num_qubits)]
    for _, qubits, _, _ in ops:
        for order, one in enumerate(qubits):
            for other in qubits[order + 1 :]:
                rows[one][other] = rows[one].get(other, 0) + 1
                rows[other][one] = rows[other].get(one, 0) + 1
    return rows


def _cuthill_mckee(rows: Sequence[dict[int, int]]) -> tuple[int, ...]:
    """Return the site of each qubit: breadth first from the ends of the graph (Cuthill and McKee, 1969)."""
    sites = [-1] * len(rows)
    placed = 0
    for start in sorted(range(len(rows)), key=lambda qubit: len(rows[qubit])):
        if sites[start] >= 0:
            continue
        sites[start] = placed
        placed += 1
        front = [start]
        while front:
            further: list[int] = []
            for qubit in front:
                for other in sorted(rows[qubit], key=lambda each: (-rows[qubit][each], len(rows[each]))):
                    if sites[other] < 0:
                        sites[other] = placed
                        placed += 1
                        further.append(other)
            front = further
    return tuple(sites)
