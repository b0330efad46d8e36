"""The fast path: runs of plain statements, each read by one regular expression, and long runs by a JSON decoder.

A long run of plain statements is a table of words and numbers. Written with other separators it is an array in JSON,
which msgspec splits and whose numbers it reads ten times as fast as Python: `rz(0.5) q[0];` is `["rz",[0.5]," q[0]"]`.
Text that could mean something else there (with quotes or comments in it) is not taken this way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine.qasm.defined import Callee
from qedge.engine.qasm.library import Native
from qedge.engine.qasm.literals import constant, literals
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.registers import MOST_KNOWN, Names
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_BIT: Final = r"([A-Za-z_][A-Za-z0-9_]*+\[[0-9]{1,9}\]|\$[0-9]{1,8})"
# name (number or parameters)? operands ;   without nested parentheses, comments or line breaks inside
_GATE: Final = (
    r"([A-Za-z_][A-Za-z0-9_]*+)"
    r"(?:\((?:(-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,4})?)|([^();\n]{1,256}))\))?[ \t]++"
    r"([A-Za-z_$][^();=\n]{0,200});"
)
_OPERANDS: Final = re.compile(rf"{_BIT}(?:[ \t]*+,[ \t]*+{_BIT})*+[ \t]*+")
_MEASURED: Final = re.compile(rf"{_BIT}[ \t]*+->[ \t]*+{_BIT}[ \t]*+")
PLAIN_2: Final = re.compile(r"[ \t\r\n]*+" + _GATE)
"""Plain statements of OpenQASM 2."""
PLAIN_3: Final = re.compile(rf"[ \t\r\n]*+(?:{_GATE}|{_BIT}[ \t]*+=[ \t]*+measure[ \t]++{_BIT}[ \t]*+;)")
"""Plain statements of OpenQASM 3, which also assigns measurements."""
_EXPRESSION: Final = re.compile(r"\(([^();]*(?:pi|[*/])[^();]*)\)")
_PADDED: Final = re.compile(r"\[0[0-9]")
"""An index that begins with 0, which OpenQASM 3 reads in its own way."""
_NO_PARAMS: Final[tuple[float, ...]] = ()
_MEASURE: Final = int(Gate.MEASURE)
_BARRIER: Final = int(Gate.BARRIER)
_WIDE: Final = 16
"""A barrier on so many qubits counts as more than one operation, which the full parser sees to."""

_FEW: Final = 6
"""So many statements are read one by one before the rest of a run is taken to be long."""
_LEAST_CHARS: Final = 512
_MOST_CHARS: Final = 1 << 16
_LONGEST_CHARS: Final = 120
"""A statement beyond this is left to the other ways, which bound numbers and names one by one."""


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A statement between semicolons: what stands before, in and behind parentheses; all of it in `head` without."""

    head: str
    params: tuple[float, ...] = ()
    tail: str = ""


_DECODE: Final = msgspec.json.Decoder(list[_Row]).decode

ReadParams = Callable[[int], tuple[float, ...]]
"""Evaluate the constant parameters that begin at an offset; empty where they are no constants."""


_Turned = tuple[int, tuple[int, ...], int, int, tuple[float, ...], tuple[float, ...]]
"""Gate, its qubits in this place, and `controls`, `num_params`, `fixed` and `trailing` of `Native`."""


class _NotPlainError(Exception):
    """A statement that the full parser has to read."""


