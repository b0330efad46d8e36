"""Parameter expressions: parsed to postfix form, constants folded, evaluated without recursion."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from qedge.engine.qasm.lexer import Lexer

Step = float | int | str
"""A float is a constant, an int the index of a formal parameter, a str an operator or function."""

_BINARY: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": operator.pow,
}
_UNARY: Final[Mapping[str, Callable[[float], float]]] = {
    "neg": operator.neg,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "ln": math.log,
    "sqrt": math.sqrt,
}
_PRECEDENCE: Final[Mapping[str, int]] = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
_UNARY_PRECEDENCE: Final = 3


class NotFiniteError(ArithmeticError):
    """A step of an expression has no finite real value."""


def _apply_unary(name: str, value: float) -> float:
    try:
        result = _UNARY[name](value)
    except (ValueError, OverflowError) as error:
        raise NotFiniteError(f"{name}({value:g}) is not a finite number") from error
    return _finite(result, name)


def _apply_binary(symbol: str, left: float, right: float) -> float:
    try:
        result = _BINARY[symbol](left, right)
    except (ZeroDivisionError, OverflowError) as error:
        raise NotFiniteError(f"{left:g} {symbol} {right:g} is not a finite number") from error
    return _finite(result, f"{left:g} {symbol} {right:g}")


def _finite(value: object, what: str) -> float:
    # a power of a negative base comes back complex
    if not isinstance(value, float) or not math.isfinite(value):
        raise NotFiniteError(f"{what} is not a finite real number")
    return value


def evaluate(steps: Sequence[Step], arguments: Sequence[float]) -> float:
    """Return the value of a postfix expression; raises `NotFiniteError`."""
    if len(steps) == 1:
        # most are one number, or one parameter as it stands
        only = steps[0]
        return only if isinstance(only, float) else arguments[only] if isinstance(only, int) else math.nan
    stack: list[float] = []
    for step in steps:
        if isinstance(step, float):
            stack.append(step)
        elif isinstance(step, int):
            stack.append(arguments[step])
        elif step in _BINARY:
            right = stack.pop()
            stack[-1] = _apply_binary(step, stack[-1], right)
        else:
            stack[-1] = _apply_unary(step, stack[-1])
    return stack[0]


class ExpressionParser:
    """Reads one expression from a lexer. `formals` are the names of the parameters in scope."""

    def __init__(self, lexer: Lexer, formals: Mapping[str, int], max_depth: int) -> None:
        self._lexer = lexer
        self._formals = formals
        self._max_depth = max_depth
        self._steps: list[Step] = []
        self._depth = 0

    def parse(self) -> tuple[Step, ...]:
        """Return the postfix form, folded to one float where no parameter takes part."""
        start = self._lexer.token.at
        try:
            self._binary(0)
        except NotFiniteError as error:
            raise self._lexer.fault(start, "circuit.nonfinite_parameter", str(error)) from error
        return tuple(self._steps)

    def _nested(self, minimum: int) -> None:
        self._depth += 1
        if self._depth > self._max_depth:
            raise self._lexer.fault(
                self._lexer.token.at,
                "circuit.expression_too_deep",
                f"expected an expression nested at most {self._max_depth} deep",
                limit=self._max_depth,
            )
        self._binary(minimum)
        self._depth -= 1

    def _binary(self, minimum: int) -> None:
        self._unary()
        lexer = self._lexer
        while lexer.token.kind == "symbol":
            symbol = lexer.token.text
            precedence = _PRECEDENCE.get(symbol, 0)
            if precedence <= minimum:
                break
            lexer.next()
            if symbol == "^":
                # a power groups to the right: the operand takes further powers with it
                self._nested(precedence - 1)
            else:
                self._binary(precedence)
            self._emit_binary(symbol)

    def _unary(self) -> None:
        lexer = self._lexer
        token = lexer.token
        if token.text == "-" and token.kind == "symbol":
            lexer.next()
            # -a^b is -(a^b)
            self._nested(_UNARY_PRECEDENCE)
            self._emit_unary("neg")
        elif token.text == "+" and token.kind == "symbol":
            lexer.next()
            self._nested(_UNARY_PRECEDENCE)
        elif token.text == "(" and token.kind == "symbol":
            lexer.next()
            self._nested(0)
            lexer.expect(")")
        elif token.kind == "number":
            lexer.next()
            self._steps.append(_finite(float(token.text), token.text[:40]))
        elif token.kind == "name":
            self._name()
        else:
            raise lexer.unexpected("a parameter expression")

    def _name(self) -> None:
        lexer = self._lexer
        token = lexer.next()
        if token.text in self._formals:
            self._steps.append(self._formals[token.text])
        elif token.text == "pi":
            self._steps.append(math.pi)
        elif token.text in _UNARY and token.text != "neg":
            lexer.expect("(")
            self._nested(0)
            lexer.expect(")")
            self._emit_unary(token.text)
        else:
            raise lexer.fault(
                token.at,
                "circuit.undeclared_name",
                f"expected a parameter, a number, pi or one of sin cos tan exp ln sqrt, found {token}",
            )

    def _emit_unary(self, name: str) -> None:
        last = self._steps[-1]
        if isinstance(last, float):
            self._steps[-1] = _apply_unary(name, last)
        else:
            self._steps.append(name)

    def _emit_binary(self, symbol: str) -> None:
        # two trailing constants are the two operands: an operand with a parameter ends in an operator or an index
        steps = self._steps
        left, right = steps[-2], steps[-1]
        if isinstance(left, float) and isinstance(right, float):
            del steps[-1]
            steps[-1] = _apply_binary(symbol, left, right)
        else:
            steps.append(symbol)
