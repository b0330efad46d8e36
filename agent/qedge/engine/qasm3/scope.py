"""What names mean in a program: constants, parameters, registers, aliases, and the operands made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from qedge.engine.qasm.lexer import Lexer, Token
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.registers import Names, Operand
from qedge.engine.qasm3.expression import RESERVED, Bits, ExpressionParser, Formal, Node, Number

KEYWORDS: Final = frozenset(
    {"OPENQASM", "include", "gate", "def", "defcal", "defcalgrammar", "cal", "extern", "box", "let", "break"}
    | {"continue", "if", "else", "end", "return", "for", "while", "in", "switch", "case", "default", "pragma"}
    | {"qubit", "bit", "qreg", "creg", "input", "output", "const", "readonly", "mutable", "bool", "int"}
    | {"uint", "float", "angle", "complex", "array", "void", "duration", "stretch", "gphase", "inv", "pow"}
    | {"ctrl", "negctrl", "durationof", "delay", "reset", "measure", "barrier", "true", "false", "nop"}
)
_MAX_SHOWN: Final = 8


class Alias(NamedTuple):
    """A name for some qubits."""

    bits: tuple[int, ...]


class Scope:
    """Names of the program, and of the gate that is being read, if any."""

    def __init__(self, limits: ParseLimits, names: Names) -> None:
        self._limits = limits
        self.names = names
        self._constants: list[dict[str, Number]] = [{}]
        self._aliases: dict[str, Alias] = {}
        self._own_aliases: list[list[str]] = [[]]
        self.parameters: dict[str, int] = {}
        self.gates: set[str] = set()
        self._formals: Mapping[str, int] | None = None
        self._num_physical = 0

    # declarations

    def new_name(self, lexer: Lexer, what: str = "a name") -> Token:
        """Read a name that means nothing yet."""
        name = lexer.expect_kind("name", what)
        if name.text in KEYWORDS or name.text in RESERVED:
            raise lexer.fault(name.at, "circuit.syntax", f"expected {what}, found the keyword {name}")
        taken = name.text in self.names or name.text in self._aliases or name.text in self.parameters
        if taken or name.text in self.gates or name.text in self._constants[-1]:
            raise lexer.fault(
                name.at,
                "circuit.duplicate_name",
                f"expected a new name, but {name} is already declared",
                name=name.text[:40],
            )
        return name

    def set_constant(self, name: str, value: Number) -> None:
        """Give a name a value in the innermost block."""
        self._constants[-1][name] = value

    def set_alias(self, name: str, bits: tuple[int, ...]) -> None:
        """Give qubits a further name."""
        self._aliases[name] = Alias(bits)
        self._own_aliases[-1].append(name)

    def enter(self) -> None:
        """Begin a block."""
        self._constants.append({})
        self._own_aliases.append([])

    def leave(self) -> bool:
        """End a block; its constants and aliases are forgotten. Returns whether there were constants."""
        for alias in self._own_aliases.pop():
            del self._aliases[alias]
        return bool(self._constants.pop())

    def enter_gate(self, formals: Mapping[str, int]) -> None:
        """Begin the definition of a gate: only constants and its own parameters have values there."""
        self._formals = formals
        self.enter()

    def leave_gate(self) -> None:
        """End the definition."""
        self._formals = None
        self.leave()

    @property
    def num_physical(self) -> int:
        """One more than the highest physical qubit that the program names; 0: it names none."""
        return self._num_physical

    # values

    def expression(self, lexer: Lexer, *, bits: bool = False) -> Node:
        """Read an expression; `bits`: it may depend on measured bits."""
        lookup = self._lookup_with_bits if bits else self._lookup
        return ExpressionParser(lexer, lookup, self._limits.max_expression_depth).parse()

    def constant(self, lexer: Lexer, what: str) -> Number:
        """Read an expression whose value is known."""
        at = lexer.token.at
        node = self.expression(lexer)
        if not isinstance(node, (int, float)):
            raise lexer.fault(at, "circuit.unsupported", f"expected {what} that is known before the run")
        return node

    def whole(self, lexer: Lexer, what: str) -> int:
        """Read a constant whole number."""
        at = lexer.token.at
        value = self.constant(lexer, what)
        if isinstance(value, float):
            raise lexer.fault(at, "circuit.bad_number", f"expected {what} as a whole number, found {value:g}")
        return int(value)

    def _lookup(self, lexer: Lexer, token: Token) -> Node | None:
        if self._formals is not None and token.text in self._formals:
            return Formal(self._formals[token.text])
        for constants in reversed(self._constants):
            if token.text in constants:
                return constants[token.text]
        if self._formals is None and token.text in self.parameters:
            return Formal(self.parameters[token.text])
        register = self.names.find(token.text)
        if register is not None:
            kind = "a quantum register" if register.quantum else "measured bits"
            raise lexer.fault(token.at, "circuit.syntax", f"expected a number, but {token} is {kind}")
        return None

    def _lookup_with_bits(self, lexer: Lexer, token: Token) -> Node | None:
        register = self.names.find(token.text)
        if register is None or register.quantum:
            return self._lookup(lexer, token)
        return Bits(self._indexed(lexer, token.text, register.bits).bits)

    # operands

    def qubits(self, lexer: Lexer) -> Operand:
        """Read a qubit, a register, a part of one, an alias or a physical qubit."""
        token = lexer.token
        if token.kind == "physical":
            lexer.next()
            return self._physical(lexer, token)
        name = lexer.expect_kind("name", "a qubit")
        alias = self._aliases.get(name.text)
        register = self.names.find(name.text)
        if alias is None and (register is None or not register.quantum):
            code = "circuit.undeclared_name" if register is None else "circuit.syntax"
            found = "is not declared" if register is None else "is classical"
            raise lexer.fault(name.at, code, f"expected qubits, but {name} {found}", name=name.text[:40])
        bits = alias.bits if alias is not None else register.bits if register is not None else ()
        return self._indexed(lexer, name.text, bits)

    def clbits(self, lexer: Lexer) -> Operand:
        """Read a classical bit, a register or a part of one."""
        name = lexer.expect_kind("name", "a classical bit")
        register = self.names.find(name.text)
        if register is None or register.quantum:
            code = "circuit.undeclared_name" if register is None else "circuit.syntax"
            found = "is not declared" if register is None else "is quantum"
            raise lexer.fault(name.at, code, f"expected a classical bit, but {name} {found}", name=name.text[:40])
        return self._indexed(lexer, name.text, register.bits)

    def gate_qubit(self, lexer: Lexer, formals: Mapping[str, int]) -> int:
        """Read a qubit of the gate that is being defined."""
        name = lexer.expect_kind("name", "a qubit of the definition")
        if name.text not in formals:
            shown = ", ".join(list(formals)[:_MAX_SHOWN])
            raise lexer.fault(
                name.at,
                "circuit.undeclared_name",
                f"expected a qubit of the definition ({shown}), found {name}",
                name=name.text[:40],
            )
        return formals[name.text]

    def plain_qubit(self, text: str) -> int:
        """Return the qubit that `name[3]` or `$3` means, −1 where it takes more to tell."""
        if text[0] != "$":
            return self.names.qubit_by_text[text]
        index = int(text[1:])
        if index >= self._limits.max_qubits or self.names.num_qubits:
            return -1
        self._num_physical = max(self._num_physical, index + 1)
        return index

    def _physical(self, lexer: Lexer, token: Token) -> Operand:
        most = self._limits.max_qubits
        index = int(token.text[1:10])
        if len(token.text) > 10 or index >= most:
            raise lexer.fault(
                token.at, "circuit.too_many_qubits", f"expected a qubit below ${most}, found {token}", limit=most
            )
        if self.names.num_qubits:
            raise lexer.fault(token.at, "circuit.unsupported", f"{token} stands beside declared qubits")
        self._num_physical = max(self._num_physical, index + 1)
        return Operand(token.text, (index,), whole=False)

    def _indexed(self, lexer: Lexer, name: str, bits: tuple[int, ...]) -> Operand:
        if not lexer.accept("["):
            return Operand(name, bits, whole=True)
        at = lexer.token.at
        if lexer.accept("{"):
            chosen = [self._index(lexer, bits)]
            while lexer.accept(","):
                chosen.append(self._index(lexer, bits))
            lexer.expect("}")
            lexer.expect("]")
            return self._part(lexer, at, name, tuple(bits[index] for index in chosen))
        first = 0 if lexer.token.text == ":" else self._index(lexer, bits)
        if not lexer.accept(":"):
            lexer.expect("]")
            return Operand(name, (bits[first],), whole=False)
        step, last = 1, len(bits) - 1
        if lexer.token.text != "]":
            last = self._index(lexer, bits)
            if lexer.accept(":"):
                raise lexer.fault(at, "circuit.unsupported", "a range of qubits with a step")
        lexer.expect("]")
        return self._part(lexer, at, name, bits[first : last + 1 : step])

    @staticmethod
    def _part(lexer: Lexer, at: int, name: str, bits: tuple[int, ...]) -> Operand:
        if not bits or len(set(bits)) != len(bits):
            raise lexer.fault(at, "circuit.index_out_of_range", f"expected different bits of {name}, at least one")
        return Operand(name, bits, whole=True)

    def _index(self, lexer: Lexer, bits: tuple[int, ...]) -> int:
        at = lexer.token.at
        index = self.whole(lexer, "an index")
        if not -len(bits) <= index < len(bits):
            raise lexer.fault(
                at,
                "circuit.index_out_of_range",
                f"expected an index 0 … {len(bits) - 1}, found {str(index)[:20]}",
                size=len(bits),
            )
        return index % len(bits)
