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

_BIT: Final = r"([A-Za-z_][A-Za-z0-9_]*+\[[0-9]{1,9}\])"
# name (number or parameters)? bit ( , bit | -> bit )? ;   without nested parentheses, comments or line breaks inside
_GATE: Final = (
    r"([A-Za-z_][A-Za-z0-9_]*+)"
    r"(?:\((?:(-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,4})?)|([^();\n]{1,256}))\))?[ \t]++"
    + _BIT
    + rf"(?:[ \t]*+,[ \t]*+{_BIT}|[ \t]*+->[ \t]*+{_BIT})?+[ \t]*+;"
)
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

    `append` takes the operations. `read_params` is asked about parameters that are more than one number, once for
    every text of them.
    """

    def __init__(
        self,
        text: str,
        pattern: re.Pattern[str],
        names: Names,
        native: Mapping[str, Native],
        append: Callable[[Op], None],
        read_params: ReadParams,
    ) -> None:
        self._text = text
        self._match = pattern.match
        self._names = names
        self._native = native
        self._append = append
        self._read_params = read_params
        self._values: dict[str, tuple[float, ...]] = {}
        self.measured = False

    def run(self, at: int, room: int) -> tuple[int, int]:
        """Take at most `room` statements from `at` on; return where the first other one begins, and how many."""
        text, native, qubits, append = self._text, self._native, self._names.qubit_by_text, self._append
        clbits, values, match_plain = self._names.clbit_by_text, self._values, self._match
        taken = 0
        while taken < room:
            match = match_plain(text, at)
            if match is None:
                break
            name, number, given, first, second, target, *assigned = match.groups()
            if name is None:
                name, target, first = "measure", *assigned
            gate = native.get(name)
            if gate is None or target is not None:
                if name != "measure" or target is None or second or given or number:
                    break
                bit, qubit = clbits[target], qubits[first]
                if bit < 0 or qubit < 0:
                    break
                append((_MEASURE, (qubit,), (), bit))
                self.measured = True
            else:
                code, num_qubits, num_params, controls, fixed, trailing = gate
                qubit = qubits[first]
                other = -1 if second is None else qubits[second]
                own = (qubit,) if second is None else (qubit, other)
                if number is not None:
                    value = float(number)
                    params: tuple[float, ...] = (value,)
                    if value - value != 0.0:  # an infinite literal: the full parser says where
                        break
                elif given is None:
                    params = _NO_PARAMS
                else:
                    params = values.get(given) or self._params(given, match.start(3))
                if qubit < 0 or (second is not None and (other < 0 or other == qubit)):
                    break
                if len(own) != num_qubits or len(params) != num_params:
                    break
                append((code, own, fixed + params + trailing if fixed or trailing else params, controls))
            at = match.end()
            taken += 1
        return at, taken

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
