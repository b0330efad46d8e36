"""Runs all shots of a circuit at once and splits them only where they differ.

A node is a group of shots that share a state and classical bits. It is split where a measurement or reset has two
possible outcomes and where noise strikes some of its shots; how many go where is drawn from the binomial distribution,
which is the distribution of shots run one by one. The smaller part is always followed first, so at most log2(shots)
parts wait with a state of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qedge_driver_api import Gate
from qedge_driver_api.circuit import Op
from qedge_drivers.sim_qpu.dense import State
from qedge_drivers.sim_qpu.program import IF, MEASURE, RESET, Plan, holds
from qedge_drivers.sim_qpu.states import States


class CancelledError(Exception):
    """The run was asked to end."""


class Noise(Protocol):
    """Random events: where they may strike, how likely, and what they are."""

    at: Sequence[int]
    """Event i strikes just before this operation …"""
    owner: Sequence[int]
    """… because of this one, and not where that one was skipped; both ascending."""
    log_survival: npt.NDArray[np.float64]
    """log(1 − p) of each."""

    def probability(self, index: int) -> float:
        """Return p of event `index`."""
        ...

    def draw(self, index: int, rng: np.random.Generator) -> tuple[Op, ...]:
        """Draw what event `index` does: gates, resets, or `MEASURE` without qubit for a flip of its classical bit."""
        ...


@dataclass(slots=True)
class _Node:
    shots: int
    pc: int
    event: int
    bits: int
    state: State | None
    pending: list[Op]
    """Unitary operations that the state has not seen yet."""


Leaf = tuple[int, Sequence[int]]
"""Classical bits of a group of shots, and one index of the last state for each shot."""


class Brancher:
    """One run of `shots` shots; `leaves` yields the groups of shots as they end."""

    def __init__(
        self,
        plan: Plan,
        states: States,
        noise: Noise | None,
        rng: np.random.Generator,
        cancelled: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._states = states
        self._noise = noise
        self._rng = rng
        self._cancelled = cancelled
        self._waiting: list[_Node] = []
        self._num_events = len(noise.at) if noise else 0

    def leaves(self, shots: int) -> list[Leaf]:
        """Run; raises `CancelledError`."""
        self._waiting = [_Node(shots, 0, 0, 0, None, [])]
        leaves: list[Leaf] = []
        while self._waiting:
            if self._cancelled():
                raise CancelledError
            node = self._waiting.pop()
            if self._advance(node):
                leaves.append((node.bits, self._states.sample(node.state, node.pending, node.shots, self._rng)))
        return leaves

    def _advance(self, node: _Node) -> bool:
        """Follow a node to its end (true) or to where it is split or set aside (false)."""
        plan = self._plan
        strikes = self._strikes(node)
        while True:
            order = bisect_left(plan.stops, node.pc)
            stop = plan.stops[order] if order < len(plan.stops) else len(plan.ops)
            strike = next((index for index in strikes if index >= node.event), None)
            if strike is not None and self._noise is not None and self._noise.at[strike] <= stop:
                self._pass(node, self._noise.at[strike])
                node.event = strike + 1
                self._strike(node, strike)
                return False
            self._pass(node, stop)
            if stop == len(plan.ops):
                return True
            gate, qubits, _, arg = plan.ops[stop]
            node.pc = stop + 1
            if gate == IF:
                condition = plan.conditions[arg]
                if not holds(condition, node.bits):
                    node.pc += condition.length
                    node.event = self._first_event(node.pc)
            elif self._measure(node, qubits[0], arg if gate == MEASURE else None):
                return False

    def _first_event(self, pc: int) -> int:
        return bisect_left(self._noise.owner, pc) if self._noise else 0

    def _pass(self, node: _Node, stop: int) -> None:
        if stop > node.pc:
            node.pending = node.pending + list(self._plan.ops[node.pc : stop])
            node.pc = stop

    def _strikes(self, node: _Node) -> list[int]:
        """Draw which later events strike at least one shot of the node."""
        noise = self._noise
        if noise is None or node.event >= self._num_events:
            return []
        chance = -np.expm1(node.shots * noise.log_survival[node.event :])
        found = np.flatnonzero(self._rng.random(len(chance)) < chance)
        return [node.event + int(index) for index in found]

    def _strike(self, node: _Node, index: int) -> None:
        """Split off the shots that event `index` strikes (at least one), grouped by what it does to them."""
        assert self._noise is not None  # noqa: S101 # narrows the type: only nodes with noise are struck
        struck = _at_least_one(node.shots, self._noise.probability(index), self._rng)
        groups: dict[tuple[Op, ...], int] = {}
        for _ in range(struck):
            event = self._noise.draw(index, self._rng)
            groups[event] = groups.get(event, 0) + 1
        parts = [self._struck(node, event, shots) for event, shots in groups.items()]
        if node.shots > struck:
            node.shots -= struck
            parts.append([node])
        self._set_aside([part for group in parts for part in group])

    def _struck(self, node: _Node, event: tuple[Op, ...], shots: int) -> list[_Node]:
        part = _Node(shots, node.pc, node.event, node.bits, node.state, node.pending)
        for gate, qubits, params, arg in event:
            if gate == MEASURE:
                part.bits ^= 1 << arg
            elif gate == RESET:
                return self._split(part, qubits[0], None)
            else:
                part.pending = [*part.pending, (gate, qubits, params, arg)]
        return [part]

    def _measure(self, node: _Node, qubit: int, clbit: int | None) -> bool:
        """Measure (into `clbit`) or reset (None); tell whether the node was split and set aside."""
        parts = self._split(node, qubit, clbit)
        if len(parts) == 1:
            part = parts[0]
            node.bits, node.state, node.pending = part.bits, part.state, part.pending
            return False
        self._set_aside(parts)
        return True

    def _split(self, node: _Node, qubit: int, clbit: int | None) -> list[_Node]:
        state = self._states.evolve(node.state, node.pending)
        ones = int(self._rng.binomial(node.shots, self._states.probability_of_one(state, qubit)))
        parts: list[_Node] = []
        for outcome, shots in ((0, node.shots - ones), (1, ones)):
            if shots == 0:
                continue
            pending: list[Op] = []
            bits = node.bits
            if clbit is None:
                if outcome:
                    pending.append((int(Gate.X), (qubit,), (), 0))
            else:
                bits = bits & ~(1 << clbit) | outcome << clbit
            projected = self._states.project(state, qubit, outcome)
            parts.append(_Node(shots, node.pc, node.event, bits, projected, pending))
        return parts

    def _set_aside(self, parts: list[_Node]) -> None:
        self._waiting.extend(sorted(parts, key=lambda part: -part.shots))


def _at_least_one(shots: int, probability: float, rng: np.random.Generator) -> int:
    """Draw from the binomial distribution, given that it is not 0."""
    if shots == 1:
        return 1
    # the first success of a geometric distribution cut off after `shots`, then the rest freely
    total = -np.expm1(shots * np.log1p(-probability)) if probability < 1 else 1.0
    if probability >= 1:
        return shots
    first = int(np.ceil(np.log1p(-rng.random() * total) / np.log1p(-probability)))
    first = min(max(first, 1), shots)
    return 1 + int(rng.binomial(shots - first, probability))
