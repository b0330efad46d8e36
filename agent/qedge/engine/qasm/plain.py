"""The fast path: runs of plain statements, each read by one regular expression."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from qedge.engine.qasm.library import Native
from qedge.engine.qasm.registers import Names
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_BIT: Final = r"([A-Za-z_][A-Za-z0-9_]*+\[[0-9]{1,9}\]|\$[0-9]{1,8})"
# name (number or parameters)? operands ;   without nested parentheses, comments or line breaks inside
_GATE: Final = (
    r"([A-Za-z_][A-Za-z0-9_]*+)"
    r"(?:\((?:(-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,4})?)|([^();\n]{1,256}))\))?[ \t]++"
    r"([A-Za-z_$][^();=\n]{0,200});"
)
_OPERANDS: Final = re.compile(rf"{_BIT}(?:[ \t]*+,[ \t]*+{_BIT}|[ \t]*+->[ \t]*+{_BIT})?+[ \t]*+")
PLAIN_2: Final = re.compile(r"[ \t\r\n]*+" + _GATE)
"""Plain statements of OpenQASM 2."""
PLAIN_3: Final = re.compile(rf"[ \t\r\n]*+(?:{_GATE}|{_BIT}[ \t]*+=[ \t]*+measure[ \t]++{_BIT}[ \t]*+;)")
"""Plain statements of OpenQASM 3, which also assigns measurements."""
_PI_FRACTION: Final = re.compile(r"(-)?(?:([0-9]{1,9})\*)?pi(?:/([1-9][0-9]{0,8}))?")
_NO_PARAMS: Final[tuple[float, ...]] = ()
_MEASURE: Final = int(Gate.MEASURE)

ReadParams = Callable[[int], tuple[float, ...]]
"""Evaluate the constant parameters that begin at an offset; empty where they are no constants."""


class PlainRun:
    """Takes plain statements off a text; anything else, and every fault, is left to the full parser.

    `append` takes the operations. `qubit_of` gives the qubit that `name[3]` or `$3` means, −1 for none. `read_params`
    is asked about parameters that are more than one number, once for every text of them.
    """

    def __init__(
        self,
        text: str,
        pattern: re.Pattern[str],
        names: Names,
        qubit_of: Callable[[str], int],
        native: Mapping[str, Native],
        append: Callable[[Op], None],
        read_params: ReadParams,
    ) -> None:
        self._text = text
        self._pattern = pattern
        self._names = names
        self._qubit_of = qubit_of
        self._native = native
        self._append = append
        self._read_params = read_params
        self._operands: dict[str, tuple[int, ...]] = {}
        self._values: dict[str, tuple[float, ...]] = {}
        self.measured = False

    def run(self, at: int, room: int) -> tuple[int, int]:
        """Take at most `room` statements from `at` on; return where the first other one begins, and how many."""
        native, append = self._native, self._append
        operands, values = self._operands, self._values
        # the scanner behind re.Scanner goes on where it stopped, which no documented way of matching does
        scanner = self._pattern.scanner(self._text, at)  # type: ignore[attr-defined] # missing in the stubs
        next_match: Callable[[], re.Match[str] | None] = scanner.match
        taken = 0
        while taken < room:
            match = next_match()
            if match is None:
                break
            name, number, given, operand, *assigned = match.groups()
            gate = native.get(name)
            if gate is None:
                if not self._measure(name, number or given, operand, assigned):
                    break
            else:
                own = operands.get(operand) or self._own(operand)
                code, num_qubits, num_params, controls, fixed, trailing = gate
                if number is not None:
                    value = float(number)
                    params: tuple[float, ...] = (value,)
                    if value - value != 0.0:  # an infinite literal: the full parser says where
                        break
                elif given is None:
                    params = _NO_PARAMS
                else:
                    params = values.get(given) or self._params(given, match.start(3))
                if len(own) != num_qubits or len(params) != num_params:
                    break
                append((code, own, fixed + params + trailing if fixed or trailing else params, controls))
            at = match.end()
            taken += 1
        return at, taken

    def forget_values(self) -> None:
        """Evaluate parameters anew: a name may have another value now."""
        self._values.clear()

    def _own(self, operand: str) -> tuple[int, ...]:
        """Read one or two different qubits and remember them by their text; empty where they are anything else."""
        match = _OPERANDS.fullmatch(operand)
        if match is None or match[3] is not None:
            return ()
        own = tuple([self._qubit_of(text) for text in match.groups()[:2] if text is not None])
        if min(own) < 0 or len(set(own)) != len(own):
            return ()
        self._operands[operand] = own
        return own

    def _measure(self, name: str | None, given: str | None, operand: str, assigned: list[str]) -> bool:
        """Take the measurement of one bit, in either way of writing it; returns whether it was one."""
        if name is None:
            target, source = assigned
        else:
            match = None if name != "measure" or given else _OPERANDS.fullmatch(operand)
            if match is None or match[3] is None:
                return False
            source, target = match[1], match[3]
        bit, qubit = self._names.clbit_by_text[target], self._qubit_of(source)
        if bit < 0 or qubit < 0:
            return False
        self._append((_MEASURE, (qubit,), (), bit))
        self.measured = True
        return True

    def _params(self, given: str, at: int) -> tuple[float, ...]:
        """Evaluate constant parameters and remember them by their text; empty where they are not plain after all."""
        if "//" in given or "/*" in given:
            return ()
        match = _PI_FRACTION.fullmatch(given)
        if match is not None:
            value = float(match[2] or 1) * math.pi / float(match[3] or 1)
            params: tuple[float, ...] = (-value if match[1] else value,)
        else:
            params = self._read_params(at)
        if params:
            self._values[given] = params
        return params
