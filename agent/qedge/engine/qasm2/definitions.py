"""The gates of a program: the library's and those it defines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Final

from qedge.engine.qasm.defined import Callee
from qedge.engine.qasm.lexer import NAMES, Lexer, Token
from qedge.engine.qasm.library import COMPOSITE, KEYWORDS, NATIVE, QASM3_WORDS, Native
from qedge.engine.qasm.literals import read_lines
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.registers import Names
from qedge.engine.qasm2.expander import Call, Definition, flatten, measure_body
from qedge.engine.qasm2.expression import ExpressionParser, Step

_LANGUAGE: Final = "expected a statement of OpenQASM 2"
_MAX_ARGUMENTS: Final = 1024
"""Most parameters of a call, and most formal parameters or qubits of a definition."""


class Gates:
    """Reads definitions and finds gates by name.

    `native` holds those that are one flat operation, `defined` others that plain statements may call.
    """

    def __init__(self, limits: ParseLimits, names: Names) -> None:
        self._limits = limits
        self._names = names
        self._definitions: dict[str, Definition] = {}
        self._composite: dict[str, Definition] = {}
        self.native: dict[str, Native] = dict(NATIVE)
        self.defined: dict[str, Callee] = {}

    def new_name(self, lexer: Lexer) -> Token:
        """Read a name that nothing declared in the program has yet."""
        name = lexer.expect_kind("name", "a name")
        if name.text in KEYWORDS:
            raise lexer.fault(name.at, "circuit.syntax", f"expected a name, found the keyword {name}")
        if name.text in self._names or name.text in self._definitions:
            raise lexer.fault(
                name.at,
                "circuit.duplicate_name",
                f"expected a new name, but {name} is already declared",
                name=name.text,
            )
        return name

    def is_new(self, name: str) -> bool:
        """Say whether a name may be declared."""
        return name not in KEYWORDS and name not in self._names and name not in self._definitions

    def gate(self, lexer: Lexer, _: Token) -> None:
        """Read a gate definition, behind its keyword."""
        name, params, qubits = self._signature(lexer)
        lexer.expect("{")
        body: list[Call] = []
        while not lexer.accept("}"):
            if not self._plain_lines(lexer, name.text, qubits, body):
                body.append(self._body_line(lexer, name.text, params, qubits))
        size, work, depth = measure_body(body)
        limit = self._limits.max_gate_nesting
        if depth > limit:
            raise lexer.fault(
                name.at,
                "circuit.too_many_ops",
                f"expected gates nested at most {limit} deep, found {depth}",
                limit=limit,
            )
        self._define(Definition(name.text, len(params), len(qubits), tuple(body), size, work, depth))

    def opaque(self, lexer: Lexer, _: Token) -> None:
        """Read the declaration of an opaque gate, behind its keyword."""
        name, params, qubits = self._signature(lexer)
        lexer.expect(";")
        self._define(Definition(name.text, len(params), len(qubits), None))

    def arguments(self, lexer: Lexer, formals: Mapping[str, int]) -> tuple[tuple[Step, ...], ...]:
        """Read parameters in parentheses, none where there are no parentheses."""
        if not lexer.accept("(") or lexer.accept(")"):
            return ()
        arguments = self.expressions(lexer, formals)
        lexer.expect(")")
        return arguments

    def expressions(self, lexer: Lexer, formals: Mapping[str, int]) -> tuple[tuple[Step, ...], ...]:
        """Read expressions separated by commas, as postfix forms."""
        depth = self._limits.max_expression_depth
        arguments = [ExpressionParser(lexer, formals, depth).parse()]
        while lexer.accept(","):
            if len(arguments) >= _MAX_ARGUMENTS:
                at = lexer.token.at
                raise lexer.fault(at, "circuit.too_large", f"expected at most {_MAX_ARGUMENTS} parameters")
            arguments.append(ExpressionParser(lexer, formals, depth).parse())
        return tuple(arguments)

    def target(self, lexer: Lexer, token: Token) -> Native | Definition:
        """Find the gate that `token` names; raises where there is none, or none that can run."""
        found = self.native.get(token.text) or self._definitions.get(token.text) or self._composite.get(token.text)
        if found is None and token.text in COMPOSITE:
            found = self._composite[token.text] = _library_gate(token.text)
        if found is None:
            if token.text in QASM3_WORDS:
                raise lexer.fault(
                    token.at,
                    "circuit.unsupported",
                    f"{_LANGUAGE}, found the OpenQASM 3 construct {token}",
                    construct=token.text,
                )
            raise lexer.fault(
                token.at,
                "circuit.undeclared_name",
                f"expected a statement or a gate that is declared before, found {token}",
                name=token.text[:40],
            )
        if isinstance(found, Definition) and found.body is None:
            raise lexer.fault(
                token.at,
                "circuit.unsupported",
                f"gate {token} is opaque: it has no definition to run",
                construct="opaque",
            )
        return found

    def check_arity(self, lexer: Lexer, token: Token, target: Native | Definition, params: int, qubits: int) -> None:
        """Raise where a call has another number of parameters or qubits than its gate."""
        if params != target.num_params or qubits != target.num_qubits:
            raise lexer.fault(
                token.at,
                "circuit.bad_arity",
                f"expected {target.num_params} parameters and {target.num_qubits} qubits for {token}, "
                f"found {params} and {qubits}",
            )

    def _formals(self, lexer: Lexer, what: str) -> dict[str, int]:
        names: dict[str, int] = {}
        while True:
            name = lexer.expect_kind("name", what)
            if name.text in KEYWORDS:
                raise lexer.fault(name.at, "circuit.syntax", f"expected {what}, found the keyword {name}")
            if name.text in names:
                raise lexer.fault(name.at, "circuit.duplicate_name", f"expected a new name, found {name} twice")
            if len(names) >= _MAX_ARGUMENTS:
                raise lexer.fault(name.at, "circuit.too_large", f"expected at most {_MAX_ARGUMENTS} names here")
            names[name.text] = len(names)
            if not lexer.accept(","):
                return names

    def _signature(self, lexer: Lexer) -> tuple[Token, dict[str, int], dict[str, int]]:
        name = self.new_name(lexer)
        params: dict[str, int] = {}
        if lexer.accept("(") and not lexer.accept(")"):
            params = self._formals(lexer, "a parameter name")
            lexer.expect(")")
        return name, params, self._formals(lexer, "a qubit name")

    def _define(self, definition: Definition) -> None:
        self._definitions[definition.name] = definition
        self.native.pop(definition.name, None)
        if definition.body is None:
            self.defined.pop(definition.name, None)
        else:
            self.defined[definition.name] = _callee(definition)

    def _plain_lines(self, lexer: Lexer, defined: str, qubits: dict[str, int], body: list[Call]) -> bool:
        """Read lines that call gates with constants; False, and nothing read, where the next one is none, or faulty."""
        end = 0
        for name, params, positions, line_end in read_lines(lexer.text, lexer.token.at, qubits):
            target = self.native.get(name) or self._definitions.get(name)
            if name == defined or target is None or (isinstance(target, Definition) and target.body is None):
                break
            if target.num_params != len(params) or target.num_qubits != len(positions):
                break
            body.append(Call(target, positions, tuple([(value,) for value in params]) if params else ()))
            end = line_end
        if end:
            lexer.move(end)
        return end > 0

    def _body_line(self, lexer: Lexer, name: str, params: dict[str, int], qubits: dict[str, int]) -> Call:
        token = lexer.expect_kind("name", "a gate or '}'")
        if token.text == name:
            raise lexer.fault(token.at, "circuit.recursive_gate", f"gate {token} is defined by itself", name=name)
        if token.text == "barrier":
            call = Call(None, self._positions(lexer, qubits))
        elif token.text in ("measure", "reset", "if"):
            raise lexer.fault(token.at, "circuit.syntax", f"expected a gate inside a gate definition, found {token}")
        else:
            target = self.target(lexer, token)
            arguments = self.arguments(lexer, params)
            call = Call(target, self._positions(lexer, qubits), arguments)
            self.check_arity(lexer, token, target, len(arguments), len(call.positions))
        if len(set(call.positions)) != len(call.positions):
            raise lexer.fault(token.at, "circuit.duplicate_qubit", f"expected different qubits for {token}")
        lexer.expect(";")
        return call

    def _positions(self, lexer: Lexer, qubits: dict[str, int]) -> tuple[int, ...]:
        listed = lexer.take_list(NAMES, qubits, _MAX_ARGUMENTS)
        if listed:
            return listed
        positions: list[int] = []
        while True:
            name = lexer.expect_kind("name", "a qubit of the definition")
            if name.text not in qubits:
                raise lexer.fault(
                    name.at,
                    "circuit.undeclared_name",
                    f"expected a qubit of the definition ({', '.join(list(qubits)[:8])}), found {name}",
                    name=name.text[:40],
                )
            positions.append(qubits[name.text])
            if not lexer.accept(","):
                return tuple(positions)


def _callee(definition: Definition) -> Callee:
    charge = max(definition.charge, 1)
    return Callee(definition.num_qubits, definition.num_params, charge, partial(flatten, definition))


@lru_cache(maxsize=1)
def library_callees() -> Mapping[str, Callee]:
    """Return the gates that the language itself defines; nothing of a call is kept in them."""
    return {name: _callee(_library_gate(name)) for name in COMPOSITE}


def _library_gate(name: str) -> Definition:
    limits = ParseLimits()
    gates = Gates(limits, Names(limits))
    lexer = Lexer(COMPOSITE[name])
    gates.gate(lexer, lexer.next())
    return gates._definitions[name]
