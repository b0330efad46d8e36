"""What an OpenQASM 3 program does to qubits: gates, measurements, resets, barriers, delays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from qedge.engine.qasm.lexer import BITS, END, Lexer3, Token
from qedge.engine.qasm.library import Native
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.registers import Names, Operand
from qedge.engine.qasm.template import Deferred
from qedge.engine.qasm3.calls import Call, Defined, expand, read_anything, without_phases
from qedge.engine.qasm3.expression import BadValueError, Formal, Node, evaluate, is_constant
from qedge.engine.qasm3.gates import Gates
from qedge.engine.qasm3.modifiers import NoPowerError
from qedge.engine.qasm3.scope import Scope
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

MEASURE: Final = int(Gate.MEASURE)
_RESET: Final = int(Gate.RESET)
_BARRIER: Final = int(Gate.BARRIER)
Item = Op | Deferred


class Operations:
    """Reads the statements that add to the program, into `items`.

    `measures` says whether one of them was a measurement.
    """

    def __init__(
        self,
        limits: ParseLimits,
        lexer: Lexer3,
        names: Names,
        scope: Scope,
        gates: Gates,
        items: list[Item],
        spend: Callable[[int, int], None],
    ) -> None:
        self.measures = False
        self._limits = limits
        self._lexer = lexer
        self._names = names
        self._scope = scope
        self._gates = gates
        self._items = items
        self._spend = spend
        self._before: Call | None = None
        self._template: list[Op] | None = None
        self._angles: dict[Node, Callable[[Sequence[float]], float]] = {}

    def call(self) -> None:
        """Read the call of a gate, with its modifiers."""
        lexer = self._lexer
        modifiers = self._gates.modifiers(lexer)
        token = lexer.expect_kind("name", "a gate")
        target = self._gates.target(lexer, token)
        at = lexer.token.at
        arguments = self._gates.arguments(lexer)
        operands = [] if lexer.token.text == ";" else self._operands()
        self._gates.check_arity(lexer, token, target, len(arguments), len(operands), modifiers)
        lexer.expect(";")
        columns = self._broadcast(token, operands)
        call = Call(target, tuple(range(len(operands))), arguments, modifiers)
        self._spend(call.cost * len(columns) - 1, token.at)
        try:
            for own in columns:
                if all(is_constant(node) for node in arguments):
                    self._items.extend(self._expanded(call, own))
                else:
                    self._items.append(self._defer(call, own, token, at))
        except BadValueError as error:
            raise lexer.fault(at, "circuit.nonfinite_parameter", f"in gate {token}: {error}") from error
        except NoPowerError as error:
            raise lexer.fault(token.at, "circuit.unsupported", f"{error} is not run here", construct="pow") from error

    def _expanded(self, call: Call, own: tuple[int, ...]) -> list[Op]:
        """Expand a call of constants; one that was there before with the same arguments only changes its qubits."""
        if not isinstance(call.target, Defined):
            return without_phases(expand(call, (), own))
        if call != self._before or 0 in call.arguments:  # 0 and −0 are equal
            self._before, self._template = call, None
            return without_phases(expand(call, (), own))
        if self._template is None:
            self._template = without_phases(expand(call, (), range(len(own))))
        return [(gate, tuple([own[i] for i in qubits]), params, arg) for gate, qubits, params, arg in self._template]

    def _defer(self, call: Call, own: tuple[int, ...], token: Token, at: int) -> Deferred:
        """Put a call off until the parameters of the program have values."""
        shape = without_phases(expand(call, [0.25] * len(self._scope.parameters), own, read_anything))
        lexer = self._lexer
        target, node = call.target, call.arguments[0]
        if isinstance(target, Native) and len(call.arguments) == 1 and not call.modifiers:
            # most parametrised statements of most programs: one gate with one angle
            gate, controls, fixed, trailing = target.gate, target.controls, target.fixed, target.trailing

            def angle(values: Sequence[float]) -> float:
                try:
                    return float(evaluate(node, values))
                except BadValueError as error:
                    message = f"in gate {token}: {error}"
                    raise lexer.fault(at, "circuit.nonfinite_parameter", message) from error

            def fill_one(values: Sequence[float], into: list[Op]) -> None:
                into.append((gate, own, (*fixed, angle(values), *trailing), controls))

            if fixed or trailing:
                return Deferred(1, fill_one)
            if isinstance(node, Formal):
                return Deferred(1, fill_one, node.place)
            return Deferred(1, fill_one, self._angles.setdefault(node, angle))

        def fill(values: Sequence[float], into: list[Op]) -> None:
            try:
                ops = without_phases(expand(call, values, own))
            except (BadValueError, NoPowerError) as error:
                message = f"in gate {token}: {error}"
                raise lexer.fault(at, "circuit.nonfinite_parameter", message) from error
            if len(ops) != len(shape):
                raise lexer.fault(at, "circuit.unsupported", f"gate {token} has another length for these parameters")
            into += ops

        return Deferred(len(shape), fill)

    def _operands(self) -> list[Operand]:
        bits = self._lexer.take_list(BITS, self._names.qubit_by_text, self._limits.max_qubits)
        if bits:
            return [Operand("", (bit,), whole=False) for bit in bits]
        operands = [self._scope.qubits(self._lexer)]
        while self._lexer.accept(","):
            if len(operands) >= self._limits.max_qubits:
                raise self._lexer.fault(self._lexer.token.at, "circuit.bad_arity", "expected fewer operands")
            operands.append(self._scope.qubits(self._lexer))
        return operands

    def _broadcast(self, token: Token, operands: list[Operand]) -> list[tuple[int, ...]]:
        sizes = {len(operand.bits) for operand in operands if operand.whole}
        sizes.discard(1)
        if len(sizes) > 1:
            raise self._lexer.fault(
                token.at, "circuit.bad_arity", f"expected registers of one size, found sizes {sorted(sizes)[:8]}"
            )
        repeat = sizes.pop() if sizes else 1
        rows = [operand.bits * repeat if len(operand.bits) == 1 else operand.bits for operand in operands]
        columns: list[tuple[int, ...]] = list(zip(*rows, strict=True)) if rows else [()]
        for own in columns:
            if len(set(own)) != len(own):
                raise self._lexer.fault(token.at, "circuit.duplicate_qubit", f"expected different qubits for {token}")
        return columns

    def assignment(self) -> bool:
        """Read `bits = measure qubits;` where that is what comes."""
        register = self._names.find(self._lexer.token.text)
        if register is None or register.quantum:
            return False
        target = self._scope.clbits(self._lexer)
        self._lexer.expect("=")
        self.measured_into(target)
        self._lexer.expect(";")
        return True

    def measured_into(self, target: Operand) -> None:
        """Read `measure qubits` of which the bits are known."""
        token = self._lexer.token
        if token.text != "measure":
            raise self._lexer.fault(
                token.at, "circuit.unsupported", f"expected 'measure', found {token}: bits are only measured into here"
            )
        self._lexer.next()
        self._record(self._scope.qubits(self._lexer), target, token)

    def measure(self, token: Token) -> None:
        """Read `qubits -> bits;` after `measure`."""
        source = self._scope.qubits(self._lexer)
        if self._lexer.token.text == ";":
            raise self._lexer.fault(
                token.at, "circuit.unsupported", "a measurement without a bit", fix="Write `c = measure q;`."
            )
        self._lexer.expect("->")
        self._record(source, self._scope.clbits(self._lexer), token)
        self._lexer.expect(";")

    def _record(self, source: Operand, target: Operand, token: Token) -> None:
        if len(source.bits) != len(target.bits):
            raise self._lexer.fault(
                token.at, "circuit.bad_measurement", f"expected as many qubits as bits, found {source} and {target}"
            )
        self._spend(len(source.bits) - 1, token.at)
        self._items.extend((MEASURE, (q,), (), c) for q, c in zip(source.bits, target.bits, strict=True))
        self.measures = True

    def reset(self, token: Token) -> None:
        """Read the qubits of a reset."""
        operand = self._scope.qubits(self._lexer)
        self._lexer.expect(";")
        self._spend(len(operand.bits) - 1, token.at)
        self._items.extend((_RESET, (bit,), (), 0) for bit in operand.bits)

    def barrier(self, token: Token) -> None:
        """Read the qubits of a barrier: none named is all of them."""
        bits: dict[int, None] = {}
        if self._lexer.token.text == ";":
            bits.update(dict.fromkeys(range(max(self._names.num_qubits, self._scope.num_physical))))
        else:
            for operand in self._operands():
                bits.update(dict.fromkeys(operand.bits))
        self._lexer.expect(";")
        self._spend(len(bits) // 16, token.at)
        self._items.append((_BARRIER, tuple(bits), (), 0))

    def delay(self, _: Token) -> None:
        """Read over a delay: time passes only on hardware."""
        lexer = self._lexer
        lexer.expect("[")
        while not lexer.accept("]"):
            if lexer.next().kind == END:
                raise lexer.unexpected("']'")
        if lexer.token.text != ";":
            self._operands()
        lexer.expect(";")

    def nop(self, _: Token) -> None:
        """Read over the qubits of a statement that does nothing."""
        if self._lexer.token.text != ";":
            self._operands()
        self._lexer.expect(";")
