"""Constant parameters, and the lines of definitions that have no others, read by one regular expression each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Final

_PI_FRACTION: Final = re.compile(r"(-)?(?:([0-9]{1,9})\*)?pi(?:/([1-9][0-9]{0,8}))?")
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,4})?")
# without whole numbers that begin with 0, which OpenQASM 3 reads in its own way
_LITERAL: Final = re.compile(
    r"[ \t]*+(?:(0|-?[1-9][0-9]{0,39}|-?[0-9]{1,40}(?:\.[0-9]{0,40}(?:[eE][+-]?[0-9]{1,4})?|[eE][+-]?[0-9]{1,4}))"
    r"|(-)?(?:([1-9][0-9]{0,8})\*)?pi(?:/([1-9][0-9]{0,8}))?)[ \t]*+"
)
_LINE: Final = re.compile(
    r"[ \t\r\n]*+([A-Za-z_][A-Za-z0-9_]*+)(?:\(([^();\n]{1,64})\))?[ \t]++([A-Za-z0-9_, \t]{1,200});"
)
_NO_PARAMS: Final[tuple[float, ...]] = ()

BodyLine = tuple[str, tuple[float, ...], tuple[int, ...], int]
"""A gate, constants, formal qubits in the body of a definition, and where the next line begins."""


def read_lines(text: str, at: int, places: Mapping[str, int]) -> Iterator[BodyLine]:
    """Read plain lines of a body from `at` on, as long as there are any; `places` has what stands for each qubit."""
    known: dict[str, tuple[int, ...]] = {}
    values: dict[str, tuple[float, ...]] = {}
    next_line = _LINE.match
    while (match := next_line(text, at)) is not None:
        name, given, operands = match.groups()
        own = known.get(operands)
        if own is None:
            own = tuple([places.get(operand.strip(" \t"), -1) for operand in operands.split(",")])
            if min(own) < 0 or len(set(own)) != len(own):
                return
            known[operands] = own
        params = _NO_PARAMS
        if given is not None:
            params = values.get(given, _NO_PARAMS)
            if not params:
                read = [constant(each) for each in given.split(",")]
                params = tuple([value for value in read if value is not None])
                if len(params) != len(read):
                    return
                values[given] = params
        at = match.end()
        yield name, params, own, at


def constant(text: str) -> float | None:
    """Return the value of a number, or of a simple fraction of π; None for anything else."""
    match = _PI_FRACTION.fullmatch(text)
    if match is not None:
        value = float(match[2] or 1) * math.pi / float(match[3] or 1)
        return -value if match[1] else value
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def literals(text: str) -> tuple[float, ...]:
    """Return the values of numbers and simple fractions of π, which any parser takes for the same; empty for others."""
    values = []
    for each in text.split(","):
        match = _LITERAL.fullmatch(each)
        if match is None:
            return _NO_PARAMS
        number, sign, times, parts = match.groups()
        value = float(number) if number else float(times or 1) * math.pi / float(parts or 1)
        values.append(-value if sign else value)
    return tuple(values) if all(map(math.isfinite, values)) else _NO_PARAMS
