"""The parser: plain statements by one regular expression each, everything else by recursive descent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from qedge.engine.qasm.lexer import BITS, END, Lexer, Token, fault
from qedge.engine.qasm.library import KEYWORDS, Native
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.plain import PLAIN_2, PlainRun
from qedge.engine.qasm.registers import Bit, Names, Operand
from qedge.engine.qasm.template import Template
from qedge.engine.qasm2.definitions import Gates, library_callees
from qedge.engine.qasm2.expression import NotFiniteError
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, ConditionKind, Gate
from qedge_driver_api.circuit import Op

_MEASURE: Final = int(Gate.MEASURE)
_RESET: Final = int(Gate.RESET)
_BARRIER: Final = int(Gate.BARRIER)
_IF: Final = int(Gate.IF)
_START: Final = re.compile(r'\s*+OPENQASM 2\.0;\s*+include "qelib1\.inc";')
_NAME: Final = r"([A-Za-z_][A-Za-z0-9_]*+)"
_SHORT: Final = re.compile(rf"\s*+(?:([qc])reg {_NAME}\[([0-9]{{1,9}})\]|measure {_NAME} ?-> ?{_NAME});", re.ASCII)
"""How most programs write the declaration of a register, and the measurement of one into another."""
_NO_FORMALS: Final[Mapping[str, int]] = {}


def parse(text: str, limits: ParseLimits) -> Template:
    """Parse OpenQASM 2 text; raises `QedgeError` with a code `circuit.*`, `line` and `column` in its details."""
    parser = _Parser(text, limits)
    try:
        return parser.template()
    finally:
        # its parts know each other: without this all of it would lie about until garbage is collected
        vars(parser).clear()


class _Parser:
    def __init__(self, text: str, limits: ParseLimits) -> None:
        self._text = text
        self._limits = limits
        self._names = Names(limits)
        self._gates = Gates(limits, self._names)
        self._gates.defined.update(library_callees())
        self._ops: list[Op] = []
        self._conditions: list[Condition] = []
        self._plain = PlainRun(
            text,
            PLAIN_2,
            self._names,
            self._names.qubit_by_text.__getitem__,
            self._gates.native,
            self._gates.defined,
            self._ops.extend,
            self._plain_params,
            limits,
        )
        self._charged = 0
        self._measures = False
        self._statements: Mapping[str, Callable[[Lexer, Token], None]] = {
            "include": self._include,
            "qreg": self._register,
            "creg": self._register,
            "gate": self._gates.gate,
            "opaque": self._gates.opaque,
            "if": self._if,
            "barrier": self._barrier,
        }

    def template(self) -> Template:
        at = self._start()
        while at < len(self._text):
            match = _SHORT.match(self._text, at)
            if match is not None and self._short(match):
                at = match.end()
            else:
                lexer = self._lexer(at)
                if lexer.token.kind == END:
                    break
                self._statement(lexer)
                at = lexer.token.at
            at = self._plain_run(at)
        return Template(
            self._names.num_qubits,
            self._names.num_clbits,
            tuple(self._ops),
            tuple(self._conditions),
            tuple(Register(*row) for row in self._names.classical()),
            measured=self._measures or self._plain.measured,
        )

    def _lexer(self, at: int) -> Lexer:
        return Lexer(self._text, at, max_number_chars=self._limits.max_number_chars)

    # plain statements

    def _start(self) -> int:
        """Read the header; return where the rest begins."""
        match = _START.match(self._text)
        if match is not None:
            return match.end()
        lexer = self._lexer(0)
        self._header(lexer)
        return self._plain_run(lexer.token.at)

    def _short(self, match: re.Match[str]) -> bool:
        """Do what a statement in its usual form says; False, and nothing done, where the rest of the parser has to."""
        kind, name, size, source, target = match.groups()
        if kind is not None:
            return self._gates.is_new(name) and self._names.declare_plain(name, int(size), quantum=kind == "q")
        one, other = self._names.find(source), self._names.find(target)
        if one is None or other is None or not one.quantum or other.quantum or one.size != other.size:
            return False
        if len(self._ops) + self._charged + one.size > self._limits.max_operations:
            return False
        self._ops.extend([(_MEASURE, (q,), (), c) for q, c in zip(one.bits, other.bits, strict=True)])
        self._measures = True
        return True

    def _plain_run(self, at: int) -> int:
        """Take plain statements from `at` on; return where the first other one begins."""
        before = len(self._ops)
        at, spent = self._plain.run(at, self._limits.max_operations - before - self._charged)
        self._charged += spent - (len(self._ops) - before)
        return at

    def _plain_params(self, at: int) -> tuple[float, ...]:
        lexer = self._lexer(at)
        params = tuple(float(steps[0]) for steps in self._gates.expressions(lexer, _NO_FORMALS))
        return params if lexer.token.text == ")" else ()

    # statements

    def _header(self, lexer: Lexer) -> None:
        token = lexer.token
        if token.text != "OPENQASM":
            raise lexer.unexpected("'OPENQASM 2.0;' at the start")
        lexer.next()
        version = lexer.expect_kind("number", "a version number")
        if version.text not in ("2.0", "2"):
            raise lexer.fault(
                version.at,
                "circuit.unsupported",
                f"expected OpenQASM 2.0, found OPENQASM {version.text[:20]}",
                fix="Write the program in OpenQASM 2.0.",
                construct=f"OPENQASM {version.text[:20]}",
            )
        lexer.expect(";")

    def _statement(self, lexer: Lexer) -> None:
        token = lexer.token
        if token.kind != "name":
            raise lexer.unexpected("a statement")
        handler = self._statements.get(token.text)
        if handler is None:
            self._operation(lexer)
            return
        lexer.next()
        handler(lexer, token)

    def _include(self, lexer: Lexer, _: Token) -> None:
        file = lexer.expect_kind("string", 'a file name, as in include "qelib1.inc"')
        if file.text != '"qelib1.inc"':
            raise lexer.fault(
                file.at,
                "circuit.unsupported",
                f'expected "qelib1.inc" (built in; no file is opened), found {file.text[:60]}',
                construct="include",
            )
        lexer.expect(";")

    def _register(self, lexer: Lexer, keyword: Token) -> None:
        name = self._gates.new_name(lexer)
        lexer.expect("[")
        at = lexer.token.at
        size = lexer.expect_int("the size of the register")
        lexer.expect("]")
        lexer.expect(";")
        self._names.declare(lexer, name, size, at, quantum=keyword.text == "qreg")

    # operations

    def _operation(self, lexer: Lexer) -> None:
        token = lexer.next()
        if token.text == "measure":
            self._measure(lexer, token)
        elif token.text == "reset":
            operand = self._names.qubits(lexer)
            self._spend(len(operand.bits), token.at)
            self._ops.extend((_RESET, (bit,), (), 0) for bit in operand.bits)
        elif token.kind != "name" or token.text in KEYWORDS:
            raise lexer.fault(token.at, "circuit.syntax", f"expected an operation, found {token}")
        else:
            self._call(lexer, token)
        lexer.expect(";")

    def _call(self, lexer: Lexer, token: Token) -> None:
        target = self._gates.target(lexer, token)
        at = lexer.token.at
        arguments = tuple(float(steps[0]) for steps in self._gates.arguments(lexer, _NO_FORMALS))
        operands = self._operands(lexer)
        self._gates.check_arity(lexer, token, target, len(arguments), len(operands))
        columns = self._broadcast(lexer, token, operands)
        if isinstance(target, Native):
            self._spend(len(columns), token.at)
            params = target.fixed + arguments + target.trailing
            self._ops.extend((target.gate, own, params, target.controls) for own in columns)
            return
        self._spend(target.size * len(columns), token.at, max(target.charge, 1) * len(columns))
        try:
            for own in columns:
                target.expand(arguments, own, self._ops)
        except NotFiniteError as error:
            raise lexer.fault(at, "circuit.nonfinite_parameter", f"in gate {token}: {error}") from error

    def _operands(self, lexer: Lexer) -> list[Operand]:
        bits = lexer.take_list(BITS, self._names.qubit_by_text, self._limits.max_qubits)
        if bits:
            return [Operand("", (bit,), whole=False) for bit in bits]
        operands = [self._names.qubits(lexer)]
        while lexer.accept(","):
            if len(operands) >= self._limits.max_qubits:
                raise lexer.fault(lexer.token.at, "circuit.bad_arity", f"expected at most {len(operands)} operands")
            operands.append(self._names.qubits(lexer))
        return operands

    def _broadcast(self, lexer: Lexer, token: Token, operands: list[Operand]) -> list[tuple[int, ...]]:
        sizes = {len(operand.bits) for operand in operands if operand.whole}
        if len(sizes) > 1:
            raise lexer.fault(
                token.at, "circuit.bad_arity", f"expected registers of one size, found sizes {sorted(sizes)[:8]}"
            )
        repeat = sizes.pop() if sizes else 1
        columns = list(zip(*(o.bits if o.whole else o.bits * repeat for o in operands), strict=True))
        for own in columns:
            if len(set(own)) != len(own):
                raise lexer.fault(
                    token.at,
                    "circuit.duplicate_qubit",
                    f"expected different qubits for {token}, found {self._names.qubit_name(own)} twice",
                )
        return columns

    def _measure(self, lexer: Lexer, token: Token) -> None:
        source = self._names.qubits(lexer)
        lexer.expect("->")
        target = self._names.clbits(lexer)
        if source.whole != target.whole or len(source.bits) != len(target.bits):
            raise lexer.fault(
                token.at,
                "circuit.bad_measurement",
                f"expected a qubit into a bit or registers of one size, found {source} and {target}",
            )
        self._spend(len(source.bits), token.at)
        self._ops.extend((_MEASURE, (q,), (), c) for q, c in zip(source.bits, target.bits, strict=True))
        self._measures = True

    def _barrier(self, lexer: Lexer, token: Token) -> None:
        bits: dict[Bit, None] = {}
        for operand in self._operands(lexer):
            bits.update(dict.fromkeys(operand.bits))
        lexer.expect(";")
        self._spend(1, token.at, 1 + len(bits) // 16)
        self._ops.append((_BARRIER, tuple(bits), (), 0))

    def _if(self, lexer: Lexer, token: Token) -> None:
        lexer.expect("(")
        register = self._names.classical_register(lexer)
        lexer.expect("==")
        value = lexer.expect_int("a whole number")
        lexer.expect(")")
        self._spend(1, token.at, 1 + register.size // 16)
        index, start = len(self._conditions), len(self._ops)
        self._ops.append((_IF, (), (), index))
        if lexer.token.kind != "name" or lexer.token.text in ("if", "barrier"):
            raise lexer.unexpected("a gate, measure or reset after if(...)")
        self._operation(lexer)
        length = len(self._ops) - start - 1
        if length == 0 or value >> register.size:
            # an empty body, or a value the register cannot take: nothing ever happens
            del self._ops[start:]
            return
        if length == 1 or self._ops[-1][0] != _MEASURE:
            self._conditions.append(Condition(ConditionKind.EQUALS, register.bits, value, length))
            return
        # measuring a register repeats the statement, and a bit written by one copy is read by the next
        measures = self._ops[start + 1 :]
        del self._ops[start:]
        self._spend(2 * length, token.at)
        for measure in measures:
            self._ops.extend(((_IF, (), (), len(self._conditions)), measure))
            self._conditions.append(Condition(ConditionKind.EQUALS, register.bits, value, 1))

    def _spend(self, operations: int, at: int, charge: int = 0) -> None:
        """Refuse before anything grows beyond the limit; a `charge` above `operations` stays charged."""
        extra = max(charge - operations, 0)
        if len(self._ops) + self._charged + operations + extra > self._limits.max_operations:
            raise fault(
                self._text,
                at,
                "circuit.too_many_ops",
                f"the program expands to more than {self._limits.max_operations} operations here",
                limit=self._limits.max_operations,
            )
        self._charged += extra
