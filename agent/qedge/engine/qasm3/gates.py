"""Reads gate definitions, and the calls in them and outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from qedge.engine.qasm.defined import Callee
from qedge.engine.qasm.lexer import NAMES, Lexer3, Token
from qedge.engine.qasm.library import COMPOSITE
from qedge.engine.qasm.literals import read_lines
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm3.calls import KNOWN, Call, Modifier, Target, callee, define
from qedge.engine.qasm3.expression import RESERVED, Node
from qedge.engine.qasm3.scope import KEYWORDS, Scope

T = TypeVar("T")
MODIFIERS: Final = frozenset({"inv", "pow", "ctrl", "negctrl"})
_REFUSED: Final = frozenset(
    {"def", "defcal", "defcalgrammar", "cal", "extern", "while", "switch", "return", "break", "continue", "stretch"}
    | {"duration", "array", "complex", "int", "uint", "angle", "float", "bool", "readonly", "mutable", "end"}
)
_MAX_ARGUMENTS: Final = 1024
_MAX_CONTROLS: Final = 256
_READ_FOR_AN_OPERATION: Final = 32
"""So many characters of a loop's body count at least as one operation each time that they are read again."""


class Gates:
    """The gates of a program: the library's and those it defines; plain statements may call those in `defined`."""

    def __init__(self, limits: ParseLimits, scope: Scope, charge: Callable[[int, int], None]) -> None:
        self._limits = limits
        self._scope = scope
        self._charge = charge
        self._known: dict[str, Target] = dict(KNOWN)
        self.defined: dict[str, Callee] = {}
        self._defining = ""

    def define(self, lexer: Lexer3) -> str:
        """Read a definition, behind its keyword, and return the name of the gate."""
        name = self._scope.new_name(lexer, "a name for the gate")
        params: dict[str, int] = {}
        if lexer.accept("(") and not lexer.accept(")"):
            params = self._formals(lexer, "a parameter name")
            lexer.expect(")")
        qubits = self._formals(lexer, "a qubit name") if lexer.token.text != "{" else {}
        self._defining = name.text
        self._scope.enter_gate(params)
        body: list[Call] = []
        lexer.expect("{")
        self._block(lexer, qubits, body)
        self._scope.leave_gate()
        self._defining = ""
        made = define(name.text, len(params), len(qubits), body)
        limit = self._limits.max_gate_nesting
        if made.depth > limit:
            raise lexer.fault(
                name.at, "circuit.too_many_ops", f"expected gates nested at most {limit} deep", limit=limit
            )
        self._known[name.text] = made
        self.defined[name.text] = callee(made)
        self._scope.gates.add(name.text)
        return name.text

    def modifiers(self, lexer: Lexer3) -> tuple[Modifier, ...]:
        """Read the modifiers before a gate."""
        found: list[Modifier] = []
        while lexer.token.text in MODIFIERS:
            token = lexer.next()
            value: int | float = 1
            if token.text == "pow" or lexer.token.text == "(":
                lexer.expect("(")
                at = lexer.token.at
                if token.text == "pow":
                    value = self._scope.constant(lexer, "an exponent")
                else:
                    value = self._scope.whole(lexer, "a number of controls")
                    if not 1 <= value <= _MAX_CONTROLS:
                        raise lexer.fault(at, "circuit.bad_arity", f"expected 1 … {_MAX_CONTROLS} controls")
                lexer.expect(")")
            if len(found) >= self._limits.max_gate_nesting:
                raise lexer.fault(token.at, "circuit.too_large", "expected fewer modifiers")
            found.append(Modifier(token.text, value))
            lexer.expect("@")
        return tuple(found)

    def target(self, lexer: Lexer3, token: Token) -> Target:
        """Find the gate that `token` names."""
        found = self._known.get(token.text)
        if found is None and token.text in COMPOSITE:
            inner = Gates(self._limits, Scope(self._limits, self._scope.names), self._charge)
            library = Lexer3(COMPOSITE[token.text])
            library.next()
            inner.define(library)
            found = self._known[token.text] = inner._known[token.text]
        if found is not None:
            return found
        if token.text in _REFUSED:
            raise lexer.fault(
                token.at,
                "circuit.unsupported",
                f"expected a statement that this node runs, found {token}",
                fix="Gates, measure, reset, barrier, if, for, let, const, input and gate definitions run here.",
                construct=token.text,
            )
        if token.text == self._defining:
            raise lexer.fault(token.at, "circuit.recursive_gate", f"gate {token} is defined by itself", name=token.text)
        raise lexer.fault(
            token.at,
            "circuit.undeclared_name",
            f"expected a statement or a gate that is declared before, found {token}",
            name=token.text[:40],
        )

    def arguments(self, lexer: Lexer3) -> tuple[Node, ...]:
        """Read parameters in parentheses; none where there are no parentheses."""
        if not lexer.accept("(") or lexer.accept(")"):
            return ()
        found = self.expressions(lexer)
        lexer.expect(")")
        return found

    def expressions(self, lexer: Lexer3) -> tuple[Node, ...]:
        """Read expressions separated by commas."""
        found = [self._scope.expression(lexer)]
        while lexer.accept(","):
            if len(found) >= _MAX_ARGUMENTS:
                raise lexer.fault(lexer.token.at, "circuit.too_large", f"expected at most {_MAX_ARGUMENTS} parameters")
            found.append(self._scope.expression(lexer))
        return tuple(found)

    @staticmethod
    def check_arity(
        lexer: Lexer3, token: Token, target: Target, params: int, qubits: int, modifiers: tuple[Modifier, ...]
    ) -> None:
        """Raise where a call has another number of parameters or qubits than its gate and controls."""
        controls = sum(int(each.value) for each in modifiers if each.name in ("ctrl", "negctrl"))
        wanted = target.num_qubits + controls
        if params != target.num_params or qubits != wanted:
            raise lexer.fault(
                token.at,
                "circuit.bad_arity",
                f"expected {target.num_params} parameters and {wanted} qubits for {token}, found {params} and {qubits}",
            )

    # bodies

    def _formals(self, lexer: Lexer3, what: str) -> dict[str, int]:
        names: dict[str, int] = {}
        while True:
            name = lexer.expect_kind("name", what)
            if name.text in KEYWORDS or name.text in RESERVED:
                raise lexer.fault(name.at, "circuit.syntax", f"expected {what}, found the keyword {name}")
            if name.text in names:
                raise lexer.fault(name.at, "circuit.duplicate_name", f"expected a new name, found {name} twice")
            if len(names) >= _MAX_ARGUMENTS:
                raise lexer.fault(name.at, "circuit.too_large", f"expected at most {_MAX_ARGUMENTS} names here")
            names[name.text] = len(names)
            if not lexer.accept(","):
                return names

    def _block(self, lexer: Lexer3, qubits: Mapping[str, int], body: list[Call]) -> None:
        while not lexer.accept("}"):
            self._line(lexer, qubits, body)

    def _plain_lines(self, lexer: Lexer3, qubits: Mapping[str, int], body: list[Call]) -> bool:
        """Read lines that call gates with constants, the first one charged; False where the next one is none."""
        at = end = lexer.token.at
        for name, params, own, line_end in read_lines(lexer.text, at, qubits):
            known = self._known.get(name)
            if known is None or known.num_params != len(params) or known.num_qubits != len(own):
                break
            if end > at:
                self._charge(1, end)
            body.append(Call(known, own, params))
            end = line_end
        if end > at:
            lexer.move(end)
        return end > at

    def _line(self, lexer: Lexer3, qubits: Mapping[str, int], body: list[Call]) -> None:
        self._charge(1, lexer.token.at)
        if self._plain_lines(lexer, qubits, body):
            return
        if lexer.token.text == "for":
            loop(lexer, self._scope, self._charge, lambda: self._loop_body(lexer, qubits, body), body, len)
            return
        modifiers = self.modifiers(lexer)
        token = lexer.expect_kind("name", "a gate or '}'")
        if token.text == "barrier" and not modifiers:
            positions = tuple(range(len(qubits))) if lexer.token.text == ";" else self._positions(lexer, qubits)
            call = Call(None, positions)
        elif token.text in ("measure", "reset", "if"):
            raise lexer.fault(token.at, "circuit.syntax", f"expected a gate inside a gate definition, found {token}")
        else:
            target = self.target(lexer, token)
            arguments = self.arguments(lexer)
            positions = () if lexer.token.text == ";" else self._positions(lexer, qubits)
            self.check_arity(lexer, token, target, len(arguments), len(positions), modifiers)
            call = Call(target, positions, arguments, modifiers)
        if len(set(call.positions)) != len(call.positions):
            raise lexer.fault(token.at, "circuit.duplicate_qubit", f"expected different qubits for {token}")
        lexer.expect(";")
        body.append(call)

    def _loop_body(self, lexer: Lexer3, qubits: Mapping[str, int], body: list[Call]) -> None:
        if lexer.accept("{"):
            self._block(lexer, qubits, body)
        else:
            self._line(lexer, qubits, body)

    def _positions(self, lexer: Lexer3, qubits: Mapping[str, int]) -> tuple[int, ...]:
        listed = lexer.take_list(NAMES, qubits, _MAX_ARGUMENTS)
        if listed:
            return listed
        positions = [self._scope.gate_qubit(lexer, qubits)]
        while lexer.accept(","):
            positions.append(self._scope.gate_qubit(lexer, qubits))
            if len(positions) > _MAX_ARGUMENTS:
                raise lexer.fault(lexer.token.at, "circuit.too_large", "expected fewer qubits here")
        return tuple(positions)


