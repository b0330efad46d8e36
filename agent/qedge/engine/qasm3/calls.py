"""Gate calls with modifiers, and gates that the program defines, expanded into flat operations.

What a call costs is known before it is expanded: exponents and numbers of controls are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from qedge.engine.qasm.defined import Callee, Flat, NotFlatError, Read, Values
from qedge.engine.qasm.library import NATIVE, Native
from qedge.engine.qasm3.expression import Apply, BadValueError, Formal, Node, Number, applied, evaluate, size_of
from qedge.engine.qasm3.modifiers import NoPowerError, controlled, inverted, powered
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_STEPS_PER_OPERATION: Final = 4
_WIDEST: Final = 4
"""A modifier makes at most this many operations of one, powers of whole numbers aside."""

_QUBITS_OF_AN_OPERATION: Final = 16
"""An operation on more qubits is charged as several."""

Evaluate = Callable[[Node, Sequence[Number]], Number]


class Modifier(NamedTuple):
    """`name` is inv, pow, ctrl or negctrl; `value` the exponent or the number of controls."""

    name: str
    value: Number = 1


class Call(NamedTuple):
    """One line of a gate body, or one statement: `positions` index the qubits of what surrounds it."""

    target: Target | None
    """None is a barrier."""
    positions: tuple[int, ...]
    arguments: tuple[Node, ...] = ()
    modifiers: tuple[Modifier, ...] = ()

    @property
    def cost(self) -> int:
        """Return an upper bound of what the call expands to, in operations; arithmetic is charged too."""
        base = cost_of(self.target) if self.target is not None else 1
        if not self.modifiers and not self.arguments:
            return base
        for each in self.modifiers:
            if each.name == "pow":
                base *= max(1, abs(int(each.value))) if float(each.value).is_integer() else _WIDEST
            elif each.name in ("ctrl", "negctrl"):
                # every operation names the controls, and those on 0 stand between two more for each
                base *= 1 + int(each.value) // _QUBITS_OF_AN_OPERATION
                base += 2 * int(each.value) if each.name == "negctrl" else 0
            elif each.name == "inv":
                base *= 2
        return base + sum(size_of(each) for each in self.arguments) // _STEPS_PER_OPERATION

    @property
    def num_controls(self) -> int:
        """Return how many of the qubits are controls."""
        return sum(int(each.value) for each in self.modifiers if each.name in ("ctrl", "negctrl"))


@dataclass(frozen=True, slots=True)
class Defined:
    """A gate that the program defines. `depth` is 1 for a body of known gates only."""

    name: str
    num_params: int
    num_qubits: int
    body: tuple[Call, ...]
    cost: int
    depth: int


class Phased(NamedTuple):
    """A known gate that differs from a flat one by the phase e^{i·scale·Σ parameters + offset·i}, as u2 and u3 do."""

    native: Native
    scale: float
    offset: float
    num_qubits: int
    num_params: int


Target = Native | Phased | Defined


def define(name: str, num_params: int, num_qubits: int, body: Sequence[Call]) -> Defined:
    """Make a definition and measure it."""
    depth = 1 + max((call.target.depth for call in body if isinstance(call.target, Defined)), default=0)
    return Defined(name, num_params, num_qubits, tuple(body), 1 + sum(call.cost for call in body), depth)


def cost_of(target: Target) -> int:
    """Return an upper bound of the operations of one call."""
    if isinstance(target, Defined):
        return target.cost
    return 2 if isinstance(target, Phased) else 1


def expand(call: Call, arguments: Sequence[Number], qubits: Sequence[int], read: Evaluate = evaluate) -> list[Op]:
    """Return the operations of a call with their global phases; raises `BadValueError`, `NoPowerError`."""
    own = tuple([qubits[i] for i in call.positions])
    target = call.target
    if target is None:
        return [(int(Gate.BARRIER), own, (), 0)]
    values = tuple([float(read(node, arguments)) for node in call.arguments]) if call.arguments else ()
    if not call.modifiers:
        return _plain(target, values, own, read)
    controls = call.num_controls
    ops = _plain(target, values, own[controls:], read)
    for modifier in reversed(call.modifiers):
        if modifier.name == "inv":
            ops = inverted(ops)
        elif modifier.name == "pow":
            ops = powered(ops, float(modifier.value))
        else:
            count = int(modifier.value)
            ops = controlled(ops, own[controls - count : controls], on_zero=modifier.name == "negctrl")
            controls -= count
    return ops


def _plain(target: Target, values: tuple[float, ...], own: tuple[int, ...], read: Evaluate) -> list[Op]:
    if isinstance(target, Defined):
        return [op for line in target.body for op in expand(line, values, own, read)]
    if isinstance(target, Phased):
        phase = target.scale * sum(values) + target.offset
        native = target.native
        return [
            (int(Gate.GPHASE), (), (phase,), 0),
            (native.gate, own, native.fixed + values + native.trailing, native.controls),
        ]
    return [(target.gate, own, target.fixed + values + target.trailing, target.controls)]


def without_phases(ops: list[Op]) -> list[Op]:
    """Drop global phases that nothing controls: no result depends on them."""
    return [op for op in ops if op[0] != Gate.GPHASE or op[1]]


def read_anything(node: Node, arguments: Sequence[Number]) -> Number:
    """Evaluate for the shape alone: where there is no value, any will do."""
    try:
        return evaluate(node, arguments)
    except BadValueError:
        return 0.25


def callee(target: Defined) -> Callee:
    """Make what plain statements call of a definition."""
    charge = target.cost + target.num_params // _STEPS_PER_OPERATION
    return Callee(target.num_qubits, target.num_params, charge, partial(_fill, target))


def _fill(target: Defined, flat: Flat) -> None:
    formals = tuple(map(Formal, range(target.num_params)))
    try:
        _flatten(target, formals, tuple(range(target.num_qubits)), flat)
    except NoPowerError as error:
        raise NotFlatError from error


def _flatten(definition: Defined, arguments: Sequence[Node], qubits: tuple[int, ...], flat: Flat) -> None:
    for line in definition.body:
        given = tuple([_put_in(node, arguments) for node in line.arguments])
        values = tuple([float(node) for node in given if isinstance(node, (int, float))])
        target = line.target
        if len(values) == len(given):
            call = Call(target, line.positions, values, line.modifiers)
            for op in without_phases(expand(call, (), qubits)):
                flat.add(op)
            continue
        if target is None or line.modifiers:
            raise NotFlatError
        own = tuple([qubits[i] for i in line.positions])
        if isinstance(target, Defined):
            for node in given:
                if isinstance(node, Apply):
                    flat.check(_reader((node,)))
            _flatten(target, [float(node) if isinstance(node, int) else node for node in given], own, flat)
            continue
        native = target.native if isinstance(target, Phased) else target
        read = _reader(given, native.fixed, native.trailing)
        if own:
            flat.add_open(native.gate, own, read, native.controls)
        else:
            flat.check(read)


def _put_in(node: Node, arguments: Sequence[Node]) -> Node:
    """Return an expression with arguments in place of the formal parameters; raises `BadValueError`."""
    if isinstance(node, Formal):
        return arguments[node.place]
    if not isinstance(node, Apply):
        return node
    operands = tuple([_put_in(each, arguments) for each in node.operands])
    if any(isinstance(each, Formal) and isinstance(arguments[each.place], Apply) for each in node.operands):
        # expressions in expressions would grow with each level
        raise NotFlatError
    return applied(node.name, operands)


def _reader(given: Sequence[Node], fixed: Values = (), trailing: Values = ()) -> Read:
    return lambda values: fixed + tuple([float(evaluate(node, values)) for node in given]) + trailing


_PI: Final = 3.141592653589793
# stdgates.inc defines these with a phase that a control sees; U itself is that of the flat form
KNOWN: Final[dict[str, Target]] = {
    **NATIVE,
    "u2": Phased(NATIVE["u2"], -0.5, -_PI / 4, 1, 2),
    "u3": Phased(NATIVE["u3"], -0.5, 0.0, 1, 3),
    "phase": NATIVE["p"],
    "cphase": NATIVE["cp"],
    "gphase": Native(int(Gate.GPHASE), 0, 1),
}
"""Gates known without a definition."""
FAST: Final = {name: target for name, target in KNOWN.items() if isinstance(target, Native) and target.num_qubits} | {
    "u2": NATIVE["u2"],
    "u3": NATIVE["u3"],
}
"""Those that are one operation in a plain statement, where nothing sees a global phase."""
