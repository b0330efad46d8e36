"""The parser of OpenQASM 3: statements by recursive descent, plain ones by one regular expression each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from qedge.engine.qasm.lexer import END, Lexer3, Token, fault
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.plain import PLAIN_3, PlainRun
from qedge.engine.qasm.registers import Names, Operand
from qedge.engine.qasm.template import Deferred, Template
from qedge.engine.qasm3.calls import FAST
from qedge.engine.qasm3.conditions import Guard, NotSimpleError, Path, paths, reads
from qedge.engine.qasm3.gates import MODIFIERS, Gates, loop
from qedge.engine.qasm3.operations import MEASURE, Item, Operations
from qedge.engine.qasm3.scope import Scope
from qedge.wire.jobs import Register
from qedge_driver_api import Condition, ConditionKind, Gate

_IF: Final = int(Gate.IF)
_PLAIN_IF: Final = re.compile(r"if[ \t]*+\([ \t]*+([A-Za-z_][A-Za-z0-9_]*+\[[0-9]{1,9}\])[ \t]*+\)\s*+\{")
_BLOCK_END: Final = re.compile(r"\s*+\}(?!\s*+(?:else\b|/))")
_MAX_PARAMETERS: Final = 10_000
_INPUT_TYPES: Final = frozenset({"float", "angle", "int", "uint"})


def parse(text: str, limits: ParseLimits) -> Template:
    """Parse OpenQASM 3 text; raises `QedgeError` with a code `circuit.*`, `line` and `column` in its details."""
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
        self._scope = Scope(limits, self._names)
        self._gates = Gates(limits, self._scope, self._spend)
        self._lexer = Lexer3(text, max_number_chars=limits.max_number_chars)
        self._items: list[Item] = []
        self._conditions: list[Condition] = []
        self._operations = Operations(
            limits, self._lexer, self._names, self._scope, self._gates, self._items, self._spend
        )
        self._fast = dict(FAST)
        self._plain = PlainRun(
            text,
            PLAIN_3,
            self._names,
            self._scope.plain_qubit,
            self._fast,
            self._gates.defined,
            self._items.extend,
            self._plain_params,
            limits,
        )
        self._spent = 0
        self._depth = 0
        self._loops = 0
        self._statements: Mapping[str, Callable[[Token], None]] = {
            "include": self._include,
            "qubit": self._qubit,
            "qreg": self._register,
            "creg": self._register,
            "bit": self._bit,
            "output": self._output,
            "input": self._input,
            "const": self._const,
            "let": self._let,
            "gate": self._gate,
            "if": self._if,
            "box": self._box,
            "barrier": self._operations.barrier,
            "reset": self._operations.reset,
            "measure": self._operations.measure,
            "delay": self._operations.delay,
            "nop": self._operations.nop,
        }

    def template(self) -> Template:
        """Read the whole program."""
        self._header()
        while self._lexer.token.kind != END:
            self._statement()
        num_qubits = max(self._names.num_qubits, self._scope.num_physical)
        registers = tuple(Register(*row) for row in self._names.classical())
        return Template(
            num_qubits,
            self._names.num_clbits,
            tuple(self._items),
            tuple(self._conditions),
            registers,
            tuple(self._scope.parameters),
            self._operations.measures or self._plain.measured,
        )

    def _header(self) -> None:
        lexer = self._lexer
        if lexer.token.text != "OPENQASM":
            return
        lexer.next()
        version = lexer.expect_kind("number", "a version number")
        if version.text.partition(".")[0] != "3":
            raise lexer.fault(version.at, "circuit.unsupported", f"expected OpenQASM 3, found {version}")
        lexer.expect(";")

    # statements

    def _statement(self, *, alone: bool = False) -> None:
        """Read one statement; unless it stands `alone`, a run of plain ones at once."""
        lexer = self._lexer
        token = lexer.token
        if token.kind == "name" and not self._loops and token.text not in self._statements:
            room = self._limits.max_operations - self._spent
            at, taken = self._plain.run(token.at, min(room, 1) if alone else room)
            if taken:
                self._spent += taken
                lexer.move(at)
                return
        self._spend(1, token.at)
        if token.kind == "symbol" and token.text in ("#", "@"):
            self._skip_line()
        elif token.kind == "symbol" and token.text == "{":
            self._block()
        elif token.kind != "name":
            raise lexer.unexpected("a statement")
        elif token.text == "for":
            self._for()
        elif token.text in self._statements:
            self._statements[token.text](lexer.next())
        elif token.text in MODIFIERS or not self._operations.assignment():
            self._operations.call()

    def _block(self) -> None:
        lexer = self._lexer
        opened = lexer.expect("{")
        self._depth += 1
        if self._depth > self._limits.max_gate_nesting:
            raise lexer.fault(opened.at, "circuit.too_large", "expected blocks nested less deeply")
        self._scope.enter()
        while not lexer.accept("}"):
            if lexer.token.kind == END:
                raise lexer.unexpected("'}'")
            self._statement()
        if self._scope.leave():
            self._plain.forget_values()
        self._depth -= 1

    def _body(self) -> None:
        if self._lexer.token.text == "{":
            self._block()
        else:
            self._statement(alone=True)

    def _for(self) -> None:
        self._loops += 1
        self._depth += 1
        if self._depth > self._limits.max_gate_nesting:
            raise self._lexer.fault(self._lexer.token.at, "circuit.too_large", "expected loops nested less deeply")
        loop(self._lexer, self._scope, self._spend, self._body, self._items, _size)
        self._depth -= 1
        self._loops -= 1

    def _skip_line(self) -> None:
        end = self._text.find("\n", self._lexer.token.at)
        self._lexer.move(end if end >= 0 else len(self._text))

    def _include(self, _: Token) -> None:
        file = self._lexer.expect_kind("string", 'a file name, as in include "stdgates.inc"')
        if file.text not in ('"stdgates.inc"', '"qelib1.inc"'):
            raise self._lexer.fault(
                file.at,
                "circuit.unsupported",
                f'expected "stdgates.inc" (built in; no file is opened), found {file.text[:60]}',
                construct="include",
            )
        self._lexer.expect(";")

    # declarations

    def _size(self) -> tuple[int, int]:
        lexer = self._lexer
        at = lexer.token.at
        if not lexer.accept("["):
            return 1, at
        size = self._scope.whole(lexer, "the size of the register")
        lexer.expect("]")
        return max(size, 0), at

    def _declare(self, name: Token, size: int, at: int, *, quantum: bool) -> None:
        if self._depth or self._loops:
            raise self._lexer.fault(name.at, "circuit.unsupported", f"{name} is declared inside a block")
        if quantum and self._scope.num_physical:
            raise self._lexer.fault(name.at, "circuit.unsupported", f"{name} stands beside physical qubits")
        self._names.declare(self._lexer, name, size, at, quantum=quantum)

    def _qubit(self, _: Token) -> None:
        size, at = self._size()
        self._declare(self._scope.new_name(self._lexer), size, at, quantum=True)
        self._lexer.expect(";")

    def _register(self, keyword: Token) -> None:
        name = self._scope.new_name(self._lexer)
        size, at = self._size()
        self._declare(name, size, at, quantum=keyword.text == "qreg")
        self._lexer.expect(";")

    def _bit(self, _: Token) -> None:
        lexer = self._lexer
        size, at = self._size()
        name = self._scope.new_name(lexer)
        self._declare(name, size, at, quantum=False)
        if lexer.accept("="):
            if lexer.token.text == "measure":
                last = self._names.num_clbits
                self._operations.measured_into(Operand(name.text, tuple(range(last - size, last)), whole=True))
            else:
                self._zero(name, size)
        lexer.expect(";")

    def _zero(self, name: Token, size: int) -> None:
        """Take the initial value 0, which all bits have anyway."""
        token = self._lexer.token
        if token.kind == "string" and token.text.strip('"') == "0" * size:
            self._lexer.next()
        elif self._scope.constant(self._lexer, "a value") != 0:
            raise self._lexer.fault(token.at, "circuit.unsupported", f"{name} begins with another value than 0")

    def _output(self, _: Token) -> None:
        token = self._lexer.next()
        if token.text != "bit":
            raise self._lexer.fault(token.at, "circuit.unsupported", f"expected bits as output, found {token}")
        self._bit(token)

    def _input(self, _: Token) -> None:
        lexer = self._lexer
        kind = lexer.next()
        if kind.text not in _INPUT_TYPES:
            raise lexer.fault(kind.at, "circuit.unsupported", f"expected a number as input, found {kind}")
        self._size()
        name = self._scope.new_name(lexer)
        parameters = self._scope.parameters
        if self._depth or self._loops or len(parameters) >= _MAX_PARAMETERS:
            raise lexer.fault(name.at, "circuit.too_large", f"expected at most {_MAX_PARAMETERS} inputs, not in blocks")
        parameters[name.text] = len(parameters)
        lexer.expect(";")

    def _const(self, _: Token) -> None:
        lexer = self._lexer
        kind = lexer.expect_kind("name", "a type")
        self._size()
        name = self._scope.new_name(lexer)
        lexer.expect("=")
        value = self._scope.constant(lexer, "a value")
        if kind.text in ("int", "uint") and isinstance(value, float):
            value = int(value)
        self._scope.set_constant(name.text, value)
        self._plain.forget_values()
        lexer.expect(";")

    def _let(self, _: Token) -> None:
        lexer = self._lexer
        name = self._scope.new_name(lexer)
        lexer.expect("=")
        operand = self._scope.qubits(lexer)
        bits = list(operand.bits)
        while lexer.accept("++"):
            bits += self._scope.qubits(lexer).bits
            if len(bits) > self._limits.max_qubits:
                raise lexer.fault(name.at, "circuit.too_large", f"{name} names too many qubits")
        if len(set(bits)) != len(bits):
            raise lexer.fault(name.at, "circuit.duplicate_qubit", f"{name} names a qubit twice")
        lexer.expect(";")
        self._spend(len(bits) // 16, name.at)
        self._scope.set_alias(name.text, tuple(bits))

    def _gate(self, _: Token) -> None:
        name = self._gates.define(self._lexer)
        self._fast.pop(name, None)

    def _box(self, _: Token) -> None:
        if self._lexer.accept("["):
            raise self._lexer.fault(self._lexer.token.at, "circuit.unsupported", "a box with a duration")
        self._block()

    def _plain_if(self, token: Token) -> bool:
        """Read plain statements in a block that one bit decides on; False, and nothing read, for anything else."""
        match = _PLAIN_IF.match(self._text, token.at) if not self._depth and not self._loops else None
        bit = self._names.clbit_by_text[match[1]] if match is not None else -1
        if match is None or bit < 0:
            return False
        start, room = len(self._items), self._limits.max_operations - self._spent
        at, taken = self._plain.run(match.end(), room)
        end = _BLOCK_END.match(self._text, at)
        items = self._items[start:]
        del self._items[start:]
        if end is None or not items:
            return False
        self._spent += taken
        self._guard((Guard(ConditionKind.EQUALS, (bit,), 1),), items, token)
        self._lexer.move(end.end())
        return True

    def _if(self, token: Token) -> None:
        if self._plain_if(token):
            return
        lexer = self._lexer
        lexer.expect("(")
        node = self._scope.expression(lexer, bits=True)
        lexer.expect(")")
        then = self._taken(self._body)
        other: list[Item] = []
        if lexer.token.text == "else":
            lexer.next()
            other = self._taken(self._body)
        try:
            blocks = [(paths(node), then), (paths(node, want=False), other)]
        except NotSimpleError as error:
            raise lexer.fault(token.at, "circuit.unsupported", f"{error} is not run here", construct="if") from error
        blocks = [(ways, items) for ways, items in blocks if ways and items]
        bits = reads(node)
        # a copy that changes what the condition reads has to be the last one that asks
        blocks.sort(key=lambda block: _writes(block[1], bits))
        for number, (ways, items) in enumerate(blocks):
            if _writes(items, bits) and (len(ways) > 1 or number + 1 < len(blocks)):
                raise lexer.fault(
                    token.at,
                    "circuit.unsupported",
                    "a block changes a bit that its condition reads, and the condition is asked again",
                    fix="Measure into another register.",
                    construct="if",
                )
            for way in ways:
                self._guard(way, items, token)

    def _taken(self, read: Callable[[], None]) -> list[Item]:
        """Read something and take what came of it off the program."""
        start = len(self._items)
        self._depth += 1
        if self._depth > self._limits.max_gate_nesting:
            raise self._lexer.fault(self._lexer.token.at, "circuit.too_large", "expected blocks nested less deeply")
        read()
        self._depth -= 1
        items = self._items[start:]
        del self._items[start:]
        return items

    def _guard(self, way: Path, items: list[Item], token: Token) -> None:
        size = _size(items)
        self._spend(size + sum(1 + len(guard.bits) // 16 for guard in way), token.at)
        for number, guard in enumerate(way):
            length = size + len(way) - 1 - number
            self._items.append((_IF, (), (), len(self._conditions)))
            self._conditions.append(Condition(guard.kind, guard.bits, guard.value, length))
        self._items.extend(items)

    def _plain_params(self, at: int) -> tuple[float, ...]:
        lexer = Lexer3(self._text, at, max_number_chars=self._limits.max_number_chars)
        nodes: Sequence[object] = self._gates.expressions(lexer)
        values = tuple(float(node) for node in nodes if isinstance(node, (int, float)))
        return values if lexer.token.text == ")" and len(values) == len(nodes) else ()

    def _spend(self, operations: int, at: int) -> None:
        """Refuse before anything grows beyond the limit."""
        if self._spent + operations > self._limits.max_operations:
            raise fault(
                self._text,
                at,
                "circuit.too_many_ops",
                f"the program expands to more than {self._limits.max_operations} operations here",
                limit=self._limits.max_operations,
            )
        self._spent += max(operations, 0)


def _size(items: Sequence[Item]) -> int:
    return sum(item.size if isinstance(item, Deferred) else 1 for item in items)


def _writes(items: Sequence[Item], bits: frozenset[int]) -> bool:
    return any(not isinstance(item, Deferred) and item[0] == MEASURE and item[3] in bits for item in items)
