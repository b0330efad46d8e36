"""Gate definitions and their expansion into flat operations.

The size of a definition is known before it is expanded (a definition has no choices), so a program that would grow
beyond the limit is refused without growing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from qedge.engine.qasm.library import Native
from qedge.engine.qasm2.expression import Step, evaluate
from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op

_BARRIER: Final = int(Gate.BARRIER)
STEPS_PER_OPERATION: Final = 4
"""How many steps of parameter arithmetic are charged as one operation."""


@dataclass(frozen=True, slots=True)
class Call:
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
        if self.num_params and given != self._of:
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
