"""What is left of a circuit once everything that cannot reach a result is gone; standard library only."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, overload

from qedge_driver_api import Condition, ConditionKind, FlatCircuit, Gate
from qedge_driver_api.circuit import Op

MEASURE: Final = int(Gate.MEASURE)
RESET: Final = int(Gate.RESET)
BARRIER: Final = int(Gate.BARRIER)
IF: Final = int(Gate.IF)
_ID: Final = int(Gate.ID)

Structure = tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...]]


def structure_of(ops: Sequence[Op]) -> Structure:
    """Return gates, qubits and the last column of operations: all but the parameters."""
    if not ops:
        return (), (), ()
    gates, qubits, _, args = zip(*ops, strict=True)
    return gates, qubits, args


@dataclass(frozen=True, slots=True)
class Plan:
    """A circuit over the `num_qubits` qubits that matter, renumbered; `device_qubits` gives their old numbers.

    Measurements that nothing follows are not in `ops`: classical bit c of `final` is qubit `final[c]` of the last
    state, and where `direct` is true these are bits 0 … m−1 in the order of the qubits; the bits in `idle` measure
    qubits that nothing acts on. `stops` are the indices of the operations that a unitary evolution cannot pass
    (measure, reset, if).
    """

    num_qubits: int
    num_clbits: int
    ops: tuple[Op, ...]
    conditions: tuple[Condition, ...]
    stops: tuple[int, ...]
    final: dict[int, int]
    direct: bool
    idle: tuple[int, ...]
    device_qubits: tuple[int, ...]
    kept: Sequence[int]
    """Where each of `ops` stood in the circuit; a range where they are its first ones as they stand."""

    def rebound(self, before: FlatCircuit, after: FlatCircuit) -> Plan:
        """Return the plan of `after`, a circuit of the same shape as `before`, of which this is the plan."""
        if before is after:
            return self
        if isinstance(self.kept, range):
            return self._with(after.ops[: len(self.kept)])
        old, new = before.ops, after.ops
        ops = [
            op if new[index] is old[index] else (op[0], op[1], new[index][2], op[3])
            for index, op in zip(self.kept, self.ops, strict=True)
        ]
        return self._with(tuple(ops))

    def _with(self, ops: tuple[Op, ...]) -> Plan:
        # (`dataclasses.replace` takes as long as all else that a template run again has to do here)
        return Plan(
            self.num_qubits,
            self.num_clbits,
            ops,
            self.conditions,
            self.stops,
            self.final,
            self.direct,
            self.idle,
            self.device_qubits,
            self.kept,
        )


class Bound(Sequence[Op]):
    """The operations of a plan, made when one of them is asked for.

    `structure` is theirs, the same object for all plans of one form; `params` are all their parameters in a row, behind
    which may stand numbers that mean nothing.
    """

    __slots__ = ("_made", "_make", "params", "structure")

    def __init__(self, structure: Structure, params: array[float], make: Callable[[], tuple[Op, ...]]) -> None:
        self.structure = structure
        self.params = params
        self._make = make
        self._made: tuple[Op, ...] | None = None

    def __len__(self) -> int:
        return len(self.structure[0])

    @overload
    def __getitem__(self, index: int) -> Op: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Op, ...]: ...
    def __getitem__(self, index: int | slice) -> Op | tuple[Op, ...]:
        if self._made is None:
            self._made = self._make()
        return self._made[index]


def params_of(ops: Sequence[Op]) -> array[float]:
    """Return all parameters of operations in a row."""
    if isinstance(ops, Bound):
        return ops.params
    return array("d", [param for op in ops for param in op[2]])


class Turning:
    """How the parameters of plans follow from angles, for circuits that are all made of one `model`.

    `kept` is that of the plan.
    """

    def __init__(self, model: FlatCircuit, places: Sequence[int], kept: Sequence[int]) -> None:
        self.model = model
        self.places = places
        sizes = [len(model.ops[index][2]) for index in kept]
        offsets = dict(zip(kept, itertools.accumulate(sizes, initial=0), strict=False))
        self._params = params_of([model.ops[index] for index in kept])
        # one more for angles of operations that do not matter
        behind = len(self._params)
        self._params.append(0.0)
        self._offsets = [offsets.get(place, behind) for place in places]

    def params(self, angles: Sequence[float]) -> array[float]:
        """Return the parameters of a plan, in a row."""
        params = self._params[:]
        for offset, angle in zip(self._offsets, angles, strict=True):
            params[offset] = angle
        return params


class _Pruner:
    """One pass from the end to the start: which operations reach a result, which measurements can wait."""

    def __init__(self, circuit: FlatCircuit, *, keep_identities: bool) -> None:
        self._circuit = circuit
        self._keep_identities = keep_identities
        self._touched: set[int] = set()
        self._live: set[int] = set()
        self._needed: set[int] = set()
        self._dead: set[int] = set()
        self.final: dict[int, int] = {}
        self.kept: list[int] = []

    def run(self) -> None:
        ops, conditions = self._circuit.ops, self._circuit.conditions
        conditional = bytearray(len(ops))
        for index, op in enumerate(ops if conditions else ()):
            if op[0] == IF:
                length = conditions[op[3]].length
                conditional[index + 1 : index + 1 + length] = b"\x01" * length
        live, touched, kept = self._live, self._touched, self.kept
        for index in range(len(ops) - 1, -1, -1):
            gate, qubits, _, arg = ops[index]
            if gate < MEASURE:
                if gate == _ID and not self._keep_identities:
                    continue
                if not live.isdisjoint(qubits):
                    live.update(qubits)
                    touched.update(qubits)
                    kept.append(index)
            elif gate == MEASURE:
                self._measure(index, qubits[0], arg, conditional=bool(conditional[index]))
            elif gate == RESET and qubits[0] in live:
                touched.add(qubits[0])
                kept.append(index)
                if not conditional[index]:
                    live.discard(qubits[0])
            elif gate == IF and kept and kept[-1] <= index + conditions[arg].length:
                self._needed.update(conditions[arg].bits)
                self._dead.difference_update(conditions[arg].bits)
                kept.append(index)
        kept.reverse()

    def _measure(self, index: int, qubit: int, clbit: int, *, conditional: bool) -> None:
        overwritten = clbit in self._dead
        if qubit not in self._touched and overwritten:
            return
        self._live.add(qubit)
        if qubit not in self._touched and not conditional and clbit not in self._needed:
            self.final[clbit] = qubit
            self._dead.add(clbit)
            return
        self._touched.add(qubit)
        self.kept.append(index)
        if conditional:
            # the bit may keep its old value, so an earlier measurement into it must have happened by then
            if not overwritten:
                self._needed.add(clbit)
        else:
            self._dead.add(clbit)
            self._needed.discard(clbit)


def plan(circuit: FlatCircuit, *, keep_identities: bool = False) -> Plan:
    """Reduce a circuit to what its counts depend on; `keep_identities` where idling costs fidelity."""
    simple = None if keep_identities else _plain_plan(circuit)
    if simple is not None:
        return simple
    pruner = _Pruner(circuit, keep_identities=keep_identities)
    pruner.run()
    ops = circuit.ops
    used = {qubit for index in pruner.kept for qubit in ops[index][1]}
    final = {clbit: pruner.final[clbit] for clbit in sorted(pruner.final) if pruner.final[clbit] in used}
    place: dict[int, int] = {}
    for qubit in final.values():
        place.setdefault(qubit, len(place))
    for qubit in sorted(used):
        place.setdefault(qubit, len(place))
    out, conditions, stops, where = _renumber(circuit, pruner.kept, place)
    placed = {clbit: place[qubit] for clbit, qubit in final.items()}
    return Plan(
        num_qubits=len(place),
        num_clbits=circuit.num_clbits,
        ops=tuple(out),
        conditions=tuple(conditions),
        stops=tuple(stops),
        final=placed,
        direct=all(clbit == qubit for clbit, qubit in placed.items()) and len(placed) == len(place),
        idle=tuple(clbit for clbit in sorted(pruner.final) if clbit not in final),
        device_qubits=tuple(place),
        kept=tuple(where),
    )


def _plain_plan(circuit: FlatCircuit) -> Plan | None:
    """Return the plan of a circuit of gates that ends with a measurement of all its qubits, each into its own bit."""
    n, ops = circuit.num_qubits, circuit.ops
    gates = len(ops) - n
    if n == 0 or gates <= 0 or circuit.conditions:
        return None
    # by columns: a loop in Python over all operations takes longer than many a run
    codes, places, _, _ = zip(*ops, strict=True)
    if set(codes[gates:]) != {MEASURE} or max(codes[:gates]) >= MEASURE or _ID in codes:
        return None
    final = {clbit: qubits[0] for _, qubits, _, clbit in sorted(ops[gates:], key=lambda op: op[3])}
    if len(set(final.values())) != n or len(set(itertools.chain.from_iterable(places[:gates]))) != n:
        return None
    return Plan(
        num_qubits=n,
        num_clbits=circuit.num_clbits,
        ops=ops[:gates],
        conditions=(),
        stops=(),
        final=final,
        direct=all(clbit == qubit for clbit, qubit in final.items()),
        idle=(),
        device_qubits=tuple(range(n)),
        kept=range(gates),
    )


def _renumber(
    circuit: FlatCircuit, kept: list[int], place: dict[int, int]
) -> tuple[list[Op], list[Condition], list[int], list[int]]:
    ops = circuit.ops
    out: list[Op] = []
    conditions: list[Condition] = []
    stops: list[int] = []
    where: list[int] = []
    fresh = set(place)
    for order, index in enumerate(kept):
        gate, qubits, params, arg = ops[index]
        if gate >= MEASURE:
            if gate == IF:
                condition = circuit.conditions[arg]
                end = index + condition.length
                length = 0
                while order + 1 + length < len(kept) and kept[order + 1 + length] <= end:
                    length += 1
                # resets in the body stay, whatever they find, so that the length holds
                fresh.difference_update(*(ops[i][1] for i in kept[order + 1 : order + 1 + length]))
                arg = len(conditions)
                conditions.append(Condition(condition.kind, condition.bits, condition.value, length))
            elif gate == RESET and qubits[0] in fresh:
                continue
            stops.append(len(out))
        fresh.difference_update(qubits)
        out.append((gate, tuple([place[qubit] for qubit in qubits]), params, arg))
        where.append(index)
    return out, conditions, stops, where


def holds(condition: Condition, bits: int) -> bool:
    """Tell whether a condition is met by the classical value `bits` (bit c of it is classical bit c)."""
    if condition.kind == ConditionKind.PARITY:
        return sum(bits >> bit & 1 for bit in condition.bits) & 1 == condition.value
    return sum((bits >> bit & 1) << order for order, bit in enumerate(condition.bits)) == condition.value


_ALWAYS_CLIFFORD: Final = frozenset(
    int(gate)
    for gate in (
        Gate.ID, Gate.X, Gate.Y, Gate.Z, Gate.H, Gate.S, Gate.SDG, Gate.SX, Gate.SXDG,
        Gate.CX, Gate.CY, Gate.CZ, Gate.SWAP, Gate.ISWAP, Gate.MEASURE, Gate.RESET, Gate.IF,
    )
)  # fmt: skip
_QUARTER_TURNS: Final = frozenset(
    int(gate) for gate in (Gate.RX, Gate.RY, Gate.RZ, Gate.P, Gate.U, Gate.RXX, Gate.RYY, Gate.RZZ)
)
_HALF_TURNS: Final = frozenset((int(Gate.CP),))
_TOLERANCE: Final = 1e-9


def quarter_turns(angle: float) -> int:
    """Return the angle in quarter turns modulo 4, or −1 where it is no whole number of them."""
    turns = angle / (math.pi / 2)
    nearest = round(turns)
    return nearest % 4 if abs(turns - nearest) < _TOLERANCE * max(1.0, abs(turns)) else -1


def is_clifford(ops: tuple[Op, ...]) -> bool:
    """Tell whether every operation maps Pauli operators to Pauli operators (sufficient, not necessary)."""
    for gate, _, params, arg in ops:
        if gate in _ALWAYS_CLIFFORD:
            if arg and gate < MEASURE:
                return False
        elif arg or gate not in _QUARTER_TURNS | _HALF_TURNS:
            return False
        elif gate in _HALF_TURNS:
            if quarter_turns(params[0]) not in (0, 2):
                return False
        elif any(quarter_turns(angle) < 0 for angle in params):
            return False
    return True
