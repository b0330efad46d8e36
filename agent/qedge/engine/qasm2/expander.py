"""Gate definitions and their expansion into flat operations.

The size of a definition is known before it is expanded (a definition has no choices), so a program that would grow
beyond the limit is refused without growing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qedge.engine.qasm.defined import Flat, NotFlatError, Read, Values
from qedge.engine.qasm.library import Native
from qedge.engine.qasm2.expression import Step, evaluate
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_BARRIER: Final = int(Gate.BARRIER)
STEPS_PER_OPERATION: Final = 4
"""How many steps of parameter arithmetic are charged as one operation."""


class Call(NamedTuple):
    """One line of a gate body: `positions` index the formal qubits; `arguments` are postfix expressions."""

    target: Native | Definition | None
    """None is a barrier."""
    positions: tuple[int, ...]
    arguments: tuple[tuple[Step, ...], ...] = ()


@dataclass(slots=True)
class Definition:
    """A gate definition.

    `size` operations come out of one call; `work` counts these and the arithmetic (see `STEPS_PER_OPERATION`);
    `depth` is 1 for a body of native gates only. An opaque gate has `body` None.
    A call is charged `charge` operations against the limit.
    """

    name: str
    num_params: int
    num_qubits: int
    body: tuple[Call, ...] | None
    size: int = 0
    work: int = 0
    depth: int = 1
    _template: list[Op] | None = field(default=None, repr=False)
    _owners: list[tuple[int, ...]] = field(default_factory=list, repr=False)
    """What the operations of the template act on, each once."""
    _of: tuple[float, ...] | None = field(default=None, repr=False)
    """The arguments of the last call, and of the template where there is one: programs repeat them."""

    @property
    def charge(self) -> int:
        """Return what one call costs, in operations: its size, or more where arithmetic outweighs it."""
        return max(self.size, self.work // 2)

    def expand(self, arguments: Sequence[float], qubits: Sequence[int], into: list[Op]) -> None:
        """Append the operations of one call; raises `NotFiniteError` where a parameter has no finite value."""
        given = tuple(arguments)
        if self.num_params and (given != self._of or 0.0 in given):  # 0 and −0 are equal
            self._walk(arguments, qubits, into)
            self._of, self._template = given, None
            return
        if self._template is None:
            template: list[Op] = []
            self._walk(arguments, range(self.num_qubits), template)
            self._template = template
            self._owners = list({own: None for _, own, _, _ in template})
        # long definitions name the same few qubits again and again
        placed = {own: tuple([qubits[i] for i in own]) for own in self._owners}
        into.extend([(gate, placed[own], params, arg) for gate, own, params, arg in self._template])

    def _walk(self, arguments: Sequence[float], qubits: Sequence[int], into: list[Op]) -> None:
        for call in self.body or ():
            own = tuple([qubits[i] for i in call.positions])
            target = call.target
            if target is None:
                into.append((_BARRIER, own, (), 0))
                continue
            values = tuple([evaluate(steps, arguments) for steps in call.arguments]) if call.arguments else ()
            if isinstance(target, Native):
                into.append((target.gate, own, target.fixed + values + target.trailing, target.controls))
            else:
                # only the outermost call keeps a template: one a level would multiply memory by the nesting
                target._walk(values, own, into)


def flatten(definition: Definition, flat: Flat) -> None:
    """Fill in what a call does; raises `NotFlatError` and `NotFiniteError`."""
    formals = [(place,) for place in range(definition.num_params)]
    _flatten(definition, formals, tuple(range(definition.num_qubits)), flat)


def _flatten(
    definition: Definition, arguments: Sequence[tuple[Step, ...]], qubits: tuple[int, ...], flat: Flat
) -> None:
    for call in definition.body or ():
        own = tuple([qubits[i] for i in call.positions])
        target = call.target
        if target is None:
            flat.add((_BARRIER, own, (), 0))
            continue
        if not call.arguments and isinstance(target, Native):
            flat.add((target.gate, own, target.fixed + target.trailing, target.controls))
            continue
        given = [_put_in(steps, arguments) for steps in call.arguments]
        if isinstance(target, Definition):
            for steps in given:
                if len(steps) > 1:
                    flat.check(_reader((steps,)))
            _flatten(target, given, own, flat)
            continue
        values = tuple([steps[0] for steps in given if isinstance(steps[0], float) and len(steps) == 1])
        if len(values) == len(given):
            flat.add((target.gate, own, target.fixed + values + target.trailing, target.controls))
        else:
            flat.add_open(target.gate, own, _reader(given, target.fixed, target.trailing), target.controls)


def _put_in(steps: tuple[Step, ...], arguments: Sequence[tuple[Step, ...]]) -> tuple[Step, ...]:
    """Return an expression with arguments in place of the formal parameters."""
    if len(steps) == 1:
        return arguments[steps[0]] if isinstance(steps[0], int) else steps
    out: list[Step] = []
    for step in steps:
        argument = arguments[step] if isinstance(step, int) else (step,)
        if len(argument) > 1:
            # expressions in expressions would grow with each level
            raise NotFlatError
        out += argument
    return tuple(out) if any(isinstance(step, int) for step in out) else (evaluate(out, ()),)


def _reader(given: Sequence[tuple[Step, ...]], fixed: Values = (), trailing: Values = ()) -> Read:
    return lambda values: fixed + tuple([evaluate(steps, values) for steps in given]) + trailing


def measure_body(body: Sequence[Call]) -> tuple[int, int, int]:
    """Return `(size, work, depth)` of a definition with this body."""
    size, steps, work, depth = 0, 0, 0, 0
    for call in body:
        steps += sum(len(argument) for argument in call.arguments)
        if isinstance(call.target, Definition):
            size += call.target.size
            work += call.target.work + 1
            depth = max(depth, call.target.depth)
        else:
            size += 1
            work += 1 + len(call.positions) // STEPS_PER_OPERATION
    return size, work + steps // STEPS_PER_OPERATION, depth + 1
