"""Conditions on measured bits as guards that the flat form knows.

A condition becomes a list of paths that exclude each other; a path is a tuple of guards that all have to hold.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from qedge.engine.qasm3.expression import Apply, Bits, Node, Number
from qedge_driver_api import ConditionKind

MAX_PATHS: Final = 256
_SO_MANY: Final = "a condition of so many cases"


class Guard(NamedTuple):
    """What a flat `Condition` says, without its length."""

    kind: ConditionKind
    bits: tuple[int, ...]
    value: int


Path = tuple[Guard, ...]
_Linear = tuple[frozenset[int], bool]
_LINEAR: Final = frozenset({"!", "^", "!=", "=="})
_FLIPPED: Final = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


class NotSimpleError(ValueError):
    """A condition that cannot be made of guards."""


def reads(node: Node) -> frozenset[int]:
    """Return the classical bits that a condition depends on."""
    if isinstance(node, Bits):
        return frozenset(node.bits)
    if isinstance(node, Apply):
        return frozenset().union(*(reads(each) for each in node.operands))
    return frozenset()


def paths(node: Node, *, want: bool = True) -> list[Path]:
    """Return the paths on which `node` is true (or false, where not `want`ed); raises `NotSimpleError`."""
    return _Search().paths(node, want)


class _Search:
    """The look through one condition. Both outcomes of an operand are asked for, and each is looked for once."""

    def __init__(self) -> None:
        self._paths: dict[tuple[int, bool], list[Path]] = {}
        self._linears: dict[int, _Linear | None] = {}

    def paths(self, node: Node, want: bool) -> list[Path]:
        if isinstance(node, (int, float)):
            return [()] if bool(node) is want else []
        linear = self._linear(node)
        if linear is not None:
            bits, constant = linear
            value = constant ^ want
            if not bits:
                return [] if value else [()]
            kind = ConditionKind.EQUALS if len(bits) == 1 else ConditionKind.PARITY
            return [(Guard(kind, tuple(sorted(bits)), int(value)),)]
        if isinstance(node, Bits):
            return _compare("!=" if want else "==", node.bits, 0)
        if isinstance(node, Apply):
            found = self._paths.get((id(node), want))
            if found is None:
                found = self._paths[id(node), want] = _bounded(self._of_operator(node, want))
            return found
        raise NotSimpleError("a parameter decides nothing before it has a value")

    def _of_operator(self, node: Apply, want: bool) -> list[Path]:
        name, operands = node.name, node.operands
        if name == "!":
            return self.paths(operands[0], not want)
        if name in ("&&", "||") or (name in ("&", "|") and all(_width(each) == 1 for each in operands)):
            left, right = operands
            # a ∧ b, or ¬(¬a ∧ ¬b): on the other outcome, the first operand decides alone or leaves it to the second
            both = name in ("&&", "&")
            if both is want:
                return _product(self.paths(left, want), self.paths(right, want))
            return self.paths(left, want) + _product(self.paths(left, not want), self.paths(right, want))
        if name in _FLIPPED:
            left, right = operands
            if isinstance(right, Bits) and isinstance(left, (int, float)):
                left, right, name = right, left, _MIRRORED[name]
            if isinstance(left, Bits) and isinstance(right, (int, float)):
                return _compare(name if want else _FLIPPED[name], left.bits, right)
        raise NotSimpleError(f"the operator {name} on measured bits")

    def _linear(self, node: Node) -> _Linear | None:
        """Return `(bits, constant)` where the node is the XOR of single bits and a constant."""
        if isinstance(node, (int, float)):
            return (frozenset(), bool(node)) if node in (0, 1) else None
        if isinstance(node, Bits):
            return (frozenset(node.bits), False) if len(node.bits) == 1 else None
        if not isinstance(node, Apply) or node.name not in _LINEAR:
            return None
        if id(node) not in self._linears:
            self._linears[id(node)] = self._linear_of(node)
        return self._linears[id(node)]

    def _linear_of(self, node: Apply) -> _Linear | None:
        parts: list[_Linear] = []
        for each in node.operands:
            part = self._linear(each)
            if part is None:
                return None
            parts.append(part)
        if node.name == "!":
            return parts[0][0], not parts[0][1]
        (left, a), (right, b) = parts
        return left ^ right, a ^ b ^ (node.name == "==")


def _compare(name: str, bits: tuple[int, ...], value: Number) -> list[Path]:
    if isinstance(value, float) and not value.is_integer():
        raise NotSimpleError("a register compared with a fraction")
    number, size = int(value), len(bits)
    if not 0 <= number < 1 << size:
        holds = name == "!=" or (name in ("<", "<=") and number >= 0) or (name in (">", ">=") and number < 0)
        return [()] if holds else []
    found: list[Path] = []
    if name in ("==", "<=", ">="):
        found.append((Guard(ConditionKind.EQUALS, bits, number),))
    for place in range(size - 1, -1, -1):
        is_set = bool(number >> place & 1)
        # the highest bit that differs decides which is larger
        if (is_set and name in ("<", "<=", "!=")) or (not is_set and name in (">", ">=", "!=")):
            above = number >> place ^ 1
            if len(found) >= MAX_PATHS:
                raise NotSimpleError(_SO_MANY)
            found.append((Guard(ConditionKind.EQUALS, bits[place:], above),))
    return found


def _width(node: Node) -> int:
    return len(node.bits) if isinstance(node, Bits) else 1


def _product(left: list[Path], right: list[Path]) -> list[Path]:
    if len(left) * len(right) > MAX_PATHS:
        raise NotSimpleError(_SO_MANY)
    return [a + b for a in left for b in right]


def _bounded(found: list[Path]) -> list[Path]:
    if len(found) > MAX_PATHS:
        raise NotSimpleError(_SO_MANY)
    return found