class PlainRun:
    """Takes plain statements off a text; anything else, and every fault, is left to the full parser.

    `extend` takes the operations. `qubit_of` gives the qubit that `name[3]` or `$3` means, −1 for none. `read_params`
    is asked about parameters that are more than numbers, once for every text of them. `native` and `defined` are what
    names of gates mean at the time.
    """

    def __init__(
        self,
        text: str,
        pattern: re.Pattern[str],
        names: Names,
        qubit_of: Callable[[str], int],
        native: Mapping[str, Native],
        defined: Mapping[str, Callee],
        extend: Callable[[Iterable[Op]], None],
        read_params: ReadParams,
        limits: ParseLimits,
    ) -> None:
        self._text = text
        self._pattern = pattern
        self._names = names
        self._qubit_of = qubit_of
        self._native = native
        self._defined = defined
        self._extend = extend
        self._read_params = read_params
        self._operands: dict[str, tuple[int, ...]] = {}
        self._known: dict[str, tuple[int, ...]] = {}
        self._values: dict[str, tuple[float, ...]] = {}
        self._exact: dict[str, tuple[float, ...]] = {}
        self._turned: dict[tuple[str, str], _Turned] = {}
        self._whole: dict[str, Op] = {}
        self._num_native = len(native)
        self._chunk = 1 << 13
        self._at_once = limits.max_number_chars >= _LONGEST_CHARS and limits.max_expression_depth > 1
        self._at_once = self._at_once and limits.max_gate_nesting > 1
        """No literal and no block of plain statements reaches a limit that only the full parser knows."""
        self._charged = 0
        """What calls of defined gates cost beyond the operations that came of them."""
        self.measured = False

    def run(self, at: int, room: int) -> tuple[int, int]:
        """Take statements that cost at most `room` from `at` on; return where the first other one begins, and the cost.

        Each costs an operation, the call of a defined gate what the gate says.
        """
        ops: list[Op] = []
        self._known = self._names.known_operands()
        self._charged = 0
        if len(self._native) != self._num_native:
            # a gate of the library was given another meaning
            self._turned.clear()
            self._whole.clear()
            self._num_native = len(self._native)
        few = _FEW
        at, more = self._one_by_one(at, room, few, ops)
        while more:
            before = len(ops)
            at = self._by_chunks(at, room - self._charged, ops)
            # where chunks end soon again and again, they are tried less and less
            few = _FEW if len(ops) - before >= few else 2 * few
            at, more = self._one_by_one(at, room, few, ops)
        self._extend(ops)
        return at, len(ops) + self._charged

    def forget_values(self) -> None:
        """Evaluate parameters anew: a name may have another value now."""
        self._values.clear()
        self._exact.clear()

    # Statement by statement

    def _one_by_one(self, at: int, room: int, few: int, ops: list[Op]) -> tuple[int, bool]:
        """Take statements until there were a few in a row that call no defined gate; say whether it ended with that."""
        # the scanner behind re.Scanner goes on where it stopped, which no documented way of matching does
        scanner = self._pattern.scanner(self._text, at)  # type: ignore[attr-defined] # missing in the stubs
        next_match: Callable[[], re.Match[str] | None] = scanner.match
        end = min(room - self._charged, len(ops) + few)
        while len(ops) < end:
            match = next_match()
            if match is None:
                return at, False
            op = self._read(match)
            if op is not None:
                ops.append(op)
            else:
                called = self._call(match, room - self._charged - len(ops))
                if called is None:
                    return at, False
                ops += called
                end = min(room - self._charged, len(ops) + few)
            at = match.end()
        return at, len(ops) < room - self._charged

    def _call(self, match: re.Match[str], room: int) -> list[Op] | None:
        """Return what the call of a defined gate does, if it costs at most `room`; None: the full parser reads it."""
        name, number, given, operand = match.groups()[:4]
        callee = self._defined.get(name) if self._at_once else None
        if callee is None or callee.charge > room or ("[0" in operand and _PADDED.search(operand) is not None):
            return None
        own = self._operands.get(operand) or self._own(operand)
        params = _NO_PARAMS
        if number is not None or given is not None:
            text, at = (number, match.start(2)) if given is None else (given, match.start(3))
            params = self._exact.get(text) or self._arguments(text, at)
            if not params:
                return None
        ops = callee.call(own, params)
        if ops is not None:
            self._charged += callee.charge - len(ops)
        return ops

    def _read(self, match: re.Match[str]) -> Op | None:
        """Return what a plain statement does; None for one that the full parser has to read."""
        groups = match.groups()
        name, number, given, operand = groups[:4]
        gate = self._native.get(name)
        if gate is None:
            if name == "barrier" and number is None and given is None:
                own = self._operands.get(operand) or self._own(operand)
                return (_BARRIER, own, (), 0) if 0 < len(own) < _WIDE else None
            return self._measure(name, number or given, operand, groups[4:])
        own = self._operands.get(operand) or self._own(operand)
        if number is not None:
            value = float(number)
            params: tuple[float, ...] = (value,)
            if value - value != 0.0:  # an infinite literal: the full parser says where
                return None
        elif given is None:
            params = _NO_PARAMS
        else:
            params = self._values.get(given) or self._params(given, match.start(3))
        if len(own) != gate.num_qubits or len(params) != gate.num_params:
            return None
        return gate.gate, own, gate.fixed + params + gate.trailing, gate.controls

    def _own(self, operand: str) -> tuple[int, ...]:
        """Read different qubits and remember them by their text; empty where they are anything else."""
        own = self._known.get(operand, ())
        if own:
            self._operands[operand] = own
            return own
        texts = [text.strip(" \t") for text in operand.split(",")]
        # most are known by exactly this text already
        own = tuple([self._names.qubit_by_text.get(text, -1) for text in texts])
        of_registers = min(own) >= 0
        if not of_registers:
            if _OPERANDS.fullmatch(operand) is None:
                return ()
            own = tuple([self._qubit_of(text) for text in texts])
        if min(own) < 0 or len(set(own)) != len(own):
            return ()
        self._operands[operand] = own
        if of_registers and len(self._known) < MOST_KNOWN:
            self._known[operand] = own
        return own

    def _measure(self, name: str | None, given: str | None, operand: str, assigned: tuple[str, ...]) -> Op | None:
        """Return the measurement of one bit, in either way of writing it; None where it is none."""
        if name is None:
            target, source = assigned
        else:
            match = None if name != "measure" or given else _MEASURED.fullmatch(operand)
            if match is None:
                return None
            source, target = match.groups()
        bit, qubit = self._names.clbit_by_text[target], self._qubit_of(source)
        if bit < 0 or qubit < 0:
            return None
        self.measured = True
        return _MEASURE, (qubit,), (), bit

    def _params(self, given: str, at: int) -> tuple[float, ...]:
        """Evaluate constant parameters and remember them by their text; empty where they are not plain after all."""
        if "//" in given or "/*" in given:
            return ()
        value = constant(given)
        params = self._evaluate(given, at) if value is None else (value,)
        if params:
            self._values[given] = params
        return params

    def _arguments(self, given: str, at: int) -> tuple[float, ...]:
        """Do the same for a defined gate, exactly as the full parser does: numbers like 01 and −0*pi are left to it."""
        if "//" in given or "/*" in given:
            return ()
        params = self._evaluate(given, at)
        if params:
            self._exact[given] = params
        return params

    def _evaluate(self, given: str, at: int) -> tuple[float, ...]:
        return (literals(given) if self._at_once else _NO_PARAMS) or self._read_params(at)

    # Many at once

    def _by_chunks(self, at: int, room: int, ops: list[Op]) -> int:
        """Take statements in chunks, as long as all of a chunk is plain; return where the first other one begins."""
        while True:
            end = self._text.rfind(";", at, at + self._chunk) + 1
            statements = self._text[at : end - 1].split(";") if end > at else []
            if statements and max(map(len, statements)) > _LONGEST_CHARS:
                place = next(place for place, each in enumerate(statements) if len(each) > _LONGEST_CHARS)
                del statements[place:]
                end = at + sum(map(len, statements)) + place
            fits = 0 < len(statements) <= room - len(ops)
            rows = self._rows(self._text[at : end - 1], at) if fits else None
            before = len(ops)
            if rows:
                self._take(rows, ops)
            taken = len(ops) - before
            if not rows or taken < len(rows):
                # texts in which this happens again and again are not cut into pieces that are mostly read in vain
                self._chunk = max(_LEAST_CHARS, self._chunk // 4)
                return at + sum(map(len, statements[:taken])) + taken
            at = end
            self._chunk = min(2 * self._chunk, _MOST_CHARS)

    def _rows(self, text: str, at: int) -> list[_Row] | None:
        """Split statements that begin at `at`; None where that is not safe, or where one of them is not plain."""
        if '"' in text or "\\" in text or ("/" in text and ("//" in text or "/*" in text)):
            return None
        if "pi" in text or "*" in text:
            text = _EXPRESSION.sub(lambda match: self._evaluated(match, at), text)
        for end_of_line in "\n\r\t":
            text = text.replace(end_of_line, " ")
        text = text.replace(";", '"],["').replace("(", '",[').replace(")", '],"')
        try:
            return _DECODE(f'[["{text}"]]')
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None

    def _evaluated(self, match: re.Match[str], at: int) -> str:
        given = match[1]
        try:
            params = self._values.get(given) or self._params(given, at + match.start(1))
        except QedgeError:
            params = ()  # the full parser says what is wrong, once it comes here
        return f"({','.join(map(repr, params))})" if params else match[0]

    def _take(self, rows: list[_Row], ops: list[Op]) -> None:
        """Append what the rows do, as far as they are plain.

        Every word is looked up as it stands, so one that parentheses or semicolons in odd places made is not found.
        """
        turned, whole, append = self._turned, self._whole, ops.append
        try:
            for row in rows:
                params = row.params
                if params:
                    try:
                        gate, own, controls, num_params, fixed, trailing = turned[row.head, row.tail]
                    except KeyError:
                        gate, own, controls, num_params, fixed, trailing = self._turn(row)
                    if len(params) != num_params:
                        return
                    append((gate, own, fixed + params + trailing if fixed or trailing else params, controls))
                elif row.tail:
                    return
                else:
                    append(whole.get(row.head) or self._read_whole(row.head))
        except _NotPlainError:
            return

    def _turn(self, row: _Row) -> _Turned:
        """Find a gate with parameters, and its qubits; remember them by their text."""
        found, operand = self._native.get(row.head.strip(" ")), row.tail.strip(" ")
        own = self._operands.get(operand) or self._own(operand)
        if found is None or len(own) != found.num_qubits:
            raise _NotPlainError
        gate, _, num_params, controls, fixed, trailing = found
        turned = self._turned[row.head, row.tail] = (gate, own, controls, num_params, fixed, trailing)
        return turned

    def _read_whole(self, text: str) -> Op:
        """Read a statement without parameters; remember it by its text."""
        name, _, operand = text.strip(" ").partition(" ")
        gate = self._native.get(name)
        if gate is not None:
            own = self._operands.get(operand) or self._own(operand)
            if len(own) != gate.num_qubits or gate.num_params:
                raise _NotPlainError
            op: Op | None = (gate.gate, own, gate.fixed + gate.trailing, gate.controls)
        else:
            match = self._pattern.fullmatch(f"{text};")
            op = self._read(match) if match is not None else None
        if op is None:
            raise _NotPlainError
        self._whole[text] = op
        return op
