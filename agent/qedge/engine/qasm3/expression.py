"""Expressions of OpenQASM 3 as small trees: constants are folded while reading, the rest is evaluated later.

A node is a number (int, float or bool), a `Formal` (an open parameter by position), `Bits` (classical bits whose values
only a run knows) or an `Apply`. Division of whole numbers that does not come out even gives a float, so that
`pow(1/2) @ x` is the root that the standard library means by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from qedge.base.errors import QedgeError
from qedge.engine.qasm.lexer import Lexer, Token

Number = int | float
MAX_BITS: Final = 128
"""Whole numbers beyond this many bits are refused: powers would grow without bound."""

MAX_LEVELS: Final = 200
"""Operators over one another in an expression that is evaluated later: a sum of many terms has as many levels."""


class Formal(NamedTuple):
    """The value of parameter number `place` of the gate or program."""

    place: int


class Bits(NamedTuple):
    """Classical bits, least significant first."""

    bits: tuple[int, ...]


class Apply(NamedTuple):
    """An operator or function on nodes; made by `applied`, which bounds its `levels`."""

    name: str
    operands: tuple[Node, ...]
    levels: int = 1


Node = Number | Formal | Bits | Apply
Lookup = Callable[[Lexer, Token], "Node | None"]
"""Finds what a name means, and may read an index behind it; None where nothing is called so."""


class BadValueError(ArithmeticError):
    """An expression has no value that a program can use."""


class TooManyLevelsError(BadValueError):
    """An expression with open parameters has more than `MAX_LEVELS`."""


def _whole(value: Number) -> int:
    if isinstance(value, float):
        raise BadValueError(f"{value:g} is no whole number")
    return int(value)


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    return left / right


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base.bit_length() * exponent > MAX_BITS:
            raise BadValueError(f"{base} ** {exponent} is too large")
        return int(base**exponent)
    result: object = float(base) ** float(exponent)
    if not isinstance(result, float):
        raise BadValueError(f"{base:g} ** {exponent:g} is not a real number")
    return result


_BINARY: Final[Mapping[str, tuple[int, Callable[[Number, Number], Number]]]] = {
    "||": (1, lambda a, b: bool(a) or bool(b)),
    "&&": (2, lambda a, b: bool(a) and bool(b)),
    "|": (3, lambda a, b: _whole(a) | _whole(b)),
    "^": (4, lambda a, b: _whole(a) ^ _whole(b)),
    "&": (5, lambda a, b: _whole(a) & _whole(b)),
    "==": (6, lambda a, b: a == b),
    "!=": (6, lambda a, b: a != b),
    "<": (7, lambda a, b: a < b),
    "<=": (7, lambda a, b: a <= b),
    ">": (7, lambda a, b: a > b),
    ">=": (7, lambda a, b: a >= b),
    "<<": (8, lambda a, b: _whole(a) << min(_whole(b), MAX_BITS)),
    ">>": (8, lambda a, b: _whole(a) >> _whole(b)),
    "+": (9, lambda a, b: a + b),
    "-": (9, lambda a, b: a - b),
    "*": (10, lambda a, b: a * b),
    "/": (10, _divide),
    "%": (10, lambda a, b: a % b),
    "**": (12, _power),
}
_UNARY_BINDING: Final = 11
_POWER: Final = 12
_UNARY: Final[Mapping[str, Callable[[Number], Number]]] = {
    "-": lambda a: -a,
    "+": lambda a: a,
    "!": lambda a: not a,
    "~": lambda a: ~_whole(a),
}
_FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., Number]]]] = {
    **{name: (1, getattr(math, name)) for name in ("sin", "cos", "tan", "exp", "log", "sqrt", "floor")},
    "ln": (1, math.log),
    "ceiling": (1, math.ceil),
    "arcsin": (1, math.asin),
    "arccos": (1, math.acos),
    "arctan": (1, math.atan),
    "asin": (1, math.asin),
    "acos": (1, math.acos),
    "atan": (1, math.atan),
    "popcount": (1, lambda a: _whole(a).bit_count()),
    "mod": (2, lambda a, b: a % b),
    "pow": (2, _power),
    "float": (1, float),
    "angle": (1, float),
    "int": (1, int),
    "uint": (1, int),
    "bool": (1, bool),
}
_CONSTANTS: Final[Mapping[str, Number]] = {
    "pi": math.pi,
    "π": math.pi,
    "tau": math.tau,
    "τ": math.tau,
    "euler": math.e,
    "ℇ": math.e,
    "true": True,
    "false": False,
}
RESERVED: Final = frozenset(_FUNCTIONS) | frozenset(_CONSTANTS)
"""Names that a program may not declare."""


def apply(name: str, operands: Sequence[Number]) -> Number:
    """Apply an operator or function to numbers; raises `BadValueError`."""
    try:
        if name in _BINARY and len(operands) == 2:
            value = _BINARY[name][1](*operands)
        elif name in _UNARY and len(operands) == 1:
            value = _UNARY[name](*operands)
        else:
            value = _FUNCTIONS[name][1](*operands)
    except BadValueError:
        raise
    except (ArithmeticError, ValueError) as error:
        shown = ", ".join(f"{operand:g}" for operand in operands)
        raise BadValueError(f"{name} of {shown} has no finite value") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise BadValueError(f"{name} gives no finite value")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise BadValueError(f"{name} gives a number of more than {MAX_BITS} bits")
    return value


def applied(name: str, operands: tuple[Node, ...]) -> Node:
    """Apply an operator or function, at once where all operands are numbers; raises `BadValueError`."""
    numbers = [each for each in operands if isinstance(each, (int, float))]
    if len(numbers) == len(operands):
        return apply(name, numbers)
    levels = 1 + max((each.levels for each in operands if isinstance(each, Apply)), default=0)
    if levels > MAX_LEVELS:
        raise TooManyLevelsError(f"more than {MAX_LEVELS} operators over one another on what is not known yet")
    return Apply(name, operands, levels)


def evaluate(node: Node, arguments: Sequence[Number]) -> Number:
    """Return the value of a node without classical bits; raises `BadValueError`."""
    if isinstance(node, (int, float)):
        return node
    if isinstance(node, Formal):
        return arguments[node.place]
    if isinstance(node, Apply):
        return apply(node.name, [evaluate(each, arguments) for each in node.operands])
    raise BadValueError("a measured bit has no value before the run")


def size_of(node: Node) -> int:
    """Return how many nodes a tree has."""
    return 1 + sum(size_of(each) for each in node.operands) if isinstance(node, Apply) else 1


def is_constant(node: Node) -> bool:
    """Say whether the value is known already."""
    return isinstance(node, (int, float))


class ExpressionParser:
    """Reads one expression; names that are no constants are looked up by `lookup`."""

    def __init__(self, lexer: Lexer, lookup: Lookup, max_depth: int) -> None:
        self._lexer = lexer
        self._lookup = lookup
        self._max_depth = max_depth
        self._depth = 0

    def parse(self) -> Node:
        """Return the tree, folded where no parameter and no bit takes part; raises `circuit.*`."""
        start = self._lexer.token.at
        try:
            return self._binary(0)
        except TooManyLevelsError as error:
            raise self._too_deep(start, MAX_LEVELS) from error
        except BadValueError as error:
            raise self._lexer.fault(start, "circuit.nonfinite_parameter", str(error)) from error

    def _binary(self, minimum: int) -> Node:
        self._depth += 1
        if self._depth > self._max_depth:
            raise self._too_deep(self._lexer.token.at, self._max_depth)
        left = self._unary()
        lexer = self._lexer
        while lexer.token.kind == "symbol":
            symbol = lexer.token.text
            binding = _BINARY.get(symbol, (0,))[0]
            if binding <= minimum:
                break
            lexer.next()
            # a power groups to the right
            right = self._binary(binding - 1 if binding == _POWER else binding)
            left = applied(symbol, (left, right))
        self._depth -= 1
        return left

    def _unary(self) -> Node:
        lexer = self._lexer
        token = lexer.token
        if token.kind == "symbol" and token.text in _UNARY:
            lexer.next()
            return applied(token.text, (self._binary(_UNARY_BINDING),))
        if token.kind == "symbol" and token.text == "(":
            lexer.next()
            inside = self._binary(0)
            lexer.expect(")")
            return inside
        if token.kind == "number":
            lexer.next()
            return self._number(token)
        if token.kind == "name":
            return self._name()
        raise lexer.unexpected("an expression")

    def _number(self, token: Token) -> Number:
        try:
            value: Number = float(token.text) if _is_float(token.text) else int(token.text.replace("_", ""), 0)
        except ValueError:
            raise self._lexer.fault(token.at, "circuit.bad_number", f"expected a number, found {token}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise BadValueError(f"{token.text[:40]} is not a finite number")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            # a large literal is a fine parameter, but no index
            return float(value) if value.bit_length() < 1000 else self._refuse_large(token)
        return value

    def _refuse_large(self, token: Token) -> Number:
        raise self._lexer.fault(token.at, "circuit.bad_number", f"expected a number of a usual size, found {token}")

    def _name(self) -> Node:
        lexer = self._lexer
        token = lexer.next()
        found = self._lookup(lexer, token)
        if found is not None:
            return found
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.text in _FUNCTIONS:
            if lexer.accept("["):  # float[64](x)
                self._binary(0)
                lexer.expect("]")
            lexer.expect("(")
            operands = [self._binary(0)]
            while lexer.accept(","):
                operands.append(self._binary(0))
                if len(operands) > 2:
                    raise lexer.unexpected("')'")
            lexer.expect(")")
            if len(operands) != _FUNCTIONS[token.text][0]:
                raise lexer.fault(
                    token.at, "circuit.bad_arity", f"expected {_FUNCTIONS[token.text][0]} arguments for {token}"
                )
            return applied(token.text, tuple(operands))
        raise lexer.fault(
            token.at,
            "circuit.undeclared_name",
            f"expected a number, a constant, a parameter or a function, found {token}",
            name=token.text[:40],
        )

    def _too_deep(self, at: int, limit: int) -> QedgeError:
        message = f"expected an expression nested at most {limit} deep"
        return self._lexer.fault(at, "circuit.expression_too_deep", message, limit=limit)


def _is_float(text: str) -> bool:
    if text.isdecimal():
        return False
    if text[:2].lower() in ("0x", "0b", "0o"):
        return False
    return "." in text or "e" in text.lower()
