"""The JSON tree of a circuit: what stands where, with faults that say the place. Values are trees of expressions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, cast

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.qasm3.expression import MAX_LEVELS, BadValueError, Formal, Node, TooManyLevelsError, applied, apply

Json = Mapping[str, object]
_BYTE: Final = re.compile(r"\(byte ([0-9]{1,12})\)|position ([0-9]{1,12})")
_SHOWN: Final = 60
_MAX_DEPTH: Final = 64


class Place:
    """Where the reader is; faults name it."""

    def __init__(self) -> None:
        self.moment = -1
        self.operation = -1

    def fault(self, code: str, message: str, *, fix: str = "", **details: str | int) -> QedgeError:
        """Make the error for what stands here."""
        if self.moment < 0:
            return QedgeError(code, f"In the circuit: {message}.", fix=fix, **details)
        where = f"moment {self.moment}, operation {self.operation}"
        message = f"In {where}: {message}."
        return QedgeError(code, message, fix=fix, moment=self.moment, operation=self.operation, **details)


def read_json(text: str) -> Json:
    """Read the text; raises `circuit.syntax` with line and column."""
    try:
        tree = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        match = _BYTE.search(str(error))
        at = len(text.encode(errors="replace")[: int(match[1] or match[2])].decode(errors="replace")) if match else 0
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        what = "nested less deeply" if isinstance(error, RecursionError) else "as JSON"
        message = f"line {line}, column {column}: expected a circuit {what}: {str(error)[:_SHOWN]}"
        raise QedgeError("circuit.syntax", message, line=line, column=column) from error
    if not isinstance(tree, dict):
        raise QedgeError("circuit.syntax", "line 1, column 1: expected a circuit as a JSON object", line=1, column=1)
    return cast("Json", tree)


def kind_of(value: object, place: Place) -> str:
    """Return the `cirq_type` of an object."""
    kind = value.get("cirq_type") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise place.fault("circuit.syntax", f"expected an object with a cirq_type, found {shown(value)}")
    return kind.removeprefix("cirq.")


def members(value: object, place: Place) -> Json:
    """Return an object as a mapping."""
    if not isinstance(value, dict):
        raise place.fault("circuit.syntax", f"expected an object, found {shown(value)}")
    return cast("Json", value)


def items(value: object, place: Place) -> list[object]:
    """Return a list."""
    if not isinstance(value, list):
        raise place.fault("circuit.syntax", f"expected a list, found {shown(value)}")
    return cast("list[object]", value)


def text_of(value: object, place: Place) -> str:
    """Return a name of at most 200 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise place.fault("circuit.syntax", f"expected a name, found {shown(value)}")
    return value


def whole(value: object, place: Place) -> int:
    """Return a whole number."""
    if type(value) is not int:
        raise place.fault("circuit.bad_number", f"expected a whole number, found {shown(value)}")
    return value


def number(value: object, place: Place) -> float:
    """Return a finite number; also of the objects that sympy's numbers become."""
    found = expression(value, place, lambda _: -1)
    if not isinstance(found, (int, float)):
        raise place.fault("circuit.unsupported", "expected a number, found a symbol, which cannot stand here")
    return float(found)


def complex_of(value: object, place: Place) -> complex:
    """Return a complex number, however it is written."""
    if isinstance(value, dict) and kind_of(value, place) == "complex":
        part = members(value, place)
        return complex(number(part.get("real"), place), number(part.get("imag"), place))
    return complex(number(value, place))


def expression(value: object, place: Place, place_of: Callable[[str], int], depth: int = 0) -> Node:
    """Read a number or an expression of sympy; `place_of` gives symbols their number, −1 where none may stand."""
    if depth > _MAX_DEPTH:
        raise place.fault("circuit.expression_too_deep", f"expected an expression nested at most {_MAX_DEPTH} deep")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, place)
    kind = kind_of(value, place)
    part = members(value, place)
    if kind == "sympy.Symbol":
        return Formal(place_of(text_of(part.get("name"), place)))
    if kind == "sympy.pi":
        return math.pi
    if kind == "sympy.E":
        return math.e
    if kind in ("sympy.Integer", "sympy.Float"):
        return _finite(part.get("i" if kind == "sympy.Integer" else "approx"), place)
    try:
        if kind == "sympy.Rational":
            return apply("/", [_finite(part.get("p"), place), float(_finite(part.get("q"), place))])
        name = {"sympy.Add": "+", "sympy.Mul": "*", "sympy.Pow": "**"}.get(kind)
        if name is None:
            raise place.fault(
                "circuit.unsupported", f"expected numbers, symbols, sums, products and powers, found {kind}"
            )
        nodes = [expression(each, place, place_of, depth + 1) for each in items(part.get("args"), place)]
        if not nodes or (name == "**" and len(nodes) != 2):
            raise place.fault("circuit.syntax", f"expected operands of {kind}")
        found = nodes[0]
        for node in nodes[1:]:
            found = applied(name, (found, node))
    except TooManyLevelsError as error:
        raise place.fault("circuit.expression_too_deep", str(error), limit=MAX_LEVELS) from error
    except BadValueError as error:
        raise place.fault("circuit.nonfinite_parameter", str(error)) from error
    return found


def weight(value: object) -> int:
    """Count what stands in a part of the tree, which is what reading it takes."""
    total, parts = 0, [value]
    while parts:
        part = parts.pop()
        if isinstance(part, (dict, list)):
            total += 1 + len(part)
            parts.extend(part.values() if isinstance(part, dict) else part)
    return total


def shown(value: object) -> str:
    """Show a little of a value."""
    try:
        return repr(value if not isinstance(value, (dict, list)) else type(value).__name__)[:_SHOWN]
    except ValueError:
        return "a number of very many digits"


def _finite(value: object, place: Place) -> float:
    try:
        found = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise place.fault("circuit.nonfinite_parameter", f"expected a finite number, found {shown(value)}")
    return found
