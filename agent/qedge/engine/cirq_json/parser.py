"""The reader of cirq JSON: moments and operations in order, sub-circuits expanded where they stand.

A measurement key becomes a register whose integer is the one that cirq gives it: its first qubit is the most
significant bit. Qubits are numbered in the order in which cirq sorts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from qedge.base.errors import QedgeError
from qedge.engine.cirq_json.conditions import MAX_KEY_CHARS, Keys, condition
from qedge.engine.cirq_json.gates import GateReader, Step
from qedge.engine.cirq_json.qubits import Qubits
from qedge.engine.cirq_json.tree import (
    Json,
    Place,
    complex_of,
    items,
    kind_of,
    members,
    read_json,
    text_of,
    weight,
    whole,
)
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.template import Deferred, Template
from qedge.engine.qasm3.conditions import NotSimpleError, Path, paths
from qedge.engine.qasm3.expression import BadValueError, Formal, Node, evaluate
from qedge_driver_api import Condition, Gate
from qedge_driver_api.circuit import Op

_MEASURE: Final = int(Gate.MEASURE)
_RESET: Final = int(Gate.RESET)
_BARRIER: Final = int(Gate.BARRIER)
_IF: Final = int(Gate.IF)
_FLIP: Final = Step(Gate.X, (0,))
_MAX_PARAMETERS: Final = 10_000
_MAX_TAGS: Final = 64
_READ_FOR_AN_OPERATION: Final = 16
"""So much of the tree, about that of one gate, counts at least as one operation each time that it is read again."""


def parse(text: str, limits: ParseLimits) -> Template:
    """Read a circuit as `cirq.to_json` writes it; raises `QedgeError` with a code `circuit.*`.

    Its details have `line` and `column` where the text is no JSON, `moment` and `operation` otherwise.
    """
    return _Reader(limits).template(read_json(text))


class _Entry(NamedTuple):
    """An operation on qubits by their first appearance; what is not a `step` is what `code` says."""

    qubits: tuple[int, ...]
    step: Step | None = None
    code: int = _BARRIER
    clbit: int = 0
    where: tuple[int, int] = (-1, -1)


class _Frame(NamedTuple):
    """What surrounds the operations of a sub-circuit."""

    path: tuple[str, ...] = ()
    qubits: Mapping[int, int] | None = None
    keys: Mapping[str, str] | None = None


class _Reader:
    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._place = Place()
        self._qubits = Qubits(limits, self._place)
        self._keys = Keys(limits, self._place)
        self._gates = GateReader(self._place, self._parameter)
        self._parameters: dict[str, int] = {}
        self._circuits: dict[int, Json] = {}
        self._entries: list[_Entry] = []
        self._flipped: set[int] = set()
        self._conditions: list[Condition] = []
        self._spent = 0
        self._depth = 0
        self._weights: dict[int, int] = {}

    def template(self, tree: Json) -> Template:
        """Read the whole circuit."""
        try:
            self._moments(tree, _Frame())
        except BadValueError as error:
            raise self._place.fault("circuit.nonfinite_parameter", str(error)) from error
        rank = self._qubits.ranks()
        stream: list[Op | Deferred] = []
        for entry in self._entries:
            stream += self._made(entry, tuple([rank[qubit] for qubit in entry.qubits]))
        return Template(
            len(rank),
            self._keys.num_clbits,
            tuple(stream),
            tuple(self._conditions),
            self._keys.registers(),
            tuple(self._parameters),
            any(entry.step is None and entry.code == _MEASURE for entry in self._entries),
        )

    # circuits

    def _moments(self, value: object, frame: _Frame) -> None:
        kind = kind_of(value, self._place)
        if kind not in ("Circuit", "FrozenCircuit"):
            raise self._place.fault("circuit.unsupported", f"expected a Circuit, found {kind[:60]}")
        self._depth += 1
        if self._depth > self._limits.max_gate_nesting:
            raise self._place.fault("circuit.too_large", "expected circuits nested less deeply")
        outermost = self._depth == 1
        for number, moment in enumerate(items(members(value, self._place).get("moments"), self._place)):
            if outermost:
                self._place.moment, self._place.operation = number, 0
            if kind_of(moment, self._place) != "Moment":
                raise self._place.fault("circuit.syntax", "expected a Moment")
            for index, operation in enumerate(items(members(moment, self._place).get("operations"), self._place)):
                if outermost:
                    self._place.operation = index
                self._operation(members(operation, self._place), frame)
        self._depth -= 1

    def _operation(self, part: Json, frame: _Frame) -> None:
        kind = kind_of(part, self._place)
        for _ in range(_MAX_TAGS):
            if kind != "TaggedOperation":
                break
            part = members(part.get("sub_operation"), self._place)
            kind = kind_of(part, self._place)
        if kind == "ClassicallyControlledOperation":
            self._conditioned(part, frame)
        elif kind == "CircuitOperation":
            self._sub_circuit(part, frame)
        elif kind == "GateOperation" and kind_of(part.get("gate"), self._place) in _NO_UNITARY:
            gate = members(part.get("gate"), self._place)
            own = self._own(part.get("qubits"), frame)
            if kind_of(gate, self._place) == "MeasurementGate":
                self._measure(gate, own, frame)
            else:
                self._reset(gate, own)
        else:
            own, steps = self._unitary(part, frame)
            self._apply(own, steps)

    def _unitary(self, part: Json, frame: _Frame) -> tuple[tuple[int, ...], list[Step]]:
        """Return the qubits and steps of a unitary operation."""
        kind = kind_of(part, self._place)
        if kind == "TaggedOperation":
            return self._nested(members(part.get("sub_operation"), self._place), frame)
        if kind == "GateOperation":
            width, steps = self._gates.read(part.get("gate"))
            own = self._own(part.get("qubits"), frame)
            if len(own) != width:
                raise self._place.fault("circuit.bad_arity", f"expected {width} qubits, found {len(own)}")
            return own, steps
        if kind == "SingleQubitPauliStringGateOperation":
            _, steps = self._gates.read(part.get("pauli"))
            return self._own([part.get("qubit")], frame), steps
        if kind == "PauliString":
            return self._pauli_string(part, frame)
        if kind == "ControlledOperation":
            controls = self._own(part.get("controls"), frame)
            inner, steps = self._nested(members(part.get("sub_operation"), self._place), frame)
            values = self._gates.control_values(part)
            if len(values) != len(controls) or set(controls) & set(inner):
                raise self._place.fault("circuit.bad_arity", "expected a value and a qubit of its own for each control")
            return controls + inner, self._gates.controlled(steps, values)
        raise self._place.fault(
            "circuit.unsupported",
            f"the operation {kind[:60]} is not read here; circuits of gates, measurements, resets, classical controls "
            "and sub-circuits are",
        )

    def _nested(self, part: Json, frame: _Frame) -> tuple[tuple[int, ...], list[Step]]:
        self._depth += 1
        if self._depth > self._limits.max_gate_nesting:
            raise self._place.fault("circuit.too_large", "expected operations nested less deeply")
        found = self._unitary(part, frame)
        self._depth -= 1
        return found

    def _pauli_string(self, part: Json, frame: _Frame) -> tuple[tuple[int, ...], list[Step]]:
        own: list[object] = []
        steps: list[Step] = []
        for pair in items(part.get("qubit_pauli_map"), self._place):
            both = items(pair, self._place)
            if len(both) != 2 or kind_of(both[1], self._place) not in _PAULI_GATES:
                raise self._place.fault("circuit.syntax", "expected a qubit and a Pauli operator each")
            steps.append(Step(_PAULI_GATES[kind_of(both[1], self._place)], (len(own),)))
            own.append(both[0])
        coefficient = complex_of(part.get("coefficient", 1), self._place)
        return self._own(own, frame), [*steps, *self._gates.phase(coefficient)]

    # what is not a gate

    def _measure(self, gate: Json, own: tuple[int, ...], frame: _Frame) -> None:
        if gate.get("confusion_map"):
            raise self._place.fault("circuit.unsupported", "readout errors belong to the device, not to the circuit")
        if whole(gate.get("num_qubits", len(own)), self._place) != len(own) or not own:
            raise self._place.fault("circuit.bad_measurement", "expected as many qubits as the measurement says")
        name = text_of(gate.get("key") or "meas", self._place)
        name = (frame.keys or {}).get(name, name)
        path = (*(text_of(each, self._place) for each in items(gate.get("path", []), self._place)), *frame.path)
        bits = self._keys.measured(":".join((*path, name)), len(own))
        flips = [each is True for each in items(gate.get("invert_mask", []), self._place)][: len(own)]
        for number, qubit in enumerate(own):
            turned = number < len(flips) and flips[number]
            if turned != (qubit in self._flipped):
                self._add(_Entry((qubit,), _FLIP))
            self._flipped.discard(qubit)
            # the flat form has no bit that is turned: the qubit is, and back when something else happens to it
            self._add(_Entry((qubit,), None, _MEASURE, bits[len(own) - 1 - number]))
            if turned:
                self._flipped.add(qubit)

    def _reset(self, gate: Json, own: tuple[int, ...]) -> None:
        if gate.get("dimension", 2) != 2:
            raise self._place.fault("circuit.unsupported", "expected qubits, found a system of another dimension")
        for qubit in own:
            self._flipped.discard(qubit)
            self._add(_Entry((qubit,), None, _RESET))

    def _conditioned(self, part: Json, frame: _Frame) -> None:
        nodes = [
            condition(members(each, self._place), self._keys, self._place, frame.path, frame.keys or {})
            for each in items(part.get("conditions"), self._place)
        ]
        own, steps = self._unitary(members(part.get("sub_operation"), self._place), frame)
        self._turn_back(own)
        try:
            ways: list[Path] = [()]
            for node in nodes:
                further = paths(node)
                self._spend(len(ways) * len(further))
                ways = [left + right for left in ways for right in further]
        except NotSimpleError as error:
            raise self._place.fault("circuit.unsupported", f"{error} is not run here") from error
        shown = [step for step in steps if step.qubits]
        for way in ways if shown else []:
            for number, guard in enumerate(way):
                length = len(shown) + len(way) - 1 - number
                self._add(_Entry((), None, _IF, len(self._conditions)))
                self._conditions.append(Condition(guard.kind, guard.bits, guard.value, length))
            for step in shown:
                self._add(self._entry(own, step))

    def _sub_circuit(self, part: Json, frame: _Frame) -> None:
        inner = members(part.get("circuit"), self._place)
        kind = kind_of(inner, self._place)
        number = -1
        if kind in ("VAL", "REF"):
            number = whole(inner.get("key"), self._place)
            known = self._circuits.get(number) if kind == "REF" else members(inner.get("val"), self._place)
            if known is None:
                raise self._place.fault("circuit.undeclared_name", f"expected a circuit, but none has the key {number}")
            inner = known
        resolver = part.get("param_resolver")
        if isinstance(resolver, dict) and resolver.get("param_dict"):
            raise self._place.fault("circuit.unsupported", "a sub-circuit that sets parameters; resolve them with cirq")
        if part.get("repeat_until") is not None:
            raise self._place.fault("circuit.unsupported", "a sub-circuit that is repeated until something is measured")
        times = whole(part.get("repetitions", 1), self._place)
        if times < 0:
            raise self._place.fault("circuit.unsupported", "a sub-circuit that runs backwards; invert it with cirq")
        ids = part.get("repetition_ids") if part.get("use_repetition_ids", True) else None
        names = [text_of(each, self._place) for each in items(ids, self._place)] if ids is not None else []
        if names and len(names) != times:
            raise self._place.fault("circuit.syntax", "expected one repetition id for each repetition")
        below = self._below(part, frame)
        least = self._weights.get(id(inner), -1)  # the tree stays as long as this does
        if least < 0:
            least = self._weights[id(inner)] = weight(inner) // _READ_FOR_AN_OPERATION
        for time in range(times):
            before = self._spent
            self._spend(1)
            path = (*below.path, names[time]) if names else below.path
            self._moments(inner, below._replace(path=path))
            self._spend(max(0, least - (self._spent - before)))
        if kind == "VAL":
            # known only now: a circuit cannot hold itself
            self._circuits[number] = inner

    def _below(self, part: Json, frame: _Frame) -> _Frame:
        """Return what the operations of a sub-circuit see."""
        qubits: dict[int, int] = {}
        for pair in items(part.get("qubit_map", []), self._place):
            both = items(pair, self._place)
            if len(both) != 2:
                raise self._place.fault("circuit.syntax", "expected pairs of qubits")
            qubits[self._qubits.number(both[0])] = self._own([both[1]], frame)[0]
        given = members(part.get("measurement_key_map", {}), self._place)
        renamed = {name: text_of(other, self._place) for name, other in given.items()}
        above = frame.keys or {}
        keys = {**above, **{name: above.get(other, other) for name, other in renamed.items()}}
        outer = {**(frame.qubits or {}), **qubits}
        path = (*frame.path, *(text_of(each, self._place) for each in items(part.get("parent_path", []), self._place)))
        if sum(map(len, path)) + len(path) > MAX_KEY_CHARS:
            raise self._place.fault("circuit.too_large", f"expected at most {MAX_KEY_CHARS} characters around a key")
        self._spend((len(outer) + len(keys)) // _READ_FOR_AN_OPERATION)
        return _Frame(path, outer, keys)

    # entries

    def _own(self, value: object, frame: _Frame) -> tuple[int, ...]:
        """Return the qubits of an operation, which have to differ."""
        found: list[int] = []
        for each in items(value, self._place):
            number = self._qubits.number(each)
            number = (frame.qubits or {}).get(number, number)
            self._qubits.use(number)
            found.append(number)
        if len(set(found)) != len(found):
            raise self._place.fault("circuit.duplicate_qubit", "expected different qubits")
        return tuple(found)

    def _apply(self, own: tuple[int, ...], steps: Sequence[Step]) -> None:
        self._turn_back(own)
        for step in steps:
            # a global phase that nothing controls changes no result
            if step.qubits:
                self._add(self._entry(own, step))

    def _turn_back(self, own: tuple[int, ...]) -> None:
        for qubit in own:
            if qubit in self._flipped:
                self._flipped.discard(qubit)
                self._add(_Entry((qubit,), _FLIP))

    def _entry(self, own: tuple[int, ...], step: Step) -> _Entry:
        where = (self._place.moment, self._place.operation)
        return _Entry(tuple([own[qubit] for qubit in step.qubits]), step, where=where)

    def _add(self, entry: _Entry) -> None:
        self._spend(1 + len(entry.qubits) // 16)
        self._entries.append(entry)

    def _spend(self, operations: int) -> None:
        self._spent += operations
        if self._spent > self._limits.max_operations:
            limit = self._limits.max_operations
            raise self._place.fault(
                "circuit.too_many_ops", f"the circuit expands to more than {limit} operations here", limit=limit
            )

    def _parameter(self, name: str) -> int:
        if name not in self._parameters and len(self._parameters) >= _MAX_PARAMETERS:
            raise self._place.fault("circuit.too_large", f"expected at most {_MAX_PARAMETERS} parameters")
        return self._parameters.setdefault(name, len(self._parameters))

    @staticmethod
    def _made(entry: _Entry, own: tuple[int, ...]) -> list[Op | Deferred]:
        step = entry.step
        if step is None:
            return [(entry.code, own, (), entry.clbit)]
        gate, controls = int(step.gate), step.controls
        if step.gate is Gate.GPHASE:
            # e^{iγ} under controls is a phase of the last of them
            gate, controls = int(Gate.P), controls - 1
        values = [float(node) for node in step.angles if isinstance(node, (int, float))]
        if len(values) == len(step.angles):
            return [(gate, own, tuple(values), controls)]
        return [_deferred(gate, own, step.angles, controls, entry.where)]


def _deferred(
    gate: int, own: tuple[int, ...], nodes: tuple[Node, ...], controls: int, where: tuple[int, int]
) -> Deferred:
    """Put a step off until the parameters have values."""

    def fill(values: Sequence[float], into: list[Op]) -> None:
        try:
            into.append((gate, own, tuple([float(evaluate(node, values)) for node in nodes]), controls))
        except BadValueError as error:
            raise QedgeError(
                "circuit.nonfinite_parameter",
                f"In moment {where[0]}, operation {where[1]}: {error}.",
                moment=where[0],
                operation=where[1],
            ) from error

    first = nodes[0]
    if len(nodes) == 1 and isinstance(first, Formal):
        return Deferred(1, fill, first.place)
    return Deferred(1, fill)


_NO_UNITARY: Final = frozenset({"MeasurementGate", "ResetChannel"})
_PAULI_GATES: Final[Mapping[str, Gate]] = {"_PauliX": Gate.X, "_PauliY": Gate.Y, "_PauliZ": Gate.Z}
