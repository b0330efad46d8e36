"""Measurement keys as registers, and conditions on them as expressions of bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from qedge.engine.cirq_json.tree import Json, Place, items, kind_of, members, text_of, whole
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm3.expression import Apply, Bits, Node
from qedge.wire.jobs import Register

_COMPARED: Final = {
    "sympy.Equality": "==",
    "sympy.Unequality": "!=",
    "sympy.StrictGreaterThan": ">",
    "sympy.StrictLessThan": "<",
    "sympy.GreaterThan": ">=",
    "sympy.LessThan": "<=",
}
MAX_KEY_CHARS: Final = 2000
"""Longest key with the names of the sub-circuits around it, which stands in every result."""


class Keys:
    """The keys measured so far. A key that is measured again gets further registers: `m`, `m#1`, `m#2`, …"""

    def __init__(self, limits: ParseLimits, place: Place) -> None:
        self._limits = limits
        self._place = place
        self._instances: dict[str, list[tuple[int, ...]]] = {}
        self._registers: list[Register] = []
        self.num_clbits = 0

    def measured(self, name: str, size: int) -> tuple[int, ...]:
        """Return the bits of a new measurement, least significant first."""
        limits = self._limits
        if self.num_clbits + size > limits.max_clbits or len(self._registers) >= limits.max_registers:
            raise self._place.fault(
                "circuit.too_large",
                f"expected at most {limits.max_registers} measurements of {limits.max_clbits} bits together",
                limit=limits.max_clbits,
            )
        bits = tuple(range(self.num_clbits, self.num_clbits + size))
        if len(name) > MAX_KEY_CHARS:
            raise self._place.fault(
                "circuit.too_large", f"expected a key of at most {MAX_KEY_CHARS} characters, with those around it"
            )
        known = self._instances.setdefault(name, [])
        if known and len(known[0]) != size:
            raise self._place.fault(
                "circuit.bad_measurement", f"expected {len(known[0])} qubits for the key {name[:40]}, found {size}"
            )
        self._registers.append(Register(f"{name}#{len(known)}" if known else name, size, self.num_clbits))
        known.append(bits)
        self.num_clbits += size
        return bits

    def find(self, name: str, path: tuple[str, ...], index: int) -> Bits:
        """Return the bits that a key means within sub-circuits: those of the innermost that measured it."""
        for depth in range(len(path), -1, -1) if len(name) <= MAX_KEY_CHARS else ():
            known = self._instances.get(":".join((*path[:depth], name)))
            if known is not None and -len(known) <= index < len(known):
                return Bits(known[index])
        raise self._place.fault(
            "circuit.undeclared_name", f"expected a key that was measured before, found {name[:40]}", name=name[:40]
        )

    def registers(self) -> tuple[Register, ...]:
        """Return the registers in order of their measurement."""
        return tuple(self._registers)


def condition(part: Json, keys: Keys, place: Place, path: tuple[str, ...], renamed: Mapping[str, str]) -> Node:
    """Read a condition of a classically controlled operation."""

    def bits_of(value: object, index: object = -1) -> Bits:
        key = members(value, place)
        name = text_of(key.get("name"), place)
        inner = tuple(text_of(each, place) for each in items(key.get("path", []), place))
        return keys.find(":".join((*inner, renamed.get(name, name))), path, whole(index, place))

    kind = kind_of(part, place)
    if kind == "KeyCondition":
        return bits_of(part.get("key"), part.get("index", -1))
    if kind == "BitMaskKeyCondition":
        return _masked(part, bits_of(part.get("key"), part.get("index", -1)), place)
    if kind != "SympyCondition":
        raise place.fault("circuit.unsupported", f"expected a condition on measurement keys, found {kind[:60]}")
    expression = members(part.get("expr"), place)
    name = _COMPARED.get(kind_of(expression, place))
    sides = [members(each, place) for each in items(expression.get("args"), place)] if name else []
    if name is None or len(sides) != 2:
        raise place.fault(
            "circuit.unsupported",
            "a condition that is not one key compared with a whole number",
            fix="Use conditions on several keys, which all have to hold.",
        )
    return Apply(name, (_side(sides[0], bits_of, place), _side(sides[1], bits_of, place)))


def _side(value: Json, bits_of: Callable[[object], Bits], place: Place) -> Node:
    """Read one side of a comparison: a key, which sympy knows as a symbol, or a whole number."""
    kind = kind_of(value, place)
    if kind == "sympy.Symbol":
        return bits_of(value)
    if kind != "sympy.Integer":
        raise place.fault("circuit.unsupported", f"expected a key or a whole number in a condition, found {kind[:60]}")
    return whole(value.get("i"), place)


def _masked(part: Json, bits: Bits, place: Place) -> Node:
    """Read `(key & bitmask) == target`, or `!=`; without a mask all bits count."""
    target = whole(part.get("target_value", 0), place)
    mask = part.get("bitmask")
    chosen = whole(mask, place) if mask is not None else (1 << len(bits.bits)) - 1
    name = "==" if part.get("equal_target", False) is True else "!="
    if target < 0 or chosen < 0 or target & ~chosen or target >> len(bits.bits):
        return name == "!="
    seen = [index for index in range(len(bits.bits)) if chosen >> index & 1]
    if not seen:
        return name == "=="
    value = sum((target >> index & 1) << number for number, index in enumerate(seen))
    return Apply(name, (Bits(tuple(bits.bits[index] for index in seen)), value))