def loop(
    lexer: Lexer3,
    scope: Scope,
    charge: Callable[[int, int], None],
    body: Callable[[], None],
    items: list[T],
    size: Callable[[Sequence[T]], int],
) -> None:
    """Read a `for` statement: `body` reads, and thereby adds to `items`, its body once for every value.

    All values are charged before the first: a loop that is too long is refused at once. A body that does not name the
    variable does the same for every value, so it is read once, and what it added of `size` is charged and added again.
    Of one that does, what is read again is charged where that is more than what came of it the first time.
    """
    lexer.next()
    lexer.expect_kind("name", "the type of the loop's variable")
    if lexer.accept("["):
        scope.whole(lexer, "a width")
        lexer.expect("]")
    scope.enter()
    name = scope.new_name(lexer, "a name for the loop's variable")
    word = lexer.expect_kind("name", "'in'")
    if word.text != "in":
        raise lexer.fault(word.at, "circuit.syntax", f"expected 'in', found {word}")
    values = _values(lexer, scope)
    start = lexer.token.at
    if not values:
        _skip(lexer)
    charge(_number_of(values), start)
    begin = len(items)
    for place, value in enumerate(values):
        lexer.move(start)
        scope.set_constant(name.text, value)
        body()
        if place > 0:
            continue
        more, made = len(values) - 1, size(items[begin:])
        if not lexer.names(name.text, start):
            charge(made * more, start)
            items.extend(items[begin:] * more)
            break
        charge(max(0, (lexer.token.at - start) // _READ_FOR_AN_OPERATION - made) * more, start)
    scope.leave()


def _number_of(values: range | list[int]) -> int:
    """Return how many values there are, also where they are more than `len` can say."""
    if isinstance(values, list):
        return len(values)
    return max(0, -((values.start - values.stop) // values.step))


def _values(lexer: Lexer3, scope: Scope) -> range | list[int]:
    if lexer.accept("{"):
        listed = [scope.whole(lexer, "a value")]
        while lexer.accept(","):
            listed.append(scope.whole(lexer, "a value"))
        lexer.expect("}")
        return listed
    lexer.expect("[")
    parts = [scope.whole(lexer, "the first value")]
    while lexer.accept(":"):
        if len(parts) > 2:
            raise lexer.unexpected("']'")
        parts.append(scope.whole(lexer, "a value"))
    at = lexer.token.at
    lexer.expect("]")
    if len(parts) == 1:
        raise lexer.fault(at, "circuit.syntax", "expected a range like [0:3]")
    step = parts[1] if len(parts) == 3 else 1
    if step == 0:
        raise lexer.fault(at, "circuit.bad_number", "expected a step other than 0")
    last = parts[-1]
    # both ends belong to a range
    return range(parts[0], last + (1 if step > 0 else -1), step)


def _skip(lexer: Lexer3) -> None:
    """Go behind a statement or block without doing it."""
    depth = 0
    while True:
        token = lexer.next()
        if token.text == "{" and token.kind == "symbol":
            depth += 1
        elif token.text == "}" and token.kind == "symbol":
            depth -= 1
        elif not token.text:
            raise lexer.unexpected("the body of a loop")
        if depth <= 0 and token.text in (";", "}"):
            return
